"""Saved states come back whole, and nothing else is taken for one."""

import pickle

import pytest
import torch
from torch import nn

from engram import optimizers
from engram.averaging import WeightAverage
from engram.errors import UserError
from engram.recipe import Device
from engram.review import methods
from engram.review.reviewer import Reviewer
from engram.training import device, loop, state

MACHINE = device.choose(Device(name="cpu", precision="float32", threads="1", allocator="system"), dimensions=1)


def made(width=4, lr=0.1, seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Dropout(0.5), nn.Linear(width, 2))
    reviewer = Reviewer(12, methods.build("shuffle"), batch_size=4, epochs=3)
    made_state = loop.build_state(net, optimizers.build("adam", net, {"lr": lr}), reviewer, MACHINE)
    made_state.average = WeightAverage(net, 0.9)
    made_state.rng.manual_seed(seed)
    return made_state


def moved(one):
    """A step, so that everything differs from its beginning."""
    one.net.train()
    one.net(torch.randn(8, 3)).sum().backward()
    one.optimizer.step()
    one.average.update()
    torch.rand(5, generator=one.rng)
    one.step, one.judged, one.best = 7, 5, {"accuracy": 0.5, "loss": 1.0, "epoch": 1, "step": 5}
    one.totals += 3
    for batch in one.reviewer.batches()[:2]:
        one.reviewer.observe(torch.rand(len(batch)), lr=0.1)
    return one


def test_everything_comes_back(tmp_path):
    saved = moved(made())
    state.save(saved, tmp_path / "last.pt", threads=1, seconds=2.5)
    expected = (torch.rand(3), torch.rand(3, generator=saved.rng))
    other = made(seed=1, lr=0.01)
    assert state.restore(other, tmp_path / "last.pt") == {"threads": 1, "seconds": 2.5}
    torch.testing.assert_close(torch.rand(3), expected[0], rtol=0, atol=0)
    torch.testing.assert_close(torch.rand(3, generator=other.rng), expected[1], rtol=0, atol=0)
    for name, tensor in saved.net.state_dict().items():
        assert torch.equal(tensor, other.net.state_dict()[name]), name
    for mine, theirs in zip(saved.optimizer.state.values(), other.optimizer.state.values(), strict=True):
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    averages, others = saved.average.state_dict()["weights"], other.average.state_dict()["weights"]
    assert all(torch.equal(averages[name], others[name]) for name in averages)
    assert (other.step, other.judged, other.best) == (saved.step, saved.judged, saved.best)
    assert torch.equal(other.totals, saved.totals)
    assert (other.reviewer.position, other.reviewer.clock) == (2, saved.reviewer.clock)
    assert [row[1].tolist() for row in other.reviewer.pending] == [row[1].tolist() for row in saved.reviewer.pending]
    assert other.optimizer.param_groups[0]["initial_lr"] == 0.01  # the recipe's own, for what is left


def test_another_network_is_refused(tmp_path):
    state.save(moved(made()), tmp_path / "last.pt", threads=1, seconds=0.0)
    with pytest.raises(UserError, match="is not a state of this network"):
        state.restore(made(width=5), tmp_path / "last.pt")


def test_what_is_no_state_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    with pytest.raises(UserError, match="there is no saved state"):
        state.restore(made(), path)
    for content in (b"", b"\x00" * 100, b"PK\x03\x04half a zip"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"damaged or cut short|was not run"):
            state.restore(made(), path)
    torch.save({"version": 99}, path)
    with pytest.raises(UserError, match="not a state that this version"):
        state.restore(made(), path)
    path.write_bytes(pickle.dumps(print))
    with pytest.raises(UserError, match="it was not run"):
        state.restore(made(), path)


def test_a_weight_that_is_not_finite_is_named():
    one = made()
    assert state.first_not_finite(one) is None
    with torch.no_grad():
        one.net[3].bias[1] = float("nan")
    assert state.first_not_finite(one) == "3.bias"
