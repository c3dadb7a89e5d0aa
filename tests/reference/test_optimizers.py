"""Every optimizer against its formula in float64, torch's plain loop, and numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from engram import optimizers
from engram.optimizers.muon import orthogonal

STEPS = 12


def gradients(shape=(3, 4), seed=0) -> list[np.ndarray]:
    """Gradients of very different sizes, so that a missing root or square shows."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) * 10.0 ** rng.integers(-2, 2, size=shape) for _ in range(STEPS)]


def path(name: str, settings: dict, start: np.ndarray, given: list[np.ndarray]) -> np.ndarray:
    """Where the optimizer takes `start` under the given gradients."""
    p = nn.Parameter(torch.tensor(start))
    optimizer = getattr(optimizers, name)([p], **settings)
    for g in given:
        p.grad = torch.tensor(g)
        optimizer.step()
    return p.detach().numpy()


# The rules as the papers print them, one weight at a time where they keep a state.


def by_hand_sgd(w, given, lr, decay):
    for g in given:
        w = w - lr * (g + decay * w)
    return w


def by_hand_momentum(w, given, lr, decay, rho):
    velocity = np.zeros_like(w)  # the course's form: the velocity holds the rate and points downhill
    for g in given:
        velocity = rho * velocity - lr * (g + decay * w)
        w = w + velocity
    return w


def by_hand_nesterov(w, given, lr, decay, rho):
    velocity = np.zeros_like(w)  # the rewritten form: w is the point looked at
    for g in given:
        before = velocity
        velocity = rho * velocity - lr * (g + decay * w)
        w = w - rho * before + (1 + rho) * velocity
    return w


def by_hand_adagrad(w, given, lr, decay, eps):
    total = np.zeros_like(w)
    for g in given:
        g = g + decay * w
        total = total + g**2
        w = w - lr * g / (np.sqrt(total) + eps)
    return w


def by_hand_rmsprop(w, given, lr, decay, gamma, eps, centered=False, rho=0.0):
    mean_square, mean, velocity = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for g in given:
        g = g + decay * w
        mean_square = gamma * mean_square + (1 - gamma) * g**2
        mean = gamma * mean + (1 - gamma) * g
        spread = mean_square - mean**2 if centered else mean_square
        velocity = rho * velocity + g / (np.sqrt(spread) + eps)
        w = w - lr * velocity
    return w


def by_hand_adam(w, given, lr, betas, eps, inside=0.0, apart=0.0, amsgrad=False):
    m, v, largest = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(given, start=1):
        g = g + inside * w
        w = w - lr * apart * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        largest = np.maximum(largest, v)
        used = largest if amsgrad else v
        w = w - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(used / (1 - betas[1] ** t)) + eps)
    return w


def by_hand_adadelta(w, given, lr, decay, rho, eps):
    squares, steps = np.zeros_like(w), np.zeros_like(w)
    for g in given:
        g = g + decay * w
        squares = rho * squares + (1 - rho) * g**2
        step = np.sqrt(steps + eps) / np.sqrt(squares + eps) * g
        steps = rho * steps + (1 - rho) * step**2
        w = w - lr * step
    return w


def by_hand_adamax(w, given, lr, decay, betas, eps):
    m, largest = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(given, start=1):
        g = g + decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        largest = np.maximum(betas[1] * largest, np.abs(g) + eps)
        w = w - lr / (1 - betas[0] ** t) * m / largest
    return w


def by_hand_nadam(w, given, lr, decay, betas, eps, psi):
    m, v, product = np.zeros_like(w), np.zeros_like(w), 1.0
    for t, g in enumerate(given, start=1):
        g = g + decay * w
        now, following = (betas[0] * (1 - 0.5 * 0.96 ** (time * psi)) for time in (t, t + 1))
        product = product * now
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        ahead = following * m / (1 - product * following) + (1 - now) * g / (1 - product)
        w = w - lr * ahead / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return w


