"""Stretch: each axis made longer or shorter by a factor of its own, so that size and proportions do not matter.

With q the place along an axis from the centre, in pixels, the result shows at q the picture at

    q' = q / f,    log f uniform in [-log(factor), log(factor)]

so that f > 1 enlarges and cuts off, f < 1 shrinks and shows what is outside (the mean colour), and twice as large is as
likely as half. With `together` all axes have the same f: a zoom, which keeps the proportions. Helps where size says
nothing, and for signals, whose pace it changes; hurts where size is the answer. 1.1 to 1.3 are usual; a picture shrunk
by more than 2 would alias, so 2 is the limit here. `resized_crop` changes size and proportions too, always enlarges,
and is the usual word on photographs.

LeCun et al. 1998, Gradient-based learning applied to document recognition, section III-B: horizontal and vertical
squeezing and scaling among MNIST's distortions. Signals, pictures and volumes. Neighbouring words of this kind read
the picture once (warp.py).
"""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from engram.augment.padding import FILLS
from engram.augment.warp import Map, Warp, read_at
from engram.grammar import choice, number
from engram.registry import register

AXES = ("apart", "together")


@register(
    "augmentation",
    paper="LeCun et al., Gradient-based learning applied to document recognition, 1998, section III-B",
    year=1998,
    stage="pixels",
)
def stretch(factor: float = 1.2, axes: str = "apart", fill: str = "mean", *, mean: Tensor | None = None) -> Warp:
    """Random scale of each axis: `stretch:1.2` by 1/1.2 to 1.2; `stretch:1.2:together` keeps the proportions.

    Args:
        factor: largest factor, 1 to 2; its inverse is the smallest.
        axes: apart or together.
        fill: what is seen outside a picture that shrank: mean, reflect or edge.
    """
    number("stretch", "factor", factor, 1, 2)
    choice("stretch", "axes", axes, AXES)
    choice("stretch", "fill", fill, FILLS)

    def draw(batch: int, shape: Sequence[int], rng: Generator) -> Map:
        return longer(draw_stretches(batch, len(shape), factor, axes == "together", rng))

    return Warp((draw,), fill, mean)


def draw_stretches(batch: int, axes: int, factor: float, together: bool, rng: Generator) -> Tensor:
    """Factors (B, axes), log-uniform in [1 / factor, factor]."""
    share = torch.rand(batch, 1 if together else axes, generator=rng, device=rng.device) * 2 - 1
    return (share * math.log(factor)).exp().expand(batch, axes)


def stretch_by(x: Tensor, factors: Tensor, fill: str = "mean", mean: Tensor | None = None) -> Tensor:
    """Each picture stretched about its centre.

    Args:
        x: (B, C, *S), uint8 or float.
        factors: (B, n), one for each axis of S.
        fill: mean, reflect or edge.
        mean: (C,), 0..1 for uint8 pictures.

    Returns:
        the same shape and dtype, channels-last.

    >>> stretch_by(torch.tensor([[[0.0, 4.0, 8.0, 4.0, 0.0]]]), torch.tensor([[2.0]]))
    tensor([[[4., 6., 8., 6., 4.]]])
    """
    return read_at(x, [longer(factors)], fill=fill, mean=mean)


def longer(factors: Tensor) -> Map:
    """The map of a stretch by (B, n) factors."""
    return lambda places: [place / factors[:, [axis]] for axis, place in enumerate(places)]
