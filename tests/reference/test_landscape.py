"""The loss surface against formulas: a quadratic loss, NumPy's decomposition of the whole matrix, lengths by hand."""

import copy
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.errors import UserError
from engram.landscape import Plane, Trajectory, measure, on_plane, principal, random_plane, write
from engram.landscape.surface import SIZES, affordable


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def follow(net: nn.Module, points: Sequence[Tensor], **settings: int) -> Trajectory:
    """A trajectory through given weights, a snapshot each; the network ends at the last."""
    trajectory = Trajectory(net, len(points) - 1, most=max(8, len(points)), **settings)
    for step, weights in enumerate(points):
        nn.utils.vector_to_parameters(weights.clone(), net.parameters())
        trajectory.keep(step)
    return trajectory


def walk(count: int, size: int, seed: int = 0) -> list[Tensor]:
    return list(torch.randn(count, size, generator=generator(seed)).cumsum(0))


def quadratic(net: nn.Linear) -> Callable[[Tensor, Tensor], Tensor]:
    """½ wᵀ H w of the weights themselves, with H diag(1, 2, 3, ...)."""
    curvature = torch.arange(1.0, net.weight.numel() + 1)
    return lambda output, y: 0.5 * (curvature * net.weight.view(-1) ** 2).sum()


def mixed() -> nn.Module:
    """Convolutions, batch norm and dropout; inputs (B, 2, 6, 6)."""
    torch.manual_seed(3)
    features = (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Flatten())
    return nn.Sequential(*features, nn.Linear(64, 3))


def examples(count: int = 128) -> tuple[Tensor, Tensor]:
    draw = generator(5)
    return torch.randn(count, 2, 6, 6, generator=draw) * 3 + 1, torch.randint(3, (count,), generator=draw)


# the plane


def test_the_components_are_those_of_numpys_decomposition_of_the_whole_matrix() -> None:
    net = nn.Linear(300, 4)
    trajectory = follow(net, walk(12, 1204))
    found = principal(trajectory)
    points = np.stack([trajectory.weights(place).double().numpy() for place in range(12)])
    matrix = points - points[-1]
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    shares = values**2 / (values**2).sum()
    assert np.allclose(found.explained.numpy(), shares[:2], rtol=1e-9)
    for place, direction in enumerate((found.plane.one, found.plane.other)):
        along = direction.double().numpy()
        assert abs(abs(along @ right[place]) - 1) < 1e-6
        assert np.allclose(np.abs(found.coordinates[:, place].numpy()), np.abs(left[:, place] * values[place]))
        assert np.allclose(found.coordinates[:, place].numpy(), matrix @ along, atol=1e-4)
    flat = (left[:, :2] * values[:2]) @ right[:2]
    away = np.linalg.norm(matrix - flat, axis=1)[:-1] / np.linalg.norm(matrix, axis=1)[:-1]
    assert np.allclose(found.off_plane.numpy()[:-1], away, atol=1e-9)
    assert found.off_plane[-1] == 0
    assert torch.equal(found.plane.origin, trajectory.weights(11))


def test_the_path_begins_on_the_left_and_turns_upwards() -> None:
    for seed in range(4):
        coordinates = principal(follow(nn.Linear(30, 1, bias=False), walk(9, 30, seed))).coordinates
        assert coordinates[0, 0] < 0
        assert coordinates[:, 1].max() == coordinates[:, 1].abs().max()


def test_a_path_in_a_plane_lies_in_it() -> None:
    one, other = torch.randn(2, 500, generator=generator())
    around = torch.linspace(0, 3, 10)
    found = principal(follow(nn.Linear(500, 1, bias=False), [a.cos() * one + a.sin() * other for a in around]))
    assert abs(float(found.explained.sum()) - 1) < 1e-9
    assert found.off_plane.max() < 1e-5
    for place in range(10):
        assert torch.allclose(found.plane.at(*found.coordinates[place].tolist()), around[place].cos() * one
                              + around[place].sin() * other, atol=1e-5)  # fmt: skip


def test_a_straight_path_has_a_second_direction_across_it() -> None:
    way = torch.randn(400, generator=generator())
    found = principal(follow(nn.Linear(400, 1, bias=False), [share * way for share in torch.linspace(1, 0, 9)]))
    assert float(found.explained[0]) == pytest.approx(1)
    assert found.coordinates[:, 1].abs().max() == 0
    assert found.plane.other.norm() == pytest.approx(1, abs=1e-5)
    assert abs(float(found.plane.one @ found.plane.other)) < 1e-5


