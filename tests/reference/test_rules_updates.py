"""Update rules against torch's and SciPy's optimisers along the same gradients; decays against torch's schedules."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import Tensor

from engram import rules
from engram.errors import UserError

TOLERANCE = {"rtol": 1e-11, "atol": 1e-13}
SHAPE, STEPS = (4, 3), 25


def gradients() -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(SHAPE, generator=rng, dtype=torch.float64) * 10 ** (k % 3) for k in range(STEPS)]


def torch_path(build: Callable[..., torch.optim.Optimizer], **settings: Any) -> list[Tensor]:
    w = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(SHAPE).requires_grad_()
    optimizer, path = build([w], **settings), []
    for gradient in gradients():
        w.grad = gradient.clone()
        optimizer.step()
        path.append(w.detach().clone())
    return path


RULES: dict[str, tuple[Callable[..., Any], dict[str, Any], Callable[..., Any], dict[str, Any]]] = {
    "sgd": (rules.sgd, {"learning_rate": 0.1}, torch.optim.SGD, {"lr": 0.1}),
    "momentum": (
        rules.sgd_momentum,
        {"learning_rate": 0.1, "momentum": 0.8},
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.8},
    ),
    **{
        f"nesterov {form}": (
            rules.nesterov,
            {"learning_rate": 0.1, "momentum": 0.8, "form": form},
            torch.optim.SGD,
            {"lr": 0.1, "momentum": 0.8, "nesterov": True},
        )
        for form in ("rewritten", "torch")
    },
    "adagrad": (
        rules.adagrad,
        {"learning_rate": 0.1, "epsilon": 1e-3},
        torch.optim.Adagrad,
        {"lr": 0.1, "eps": 1e-3},
    ),
    "adadelta": (
        rules.adadelta,
        {"learning_rate": 0.5, "rho": 0.8, "epsilon": 1e-3},
        torch.optim.Adadelta,
        {"lr": 0.5, "rho": 0.8, "eps": 1e-3},
    ),
    "rmsprop": (
        rules.rmsprop,
        {"learning_rate": 0.1, "decay_rate": 0.8, "epsilon": 1e-3},
        torch.optim.RMSprop,
        {"lr": 0.1, "alpha": 0.8, "eps": 1e-3},
    ),
    "rmsprop centred with momentum": (
        rules.rmsprop,
        {"decay_rate": 0.8, "epsilon": 1e-3, "centered": True, "momentum": 0.7},
        torch.optim.RMSprop,
        {"lr": 1e-2, "alpha": 0.8, "eps": 1e-3, "centered": True, "momentum": 0.7},
    ),
    "adam": (
        rules.adam,
        {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3},
        torch.optim.Adam,
        {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3},
    ),
    "adamw": (
        rules.adamw,
        {"learning_rate": 0.1, "weight_decay": 0.3},
        torch.optim.AdamW,
        {"lr": 0.1, "weight_decay": 0.3},
    ),
    "adamw by default": (rules.adamw, {}, torch.optim.AdamW, {"lr": 1e-3}),
    "adam by default": (rules.adam, {}, torch.optim.Adam, {"lr": 1e-3}),
    "rmsprop by default": (rules.rmsprop, {}, torch.optim.RMSprop, {"lr": 1e-2}),
    "momentum by default": (rules.sgd_momentum, {}, torch.optim.SGD, {"lr": 1e-2, "momentum": 0.9}),
    "adagrad by default": (rules.adagrad, {}, torch.optim.Adagrad, {"lr": 1e-2, "eps": 1e-7}),
    "adadelta by default": (rules.adadelta, {}, torch.optim.Adadelta, {"lr": 1.0, "rho": 0.95, "eps": 1e-6}),
}


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("name", RULES)
def test_the_path_is_torchs(name: str, library: str) -> None:
    rule, given, build, theirs = RULES[name]
    expected, config = torch_path(build, **theirs), dict(given)
    w: Any = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(SHAPE)
    w = w.numpy() if library == "numpy" else w
    for step, gradient in enumerate(gradients()):
        before, dw = w * 1, gradient.numpy() if library == "numpy" else gradient
        same, config = rule(w, dw, config)
        assert np.array_equal(w, before)  # a new array: the old weights stay
        assert isinstance(same, type(w))
        w = same
        np.testing.assert_allclose(w, expected[step], **TOLERANCE)


@pytest.mark.parametrize("name", RULES)
def test_state_goes_into_the_config_that_was_given_and_precision_stays(name: str) -> None:
    rule, given, _, _ = RULES[name]
    config = dict(given)
    w, returned = rule(np.ones(3, dtype=np.float32), np.ones(3, dtype=np.float32), config)
    assert w.dtype == np.float32
    assert returned is config
    assert rule(w, w)[1] is not rule(w, w)[1]


def test_nesterov_as_published_is_the_rewritten_form_ahead_of_itself() -> None:
    bowl = np.array([1.0, 30.0])
    published, rewritten = np.array([1.0, 1.0]), np.array([1.0, 1.0])
    config: dict[str, Any] = {"learning_rate": 0.02, "form": "look_ahead"}
    other: dict[str, Any] = {"learning_rate": 0.02}
    for _ in range(20):
        published, config = rules.nesterov(published, bowl * rules.look_ahead(published, config), config)
        rewritten, other = rules.nesterov(rewritten, bowl * rewritten, other)
        np.testing.assert_allclose(rules.look_ahead(published, config), rewritten, rtol=1e-12)
    assert not np.allclose(published, rewritten)


def test_momentum_with_a_rate_that_changes_is_not_torchs() -> None:
    """The course's velocity remembers the rates it was built with, torch's does not."""
    w, v = 1.0, {"learning_rate": 0.1}
    for rate in (0.1, 0.01):
        v["learning_rate"] = rate
        moved, v = rules.sgd_momentum(np.array([w]), np.array([1.0]), v)
        w = moved.item()
    assert w == pytest.approx(1 - 0.1 - (0.9 * 0.1 + 0.01))  # torch: 1 - 0.1 - 0.01 * 1.9


def test_steps_of_adam_without_its_correction() -> None:
    """For a constant gradient: 3.16 rates at first, 6.57 at the twelfth, and 1.0 and 2.13 with a beta2 of 0.99."""
    for beta2, first, most, when in ((0.999, 3.16, 6.57, 12), (0.99, 1.0, 2.13, 13)):
        w, config = np.zeros(1), {"learning_rate": 1.0, "beta2": beta2, "bias_correction": False, "epsilon": 0.0}
        sizes = []
        for _ in range(40):
            moved, config = rules.adam(w, np.ones(1), config)
            sizes.append((w - moved).item())
            w = moved
        assert sizes[0] == pytest.approx(first, abs=0.005)
        assert (max(sizes), 1 + int(np.argmax(sizes))) == (pytest.approx(most, abs=0.005), when)
    w, config = np.zeros(1), {"learning_rate": 1.0, "epsilon": 0.0}
    assert rules.adam(w, np.ones(1), config)[0].item() == pytest.approx(-1)


def test_adagrad_falls_as_one_over_root_t() -> None:
    w, config = np.zeros(1), {"learning_rate": 1.0, "epsilon": 0.0}
    for t in range(1, 1001):
        moved, config = rules.adagrad(w, np.full(1, 3.0), config)
        if t in (1, 10, 100, 1000):
            assert (w - moved).item() == pytest.approx(t**-0.5)
        w = moved


# -- curvature

CURVATURE = np.diag([1.0, 3.0, 10.0, 30.0, 100.0]) + 0.5 * np.ones((5, 5))
LIBRARIES = {"numpy": np.asarray, "torch": torch.from_numpy}


@pytest.mark.parametrize("library", LIBRARIES)
def test_newton_is_done_with_a_quadratic_in_one_step(library: str) -> None:
    array = LIBRARIES[library]
    w, goal, H = array(np.arange(6.0).reshape(2, 3)), array(np.ones((2, 3))), np.eye(6) + np.ones((6, 6))
    g = (array(H) @ (w - goal).reshape(-1)).reshape(2, 3)
    np.testing.assert_allclose(rules.newton(w, g, {"hessian": array(H)})[0], goal, rtol=1e-12)
    damped, config = rules.newton(w, g, {"hessian": array(H), "damping": 2.0, "learning_rate": 0.5})
    step = np.linalg.inv(H + 2 * np.eye(6)) @ np.asarray(g).reshape(-1)
    np.testing.assert_allclose(damped, np.asarray(w) - 0.5 * step.reshape(2, 3), rtol=1e-12)
    np.testing.assert_allclose(config["direction"], -step.reshape(2, 3), rtol=1e-12)


def test_newton_doubles_the_right_digits() -> None:
    w, config, errors = np.array([2.0]), {}, []
    for _ in range(5):  # the minimum of e^w - w is at 0
        config["hessian"] = np.exp(w)[:, None]
        w, config = rules.newton(w, np.exp(w) - 1, config)
        errors.append(abs(w.item()))
    orders = [np.log(b) / np.log(a) for a, b in pairwise(errors[2:]) if b > 1e-12]
    assert orders
    assert min(orders) > 1.8


@pytest.mark.parametrize("library", LIBRARIES)
def test_bfgs_with_exact_searches_ends_in_as_many_steps_as_weights(library: str) -> None:
    array = LIBRARIES[library]
    H, w = array(CURVATURE), array(np.array([1.0, -2.0, 3.0, -1.0, 2.0]))
    config: Any = None
    for step in range(6):
        if step == 5:
            assert float(abs(H @ w).max()) < 1e-9
        g = H @ w
        _, config = rules.bfgs(w, g, config)
        d = config["direction"]
        if step < 5:
            w = w + -(g @ d) / (d @ H @ d) * d
    np.testing.assert_allclose(config["inverse"], np.linalg.inv(CURVATURE), rtol=1e-6, atol=1e-8)


def test_bfgs_has_the_inverse_of_scipys() -> None:
    """Along SciPy's own path on Rosenbrock's valley the learned inverse is SciPy's."""
    path = [np.array([-1.2, 1.0, 0.5])]
    found = optimize.minimize(
        optimize.rosen,
        path[0],
        jac=optimize.rosen_der,
        method="BFGS",
        callback=lambda w: path.append(w.copy()),
        options={"maxiter": 12},
    )
    config: Any = {"scale_first": False}
    for w in path:
        _, config = rules.bfgs(w, optimize.rosen_der(w), config)
    np.testing.assert_allclose(config["inverse"], found.hess_inv, rtol=1e-8)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("history", [2, 10])
