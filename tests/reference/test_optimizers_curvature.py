"""Methods that use curvature, and what they multiply by, against closed forms, SciPy and the course's numbers."""

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.optimize
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from engram import curvature, models, optimizers, registry
from engram.errors import UserError
from engram.layers.max_pool import HalvingMaxPool
from engram.optimizers.hessian_free import conjugate_gradients
from engram.optimizers.line_search import Try, between, strong_wolfe

DOUBLE = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_net() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.BatchNorm1d(5), nn.Linear(5, 3)).double()
    x, y = torch.randn(20, 4, generator=generator(), dtype=DOUBLE), torch.randint(0, 3, (20,), generator=generator())
    return net, x, y


def closure_on(optimizer, loss_of):
    """The closure, and a list that grows by a loss each time it is called."""
    seen: list[float] = []

    def closure():
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        seen.append(loss.item())
        return loss

    return closure, seen


# Products, against torch's own Hessian and differences of gradients.


def exact_hessian(net, x, y):
    names = [name for name, _ in net.named_parameters()]
    shapes = [p.shape for p in net.parameters()]

    def loss_at(vector):
        parts = vector.split([math.prod(shape) for shape in shapes])
        values = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return F.cross_entropy(torch.func.functional_call(net, values, x), y)

    place = torch.cat([p.detach().flatten() for p in net.parameters()])
    return torch.autograd.functional.hessian(loss_at, place), torch.autograd.functional.jacobian(loss_at, place)


def test_the_hessian_is_torch_s():
    net, x, y = small_net()
    expected, slope = exact_hessian(net, x, y)
    for at_once in (1, 7, 64):
        g, found = curvature.hessian(F.cross_entropy(net(x), y), list(net.parameters()), at_once=at_once)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(g, slope, rtol=0, atol=1e-14)
    v = torch.randn(len(g), generator=generator(), dtype=DOUBLE)
    g, product = curvature.hessian_product(F.cross_entropy(net(x), y), net.parameters())
    torch.testing.assert_close(product(v), expected @ v, rtol=0, atol=1e-12)
    torch.testing.assert_close(product(2 * v), 2 * expected @ v, rtol=0, atol=1e-12)  # the graph is still there


def test_the_gauss_newton_matrix_is_its_formula():
    net, x, y = small_net()
    weights = list(net.parameters())
    outputs = net(x)
    rows = [
        curvature.gradient(outputs[b, k], weights, again=True).detach()
        for b in range(len(x))
        for k in range(outputs.shape[1])
    ]
    jacobian = torch.stack(rows)
    share = outputs.detach().softmax(1)
    inner = torch.block_diag(*(torch.diag(p) - torch.outer(p, p) for p in share)) / len(x)
    expected = jacobian.T @ inner @ jacobian
    outputs = net(x)
    g, product = curvature.gauss_newton_product(F.cross_entropy(outputs, y), outputs, weights)
    found = torch.stack([product(row) for row in torch.eye(len(g), dtype=DOUBLE)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(g, curvature.gradient(F.cross_entropy(net(x), y), weights), rtol=0, atol=1e-13)


def test_losses_without_curvature_have_none():
    w = torch.ones(3, requires_grad=True)
    g, product = curvature.hessian_product((2 * w).sum(), [w])
    assert g.tolist() == [2, 2, 2]
    assert product(torch.ones(3)).tolist() == [0, 0, 0]
    assert curvature.hessian((2 * w).sum(), [w])[1].abs().sum() == 0
    outputs = w**2
    assert curvature.gauss_newton_product(outputs.sum(), outputs, [w])[1](torch.ones(3)).tolist() == [0, 0, 0]


def test_an_operation_that_knows_one_gradient_at_a_time_is_given_one():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), HalvingMaxPool(2), nn.Flatten(), nn.Linear(8, 2))
    x = torch.randn(5, 1, 4, 4, generator=generator()).to(memory_format=torch.channels_last)
    net.to(memory_format=torch.channels_last)
    y = torch.randint(0, 2, (5,), generator=generator())
    _, full = curvature.hessian(F.cross_entropy(net(x), y), list(net.parameters()))
    net[2] = nn.MaxPool2d(2)
    _, expected = curvature.hessian(F.cross_entropy(net(x), y), list(net.parameters()))
    torch.testing.assert_close(full, expected, rtol=1e-4, atol=1e-6)


