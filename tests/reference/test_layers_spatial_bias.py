"""Biases by channel, position, unit or none, their gradients, and biases that are kept where they are."""

import pytest
import torch
from torch import nn

from engram.errors import UserError
from engram.layers.spatial_bias import SpatialBias, freeze_biases


@pytest.mark.parametrize("size", [(7,), (5, 6), (3, 4, 5)])
@pytest.mark.parametrize("over", ["channel", "position", "unit"])
def test_each_depends_on_what_it_says(over: str, size: tuple[int, ...]) -> None:
    layer = SpatialBias(over, channels=4, size=size)
    assert not layer.bias.any()
    x = torch.randn(2, 4, *size)
    assert torch.equal(layer(x), x)
    nn.init.normal_(layer.bias)
    added = (layer(x) - x).detach()
    counts = {"channel": 4, "position": x[0, 0].numel(), "unit": x[0].numel()}
    assert layer.bias.numel() == counts[over]
    torch.testing.assert_close(added[0], added[1])
    for index in range(4):
        for place in [(0,) * len(size), tuple(side - 1 for side in size)]:
            own = {"channel": (index, *(0,) * len(size)), "position": (0, *place), "unit": (index, *place)}[over]
            assert added[(0, index, *place)] == pytest.approx(layer.bias[own].item(), abs=1e-5)


@pytest.mark.parametrize(("over", "axes"), [("channel", (0, 2, 3)), ("position", (0, 1)), ("unit", (0,))])
def test_its_gradient_is_the_sum_over_all_that_share_it(over: str, axes: tuple[int, ...]) -> None:
    layer = SpatialBias(over, channels=4, size=(5, 6))
    upstream = torch.randn(3, 4, 5, 6)
    layer(torch.randn(3, 4, 5, 6)).backward(upstream)
    torch.testing.assert_close(layer.bias.grad, upstream.sum(axes, keepdim=True)[0])


def test_by_channel_it_is_the_bias_of_a_convolution() -> None:
    with_bias, without = nn.Conv2d(2, 4, 3), nn.Conv2d(2, 4, 3, bias=False)
    layer = SpatialBias("channel", channels=4, size=(4, 4))
    without.load_state_dict({"weight": with_bias.weight})
    layer.load_state_dict({"bias": with_bias.bias.detach().view(4, 1, 1)})
    for sides in ((6, 6), (9, 5)):  # maps of any size
        x = torch.randn(2, 2, *sides)
        torch.testing.assert_close(layer(without(x)), with_bias(x))


def test_none_has_no_parameter_and_adds_nothing() -> None:
    layer = SpatialBias("none", channels=4, size=(5, 6))
    x = torch.randn(2, 4, 5, 6)
    assert not list(layer.parameters())
    assert layer(x) is x
    assert repr(layer) == "SpatialBias(over=none)"


@pytest.mark.parametrize("over", ["position", "unit"])
def test_maps_of_another_size_are_refused(over: str) -> None:
    with pytest.raises(UserError, match=f"a bias for every {over} of maps of 5x6 does not fit maps of 5x1"):
        SpatialBias(over, channels=4, size=(5, 6))(torch.zeros(1, 4, 5, 1))


def test_a_bias_before_a_batch_normalisation_has_no_effect_and_no_gradient() -> None:
    torch.manual_seed(0)
    for over in ("channel", "unit"):
        layer = SpatialBias(over, channels=3, size=(4, 4)).double()
        norm = nn.BatchNorm2d(3).double()
        x, upstream = torch.randn(2, 8, 3, 4, 4, dtype=torch.float64)
        before = norm(layer(x)).detach()
        layer.bias.data += 5.0
        y = norm(layer(x))
        torch.testing.assert_close(y.detach(), before)
        y.backward(upstream)
        assert layer.bias.grad.sum((-1, -2)).abs().max() < 1e-10


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 300, 3), nn.BatchNorm2d(300), nn.ReLU(), nn.Flatten(), nn.Linear(1200, 5, bias=False),
        SpatialBias("unit", channels=5, size=()),
    )  # fmt: skip


@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize("kept", ["zero", "random", "learned"])
def test_biases_are_kept_or_learned(kept: str, norms: bool) -> None:
    net = network()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    lines = freeze_biases(net, kept, deviation=2.0, norms=norms, rng=torch.Generator().manual_seed(1))
    treated = ["0.bias", "1.bias", "5.bias"] if norms else ["0.bias", "5.bias"]
    assert [line.partition(":")[0] for line in lines] == treated
    told = {"zero": "kept at 0", "random": "kept as drawn from N(0, 2^2)", "learned": "learned"}[kept]
    assert all(line.endswith(f": {told}") for line in lines)
    for name, p in net.named_parameters():
        assert p.requires_grad == (kept == "learned" or name not in treated)
        if name not in treated or kept == "learned":
            assert torch.equal(p, before[name])
        elif kept == "zero":
            assert not p.any()
    if kept == "random":
        assert net[0].bias.std().item() == pytest.approx(2, rel=5 / 600**0.5)
        again = network()
        torch.manual_seed(5)  # nothing comes from here
        freeze_biases(again, kept, deviation=2.0, norms=norms, rng=torch.Generator().manual_seed(1))
        assert torch.equal(again[0].bias, net[0].bias)


def test_kept_biases_stay_while_the_weights_learn() -> None:
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    freeze_biases(net, "random")
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.ones(4, 2)).square().sum().backward()
        optimizer.step()
    for name, p in net.named_parameters():
        assert torch.equal(p, before[name]) == ("bias" in name)


def test_refuses() -> None:
    with pytest.raises(UserError, match="'pixel' is not known"):
        SpatialBias("pixel", channels=1, size=(2,))
    with pytest.raises(UserError, match="'frozen' is not known"):
        freeze_biases(nn.Linear(2, 2), "frozen")
    with pytest.raises(UserError, match="no biases"):
        freeze_biases(nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2)), "zero")
