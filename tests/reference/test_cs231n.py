"""Every published check of the course that is in the scope of the notes, by name, in float64, through engram.rules.

A check's inputs, expected numbers and tolerance are in data/cs231n_checks.json, as parsed from the course's notebooks.
Gradient checks are the course's own: a centred difference with the h that is stated. Where a published gradient is so
small that the rounding of the loss in float64 drowns it (the course's own solutions see 2.2e-5 where 1e-6 is asked),
the difference is taken in extended precision, so that it is the gradient which is tested and not the difference.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from course import CHECKS, WITHOUT_DATA, Run, agree, arrays
from engram import rules
from engram.rules import FullyConnectedNet, ThreeLayerConvNet, TwoLayerNet
from engram.rules.engine import Value

LIBRARIES: dict[str, Callable[[Any], Any]] = {"numpy": np.asarray, "torch": lambda x: torch.from_numpy(np.asarray(x))}
RUNS: dict[str, Run] = {}
LONG = np.longdouble if np.finfo(np.longdouble).eps < 1e-18 else None  # on some machines it is only a double


def check(name: str) -> Callable[[Run], Run]:
    def enter(run: Run) -> Run:
        RUNS[name] = run
        return run

    return enter


SLOW = {"gradcheck.conv_relu_pool", "gradcheck.lstm_backward", "notes.spiral", "ThreeLayerConvNet.initial_loss"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in sorted(WITHOUT_DATA)
        if CHECKS[name]["in_notes_scope"]
    ],
)
def test_published(name: str) -> None:
    RUNS[name](CHECKS[name])


def test_no_check_is_left_out() -> None:
    """What does not run needs pictures, and every one of those is a threshold of a trained network."""
    inside = {name for name, check in CHECKS.items() if check["in_notes_scope"]}
    assert len(CHECKS) == 106
    assert set(RUNS) == inside & WITHOUT_DATA
    left = inside - WITHOUT_DATA
    assert len(left) == 20
    assert {CHECKS[name]["kind"] for name in left} == {"training_threshold"}
    assert {tuple(CHECKS[name]["needs"]) for name in left} == {("CIFAR-10",), ("COCO features",)}


# -- forward, literal


def forward(name: str, rule: Callable[..., Any], outputs: tuple[str, ...] = ("out",), **settings: Any) -> None:
    @check(name)
    def run(check: dict[str, Any]) -> None:
        for array in LIBRARIES.values():
            found = rule(*map(array, arrays(check).values()), **settings)
            for output, value in zip(outputs, found, strict=False):
                agree(value, check["expected"][output], check, output)


forward("affine_forward", rules.affine_forward)
forward("relu_forward", rules.relu_forward)
forward("conv_forward", rules.conv_forward, conv_param={"stride": 2, "pad": 1})
forward("max_pool_forward", rules.max_pool_forward, pool_param={"pool_height": 2, "pool_width": 2, "stride": 2})
forward("rnn_step_forward", rules.rnn_step_forward, ("next_h",))
forward("lstm_step_forward", rules.lstm_step_forward, ("next_h", "next_c"))
forward("word_embedding_forward", rules.word_embedding_forward)


@check("optim.sgd_momentum")
def _(check: dict[str, Any]) -> None:
    for array in LIBRARIES.values():
        w, dw, velocity = map(array, arrays(check).values())
        next_w, config = rules.sgd_momentum(w, dw, {**check["config"], "velocity": velocity})
        agree(next_w, check["expected"]["next_w"], check)
        agree(config["velocity"], check["expected"]["velocity"], check)


# -- losses and statistics, seeded


@check("svm_loss.sanity")
def _(check: dict[str, Any]) -> None:
    loss_at_first(check, rules.svm_loss)


@check("softmax_loss.sanity")
def _(check: dict[str, Any]) -> None:
    loss_at_first(check, rules.softmax_loss)


def loss_at_first(check: dict[str, Any], rule: Callable[..., Any]) -> None:
    rng = np.random.RandomState(231)
    x, y = 0.001 * rng.randn(50, 10), rng.randint(10, size=50)
    for array in LIBRARIES.values():
        own = array(y)
        loss, dx = rule(array(x), own)
        agree(loss, check["expected"]["loss_seeded"], check)
        numeric = rules.eval_numerical_gradient(lambda x, own=own: rule(x, own)[0], array(x.copy()))
        assert rules.rel_error(dx, numeric) < 1e-7


@check("temporal_softmax_loss.sanity")
def _(check: dict[str, Any]) -> None:
    rng = np.random.RandomState(231)
    for (count, steps, words, share), about in zip(
        ((100, 1, 10, 1.0), (100, 10, 10, 1.0), (5000, 10, 10, 0.1)), check["expected"]["values"], strict=True
    ):
        x, y = 0.001 * rng.randn(count, steps, words), rng.randint(words, size=(count, steps))
        mask = rng.rand(count, steps) <= share
        for array in LIBRARIES.values():
            agree(rules.temporal_softmax_loss(array(x), array(y), array(mask))[0], about, check)


@check("dropout_forward.statistics")
def _(check: dict[str, Any]) -> None:
    rng = np.random.RandomState(231)
    x, expected = rng.randn(500, 500) + 10, check["expected"]
    agree(x.mean(), expected["mean_input"], check)
    for keep in (0.25, 0.4, 0.7):
        state = rng.get_state()
        for array in LIBRARIES.values():
            rng.set_state(state)
            out = np.asarray(rules.dropout_forward(array(x), {"mode": "train", "p": keep, "rng": rng})[0])
            agree(out.mean(), expected[f"p={keep}"]["mean_train"], check)
            agree((out == 0).mean(), expected[f"p={keep}"]["frac_zero"], check)
        out, _ = rules.dropout_forward(x, {"mode": "test", "p": keep})
        agree((out.mean(), (out == 0).mean()), (expected["test"]["mean"], expected["test"]["frac_zero"]), check)


@check("batchnorm_forward.train")
def _(check: dict[str, Any]) -> None:
    rng = np.random.RandomState(231)
    X, W1, W2 = rng.randn(200, 50), rng.randn(50, 60), rng.randn(60, 3)
    a, expected = np.maximum(0, X @ W1) @ W2, check["expected"]
    agree(a.mean(0), expected["before_mean"], check)
    agree(a.std(0), expected["before_std"], check)
    scales = {
        "after_gamma1_beta0": ([1, 1, 1], [0, 0, 0]),
        "after_gamma[1,2,3]_beta[11,12,13]": ([1, 2, 3], [11, 12, 13]),
    }
    for name, (gamma, beta) in scales.items():
        for array in LIBRARIES.values():
            given = (array(np.array(one, dtype=float)) for one in (gamma, beta))
            out = np.asarray(rules.batchnorm_forward(array(a), *given, bn_param={"mode": "train"})[0])
            agree(out.mean(0), expected[name]["mean"], check)
            agree(out.std(0), expected[name]["std"], check)


@check("ThreeLayerConvNet.initial_loss")
def _(check: dict[str, Any]) -> None:
    rng = np.random.RandomState(231)
    X, y = rng.randn(50, 3, 32, 32), rng.randint(10, size=50)
    net = ThreeLayerConvNet(dtype=np.float64, rng=rng)
    agree(net.loss(X, y)[0], np.log(10), check)
    net.reg = 0.5
    agree(net.loss(X, y)[0], 2.5085, check)


WORDS = {"<NULL>": 0, "cat": 2, "dog": 3}


@check("CaptioningRNN.loss.rnn")
def _(check: dict[str, Any]) -> None:
    captioner_of_fixed_weights(check, "rnn", check["expected"]["loss"])


def captioner_of_fixed_weights(check: dict[str, Any], cell: str, expected: float) -> None:
    given = arrays(check)
    for array in LIBRARIES.values():
        net = rules.CaptioningRNN(WORDS, 20, 30, 40, cell, np.float64, array=array)
        for name, value in net.params.items():
            shape = tuple(value.shape)
            net.params[name] = array(np.linspace(-1.4, 1.3, int(np.prod(shape))).reshape(shape))
        agree(net.loss(array(given["features"]), array(given["captions"]))[0], expected, check)


# -- gradients of rules


def gradcheck(
    name: str,
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: tuple[str, ...],
    upstream: str = "dout",
    **settings: Any,
) -> None:
    @check(name)
    def run(check: dict[str, Any]) -> None:
        drawn = arrays(check)
        given = {one: drawn[one] for one in inputs}
        compare(check, forward, backward, given, drawn[upstream], settings)


def compare(
    check: dict[str, Any],
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Mapping[str, np.ndarray],
    dout: np.ndarray,
    settings: Mapping[str, Any],
) -> None:
    """The course's numerical gradient of every floating-point input against the rule's, in either library."""
    found = {}
    for library, array in LIBRARIES.items():
        _, cache = forward(*map(array, inputs.values()), **deepcopy(settings))
        gradients = backward(array(dout), cache)
        found[library] = gradients if isinstance(gradients, tuple) else (gradients,)
    floating = [name for name, value in inputs.items() if value.dtype == float]
    for index, name in enumerate(floating):
        numeric = rules.eval_numerical_gradient_array(
            lambda _: forward(*inputs.values(), **deepcopy(settings))[0], inputs[name], dout, h=check["expected"]["h"]
        )
        for library in LIBRARIES:
            assert len(found[library]) == len(floating)
            agree(found[library][index], numeric, check, f"{name} {library}")


SCALED = ("x", "gamma", "beta")
LAYER = ("x", "w", "b")
TRAIN = {"bn_param": {"mode": "train"}}
POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}
SAME = {"conv_param": {"stride": 1, "pad": 1}}

gradcheck("gradcheck.affine_backward", rules.affine_forward, rules.affine_backward, LAYER)
gradcheck("gradcheck.relu_backward", rules.relu_forward, rules.relu_backward, ("x",))
gradcheck("gradcheck.affine_relu", rules.affine_relu_forward, rules.affine_relu_backward, LAYER)
gradcheck("gradcheck.batchnorm_backward", rules.batchnorm_forward, rules.batchnorm_backward, SCALED, **TRAIN)
gradcheck("gradcheck.layernorm_backward", rules.layernorm_forward, rules.layernorm_backward, SCALED, ln_param={})
gradcheck(
    "gradcheck.dropout_backward",
    rules.dropout_forward,
    rules.dropout_backward,
    ("x",),
    dropout_param={"mode": "train", "p": 0.2, "seed": 123},
)
gradcheck("gradcheck.conv_backward", rules.conv_forward, rules.conv_backward, LAYER, **SAME)
gradcheck("gradcheck.max_pool_backward", rules.max_pool_forward, rules.max_pool_backward, ("x",), pool_param=POOL)
gradcheck(
    "gradcheck.conv_relu_pool",
    rules.conv_relu_pool_forward,
    rules.conv_relu_pool_backward,
    LAYER,
    **SAME,
    pool_param=POOL,
)
gradcheck("gradcheck.conv_relu", rules.conv_relu_forward, rules.conv_relu_backward, LAYER, **SAME)
gradcheck(
    "gradcheck.spatial_batchnorm_backward",
    rules.spatial_batchnorm_forward,
    rules.spatial_batchnorm_backward,
    SCALED,
    **TRAIN,
)
gradcheck(
    "gradcheck.spatial_groupnorm_backward",
    rules.spatial_groupnorm_forward,
    rules.spatial_groupnorm_backward,
    SCALED,
    G=2,
    gn_param={},
)
gradcheck(
    "gradcheck.rnn_step_backward",
    rules.rnn_step_forward,
    rules.rnn_step_backward,
    ("x", "h", "Wx", "Wh", "b"),
    "dnext_h",
)
SEQUENCE = ("x", "h0", "Wx", "Wh", "b")
gradcheck("gradcheck.rnn_backward", rules.rnn_forward, rules.rnn_backward, SEQUENCE)
gradcheck("gradcheck.lstm_backward", rules.lstm_forward, rules.lstm_backward, SEQUENCE)
gradcheck("gradcheck.temporal_affine", rules.temporal_affine_forward, rules.temporal_affine_backward, LAYER)
gradcheck("gradcheck.word_embedding_backward", rules.word_embedding_forward, rules.word_embedding_backward, ("x", "W"))


@check("gradcheck.lstm_step_backward")
def _(check: dict[str, Any]) -> None:
    rng = np.random.RandomState(231)
    shapes = {"x": (4, 5), "prev_h": (4, 6), "prev_c": (4, 6), "Wx": (5, 24), "Wh": (6, 24), "b": (24,)}
    drawn = {name: rng.randn(*shape) for name, shape in shapes.items()}
    dnext_h, dnext_c = rng.randn(4, 6), rng.randn(4, 6)
    for array in LIBRARIES.values():
        dh, dc = array(dnext_h), array(dnext_c)
        inputs = {name: array(value.copy()) for name, value in drawn.items()}
        gradients = rules.lstm_step_backward(dh, dc, rules.lstm_step_forward(*inputs.values())[2])
        for (name, value), gradient in zip(inputs.items(), gradients, strict=True):
            numeric = sum(
                np.asarray(
                    rules.eval_numerical_gradient_array(
                        lambda _, part=part, given=inputs: rules.lstm_step_forward(*given.values())[part],
                        value,
                        upstream,
                    )
                )
                for part, upstream in ((0, dh), (1, dc))
            )
            agree(gradient, numeric, check, name)


@check("gradcheck.temporal_softmax_loss")
def _(check: dict[str, Any]) -> None:
    rng = np.random.RandomState(231)
    x, y, mask = rng.randn(7, 8, 9), rng.randint(9, size=(7, 8)), rng.rand(7, 8) > 0.5
    for array in LIBRARIES.values():
        rest = (array(y), array(mask))
        numeric = rules.eval_numerical_gradient(
            lambda x, rest=rest: rules.temporal_softmax_loss(x, *rest)[0], array(x.copy())
        )
        agree(rules.temporal_softmax_loss(array(x), *rest)[1], numeric, check)


@check("batchnorm_backward_alt")
def _(check: dict[str, Any]) -> None:
    rng = np.random.RandomState(231)
    x, gamma, beta, dout = 5 * rng.randn(100, 500) + 12, rng.randn(500), rng.randn(500), rng.randn(100, 500)
    for array in LIBRARIES.values():
        _, cache = rules.batchnorm_forward(*map(array, (x, gamma, beta)), bn_param={"mode": "train"})
        graph, closed = rules.batchnorm_backward(array(dout), cache), rules.batchnorm_backward_alt(array(dout), cache)
        agree(graph[0], closed[0], check)
        for one, other in zip(graph[1:], closed[1:], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)


@check("conv_fast_vs_naive")
def _(check: dict[str, Any]) -> None:
    given = arrays(check)
    x, w, b, dout = (given[name] for name in ("x", "w", "b", "dout"))
    param = {"stride": 2, "pad": 1}
    for array in LIBRARIES.values():
        ours = [array(one) for one in (x, w, b)]
        naive, naive_cache = rules.conv_forward_naive(*ours, conv_param=param)
        fast, fast_cache = rules.conv_forward_fast(*ours, conv_param=param)
        agree(fast, naive, check, "forward")
        slow = rules.conv_backward_naive(array(dout), naive_cache)
        for one, other in zip(rules.conv_backward_fast(array(dout), fast_cache), slow, strict=True):
            agree(one, other, check)


@check("max_pool_fast_vs_naive")
def _(check: dict[str, Any]) -> None:
    given = arrays(check)
    for array in LIBRARIES.values():
        x, dout = array(given["x"]), array(given["dout"])
        naive, naive_cache = rules.max_pool_forward_naive(x, POOL)
        fast, fast_cache = rules.max_pool_forward_fast(x, POOL)
        agree(fast, naive, check)
        agree(rules.max_pool_backward_fast(dout, fast_cache), rules.max_pool_backward_naive(dout, naive_cache), check)


# -- gradients of networks


def of_network(check: dict[str, Any], net: Any, *data: Any, every: int | None = None) -> None:
    """The gradients of every parameter against centred differences, in extended precision where there is one."""
    _, gradients = net.loss(*data)
    assert set(gradients) == set(net.params)
    gradients = {name: np.array(value, dtype=float) for name, value in gradients.items()}
    if LONG:
        net.params = {name: value.astype(LONG) for name, value in net.params.items()}
        data = tuple(one.astype(LONG) if one.dtype == float else one for one in data)
    rng = np.random.default_rng(0)
    for name, value in net.params.items():
        places = list(np.ndindex(*value.shape))
        if every is not None and every < len(places):
            places = [places[index] for index in rng.choice(len(places), every, replace=False)]
        numeric = [slope(net, data, value, place, check["expected"]["h"]) for place in places]
        found = [gradients[name][place] for place in places]
        if LONG:
            agree(found, numeric, check, name)
        else:
            np.testing.assert_allclose(found, numeric, rtol=1e-4, atol=1e-9)


def slope(net: Any, data: tuple[Any, ...], value: np.ndarray, place: tuple[int, ...], h: float) -> float:
    old, losses = value[place], []
    for moved in (old + h, old - h):
        value[place] = moved
        losses.append(net.loss(*data)[0])
    value[place] = old
    return float((losses[0] - losses[1]) / (2 * h))


@check("gradcheck.TwoLayerNet")
def _(check: dict[str, Any]) -> None:
    for reg in (0.0, 0.7):
        net = TwoLayerNet(5, 50, 7, reg=reg)
        ends = {"W1": (-0.7, 0.3), "b1": (-0.1, 0.9), "W2": (-0.3, 0.4), "b2": (-0.9, 0.1)}
        for name, (low, high) in ends.items():
            shape = net.params[name].shape
            net.params[name] = np.linspace(low, high, int(np.prod(shape))).reshape(shape)
        of_network(check, net, np.linspace(-5.5, 4.5, 15).reshape(5, 3).T.copy(), np.array([0, 5, 1]))


def fully_connected(check: dict[str, Any], regs: tuple[float, ...], **settings: Any) -> None:
    rng = np.random.RandomState(231)
    X, y = rng.randn(2, 15), rng.randint(10, size=2)
    for reg in regs:
        net = FullyConnectedNet([20, 30], 15, 10, reg=reg, weight_scale=5e-2, dtype=np.float64, rng=rng, **settings)
        of_network(check, net, X, y, every=60)


@check("gradcheck.FullyConnectedNet")
def _(check: dict[str, Any]) -> None:
    fully_connected(check, (0, 3.14))


@check("gradcheck.FullyConnectedNet.batchnorm")
def _(check: dict[str, Any]) -> None:
    fully_connected(check, (0, 3.14), normalization="batchnorm")


@check("gradcheck.FullyConnectedNet.dropout")
def _(check: dict[str, Any]) -> None:
    for keep in (1, 0.75, 0.5):
        fully_connected(check, (0,), dropout_keep_ratio=keep, seed=123)


@check("gradcheck.ThreeLayerConvNet")
def _(check: dict[str, Any]) -> None:
    rng = np.random.RandomState(231)
    X, y = rng.randn(2, 3, 16, 16), rng.randint(10, size=2)
    net = ThreeLayerConvNet((3, 16, 16), 3, 3, 7, dtype=np.float64, rng=rng)
    of_network(check, net, X, y, every=30)


@check("gradcheck.CaptioningRNN.rnn")
def _(check: dict[str, Any]) -> None:
    captioner_gradients(check, "rnn")


def captioner_gradients(check: dict[str, Any], cell: str) -> None:
    rng = np.random.RandomState(231)
    captions, features = rng.randint(3, size=(2, 3)), rng.randn(2, 4)
    net = rules.CaptioningRNN(WORDS, 4, 5, 6, cell, np.float64, rng=rng)
    of_network({**check, "expected": {"h": 1e-6}}, net, features, captions)


@check("threshold.two_layer.toy_train")
def _(check: dict[str, Any]) -> None:
    """Assignment 1's toy network: 10 hidden units, five examples, 100 steps of plain descent, full batch."""
    rng = np.random.RandomState(0)
    net = TwoLayerNet(4, 10, 3, 0.1, reg=check["inputs"]["reg"], half=False, rng=rng)
    x, y, loss = 10 * np.random.RandomState(1).randn(5, 4), np.array([0, 1, 2, 2, 1]), np.inf
    for _ in range(check["inputs"]["iters"]):
        loss, gradients = net.loss(x, y)
        for name, gradient in gradients.items():
            net.params[name], _ = rules.sgd(net.params[name], gradient, {"learning_rate": check["inputs"]["lr"]})
    assert check["expected"] == {"final_train_loss": "<0.02"}
    assert loss < 0.02


