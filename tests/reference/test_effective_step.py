"""The recorder shows the steps of the notes' claims, and leaves a run as it is."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from engram import optimizers, registry
from engram.errors import UserError
from engram.optimizers.effective_step import record


def steady(name: str, steps: int, settings: dict, slope: float = 7.0):
    """The record of a weight under the same gradient at every step."""
    w = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = getattr(optimizers, name)([w], **settings)
    with record(optimizer) as effective:
        for _ in range(steps):
            w.grad = torch.full((3,), slope, dtype=torch.float64)
            optimizer.step()
    return effective


def test_adagrad_s_step_sinks_and_does_not_rise():
    effective = steady("adagrad", 1000, {"lr": 0.5})
    assert [effective.move[t - 1][0] for t in (1, 10, 100, 1000)] == pytest.approx([1, 0.316, 0.1, 0.0316], rel=1e-3)
    assert effective.rate[9][0] == pytest.approx(0.5 * 0.3162 / 7, rel=1e-3)


@pytest.mark.parametrize(("beta", "first", "worst", "at"), [(0.999, 3.162, 6.57, 12), (0.99, 1.0, 2.13, 13)])
def test_adam_without_correction_begins_too_long(beta, first, worst, at):
    effective = steady("adam", 40, {"lr": 0.01, "betas": (0.9, beta), "bias_correction": False})
    moves = [row[0] for row in effective.move]
    assert moves[0] == pytest.approx(first, rel=1e-3)
    assert max(moves) == pytest.approx(worst, abs=0.005)
    assert moves.index(max(moves)) == at - 1
    formula = [(1 - 0.9**t) / math.sqrt(1 - beta**t) for t in range(1, 41)]
    assert moves == pytest.approx(formula, rel=1e-5)
    corrected = steady("adam", 40, {"lr": 0.01, "betas": (0.9, beta)})
    assert [row[0] for row in corrected.move] == pytest.approx([1.0] * 40, rel=1e-5)


def test_adam_without_correction_is_its_formula_with_decay():
    with pytest.raises(UserError, match="amsgrad is only there with"):
        optimizers.build("adam", nn.Linear(2, 2), {"bias_correction": False, "amsgrad": True})
    w = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = optimizers.adam(
        [w], lr=0.1, betas=(0.8, 0.9), eps=0.5, weight_decay=0.25, decay_all=True, bias_correction=False
    )
    place, m, v = 2.0, 0.0, 0.0
    for slope in (3.0, -1.0, 0.5):
        g = slope + 0.25 * place
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        place -= 0.1 * m / (math.sqrt(v) + 0.5)
        w.grad = torch.tensor([slope], dtype=torch.float64)
        optimizer.step()
    assert w.item() == pytest.approx(place, abs=1e-12)


def test_momentum_becomes_ten_times_the_rate():
    effective = steady("momentum", 100, {"lr": 0.01, "weight_decay": 0.0})
    assert effective.rate[0][0] == pytest.approx(0.01)
    assert effective.rate[-1][0] == pytest.approx(0.1, rel=1e-3)


def test_the_numbers_are_by_group_and_weight():
    one, other = nn.Parameter(torch.tensor([3.0, 4.0])), nn.Parameter(torch.tensor([[1.0]]))
    frozen = nn.Parameter(torch.tensor([9.0]))
    optimizer = torch.optim.SGD([{"params": [one]}, {"params": [other, frozen], "lr": 0.1}], lr=0.5)
    with record(optimizer) as effective:
        one.grad, other.grad = torch.tensor([2.0, 0.0]), torch.tensor([[4.0]])
        optimizer.step()
    assert effective.steps == [1]
    assert effective.lr == [[0.5, 0.1]]
    assert effective.move[0] == pytest.approx([2 / math.sqrt(2), 4 / math.sqrt(2)])
    assert effective.rate[0] == pytest.approx([0.5, 0.1])
    assert effective.ratio[0] == pytest.approx([1 / 5, 0.4 / math.sqrt(82)])
    assert [rate.shape for rate in effective.last] == [(2,), (1, 1), (1,)]
    assert effective.last[0][1].isnan()
    assert effective.last[2].isnan().all()


def test_every_so_many_steps_and_not_outside():
    w = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([w], lr=0.1)
    w.grad = torch.ones(1)
    with record(optimizer, every=3) as effective:
        for _ in range(8):
            optimizer.step()
    optimizer.step()
    assert effective.steps == [1, 4, 7]
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def run(name: str, recorded: bool):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    x, y = torch.randn(32, 6), torch.randint(0, 3, (32,))
    optimizer = optimizers.build(name, net)

    def loss_of():
        return F.cross_entropy(net(x), y)

    def closure():
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss

    def train():
        for _ in range(4):
            optimizer.step(loss_of if getattr(optimizer, "needs_loss", False) else closure)

    if not recorded:
        train()
        return net.state_dict(), None
    with record(optimizer) as effective:
        train()
    return net.state_dict(), effective


@pytest.mark.parametrize("name", registry.names("optimizer"))
def test_a_run_is_the_same_with_it_and_without(name):
    torch.optim.LBFGS([nn.Parameter(torch.ones(1))])  # from now on torch calls hooks in its step as well
    plain, _ = run(name, recorded=False)
    watched, effective = run(name, recorded=True)
    assert all(torch.equal(value, watched[key]) for key, value in plain.items())
    assert effective.steps == [1, 2, 3, 4]
    assert all(math.isfinite(move) and move > 0 for move in effective.move[0])