def test_lbfgs_walks_torchs_path(history: int, library: str) -> None:
    H = torch.from_numpy(CURVATURE)
    theirs = torch.tensor([[1.0, -2.0, 3.0, -1.0, 2.0]], dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.LBFGS([theirs], lr=0.5, max_iter=1, history_size=history, tolerance_grad=0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = 0.5 * (theirs @ H @ theirs.T).sum() + (theirs**4).sum()
        loss.backward()
        return loss

    w: Any = LIBRARIES[library](theirs.detach().clone().numpy())
    config: Any = {"learning_rate": 0.5, "history_size": history}
    for _ in range(15):
        optimizer.step(closure)
        w, config = rules.lbfgs(w, w @ LIBRARIES[library](CURVATURE) + 4 * w**3, config)
        np.testing.assert_allclose(w, theirs.detach(), rtol=1e-9, atol=1e-12)
    assert len(config["pairs"]) == min(history, 14)


@pytest.mark.parametrize("rule", [rules.bfgs, rules.lbfgs])
def test_a_pair_that_bends_down_is_left_out(rule: Callable[..., Any]) -> None:
    w, config = np.array([0.1, 0.2]), {}
    for _ in range(5):  # a hill: the gradient grows along the way down
        w, config = rule(w, -w, config)
    assert config.get("inverse") is None
    assert not config.get("pairs")
    assert rule(np.zeros(2), np.zeros(2))[0].tolist() == [0, 0]


@pytest.mark.parametrize("rule", [rules.bfgs, rules.lbfgs])
def test_the_first_step_is_no_longer_than_the_rate(rule: Callable[..., Any]) -> None:
    """Nothing is known of the scale yet: a large gradient is cut to a sum of 1, a small one stays."""
    assert rule(np.zeros(2), np.array([3.0, -5.0]), {"learning_rate": 0.5})[0].tolist() == [-0.1875, 0.3125]
    assert rule(np.zeros(2), np.array([0.25, 0.0]), {"learning_rate": 0.5})[0].tolist() == [-0.125, 0]


# -- decays


def torch_rates(build: Callable[..., Any], count: int, **settings: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    schedule, rates = build(optimizer, **settings), []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


LR = torch.optim.lr_scheduler
DECAYS: dict[str, tuple[Callable[[int], float], Callable[..., Any], dict[str, Any]]] = {
    "step": (lambda t: rules.step_decay(0.4, t, 3), LR.StepLR, {"step_size": 3, "gamma": 0.5}),
    "step by ten": (lambda t: rules.step_decay(0.4, t, 4, 0.1), LR.StepLR, {"step_size": 4}),
    "exponential": (
        lambda t: rules.exponential_decay(0.4, t, 0.3),
        LR.ExponentialLR,
        {"gamma": float(np.exp(-0.3))},
    ),
    "inverse": (
        lambda t: rules.inverse_decay(0.4, t, 0.3),
        LR.LambdaLR,
        {"lr_lambda": lambda t: 1 / (1 + 0.3 * t)},
    ),
    "polynomial": (
        lambda t: rules.polynomial_decay(0.4, t, 9, 2.0),
        LR.PolynomialLR,
        {"total_iters": 9, "power": 2.0},
    ),
    "cosine": (lambda t: rules.cosine_decay(0.4, t, 12, 0.1), LR.CosineAnnealingLR, {"T_max": 12, "eta_min": 0.1}),
    "restarts": (
        lambda t: rules.cosine_restarts(0.4, t, 2, 2, 0.1),
        LR.CosineAnnealingWarmRestarts,
        {"T_0": 2, "T_mult": 2, "eta_min": 0.1},
    ),
    "warm-up": (
        lambda t: rules.warm_up(0.4, t, 5),
        LR.LinearLR,
        {"start_factor": 0.2, "total_iters": 4},
    ),
    "one cycle": (
        lambda t: rules.one_cycle(0.4, t, 4, 10),
        LR.LambdaLR,
        {"lr_lambda": lambda t: np.interp(t, [0, 4, 10], [0, 1, 0])},
    ),
}


@pytest.mark.parametrize("name", DECAYS)
def test_rates_are_torchs(name: str) -> None:
    ours, build, settings = DECAYS[name]
    np.testing.assert_allclose([ours(t) for t in range(13)], torch_rates(build, 13, **settings), rtol=1e-12, atol=1e-15)


def test_rates_stay_at_the_end_when_the_run_is_over() -> None:
    ends = [
        rules.polynomial_decay(1.0, 20, 10, end=0.25),
        rules.cosine_decay(1.0, 20, 10, end=0.25),
        rules.one_cycle(1.0, 20, 4, 10) + 0.25,
    ]
    assert ends == [0.25] * 3


ONE = np.ones(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rules.adam(ONE, ONE, {"learning_rat": 1}), "config 'learning_rat' is not known"),
        (lambda: rules.adamw(ONE, ONE, {"decay": 1}), "config 'decay' is not known"),
        (lambda: rules.sgd(ONE, ONE, {"learning_rate": -1.0}), r"learning_rate is -1\.0"),
        (lambda: rules.nesterov(ONE, ONE, {"form": "lookahead"}), "form 'lookahead' is not known"),
        (lambda: rules.newton(ONE, ONE), "newton needs a Hessian, and there is none"),
        (lambda: rules.newton(ONE, ONE, {"hessian": np.eye(3)}), r"one of \(3, 3\)"),
        (lambda: rules.lbfgs(ONE, ONE, {"history_size": 0}), "history_size is 0"),
        (lambda: rules.step_decay(1.0, 3, every=0), "every is 0"),
        (lambda: rules.cosine_decay(1.0, -1, total=5), "a rate of 1.0 at -1"),
        (lambda: rules.cosine_restarts(1.0, 5, first=2, longer=0.5), r"longer is 0\.5"),
        (lambda: rules.one_cycle(1.0, 5, peak=6, total=6), "a peak at 6 of 6"),
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