def test_lanczos_finds_the_extreme_curvatures():
    values = torch.logspace(-2, 2, 200, dtype=DOUBLE)
    q, _ = torch.linalg.qr(torch.randn(200, 200, generator=generator(), dtype=DOUBLE))
    matrix = q @ torch.diag(values) @ q.T
    start = torch.randn(200, generator=generator(1), dtype=DOUBLE)
    few = curvature.lanczos(lambda v: matrix @ v, start, 30)
    assert few[-1].item() == pytest.approx(100, rel=1e-3)
    assert few[0] > values[0]
    everything = curvature.lanczos(lambda v: matrix @ v, start, 500)
    torch.testing.assert_close(everything, values, rtol=1e-8, atol=1e-9)
    assert curvature.condition_number(lambda v: matrix @ v, start, 200) == pytest.approx(1e4, rel=1e-6)
    assert curvature.condition_number(lambda v: -v, start) == math.inf
    assert len(curvature.lanczos(lambda v: 3 * v, start, 10)) == 1  # nothing more to find


def test_the_condition_number_of_a_network_s_loss():
    net, x, y = small_net()
    exact, _ = exact_hessian(net, x, y)
    g, product = curvature.hessian_product(F.cross_entropy(net(x), y), net.parameters())
    found = curvature.lanczos(product, torch.randn(len(g), generator=generator(), dtype=DOUBLE), len(g))
    torch.testing.assert_close(found[[0, -1]], torch.linalg.eigvalsh(exact)[[0, -1]], rtol=1e-6, atol=1e-9)


def test_contours_of_a_turned_bowl():
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    loss = curvature.bowl([1.0, 9.0], rotation=turn)
    assert loss(turn[:, 1]).item() == pytest.approx(4.5)
    places, values = curvature.contours(loss, torch.zeros(2), turn[:, 0], turn[:, 1], reach=2.0, points=5)
    assert places.tolist() == [-2, -1, 0, 1, 2]
    torch.testing.assert_close(values, 0.5 * places**2 + 4.5 * places[:, None] ** 2)


def test_memory_is_the_course_s():
    assert curvature.matrix_bytes(61_706) == pytest.approx(15.2e9, rel=0.01)
    assert curvature.matrix_bytes(138_357_544) == pytest.approx(76.6e15, rel=0.01)


# The bowl: steps from (1, 1) to a loss of 1e-6 (course, N28).


@pytest.mark.parametrize(
    ("condition", "descent", "ball", "ahead"), [(10, 39, 17, 23), (100, 444, 69, 84), (1000, 5008, 257, 275)]
)
def test_steps_down_the_bowl(condition, descent, ball, ahead):
    root = math.sqrt(condition)
    rate, _ = curvature.best_rate(condition, 1)
    best = {"lr": (2 / (1 + root)) ** 2, "momentum": ((root - 1) / (root + 1)) ** 2}
    assert steps_down("sgd", condition, lr=rate) == descent
    assert steps_down("momentum", condition, **best) == ball
    standard = {"lr": 1 / condition, "momentum": (root - 1) / (root + 1)}
    assert steps_down("nesterov_lookahead", condition, **standard) == ahead
    for name in ("newton", "hessian_free"):
        more = {"damping": 0.0} if name == "hessian_free" else {}
        assert steps_down(name, condition, **more) == 1


