"""How alike two pictures are, whatever was done to the file: a hash that proposes, and a measure that decides.

Both look at a grey thumbnail of about 32 pixels a side.

The hash is the signs of the 64 lowest frequencies of its cosine transform (a perceptual hash). Brightness and contrast
scale the frequencies and keep their signs; re-encoding and resizing touch the high ones. A picture moved by a pixel is
met by hashing the interior at five places: moved by one pixel in any direction, the interior of one picture at one of
them *is* the interior of the other in the middle.

The measure is the correlation of the two pictures' differences between neighbouring pixels. Of the pixels themselves
the correlation is high for any two pictures of the sky; of their edges only if the edges lie in the same places.

How alike is too alike depends on the set: two different eights share more edges than two different photographs. So the
threshold is taken from the set itself (`threshold`).

Measured on CIFAR-10: of the pairs above 0.65 nearly all are the same photograph, while two that correlate to 0.97 in
their pixels may be different ships at sea; in MNIST two different ones reach 0.95 and more.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

SIDE = 32  # pixels of a thumbnail's longer side, about: 21 to 48
SMALLEST = 5  # pixels of a side below which there is nothing to compare
OFFSETS = ((0, 0), (0, 1), (1, -1), (1, 0), (1, 1))  # a move by any of the other four is one of these backwards
BITS = 64
SURE = 0.65  # the least likeness that is ever taken for sameness
ALWAYS = 0.99  # and the one that always is
SPREADS = 10.0  # the threshold's distance from the typical stranger, in robust standard deviations of atanh
NOISE = 2.0  # grey levels, root mean square: the edges that re-encoding makes in a picture of nothing
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601


def is_large_enough(size: Sequence[int]) -> bool:
    """Whether pictures of (height, width) have a thumbnail that can be compared.

    >>> is_large_enough((8, 8)), is_large_enough((4, 500))
    (True, False)
    """
    return min(size) // _block(size) >= SMALLEST


def thumbnails(x: Tensor) -> Tensor:
    """(B, h, w) float grey of about `SIDE` pixels a side, or fewer, of pictures (B, C, H, W) of 0..255.

    Whole blocks of pixels are averaged and what is left over at the border is cut: were some pixels of a thumbnail
    made of more than others, that pattern would be in all of them and make strangers alike.
    """
    weights = torch.tensor(LUMA if x.shape[1] == 3 else [1 / x.shape[1]] * x.shape[1], device=x.device)
    grey = x.movedim(1, -1).float() @ weights  # (B, H, W)
    block = _block(grey.shape[1:])
    return grey if block == 1 else F.avg_pool2d(grey, block)


def hashes(thumbnail: Tensor) -> NDArray[np.uint64]:
    """(B, 5) hashes of 64 bits, one for each of `OFFSETS`, of thumbnails (B, h, w)."""
    basis = _basis(*thumbnail.shape[1:]).to(thumbnail.device)
    signs = (thumbnail.flatten(1) @ basis > 0).cpu().numpy()
    bits = np.zeros((len(thumbnail), len(OFFSETS), BITS), bool)
    number = signs.shape[1] // len(OFFSETS)
    bits[..., :number] = signs.reshape(len(thumbnail), len(OFFSETS), number)
    return np.packbits(bits, axis=2).view(np.uint64)[..., 0]


def likeness(first: Tensor, second: Tensor, offset: int) -> Tensor:
    """(P,) correlation of the edges of thumbnails (P, h, w), `first` looked at through `OFFSETS[offset]`; -1 to 1.

    Edges below `NOISE` count for less: a picture of nothing is like no other.
    """
    down, right = OFFSETS[offset]
    height, width = first.shape[1:]
    moved = first[:, 1 + down : height - 1 + down, 1 + right : width - 1 + right]
    return (_edges(moved) * _edges(second[:, 1:-1, 1:-1])).sum(1)


def threshold(sample: Tensor) -> float:
    """The likeness from which two pictures of a set are the same one, from thumbnails (M, h, w) drawn from it.

    For every picture of the sample the likeness to the second nearest of the others counts (the nearest may be its
    copy), as z = atanh(likeness), which makes the spread about the same everywhere. The threshold stands `SPREADS`
    robust deviations above the median z, which a sample of 2,000 of MNIST's digits puts past nearly all of the 2.4
    billion pairs of 70,000. It is never below `SURE` and never above `ALWAYS`.
    """
    if len(sample) < 4:
        return SURE
    edges = _edges(sample)
    alike = edges @ edges.T
    alike.fill_diagonal_(-1.0)
    strangers = torch.atanh(alike.topk(2, dim=1).values[:, 1].clamp(-0.999, 0.999))
    median = strangers.median()
    spread = 1.4826 * (strangers - median).abs().median()  # of a normal distribution, the standard deviation
    return float(torch.tanh(median + SPREADS * spread).clamp(SURE, ALWAYS))


def _block(size: Sequence[int]) -> int:
    return max(1, round(max(size) / SIDE))


def _edges(thumbnail: Tensor) -> Tensor:
    """(P, D) differences between neighbours down and across, of unit length, or shorter where they are only noise."""
    edges = torch.cat([thumbnail.diff(dim=1).flatten(1), thumbnail.diff(dim=2).flatten(1)], dim=1)
    return edges / edges.norm(dim=1, keepdim=True).clamp_min(NOISE * edges.shape[1] ** 0.5)


@cache
def _basis(height: int, width: int) -> Tensor:
    """(height * width, 5 * bits): the lowest cosine frequencies of the interior, looked for at each of `OFFSETS`."""
    tall, wide = height - 2, width - 2
    frequencies = sorted(
        ((u, v) for u in range(min(12, tall)) for v in range(min(12, wide)) if u or v),
        key=lambda one: (one[0] * wide + one[1] * tall, one),
    )[:BITS]
    # neighbouring frequencies are alike in neighbouring pictures: scattered, every band of bits says something new
    scattered = np.random.Generator(np.random.PCG64(0)).permutation(len(frequencies))
    down, across = (np.pi * (np.arange(side) + 0.5) / side for side in (tall, wide))
    planes = np.zeros((len(OFFSETS), len(frequencies), height, width), np.float32)
    for place, (dy, dx) in enumerate(OFFSETS):
        for bit, index in enumerate(scattered):
            u, v = frequencies[index]
            wave = np.outer(np.cos(u * down), np.cos(v * across))
            planes[place, bit, 1 + dy : 1 + dy + tall, 1 + dx : 1 + dx + wide] = wave
    return torch.from_numpy(planes.reshape(-1, height * width).T.copy())
