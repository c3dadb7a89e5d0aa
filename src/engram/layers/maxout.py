"""Maxout: a unit that learns its own nonlinearity, the largest of k linear functions of its input.

    h_i = max over j of (w_ij x + b_ij),    j = 1 .. k

Two pieces can be ReLU, absolute value or a straight line; more pieces approach any convex function. There is always
a piece with slope, so nothing saturates and no unit dies as a ReLU can, and the gradient goes whole to the piece that
won. With dropout the averaging of thinned networks is closer to exact, because maxout is linear nearly everywhere,
which is what it was made for.

It costs k times the weights and multiply-adds of a layer with as many units; at equal weights it is rarely ahead of
ReLU with batch normalisation, and it hurts where the budget is small.

The paper's settings: dropout everywhere (0.2 on the input, 0.5 inside), max-norm on each unit's incoming weights; on
permutation-invariant MNIST two layers of 240 units with 5 pieces each and 0.94 % errors; convolutional on CIFAR-10,
2 pieces, 11.68 %, 9.38 % with shifts and flips.

The k pieces of a unit stand side by side: features k i to k i + k - 1 of the layer before belong to unit i. In a
convolution the maximum is over groups of k maps at each place; dropout goes before the layer, never between the pieces
and the maximum.

Initial weights: He's rule is for ReLU, which halves the mean square of its input. The largest of two standard normal
values has mean square 1, of three 1.28, of five 1.80; `mean_square_of_largest(k)` is what the weights are divided by,
so that a signal keeps its scale here too (the paper draws uniformly from a range it tuned).

Goodfellow, Warde-Farley, Mirza, Courville, Bengio 2013, Maxout Networks, ICML, arXiv:1302.4389, sections 3 and 5.
"""

from functools import cache

import torch
from torch import Tensor, nn

from engram.errors import UserError
from engram.layers.dimensions import convolution


class Maxout(nn.Module):
    """The largest of every `pieces` features or channels that stand side by side.

    Raises:
        UserError: fewer than 2 pieces, or (when called) features that do not fall into groups of so many.

    >>> Maxout(2)(torch.tensor([[1.0, 3.0, -2.0, -4.0]]))
    tensor([[ 3., -2.]])
    """

    def __init__(self, pieces: int = 2) -> None:
        super().__init__()
        if pieces < 2:
            raise UserError(f"maxout of {pieces} pieces is a linear layer", allowed="2 pieces or more")
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:  # (B, k C, *S)
        if x.shape[1] % self.pieces:
            raise UserError(f"{x.shape[1]} features do not fall into groups of {self.pieces}")
        return x.unflatten(1, (-1, self.pieces)).max(2).values  # (B, C, *S)

    def extra_repr(self) -> str:
        """The number of pieces."""
        return f"pieces={self.pieces}"


def maxout_linear(in_features: int, out_features: int, pieces: int = 2) -> nn.Sequential:
    """A fully connected layer of maxout units: (B, in) to (B, out), k (in + 1) out parameters.

    >>> layer = maxout_linear(30, 20, pieces=3)
    >>> layer(torch.zeros(5, 30)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([5, 20]), 1860)
    """
    maximum = Maxout(pieces)
    return _initialized(nn.Linear(in_features, pieces * out_features), maximum)


def maxout_convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    *,
    pieces: int = 2,
    dimensions: int = 2,
) -> nn.Sequential:
    """A convolution whose every output map is, place by place, the largest of k maps.

    >>> maxout_convolution(3, 8, 3, padding=1)(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 8, 16, 16])
    """
    maximum = Maxout(pieces)
    layer = convolution(dimensions)(in_channels, pieces * out_channels, kernel_size, stride, padding)
    return _initialized(layer, maximum)


@cache
def mean_square_of_largest(count: int) -> float:
    """The mean square of the largest of so many independent standard normal values.

    The density of the largest is count * Phi^(count - 1) * phi; the integral is a sum over a fine grid, which for so
    smooth a function with no weight at the ends is exact to 1e-12.

    >>> [round(mean_square_of_largest(count), 4) for count in (1, 2, 3, 5)]
    [1.0, 1.0, 1.2757, 1.8]
    """
    z = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / (2 * torch.pi) ** 0.5
    below = torch.special.ndtr(z)
    return float((z.square() * count * below ** (count - 1) * density).sum() * (z[1] - z[0]))


def _initialized(layer: nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d, maximum: Maxout) -> nn.Sequential:
    fan_in = layer.weight[0].numel()
    nn.init.normal_(layer.weight, std=(fan_in * mean_square_of_largest(maximum.pieces)) ** -0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layer, maximum)
