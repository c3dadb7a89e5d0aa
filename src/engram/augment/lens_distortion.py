"""Lens distortion: straight lines bent outwards (barrel) or inwards (pincushion), as another lens would show them.

With q = (v, u) from the centre in pixels and r = |q| over half the diagonal, so that corners have r = 1, the result
shows at q the picture at

    q' = q (1 + k r^2)

k > 0 reads further out the further out it is, so the picture shrinks towards its border: a barrel. k < 0 enlarges the
border: a pincushion. k is uniform in [-strength, strength], an own one for every picture. Below -1/3 the map would turn
back before the corner and show things twice, hence strength < 1/3. Beyond the corners (another word may read there) the
factor stays 1 + k.

Helps where cameras differ (wide angles, phones, endoscopes); hurts where straight lines are the answer. Barrels show
the mean colour in the corners, unless `fill` says otherwise. Frames of a volume are bent each alike, in the plane of
the last two axes. Neighbouring words of this kind read the picture once (warp.py).

The first radial term of Brown 1971, Close-range camera calibration; in training: Wu et al. 2015, Deep Image:
Scaling up Image Recognition, which has it beside stretching, rotation and colour casts in its data augmentation.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from engram.augment.padding import FILLS
from engram.augment.warp import Map, Places, Warp, read_at
from engram.grammar import choice, number
from engram.registry import register

MOST = 0.33
"""Just below 1/3, where a pincushion folds over at its corners."""


@register(
    "augmentation",
    paper="Wu et al., Deep Image: Scaling up Image Recognition, 2015, arXiv:1501.02876",
    year=2015,
    stage="pixels",
    dimensions=(2, 3),
)
def lens_distortion(strength: float = 0.2, fill: str = "mean", *, mean: Tensor | None = None) -> Warp:
    """Random barrel or pincushion: `lens_distortion:0.2` moves corners by up to a fifth of their distance.

    Args:
        strength: largest share by which the place of a corner changes, 0 to 0.33.
        fill: what a barrel's corners show: mean, reflect or edge.
    """
    number("lens_distortion", "strength", strength, 0, MOST)
    choice("lens_distortion", "fill", fill, FILLS)

    def draw(batch: int, shape: Sequence[int], rng: Generator) -> Map:
        return bend(draw_lenses(batch, strength, rng), (shape[-2], shape[-1]))

    return Warp((draw,), fill, mean, planar=True)


def draw_lenses(batch: int, strength: float, rng: Generator) -> Tensor:
    """k of each picture (B,), uniform in [-strength, strength]."""
    return (torch.rand(batch, generator=rng, device=rng.device) * 2 - 1) * strength


def bend_by(x: Tensor, lenses: Tensor, fill: str = "mean", mean: Tensor | None = None) -> Tensor:
    """Each picture as its lens shows it.

    Args:
        x: (B, C, H, W) or (B, C, D, H, W), uint8 or float.
        lenses: k (B,); above 0 a barrel, below a pincushion.
        fill: mean, reflect or edge.
        mean: (C,), 0..1 for uint8 pictures.

    Returns:
        the same shape and dtype, channels-last.

    >>> bend_by(torch.tensor([[[[0.0, 4.0, 8.0]]]]), torch.tensor([0.25]), "mean").round(decimals=1)
    tensor([[[[0.0000, 4.0000, 7.2000]]]])
    """
    return read_at(x, [bend(lenses, (x.shape[-2], x.shape[-1]))], fill=fill, mean=mean, planar=True)


def bend(lenses: Tensor, sides: tuple[int, int]) -> Map:
    """The map of lenses with k (B,) over pictures of those sides, in the plane of the last two axes."""
    corner = (sides[0] ** 2 + sides[1] ** 2) / 4  # squared distance, pixels

    def move(places: Places) -> Places:
        *deep, v, u = places
        near = ((v * v + u * u) / corner).clamp(max=1)  # r^2
        factor = 1 + lenses[:, None] * near  # (B, N)
        return [*deep, v * factor, u * factor]

    return move