FORMULAS = [
    (
        "adadelta",
        {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1},
        lambda w, g: by_hand_adadelta(w, g, 0.5, 0.1, 0.8, 1e-3),
    ),
    (
        "adamax",
        {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
        lambda w, g: by_hand_adamax(w, g, 0.05, 0.1, (0.8, 0.95), 1e-3),
    ),
    (
        "nadam",
        {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "momentum_decay": 0.3, "weight_decay": 0.1},
        lambda w, g: by_hand_nadam(w, g, 0.05, 0.1, (0.8, 0.95), 1e-3, 0.3),
    ),
    ("sgd", {"lr": 0.05, "weight_decay": 0.1}, lambda w, g: by_hand_sgd(w, g, 0.05, 0.1)),
    (
        "momentum",
        {"lr": 0.05, "momentum": 0.8, "weight_decay": 0.1},
        lambda w, g: by_hand_momentum(w, g, 0.05, 0.1, 0.8),
    ),
    (
        "nesterov",
        {"lr": 0.05, "momentum": 0.8, "weight_decay": 0.1},
        lambda w, g: by_hand_nesterov(w, g, 0.05, 0.1, 0.8),
    ),
    ("nesterov", {"lr": 0.05, "momentum": 0.0, "weight_decay": 0.1}, lambda w, g: by_hand_sgd(w, g, 0.05, 0.1)),
    (
        "adagrad",
        {"lr": 0.05, "eps": 1e-3, "weight_decay": 0.1},
        lambda w, g: by_hand_adagrad(w, g, 0.05, 0.1, 1e-3),
    ),
    (
        "rmsprop",
        {"lr": 0.05, "alpha": 0.7, "eps": 1e-3, "weight_decay": 0.1},
        lambda w, g: by_hand_rmsprop(w, g, 0.05, 0.1, 0.7, 1e-3),
    ),
    (
        "rmsprop",
        {"lr": 0.05, "alpha": 0.7, "eps": 1e-3, "centered": True, "momentum": 0.6},
        lambda w, g: by_hand_rmsprop(w, g, 0.05, 0.0, 0.7, 1e-3, centered=True, rho=0.6),
    ),
    (
        "adam",
        {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
        lambda w, g: by_hand_adam(w, g, 0.05, (0.8, 0.95), 1e-3, inside=0.1),
    ),
    (
        "adam",
        {"lr": 0.05, "betas": [0, 0.5], "eps": 1e-3, "amsgrad": True},
        lambda w, g: by_hand_adam(w, g, 0.05, (0.0, 0.5), 1e-3, amsgrad=True),
    ),
    (
        "adamw",
        {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
        lambda w, g: by_hand_adam(w, g, 0.05, (0.8, 0.95), 1e-3, apart=0.1),
    ),
    (
        "adamw",
        {"lr": 0.05, "betas": (0.0, 0.5), "eps": 1e-3, "amsgrad": True, "weight_decay": 0.0},
        lambda w, g: by_hand_adam(w, g, 0.05, (0.0, 0.5), 1e-3, amsgrad=True),
    ),
]


@pytest.mark.parametrize(("name", "settings", "by_hand"), FORMULAS, ids=lambda v: v if isinstance(v, str) else "")
def test_it_is_its_formula(name, settings, by_hand):
    start = np.linspace(-1.0, 1.0, 12).reshape(3, 4)
    expected = by_hand(start, gradients())
    assert np.abs(expected - start).max() > 0.01
    close = 1e-8 if name == "nadam" else 1e-12  # torch keeps NAdam's product of momenta in float32
    np.testing.assert_allclose(path(name, settings, start, gradients()), expected, rtol=0, atol=close)


DEFAULTS = [
    ("sgd", lambda p: torch.optim.SGD(p, lr=0.3, weight_decay=5e-4, foreach=False)),
    ("momentum", lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=5e-4, foreach=False)),
    ("nesterov", lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4, foreach=False)),
    ("adagrad", lambda p: torch.optim.Adagrad(p, lr=0.02, foreach=False)),
    ("rmsprop", lambda p: torch.optim.RMSprop(p, lr=0.002, foreach=False)),
    ("adam", lambda p: torch.optim.Adam(p, lr=0.003, foreach=False)),
    ("adamw", lambda p: torch.optim.AdamW(p, lr=0.003, weight_decay=0.05, foreach=False)),
    ("adadelta", lambda p: torch.optim.Adadelta(p, lr=3.0, foreach=False)),
    ("adamax", lambda p: torch.optim.Adamax(p, lr=0.01, foreach=False)),
    ("nadam", lambda p: torch.optim.NAdam(p, lr=0.003, foreach=False)),
    ("lbfgs", lambda p: torch.optim.LBFGS(p, history_size=10, line_search_fn="strong_wolfe")),
]


@pytest.mark.parametrize(("name", "theirs"), DEFAULTS, ids=lambda v: v if isinstance(v, str) else "")
def test_with_its_defaults_it_is_torch_s_plain_loop(name, theirs):
    rng = torch.Generator().manual_seed(3)
    x, y = torch.randn(32, 6, generator=rng).double(), torch.randint(0, 3, (32,), generator=rng)
    ends = []
    for make in (lambda net: optimizers.build(name, net, {"decay_all": True}), lambda net: theirs(net.parameters())):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        optimizer = make(net)

        def closure(net=net, optimizer=optimizer):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            return loss

        losses = [optimizer.step(closure).item() for _ in range(5)]
        ends.append((losses, [p.detach() for p in net.parameters()]))
    assert ends[0][0] == pytest.approx(ends[1][0], abs=1e-12)
    assert ends[0][0][-1] < ends[0][0][0] - 0.005
    for ours, torch_s in zip(ends[0][1], ends[1][1], strict=True):
        torch.testing.assert_close(ours, torch_s, rtol=0, atol=1e-10)


# Numbers worked out by hand.


def walk(name, settings, loss, start, steps):
    w = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer = getattr(optimizers, name)([w], **settings)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(w).sum().backward()
        optimizer.step()
    return w.item()


def test_three_nesterov_steps_on_a_parabola():
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}
    assert walk("nesterov", settings, lambda w: w**2, 1.0, 3) == pytest.approx(-0.108352, abs=1e-12)


