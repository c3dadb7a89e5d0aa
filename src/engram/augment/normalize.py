"""Normalisation: every channel brought to mean 0 and deviation 1, in one pass into the dtype the network computes in.

    x' = (x / 255 - mean) / std        for pictures stored as uint8
    x' = (x - mean) / std              for floats, which are taken as they are

What it buys: inputs of one scale, so that one learning rate suits all first-layer weights (LeCun et al. 1998, Efficient
BackProp, section 4.3).
"""

import math

import torch
from torch import Tensor

from engram.augment.layout import from_rows, to_rows

LONG_ROW = 512


def normalize(x: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Pictures with mean 0 and deviation 1 by channel.

    Args:
        x: (B, C, *S), uint8 or float.
        mean: (C,), in 0..1 for uint8 pictures, in the data's own units for floats.
        std: (C,), likewise; a channel that never varies (0) is only shifted.
        dtype: of the result; computed in float32 and rounded once.

    Returns:
        (B, C, *S), channels-last, in memory of its own.

    >>> normalize(torch.tensor([[[0, 255]]], dtype=torch.uint8), torch.tensor([0.5]), torch.tensor([0.25])).round()
    tensor([[[-2.,  2.]]])
    """
    rows = to_rows(x)
    mean = mean.to(x.device, torch.float32)
    std = std.to(x.device, torch.float32)
    std = torch.where(std > 0, std, torch.ones_like(std))
    *_, width, channels = rows.shape
    # mean and std are laid out for a whole row, or a whole picture where rows are short, so that the processor sees
    # long runs of values. One core, 128 x 32 x 32 x 3 into float32: conversion alone 57 us; div, sub, div by channel
    # 611; mul, add 452; addcmul 322; addcmul on long runs 103 (this one); mul, add on long runs 124; batch_norm 332; a
    # table of 256 values a channel 568. Into bfloat16: this and one conversion 149; a table 610; scale and shift in
    # bfloat16 139, but off by up to 0.01. Pictures of 224 x 224: a row at a time is 1.2x as fast as a picture.
    repeat = width if width * channels >= LONG_ROW else math.prod(rows.shape[1:-1])
    flat = rows.reshape(-1, repeat * channels)
    if x.dtype == torch.uint8:
        scale, shift = (1 / (255 * std)).repeat(repeat), (-mean / std).repeat(repeat)
        values = flat.float()
        torch.addcmul(shift, values, scale, out=values)
    else:
        # Subtracted first: data far from zero would lose its digits in x / std - mean / std.
        values = flat.float().sub(mean.repeat(repeat)).mul_((1 / std).repeat(repeat))
    return from_rows(values.view(rows.shape).to(dtype))


def to_unit(x: Tensor) -> Tensor:
    """uint8 pictures as float32 in 0..1, where colours are changed; channels-last."""
    return from_rows(to_rows(x).float().mul_(1 / 255))
