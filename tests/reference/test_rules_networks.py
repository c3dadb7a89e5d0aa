"""The course's networks against its own numbers: fixed weights, seeded first losses, and gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from engram import rules
from engram.errors import UserError
from engram.rules import FullyConnectedNet, ThreeLayerConvNet, TwoLayerNet
from engram.rules.gradient_check import check_loss

ARRAYS: dict[str, Callable[[np.ndarray], Any]] = {"numpy": np.asarray, "torch": torch.from_numpy}


@pytest.fixture(params=list(ARRAYS))
def array(request: pytest.FixtureRequest) -> Callable[[np.ndarray], Any]:
    return ARRAYS[request.param]


def two_layers(array: Callable[[np.ndarray], Any], **settings: Any) -> tuple[TwoLayerNet, Any]:
    """The course's network of fixed weights, and its input."""
    net = TwoLayerNet(5, 50, 7, array=array, **settings)
    ends = {"W1": (-0.7, 0.3), "b1": (-0.1, 0.9), "W2": (-0.3, 0.4), "b2": (-0.9, 0.1)}
    for name, (low, high) in ends.items():
        shape = tuple(net.params[name].shape)
        net.params[name] = array(np.linspace(low, high, int(np.prod(shape))).reshape(shape))
    return net, array(np.ascontiguousarray(np.linspace(-5.5, 4.5, 15).reshape(5, 3).T))


SCORES = [
    [11.53165108, 12.2917344, 13.05181771, 13.81190102, 14.57198434, 15.33206765, 16.09215096],
    [12.05769098, 12.74614105, 13.43459113, 14.1230412, 14.81149128, 15.49994135, 16.18839143],
    [12.58373087, 13.20054771, 13.81736455, 14.43418138, 15.05099822, 15.66781506, 16.2846319],
]


def test_two_layers_with_fixed_weights(array: Callable[[np.ndarray], Any]) -> None:
    net, x = two_layers(array)
    y = array(np.array([0, 5, 1]))
    np.testing.assert_allclose(net.loss(x), SCORES, rtol=1e-8)
    assert float(net.loss(x, y)[0]) == pytest.approx(3.4702243556, abs=1e-10)
    assert float(two_layers(array, reg=1.0)[0].loss(x, y)[0]) == pytest.approx(26.5948426952, abs=1e-10)
    without_half = two_layers(array, reg=1.0, half=False)[0]
    assert float(without_half.loss(x, y)[0]) == pytest.approx(49.7194610349, abs=1e-10)
    for reg in (0.0, 0.7):
        net = two_layers(array, reg=reg)[0]
        report = check_loss(lambda net=net: net.loss(x, y), net.params, samples=100)
        assert report.error < 1e-6, str(report)
    report = check_loss(lambda: without_half.loss(x, y), without_half.params, samples=20)
    assert report.error < 1e-6, str(report)


def test_the_toy_network_of_the_first_assignment() -> None:
    net = TwoLayerNet(4, 10, 3, 0.1, reg=0.05, half=False, rng=np.random.RandomState(0))
    x, y = 10 * np.random.RandomState(1).randn(5, 4), np.array([0, 1, 2, 2, 1])
    expected = [
        [-0.81233741, -1.27654624, -0.70335995],
        [-0.17129677, -1.18803311, -0.47310444],
        [-0.51590475, -1.01354314, -0.8504215],
        [-0.15419291, -0.48629638, -0.52901952],
        [-0.00618733, -0.12435261, -0.15226949],
    ]
    np.testing.assert_allclose(net.loss(x), expected, atol=1e-8)
    assert float(net.loss(x, y)[0]) == pytest.approx(1.30378789133, abs=1e-10)


# What the course's own solution sees for W2 without a penalty is 2.2e-5: slopes so small that the difference is coarse.
# normalization, the first losses at reg 0 and 3.14, and how far gradients may be off
FIRST = {
    "plain": (None, (2.3004790897684924, 7.052114776533016), 3e-5),
    "batchnorm": ("batchnorm", (2.2611955101340957, 6.996533220108303), 2e-3),
    "layernorm": ("layernorm", None, 3e-5),
}


@pytest.mark.parametrize("kind", FIRST)
def test_fully_connected_first_losses_and_gradients(kind: str, array: Callable[[np.ndarray], Any]) -> None:
    normalization, losses, band = FIRST[kind]
    rng = np.random.RandomState(231)
    x, y = array(rng.randn(2, 15)), array(rng.randint(10, size=2))
    for index, reg in enumerate((0, 3.14)):
        net = FullyConnectedNet(
            [20, 30],
            15,
            10,
            normalization=normalization,
            reg=reg,
            weight_scale=5e-2,
            dtype=np.float64,
            rng=rng,
            array=array,
        )
        if losses:
            assert float(net.loss(x, y)[0]) == pytest.approx(losses[index], rel=1e-12)
        every = array is np.asarray and kind == "plain"
        report = check_loss(lambda net=net: net.loss(x, y), net.params, samples=None if every else 25)
        assert report.error < band, str(report)
        assert set(report.inputs) == set(net.loss(x, y)[1]) == set(net.params)