def test_nesterov_is_the_look_ahead_of_the_paper():
    velocity, position = 0.0, 1.0
    for _ in range(3):
        velocity = 0.9 * velocity - 0.1 * 2 * (position + 0.9 * velocity)
        position += velocity
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}
    assert walk("nesterov", settings, lambda w: w**2, 1.0, 3) == pytest.approx(position + 0.9 * velocity, abs=1e-12)


def test_the_course_s_momentum_example():
    """CS231n assignment 2, sgd_momentum: its velocity is minus the rate times torch's buffer."""
    w, g, velocity = (np.linspace(a, b, 20).reshape(4, 5) for a, b in ((-0.4, 0.6), (-0.6, 0.4), (0.6, 0.9)))
    p = nn.Parameter(torch.tensor(w))
    optimizer = optimizers.momentum([p], lr=1e-3, momentum=0.9, weight_decay=0.0)
    optimizer.state[p]["momentum_buffer"] = torch.tensor(velocity / -1e-3)
    p.grad = torch.tensor(g)
    optimizer.step()
    next_w, next_velocity = p.detach().numpy(), -1e-3 * optimizer.state[p]["momentum_buffer"].numpy()
    assert next_w[[0, 1, 3], [0, 1, 4]] == pytest.approx([0.1406, 0.54133684, 1.4096], rel=2e-7)
    assert next_velocity[[0, 2, 3], [1, 3, 4]] == pytest.approx([0.55475789, 0.72465263, 0.8096], rel=2e-7)