def test_pieces_make_the_same_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    trajectory = follow(nn.Linear(100, 3), walk(8, 303))
    whole = principal(trajectory)
    monkeypatch.setattr("engram.landscape.plane.PIECE", 7)
    pieces = principal(trajectory)
    assert torch.allclose(whole.coordinates, pieces.coordinates, rtol=1e-9)
    assert torch.allclose(whole.plane.other, pieces.plane.other, atol=1e-6)


def test_no_path_no_plane() -> None:
    net = nn.Linear(3, 1)
    with pytest.raises(UserError, match="did not move"):
        principal(follow(net, [torch.ones(4)] * 5))
    with pytest.raises(UserError, match="2 snapshots"):
        principal(follow(net, walk(2, 4)))


def test_filters_of_random_directions_are_as_long_as_the_networks_and_the_rest_stands_still() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias_of_places = nn.Parameter(torch.ones(2, 3))

    torch.manual_seed(0)
    norms = (nn.BatchNorm2d(4), nn.LayerNorm((2, 3)))
    net = nn.Sequential(nn.Conv2d(3, 4, 3), *norms, nn.ConvTranspose2d(4, 5, 2), Shifted(), nn.Linear(6, 2))
    net.requires_grad_(False)
    net[0].weight[1] = 0  # a filter of no length
    plane = random_plane(net)
    for direction in (plane.one, plane.other):
        parts = dict(zip([name for name, _ in net.named_parameters()],
                         direction.split([p.numel() for p in net.parameters()]), strict=True))  # fmt: skip
        drawn = {name: parts[name].view(p.shape) for name, p in net.named_parameters()}
        for row in range(4):
            wanted = math.sqrt(sum(float(one) ** 2 for one in net[0].weight[row].flatten()))
            assert float(drawn["0.weight"][row].norm()) == pytest.approx(wanted, rel=1e-5)
        for column in range(5):
            wanted = float(net[3].weight[:, column].norm())
            assert float(drawn["3.weight"][:, column].norm()) == pytest.approx(wanted, rel=1e-5)
        assert torch.allclose(drawn["5.weight"].norm(dim=1), net[5].weight.norm(dim=1))
        still = [name for name, part in drawn.items() if not part.any()]
        biases = ["0.bias", "3.bias", "5.bias"]
        assert sorted(still) == sorted([*biases, "1.weight", "1.bias", "2.weight", "2.bias", "4.bias_of_places"])
    assert abs(float(F.cosine_similarity(plane.one, plane.other, dim=0))) < 0.5
    assert not torch.equal(plane.one, random_plane(net, seed=1).one)
    assert torch.equal(plane.one, random_plane(net).one)
    elsewhere = 2 * plane.origin
    assert torch.allclose(random_plane(net, origin=elsewhere).one, 2 * plane.one)


# the surface


def test_a_quadratic_loss_gives_its_formula() -> None:
    net = nn.Linear(6, 1, bias=False)
    origin, one, other = torch.randn(3, 6, generator=generator())
    a, b = np.linspace(-2, 1, 5), np.linspace(0, 3, 4)
    found = on_plane(net, Plane(origin, one, other), a, b, torch.ones(2, 6), torch.zeros(2), loss=quadratic(net))
    curvature = np.arange(1.0, 7.0)
    u, v, w = (one.double().numpy() for one in (origin, one, other))
    wanted = [[0.5 * (curvature * (u + x * v + y * w) ** 2).sum() for x in a] for y in b]
    assert found.losses.shape == (4, 5)
    assert np.allclose(found.losses, wanted, rtol=1e-5)


def test_the_whole_landscape_of_a_quadratic_loss() -> None:
    net = nn.Linear(6, 1, bias=False)
    trajectory = follow(net, walk(9, 6))
    measured, why_not = measure(net, trajectory, torch.ones(128, 6), torch.zeros(128), loss=quadratic(net))
    assert measured is not None, why_not
    curvature = np.arange(1.0, 7.0)

    def formula(weights: Tensor) -> float:
        return float(0.5 * (curvature * weights.double().numpy() ** 2).sum())

    plane = measured.principal.plane
    assert np.allclose(measured.true, [formula(trajectory.weights(place)) for place in range(9)], rtol=1e-5)
    places = measured.principal.coordinates.tolist()
    assert np.allclose(measured.drawn, [formula(plane.at(*place)) for place in places], rtol=1e-5)
    assert not np.allclose(measured.true[:-1], measured.drawn[:-1], rtol=1e-2)
    assert measured.true[-1] == measured.drawn[-1]
    over = measured.surface
    assert np.allclose(over.losses[3, 20], formula(plane.at(float(over.a[20]), float(over.b[3]))), rtol=1e-4)
    assert all(over.a[0] < a < over.a[-1] and over.b[0] < b < over.b[-1] for a, b in places)
    assert measured.random is not None
    aside = random_plane(net)
    assert measured.random.a[[0, 12, 24]].tolist() == [-1, 0, 1]
    assert np.allclose(measured.random.losses[24, 0], formula(aside.at(-1, 1)), rtol=1e-4)
    assert measured.random.losses[12, 12] == measured.true[-1]


