"""The trace's numbers are autograd's: on random graphs wire by wire, on the lecture's circuits by hand."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import engram
from engram.errors import UserError
from engram.rules import Value
from engram.trace.graph import OPERATION

EXACT = {"rtol": 1e-12, "atol": 1e-12, "equal_nan": True}
SHAPES = [(), (3,), (2, 3), (2, 1), (1, 3)]
UNARY = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "negate": torch.neg,
    "exp": lambda x: x.clamp(-3, 3).exp(),  # two operations of one step of the program
    "square": lambda x: x**2,
    "sum": torch.sum,
    "mean": lambda x: x.mean(-1, keepdim=True) if x.dim() else x.mean(),
    "amax": lambda x: x.amax(-1, keepdim=True) if x.dim() else x.amax(),
    "row": lambda x: x.reshape(1, -1),
    "first": lambda x: x[0] if x.dim() else x.reshape(1),
    "wider": lambda x: x.expand(2, *x.shape) if x.dim() < 2 else x.transpose(0, 1),
    "softmax": lambda x: F.softmax(x, -1) if x.dim() else x.abs(),
    "logsumexp": lambda x: x.logsumexp(-1) if x.dim() else x.sin(),
    "detach": torch.detach,
    "turned": lambda x: 1.5 - x,
    "part": lambda x: x.unbind(0)[-1] if x.dim() else x * 0.5,
    "largest": lambda x: x.max(-1)[0] if x.dim() else x.cos(),
    "twice": lambda x: x * x,
    "product": lambda x: x @ x.transpose(0, 1) if x.dim() == 2 else x + x,
}
BINARY = {
    "add": torch.add,
    "subtract": torch.sub,
    "multiply": torch.mul,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "choose": lambda x, y: torch.where(x > y, x, y),
    "join": lambda x, y: torch.cat([x.reshape(-1, 1), y.reshape(-1, 1)]),
    "ratio": lambda x, y: x / (y * y + 1),
}


@st.composite
def programs(draw: st.DrawFn) -> tuple[list[tuple[int, ...]], list[tuple[str, tuple[int, ...]]], int]:
    """Shapes of the inputs, steps (operation, what it reads), and a seed for the numbers."""
    shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=4))
    steps: list[tuple[str, tuple[int, ...]]] = []
    for number in range(draw(st.integers(1, 12))):
        name = draw(st.sampled_from([*UNARY, *BINARY]))
        values = st.integers(0, len(shapes) + number - 1)
        steps.append((name, (draw(values),) if name in UNARY else (draw(values), draw(values))))
    return shapes, steps, draw(st.integers(0, 2**31))


def run(steps: list[tuple[str, tuple[int, ...]]], inputs: tuple[Tensor, ...]) -> Tensor:
    """The program; two shapes that do not go together are made one number each."""
    values = list(inputs)
    for name, reads in steps:
        given = [values[one] for one in reads]
        if name in UNARY:
            values.append(UNARY[name](given[0]))
            continue
        try:
            torch.broadcast_shapes(given[0].shape, given[1].shape)
        except RuntimeError:
            given = [one.sum() for one in given]
        values.append(BINARY[name](*given))
    return values[-1].sum() + sum(one.mean() for one in values)


def numbers(shapes: list[tuple[int, ...]], seed: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in shapes]


class Aliased(torch.overrides.TorchFunctionMode):
    """An independent way to the gradient of a wire: each tensor is read through a view of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.wires: list[Tensor] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in ("__get__", "dim"):
            return func(*args, **(kwargs or {}))

        def alias(one):
            if isinstance(one, Tensor) and one.requires_grad:
                self.wires.append(one.view_as(one))
                return self.wires[-1]
            return one

        args = torch.utils._pytree.tree_map(alias, args)
        return func(*args, **(kwargs or {}))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(programs())
def test_every_wire_carries_what_autograd_sends(program):
    shapes, steps, seed = program
    trace = engram.trace(lambda *inputs: run(steps, inputs), *numbers(shapes, seed))
    leaves = [one.requires_grad_() for one in numbers(shapes, seed)]
    with Aliased() as aliased:
        result = run(steps, tuple(leaves))
    wires = torch.autograd.grad(result, [*leaves, *aliased.wires], allow_unused=True)
    inputs = [node for node in trace.nodes if node.kind == "input"]
    assert len(inputs) == len(leaves)
    for node, leaf in zip(inputs, wires, strict=False):
        same(node.gradient, leaf)
    # the same reads in the same order; what has no part in the output is in neither
    read = [edge for edge in trace.edges if edge.gradient is not None]
    expected = [one for one in wires[len(leaves) :] if one is not None]
    assert len(read) == len(expected)
    for edge, one in zip(read, expected, strict=True):
        same(edge.gradient, one)
    torch.testing.assert_close(trace.result, result.detach(), **EXACT)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(programs())