# -- shapes


@check("shape.pytorch.two_layer_fc")
def _(check: dict[str, Any]) -> None:
    x, w1, w2 = np.zeros((64, 50)), np.zeros((50, 42)), np.zeros((42, 10))
    for array in LIBRARIES.values():
        hidden, _ = rules.affine_relu_forward(array(x), array(w1), array(np.zeros(42)))
        out, _ = rules.affine_forward(hidden, array(w2))
        assert list(out.shape) == check["expected"]["out_shape"]


def three_layer_convnet(check: dict[str, Any], first: tuple[int, ...], second: tuple[int, ...], classes: int) -> None:
    x = np.zeros((64, 3, 32, 32))
    for array in LIBRARIES.values():
        out = array(x)
        for shape in (first, second):
            param = {"stride": 1, "pad": shape[-1] // 2}
            out, _ = rules.conv_relu_forward(out, array(np.zeros(shape)), array(np.zeros(shape[0])), param)
        out, _ = rules.affine_forward(out, array(np.zeros((second[0] * 32 * 32, classes))), array(np.zeros(classes)))
        assert list(out.shape) == check["expected"]["out_shape"]


@check("shape.pytorch.three_layer_convnet")
def _(check: dict[str, Any]) -> None:
    three_layer_convnet(check, (6, 3, 5, 5), (9, 6, 3, 3), 10)


@check("shape.pytorch.ThreeLayerConvNet")
def _(check: dict[str, Any]) -> None:
    three_layer_convnet(check, (12, 3, 5, 5), (8, 12, 3, 3), 10)


# -- the course notes


@check("notes.circuit_xyz")
def _(check: dict[str, Any]) -> None:
    x, y, z = (Value(check["inputs"][name]) for name in "xyz")
    q = x + y
    f = q * z
    f.backward()
    found = {"q": q.data, "f": f.data, "df/dx": x.grad, "df/dy": y.grad, "df/dz": z.grad}
    assert found == check["expected"]


@check("notes.sigmoid_neuron")
def _(check: dict[str, Any]) -> None:
    w, x, expected = (
        [Value(one) for one in check["inputs"]["w"]],
        [Value(one) for one in check["inputs"]["x"]],
        check["expected"],
    )
    first, second = w[0] * x[0], w[1] * x[1]
    both = first + second
    dot = both + w[2]
    negative = dot * -1
    power = negative.exp()
    total = power + 1
    f = total.reciprocal()
    f.backward()
    agree(f.data, expected["f"], check)
    agree(dot.data, expected["dot"], check)
    agree([one.grad for one in w], expected["dw"], check)
    agree([one.grad for one in x], expected["dx"], check)
    nodes = [w[0], x[0], w[1], x[1], w[2], first, second, both, dot, negative, power, total, f]
    agree([one.data for one in nodes], expected["node_values"], check)
    agree([one.grad for one in (negative, power, total, f)], expected["node_grads_of_inverse_chain"], check)
    out, cache = rules.sigmoid_forward(np.array([dot.data]))
    agree(rules.sigmoid_backward(np.ones(1), cache)[0], expected["local_grad"], check)
    agree(out[0], expected["f"], check)


@check("notes.staged_xy")
def _(check: dict[str, Any]) -> None:
    x, y = Value(float(check["inputs"]["x"])), Value(float(check["inputs"]["y"]))
    f = (x + y.sigmoid()) / (x.sigmoid() + (x + y) ** 2)
    f.backward()
    agree([f.data, x.grad, y.grad], [check["expected"][name] for name in ("f", "dx", "dy")], check)


@check("notes.max_gate")
def _(check: dict[str, Any]) -> None:
    x, y = Value(check["inputs"]["x"]), Value(check["inputs"]["y"])
    x.maximum(y).backward()
    assert {"dx": x.grad, "dy": y.grad} == check["expected"]
    _, cache = rules.max_pool_forward(np.array([[[4.0, 2.0]]]), {"kernel": 2})
    assert rules.max_pool_backward(np.ones((1, 1, 1)), cache).tolist() == [[[1, 0]]]


@check("notes.svm_delta10")
def _(check: dict[str, Any]) -> None:
    given = check["inputs"]
    for array in LIBRARIES.values():
        scores, label = array(np.array([given["s"]], dtype=float)), array(np.array([given["y"]]))
        assert float(rules.svm_loss(scores, label, delta=given["delta"])[0]) == check["expected"]["loss"]


@check("notes.svm_vs_softmax")
def _(check: dict[str, Any]) -> None:
    scores, label = np.array([check["inputs"]["f"]]), np.array([check["inputs"]["y"]])
    for array in LIBRARIES.values():
        agree(rules.svm_loss(array(scores), array(label))[0], check["expected"]["hinge"], check)
        agree(rules.softmax_loss(array(scores), array(label))[0], check["expected"]["ce"], check)


@check("notes.softmax_small")
def _(check: dict[str, Any]) -> None:
    for name, scores in check["inputs"].items():
        for array in LIBRARIES.values():
            agree(rules.softmax(array(np.array(scores, dtype=float))), check["expected"][name], check)


@check("notes.softmax_stable")
def _(check: dict[str, Any]) -> None:
    for array in LIBRARIES.values():
        agree(rules.softmax(array(np.array(check["inputs"]["f"], dtype=float))), check["expected"]["p"], check)


@check("notes.alexnet_conv1")
def _(check: dict[str, Any]) -> None:
    given, expected = check["inputs"], check["expected"]
    side, _, channels = given["in"]
    weights = np.zeros((given["K"], channels, given["F"], given["F"]), dtype=np.float32)
    x = torch.zeros(1, channels, side, side)
    out, _ = rules.conv_forward(x, torch.from_numpy(weights), torch.zeros(given["K"]), {"stride": given["S"], "pad": 0})
    _, count, height, width = out.shape
    assert [height, width, count] == expected["out"]
    assert out.numel() == expected["neurons"]
    assert weights.size == expected["weights_with_sharing"]
    assert weights.size + given["K"] == expected["params_with_bias"]
    assert out.numel() * (weights[0].size + 1) == expected["params_without_sharing"]


@check("notes.im2col_shapes")
def _(check: dict[str, Any]) -> None:
    given, expected = check["inputs"], check["expected"]
    side, _, channels = given["in"]
    columns = rules.im2col(np.zeros((1, channels, side, side), dtype=np.int8), [given["F"]] * 2, stride=given["S"])[0]
    rows = np.zeros((given["K"], channels, given["F"], given["F"]), dtype=np.int8).reshape(given["K"], -1)
    assert [list(columns.shape), list(rows.shape)] == [expected["X_col"], expected["W_row"]]
    assert [rows.shape[0], columns.shape[1]] == expected["out"]


@check("notes.stack3x3_vs_7x7")
def _(check: dict[str, Any]) -> None:
    """Weights by counting; the receptive field as the pixels that one output's gradient reaches."""
    for channels in (1, 5):
        assert check["expected"]["three_3x3"] == "27*C^2"
        assert check["expected"]["one_7x7"] == "49*C^2"
        assert sum(np.zeros((channels, channels, 3, 3)).size for _ in range(3)) == 27 * channels**2
        assert np.zeros((channels, channels, 7, 7)).size == 49 * channels**2
    fields, caches, out = [], [], np.ones((1, 1, 15, 15))
    for _ in range(3):
        out, cache = rules.conv_forward(out, np.ones((1, 1, 3, 3)), np.zeros(1), {"stride": 1, "pad": 1})
        caches.append(cache)
        back = np.zeros((1, 1, 15, 15))
        back[0, 0, 7, 7] = 1
        for one in reversed(caches):
            back, *_ = rules.conv_backward(back, one)
        fields.append(int(np.count_nonzero(back[0, 0, 7])))
    assert fields == check["expected"]["receptive_field"]


@check("notes.mlp_param_counts")
def _(check: dict[str, Any]) -> None:
    for name, (first, *hidden, last) in check["inputs"].items():
        net = FullyConnectedNet(hidden, first, last)
        assert sum(value.size for value in net.params.values()) == check["expected"][name]


@check("notes.vgg16_table")
def _(check: dict[str, Any]) -> None:
    """The table worked out from the rule for sizes; the page's own total of 24 M values does not follow from it."""
    expected, side, channels = check["expected"], 224, 3
    shapes, weights = {"input": side * side * channels}, []
    for stage, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for _ in range(count):
            x, w = (
                torch.zeros(1, channels, side, side, device="meta"),
                torch.zeros(width, channels, 3, 3, device="meta"),
            )
            assert nn.functional.conv2d(x, w, padding=1).shape == (1, width, side, side)
            weights.append(width * channels * 9)
            channels = width
        shapes[f"conv{width}" + {4: "_28", 5: "_14"}.get(stage, "")] = side * side * width
        side //= 2
        shapes[f"pool{stage}"] = side * side * width
    sizes = [side * side * channels, 4096, 4096, 1000]
    weights += [a * b for a, b in pairwise(sizes)]
    assert shapes == expected["activations"]
    assert weights == expected["weights"]
    biases = 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512 + 4096 + 4096 + 1000
    assert sum(weights) + biases == expected["total_weights_plus_biases"]


@check("notes.spiral")
def _(check: dict[str, Any]) -> None:
    """The notes' case study; the hidden layer's run is cut from 10 000 steps to 3 000, where it is there already."""
    rng = np.random.default_rng(0)
    radius = np.linspace(0, 1, 100)
    turns = [np.linspace(4 * arm, 4 * (arm + 1), 100) + 0.2 * rng.standard_normal(100) for arm in range(3)]
    x = np.concatenate([np.stack([radius * np.sin(turn), radius * np.cos(turn)], 1) for turn in turns])
    y, found = np.repeat(np.arange(3), 100), {}
    for hidden, steps in (((), 200), ((100,), 3000)):
        net = FullyConnectedNet(hidden, 2, 3, reg=1e-3, weight_scale=0.01, dtype=np.float64, rng=rng)
        loss, _ = net.loss(x, y)
        assert loss == pytest.approx(np.log(3), abs=0.01)
        for _ in range(steps):
            loss, gradients = net.loss(x, y)
            for name, gradient in gradients.items():
                net.params[name], _ = rules.sgd(net.params[name], gradient, {"learning_rate": 1.0})
        found[len(hidden)] = (float(loss), float((net.loss(x).argmax(1) == y).mean()))
    assert 0.74 < found[0][0] < 0.8
    assert 0.48 < found[0][1] < 0.56
    assert found[1][1] > 0.97


@check("notes.knn_equivalence")
def _(check: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    known, new = rng.standard_normal((30, 20)), rng.standard_normal((11, 20))
    for array in LIBRARIES.values():
        net = rules.KNearestNeighbor()
        net.train(array(known), array(np.arange(30) % 3))
        two = np.asarray(net.compute_distances_two_loops(array(new)))
        np.testing.assert_allclose(two, torch.cdist(torch.from_numpy(new), torch.from_numpy(known)), rtol=1e-10)
        for other in (net.compute_distances_one_loop(array(new)), net.compute_distances_no_loops(array(new))):
            agree(np.linalg.norm(np.asarray(other) - two), check["expected"]["frobenius_diff"], check)
