"""Shear: a picture pushed aslant, as upright handwriting becomes italic, so that slant does not matter.

With u to the right and v downwards from the centre, in pixels, the result at (u, v) shows the picture at

    along x   u' = u + v tan a,   v' = v            (rows slide; a > 0 leans to the right)
    along y   u' = u,             v' = v + u tan b  (columns slide; b > 0 raises the right-hand side)

and both one after the other, first along x. Angles are uniform in [-degrees, degrees], an own one for every picture
and axis. Areas stay as they are: both maps have determinant 1. Helps handwriting, scanned pages and things seen from
a little to the side; hurts where an upright edge is the answer. 10 to 20 degrees are usual, 45 is the limit here.
Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis (Simard et al. 2003), section 2,
has it as "skewing". What comes from outside the picture has the mean colour. Volumes are sheared in the plane of their
last two axes, each plane alike. Neighbouring words of this kind read the picture once (warp.py).
"""

import math

import torch
from torch import Generator, Tensor

from engram.augment.padding import FILLS
from engram.augment.warp import Map, Warp, linear, read_at
from engram.grammar import choice, number
from engram.registry import register

ALONG = ("x", "y", "both")


@register(
    "augmentation",
    paper="Simard et al., Best Practices for Convolutional Neural Networks, ICDAR 2003, section 2",
    year=2003,
    stage="pixels",
    dimensions=(2, 3),
)
def shear(degrees: float = 15.0, along: str = "x", fill: str = "mean", *, mean: Tensor | None = None) -> Warp:
    """Random shear: `shear:15` leans by up to 15 degrees either way; `shear:10:both` along both axes.

    Args:
        degrees: largest angle, 0 to 45.
        along: x, y or both.
        fill: what the corners show: mean, reflect or edge.
    """
    number("shear", "degrees", degrees, 0, 45)
    choice("shear", "along", along, ALONG)
    choice("shear", "fill", fill, FILLS)
    return Warp((lambda batch, shape, rng: lean(draw_shears(batch, degrees, along, rng)),), fill, mean, planar=True)


def draw_shears(batch: int, degrees: float, along: str, rng: Generator) -> Tensor:
    """Angles (B, 2) along x and along y in degrees, uniform in [-degrees, degrees]; zero along an axis left alone."""
    chosen = torch.tensor([along != "y", along != "x"], device=rng.device)
    return (torch.rand(batch, 2, generator=rng, device=rng.device) * 2 - 1) * degrees * chosen


def shear_by(x: Tensor, degrees: Tensor, fill: str = "mean", mean: Tensor | None = None) -> Tensor:
    """Each picture sheared about its centre.

    Args:
        x: (B, C, H, W) or (B, C, D, H, W), uint8 or float.
        degrees: (B, 2), along x and along y.
        fill: mean, reflect or edge.
        mean: (C,), 0..1 for uint8 pictures.

    Returns:
        the same shape and dtype, channels-last.

    >>> x = torch.tensor([[[[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]]])
    >>> shear_by(x, torch.tensor([[45.0, 0.0]])).round()
    tensor([[[[0., 0., 1.],
              [0., 1., 0.],
              [1., 0., 0.]]]])
    """
    return read_at(x, [lean(degrees)], fill=fill, mean=mean, planar=True)


def lean(degrees: Tensor) -> Map:
    """The map of a shear by (B, 2) degrees, along x and then along y, in the plane of the last two axes."""
    along_x, along_y = (degrees * (math.pi / 180)).tan().unbind(1)
    one = torch.ones_like(along_x)
    # Read through the second word first: u' = u + a v', with v' = v + b u.
    return linear(torch.stack([one, along_y, along_x, one + along_x * along_y], dim=1).view(-1, 2, 2))