def steps_down(name: str, condition: float, **settings) -> int:
    loss = curvature.bowl([1.0, condition])
    w = nn.Parameter(torch.ones(2, dtype=DOUBLE))
    optimizer, steps = getattr(optimizers, name)([w], weight_decay=0.0, **settings), 0
    while loss(w.detach()) >= 1e-6:
        if getattr(optimizer, "needs_loss", False):
            optimizer.step(lambda: loss(w))
        elif getattr(optimizer, "needs_closure", False):
            optimizer.step(closure_on(optimizer, lambda: loss(w))[0])
        else:
            w.grad = w.detach() * torch.tensor([1.0, condition], dtype=DOUBLE)
            optimizer.step()
        steps += 1
    return steps


# Newton.


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    data = load_digits()
    return torch.tensor(data.data / 16), torch.tensor(data.target)


def test_newton_on_softmax_regression_squares_the_error_every_step():
    """The course's run of 650 weights: six steps to a gradient of 6.7e-11."""
    x, y = digits()
    net = nn.Linear(64, 10).double()
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    optimizer = optimizers.build("newton", net, {"weight_decay": 2e-3, "decay_all": True})
    lengths = []
    for _ in range(6):
        optimizer.step(lambda: F.cross_entropy(net(x), y))
        g = curvature.gradient(optimizer.evaluate(lambda: F.cross_entropy(net(x), y)).objective, net.parameters())
        lengths.append(g.norm().item())
    assert lengths == pytest.approx([8.8e-2, 4.4e-2, 7.6e-3, 4.4e-4, 2.2e-6, 6.7e-11], rel=0.10)
    orders = [math.log(c / b) / math.log(b / a) for a, b, c in zip(lengths[1:], lengths[2:], lengths[3:], strict=False)]
    assert orders[-1] >= 1.8


