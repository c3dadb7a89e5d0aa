"""Translation: the picture shifted by a fraction of its sides, so that where a thing stands does not matter.

With q a place from the centre, the result shows at q the picture at

    q' = q - t,    t uniform in [-share length, share length], for each axis and picture its own

in pixels, fractions among them, read bilinearly. `crop:4` shifts too, by whole pixels and without any blur: prefer it
alone. This word is for shares of a side where sizes differ between recipes, and for company: beside rotation, shear,
stretch and lens_distortion it costs no reading of its own (warp.py). It hurts where position is the answer, and on
tiny pictures, where a half pixel blurs. What comes from outside has the mean colour. Signals, pictures and volumes.

Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis (Simard et al. 2003), section 2.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from engram.augment.padding import FILLS
from engram.augment.warp import Map, Warp, read_at
from engram.grammar import choice, number
from engram.registry import register


@register(
    "augmentation",
    paper="Simard et al., Best Practices for Convolutional Neural Networks, ICDAR 2003, section 2",
    year=2003,
    stage="pixels",
)
def translation(share: float = 0.1, fill: str = "mean", *, mean: Tensor | None = None) -> Warp:
    """Random shift: `translation:0.1` moves by up to a tenth of each side, either way.

    Args:
        share: largest shift over the side's length, 0 to 1.
        fill: what comes in from outside: mean, reflect or edge.
    """
    number("translation", "share", share, 0, 1)
    choice("translation", "fill", fill, FILLS)
    return Warp((lambda batch, shape, rng: shifted(draw_shifts(batch, shape, share, rng)),), fill, mean)


def draw_shifts(batch: int, shape: Sequence[int], share: float, rng: Generator) -> Tensor:
    """Shifts (B, n) in pixels, uniform in [-share length, share length] along each axis."""
    reach = torch.tensor([share * length for length in shape], device=rng.device)
    return (torch.rand(batch, len(shape), generator=rng, device=rng.device) * 2 - 1) * reach


def translate_by(x: Tensor, shifts: Tensor, fill: str = "mean", mean: Tensor | None = None) -> Tensor:
    """Each picture shifted.

    Args:
        x: (B, C, *S), uint8 or float.
        shifts: (B, n) pixels along each axis of S; more is downwards and to the right.
        fill: mean, reflect or edge.
        mean: (C,), 0..1 for uint8 pictures.

    Returns:
        the same shape and dtype, channels-last.

    >>> translate_by(torch.tensor([[[0.0, 2.0, 4.0, 6.0]]]), torch.tensor([[0.5]]), "edge")
    tensor([[[0., 1., 3., 5.]]])
    """
    return read_at(x, [shifted(shifts)], fill=fill, mean=mean)


def shifted(shifts: Tensor) -> Map:
    """The map of a shift by (B, n) pixels."""
    return lambda places: [place - shifts[:, [axis]] for axis, place in enumerate(places)]
