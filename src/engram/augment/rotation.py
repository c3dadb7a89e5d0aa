"""Rotation by a random angle about the centre, so that a tilted camera or a slanted hand does not matter.

With u to the right and v downwards from the centre, in pixels, the result at (u, v) shows the picture at

    u' = u cos t - v sin t,   v' = u sin t + v cos t

read bilinearly: a turn by t against the clock, as seen. t is uniform in [-degrees, degrees]. Corners from outside the
picture have the mean colour. Handwriting and medical or aerial pictures gain; 10 to 15 degrees are usual, 180 where no
direction is up. Every rotation blurs a little: the values between pixels are means of four.
Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis (Simard et al. 2003), section 2.
Volumes turn in the plane of their last two axes, each plane alike. Beside shear, stretch, translation and
lens_distortion the picture is read only once (warp.py).
"""

import math

import torch
from torch import Generator, Tensor

from engram.augment.padding import FILLS
from engram.augment.warp import Map, Warp, linear, read_at
from engram.grammar import choice, number
from engram.registry import register


@register(
    "augmentation",
    paper="Simard et al., Best Practices for Convolutional Neural Networks, ICDAR 2003, section 2",
    year=2003,
    stage="pixels",
    dimensions=(2, 3),
)
def rotation(degrees: float = 15.0, fill: str = "mean", *, mean: Tensor | None = None) -> Warp:
    """Random rotation: `rotation:15` turns by up to 15 degrees either way.

    Args:
        degrees: largest angle, 0 to 180.
        fill: what the corners show: mean, reflect or edge.
    """
    number("rotation", "degrees", degrees, 0, 180)
    choice("rotation", "fill", fill, FILLS)
    return Warp((lambda batch, shape, rng: turn(draw_angles(batch, degrees, rng)),), fill, mean, planar=True)


def draw_angles(batch: int, degrees: float, rng: Generator) -> Tensor:
    """Angles (B,) in degrees, uniform in [-degrees, degrees]."""
    return (torch.rand(batch, generator=rng, device=rng.device) * 2 - 1) * degrees


def rotate_by(x: Tensor, degrees: Tensor, fill: str = "mean", mean: Tensor | None = None) -> Tensor:
    """Each picture turned about its centre against the clock.

    Args:
        x: (B, C, H, W) or (B, C, D, H, W), uint8 or float.
        degrees: (B,).
        fill: mean, reflect or edge.
        mean: (C,), 0..1 for uint8 pictures.

    Returns:
        the same shape and dtype, channels-last.

    >>> rotate_by(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.tensor([90.0])).round()
    tensor([[[[2., 4.],
              [1., 3.]]]])
    """
    return read_at(x, [turn(degrees)], fill=fill, mean=mean, planar=True)


def turn(degrees: Tensor) -> Map:
    """The map of a rotation by (B,) degrees, in the plane of the last two axes."""
    angle = degrees * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    return linear(torch.stack([cos, sin, -sin, cos], dim=1).view(-1, 2, 2))  # v' above u'