def test_batch_norm_takes_the_statistics_of_the_examples_and_dropout_is_off() -> None:
    net = mixed()
    x, y = examples()
    with torch.no_grad():
        wanted = copy.deepcopy(net)
        wanted[1].weight.mul_(1.5)
        norm = nn.functional.batch_norm(wanted[0](x), None, None, wanted[1].weight, wanted[1].bias, training=True)
        true = float(F.cross_entropy(wanted[5](norm.relu().flatten(1)), y))
        running = float(F.cross_entropy(wanted.eval()(x), y))
    origin = torch.cat([p.detach().reshape(-1) for p in wanted.parameters()])
    plane = Plane(origin, torch.zeros_like(origin), torch.zeros_like(origin))
    for training in (True, False):
        found = on_plane(net.train(training), plane, [0, 0], [0], x, y)
        assert found.losses[0].tolist() == pytest.approx([true, true], rel=1e-5)
    assert abs(running - true) > 0.05


def test_everything_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engram.landscape.surface.SIZES", (9,))
    net = mixed()
    x, y = examples(16)
    F.cross_entropy(net(x), y).backward()
    net[3].eval()
    trajectory = follow(net, walk(8, sum(p.numel() for p in net.parameters())))
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = math.nan  # bit for bit, whatever the bits
        net[0].weight[0, 0, 0, 1] = -0.0
    before = {name: one.detach().clone() for name, one in net.state_dict().items()}
    identity = [id(p) for p in net.parameters()]
    gradients = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    draws = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    modes = [module.training for module in net.modules()]
    measured, _ = measure(net, trajectory, x, y)
    assert measured is not None
    assert np.isfinite(measured.true).all()
    for name, one in net.state_dict().items():
        assert one.numpy().tobytes() == before[name].numpy().tobytes(), name
    assert [id(p) for p in net.parameters()] == identity
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), draws[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == draws[1:]  # noqa: NPY002
    assert [module.training for module in net.modules()] == modes


def test_the_network_is_put_back_when_the_loss_fails() -> None:
    net = nn.Linear(4, 2)
    trajectory = follow(net, walk(8, 10))
    before = net.weight.detach().clone()

    def failing(output: Tensor, y: Tensor) -> Tensor:
        if not torch.equal(net.weight, before):
            raise RuntimeError("no loss here")
        return output.sum()

    with pytest.raises(RuntimeError, match="no loss here"):
        measure(net, trajectory, torch.ones(8, 4), torch.zeros(8), loss=failing)
    assert torch.equal(net.weight, before)


def test_a_recurrent_network_is_evaluated_where_the_plane_is() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0][:, -1]

    torch.manual_seed(0)
    net, other = Last(), Last()
    x, y = torch.randn(8, 5, 3, generator=generator()), torch.arange(8) % 4
    origin = torch.cat([p.detach().reshape(-1) for p in other.parameters()])
    plane = Plane(origin, torch.zeros_like(origin), torch.zeros_like(origin))
    found = on_plane(net, plane, [0], [0], x, y)
    assert found.losses.item() == pytest.approx(F.cross_entropy(other(x), y).item(), rel=1e-6)


def test_what_is_not_a_number_stays_so() -> None:
    net = nn.Linear(1, 1, bias=False)
    plane = Plane(torch.zeros(1), torch.ones(1), torch.zeros(1))
    found = on_plane(net, plane, [-1, 0, 4], [0], torch.ones(1, 1), torch.zeros(1), loss=lambda out, y: out.log().sum())
    assert np.isnan(found.losses[0, 0])
    assert found.losses[0, 1] == -math.inf
    assert found.losses[0, 2] == pytest.approx(math.log(4))


# the time


