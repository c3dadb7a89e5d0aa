"""The range test finds the rates that work, ends where they do not, and leaves nothing behind."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from engram import optimizers
from engram.errors import UserError
from engram.layers.auxiliary import Scores
from engram.training import lr_range


def digits_batches(size: int = 64):
    data = load_digits()
    x, y = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    return list(zip(x.split(size), y.split(size), strict=True))


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 10))


def trained_loss(rate: float) -> float:
    net = small_net()
    optimizer = optimizers.build("nesterov", net, {"lr": rate})
    for _ in range(2):
        for x, y in digits_batches():
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
    return loss.item()


def test_the_rate_it_suggests_trains_and_far_ones_do_not():
    net = small_net()
    found = lr_range.sweep(net, optimizers.build("nesterov", net), digits_batches(), low=1e-5, high=100)
    assert 0.01 < found.suggestion < 1.0
    at_it = trained_loss(found.suggestion)
    assert at_it < 0.4
    assert trained_loss(found.suggestion / 300) > 3 * at_it
    assert trained_loss(found.suggestion * 300) > 3 * at_it
    assert found.smoothed == pytest.approx(lr_range.smooth(found.losses))


def test_the_rates_grow_by_one_ratio_and_end_where_the_loss_explodes():
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    x = torch.ones(4, 1)
    found = lr_range.sweep(net, optimizer, [(x, 0 * x)], low=0.01, high=1000, steps=51, loss=F.mse_loss)
    assert found.rates[0] == 0.01
    ratios = [b / a for a, b in zip(found.rates, found.rates[1:], strict=False)]
    assert ratios == pytest.approx([10**0.1] * len(ratios))
    w, losses = 1.0, []
    for rate in found.rates:  # w <- w - 2 α w: from α = 1 on it grows
        losses.append(w * w)
        w -= 2 * rate * w
    assert found.losses == pytest.approx(losses, rel=1e-4, abs=1e-9)
    assert 1 < found.rates[-1] < 100
    assert found.smoothed[-1] > 4 * min(found.smoothed)
    assert all(value <= 4 * min(found.smoothed[:at]) for at, value in enumerate(found.smoothed[:-1], 1))
    assert 0.01 < found.suggestion < 1


def test_all_rates_are_tried_where_nothing_explodes():
    net = nn.Linear(2, 2)
    found = lr_range.sweep(
        net, torch.optim.SGD(net.parameters()), [(torch.ones(3, 2), torch.zeros(3).long())], high=1e-2, steps=10
    )
    assert len(found.rates) == len(found.losses) == 10
    assert found.rates[-1] == pytest.approx(1e-2)


def test_network_and_optimizer_are_as_before():
    net, batches = small_net(), digits_batches()
    net.eval()
    optimizer = optimizers.build("adam", net, {"lr": 0.25})
    F.cross_entropy(net(batches[0][0]), batches[0][1]).backward()
    optimizer.step()
    before = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    lr_range.sweep(net, optimizer, batches, steps=20)
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before[0].items())
    after = optimizer.state_dict()
    assert after["param_groups"] == before[1]["param_groups"]
    for key, state in before[1]["state"].items():
        assert all(torch.equal(value, after["state"][key][name]) for name, value in state.items())
    assert not net.training
    assert all(p.grad is None for p in net.parameters())


def test_they_are_as_before_after_a_mistake_too():
    net = small_net()
    before = copy.deepcopy(net.state_dict())

    def breaks():
        yield from digits_batches()[:3]
        raise RuntimeError("torn")

    with pytest.raises(RuntimeError, match="torn"):
        lr_range.sweep(net, torch.optim.SGD(net.parameters(), lr=1.0), breaks(), low=0.1)
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())


def test_a_loss_that_is_not_finite_ends_it():
    net, values = nn.Linear(2, 2), iter([2.0, 1.0, math.nan])
    found = lr_range.sweep(
        net,
        torch.optim.SGD(net.parameters()),
        [(torch.ones(3, 2), torch.zeros(3).long())],
        loss=lambda output, y: output.sum() * 0 + next(values),
    )
    assert found.losses == (2.0, 1.0)


def test_the_last_head_counts():
    class Two(nn.Linear):
        def forward(self, x):
            scores = super().forward(x)
            return Scores(scores, (scores * math.nan,), 0.3)

    net = Two(2, 2)
    found = lr_range.sweep(net, torch.optim.SGD(net.parameters()), [(torch.ones(3, 2), torch.zeros(3).long())], steps=5)
    assert len(found.losses) == 5


def test_the_suggestion_is_where_the_loss_falls_most_steeply_before_it_is_lowest():
    assert lr_range.suggest([0.01, 0.1, 1.0, 10.0], [2.0, 1.9, 1.2, 5.0]) == pytest.approx(math.sqrt(0.1))
    assert lr_range.suggest([0.01, 0.1, 10.0], [2.0, 1.5, 0.9]) == pytest.approx(math.sqrt(0.001))  # per decade
    assert lr_range.suggest([0.01, 0.1, 1.0, 10.0], [2.0, 1.0, 9.0, 1.5]) == pytest.approx(math.sqrt(0.001))
    assert lr_range.suggest([0.01, 0.1], [1.0, 2.0]) is None
    assert lr_range.suggest([0.01], [1.0]) is None


@pytest.mark.parametrize("settings", [{"low": 0}, {"low": 1.0, "high": 0.1}, {"steps": 2}, {"high": math.inf}])
def test_what_is_no_range_is_refused(settings):
    net = nn.Linear(2, 2)
    with pytest.raises(UserError, match="no range of rates"):
        lr_range.sweep(net, torch.optim.SGD(net.parameters()), [], **settings)


def test_methods_with_their_own_evaluations_and_no_batches_are_refused():
    net = nn.Linear(2, 2)
    for name in ("lbfgs", "newton", "nesterov_lookahead"):
        with pytest.raises(UserError, match="one gradient a step"):
            lr_range.sweep(net, optimizers.build(name, net), [])
    with pytest.raises(UserError, match="no batches"):
        lr_range.sweep(net, optimizers.build("sgd", net), [])
