"""The moving average of the weights: its formula, its memory, what it leaves alone."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from engram.averaging import WeightAverage, blend, decay_at
from engram.errors import UserError


def net_with_buffers(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)).to(memory_format=torch.channels_last)


def shake(net: nn.Module, rng: torch.Generator) -> None:
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=rng))
    net(torch.randn(2, 1, 5, 5, generator=rng))  # moves the running statistics


def test_blend_is_torch_s_moving_average():
    rng = torch.Generator().manual_seed(0)
    averages = [torch.randn(3, 4, generator=rng), torch.randn(5, generator=rng)]
    weights = [torch.randn(3, 4, generator=rng), torch.randn(5, generator=rng)]
    expected = [0.9 * a + 0.1 * w for a, w in zip(averages, weights, strict=True)]
    theirs = [average.clone() for average in averages]
    get_ema_multi_avg_fn(0.9)(theirs, weights, 0)
    blend(averages, weights, 0.9)
    torch.testing.assert_close(averages, expected)
    torch.testing.assert_close(averages, theirs, rtol=0, atol=0)


def test_every_update_follows_the_formula():
    rng = torch.Generator().manual_seed(0)
    net = net_with_buffers().double()
    average = WeightAverage(net, 0.25)  # reached at the third update
    expected = [p.detach().clone() for p in net.parameters()]
    for decay in (1 / 10, 2 / 11, 3 / 12, 0.25, 0.25):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn(p.shape, generator=rng, dtype=torch.float64))
        average.update()
        expected = [decay * e + (1 - decay) * p.detach() for e, p in zip(expected, net.parameters(), strict=True)]
    with average.applied():
        for p, e in zip(net.parameters(), expected, strict=True):
            torch.testing.assert_close(p.detach(), e, rtol=0, atol=1e-12)


def test_the_initial_weights_are_soon_forgotten():
    left = math.prod(decay_at(n, 0.999) for n in range(10))
    assert left == pytest.approx(1 / math.comb(19, 9))  # 1.1e-5
    assert decay_at(8989, 0.999) < 0.999
    assert decay_at(8990, 0.999) == 0.999


def test_the_average_is_a_tenth_of_the_run_behind():
    behind, steps = 0.0, 2000
    for n in range(steps):
        behind = decay_at(n, 1 - 1e-9) * (behind + 1)
    assert behind / steps == pytest.approx(0.1, abs=0.001)


def test_the_own_weights_and_buffers_come_back_bit_for_bit():
    rng = torch.Generator().manual_seed(0)
    net = net_with_buffers()
    average = WeightAverage(net, 0.9)
    shake(net, rng)
    average.update()
    shake(net, rng)
    own, pointers = copy.deepcopy(net.state_dict()), [p.data_ptr() for p in net.parameters()]
    with average.applied() as inside:
        assert inside is net
        assert not torch.equal(net[0].weight, own["0.weight"])
        assert torch.equal(net[1].running_mean, own["1.running_mean"])  # buffers are the network's own
        net(torch.randn(2, 1, 5, 5, generator=rng))  # someone recalibrates inside
        assert not torch.equal(net[1].running_mean, own["1.running_mean"])
    assert all(torch.equal(value, own[name]) for name, value in net.state_dict().items())
    assert [p.data_ptr() for p in net.parameters()] == pointers
    assert net[0].weight.stride() == own["0.weight"].stride()


def test_they_come_back_after_an_error_too():
    net = net_with_buffers()
    average = WeightAverage(net, 0.9)
    shake(net, torch.Generator().manual_seed(0))
    own = copy.deepcopy(net.state_dict())
    with pytest.raises(RuntimeError, match="evaluation broke"), average.applied():
        raise RuntimeError("evaluation broke")
    assert all(torch.equal(value, own[name]) for name, value in net.state_dict().items())


def test_evaluating_does_not_change_the_average():
    net = net_with_buffers()
    average = WeightAverage(net, 0.9)
    shake(net, torch.Generator().manual_seed(0))
    average.update()
    before = copy.deepcopy(average.state_dict())
    with average.applied(), torch.no_grad():
        net[0].weight.add_(1.0)
    assert all(
        torch.equal(average.state_dict()["weights"][name], before["weights"][name]) for name in before["weights"]
    )


def test_training_is_the_same_with_and_without_it():
    ends = []
    for averaged in (True, False):
        rng = torch.Generator().manual_seed(0)
        net = net_with_buffers()
        average = WeightAverage(net, 0.9) if averaged else None
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for _ in range(4):
            optimizer.zero_grad()
            net(torch.randn(2, 1, 5, 5, generator=rng)).square().mean().backward()
            optimizer.step()
            if average:
                average.update()
                with average.applied():
                    net.eval()(torch.ones(1, 1, 5, 5))
                net.train()
        ends.append(net.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_its_state_goes_on_where_it_stopped(tmp_path):
    rng = torch.Generator().manual_seed(0)
    net = net_with_buffers()
    average = WeightAverage(net, 0.9)
    for _ in range(3):
        shake(net, rng)
        average.update()
    torch.save(average.state_dict(), tmp_path / "state.pt")
    other = net_with_buffers(seed=5)
    resumed = WeightAverage(other, 0.5)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    other.load_state_dict(net.state_dict())
    shake(net, rng)
    other.load_state_dict(net.state_dict())
    average.update()
    resumed.update()
    assert (resumed.updates, resumed.decay) == (4, 0.9)
    for name, weight in average.state_dict()["weights"].items():
        assert torch.equal(weight, resumed.state_dict()["weights"][name])
    assert list(average.state_dict()["weights"]) == [name for name, _ in net.named_parameters()]


@pytest.mark.parametrize("other", [nn.Linear(2, 3), nn.Linear(3, 2, bias=False), nn.Sequential(nn.Linear(3, 2))])
def test_the_state_of_another_network_is_refused_and_changes_nothing(other):
    average = WeightAverage(nn.Linear(3, 2), 0.9)
    before = copy.deepcopy(average.state_dict())
    with pytest.raises(UserError, match="another network"):
        average.load_state_dict(WeightAverage(other, 0.5).state_dict())
    assert average.decay == 0.9
    assert all(torch.equal(before["weights"][name], now) for name, now in average.state_dict()["weights"].items())


def test_averages_of_16_bit_weights_keep_what_16_bits_cannot():
    net = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    with torch.no_grad():
        net.weight.fill_(1.0)
    average = WeightAverage(net, 0.999)
    average.updates = 10_000
    with torch.no_grad():
        net.weight.fill_(2.0)
    for _ in range(10):
        average.update()
    assert average.state_dict()["weights"]["weight"].item() == pytest.approx(2 - 0.999**10, abs=1e-5)
    with average.applied():
        assert net.weight.dtype == torch.bfloat16
        assert net.weight.item() == pytest.approx(1.01, abs=0.005)


@pytest.mark.parametrize("decay", [0, 1, -0.5, 1.5, float("nan"), "slow", True, None])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(UserError) as caught:
        WeightAverage(nn.Linear(1, 1), decay)
    assert str(caught.value).splitlines()[0] == f"average cannot be {decay!r}"
    assert caught.value.allowed == "between 0 and 1"
