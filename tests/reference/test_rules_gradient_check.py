"""The checker finds what is wrong, and only that: kinks, degenerate upstreams and early networks are told apart."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from engram import rules
from engram.errors import UserError
from engram.rules import gradient_check
from engram.rules.gradient_check import DegenerateGradient, check_loss, check_pair

LIBRARIES: dict[str, Callable[[Any], Any]] = {
    "numpy": np.array,
    "torch": lambda values: torch.tensor(values, dtype=torch.float64),
}


@pytest.fixture(params=list(LIBRARIES))
def array(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return LIBRARIES[request.param]


def drawn(*shapes: tuple[int, ...], seed: int = 231) -> list[np.ndarray]:
    rng = np.random.RandomState(seed)
    return [rng.randn(*shape) for shape in shapes]


# The course's own checks: inputs in the order in which it draws them, and the band it publishes for each.
COURSE = {
    "affine": ([(10, 2, 3), (6, 5), (5,)], {}, 1e-9),
    "relu": ([(10, 10)], {}, 1e-11),
    "affine_relu": ([(2, 3, 4), (12, 10), (10,)], {}, 1e-9),
    "conv": ([(4, 3, 5, 5), (2, 3, 3, 3), (2,)], {"conv_param": {"stride": 1, "pad": 1}}, 1e-7),
    "max_pool": ([(3, 2, 8, 8)], {"pool_param": {"pool_height": 2, "pool_width": 2, "stride": 2}}, 1e-11),
    "conv_relu": ([(2, 3, 8, 8), (3, 3, 3, 3), (3,)], {"conv_param": {"stride": 1, "pad": 1}}, 1e-7),
    "batchnorm": ([(4, 5), (5,), (5,)], {"bn_param": {"mode": "train"}}, 1e-8),
    "layernorm": ([(4, 5), (5,), (5,)], {"ln_param": {}}, 1e-8),
    "spatial_batchnorm": ([(2, 3, 4, 5), (3,), (3,)], {"bn_param": {"mode": "train"}}, 1e-6),
    "spatial_groupnorm": ([(2, 6, 4, 5), (1, 6, 1, 1), (1, 6, 1, 1)], {"G": 2, "gn_param": {}}, 1e-7),
    "leaky_relu": ([(10, 10)], {}, 1e-10),
    "dropout": ([(10, 10)], {"dropout_param": {"mode": "train", "p": 0.2, "seed": 123}}, 1e-9),
}


@pytest.mark.parametrize("name", COURSE)
def test_the_courses_bands(name: str, array: Callable[[Any], Any]) -> None:
    shapes, settings, band = COURSE[name]
    forward, backward = (getattr(rules, f"{name}_{way}") for way in ("forward", "backward"))
    fresh = lambda: {key: dict(value) if isinstance(value, dict) else value for key, value in settings.items()}  # noqa: E731
    shape = forward(*drawn(*shapes), **fresh())[0].shape
    *values, upstream = drawn(*shapes, shape)
    if "norm" in name:
        values[0] = 5 * values[0] + 12
    if name == "dropout":
        values[0] = values[0] + 10
    inputs = {f"input {index}": array(value) for index, value in enumerate(values)}
    upstream = array(upstream)
    report = check_pair(forward, backward, inputs, upstream, settings=fresh)
    assert report.error < band, str(report)
    assert not any(one.kinks for one in report.inputs.values()), str(report)
    for value, kept in zip(values, inputs.values(), strict=True):
        np.testing.assert_array_equal(kept, value)
    # the same through the course's own functions
    given = list(inputs.values())
    _, cache = forward(*given, **fresh())
    found = backward(upstream, cache)
    for x, gradient in zip(given, found if isinstance(found, tuple) else (found,), strict=False):
        numerical = rules.eval_numerical_gradient_array(lambda _: forward(*given, **fresh())[0], x, upstream)
        assert rules.rel_error(gradient, numerical) < band


@pytest.mark.parametrize("name", ["affine", "conv", "max_pool", "batchnorm", "layernorm", "relu", "dropout"])
def test_a_wrong_rule_is_found(name: str, array: Callable[[Any], Any]) -> None:
    shapes, settings, _ = COURSE[name]
    inputs = {f"input {index}": array(value) for index, value in enumerate(drawn(*shapes))}
    forward, backward = (getattr(rules, f"{name}_{way}") for way in ("forward", "backward"))
    fresh = lambda: {key: dict(value) if isinstance(value, dict) else value for key, value in settings.items()}  # noqa: E731

    def wrong(dout: Any, cache: Any) -> tuple[Any, ...]:
        found = backward(dout, cache)
        first, *rest = found if isinstance(found, tuple) else (found,)
        index = (0,) * first.ndim
        first[index] = first[index] * 1.001 + 0.001
        return (first, *rest)

    report = check_pair(forward, wrong, inputs, settings=fresh)
    assert report.error > 1e-4
    assert report.inputs["input 0"].worst == (0,) * inputs["input 0"].ndim
    assert all(one.error < 1e-6 for name, one in report.inputs.items() if name != "input 0")


@pytest.mark.parametrize("distance", [0.0, 0.1, 0.2, 1 / 3, 0.4, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("side", [1, -1])
def test_a_kink_within_the_step_is_reported(distance: float, side: int, array: Callable[[Any], Any]) -> None:
    h = 1e-5
    x = array([[side * distance * h, 3.0, -2.0]])
    report = check_pair(rules.relu_forward, rules.relu_backward, {"x": x}, h=h)
    assert report.inputs["x"].kinks == [(0, 0)]
    assert report.error < 1e-10
    assert "1 of 3 left out at kinks" in str(report)


@pytest.mark.parametrize("distance", [1.01, 1.5, 3, 10, 1e3])
@pytest.mark.parametrize("side", [1, -1])
def test_a_kink_beyond_the_step_does_no_harm(distance: float, side: int) -> None:
    x = np.array([[side * distance * 1e-5, 3.0, -2.0]])
    report = check_pair(rules.relu_forward, rules.relu_backward, {"x": x})
    assert report.inputs["x"].kinks == []
    assert report.error < 1e-9


def test_two_maxima_that_change_over() -> None:
    x = np.array([[[1.0, 1.0 + 4e-6, 0.0, 5.0]]])
    report = check_pair(
        rules.max_pool_forward, rules.max_pool_backward, {"x": x}, settings=lambda: {"pool_param": {"kernel": 2}}
    )
    assert report.inputs["x"].kinks == [(0, 0, 0), (0, 0, 1)]
    assert report.error < 1e-9


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_smooth_bends_are_no_kinks(scale: float, array: Callable[[Any], Any]) -> None:
    x = array(drawn((4, 6))[0] * scale)
    for name in ("tanh", "sigmoid", "gelu", "swish", "scaled_tanh", "log_sigmoid"):
        forward, backward = (getattr(rules, f"{name}_{way}") for way in ("forward", "backward"))
        report = check_pair(forward, backward, {"x": x})
        assert report.inputs["x"].kinks == [], name
    report = check_pair(lambda x: (x**3, x), lambda dout, x: 3 * x**2 * dout, {"x": x})
    assert report.inputs["x"].kinks == []
    assert scale < 1 or report.inputs["x"].error < 1e-6  # slopes of 1e-8 are below what a step of 1e-5 can see


def test_an_upstream_of_ones_is_degenerate_for_batch_norm(array: Callable[[Any], Any]) -> None:
    x, gamma, beta = (array(one) for one in drawn((6, 3), (3,), (3,)))
    inputs = {"x": x, "gamma": gamma, "beta": beta}
    train = lambda: {"bn_param": {"mode": "train"}}  # noqa: E731
    with pytest.warns(DegenerateGradient, match="of gamma is 0"), pytest.warns(DegenerateGradient, match="of x is 0"):
        report = check_pair(
            rules.batchnorm_forward, rules.batchnorm_backward, inputs, array(np.ones((6, 3))), settings=train
        )
    assert report.inputs["x"].degenerate
    assert report.inputs["x"].vanishing == 18
    assert not report.inputs["beta"].degenerate
    assert "degenerate" in str(report)


def test_a_gradient_that_vanishes_for_every_upstream_is_no_error() -> None:
    """The bias in front of batch normalisation."""
    x, w, b, gamma, beta = drawn((6, 4), (4, 3), (3,), (3,), (3,))
    inputs = {"x": x, "w": w, "b": b, "gamma": gamma, "beta": beta}
    settings = lambda: {"bn_param": {"mode": "train"}}  # noqa: E731
    report = check_pair(rules.affine_bn_relu_forward, rules.affine_bn_relu_backward, inputs, settings=settings)
    assert report.inputs["b"].vanishing == 3
    assert report.error < 1e-7


def test_a_missing_gradient_is_an_error() -> None:
    report = check_pair(lambda x: (2 * x, x), lambda dout, x: dout * 0, {"x": np.array([1.0, 2.0])})
    assert report.error == 1
    report = check_pair(lambda x: (2 * x, x), lambda dout, x: dout * np.nan, {"x": np.array([1.0, 2.0])})
    assert not report.error < 1e-3


def test_what_gives_back_its_input_is_checked_too() -> None:
    assert check_pair(lambda x: (x, None), lambda dout, _: dout, {"x": np.array([1.0, 2.0])}).error < 1e-9


def test_coarse_numbers_and_wrong_shapes_are_refused() -> None:
    with pytest.raises(UserError, match="x is float32"):
        check_pair(rules.relu_forward, rules.relu_backward, {"x": np.ones(2, dtype=np.float32)})
    with pytest.raises(UserError, match=r"w is torch\.float32"):
        check_loss(lambda: (0.0, {}), {"w": torch.ones(2)})
    with pytest.raises(UserError, match=r"a gradient \(1, 2\) for an input \(2,\)"):
        check_pair(rules.relu_forward, lambda dout, x: dout[None], {"x": np.ones(2)})


def valley(w: Any) -> Callable[[], tuple[Any, dict[str, Any]]]:
    return lambda: (((w - 1) ** 2).sum() + (w**4).sum() / 10, {"w": 2 * (w - 1) + 0.4 * w**3})


def test_burn_in_walks_before_it_checks(array: Callable[[Any], Any]) -> None:
    w = array([3.0, -2.0])
    assert check_loss(valley(w), {"w": w}).error < 1e-9
    assert w.tolist() == [3.0, -2.0]
    assert check_loss(valley(w), {"w": w}, burn_in=2, learning_rate=0.05).error < 1e-9
    expected = np.array([3.0, -2.0])
    for _ in range(2):
        expected -= 0.05 * valley(expected)()[1]["w"]
    np.testing.assert_allclose(w, expected, rtol=1e-12)
    with pytest.raises(UserError, match="after 1 steps the loss is"):
        check_loss(valley(w), {"w": w}, burn_in=1, learning_rate=10.0)


def test_burn_in_leaves_the_kinks_of_the_start() -> None:
    """All biases begin at zero and an input is zero, so every unit begins on its kink; a step later none is."""
    x, y = np.zeros((1, 2)), np.array([0])
    w, b = drawn((2, 4))[0], np.zeros(4)
    parameters = {"w": w, "b": b}

    def loss() -> tuple[Any, dict[str, Any]]:
        out, cache = rules.affine_forward(x, w, b)
        active, active_cache = rules.leaky_relu_forward(out)
        value, dout = rules.softmax_loss(active, y)
        _, dw, db = rules.affine_backward(rules.leaky_relu_backward(dout, active_cache), cache)
        return value, {"w": dw, "b": db}

    assert len(check_loss(loss, parameters).inputs["b"].kinks) == 4
    report = check_loss(loss, parameters, burn_in=1, learning_rate=1.0)
    assert report.inputs["b"].kinks == []
    assert report.error < 1e-7


def test_samples_look_at_some() -> None:
    w = drawn((30,))[0]
    calls = []

    def loss() -> tuple[Any, dict[str, Any]]:
        calls.append(0)
        return valley(w)()

    report = check_loss(loss, {"w": w}, samples=4, rng=np.random.default_rng(0))
    assert report.inputs["w"].count == 4
    assert len(calls) == 2 + 1 + 4 * 6


def test_an_exception_puts_the_input_back() -> None:
    x = np.array([1.0, 2.0])
    calls = []

    def breaks(_: Any) -> float:
        calls.append(0)
        if len(calls) == 3:
            raise RuntimeError
        return 0.0

    with pytest.raises(RuntimeError):
        rules.eval_numerical_gradient(breaks, x)
    assert x.tolist() == [1, 2]


def test_the_courses_names(array: Callable[[Any], Any], capsys: pytest.CaptureFixture[str]) -> None:
    x = array([[1.0, -2.0], [0.5, 3.0]])
    gradient = rules.eval_numerical_gradient(lambda x: (x**3).sum(), x, verbose=True)
    np.testing.assert_allclose(gradient, 3 * np.asarray(x) ** 2, rtol=1e-8)
    assert capsys.readouterr().out.count("\n") == 4
    upstream = array([[1.0, 2.0], [3.0, 4.0]])
    gradient = rules.eval_numerical_gradient_array(lambda x: x**2, x, upstream)
    np.testing.assert_allclose(gradient, 2 * np.asarray(x) * np.asarray(upstream), rtol=1e-8)
    np.testing.assert_allclose(rules.eval_numerical_gradient_array(lambda x: x, x, upstream), upstream, rtol=1e-9)
    errors = rules.grad_check_sparse(lambda x: (x**3).sum(), x, 3 * x**2, num_checks=7)
    assert len(errors) == capsys.readouterr().out.count("relative error") == 7
    assert max(errors) < 1e-8
    assert min(rules.grad_check_sparse(lambda x: (x**3).sum(), x, 4 * x**2, num_checks=3)) > 0.1
    assert gradient_check.rel_error([1.0, 0.0], [3.0, 1e-12]) == 0.5
