"""Every rule against torch's own operator, forward and backward, in float64; the same numbers from NumPy arrays.

A case is a pair, the torch expression it must equal, and inputs. Three things are asked of each: as an operation of
torch it gives the operator's values and gradients, torch's numerical check agrees, and NumPy gives the same numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import rules
from engram.rules.function import function, loss_function

TOLERANCE = {"rtol": 1e-11, "atol": 1e-12}


@dataclass
class Case:
    """`name` gives the pair; `theirs` takes the same inputs; `settings` go to ours only."""

    name: str
    theirs: Callable[..., Tensor]
    shapes: list[tuple[int, ...]]
    settings: dict[str, Any] = field(default_factory=dict)
    suffix: str = ""
    distinct: bool = False
    constants: tuple[Any, ...] = ()

    @property
    def pair(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        both = (getattr(rules, f"{self.name}_{way}{self.suffix}") for way in ("forward", "backward"))
        return tuple(both)  # type: ignore[return-value]

    def inputs(self) -> list[Tensor]:
        rng = torch.Generator().manual_seed(len(self.name))
        made = [torch.randn(shape, generator=rng, dtype=torch.float64) * 2 for shape in self.shapes]
        if self.distinct:  # no two values close together
            count = made[0].numel()
            made[0] = (torch.randperm(count, generator=rng).double() / count * 6 - 3).view(self.shapes[0])
        return [one.requires_grad_() for one in made]


def variants(name: str, theirs: Callable[..., Tensor], shapes: list[tuple[int, ...]], **rest: Any) -> Case:
    return Case(name, theirs, shapes, **rest)


def conv_cases() -> list[Case]:
    made = []
    kinds = [
        ((2, 4, 9), (6, 4, 3), {"stride": 2, "pad": 1}),
        ((2, 4, 9), (6, 2, 3), {"dilation": 3, "groups": 2}),
        ((2, 3, 6, 7), (4, 3, 3, 2), {"stride": (2, 1), "pad": (1, 0), "dilation": (1, 2)}),
        ((2, 4, 6, 7), (4, 1, 3, 3), {"stride": 2, "pad": 2, "groups": 4}),
        ((2, 2, 4, 5, 4), (3, 2, 2, 3, 2), {"stride": (1, 2, 1), "pad": (0, 1, 1)}),
    ]
    for (x, w, param), suffix in product(kinds, ("", "_naive", "_fft", "_im2col", "_fast")):
        conv = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[len(x)]
        given = {"padding" if key == "pad" else key: value for key, value in param.items()}
        theirs = lambda x, w, b, conv=conv, given=given: conv(x, w, b, **given)  # noqa: E731
        made.append(Case("conv", theirs, [x, w, (w[0],)], {"conv_param": param}, suffix))
    for x, pad in product([(2, 3, 5, 6), (1, 2, 6, 5)], [0, (2, 1)]):
        theirs = lambda x, w, b, pad=pad: F.conv2d(x, w, b, padding=pad)  # noqa: E731
        made.append(Case("conv", theirs, [x, (4, x[1], 3, 3), (4,)], {"conv_param": {"pad": pad}}, "_winograd"))
    return made


def pool_cases() -> list[Case]:
    made = []
    kinds = [
        ((2, 3, 9), {"kernel": 3, "stride": 2, "pad": 1}),
        ((2, 3, 8, 8), {"pool_height": 2, "pool_width": 2, "stride": 2}),
        ((2, 2, 7, 8), {"kernel": (3, 2), "stride": (2, 1), "pad": (1, 0)}),
        ((2, 2, 8, 6), {"kernel": 3, "stride": 2, "ceil": True}),
        ((1, 2, 7, 9), {"kernel": 3, "stride": 3, "pad": 1, "ceil": True}),
        ((1, 2, 5, 5), {"kernel": 2, "stride": 3, "pad": 1, "ceil": True}),
        ((1, 2, 4, 5, 4), {"kernel": 2, "stride": 1}),
        ((1, 2, 4, 4, 4), {"pool_depth": 2, "pool_height": 4, "pool_width": 2}),
    ]
    names = {"pad": "padding", "ceil": "ceil_mode", "stride": "stride", "dilation": "dilation"}
    for x, param in [*kinds, ((2, 2, 9, 9), {"kernel": 2, "stride": 2, "dilation": 3})]:
        given = {names[key]: value for key, value in param.items() if key in names}
        sides = [param[f"pool_{axis}"] for axis in ("depth", "height", "width") if f"pool_{axis}" in param]
        given["kernel_size"] = param.get("kernel", sides)
        dimensions = len(x) - 2
        largest = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[dimensions]
        mean = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[dimensions]
        theirs = lambda x, largest=largest, given=given: largest(x, **given)  # noqa: E731
        made += [Case("max_pool", theirs, [x], {"pool_param": param}, one, True) for one in ("", "_naive", "_fast")]
        if "dilation" in param:
            continue
        for counted in (True, False):
            theirs = lambda x, mean=mean, given=given, c=counted: mean(x, count_include_pad=c, **given)  # noqa: E731
            made.append(Case("avg_pool", theirs, [x], {"pool_param": {**param, "count_padding": counted}}))
        if "pad" not in param and dimensions < 3:
            length = {1: F.lp_pool1d, 2: F.lp_pool2d}[dimensions]
            theirs = lambda x, length=length, given=given: length(x, 2.0, **given)  # noqa: E731
            if not param.get("ceil"):
                made.append(Case("l2_pool", theirs, [x], {"pool_param": param}))
    return made


def batch_norm(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, gamma, beta, training=True)


def frozen(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return F.batch_norm(x, MEAN, VARIANCE, gamma, beta)


MEAN, VARIANCE = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.5, 2.0, 1.0]).double()
FROZEN = {"mode": "test", "running_mean": MEAN, "running_var": VARIANCE}


def linear(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.linear(x.flatten(1), w.T, b)


def maxout(x: Tensor, pieces: int = 2) -> Tensor:
    return x.unflatten(1, (-1, pieces)).amax(2)


def affine_maxout(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return (torch.einsum("ni,iok->nok", x.flatten(1), w) + b).amax(2)


def conv(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.conv2d(x, w, b, padding=1)


PADDED = {"conv_param": {"stride": 1, "pad": 1}}
ANY = [(3, 4), (2, 3, 2, 2)]

CASES = [
    *(Case("affine", linear, [x, (24, 5), (5,)]) for x in ((3, 24), (3, 2, 3, 4))),
    *(Case("relu", torch.relu, [x]) for x in ANY),
    Case("relu6", F.relu6, [(5, 40)]),
    Case("leaky_relu", F.leaky_relu, ANY[:1]),
    Case("leaky_relu", lambda x: F.leaky_relu(x, 0.3), ANY[:1], {"alpha": 0.3}),
    *(Case("prelu", F.prelu, [x, a]) for x, a in (((3, 4), (4,)), ((2, 3, 2, 2), (3,)), ((2, 3, 4), (1,)))),
    Case("elu", F.elu, ANY[:1]),
    Case("elu", lambda x: F.elu(x, 0.7), ANY[1:], {"alpha": 0.7}),
    Case("selu", F.selu, ANY[:1]),
    *(Case("gelu", lambda x, a=a: F.gelu(x, approximate=a), ANY[:1], {"approximate": a}) for a in ("none", "tanh")),
    Case("swish", F.silu, ANY[:1]),
    Case("swish", lambda x: x * torch.sigmoid(1.7 * x), ANY[:1], {"beta": 1.7}),
    Case("sigmoid", torch.sigmoid, ANY[:1]),
    Case("hard_sigmoid", lambda x: (x / 6 + 0.5).clamp(0, 1), [(5, 40)]),
    Case("log_sigmoid", F.logsigmoid, ANY[:1]),
    Case("tanh", torch.tanh, ANY[:1]),
    Case("scaled_tanh", lambda x: 1.7159 * torch.tanh(2 / 3 * x), ANY[:1]),
    Case("scaled_tanh", lambda x: 3 * torch.tanh(0.5 * x), ANY[:1], {"amplitude": 3.0, "steepness": 0.5}),
    Case("maxout", maxout, [(3, 6)]),
    Case("maxout", lambda x: maxout(x, 3), [(2, 6, 2, 2)], {"pieces": 3}),
    Case("affine_maxout", affine_maxout, [(4, 2, 3), (6, 5, 3), (5, 3)]),
    *conv_cases(),
    *pool_cases(),
    Case("global_avg_pool", lambda x: x.mean((2, 3)), [(2, 3, 4, 5)]),
    Case("global_avg_pool", lambda x: x.mean(2), [(2, 3, 4)]),
    Case("global_max_pool", lambda x: x.amax((2, 3)), [(2, 3, 4, 5)], distinct=True),
    *(
        Case("batchnorm", batch_norm, [(6, 3), (3,), (3,)], {"bn_param": {"mode": "train"}}, end)
        for end in ("", "_alt")
    ),
    *(Case("batchnorm", frozen, [(6, 3), (3,), (3,)], {"bn_param": FROZEN}, end) for end in ("", "_alt")),
    *(
        Case("spatial_batchnorm", batch_norm, [x, (3,), (3,)], {"bn_param": {"mode": "train"}})
        for x in ((4, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 2))
    ),
    Case("spatial_batchnorm", frozen, [(2, 3, 4, 5), (3,), (3,)], {"bn_param": FROZEN}),
    Case("layernorm", lambda x, g, b: F.layer_norm(x, (5,), g, b), [(4, 5), (5,), (5,)]),
    Case(
        "layernorm",
        lambda x, g, b: F.layer_norm(x, (5,), g, b, 0.1),
        [(2, 3, 5), (5,), (5,)],
        {"ln_param": {"eps": 0.1}},
    ),
    *(
        Case("spatial_groupnorm", lambda x, g, b, G=G: F.group_norm(x, G, g, b), [x, (6,), (6,)], {"G": G})
        for x, G in (((2, 6, 4, 5), 2), ((2, 6, 5), 3), ((2, 6, 4, 3), 1))
    ),
    Case("spatial_instancenorm", lambda x, g, b: F.instance_norm(x, weight=g, bias=b), [(2, 3, 4, 5), (3,), (3,)]),
    Case("lrn", nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2), [(2, 7, 3, 3)]),
    Case(
        "lrn",
        nn.LocalResponseNorm(3, alpha=0.9, beta=0.6, k=1.5),
        [(2, 4, 3)],
        {"lrn_param": {"n": 3, "alpha": 0.3, "beta": 0.6, "k": 1.5}},
    ),
    Case(
        "lrn",
        lambda x: x * (1 + 0.3 * 9 * F.avg_pool2d(x**2, 3, 1, 1)) ** -0.5,
        [(2, 2, 4, 5)],
        {"lrn_param": {"n": 3, "alpha": 0.3, "beta": 0.5, "k": 1.0, "region": "within"}},
    ),
    Case("affine_relu", lambda x, w, b: linear(x, w, b).relu(), [(3, 4), (4, 5), (5,)]),
    Case(
        "affine_bn_relu",
        lambda x, w, b, g, t: batch_norm(linear(x, w, b), g, t).relu(),
        [(6, 4), (4, 5), (5,), (5,), (5,)],
        {"bn_param": {"mode": "train"}},
    ),
    Case(
        "affine_ln_relu",
        lambda x, w, b, g, t: F.layer_norm(linear(x, w, b), (5,), g, t).relu(),
        [(6, 4), (4, 5), (5,), (5,), (5,)],
        {"ln_param": {}},
    ),
    Case("conv_relu", lambda x, w, b: conv(x, w, b).relu(), [(2, 3, 4, 4), (3, 3, 3, 3), (3,)], PADDED),
    Case(
        "conv_bn_relu",
        lambda x, w, b, g, t: batch_norm(conv(x, w, b), g, t).relu(),
        [(2, 3, 4, 4), (3, 3, 3, 3), (3,), (3,), (3,)],
        PADDED | {"bn_param": {"mode": "train"}},
    ),
    Case(
        "conv_relu_pool",
        lambda x, w, b: F.max_pool2d(conv(x, w, b).relu(), 2),
        [(2, 3, 4, 4), (3, 3, 3, 3), (3,)],
        PADDED | {"pool_param": {"kernel": 2}},
    ),
]
NAMES = [f"{number}-{case.name}{case.suffix}" for number, case in enumerate(CASES)]


def copied(settings: dict[str, Any], library: Any = torch) -> dict[str, Any]:
    """Settings of one's own, since forward may change them; arrays in them of the library asked for."""

    def one(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: one(inner) for key, inner in value.items()}
        return value.numpy() if isinstance(value, Tensor) and library is np else value

    return one(settings)