@pytest.mark.parametrize("decay_all", [False, True])
@pytest.mark.parametrize("name", ["newton", "hessian_free", "bfgs"])
def test_it_returns_the_data_s_loss_and_goes_to_ridge_regression_s_solution(name, decay_all):
    x, y = (torch.randn(40, size, generator=generator(size), dtype=DOUBLE) for size in (3, 1))
    net = nn.Linear(3, 1).double()
    nn.init.normal_(net.weight, generator=generator())
    before = F.mse_loss(net(x), y).item()
    optimizer = optimizers.build(name, net, {"weight_decay": 0.5, "decay_all": decay_all})
    loss = lambda: F.mse_loss(net(x), y)  # noqa: E731
    step = loss if getattr(optimizer, "needs_loss", False) else closure_on(optimizer, loss)[0]
    assert optimizer.step(step).item() == pytest.approx(before)
    for _ in range(12):
        optimizer.step(step)
    design = torch.cat([x, torch.ones(40, 1, dtype=DOUBLE)], dim=1)
    ridge = 0.5 * torch.diag(torch.tensor([1.0, 1.0, 1.0, float(decay_all)], dtype=DOUBLE))
    solution = torch.linalg.solve(2 / 40 * design.T @ design + ridge, 2 / 40 * design.T @ y)
    found = torch.cat([net.weight.detach().flatten(), net.bias.detach()])
    torch.testing.assert_close(found, solution.flatten(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["newton", "hessian_free", "bfgs"])
def test_a_saddle_is_left_and_not_sought(name):
    """w₁² - w₂² + w₂⁴ / 4 has a saddle at 0, minima at w₂ = ±√2; plain Newton steps from near the saddle go to it."""
    w = nn.Parameter(torch.tensor([0.5, 0.1], dtype=DOUBLE))
    optimizer = getattr(optimizers, name)([w])

    def loss():
        return w[0] ** 2 - w[1] ** 2 + w[1] ** 4 / 4

    step = loss if getattr(optimizer, "needs_loss", False) else closure_on(optimizer, loss)[0]
    losses = [loss().item()]
    for _ in range(60):
        optimizer.step(step)
        losses.append(loss().item())
    assert all(b <= a + 1e-12 for a, b in pairwise(losses))
    assert w.detach().abs().tolist() == pytest.approx([0, math.sqrt(2)], abs=1e-3)


def test_damping_shortens_newton_s_step():
    w = nn.Parameter(torch.tensor([1.0, 1.0], dtype=DOUBLE))
    optimizers.newton([w], damping=3.0).step(lambda: curvature.bowl([1.0, 9.0])(w))
    assert w.tolist() == pytest.approx([1 - 1 / 4, 1 - 9 / 12])
    w = nn.Parameter(torch.tensor([1.0, 1.0], dtype=DOUBLE))
    optimizers.newton([w], lr=0.5).step(lambda: curvature.bowl([1.0, 9.0])(w))
    assert w.tolist() == pytest.approx([0.5, 0.5])


def test_newton_halves_a_step_that_would_climb():
    """For √(1 + w²) a full step from 2 leads to -8; undamped Newton diverges from any |w| above 1."""
    w = nn.Parameter(torch.tensor([2.0], dtype=DOUBLE))
    optimizer = optimizers.newton([w])
    for _ in range(8):
        optimizer.step(lambda: (1 + w**2).sqrt().sum())
    assert abs(w.item()) < 1e-8


def test_a_step_that_only_climbs_is_not_taken():
    for name in ("newton", "hessian_free"):
        w = nn.Parameter(torch.tensor([1.0], dtype=DOUBLE))
        calls = []

        def loss(w=w, calls=calls):  # higher at every look
            calls.append(1)
            return w.square().sum() + float(len(calls))

        getattr(optimizers, name)([w]).step(loss)
        assert w.item() == 1.0


@pytest.mark.parametrize("name", ["newton", "bfgs"])
def test_a_matrix_that_would_not_fit_is_refused_with_its_size(name):
    with torch.device("meta"):
        net = nn.Linear(61_705, 1)
    with pytest.raises(UserError) as caught:
        optimizers.build(name, net)
    assert "61,706 of them would take 15.2 GB" in str(caught.value)
    assert "at most 5,000 weights" in str(caught.value)
    with torch.device("meta"):
        vgg16 = nn.Linear(138_357_543, 1)
    with pytest.raises(UserError, match=r"76\.6 PB"):
        optimizers.build(name, vgg16)
    net = models.lenet5(num_classes=10)
    net.requires_grad_(False)
    net.head.requires_grad_(True)
    assert optimizers.build(name, net)  # frozen weights have no row
    assert optimizers.build(name, nn.Linear(10, 2), {"largest": 22})
    with pytest.raises(UserError):
        optimizers.build(name, nn.Linear(10, 2), {"largest": 21})


@pytest.mark.parametrize("name", ["newton", "hessian_free", "bfgs", "nesterov_lookahead"])
def test_frozen_weights_stay(name):
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
    net[0].weight.requires_grad_(False)
    held, moved = net[0].weight.clone(), net[2].weight.detach().clone()
    optimizer = optimizers.build(name, net, {"weight_decay": 0.5})
    loss = lambda: net(torch.ones(2, 3)).square().mean()  # noqa: E731
    optimizer.step(loss if getattr(optimizer, "needs_loss", False) else closure_on(optimizer, loss)[0])
    assert torch.equal(net[0].weight, held)
    assert not torch.equal(net[2].weight, moved)


# Hessian-free.


def test_conjugate_gradients_solve_in_as_many_steps_as_there_are_curvatures():
    matrix = torch.randn(30, 30, generator=generator(), dtype=DOUBLE)
    matrix = matrix @ matrix.T + torch.eye(30)
    right, calls = torch.randn(30, generator=generator(1), dtype=DOUBLE), []

    def product(v):
        calls.append(1)
        return matrix @ v

    found = conjugate_gradients(product, right, torch.zeros(30, dtype=DOUBLE), most=40, tolerance=1e-14)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, right), rtol=0, atol=1e-8)
    calls.clear()
    conjugate_gradients(product, right, torch.zeros(30, dtype=DOUBLE), most=7, tolerance=1e-14)
    assert len(calls) == 8
    calls.clear()
    loose = conjugate_gradients(product, right, torch.zeros(30, dtype=DOUBLE), most=40, tolerance=0.05)
    assert 11 < len(calls) < 30
    height = lambda x: (0.5 * x @ matrix @ x - right @ x).item()  # noqa: E731
    assert height(found) < height(loose) < 0.9 * height(found)
    bent = torch.diag(torch.tensor([1.0, -1.0, 2.0], dtype=DOUBLE))
    down = conjugate_gradients(
        lambda v: bent @ v, torch.ones(3, dtype=DOUBLE), torch.zeros(3, dtype=DOUBLE), most=9, tolerance=1e-9
    )
    assert down @ torch.ones(3, dtype=DOUBLE) > 0


