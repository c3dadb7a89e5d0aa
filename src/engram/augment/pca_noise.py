"""PCA colour noise: the whole picture's colour shifted along the directions in which colours of the data vary.

With eigenvectors p_i and eigenvalues l_i of the covariance of RGB values (in 0..1) over the training pixels, and
a_i ~ N(0, deviation^2) drawn once a picture, the same vector is added to every pixel:

    x' = x + [p1 p2 p3] [a1 l1, a2 l2, a3 l3]^T

so the shifts have covariance P diag(deviation^2 l^2) P^T: mostly lighter and darker, a little warmer and colder.
AlexNet (Krizhevsky et al. 2012), section 4.1: deviation 0.1, top-1 error down by over 1 %. Nothing is cut off to 0..1,
as in the paper. Without a palette of the data the published ImageNet one is used: eigenvalues 0.2175, 0.0188, 0.0045
(fb.resnet.torch; they are larger than the variances of ImageNet's pixels in 0..1, but every ResNet was trained so).
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Generator, Tensor

from engram.augment.layout import from_rows, to_rows
from engram.errors import UserError
from engram.grammar import number
from engram.registry import register

Palette = tuple[Tensor, Tensor]

IMAGENET_VALUES = (0.2175, 0.0188, 0.0045)
IMAGENET_VECTORS = (  # a row a channel, a column a direction
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


@register(
    "augmentation",
    paper="Krizhevsky et al., AlexNet, NIPS 2012, section 4.1",
    year=2012,
    stage="color",
    dimensions=(2,),
    channels=(3,),
    also=("pca",),
)
def pca_noise(deviation: float = 0.1, *, palette: Palette | None = None) -> Callable[[Tensor, Generator], Tensor]:
    """AlexNet's colour noise: `pca_noise:0.1`; 3 channels.

    Args:
        deviation: standard deviation of the multiples of each eigenvalue.
        palette: (values, vectors) as `palette_of` gives (none: ImageNet's).
    """
    number("pca_noise", "deviation", deviation, 0)
    return lambda x, rng: shift_color(x, draw_shifts(len(x), deviation, palette or imagenet_palette(x.device), rng))


@cache  # once a device: a copy from the host at every step would make it wait for the device
def imagenet_palette(device: torch.device | str = "cpu") -> Palette:
    """The published eigenvalues (3,) and eigenvectors (3, 3) of ImageNet."""
    return torch.tensor(IMAGENET_VALUES, device=device), torch.tensor(IMAGENET_VECTORS, device=device)


def palette_of(x: Tensor) -> Palette:
    """Eigenvalues (3,), largest first, and eigenvectors (3, 3), one a column, of the covariance of RGB values in 0..1.

    Args:
        x: (N, 3, H, W) training pictures, uint8, or float in 0..1; some thousand are enough.

    Raises:
        UserError: not 3 channels.

    >>> grey = torch.linspace(0, 1, 128).view(8, 1, 4, 4).expand(8, 3, 4, 4)
    >>> palette_of(grey)[1][:, 0].abs()
    tensor([0.5774, 0.5774, 0.5774])
    """
    if x.shape[1] != 3:
        raise UserError(f"pca_noise: pictures of {x.shape[1]} channels have no palette", allowed="3 channels")
    pixels = to_rows(x).reshape(-1, 3).float() / (255 if x.dtype == torch.uint8 else 1)
    values, vectors = torch.linalg.eigh(torch.cov(pixels.T))  # smallest first
    return values.flip(0).clamp(min=0), vectors.flip(1)


def draw_shifts(batch: int, deviation: float, palette: Palette, rng: Generator) -> Tensor:
    """What is added to every pixel of each picture, (B, 3)."""
    values, vectors = palette
    multiples = torch.randn(batch, 3, generator=rng, device=rng.device) * deviation
    return (multiples * values) @ vectors.T


def shift_color(x: Tensor, shifts: Tensor) -> Tensor:
    """The same vector added to every pixel of a picture.

    Args:
        x: float (B, C, H, W) in 0..1.
        shifts: (B, C).

    Returns:
        the same shape, channels-last, not cut off.
    """
    rows = to_rows(x)
    batch, height, width, channels = rows.shape
    row = shifts.to(x.dtype).repeat(1, width).unsqueeze(1)  # (B, 1, W C): a row at a time is 1.6x as fast as a pixel
    return from_rows((rows.view(batch, height, width * channels) + row).view_as(rows))
