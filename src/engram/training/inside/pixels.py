"""Numbers as small pictures: made smaller where they are large, and brought to eight bits."""

import torch
import torch.nn.functional as F
from torch import Tensor


def shrink(maps: Tensor, side: int) -> Tensor:
    """Maps whose longer side is at most `side`: each pixel is the mean of those that it stands for.

    Args:
        maps: (B, C, H, W).

    >>> shrink(torch.arange(4.0).reshape(1, 1, 2, 2), 1)
    tensor([[[[1.5000]]]])
    """
    longest = max(maps.shape[2:])
    if longest <= side:
        return maps
    height, width = (max(1, round(length * side / longest)) for length in maps.shape[2:])
    return F.adaptive_avg_pool2d(maps, (height, width))


def to_bytes(values: Tensor, highest: Tensor | float) -> Tensor:
    """Values from 0 to `highest` as 0 to 255; what lies below or above, or is no number, stands at the ends.

    >>> to_bytes(torch.tensor([-1.0, 0.0, 1.0, 2.0, 3.0, float("nan")]), 2.0).tolist()
    [0, 0, 128, 255, 255, 0]
    """
    highest = torch.as_tensor(highest, dtype=values.dtype, device=values.device)
    shares = values / torch.where(highest > 0, highest, torch.ones_like(highest))
    return (255 * shares.nan_to_num(0.0, 1.0, 0.0).clamp(0, 1)).round().to(torch.uint8)
