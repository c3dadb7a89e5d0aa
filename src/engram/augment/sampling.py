"""Pictures read between their pixels: the bilinear sampling that resized crops and warps share."""

import torch
import torch.nn.functional as F
from torch import Tensor

from engram.augment.layout import from_rows

MARGINS = {"mean": "zeros", "edge": "border", "reflect": "reflection"}


def sample(x: Tensor, places: Tensor, *, outside: str, color: Tensor | None = None, average: int = 1) -> Tensor:
    """Each picture read at its own places.

    Computed in float32 and rounded back where the pictures are uint8.

    Args:
        x: (B, C, H, W) or (B, C, D, H, W).
        places: (B, h, w, 2), x before y, in grid_sample's coordinates (-1 and 1 are the outer edges); a volume is then
            read alike in every plane. Or (B, d, h, w, 3) for a volume, read trilinearly.
        outside: `mean` (the colour `color`), `edge` or `reflect`.
        color: (C,) in the units of x, for `mean`.
        average: mean over blocks of so many samples a side; of planes only.

    Returns:
        (B, C, h, w), (B, C, D, h, w) or (B, C, d, h, w), sides over `average`, dtype of x, channels-last.
    """
    read = places.shape[-1]  # axes that are read between pixels
    batch, channels, *deep = x.shape[:-read]
    values = x.float()
    if color is not None:
        color = color.float().view(channels, *[1] * (x.dim() - 2))
        values = values - color  # zeros outside then stand for the colour
    planes = values.reshape(batch, -1, *x.shape[-read:])  # (B, C D, H, W) or (B, C, D, H, W)
    planes = F.grid_sample(planes, places, mode="bilinear", padding_mode=MARGINS[outside], align_corners=False)
    if average > 1:
        planes = F.avg_pool2d(planes, average)
    values = planes.view(batch, channels, *deep, *planes.shape[2:])
    if color is not None:
        values = values.add_(color)
    if x.dtype == torch.uint8:
        values = values.add_(0.5)  # conversion cuts off, so this rounds; bilinear never leaves 0..255
    return from_rows(values.to(x.dtype).movedim(1, -1).contiguous())
