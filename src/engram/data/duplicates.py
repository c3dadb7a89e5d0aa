"""Examples that stand in a data set more than once: the same to the last bit, or the same picture stored anew.

Exact: equal bytes, found by their digest. Near: `likeness` says how alike two pictures are, and this finds the pairs
worth asking about without comparing all with all. The pictures are sorted by their hash, beginning at each of its eight
bytes in turn; two hashes that differ in few bits agree in some of those beginnings and come to stand side by side, so
each picture meets only its nearest neighbours in each of the eight orders. The work grows with the set, not with its
square, and no parameter depends on how crowded the set is.
"""

import hashlib
from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engram.data.likeness import BITS, OFFSETS, likeness, threshold

NEIGHBOURS = 16  # in each order that a picture is compared with
APART = 12  # bits of 64 by which the hashes of a proposed pair may differ
SAMPLE = 2000  # pictures from which the threshold is taken
MOST = 100_000  # proposals that are looked at; of more, those whose hashes are nearest


def digests(batches: Iterable[Tensor]) -> list[bytes]:
    """16 bytes for each example: equal for equal content."""
    return [
        hashlib.blake2b(example, digest_size=16).digest()
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


def linked(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Groups, sorted, of what the pairs hold together, in order of their first.

    >>> linked([(4, 5), (0, 2), (2, 9)])
    [[0, 2, 9], [4, 5]]
    """
    leader: dict[int, int] = {}

    def first_of(index: int) -> int:
        while leader.setdefault(index, index) != index:
            leader[index] = index = leader[leader[index]]
        return index

    for i, j in pairs:
        low, high = sorted((first_of(i), first_of(j)))
        leader[high] = low
    groups: dict[int, list[int]] = {}
    for index in sorted(leader):
        groups.setdefault(first_of(index), []).append(index)
    return list(groups.values())


def near(hashes: NDArray[np.uint64], look: Callable[[NDArray[np.int64]], Tensor]) -> list[tuple[int, int, float]]:
    """Pairs (i, j, likeness), i < j, that are the same picture, the most alike first.

    Args:
        hashes: (N, 5), from `likeness.hashes`.
        look: gives the thumbnails (M, h, w) of the examples of these indices; asked for the few that may be paired.
    """
    if len(hashes) < 2:
        return []
    first, second, offset = _proposals(hashes)
    asked, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    if not len(asked):
        return []
    seen = look(asked)
    enough = threshold(look(np.unique(np.linspace(0, len(hashes) - 1, SAMPLE).astype(np.int64))))
    left, right = torch.from_numpy(places).to(seen.device).chunk(2)
    best: dict[tuple[int, int], float] = {}
    for place in range(len(OFFSETS)):
        for chosen in torch.from_numpy(np.flatnonzero(offset == place)).split(4096):
            there = chosen.to(seen.device)
            alike = likeness(seen[left[there]], seen[right[there]], place).cpu()
            for index in torch.nonzero(alike >= enough)[:, 0].tolist():
                i, j = int(first[chosen[index]]), int(second[chosen[index]])
                pair = (min(i, j), max(i, j))
                best[pair] = max(best.get(pair, -1.0), float(alike[index]))
    return sorted(((i, j, alike) for (i, j), alike in best.items()), key=lambda one: (-one[2], one))


def _proposals(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(i, j, offset): the hash of i at the offset and that of j in the middle differ in at most `APART` bits."""
    number, middle = len(hashes), hashes[:, 0]
    steps = np.arange(-(NEIGHBOURS // 2), NEIGHBOURS // 2)
    found, apart = np.zeros(0, np.int64), APART
    for turn in range(0, BITS, 8):
        turned = _rotated(hashes, turn)
        order = np.argsort(turned[:, 0], kind="stable")
        in_order, sorted_middle = turned[order, 0], middle[order]
        for offset in range(len(OFFSETS)):
            met_here = [found]
            queries = np.argsort(turned[:, offset], kind="stable")  # sorted, the search runs along the memory
            at = np.searchsorted(in_order, turned[queries, offset])
            asking = hashes[queries, offset]
            for step in steps:
                met = np.clip(at + step, 0, number - 1)
                close = np.bitwise_count(asking ^ sorted_middle[met]) <= apart
                i, j = queries[close], order[met[close]]
                real = i < j if offset == 0 else i != j
                met_here.append((i[real] * number + j[real]) * len(OFFSETS) + offset)
            found = _unique(np.concatenate(met_here))
            if len(found) > MOST:  # a crowded set: from here on only pairs nearer than this
                bits = _bits_apart(found, hashes)
                apart = max(0, int(np.searchsorted(np.cumsum(np.bincount(bits)), MOST, side="right")) - 1)
                found = found[bits <= apart][:MOST]
    pair = found // len(OFFSETS)
    return pair // number, pair % number, found % len(OFFSETS)


def _unique(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sorted and each once: ten times faster than `np.unique`, whose hash table a million codes overflow."""
    codes.sort()
    return codes[np.concatenate([[True], codes[1:] != codes[:-1]])] if len(codes) else codes


def _bits_apart(found: NDArray[np.int64], hashes: NDArray[np.uint64]) -> NDArray[np.uint8]:
    pair, offset = np.divmod(found, len(OFFSETS))
    first, second = np.divmod(pair, len(hashes))
    return np.bitwise_count(hashes[first, offset] ^ hashes[second, 0])


def _rotated(hashes: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    """The hashes beginning at another bit."""
    if not bits:
        return hashes
    return (hashes << np.uint64(bits)) | (hashes >> np.uint64(BITS - bits))
