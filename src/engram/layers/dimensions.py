"""The same layer for signals, images and volumes: torch's classes by their number of spatial axes.

>>> convolution(1)(8, 16, kernel_size=3)
Conv1d(8, 16, kernel_size=(3,), stride=(1,))
>>> batch_norm(3)(16).weight.shape
torch.Size([16])
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from engram.errors import UserError

_CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


def convolution(dimensions: int) -> Any:
    """The convolution class over that many axes."""
    return _of(_CONVOLUTION, dimensions)


def batch_norm(dimensions: int) -> Any:
    """The batch normalisation class for maps with that many axes."""
    return _of(_BATCH_NORM, dimensions)


def max_pool(dimensions: int) -> Any:
    """The max pooling class over that many axes."""
    return _of(_MAX_POOL, dimensions)


def average_pool(dimensions: int) -> Any:
    """The average pooling class over that many axes."""
    return _of(_AVERAGE_POOL, dimensions)


def _of(classes: Mapping[int, type[nn.Module]], dimensions: int) -> type[nn.Module]:
    if dimensions not in classes:
        raise UserError(f"an input with {dimensions} spatial axes has no layers here", allowed="1, 2 or 3 axes")
    return classes[dimensions]


def check_size(size: Sequence[int], smallest: int, model: str) -> None:
    """Refuse an input that a network would shrink to nothing.

    >>> check_size((8, 8), 16, "lenet5")
    Traceback (most recent call last):
    engram.errors.UserError: lenet5 needs at least 16 pixels along every axis, and these inputs are 8x8
      next: --data.image_size 16, or another model
    """
    if any(side < smallest for side in size):
        sides = "x".join(map(str, size))
        raise UserError(
            f"{model} needs at least {smallest} pixels along every axis, and these inputs are {sides}",
            then=f"--data.image_size {smallest}, or another model",
        )