def test_a_nodes_gradient_is_the_sum_over_its_wires(program):
    shapes, steps, seed = program
    trace = engram.trace(lambda *inputs: run(steps, inputs), *numbers(shapes, seed))
    sums_up(trace)


def sums_up(trace) -> None:
    """Fan-out: what arrives at a tensor is the sum of what its consumers send, and of what goes into an output."""
    arrived = {}
    for number, output in trace.outputs:
        arrived[number, output] = torch.ones_like(trace.nodes[number].values[output])
    for edge in trace.edges:
        assert edge.source < edge.target
        if edge.gradient is not None:
            key = edge.source, edge.output
            assert edge.gradient.shape == trace.nodes[edge.source].values[edge.output].shape
            arrived[key] = arrived[key] + edge.gradient if key in arrived else edge.gradient
    for node in trace.nodes:
        for output, gradient in enumerate(node.gradients):
            same(gradient, arrived.get((node.number, output)))


def same(one: Tensor | None, other: Tensor | None) -> None:
    """Equal to float64; nothing is as good as zeros."""
    if one is None or other is None:
        left = one if one is not None else other
        assert left is None or not left.nan_to_num(1).any() or not left.isfinite().all()
        return
    torch.testing.assert_close(one, other, **EXACT)


def gradients(trace) -> dict[str, float]:
    return {node.name: node.gradient.item() for node in trace.nodes if node.gradient is not None}


def test_the_lectures_circuit():
    trace = engram.trace(lambda x, y, z, w: (x * y + torch.maximum(z, w)) * 2, 3, -4, 2, -1)
    found = {node.name: (node.value.item(), node.gradient.item()) for node in trace.nodes[:-1]}
    assert found == {
        "x": (3, -8),
        "y": (-4, 6),
        "multiply": (-12, 2),
        "z": (2, 2),
        "w": (-1, 0),
        "maximum": (2, 2),
        "add": (-10, 2),
    }
    assert (trace.nodes[-1].value.item(), trace.nodes[-1].gradient.item()) == (-20, 1)
    assert str(trace).splitlines()[0].startswith("multiply (2)    -20  gradient 1")
    assert "routes all of it to the winner, z" in str(trace)
    assert "swaps" in str(trace)


def test_the_notes_circuits():
    """Stanford CS231n, notes on back-propagation: (x + y) z, and the neuron with a sigmoid."""
    assert gradients(engram.trace(lambda x, y, z: (x + y) * z, -2, 5, -4)) == {
        "x": -4,
        "y": -4,
        "z": 3,
        "add": -4,
        "multiply": 1,
    }

    def neuron(w0, x0, w1, x1, w2):
        return 1 / (1 + torch.exp(-(w0 * x0 + w1 * x1 + w2)))

    found = gradients(engram.trace(neuron, 2, -1, -3, -2, -3))
    rounded = {name: round(found[name], 2) for name in ("w0", "x0", "w1", "x1", "w2")}
    assert rounded == {"w0": -0.2, "x0": 0.39, "w1": -0.39, "x1": -0.59, "w2": 0.2}


def test_as_the_engine_to_read():
    """The little engine in engram.rules has the same values and gradients at every node."""

    def staged(x, y):
        return (x + y.sigmoid()) / (x.sigmoid() + (x + y) * (x + y))

    trace = engram.trace(staged, 3.0, -4.0)
    x, y = Value(3.0), Value(-4.0)
    staged(x, y).backward()
    assert trace["x"].gradient.item() == pytest.approx(x.grad, rel=1e-12)
    assert trace["y"].gradient.item() == pytest.approx(y.grad, rel=1e-12)
    assert trace["x"].gradient.item() == pytest.approx(2.0595697955721652, rel=1e-12)


def test_fan_out_adds_up():
    trace = engram.trace(lambda x: x * x + x, 3.0)
    assert [edge.gradient.item() for edge in trace.consumers(trace["x"])] == [3, 3, 1]
    assert trace["x"].gradient.item() == 7


def test_an_operation_that_uses_its_input_twice_inside_is_one_wire():
    x = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    sent = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    trace = engram.trace(F.normalize, x, gradient=sent)
    (edge,) = trace.edges
    unit = x / 5
    torch.testing.assert_close(edge.gradient, (sent - unit * (sent * unit).sum()) / 5, **EXACT)
    sums_up(engram.trace(lambda x: F.normalize(x).exp().sum(), x))