def test_hessian_free_s_damping_follows_what_the_parabola_foretold():
    w = nn.Parameter(torch.tensor([1.0], dtype=DOUBLE))
    optimizer = optimizers.hessian_free([w], damping=0.9)
    optimizer.step(lambda: (w**2).sum())  # exactly a parabola
    assert optimizer.param_groups[0]["damping"] == pytest.approx(0.6)
    w = nn.Parameter(torch.tensor([2.0], dtype=DOUBLE))
    optimizer = optimizers.hessian_free([w], damping=1e-4)
    optimizer.step(lambda: (1 + w**2).sqrt().sum())  # the full step would climb
    assert optimizer.param_groups[0]["damping"] == pytest.approx(1.5e-4)
    assert (1 + w.item() ** 2) ** 0.5 < 5**0.5


def test_hessian_free_with_outputs_takes_damped_gauss_newton_steps():
    net, x, y = small_net()
    weights = list(net.parameters())
    start, g = optimizers.hessian_free(weights).read(), None
    outputs = net(x)
    g, product = curvature.gauss_newton_product(F.cross_entropy(outputs, y), outputs, weights)
    matrix = torch.stack([product(row) for row in torch.eye(len(g), dtype=DOUBLE)]) + 0.3 * torch.eye(len(g))
    optimizer = optimizers.hessian_free(weights, damping=0.2, weight_decay=0.1, decay_all=True, tolerance=1e-9)
    g = g + 0.1 * start

    def loss_of():
        scores = net(x)
        return F.cross_entropy(scores, y), scores

    optimizer.step(loss_of)
    torch.testing.assert_close(optimizer.read() - start, -torch.linalg.solve(matrix, g), rtol=1e-4, atol=1e-6)


def test_hessian_free_begins_from_its_last_direction():
    w = nn.Parameter(torch.tensor([1.0, 1.0], dtype=DOUBLE))
    optimizer = optimizers.hessian_free([w], damping=0.0, lr=0.1)
    loss = lambda: curvature.bowl([1.0, 9.0])(w)  # noqa: E731
    optimizer.step(loss)
    direction = optimizer.state[w]["direction"].clone()
    torch.testing.assert_close(direction, torch.tensor([-1.0, -1.0], dtype=DOUBLE))
    optimizer.param_groups[0]["max_iter"] = 1
    optimizer.state[w]["direction"] = direction * 0.9 / 0.95  # where the answer is now
    optimizer.step(loss)
    torch.testing.assert_close(optimizer.state[w]["direction"], direction * 0.9)


# BFGS and its search.