@pytest.mark.parametrize(("momentum", "end"), [(0.0, 2.555), (0.5, 2.555), (0.9, 0.003)])
def test_momentum_carries_over_a_bump_where_less_of_it_stops(momentum, end):
    """A deep well near 0, a shallow one near 2.6 and a bump between them; the ball starts at 6, at rest."""
    settings = {"lr": 0.05, "momentum": momentum, "weight_decay": 0.0}
    found = walk("momentum", settings, lambda w: 0.1 * w**2 - 0.7 * torch.exp(-((w - 3) ** 2)), 6.0, 500)
    assert found == pytest.approx(end, abs=2e-3)


def test_adagrad_s_step_falls_as_one_over_the_root_of_time():
    steps = []
    w = nn.Parameter(torch.tensor([0.0], dtype=torch.float64))
    optimizer = optimizers.adagrad([w], lr=1.0)
    for _ in range(1000):
        before = w.item()
        w.grad = torch.tensor([7.0], dtype=torch.float64)
        optimizer.step()
        steps.append(before - w.item())
    assert [steps[t - 1] for t in (1, 10, 100, 1000)] == pytest.approx([1, 0.31623, 0.1, 0.031623], rel=1e-4)


def test_adam_s_first_step_is_the_rate_whatever_the_gradient():
    for slope in (1e-3, 1.0, 1e3):
        assert walk("adam", {"lr": 0.02}, lambda w, a=slope: a * w, 1.0, 1) == pytest.approx(0.98, abs=1e-6)


@pytest.mark.parametrize(("curvature", "without", "with_it"), [(10, 39, 17), (100, 444, 69)])
def test_momentum_needs_fewer_steps_where_the_loss_is_ill_conditioned(curvature, without, with_it):
    """From (1, 1) to a loss of 1e-6 with curvatures 1 and `curvature`, each method at its best settings."""
    root = math.sqrt(curvature)
    best = {"lr": (2 / (1 + root)) ** 2, "momentum": ((root - 1) / (root + 1)) ** 2}
    assert steps_down(optimizers.sgd, curvature, lr=2 / (1 + curvature)) == without
    assert steps_down(optimizers.momentum, curvature, **best) == with_it


def steps_down(build, curvature, **settings) -> int:
    w = nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = build([w], weight_decay=0.0, **settings)
    scale, steps = torch.tensor([1.0, float(curvature)]), 0
    while 0.5 * (scale * w.detach() ** 2).sum() >= 1e-6:
        w.grad = scale * w.detach()
        optimizer.step()
        steps += 1
    return steps


# L-BFGS.