def test_what_was_broadcast_is_summed():
    trace = engram.trace(lambda x, b: (x + b).relu(), torch.ones(2, 3), torch.zeros(3))
    assert trace.consumers(trace["b"])[0].gradient.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("fn", "inputs", "expected", "said"),
    [
        (torch.maximum, (2.0, 2.0), (0.5, 0.5), "half each"),
        (torch.minimum, (1.0, 2.0), (1, 0), "the smaller, "),
        (torch.relu, (0.0,), (0,), "stops the gradient"),
        (torch.relu, (0.1,), (1,), "passes the gradient on"),
        (torch.abs, (0.0,), (0,), "at 0 it gives nothing"),
        (lambda x: x.amax(), (torch.tensor([1.0, 1.0]),), ([0.5, 0.5],), "equals share it"),
        (lambda x: F.max_pool1d(x, 2), (torch.ones(1, 1, 2),), ([[[1.0, 0.0]]],), "the first of equals"),
        (lambda x: F.avg_pool1d(x, 2), (torch.ones(1, 1, 2),), ([[[0.5, 0.5]]],), "same part"),
        (lambda x: 3 * x, (5.0,), (3,), "scales the gradient by 3"),
        (lambda x: x.clamp(0, 1), (torch.tensor([-1.0, 0.5, 2.0]),), ([0, 1, 0],), "stops it outside"),
        (lambda x: x.detach() * x, (5.0,), (5,), "swaps"),
        (lambda x: x.round() + x, (5.0,), (1,), "hands the gradient on to both"),
        (lambda x, y: x - y, (5.0, 3.0), (1, -1), "its sign turned to the second"),
        (lambda x: F.pad(x, (1, 1)), (torch.ones(2),), ([1, 1],), "the padding gets nothing"),
        (lambda x: x.cumsum(0), (torch.ones(3),), ([3, 2, 1],), "the sum of the gradients from its place on"),
        (lambda x: x[1:], (torch.ones(3),), ([0, 1, 1],), "what was not read gets nothing"),
    ],
)
def test_the_words_say_what_is_done(fn, inputs, expected, said):
    trace = engram.trace(fn, *inputs)
    found = [node.gradient.tolist() for node in trace.nodes if node.kind == "input"]
    assert found == list(expected)
    assert said in trace.nodes[-1].rule


def test_nothing_comes_back_through_a_cut():
    trace = engram.trace(lambda x: x.detach().exp() + x.sign(), 2.0)
    assert trace["x"].gradient.item() == 0
    assert trace["detach"].gradient is None
    assert trace["detach"].rule.startswith("cuts")
    assert trace["exp"].rule == "reads nothing that asks for a gradient"
    with_none = engram.trace(lambda x: x.argmax(), torch.ones(3))
    assert with_none["x"].gradient is None
    assert with_none["argmax"].rule.startswith("hands nothing back")


def test_writing_in_place_and_through_views():
    def fn(x, y):
        a = x * 2
        a[0] = y
        a += x
        part = a[1:]
        part.mul_(3)
        F.relu(a, inplace=True)
        return (a * a).sum() + part.sum()

    inputs = [torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)]
    trace = engram.trace(fn, *inputs)
    leaves = [one.clone().requires_grad_() for one in inputs]
    copies = [one.clone() for one in leaves]
    expected = torch.autograd.grad(fn(*copies), leaves)
    for name, one in zip("xy", expected, strict=True):
        torch.testing.assert_close(trace[name].gradient, one, **EXACT)
    sums_up(trace)
    first = next(node for node in trace.nodes if node.kind == OPERATION)
    assert first.value.tolist() == [2, -4, 6], "the value as it was, before it was overwritten"
    assert inputs[0].tolist() == [1, -2, 3], "what was given is left alone"


def test_an_input_may_be_written_to():
    trace = engram.trace(lambda x: x.mul_(2).sum(), torch.ones(2))
    assert trace["x"].gradient.tolist() == [2, 2]
    assert trace["x"].value.tolist() == [1, 1]


def test_several_outputs():
    trace = engram.trace(lambda x: x.split([1, 2]), torch.ones(3), gradient=[torch.ones(1), 2 * torch.ones(2)])
    assert trace.outputs == [(1, 0), (1, 1)]
    assert trace["x"].gradient.tolist() == [1, 2, 2]
    largest = engram.trace(lambda x: x.max(0).values, torch.tensor([1.0, 3.0]))
    assert [value.tolist() for value in largest["max"].values] == [3, 1]
    assert largest["max"].gradients[1] is None


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 3 * ctx.saved_tensors[0] ** 2


def test_a_custom_function_is_one_node():
    trace = engram.trace(lambda x: Cube.apply(x * 1) + 1, 2.0)
    assert [node.name for node in trace.nodes] == ["x", "multiply", "cube", "add"]
    assert trace["x"].gradient.item() == 12
    sums_up(trace)


