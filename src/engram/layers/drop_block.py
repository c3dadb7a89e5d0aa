"""DropBlock: whole squares of a map fall silent, because single pixels are given away by their neighbours.

Neighbouring values of a convolution's map carry the same information, so that ordinary dropout there removes next to
nothing. DropBlock removes squares of side s. For every map separately, corners of squares are drawn

    corner ~ Bernoulli(gamma) wherever a whole square fits,
    gamma = drop / s^d  *  prod_axes n / (n - s + 1)

and y = x * M * (number of values / number of values kept): with that gamma a share of about `drop` of the values lies
under squares (a little less, since squares may overlap: of a long map about 1 - exp(-drop)), and the division keeps
the mean of the batch. d is the number of axes, n their lengths; on signals a stretch falls silent, in volumes a cube.
s = 1 is dropout, s = n drops whole channels. A map smaller than s is one square.

It helps large residual networks on photographs in long training (ResNet-50 on ImageNet 76.5 to 78.1 %, drop 0.1, s 7,
in the last two groups, after every convolution and on the shortcut); in short runs and small networks it hurts. The
paper finds it best to raise `drop` linearly from 0 over the training; a constant one is what stands here, to be raised
by setting `drop` on the layer.

Where we differ: a square is named by its first corner and not by its centre, so that even sides have an exact meaning
too; the distribution is the same. The number of kept values is counted in float32 whatever x is computed in.

Ghiasi, Lin, Le 2018, DropBlock: A regularization method for convolutional networks, arXiv:1810.12890, section 3,
algorithm 1 and equation 1; tables 1 and 2.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.errors import UserError

_LARGEST = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def corner_probability(drop: float, side: int, shape: Sequence[int]) -> float:
    """The paper's gamma: how likely a place where a whole block fits is a corner of one.

    >>> corner_probability(0.1, 1, (8, 8)), round(corner_probability(0.1, 3, (8, 8)), 5)
    (0.1, 0.01975)
    """
    gamma = drop
    for length in shape:
        fits = min(side, length)
        gamma *= length / (length - fits + 1) / fits
    return gamma  # at most `drop`: (n - s + 1) s is never below n


def block_mask(shape: Sequence[int], drop: float, side: int, *, device: torch.device | None = None) -> Tensor:
    """Ones, and zeros in random blocks: float32 of that shape (B, C, *S), from torch's global generator.

    >>> _ = torch.manual_seed(3); block_mask((1, 1, 12), drop=0.2, side=3)
    tensor([[[0., 0., 0., 1., 1., 1., 1., 1., 1., 1., 1., 1.]]])
    """
    sides = [min(side, length) for length in shape[2:]]
    corners = [length - fits + 1 for length, fits in zip(shape[2:], sides, strict=True)]
    seeds = torch.empty(*shape[:2], *corners, device=device).bernoulli_(corner_probability(drop, side, shape[2:]))
    margins = [fits - 1 for fits in reversed(sides) for _ in range(2)]
    return 1 - _LARGEST[len(sides)](F.pad(seeds, margins), sides, stride=1)


def drop_block(x: Tensor, drop: float, side: int = 7) -> Tensor:
    """One training pass: blocks of x set to zero, the rest raised so that the sum of a constant x is kept.

    Args:
        x: (B, C, *S).
        drop: share of the values that lies under blocks, about.
        side: of a block, in pixels.
    """
    mask = block_mask(x.shape, drop, side, device=x.device)
    return x * (mask * (mask.numel() / mask.sum().clamp_min(1))).to(x.dtype)


class DropBlock(nn.Module):
    """`drop_block` while training, nothing otherwise.

    Args:
        drop: share of the values, from 0 up to 1; the paper's 0.1.
        side: of a block, in pixels; the paper's 7.

    Raises:
        UserError: a share outside 0 to 1 or a side below 1.

    >>> layer = DropBlock(0.3, side=2); x = torch.ones(4, 3, 8, 8)
    >>> torch.equal(layer.eval()(x), x), round(layer.train()(x).mean().item(), 4)
    (True, 1.0)
    """

    draws_while_training = True

    def __init__(self, drop: float = 0.1, side: int = 7) -> None:
        super().__init__()
        if not 0 <= drop < 1:
            raise UserError(f"drop cannot be {drop}", allowed="a share from 0 up to 1")
        if side < 1:
            raise UserError(f"a block has a side of {side}", allowed="1 pixel or more")
        self.drop, self.side = drop, side

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        return drop_block(x, self.drop, self.side) if self.training and self.drop else x

    def extra_repr(self) -> str:
        """The layer's settings."""
        return f"drop={self.drop}, side={self.side}"
