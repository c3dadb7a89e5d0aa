"""Guided backpropagation: against a chain written out in float64, for every way in which a ReLU can be called."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import attribution
from engram.errors import UserError

WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu by position": lambda x: F.relu(x, True),
    "F.relu by name": lambda x: F.relu(input=x),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "relu": lambda x: x.relu(),
    "relu_": lambda x: x.relu_(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp by position": lambda x: x.clamp(0),
    "torch.clamp": lambda x: torch.clamp(x, min=0.0),
    "clamp_min": lambda x: torch.clamp_min(x, 0),
    "clamp_": lambda x: x.clamp_(min=0),
    "clamp_min_": lambda x: x.clamp_min_(0),
}


def overwritten(x: Tensor) -> Tensor:
    """In place, and the result is not used: the tensor itself is."""
    F.relu_(x)
    return x


WAYS["in place for its own sake"] = overwritten


class Chain(nn.Module):
    """Convolution, ReLU, convolution, ReLU, sums: two masks of each kind."""

    def __init__(self, relu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.relu = relu
        self.first = nn.Conv2d(2, 3, 3, bias=False)
        self.second = nn.Conv2d(3, 4, 2)
        self.head = nn.Linear(4, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.second(self.relu(self.first(x))))
        return self.head(x.flatten(2).mean(2))


def by_hand(net: Chain, x: Tensor, y: int, *, guided: bool = True, highest: float = float("inf")) -> Tensor:
    """The guided gradient with every step written out: transposed convolutions and two masks at each ReLU."""
    with torch.no_grad():
        before1 = net.first(x)
        before2 = net.second(before1.clamp(0, highest))
        positions = before2[0, 0].numel()
        g = (net.head.weight[y] / positions)[None, :, None, None].expand_as(before2)
        for before, kernel in ((before2, net.second.weight), (before1, net.first.weight)):
            g = g * (before > 0) * (before < highest)
            if guided:
                g = g * (g > 0)
            g = F.conv_transpose2d(g, kernel)
        return g


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("way", list(WAYS))
def test_it_is_the_chain_with_both_masks(x: Tensor, way: str) -> None:
    net = Chain(WAYS[way])
    expected = by_hand(net, x, 1)
    signed = attribution.guided_backpropagation(net, x, 1, signed=True)
    torch.testing.assert_close(signed, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(attribution.guided_backpropagation(net, x, 1), expected.abs().amax(1))
    # and it is something else than the gradient, which the same chain gives without the second mask
    plain = by_hand(net, x, 1, guided=False)
    torch.testing.assert_close(attribution.gradient(net, x, 1, signed=True), plain, rtol=1e-12, atol=1e-14)
    assert not torch.allclose(plain, expected, atol=1e-3)


@pytest.mark.parametrize("relu6", [nn.ReLU6(), nn.ReLU6(inplace=True), F.relu6, lambda x: F.relu6(x, inplace=True)])
def test_a_relu_that_stops_at_six_stops_the_gradient_there(relu6: Callable[[Tensor], Tensor], x: Tensor) -> None:
    net, large = Chain(relu6), 12 * x
    with torch.no_grad():
        assert bool((net.first(large) > 6).any())
    expected = by_hand(net, large, 2, highest=6.0)
    signed = attribution.guided_backpropagation(net, large, 2, signed=True)
    torch.testing.assert_close(signed, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("other", [torch.tanh, F.gelu, F.leaky_relu, F.hardtanh, lambda x: x.clamp(-1, 1)])
def test_without_a_relu_there_is_nothing_to_guide(other: Callable[[Tensor], Tensor], x: Tensor) -> None:
    with pytest.raises(UserError, match="has no ReLU"):
        attribution.guided_backpropagation(Chain(other), x)


def test_what_has_no_gradient_is_no_relu(x: Tensor) -> None:
    class Counting(nn.Module):
        """Cuts numbers at 0 that are no signals: places, and a constant."""

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(2, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            place = torch.tensor([-1]).clamp(min=0)
            return self.head(x.flatten(2)[..., place].tanh().mean(2) * F.relu(torch.ones(2)))

    with pytest.raises(UserError, match="has no ReLU"):
        attribution.guided_backpropagation(Counting(), x)


def test_other_nonlinearities_keep_their_gradient(x: Tensor) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    net.double()
    with torch.no_grad():
        hidden = torch.tanh(net[0](x))
        before = net[2](hidden)
        g = net[5].weight[0].reshape(1, 2, 4, 4) * (before > 0)
        g = g * (g > 0)
        g = F.conv_transpose2d(g, net[2].weight) * (1 - hidden.square())
        expected = F.conv_transpose2d(g, net[0].weight)
    signed = attribution.guided_backpropagation(net, x, 0, signed=True)
    torch.testing.assert_close(signed, expected, rtol=1e-12, atol=1e-14)


def test_relus_are_themselves_again_afterwards(x: Tensor) -> None:
    net = Chain(F.relu)
    before = attribution.gradient(net, x, 1)
    attribution.guided_backpropagation(net, x, 1)
    assert torch.equal(attribution.gradient(net, x, 1), before)
    with pytest.raises(UserError):
        attribution.guided_backpropagation(net, x, 7)  # fails inside
    assert torch.equal(attribution.gradient(net, x, 1), before)
