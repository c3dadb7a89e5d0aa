"""Fractional max pooling: a picture shrinks by any factor between 1 and 2, over regions that are drawn anew.

Halving throws away three quarters of a map at once, so a network can do it a few times only; by a factor of sqrt(2) it
takes twice as many steps to the same size, and each picks its rows and columns differently in every pass. An axis of n
pixels is cut at

    0 = a_0 < a_1 < ... < a_m = n,      steps a_i - a_{i-1} of floor(n/m) or one more

    "random"         the steps in an order drawn at random
    "pseudorandom"   a_i = ceil(alpha (i + u)) with one u ~ U(0, 1): evenly spread, as the paper's CIFAR network has it

and y is the maximum over the region between cuts; `overlapping` regions also hold the first pixel of the next one,
which the paper found better. Rows and columns are cut independently.

The paper: random regions distort the picture like an elastic transformation, and beat pseudorandom ones without
augmentation; with dropout or augmentation they under-fit and pseudorandom ones win. CIFAR-10 3.47 % averaged over 100
passes, by a network of 12 such layers with factor 2^(1/3). It costs depth: more layers at full width.

While training the cuts are drawn from torch's global generator, one set for the batch and all its channels (torch's own
FractionalMaxPool2d and 3d draw for every channel, which tears the channels of a place apart). Judging uses the
pseudorandom cuts with u = 1/2: the same every time, and nothing to average; `engram.layers.monte_carlo` gives the
paper's average over passes.

Why not torch's: its windows have a fixed side and begin at pseudorandom places, so that they leave out or share pixels
as it happens; these are the paper's regions, also random ones, and for signals.

Graham 2014, Fractional Max-Pooling, arXiv:1412.6071, sections 2.1 to 2.3 and 3.2.
"""

import math

import torch
from torch import Tensor, nn

from engram.errors import UserError, unknown

REGIONS = ("pseudorandom", "random")


def pseudorandom_cuts(length: int, count: int, u: float) -> list[int]:
    """Cuts (count + 1) of an axis: ceil(alpha (i + u)), shifted to begin at 0, alpha = the longest that ends at length.

    The paper asks for a_0 = 1 and a_m = n, cuts between pixels being what is meant; alpha = n / m, and the last cut
    then stands at n for every u: ceil(n + alpha u) - ceil(alpha u) = n, n being whole.

    >>> pseudorandom_cuts(10, 7, 0.5)
    [0, 2, 3, 4, 6, 7, 9, 10]
    """
    alpha = length / count
    places = [math.ceil(round(alpha * (i + u), 9)) for i in range(count)]
    return [place - places[0] for place in places] + [length]


def random_cuts(length: int, count: int, order: Tensor) -> list[int]:
    """Cuts (count + 1) of an axis whose steps stand in the order of the permutation `order` (count,).

    >>> random_cuts(10, 7, torch.tensor([6, 0, 5, 1, 4, 2, 3]))
    [0, 1, 3, 4, 6, 7, 9, 10]
    """
    step, longer = divmod(length, count)
    cuts = [0]
    for place in order.tolist():
        cuts.append(cuts[-1] + step + (place < longer))
    return cuts


def pool_between(x: Tensor, cuts: list[int], axis: int, *, overlapping: bool = True) -> Tensor:
    """The maximum over each region between cuts of one axis.

    >>> pool_between(torch.tensor([1.0, 5.0, 2.0, 3.0]), [0, 1, 3, 4], 0, overlapping=False).tolist()
    [1.0, 5.0, 3.0]
    >>> pool_between(torch.tensor([1.0, 5.0, 2.0, 3.0]), [0, 1, 3, 4], 0).tolist()
    [5.0, 5.0, 3.0]
    """
    begins, ends = torch.tensor(cuts[:-1]), torch.tensor(cuts[1:])
    last = ends - (0 if overlapping else 1)
    widest = int((last - begins).max()) + 1
    # Narrower regions show their last pixel twice, which changes no maximum.
    places = torch.minimum(begins[:, None] + torch.arange(widest), last[:, None]).clamp_(max=x.shape[axis] - 1)
    chosen = x.index_select(axis, places.flatten().to(x.device)).unflatten(axis, places.shape)
    return chosen.max(axis + 1).values


class FractionalMaxPool(nn.Module):
    """Every axis shrinks by `ratio`, to floor(length / ratio).

    Args:
        ratio: above 1; sqrt(2) and the cube root of 2 are the paper's.
        regions: "pseudorandom" or "random".
        overlapping: regions share their border pixel.

    Raises:
        UserError: a ratio of 1 or less, an unknown word; when called, an axis that is too short.

    >>> FractionalMaxPool(2**0.5)(torch.zeros(2, 8, 25, 25)).shape
    torch.Size([2, 8, 17, 17])
    """

    draws_while_training = True

    def __init__(self, ratio: float = 2**0.5, *, regions: str = "pseudorandom", overlapping: bool = True) -> None:
        super().__init__()
        if not ratio > 1:
            raise UserError(f"pooling by a factor of {ratio} shrinks nothing", allowed="a ratio above 1")
        if regions not in REGIONS:
            raise unknown("regions", regions, REGIONS)
        self.ratio, self.regions, self.overlapping = ratio, regions, overlapping

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        for axis in range(2, x.dim()):
            x = pool_between(x, self._cuts(x.shape[axis]), axis, overlapping=self.overlapping)
        return x  # (B, C, *S / ratio)

    def _cuts(self, length: int) -> list[int]:
        count = int(length / self.ratio)
        if count < 1:
            raise UserError(f"pooling by {self.ratio:.3g} leaves nothing of an axis of {length}")
        if not self.training:
            return pseudorandom_cuts(length, count, 0.5)
        if self.regions == "random":
            return random_cuts(length, count, torch.randperm(count))
        return pseudorandom_cuts(length, count, torch.rand(()).item())

    def extra_repr(self) -> str:
        """The layer's settings."""
        return f"ratio={self.ratio:.4g}, regions={self.regions}, overlapping={self.overlapping}"
