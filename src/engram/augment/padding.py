"""What stands outside a picture: its mean colour, its own mirror image, or its edge drawn out."""

from collections.abc import Sequence

import torch
from torch import Tensor

from engram.augment.layout import from_rows, to_rows

FILLS = ("mean", "reflect", "edge")


def color_of(mean: Tensor | None, x: Tensor) -> Tensor:
    """The mean colour (C,) in the units in which `x` is stored: 0..255 for uint8, the data's own for floats.

    Rounded to a grey level for uint8, so it is zero after normalisation to within half a level (0.5 / 255 / std).
    No mean is black.
    """
    if mean is None:
        return x.new_zeros(x.shape[1])
    mean = mean.to(x.device)
    return mean.mul(255).round().to(x.dtype) if x.dtype == torch.uint8 else mean.to(x.dtype)


def pad(x: Tensor, amounts: Sequence[tuple[int, int]], fill: str = "mean", mean: Tensor | None = None) -> Tensor:
    """Pictures with a margin around them.

    Args:
        x: (B, C, *S), any dtype.
        amounts: for each axis of S how much goes before and after it, pixels, 0 or more.
        fill: `mean` (the colour `mean`), `reflect` (mirrored at the edge pixel, which is not repeated) or `edge`.
        mean: (C,), 0..1 for uint8 pictures.

    Returns:
        (B, C, *S + amounts), channels-last; `x` itself where all amounts are 0.

    >>> pad(torch.tensor([[[1.0, 2.0, 3.0]]]), [(2, 1)], "reflect")
    tensor([[[3., 2., 1., 2., 3., 2.]]])
    """
    if not any(before or after for before, after in amounts):
        return x
    if fill == "mean":
        return _surround(x, amounts, color_of(mean, x))
    rows = to_rows(x)
    for axis, (before, after) in enumerate(amounts, start=1):
        if before or after:
            rows = rows.index_select(axis, _inside(before, rows.shape[axis], after, fill, x.device))
    return from_rows(rows)


def _surround(x: Tensor, amounts: Sequence[tuple[int, int]], color: Tensor) -> Tensor:
    batch, channels, *lengths = x.shape
    *heights, width = [length + before + after for length, (before, after) in zip(lengths, amounts, strict=True)]
    # One row of the colour laid out for the whole batch, then the pictures over it. Measured on 128 x 32 x 32 x 3 with
    # a margin of 4: 40 us; filling pixel by pixel takes 324 us, filling only the margin 90 us.
    row = color.repeat(width).expand(batch, *heights, width * channels)
    rows = row.contiguous().view(batch, *heights, width, channels)
    inside = rows
    for axis, (length, (before, _)) in enumerate(zip(lengths, amounts, strict=True), start=1):
        inside = inside.narrow(axis, before, length)
    inside.copy_(x.movedim(1, -1))
    return from_rows(rows)


def _inside(before: int, length: int, after: int, fill: str, device: torch.device) -> Tensor:
    """For every place along a padded axis, the place in the picture that is shown there."""
    place = torch.arange(-before, length + after, device=device)
    if fill == "edge" or length == 1:
        return place.clamp(0, length - 1)
    period = 2 * (length - 1)
    place = place.remainder(period)
    return torch.minimum(place, period - place)