@pytest.mark.parametrize("size", [2, 5, 12])
def test_bfgs_finishes_a_quadratic_in_as_many_exact_searches_as_weights(size):
    root = torch.randn(size, size, generator=generator(size), dtype=DOUBLE)
    matrix, right = root @ root.T + 0.5 * torch.eye(size), torch.randn(size, generator=generator(9), dtype=DOUBLE)
    w = nn.Parameter(torch.zeros(size, dtype=DOUBLE))
    optimizer = optimizers.bfgs([w], flatness=1e-10, max_iter=1)
    closure, _ = closure_on(optimizer, lambda: 0.5 * w @ matrix @ w - right @ w)
    lengths = []
    for step in range(size + 1):
        optimizer.step(closure)
        lengths.append((matrix @ w.detach() - right).norm().item())
        if step == size - 1:
            inverse = optimizer.state[w]["inverse"].clone()
    assert lengths[-1] < 1e-7 * right.norm()
    assert min(lengths[: size - 2] or [1]) > 1e-6
    torch.testing.assert_close(inverse, torch.linalg.inv(matrix), rtol=1e-3, atol=1e-4)


def test_bfgs_updates_by_the_formula():
    """Against the product form, for the steps it takes on Rosenbrock's valley."""
    w = nn.Parameter(torch.tensor([-1.2, 1.0], dtype=DOUBLE))
    optimizer = optimizers.bfgs([w], max_iter=1)
    closure, _ = closure_on(optimizer, lambda: 100 * (w[1] - w[0] ** 2) ** 2 + (1 - w[0]) ** 2)
    inverse, identity = None, torch.eye(2, dtype=DOUBLE)
    for _ in range(8):
        closure()
        place, g = w.detach().clone(), w.grad.clone()
        optimizer.step(closure)
        s = w.detach() - place
        closure()
        y = w.grad - g
        if inverse is None:
            inverse = (y @ s) / (y @ y) * identity
        left = identity - torch.outer(s, y) / (y @ s)
        inverse = left @ inverse @ left.T + torch.outer(s, s) / (y @ s)
        torch.testing.assert_close(optimizer.state[w]["inverse"], inverse, rtol=1e-9, atol=1e-12)
        assert y @ s > 0


def test_bfgs_goes_where_scipy_s_does_about_as_fast():
    w = nn.Parameter(torch.tensor([-1.2, 1.0, 0.7], dtype=DOUBLE))
    optimizer = optimizers.bfgs([w], max_iter=60)
    closure, seen = closure_on(optimizer, lambda: (100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2).sum())
    optimizer.step(closure)
    theirs = scipy.optimize.minimize(
        scipy.optimize.rosen, np.array([-1.2, 1.0, 0.7]), jac=scipy.optimize.rosen_der, method="BFGS"
    )
    np.testing.assert_allclose(w.detach().numpy(), theirs.x, atol=1e-5)
    below = next(number for number, loss in enumerate(seen) if loss < 1e-8)
    assert below < 1.5 * theirs.nfev


@pytest.mark.parametrize("flatness", [0.9, 0.1, 1e-5])
@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize(
    ("f", "slope"),
    [  # Moré and Thuente 1994, functions 1 and 2; a parabola; a quartic
        (lambda t: -t / (t**2 + 2), lambda t: (t**2 - 2) / (t**2 + 2) ** 2),
        (lambda t: (t + 0.004) ** 5 - 2 * (t + 0.004) ** 4, lambda t: 5 * (t + 0.004) ** 4 - 8 * (t + 0.004) ** 3),
        (lambda t: (t - 0.3) ** 2, lambda t: 2 * (t - 0.3)),
        (lambda t: (t - 3) ** 4 - t, lambda t: 4 * (t - 3) ** 3 - 1),
    ],
)
def test_the_search_ends_at_a_place_with_both_conditions(f, slope, first, flatness):
    found = strong_wolfe(
        lambda t: (f(t), slope(t), t), Try(0.0, f(0), slope(0)), first, flatness=flatness, noise=1e-14, evaluations=80
    )
    assert found.kept == found.t
    assert f(found.t) <= f(0) + 1e-4 * found.t * slope(0) + 1e-14
    assert abs(slope(found.t)) <= flatness * abs(slope(0))