class Clock:
    """A clock that moves on only where something is evaluated."""

    def __init__(self, each: float, later: float | None = None, after: int = 0) -> None:
        self.now, self.calls, self.each, self.later, self.after = 100.0, 0, each, later, after

    def __call__(self) -> float:
        return self.now

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Takes `each` seconds for 128 examples, and `later` from call number `after` on."""
        self.calls += 1
        each = self.each if self.later is None or self.calls <= self.after else self.later
        self.now += each * len(output) / 128
        return output.square().mean()


def timed(clock: Clock, seconds: float, count: int = 600) -> tuple[object, str]:
    net = nn.Linear(4, 2)
    trajectory = follow(net, walk(10, 10))
    return measure(net, trajectory, torch.ones(count, 4), torch.zeros(count), loss=clock.loss, seconds=seconds,
                   clock=clock)  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "size", "number"),
    [
        (100.0, 25, 512),
        (68.0, 25, 512),
        (67.0, 25, 256),
        (34.5, 25, 256),
        (17.5, 25, 128),
        (10.0, 17, 128),
        (3.0, 9, 128),
    ],
)
def test_the_finest_grid_and_the_most_examples_that_fit(seconds: float, size: int, number: int) -> None:
    clock = Clock(0.01)
    measured, why_not = timed(clock, seconds)
    assert measured is not None, why_not
    assert measured.surface.losses.shape == measured.random.losses.shape == (size, size)
    assert measured.examples == number
    assert clock.now - 100 <= seconds


def test_a_finer_grid_or_more_examples_would_not_have_fit() -> None:
    for seconds in np.geomspace(1, 200, 40):
        size, number, planes = affordable(seconds, 0.01, 10, [512, 256, 128]) or (7, 512, 1)

        def cost(size: int, number: int, planes: int) -> float:
            return (planes * size * size + 20) * 0.01 * number / 128

        assert size == 7 or cost(size, number, planes) <= seconds
        assert size == 25 or cost(size + 2, 128, planes) > seconds
        assert number == 512 or cost(size, number * 2, planes) > seconds
        assert planes == 2 or cost(9, 128, 2) > seconds
    assert list(SIZES) == [25, 23, 21, 19, 17, 15, 13, 11, 9]


@pytest.mark.parametrize(("seconds", "calls"), [(0.9, 1), (4.0, 6)])
def test_too_little_time_is_said_soon(seconds: float, calls: int) -> None:
    clock = Clock(0.1)
    measured, why_not = timed(clock, seconds)
    assert measured is None
    assert why_not == f"a grid of 9 x 9 would take 10.1 s of {seconds} s"
    assert clock.calls == calls


def test_in_a_hurry_the_random_plane_is_left_out() -> None:
    clock = Clock(0.01)
    measured, why_not = timed(clock, 1.6)
    assert measured is not None, why_not
    assert measured.surface.losses.shape == (9, 9)
    assert measured.random is None
    assert clock.now - 100 <= 1.6


def test_a_slow_first_evaluation_does_not_count() -> None:
    clock = Clock(0.5, later=0.01, after=1)
    measured, why_not = timed(clock, 20.0)
    assert measured is not None, why_not
    assert measured.surface.losses.shape == (25, 25)
    assert clock.now - 100 <= 20


def test_a_machine_that_becomes_slower_ends_in_time() -> None:
    clock = Clock(0.01, later=0.1, after=40)
    measured, why_not = timed(clock, 20.0)
    assert measured is None
    assert "slower" in why_not
    assert clock.now - 100 <= 20.4
    clock = Clock(0.01, later=0.2, after=900)
    measured, _ = timed(clock, 20.0)
    assert measured is not None
    assert measured.random is None
    assert clock.now - 100 <= 20.4


def test_large_pictures_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engram.landscape.surface.LARGEST", 300 * 4)
    measured, _ = timed(Clock(0.0001), 100.0)
    assert measured.examples == 256
    measured, _ = timed(Clock(0.0001), 100.0, count=50)
    assert measured.examples == 50


# the file


def test_the_file_holds_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engram.landscape.surface.SIZES", (9,))
    net = mixed()
    x, y = examples(16)
    trajectory = follow(net, walk(8, sum(p.numel() for p in net.parameters())))
    path = tmp_path / "probes" / "surface.npz"
    assert write(path, net, trajectory, x, y) == ""
    measured, _ = measure(net, trajectory, x, y)
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    assert arrays.keys() == measured.arrays().keys()
    for name, array in measured.arrays().items():
        assert np.array_equal(arrays[name], array)
        assert arrays[name].dtype in (np.float32, np.int64)
    assert int(arrays["batch_norm"]) == 1


def test_nothing_is_written_where_there_is_nothing(tmp_path: Path) -> None:
    net = nn.Linear(4, 2)
    path = tmp_path / "surface.npz"
    small = Trajectory(net, 10, memory=100)
    x, y = torch.ones(8, 4), torch.zeros(8, dtype=torch.int64)
    assert "8 snapshots of 10 weights" in write(path, net, small, x, y)
    assert "did not move" in write(path, net, follow(net, [torch.ones(10)] * 4), x, y)
    assert "0 snapshots" in write(path, net, Trajectory(net, 10), x, y)
    assert not path.exists()