def test_lbfgs_takes_the_directions_of_dense_bfgs():
    """Its two loops against the matrix they stand for, on a quadratic, with steps of a given length."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 5))
    curvature, offset, lr = root @ root.T + np.eye(5), rng.normal(size=5), 0.1
    w, pairs, g = np.zeros(5), [], -offset
    for iteration in range(6):
        inverse = np.eye(5)
        if pairs:
            s, y = pairs[-1]
            inverse *= (s @ y) / (y @ y)
        for s, y in pairs:
            rho = 1 / (y @ s)
            left = np.eye(5) - rho * np.outer(s, y)
            inverse = left @ inverse @ left.T + rho * np.outer(s, s)
        length = lr * min(1.0, 1 / np.abs(g).sum()) if iteration == 0 else lr
        s = -length * inverse @ g
        w = w + s
        new = curvature @ w - offset
        pairs.append((s, new - g))
        g = new

    p = nn.Parameter(torch.zeros(5, dtype=torch.float64))
    optimizer = optimizers.lbfgs([p], lr=lr, max_iter=6, line_search=False)
    a, b = torch.tensor(curvature), torch.tensor(offset)

    def closure():
        optimizer.zero_grad()
        loss = 0.5 * p @ a @ p - b @ p
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose(p.detach().numpy(), w, rtol=0, atol=1e-10)


@pytest.mark.parametrize("decay_all", [False, True])
def test_lbfgs_solves_ridge_regression(decay_all):
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 3, generator=rng).double(), torch.randn(40, 1, generator=rng).double()
    net = nn.Linear(3, 1).double()
    optimizer = optimizers.build("lbfgs", net, {"weight_decay": 0.5, "decay_all": decay_all})
    before = ((net(x) - y) ** 2).mean().item()

    def closure():
        optimizer.zero_grad()
        loss = ((net(x) - y) ** 2).mean()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == pytest.approx(before)  # the data's loss before the step
    optimizer.step(closure)
    design = torch.cat([x, torch.ones(40, 1).double()], dim=1)
    ridge = 0.5 * torch.diag(torch.tensor([1.0, 1.0, 1.0, float(decay_all)]).double())
    solution = torch.linalg.solve(2 / 40 * design.T @ design + ridge, 2 / 40 * design.T @ y)
    found = torch.cat([net.weight.detach().flatten(), net.bias.detach()])
    torch.testing.assert_close(found, solution.flatten(), rtol=0, atol=1e-5)


def test_lbfgs_leaves_frozen_weights_alone():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    net[0].weight.requires_grad_(False)
    held = net[0].weight.clone()
    optimizer = optimizers.build("lbfgs", net, {"weight_decay": 0.5})

    def closure():
        optimizer.zero_grad()
        loss = net(torch.ones(2, 3)).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.equal(net[0].weight, held)


def test_lbfgs_beats_four_times_as_many_steps_of_adam():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(200, 8, generator=rng), torch.randint(0, 4, (200,), generator=rng)
    ends = {}
    for name, steps in (("lbfgs", 4), ("adam", 400)):  # 4 steps are at most 100 evaluations
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
        optimizer = optimizers.build(name, net)
        evaluations = 0

        def closure(net=net, optimizer=optimizer):
            nonlocal evaluations
            evaluations += 1
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            return loss

        for _ in range(steps):
            optimizer.step(closure)
        ends[name] = (F.cross_entropy(net(x), y).item(), evaluations)
    assert ends["lbfgs"][1] <= 110
    assert ends["lbfgs"][0] < ends["adam"][0] + 0.02


# The fused kernels walk memory: weights, gradients and state must lie in one order.

FUSED = ["sgd", "momentum", "nesterov", "adagrad", "adam", "adamw"]


def conv_path(name, *, alter=lambda p, optimizer, step: None, seed=0):
    """Three steps of a channels-last weight under contiguous gradients."""
    torch.manual_seed(seed)
    p = nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))
    optimizer = getattr(optimizers, name)([p])
    for step in range(3):
        alter(p, optimizer, step)
        p.grad = torch.randn(4, 3, 2, 2)
        optimizer.step()
    return p.detach()


@pytest.mark.parametrize("name", FUSED)
def test_a_gradient_in_another_memory_order_counts_the_same(name):
    def plain(p, optimizer, step):
        optimizer.param_groups[0].update(fused=False, foreach=False)

    torch.testing.assert_close(conv_path(name), conv_path(name, alter=plain))


@pytest.mark.parametrize("name", FUSED)
def test_a_state_in_another_memory_order_counts_the_same(name):
    def reload(p, optimizer, step):
        state = optimizer.state_dict()
        for held in state["state"].values():
            for key, value in held.items():
                held[key] = value.contiguous() if torch.is_tensor(value) else value
        optimizer.load_state_dict(state)

    torch.testing.assert_close(conv_path(name), conv_path(name, alter=reload), rtol=0, atol=0)


@pytest.mark.parametrize("name", FUSED)
def test_a_network_may_change_its_memory_order_on_the_way(name):
    def turn(p, optimizer, step):
        p.data = p.data.contiguous() if step % 2 else p.data.contiguous(memory_format=torch.channels_last)

    turned = conv_path(name, alter=turn)
    torch.testing.assert_close(conv_path(name), turned, rtol=0, atol=0)


@pytest.mark.parametrize("name", FUSED)
def test_a_matrix_with_a_transposed_gradient_counts_the_same(name):
    ends = []
    for turn in (torch.Tensor.contiguous, lambda g: g.t().contiguous().t()):
        p = nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))
        optimizer = getattr(optimizers, name)([p])
        p.grad = turn(torch.linspace(2, -1, 12).reshape(3, 4).square())
        optimizer.step()
        ends.append(p.detach())
    assert torch.equal(*ends)


@pytest.mark.parametrize("name", FUSED)
def test_a_weight_may_have_its_first_gradient_later_than_others(name):
    """As those of a block that was left out at random: it is as if it had been alone until then."""

    def ends(late, first):
        torch.manual_seed(1)
        weights = [nn.Parameter(torch.randn(3, 2)) for _ in range(2)]
        gradients = torch.randn(4, 2, 3, 2)
        optimizer = getattr(optimizers, name)(weights if late else weights[1:])
        for step in range(first, 4):
            weights[0].grad = gradients[step, 0].clone() if late else None
            weights[1].grad = gradients[step, 1].clone() if step >= 2 else None
            optimizer.step()
        return weights[1].detach()

    assert torch.equal(ends(late=True, first=0), ends(late=False, first=2))


def test_weights_with_gaps_in_memory_take_the_path_that_minds_strides():
    p = nn.Parameter(torch.randn(4, 6)[:, ::2])
    assert not optimizers.adam([p]).param_groups[0]["fused"]


# Muon.


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 3, 3, 3), (8, 2, 3)])
def test_muon_is_torch_s_up_to_bfloat16(shape):
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.flatten(1).clone())
    one = optimizers.muon([ours], lr=0.1, weight_decay=0.3)
    other = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.3, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        g = torch.randn(shape)
        ours.grad, theirs.grad = g, g.flatten(1)
        one.step()
        other.step()
    torch.testing.assert_close(ours.detach().flatten(1), theirs.detach(), rtol=0, atol=0.02)
    assert (ours.detach() - start).abs().mean() > 0.05


def test_muon_steps_as_far_in_every_direction():
    """The polynomial against the singular value decomposition it stands for."""
    u, _, v = torch.linalg.svd(torch.randn(6, 9, generator=torch.Generator().manual_seed(0)), full_matrices=False)
    matrix = u @ torch.diag(torch.logspace(0, -1.5, 6)) @ v
    for given, left, right in ((matrix, u, v), (matrix.T, v.T, u.T)):
        values = (left.T @ orthogonal(given) @ right.T).diagonal()
        assert ((values > 0.6) & (values < 1.25)).all()
        torch.testing.assert_close(left @ torch.diag(values) @ right, orthogonal(given), rtol=0, atol=1e-4)
    assert orthogonal(torch.zeros(2, 3)).abs().sum() == 0


def test_muon_takes_adamw_for_biases():
    start = np.linspace(-1.0, 1.0, 12)
    settings = {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1, "decay_all": True}
    expected = by_hand_adam(start, gradients((12,)), 0.05, (0.8, 0.95), 1e-3, apart=0.1)
    np.testing.assert_allclose(path("muon", settings, start, gradients((12,))), expected, rtol=0, atol=1e-12)


BAD = [
    ("muon", {"momentum": 1.0}, "from 0 up to 1"),
    ("muon", {"betas": 0.9}, "two numbers"),
    ("muon", {"eps": 0}, "more than 0"),
    ("adam", {"bias_correction": 1}, "true or false"),
    ("momentum", {"momentum": 1.5}, "from 0 up to 1"),
    ("nesterov", {"momentum": -0.1}, "from 0 up to 1"),
    ("rmsprop", {"alpha": 1.0}, "from 0 up to 1"),
    ("rmsprop", {"momentum": 1.0}, "from 0 up to 1"),
    ("rmsprop", {"centered": 1}, "true or false"),
    ("rmsprop", {"eps": 0}, "more than 0"),
    ("adagrad", {"eps": -1e-8}, "more than 0"),
    ("adam", {"betas": 0.9}, "two numbers"),
    ("adam", {"betas": (0.9, 1.0)}, "two numbers"),
    ("adam", {"betas": (0.9, 0.99, 0.999)}, "two numbers"),
    ("adam", {"eps": 0.0}, "more than 0"),
    ("adam", {"amsgrad": "yes"}, "true or false"),
    ("adamw", {"betas": ("a", "b")}, "two numbers"),
    ("adamw", {"eps": 0.0}, "more than 0"),
    ("adamw", {"amsgrad": 1}, "true or false"),
    ("adadelta", {"rho": 1.0}, "from 0 up to 1"),
    ("adadelta", {"eps": 0}, "more than 0"),
    ("adamax", {"betas": 0.9}, "two numbers"),
    ("adamax", {"eps": 0}, "more than 0"),
    ("nadam", {"momentum_decay": -1}, "0 or more"),
    ("nadam", {"betas": 0.9}, "two numbers"),
    ("newton", {"damping": -1}, "0 or more"),
    ("newton", {"largest": 0}, "a whole number"),
    ("hessian_free", {"damping": "x"}, "0 or more"),
    ("hessian_free", {"tolerance": 0}, "between 0 and 1"),
    ("hessian_free", {"max_iter": 0}, "a whole number"),
    ("bfgs", {"lr": 0}, "more than 0"),
    ("bfgs", {"flatness": 1}, "between 0 and 1"),
    ("bfgs", {"max_iter": 0.5}, "a whole number"),
    ("bfgs", {"largest": 0}, "a whole number"),
    ("nesterov_lookahead", {"momentum": 1}, "from 0 up to 1"),
    ("lbfgs", {"lr": 0}, "more than 0"),
    ("lbfgs", {"max_iter": 0}, "a whole number, 1 or more"),
    ("lbfgs", {"max_iter": 2.5}, "a whole number, 1 or more"),
    ("lbfgs", {"history_size": 0}, "a whole number, 1 or more"),
    ("lbfgs", {"line_search": "wolfe"}, "true or false"),
    *((name, {"decay_all": 1}, "true or false") for name in optimizers.registry.names("optimizer")),
]


@pytest.mark.parametrize(("name", "settings", "allowed"), BAD)
def test_a_value_out_of_range_is_refused_with_what_is_allowed(name, settings, allowed):
    with pytest.raises(optimizers.UserError) as caught:
        optimizers.build(name, nn.Linear(2, 2), settings)
    (setting,) = settings
    assert f"optimizer {name}: {setting} cannot be" in str(caught.value)
    assert allowed in str(caught.value)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("lbfgs", {"max_iter": 1, "history_size": 1}),
        ("adam", {"lr": 0, "betas": (0, 0), "weight_decay": 0}),
        ("rmsprop", {"alpha": 0, "momentum": 0}),
        ("sgd", {"lr": np.float32(0.1)}),
    ],
)
def test_the_limits_themselves_are_taken(name, settings):
    assert optimizers.build(name, nn.Linear(2, 2), settings)


def test_an_unknown_optimizer_is_refused_with_the_nearest():
    with pytest.raises(optimizers.UserError) as caught:
        optimizers.build("adamm", nn.Linear(2, 2))
    assert caught.value.nearest in ("adam", "adamw")


def test_the_factor_multiplies_the_rate_it_was_built_with():
    optimizer = optimizers.build("adamw", nn.Linear(2, 2), {"lr": 0.2})
    for factor in (0.5, 0.25, 1.0):
        assert optimizers.set_lr(optimizer, factor) == 0.2 * factor
        assert [group["lr"] for group in optimizer.param_groups] == [0.2 * factor] * 2
