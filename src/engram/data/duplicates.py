"""Examples that stand in a data set more than once: the same to the last bit, or the same picture stored anew.

Exact: equal bytes, found by their digest. Near: a difference hash (64 bits: is each cell of a 9x8 grid brighter than
its neighbour?) proposes pairs that differ in at most 3 bits, and the correlation of their 8x8 grey thumbnails decides.
Brightness and contrast cancel out in both, re-encoding and resizing change little in either.

Pairs are proposed without comparing all with all: two hashes that differ in at most 3 of 64 bits agree in at least one
of four bands of 16 bits, so only examples that share a band are compared. A band value shared by very many examples
(an empty border, say) tells nothing and is passed over.
"""

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

BITS = 3  # by which the hashes of near duplicates may differ
ALIKE = 0.99  # correlation of thumbnails from which two pictures are the same one
CROWD = 50  # examples that may share a band before it is passed over
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601


def digests(batches: Iterable[Tensor]) -> list[bytes]:
    """16 bytes for each example: equal for equal content."""
    return [
        hashlib.blake2b(example.tobytes(), digest_size=16).digest()
        for x in batches
        for example in np.ascontiguousarray(x.movedim(1, -1).cpu().numpy())
    ]


def groups_of(keys: list[bytes]) -> list[list[int]]:
    """Indices that share a key, for keys that stand more than once, in order.

    >>> groups_of([b"a", b"b", b"a", b"c"])
    [[0, 2]]
    """
    found: dict[bytes, list[int]] = {}
    for index, key in enumerate(keys):
        found.setdefault(key, []).append(index)
    return [group for group in found.values() if len(group) > 1]


def descriptors(x: Tensor) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """(hash (B,), standardised thumbnail (B, 64)) of uint8 pictures (B, C, H, W); a flat one's thumbnail is zero."""
    weights = torch.tensor(LUMA if x.shape[1] == 3 else [1.0] * x.shape[1], device=x.device)
    grey = torch.einsum("bchw,c->bhw", x.float(), weights / weights.sum())[:, None]  # (B, 1, H, W)
    cells = F.interpolate(grey, size=(8, 9), mode="bilinear", antialias=True, align_corners=False)
    bits = (cells[..., 1:] > cells[..., :-1]).flatten(1).cpu().numpy()  # (B, 64)
    hashes = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
    small = F.interpolate(grey, size=(8, 8), mode="bilinear", antialias=True, align_corners=False).flatten(1)
    small = small - small.mean(1, keepdim=True)
    norm = small.norm(dim=1, keepdim=True)
    return hashes, torch.where(norm > 1.0, small / norm.clamp_min(1.0), 0.0).cpu().numpy()


def near(hashes: NDArray[np.uint64], thumbnails: NDArray[np.float32]) -> list[tuple[int, int, float]]:
    """Pairs (i, j, correlation), i < j, that are near duplicates, the most alike first.

    Args:
        hashes: (N,), from `descriptors`.
        thumbnails: (N, 64) likewise.
    """
    codes = np.unique(np.concatenate(list(_proposals(hashes))))
    first, second = codes // len(hashes), codes % len(hashes)
    alike = np.einsum("pd,pd->p", thumbnails[first], thumbnails[second])
    order = np.argsort(-alike, kind="stable")
    return [(int(first[k]), int(second[k]), float(alike[k])) for k in order if alike[k] >= ALIKE]


def _proposals(hashes: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """Pairs i < j, as i * N + j, that share one of the four 16-bit bands and differ in at most `BITS` bits."""
    for band in range(4):
        values = (hashes >> np.uint64(16 * band)).astype(np.uint16)
        crowd = np.bincount(values, minlength=2**16)[values]
        order = np.argsort(values, kind="stable")
        order = order[crowd[order] <= CROWD]  # equal values now stand side by side, at most CROWD of them
        for apart in range(1, CROWD):
            left, right = order[:-apart], order[apart:]
            close = (values[left] == values[right]) & (np.bitwise_count(hashes[left] ^ hashes[right]) <= BITS)
            yield np.minimum(left, right)[close] * len(hashes) + np.maximum(left, right)[close]
