"""Maxout against its formula, its gradient, the functions it can be, and the scale its first weights keep."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.errors import UserError
from engram.layers.maxout import Maxout, maxout_convolution, maxout_linear, mean_square_of_largest

# Mean and variance of the largest of n standard normal values: tables of normal order statistics.
ORDER_STATISTICS = {
    1: (0.0, 1.0),
    2: (0.56419, 0.68169),
    3: (0.84628, 0.55947),
    4: (1.02938, 0.49172),
    5: (1.16296, 0.44753),
    10: (1.53875, 0.34434),
}


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pieces", [2, 3, 5])
def test_a_unit_is_the_largest_of_its_linear_functions(pieces: int) -> None:
    layer = maxout_linear(7, 4, pieces).double()
    w, b = layer[0].weight, layer[0].bias
    nn.init.normal_(b)
    x = values(6, 7)
    for unit in range(4):
        own = range(pieces * unit, pieces * unit + pieces)
        expected = torch.stack([x @ w[piece] + b[piece] for piece in own]).amax(0)
        torch.testing.assert_close(layer(x)[:, unit], expected)


@pytest.mark.parametrize(("dimensions", "sides"), [(1, (9,)), (2, (7, 6)), (3, (5, 4, 6))])
def test_a_map_is_the_largest_of_its_maps_at_each_place(dimensions: int, sides: tuple[int, ...]) -> None:
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[dimensions]
    layer = maxout_convolution(3, 4, 3, 2, 1, pieces=3, dimensions=dimensions).double()
    nn.init.normal_(layer[0].bias)
    x = values(2, 3, *sides)
    maps = [convolve(x, layer[0].weight[piece::3], layer[0].bias[piece::3], stride=2, padding=1) for piece in range(3)]
    torch.testing.assert_close(layer(x), torch.stack(maps).amax(0))


def test_the_gradient_goes_whole_to_the_piece_that_won() -> None:
    x = torch.tensor([[1.0, 3.0, -2.0, -4.0, 0.5, -0.5]], requires_grad=True)
    Maxout(2)(x).backward(torch.tensor([[5.0, 7.0, 11.0]]))
    assert x.grad is not None
    assert x.grad.tolist() == [[0.0, 5.0, 7.0, 0.0, 11.0, 0.0]]
    assert torch.autograd.gradcheck(Maxout(3), values(4, 6, 2).requires_grad_())


@pytest.mark.parametrize(
    ("weights", "function"), [((1.0, 0.0), F.relu), ((1.0, -1.0), torch.abs), ((2.0, 2.0), lambda x: 2 * x)]
)
def test_two_pieces_can_be(weights: tuple[float, float], function) -> None:
    layer = maxout_linear(1, 1, pieces=2).double()
    layer[0].weight.data[:, 0] = torch.tensor(weights, dtype=torch.float64)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    torch.testing.assert_close(layer(x), function(x))


@pytest.mark.parametrize("count", ORDER_STATISTICS)
def test_the_mean_square_of_the_largest_is_the_tables(count: int) -> None:
    mean, variance = ORDER_STATISTICS[count]
    assert mean_square_of_largest(count) == pytest.approx(mean**2 + variance, abs=5e-5)


@pytest.mark.parametrize("pieces", [2, 3, 5])
def test_a_signal_keeps_its_scale_through_many_layers(pieces: int) -> None:
    """The mean square of 400 units, whose signs and means are anything, is near 1 after one layer and after six."""
    torch.manual_seed(0)
    x = torch.randn(200, 400)
    for _ in range(6):
        layer = maxout_linear(400, 400, pieces)
        assert not layer[0].bias.any()
        x = layer(x).detach()
        assert x.square().mean() == pytest.approx(1, abs=0.3)


def test_first_weights_have_the_variance_they_should() -> None:
    torch.manual_seed(0)
    for layer, fan_in in ((maxout_linear(300, 100, 3)[0], 300), (maxout_convolution(40, 50, 3, pieces=3)[0], 360)):
        variance = layer.weight.detach().var().item()
        many = layer.weight.numel()
        assert variance * fan_in * 1.2757 == pytest.approx(1, abs=5 * (2 / many) ** 0.5 + 1e-4)


def test_refuses_what_is_no_maximum() -> None:
    with pytest.raises(UserError, match="maxout of 1 pieces"):
        Maxout(1)
    with pytest.raises(UserError, match="maxout of 0 pieces"):
        maxout_linear(4, 4, pieces=0)
    with pytest.raises(UserError, match="5 features do not fall into groups of 2"):
        Maxout(2)(torch.zeros(1, 5))
