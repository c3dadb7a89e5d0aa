"""Brightness, contrast and saturation: the same thing under another lamp and in another camera.

Each blends the picture x (in 0..1) with a poorer one, by a factor f of its own for every picture, and cuts off what
leaves 0..1; f = 1 changes nothing, f = 0 leaves the poorer picture, f > 1 exaggerates:

    brightness   x' = f x                              (black)
    contrast     x' = f x + (1 - f) mean(grey(x))      (one grey, the picture's mean)
    saturation   x' = f x + (1 - f) grey(x)            (the picture in grey)
    grey = 0.299 R + 0.587 G + 0.114 B                 (ITU-R BT.601)

f is uniform in [1 - strength, 1 + strength]. Helps on photographs, more with long training; 0.2 to 0.4 are usual.
Hurts where the colour is the answer (ripeness, stains, traffic lights). `color` does the three in this order, fixed
(fb.resnet.torch shuffles it for every picture). On grey pictures `color` does brightness and contrast, and saturation
alone is refused. Some Improvements on Deep Convolutional Neural Network Based Image Classification (Howard 2013),
section 2.2; the formulas are those of Pillow's ImageEnhance, with the mean grey not rounded to a whole level. Pictures
stored as uint8 are meant; compose refuses floats, whose range is not known.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Generator, Tensor

from engram.augment.layout import from_rows, to_rows
from engram.errors import UserError
from engram.grammar import number
from engram.registry import register

Apply = Callable[[Tensor, Generator], Tensor]
HOWARD = "Howard, Some Improvements on Deep CNN Based Image Classification, 2013, section 2.2"
GREY = (0.299, 0.587, 0.114)


@register("augmentation", paper=HOWARD, year=2013, stage="color", dimensions=(2,), channels=(1, 3))
def color(strength: float = 0.2) -> Apply:
    """Brightness, contrast and saturation in this order, each by its own random factor: `color:0.2`."""
    number("color", "strength", strength, 0, 1)

    def apply(x: Tensor, rng: Generator) -> Tensor:
        brighter, sharper, richer = (draw_factors(len(x), strength, rng) for _ in range(3))
        x = contrast_by(brightness_by(x, brighter), sharper)
        return x if x.shape[1] == 1 else saturation_by(x, richer)

    return apply


@register("augmentation", paper=HOWARD, year=2013, stage="color", dimensions=(2,))
def brightness(strength: float = 0.2) -> Apply:
    """Random brightness: `brightness:0.2` multiplies by 0.8 to 1.2."""
    number("brightness", "strength", strength, 0, 1)
    return lambda x, rng: brightness_by(x, draw_factors(len(x), strength, rng))


@register("augmentation", paper=HOWARD, year=2013, stage="color", dimensions=(2,), channels=(1, 3))
def contrast(strength: float = 0.2) -> Apply:
    """Random contrast: `contrast:0.2` stretches about the picture's mean grey by 0.8 to 1.2."""
    number("contrast", "strength", strength, 0, 1)
    return lambda x, rng: contrast_by(x, draw_factors(len(x), strength, rng))


@register("augmentation", paper=HOWARD, year=2013, stage="color", dimensions=(2,), channels=(3,))
def saturation(strength: float = 0.2) -> Apply:
    """Random saturation: `saturation:0.2` stretches about the grey picture by 0.8 to 1.2; 3 channels."""
    number("saturation", "strength", strength, 0, 1)
    return lambda x, rng: saturation_by(x, draw_factors(len(x), strength, rng))


def draw_factors(batch: int, strength: float, rng: Generator) -> Tensor:
    """Factors (B,), uniform in [1 - strength, 1 + strength]."""
    return 1 + (torch.rand(batch, generator=rng, device=rng.device) * 2 - 1) * strength


def brightness_by(x: Tensor, factors: Tensor) -> Tensor:
    """Pictures blended with black.

    Args:
        x: float (B, C, H, W) in 0..1.
        factors: (B,), 0 or more.

    Returns:
        the same shape, channels-last, in 0..1.

    >>> brightness_by(torch.full((1, 1, 1, 1), 0.5), torch.tensor([1.5])).item()
    0.75
    """
    rows = to_rows(x)
    return from_rows(rows.mul(_each(factors, rows)).clamp_(0, 1))


def contrast_by(x: Tensor, factors: Tensor) -> Tensor:
    """Pictures blended with their own mean grey; arguments as for brightness, C 1 or 3."""
    rows = to_rows(x)
    # Rows are averaged first and single channels after it: half the time of a mean over pixels three values long.
    mean = rows.mean(1).mean(1)  # (B, C)
    grey = mean[:, 0] if rows.shape[-1] == 1 else mean @ _grey(rows.dtype, rows.device)  # (B,)
    return from_rows(rows.mul(_each(factors, rows)).add_(_each(grey * (1 - factors), rows)).clamp_(0, 1))


def saturation_by(x: Tensor, factors: Tensor) -> Tensor:
    """Pictures blended with themselves in grey; arguments as for brightness, C = 3.

    Raises:
        UserError: not 3 channels.
    """
    if x.shape[1] != 3:
        raise UserError(f"saturation: pictures of {x.shape[1]} channels have none", allowed="3 channels")
    rows = to_rows(x)
    batch, height, width, _ = rows.shape
    # A 3 x 3 matrix for each picture, f I + (1 - f) 1 g^T: 160 us for 128 x 32 x 32; grey and blend apart 980 us.
    keep = factors.view(-1, 1, 1)
    blend = _grey(rows.dtype, rows.device)[:, None].expand(3, 3)
    matrix = keep * torch.eye(3, device=x.device) + (1 - keep) * blend
    mixed = torch.bmm(rows.view(batch, -1, 3), matrix.to(x.dtype)).clamp_(0, 1)
    return from_rows(mixed.view(batch, height, width, 3))


def _each(values: Tensor, rows: Tensor) -> Tensor:
    return values.to(rows.dtype).view(-1, *[1] * (rows.dim() - 1))


@cache  # once a device: a copy from the host at every step would make it wait for the device
def _grey(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(GREY, dtype=dtype, device=device)
