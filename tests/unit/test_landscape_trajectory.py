"""Snapshots of the weights: at which steps, how many, how exactly, and the same again after a run was interrupted."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from engram.errors import UserError
from engram.landscape import Trajectory
from engram.landscape.trajectory import well_spread


def move(net: nn.Module, seed: int) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))


def train(net: nn.Module, trajectory: Trajectory, begin: int, end: int) -> None:
    for step in range(begin, end):
        if step:
            move(net, step)
        if trajectory.due(step):
            trajectory.keep(step)


def vector(net: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()])


def test_the_steps_are_the_formulas() -> None:
    assert well_spread(1000, 5) == [0, 125, 354, 650, 1000]
    steps = well_spread(10_000, 32)
    assert len(steps) == 32
    assert all(later > sooner for later, sooner in zip(torch.diff(torch.tensor(steps))[1:],
                                                       torch.diff(torch.tensor(steps))[:-1], strict=True))  # fmt: skip
    trajectory = Trajectory(nn.Linear(2, 2), 10_000)
    assert [step for step in range(10_001) if trajectory.due(step)] == steps


def test_snapshots_are_exact_copies_while_they_fit() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    trajectory = Trajectory(net, 40, most=8)
    seen = {}
    for step in range(41):
        move(net, step)
        if trajectory.due(step):
            trajectory.keep(step)
            seen[step] = vector(net)
    assert trajectory.steps == list(seen)
    assert len(trajectory) == 8
    for place, weights in enumerate(seen.values()):
        assert torch.equal(trajectory.weights(place), weights)
    assert torch.equal(trajectory.columns(2, 9), torch.stack(list(seen.values())).double()[:, 2:9])
    assert trajectory.weights(0).dtype == torch.float32


def test_a_larger_network_keeps_differences_in_half_the_memory() -> None:
    net = nn.Linear(100, 10, bias=False)
    trajectory = Trajectory(net, 400, most=32, memory=(4 + 2 * 20) * 1000)
    assert (trajectory.rounded, trajectory.capacity) == (True, 21)
    seen = []
    for step in range(401):
        if trajectory.due(step):
            move(net, step)
            trajectory.keep(step)
            seen.append(vector(net))
    assert sum(one.numel() * one.element_size() for one in trajectory.state_dict().values()) - 8 * 21 == 44_000
    assert torch.equal(trajectory.weights(0), seen[0])
    for place, weights in enumerate(seen):
        away = (weights - seen[0]).abs()
        assert ((trajectory.weights(place) - weights).abs() <= away * 2**-11 + 1e-6).all()
    assert torch.allclose(trajectory.columns(0, 1000), torch.stack(seen).double(), atol=1e-2)


@pytest.mark.parametrize(("memory", "kept"), [(4 * 1000 * 32, (False, 32)), (4 * 1000 * 31, (True, 32)),
                                              (2 * 1000 * 9, (True, 8)), (2 * 1000 * 9 - 1, (True, 7))])  # fmt: skip
def test_what_fits_the_memory(memory: int, kept: tuple[bool, int]) -> None:
    trajectory = Trajectory(nn.Linear(100, 10, bias=False), 10_000, memory=memory)
    assert (trajectory.rounded, trajectory.capacity) == kept
    assert bool(trajectory.refusal) == (kept[1] < 8)


def test_a_network_too_large_keeps_none_and_says_so() -> None:
    net = nn.Linear(100, 10)
    trajectory = Trajectory(net, 100, memory=10_000)
    train(net, trajectory, 0, 101)
    trajectory.keep(100)
    assert len(trajectory) == 0
    assert trajectory.refusal == "8 snapshots of 1,010 weights take more than the 0 MiB they may"
    assert Trajectory(nn.ReLU(), 100).refusal == "the network has no weights"


def test_an_early_end_is_kept_and_makes_room_among_the_others() -> None:
    net = nn.Linear(3, 3)
    trajectory = Trajectory(net, 1000, most=8)
    train(net, trajectory, 0, 1001)
    steps = well_spread(1000, 8)
    trajectory.keep(1001)
    assert len(trajectory) == 8
    assert trajectory.steps[0] == 0
    assert trajectory.steps[-1] == 1001
    assert set(trajectory.steps) - {1001} < set(steps)
    assert 1000 not in trajectory.steps
    trajectory.keep(1001)
    assert len(trajectory) == 8


def test_weights_that_are_not_finite_are_not_kept() -> None:
    net = nn.Linear(2, 1)
    trajectory = Trajectory(net, 8, most=9)
    train(net, trajectory, 0, 5)
    with torch.no_grad():
        net.weight[0, 0] = math.nan
    train(net, trajectory, 5, 9)
    assert trajectory.steps == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("memory", [2**20, 19 * 12])
def test_an_interrupted_run_keeps_the_same(tmp_path: Path, memory: int) -> None:
    path = tmp_path / "trajectory.safetensors"
    net = nn.Linear(5, 2)
    whole = Trajectory(net, 60, most=10, memory=memory)
    torch.nn.init.zeros_(net.weight)
    train(net, whole, 0, 61)
    other = nn.Linear(5, 2)
    other.load_state_dict({"weight": torch.zeros(2, 5), "bias": net.bias.detach() * 0 + whole.weights(0)[-2:]})
    first = Trajectory(other, 60, most=10, memory=memory)
    train(other, first, 0, 31)
    saved = {name: one.clone() for name, one in other.state_dict().items()}
    train(other, first, 31, 45)  # the state was saved at step 30, the trajectory later
    first.save(path)
    again = nn.Linear(5, 2)
    again.load_state_dict(saved)
    second = Trajectory(again, 60, most=10, memory=memory)
    second.load(path, until=30)
    assert max(second.steps) <= 30
    train(again, second, 31, 61)
    assert second.steps == whole.steps
    for place in range(len(whole)):
        assert torch.equal(second.weights(place), whole.weights(place))


def test_the_same_file_is_not_written_twice(tmp_path: Path) -> None:
    path = tmp_path / "trajectory.safetensors"
    net = nn.Linear(5, 2)
    trajectory = Trajectory(net, 60, most=10)
    trajectory.keep(0)
    trajectory.save(path)
    before = path.stat().st_ino
    trajectory.save(path)
    assert path.stat().st_ino == before
    trajectory.keep(1)
    trajectory.save(path)
    assert path.stat().st_ino != before
    path.unlink()
    trajectory.save(path)
    assert path.exists()


def test_another_networks_trajectory_is_refused(tmp_path: Path) -> None:
    net = nn.Linear(5, 2)
    trajectory = Trajectory(net, 60, most=10)
    trajectory.keep(0)
    other = Trajectory(nn.Linear(4, 2), 60, most=10)
    other.keep(0)
    with pytest.raises(UserError, match="another network"):
        trajectory.load_state_dict(other.state_dict())
    with pytest.raises(UserError, match="no trajectory"):
        trajectory.load_state_dict({"weights.0": torch.zeros(12)})
    with pytest.raises(UserError, match="no trajectory"):
        trajectory.load_state_dict({"steps": torch.tensor([0, 1]), "weights.0": torch.zeros(12)})
    path = tmp_path / "trajectory.safetensors"
    path.write_bytes(b"half a file")
    with pytest.raises(UserError, match="damaged"):
        trajectory.load(path)
    assert trajectory.steps == [0]


def test_a_longer_run_makes_room() -> None:
    net = nn.Linear(5, 2)
    short = Trajectory(net, 60, most=10)
    train(net, short, 0, 61)
    longer = Trajectory(net, 120, most=10)
    longer.load_state_dict(short.state_dict())
    train(net, longer, 61, 121)
    assert len(longer) == 10
    assert (longer.steps[0], longer.steps[-1]) == (0, 120)


def test_what_cannot_be_a_trajectory() -> None:
    with pytest.raises(UserError, match="8 or more"):
        Trajectory(nn.Linear(1, 1), 100, most=3)
    with pytest.raises(UserError, match="0 steps"):
        Trajectory(nn.Linear(1, 1), 0)