def test_the_search_gives_the_lowest_place_when_its_tries_run_out():
    values = {1.0: 5.0, 0.5: 4.0, 0.25: 1.0}

    def at(t):
        return values.get(t, 7.0), 1.0 if t in values else math.nan, t

    found = strong_wolfe(at, Try(0.0, 2.0, -1.0), 1.0, evaluations=3)
    assert found.value <= 2.0
    steep = strong_wolfe(lambda t: (-t, -1.0, t), Try(0.0, 0.0, -1.0), 1.0, flatness=0.5, evaluations=6)
    assert steep.t == 32.0  # no bottom: as far as it looked
    wall = strong_wolfe(
        lambda t: (math.inf, math.nan, t) if t > 0.2 else (-t, -0.1, t), Try(0.0, 0.0, -1.0), 1.0, flatness=0.2
    )
    assert 0 < wall.t <= 0.2


def test_the_cubic_s_minimum():
    cubic = np.poly1d([1.0, -2.0, -3.0, 1.0])
    at = lambda t: Try(t, cubic(t), cubic.deriv()(t))  # noqa: E731
    minimum = cubic.deriv().roots.max()
    assert between(at(0.5), at(3.0)) == pytest.approx(minimum)
    assert between(at(3.0), at(0.5)) == pytest.approx(minimum)
    assert between(at(1.0), at(1.1)) == pytest.approx(1.09)  # outside: kept inside
    assert between(at(0.0), Try(2.0, math.inf, math.nan)) == 1.0


# L-BFGS against Adam by evaluations (course, E12): a 64-32-10 network on all digits.


def test_lbfgs_at_100_evaluations_is_adam_at_400():
    x, y = digits()
    x = x.float()
    ends = {}
    for name, settings in (("lbfgs", {}), ("adam", {"lr": 0.01})):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
        optimizer = optimizers.build(name, net, {"weight_decay": 1e-3, **settings})
        closure, seen = closure_on(optimizer, lambda net=net: F.cross_entropy(net(x), y))
        while len(seen) < (75 if name == "lbfgs" else 400):  # a step takes up to 25
            optimizer.step(closure)
        assert len(seen) <= (100 if name == "lbfgs" else 400)
        ends[name] = optimizer_loss(net, x, y)
    assert ends["lbfgs"] <= ends["adam"] + 0.001


def optimizer_loss(net, x, y) -> float:
    decay = sum(0.5e-3 * p.square().sum() for p in net.parameters() if p.ndim > 1)
    return (F.cross_entropy(net(x), y) + decay).item()


# Nesterov's two forms.


def test_the_look_ahead_and_the_rewritten_form_run_along_one_path():
    net, x, y = small_net()
    torch.manual_seed(0)
    other, _, _ = small_net()
    settings = {"lr": 0.2, "momentum": 0.9, "weight_decay": 0.1, "decay_all": True}
    ahead = optimizers.build("nesterov_lookahead", net, settings)
    rewritten = optimizers.build("nesterov", other, settings)
    looked = []

    def look():
        ahead.zero_grad()
        looked.append([p.detach().clone() for p in net.parameters()])
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        return loss

    for _ in range(25):
        expected = [p.detach().clone() for p in other.parameters()]
        closure, _ = closure_on(rewritten, lambda: F.cross_entropy(other(x), y))
        theirs, ours = rewritten.step(closure), ahead.step(look)
        torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-12)
        for p, q in zip(looked[-1], expected, strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=1e-12)
    velocity = [ahead.state[p]["velocity"] for p in net.parameters()]
    for p, v, q in zip(net.parameters(), velocity, other.parameters(), strict=True):
        torch.testing.assert_close(p.detach() + 0.9 * v, q.detach(), rtol=0, atol=1e-12)
    assert max(v.abs().max() for v in velocity) > 0.01


def test_the_registry_says_which_take_all_examples():
    whole = {name for name in registry.names("optimizer") if registry.find("optimizer", name).facts.get("full_batch")}
    assert whole == {"newton", "hessian_free", "bfgs", "lbfgs"}