def our_functions(case: Case) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The pair; the backward that stands alone goes with the plain forward."""
    if case.suffix == "_alt":
        return getattr(rules, f"{case.name}_forward"), getattr(rules, f"{case.name}_backward_alt")
    return case.pair


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_equals_torch(case: Case) -> None:
    ours, theirs = case.inputs(), case.inputs()
    out = function(*our_functions(case))(*ours, **copied(case.settings))
    expected = case.theirs(*theirs)
    torch.testing.assert_close(out, expected, **TOLERANCE)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    out.backward(upstream)
    expected.backward(upstream)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, **TOLERANCE)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_numpy_gives_the_same(case: Case) -> None:
    forward, backward = our_functions(case)
    tensors = [one.detach() for one in case.inputs()]
    out, cache = forward(*tensors, **copied(case.settings))
    out2, cache2 = forward(*(one.numpy() for one in tensors), **copied(case.settings, np))
    assert isinstance(out2, np.ndarray)
    np.testing.assert_allclose(out2, out, **TOLERANCE)
    upstream = np.random.default_rng(0).standard_normal(out2.shape)
    gradients, gradients2 = backward(torch.from_numpy(upstream), cache), backward(upstream, cache2)
    single = not isinstance(gradients, tuple)
    for mine, mine2 in zip(*([one] if single else one for one in (gradients, gradients2)), strict=True):
        assert isinstance(mine2, np.ndarray)
        np.testing.assert_allclose(mine2, mine, **TOLERANCE)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_torch_checks_it_numerically(case: Case) -> None:
    operation = function(*our_functions(case))
    call = lambda *inputs: operation(*inputs, **copied(case.settings))  # noqa: E731
    assert torch.autograd.gradcheck(call, case.inputs(), fast_mode=True)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_precision_and_inputs_are_left_as_they_are(case: Case, library: str) -> None:
    forward, backward = our_functions(case)
    given = [one.detach().float() for one in case.inputs()]
    inputs = [one.numpy() for one in given] if library == "numpy" else given
    before = [one.copy() if library == "numpy" else one.clone() for one in inputs]
    settings = copied(case.settings, np if library == "numpy" else torch)
    if settings.get("bn_param", {}).get("mode") == "test":
        settings["bn_param"] |= {
            key: settings["bn_param"][key].astype("f4") if library == "numpy" else settings["bn_param"][key].float()
            for key in ("running_mean", "running_var")
        }
    out, cache = forward(*inputs, **settings)
    gradients = backward(out, cache)
    for array in (out, *(gradients if isinstance(gradients, tuple) else (gradients,))):
        assert str(array.dtype).endswith("float32")
    for array, old in zip(inputs, before, strict=True):
        assert (array == old).all()


LABELS = np.array([2, 0, 3, 3, 1])


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (rules.softmax_loss, F.cross_entropy),
        (rules.svm_loss, lambda x, y: F.multi_margin_loss(x, y) * x.shape[1]),  # torch divides by the classes
        (lambda x, y: rules.svm_loss(x, y, delta=3.0), lambda x, y: F.multi_margin_loss(x, y, margin=3.0) * x.shape[1]),
    ],
    ids=["softmax", "svm", "svm with a margin of 3"],
)
def test_losses_equal_torch(ours: Callable, theirs: Callable, library: str) -> None:
    x = (torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).double() * 3).requires_grad_()
    y = torch.from_numpy(LABELS)
    expected = theirs(x, y)
    (gradient,) = torch.autograd.grad(expected, x)
    if library == "numpy":
        loss, dx = ours(x.detach().numpy(), LABELS)
    else:
        loss, dx = ours(x.detach(), y)
        assert torch.autograd.gradcheck(lambda x: loss_function(ours)(x, y), x)
    np.testing.assert_allclose(loss, expected.detach(), **TOLERANCE)
    np.testing.assert_allclose(dx, gradient, **TOLERANCE)


def test_softmax_loss_survives_large_scores() -> None:
    loss, dx = rules.softmax_loss(np.array([[1000.0, 0.0]]), np.array([1]))
    assert (loss, dx.tolist()) == (1000.0, [[1.0, -1.0]])


def test_activations_survive_extremes() -> None:
    x = np.array([-np.inf, -1000.0, 1000.0, np.inf])
    assert rules.relu_forward(x)[0].tolist() == [0, 0, 1000, np.inf]
    assert rules.sigmoid_forward(x)[0].tolist() == [0, 0, 1, 1]
    assert rules.log_sigmoid_forward(x)[0].tolist() == [-np.inf, -1000, 0, 0]
    assert rules.elu_forward(x)[0].tolist() == [-1, -1, 1000, np.inf]
    assert rules.elu_backward(np.ones(4), (x, 1.0)).tolist() == [0, 0, 1, 1]
    assert np.isnan(rules.relu_forward(np.array([np.nan]))[0]).all()


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_running_averages_as_in_the_course_and_not_as_in_torch(library: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 3)) * 2 + 1
    given = x if library == "numpy" else torch.from_numpy(x)
    one, zero = given[0] * 0 + 1, given[0] * 0
    param = {"mode": "train", "momentum": 0.75}
    for _ in range(2):
        rules.batchnorm_forward(given, one, zero, param)
    torch_mean, torch_var = torch.zeros(3).double(), torch.zeros(3).double()
    for _ in range(2):
        F.batch_norm(torch.from_numpy(x), torch_mean, torch_var, training=True, momentum=0.25)
    np.testing.assert_allclose(param["running_mean"], torch_mean, **TOLERANCE)
    np.testing.assert_allclose(param["running_var"], torch_var * 7 / 8, **TOLERANCE)  # biased, and from 0
    out, _ = rules.batchnorm_forward(given, one, zero, {**param, "mode": "test"})
    expected = (x - torch_mean.numpy()) / np.sqrt(torch_var.numpy() * 7 / 8 + 1e-5)
    np.testing.assert_allclose(out, expected, **TOLERANCE)


def test_the_gradient_of_every_node_of_batch_norm() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, generator=rng, dtype=torch.float64).requires_grad_()
    gamma = torch.randn(3, generator=rng, dtype=torch.float64).requires_grad_()
    beta = torch.zeros(3, dtype=torch.float64).requires_grad_()
    for mode in ("train", "test"):
        param = {"mode": mode, "running_mean": MEAN, "running_var": VARIANCE.clone().requires_grad_()}
        out, cache = rules.batchnorm_forward(x, gamma, beta, param)
        upstream = torch.randn(out.shape, generator=rng, dtype=torch.float64)
        found = rules.batchnorm_backward_nodes(upstream, cache)
        assert ("squared" in found) == (mode == "train")
        nodes = {**cache, "beta": beta, "out": out}
        names = [name for name in found if name not in ("mean", "variance", "deviation", "inverse") or mode == "train"]
        expected = torch.autograd.grad(out, [nodes[name] for name in names], upstream)
        for name, gradient in zip(names, expected, strict=True):
            torch.testing.assert_close(
                found[name], gradient, **TOLERANCE, msg=lambda text, name=name: f"{name}: {text}"
            )


@pytest.mark.parametrize(
    ("shape", "param"),
    [
        ((2, 3, 9), {"kernel": 3, "stride": 2, "pad": 1}),
        ((2, 2, 7, 8), {"kernel": (3, 2), "stride": (2, 3), "pad": (1, 0), "dilation": (1, 2)}),
        ((1, 2, 4, 5, 4), {"kernel": 2}),
    ],
)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_unpooling(shape: tuple[int, ...], param: dict[str, Any], library: str) -> None:
    x = Case("max_pool", torch.relu, [shape], distinct=True).inputs()[0].detach()
    given = {"padding" if key == "pad" else key: value for key, value in param.items() if key != "kernel"}
    largest = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}[len(shape)]
    theirs, places = largest(x, param["kernel"], return_indices=True, **given)
    out, cache = rules.max_pool_forward(x if library == "torch" else x.numpy(), param)
    indices = rules.max_pool_indices(cache)
    np.testing.assert_array_equal(indices, places)
    back, cache = rules.max_unpool_forward(out, indices, shape[2:])
    expected = torch.zeros(shape).double().flatten(2).scatter(2, places.flatten(2), theirs.flatten(2)).view(shape)
    np.testing.assert_array_equal(back, expected)
    upstream = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gradient = rules.max_unpool_backward(upstream if library == "torch" else upstream.numpy(), cache)
    np.testing.assert_array_equal(gradient, upstream.flatten(2).gather(2, places.flatten(2)).view(theirs.shape))


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("suffix", ["", "_naive"])
def test_of_equal_values_the_first_wins(suffix: str, library: str) -> None:
    x = np.zeros((1, 1, 2, 4)) if library == "numpy" else torch.zeros(1, 1, 2, 4)
    out, cache = getattr(rules, f"max_pool_forward{suffix}")(x, {"kernel": 2})
    dx = getattr(rules, f"max_pool_backward{suffix}")(out + 3, cache)
    assert dx.tolist() == [[[[3, 0, 3, 0], [0, 0, 0, 0]]]]
    out, cache = rules.maxout_forward(x[:, 0], 2)
    assert rules.maxout_backward(out + 3, cache).tolist() == [[[3, 3, 3, 3], [0, 0, 0, 0]]]


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_l2_pool_of_nothing_has_no_slope(library: str) -> None:
    x = np.zeros((1, 1, 4)) if library == "numpy" else torch.zeros(1, 1, 4)
    out, cache = rules.l2_pool_forward(x, {"kernel": 2})
    assert rules.l2_pool_backward(out + 1, cache).tolist() == [[[0, 0, 0, 0]]]


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_group_norm_takes_the_courses_shapes(library: str) -> None:
    rng = np.random.default_rng(0)
    x, gamma = rng.standard_normal((2, 6, 4, 5)), rng.standard_normal((1, 6, 1, 1))
    if library == "torch":
        x, gamma = torch.from_numpy(x), torch.from_numpy(gamma)
    out, cache = rules.spatial_groupnorm_forward(x, gamma, gamma, 2, {})
    dx, dgamma, dbeta = rules.spatial_groupnorm_backward(out, cache)
    assert tuple(dx.shape) == tuple(x.shape)
    assert tuple(dgamma.shape) == tuple(dbeta.shape) == (1, 6, 1, 1)
    flat, _ = rules.spatial_groupnorm_forward(x, gamma.reshape(6), gamma.reshape(6), 2)
    assert (flat == out).all()


@pytest.mark.parametrize("name", ["affine", "conv", "conv_naive", "conv_fft", "conv_winograd"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_bias_may_be_left_out(name: str, library: str) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 5, 5)), rng.standard_normal((4, 3, 3, 3))
    if name == "affine":
        w = rng.standard_normal((75, 4))
    if library == "torch":
        x, w = torch.from_numpy(x), torch.from_numpy(w)
    name, _, suffix = name.partition("_")
    suffix = suffix and f"_{suffix}"
    forward, backward = (getattr(rules, f"{name}_{way}{suffix}") for way in ("forward", "backward"))
    settings = {} if name == "affine" else {"conv_param": {"pad": 1}}
    out, cache = forward(x, w, None, **settings)
    zero, cache2 = forward(x, w, w.reshape(-1)[:4] * 0, **settings)
    assert (out == zero).all()
    *gradients, db = backward(out, cache)
    assert db is None
    for mine, other in zip(gradients, backward(out, cache2), strict=False):
        assert (mine == other).all()


def test_im2col_as_in_the_course_notes() -> None:
    columns = rules.im2col(np.zeros((1, 3, 227, 227), dtype=np.uint8), (11, 11), stride=4)
    assert columns.shape == (1, 363, 3025)
    assert np.zeros((96, 363)).shape[1] == columns.shape[1]
    x = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    expected = F.unfold(x, (3, 2), padding=(1, 0), stride=(2, 1))
    assert torch.equal(rules.im2col(x, (3, 2), stride=(2, 1), pad_by=(1, 0)), expected)


@pytest.mark.parametrize("half", [True, False])
def test_penalties_equal_torch(half: bool) -> None:
    w = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    square = 0.3 * w.square().sum() * (0.5 if half else 1)
    kinds = {
        "l2": (rules.l2_penalty(w.detach().numpy(), 0.3, half=half), square),
        "l1": (rules.l1_penalty(w.detach(), 0.2), 0.2 * w.abs().sum()),
        "both": (rules.elastic_net_penalty(w.detach(), 0.2, 0.3, half=half), square + 0.2 * w.abs().sum()),
    }
    for (loss, dw), expected in kinds.values():
        np.testing.assert_allclose(loss, expected.detach(), **TOLERANCE)
        np.testing.assert_allclose(dw, torch.autograd.grad(expected, w, retain_graph=True)[0], **TOLERANCE)
