"""Expressions as text: the same numbers as the code, nothing but what is listed, messages that lead on."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.errors import UserError
from engram.trace.expression import DEEPEST, Expression, trace_text, value
from engram.trace.operations import OPERATIONS


def leaf(trace, name):
    return trace[name].gradient.item()


def test_the_lectures_circuit():
    trace = trace_text("(x*y + max(z, w)) * 2", {"x": "3", "y": "-4", "z": "2", "w": "-1"})
    assert [leaf(trace, name) for name in "xyzw"] == [-8, 6, 2, 0]
    assert trace.result.item() == -20


def test_as_the_code():
    values = {"x": value("1x2x5x5", name="x"), "w": value("3x2x3x3", name="w"), "v": value("2x12", name="v")}
    text = "cross_entropy(linear(flatten(max_pool2d(relu(conv2d(x, w, padding=1)), 2), 1), v), y)"
    trace = trace_text(text, {**values, "y": "1"})
    x, w, v = (one.clone().requires_grad_() for one in values.values())
    scores = F.linear(F.max_pool2d(F.relu(F.conv2d(x, w, padding=1)), 2).flatten(1), v)
    loss = F.cross_entropy(scores, torch.tensor([1]))
    assert trace.result.item() == loss.item()
    for name, one in zip("xwv", torch.autograd.grad(loss, (x, w, v)), strict=True):
        torch.testing.assert_close(trace[name].gradient, one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("x*y + z", {"x": (), "y": (), "z": ()}),
        ("max_pool2d(x, 2)", {"x": (1, 1, 4, 4)}),
        ("avg_pool1d(relu(x), 2)", {"x": (1, 1, 4)}),
        ("conv2d(x, w, b)", {"x": (1, 1, 4, 4), "w": (1, 1, 3, 3), "b": (1,)}),
        ("b + conv3d(x, w)", {"b": (1, 1, 2, 2, 2), "x": (1, 1, 4, 4, 4), "w": (1, 1, 3, 3, 3)}),
        ("linear(x, w, b)", {"x": (2, 3), "w": (2, 3), "b": (2,)}),
        ("a @ b", {"a": (2, 3), "b": (3, 2)}),
        ("softmax(x)", {"x": (4,)}),
        ("sum(x * y)", {"x": (4,), "y": (4,)}),
        ("cross_entropy(x, y)", {"x": (2, 3), "y": (2,)}),
        ("batch_norm(x, g, b)", {"x": (4, 2), "g": (2,), "b": (2,)}),
        ("attention(q, k, v)", {"q": (1, 3, 2), "k": (1, 3, 2), "v": (1, 3, 2)}),
        ("where(x > y, x, y)", {"x": (4,), "y": (4,)}),
        ("x[1:] * 2", {"x": (3,)}),
        ("cat(x, y)", {"x": (2,), "y": (2,)}),
    ],
)
def test_names_without_a_value_get_a_shape_that_fits(text, shapes):
    trace = trace_text(text, gradient="random")
    assert {node.name: tuple(node.value.shape) for node in trace.nodes if node.kind == "input"} == shapes


def test_a_value_decides_the_shape_of_its_neighbour():
    trace = trace_text("x + w", {"w": "2x3"})
    assert trace["x"].value.shape == (2, 3)
    assert trace_text("linear(x, w)", {"x": "5x7"})["w"].value.shape == (2, 7)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_runs_and_has_a_gradient(name):
    more = {
        "reshape": "x, 3, 2", "permute": "x, 1, 0", "transpose": "x, 0, 1", "unsqueeze": "x, 0", "flip": "x, 0",
        "pad": "x, (1, 1)", "clamp": "x, -1, 1", "cumsum": "x, 0", "pow": "x, 2", "lp_pool2d": "x, 2, 2",
        "pixel_shuffle": "x, 2", "where": "x > 0, x, y", "cat": "x, y", "stack": "x, y",
    }  # fmt: skip
    operation = OPERATIONS[name]
    names = ", ".join("xyz"[: min(operation.tensors, 3)])
    if "pool" in name:
        names = "x, 2"
    trace = trace_text(f"{name}({more.get(name, names)})", gradient="random")
    assert trace["x"].gradient is not None or name in ("detach",)
    assert trace.result.isfinite().all()


def test_seeds():
    same, again, other = (trace_text("exp(x) * y", seed=seed) for seed in (1, 1, 2))
    assert same["x"].value == again["x"].value != other["x"].value
    assert same["x"].value != same["y"].value
    state = torch.get_rng_state()
    assert trace_text("dropout(x)", {"x": "64"}, seed=3).result.equal(
        trace_text("dropout(x)", {"x": "64"}, seed=3).result
    )
    assert torch.equal(torch.get_rng_state(), state)


def test_ones_come_to_nothing_through_a_softmax():
    assert trace_text("softmax(x)")["x"].gradient.abs().max() < 1e-15
    assert trace_text("softmax(x)", gradient="random")["x"].gradient.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("text", "shape", "numbers"),
    [
        ("3", (), [3]),
        ("-4", (), [-4]),
        ("1e-3", (), [1e-3]),
        ("1,2,3", (3,), [1, 2, 3]),
        ("1,2;3,4", (2, 2), [1, 2, 3, 4]),
        ("[[[1, 2]]]", (1, 1, 2), [1, 2]),
        ("1;2", (2, 1), [1, 2]),
    ],
)
def test_values(text, shape, numbers):
    made = value(text, name="x")
    assert made.shape == shape
    assert made.flatten().tolist() == numbers
    assert made.dtype == torch.float64


@pytest.mark.parametrize("text", ["", "one", "1,2;3", "[1, [2]]", "0x3", "99999x99999", "[" * 5000, "1,,2", '["a"]'])
def test_values_that_are_none(text):
    with pytest.raises(UserError, match="--x"):
        value(text, name="x")


REFUSED = [
    "__import__('os').system('touch pwned')",
    "open('pwned', 'w')",
    "x.__class__",
    "x.exp()",
    "().__class__.__bases__[0]",
    "lambda: x",
    "(lambda: x)()",
    "[x for x in y]",
    "{x: y}",
    "f'{x}'",
    "'text' * x",
    "b'x'",
    "x if y else z",
    "x and y",
    "not x",
    "~x",
    "x // y",
    "x % y",
    "x := 3",
    "(x := 3)",
    "await x",
    "(yield x)",
    "relu(*x)",
    "relu(**x)",
    "relu(x)(y)",
    "x[y]",
    "x['a']",
    "1 < x < 3",
    "x == y",
    "x; y",
    "x\ny",
    "import os",
    "1j * x",
    "relu",
    "...",
    "3",
    "",
    "(",
    "x\0",
    "-" * 100 + "x",
    "(" * 300 + "x" + ")" * 300,
    "x + " * 2000 + "x",
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        trace_text(text)
    assert len(str(refused.value).splitlines()) <= 5
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rleu(x)", "did you mean: relu"),
        ("max_pol2d(x, 2)", "did you mean: max_pool2d"),
        ("maxpool2d(x, 2)", "did you mean: max_pool2d"),
        ("max_pool2d(x, 9)", "max_pool2d does not work here"),
        ("9**9**9 * x", "too large"),
        ("x / (1 / 0)", "does not work here"),
        ("(0 - 8) ** 0.5 * x", "root of a number below zero"),
        ("pad(x, (10**6, 10**6))", "at most 100,000"),
        ("pad(pad(x, (40000, 40000)), (40000, 40000))", "at most 100,000"),
        ("relu(x, y)", "relu"),
        ("relu(x, colour=2)", "relu"),
        ("x @ 3", "@ does not work here"),
        ("x[7]", "index"),
        ("max_pool2d(x, 2, return_indices=True)", "not one tensor"),
    ],
)
def test_messages(text, said):
    with pytest.raises(UserError) as refused:
        trace_text(text)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) <= 5


def test_a_value_for_no_name_is_refused():
    with pytest.raises(UserError, match="has no 'q'") as refused:
        trace_text("x * y", {"q": "3"})
    assert "its names: x, y" in str(refused.value)
    with pytest.raises(UserError, match="gradient 'one'"):
        trace_text("x", gradient="one")


def test_nothing_large_is_ever_computed(monkeypatch):
    """Shapes are tried without values first."""
    monkeypatch.setattr("engram.trace.expression.trace", lambda *_, **__: pytest.fail("it was computed"))
    with pytest.raises(UserError, match="numbers"):
        trace_text("sum(pad(x, (10**9, 10**9)))")


def test_nesting_up_to_the_limit():
    fits = "-" * (DEEPEST - 1) + "x"
    assert leaf(trace_text(fits), "x") == (-1) ** (DEEPEST - 1)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.text(alphabet="xyz0123456789+-*/@()[],.:<>= \n_'relumaxsum", max_size=40))
def test_no_text_does_anything_but_give_a_trace_or_a_message(text):
    refused = ""
    try:
        Expression(text)
        trace_text(text)
    except UserError as error:
        refused = str(error)
    assert len(refused.splitlines()) <= 5