def test_dropout_draws_from_the_global_generator_as_the_courses_does(array: Callable[[np.ndarray], Any]) -> None:
    np.random.seed(231)  # noqa: NPY002  the course's own stream, seeded anew inside of dropout
    x, y = array(np.random.randn(2, 15)), array(np.random.randint(10, size=2))  # noqa: NPY002
    for keep, expected in ((1, 2.3004790897684924), (0.75, 2.302371489704412), (0.5, 2.30427592207859)):
        net = FullyConnectedNet([20, 30], 15, 10, keep, weight_scale=5e-2, dtype=np.float64, seed=123, array=array)
        assert float(net.loss(x, y)[0]) == pytest.approx(expected, rel=1e-12)
        report = check_loss(lambda net=net: net.loss(x, y), net.params, samples=60)
        assert report.error < 3e-5, str(report)


@pytest.mark.parametrize("kind", ["batchnorm", "layernorm"])
def test_scores_are_those_of_test_time(kind: str, array: Callable[[np.ndarray], Any]) -> None:
    rng = np.random.RandomState(0)
    net = FullyConnectedNet([8], 6, 3, 0.5, kind, weight_scale=0.5, dtype=np.float64, rng=rng, array=array)
    x, y = array(rng.randn(10, 6)), array(rng.randint(3, size=10))
    for _ in range(100):
        net.loss(x, y)
    scores = net.loss(x)
    np.testing.assert_array_equal(net.loss(x), scores)
    p = {name: torch.as_tensor(value) for name, value in net.params.items()}
    hidden = torch.as_tensor(x) @ p["W1"] + p["b1"]
    axis = 0 if kind == "batchnorm" else 1
    hidden = (hidden - hidden.mean(axis, keepdim=True)) / (hidden.var(axis, unbiased=False, keepdim=True) + 1e-5).sqrt()
    np.testing.assert_allclose(scores, hidden.relu() @ p["W2"] + p["b2"], atol=2e-3)


def test_three_layers_begin_at_log_ten(array: Callable[[np.ndarray], Any]) -> None:
    rng = np.random.RandomState(231)
    x, y = array(rng.randn(20, 3, 32, 32)), array(rng.randint(10, size=20))
    net = ThreeLayerConvNet(dtype=np.float64, rng=rng, array=array)
    assert float(net.loss(x, y)[0]) == pytest.approx(np.log(10), abs=2e-3)
    net.reg = 0.5
    assert float(net.loss(x, y)[0]) == pytest.approx(2.5085, abs=2e-3)
    assert tuple(net.loss(x).shape) == (20, 10)


def test_three_layers_gradients(array: Callable[[np.ndarray], Any]) -> None:
    rng = np.random.RandomState(231)
    x, y = array(rng.randn(2, 3, 16, 16)), array(rng.randint(10, size=2))
    net = ThreeLayerConvNet((3, 16, 16), 3, 3, 7, dtype=np.float64, rng=rng, array=array, reg=0.1)
    report = check_loss(lambda: net.loss(x, y), net.params, h=1e-6, samples=40)
    assert report.error < 1e-2, str(report)


def test_shapes_and_precision() -> None:
    net = FullyConnectedNet([4], 6, 3, rng=np.random.default_rng(0))
    assert {value.dtype for value in net.params.values()} == {np.dtype(np.float32)}
    assert net.loss(np.ones((2, 1, 2, 3))).dtype == np.float32
    net = TwoLayerNet(3, 4, 2)
    assert sum(value.size for value in net.params.values()) == 26


def test_a_spiral_is_learned_with_a_hidden_layer_and_not_without() -> None:
    """The course notes' case study, shortened: full batch, learning rate 1."""
    rng = np.random.default_rng(0)
    radius = np.linspace(0, 1, 100)
    turns = [np.linspace(4 * arm, 4 * (arm + 1), 100) + 0.2 * rng.standard_normal(100) for arm in range(3)]
    x = np.concatenate([np.stack([radius * np.sin(turn), radius * np.cos(turn)], 1) for turn in turns])
    y = np.repeat(np.arange(3), 100)
    found = {}
    for hidden, weight_scale in (([], 0.01), ([100], 0.1)):
        net = FullyConnectedNet(hidden, 2, 3, reg=1e-3, weight_scale=weight_scale, dtype=np.float64, rng=rng)
        assert float(net.loss(x, y)[0]) == pytest.approx(np.log(3), abs=0.05)
        for _ in range(200 if not hidden else 1500):
            _, gradients = net.loss(x, y)
            for name, gradient in gradients.items():
                net.params[name] = net.params[name] - gradient
        found[len(hidden)] = (net.loss(x).argmax(1) == y).mean()
    assert 0.45 < found[0] < 0.6
    assert found[1] > 0.95


def test_settings_that_cannot_be() -> None:
    with pytest.raises(UserError, match="normalization 'batchnom' is not known"):
        FullyConnectedNet([3], normalization="batchnom")
    with pytest.raises(UserError, match=r"dropout_keep_ratio is 1\.5"):
        FullyConnectedNet([3], dropout_keep_ratio=1.5)
    with pytest.raises(UserError, match="a filter of 4"):
        ThreeLayerConvNet(filter_size=4)
    assert rules.TwoLayerNet is TwoLayerNet
