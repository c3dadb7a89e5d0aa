"""Numbers short enough to stand in a picture."""

import math
from typing import Any

from torch import Tensor


def short(value: Any) -> str:
    """One number in four digits.

    >>> short(-12.0), short(0.19661193), short(1234567.0), short(True)
    ('-12', '0.1966', '1.235e+06', 'true')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, complex):
        return f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return str(value)
    text = f"{value:.4g}"
    return "0" if text == "-0" else text


def shape(tensor: Tensor) -> str:
    """
    >>> import torch; shape(torch.zeros(1, 3, 8, 8))
    '1x3x8x8'
    """
    return "x".join(map(str, tensor.shape)) or "a number"


def summary(tensor: Tensor | None, *, most: int = 4) -> str:
    """All numbers of a few in a row or two, of a larger tensor its shape and its range.

    >>> import torch
    >>> summary(torch.tensor(-20.0)), summary(torch.tensor([[1.0, 2.5]])), summary(None)
    ('-20', '[[1, 2.5]]', 'none')
    >>> summary(torch.arange(6.0).view(2, 3))
    '2x3: 0 … 5'
    """
    if tensor is None:
        return "none"
    if tensor.numel() <= most and tensor.dim() <= 2:
        return _nested(tensor.tolist())
    if tensor.is_complex() or not tensor.numel():
        return shape(tensor)
    low, high = tensor.min().item(), tensor.max().item()
    return f"{shape(tensor)}: {short(low)} … {short(high)}" if low != high else f"{shape(tensor)}: all {short(low)}"


def _nested(content: Any) -> str:
    return f"[{', '.join(map(_nested, content))}]" if isinstance(content, list) else short(content)
