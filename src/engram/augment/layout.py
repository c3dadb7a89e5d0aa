"""Batches as they lie in memory: one picture after the other, its pixels in rows, the channels of a pixel side by side.

The network is shown (B, C, *S), the memory is (B, *S, C): channels-last strides, which convolutions on the CPU and on
tensor cores read fastest, and in which a row of a picture is one run of bytes that can be copied whole.
"""

from torch import Tensor


def to_rows(x: Tensor) -> Tensor:
    """(B, C, *S) as (B, *S, C), contiguous; copies only what does not lie in memory that way.

    >>> import torch
    >>> to_rows(torch.zeros(2, 3, 4, 5)).shape
    torch.Size([2, 4, 5, 3])
    """
    return x.movedim(1, -1).contiguous()


def from_rows(rows: Tensor) -> Tensor:
    """(B, *S, C) as (B, C, *S): the same memory, channels-last strides."""
    return rows.movedim(-1, 1)