def test_what_is_checkpointed_has_its_gradients():
    def fn(x, entry):
        return checkpoint(lambda y: (y * y).exp(), x, use_reentrant=entry) * 2

    trace = engram.trace(fn, 0.5, entry=False)
    assert trace["x"].gradient.item() == pytest.approx(2 * math.exp(0.25))
    sums_up(trace)
    with pytest.raises(UserError, match="autograd cannot go back") as refused:
        engram.trace(fn, 0.5, entry=True)
    assert "use_reentrant=False" in str(refused.value)


def test_tensors_from_outside():
    weight = torch.tensor([2.0], requires_grad=True)
    made = weight * 3
    trace = engram.trace(lambda x: x * weight + made, 1.0)
    assert trace["parameter 1"].gradient.item() == 1 + 3
    assert [node.value.item() for node in trace if node.name == "multiply"] == [2, 6]
    sums_up(trace)
    assert weight.grad is None
    assert made.grad_fn.next_functions, "the graph that was there before is still there"


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(2, 3)

    def forward(self, x):
        x = self.relu(self.norm(self.conv(x)))
        x = self.relu(self.conv(x[:, :1])) + x
        return self.head(self.drop(F.max_pool2d(x, 2).mean((2, 3))))


def test_a_module_names_its_tensors_and_is_left_as_it_was():
    torch.manual_seed(0)
    net = Small().double()
    net.norm.eval()
    net.head.weight.grad = torch.ones(3, 2, dtype=torch.float64)
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    sent, random = torch.randn(2, 3, dtype=torch.float64), torch.get_rng_state()
    trace = engram.trace(net, x, gradient=sent)
    assert torch.equal(torch.get_rng_state(), random)
    assert net.training
    assert not net.norm.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert net.head.weight.grad.eq(1).all()
    assert net.conv.weight.grad is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    names = {node.name for node in trace.nodes if node.kind == "parameter"}
    assert names == {name for name, _ in net.named_parameters()}
    assert {node.module for node in trace.nodes if node.name == "conv2d"} == {"conv"}
    assert len(trace.consumers(trace["conv.weight"])) == 2, "a shared module is one weight with two consumers"
    assert x.grad is None


def test_batch_statistics_are_put_back_even_after_an_error():
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(3, 1))
    with pytest.raises(RuntimeError):
        engram.trace(net, torch.randn(4, 2))
    assert net[0].num_batches_tracked == 0
    assert net[0].running_mean.tolist() == [0, 0]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_parameters_of_a_module_agree_with_backward():
    torch.manual_seed(1)
    net, x = Small().double().eval(), torch.randn(3, 1, 4, 4, dtype=torch.float64)
    trace = engram.trace(net, x)
    net(x).sum().backward()
    for name, p in net.named_parameters():
        torch.testing.assert_close(trace[name].gradient, p.grad, **EXACT)
    sums_up(trace)


def test_a_recurrent_layer():
    torch.manual_seed(2)
    net, x = nn.LSTM(2, 3).double(), torch.randn(4, 1, 2, dtype=torch.float64)
    trace = engram.trace(lambda x: net(x)[0][-1], x)
    wanted = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(net(wanted)[0][-1].sum(), wanted)
    torch.testing.assert_close(trace["x"].gradient, expected, **EXACT)
    assert trace["lstm"].rule.startswith("carries the gradient back step by step")


def test_as_json():
    trace = engram.trace(lambda x: (x.log(), x.new_zeros(5000) + x), torch.tensor(-1.0))
    content = json.loads(json.dumps(trace.to_dict(), allow_nan=False))
    log = next(node for node in content["nodes"] if node["name"] == "log")
    assert log["values"] == [{"shape": [], "dtype": "float32", "values": "nan"}]
    large = content["nodes"][-1]["values"][0]
    assert (large["shape"], large["min"], large["norm"]) == ([5000], -1, pytest.approx(math.sqrt(5000)))
    assert content["outputs"][0][1] == 0
    assert {"source", "target", "gradient", "output", "place"} == set(content["edges"][0])


def test_a_deep_graph_is_printed_within_a_screen():
    def deep(x):
        for _ in range(1500):
            x = x * 1
        return x

    lines = str(engram.trace(deep, 1.0)).splitlines()
    assert len(lines) == 401
    assert lines[-1].startswith("… and ")
    assert max(map(len, lines)) < 200
    short = str(engram.trace(lambda x: (y := x.exp()) * y, 0.0))
    assert short.count("exp #1") == 2
    assert short.count("x ") == 1, "what is read twice is told once"


def test_bad_input():
    with pytest.raises(UserError, match="cannot be traced"):
        engram.trace(3)
    with pytest.raises(UserError, match="gave int, and no tensor"):
        engram.trace(lambda x: 3, 1.0)
    with pytest.raises(UserError, match="gradient has shapes"):
        engram.trace(torch.exp, 1.0, gradient=torch.ones(2))
    with pytest.raises(UserError, match="2 inputs were given and 1 names"):
        engram.trace(torch.add, 1.0, 2.0, names=["x"])
