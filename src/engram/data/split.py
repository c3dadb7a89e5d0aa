"""Which training examples are held out for validation, and which are used at all: drawn by class, by seed.

Every class keeps its proportion (to the nearest example) and at least one example in training, so that a rare class is
never only judged and never only learnt. The test split has no part in this: it chooses nothing.
"""

import numpy as np
from numpy.typing import NDArray


def stratified(labels: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices (kept, held out), each sorted; `share` of every class is held out.

    The shares of all classes are rounded together (largest remainder), so that the total is right too. A class of one
    example keeps it in training.

    >>> kept, held = stratified(np.array([0, 0, 0, 0, 1, 1, 1, 1, 2]), 0.25, seed=0)
    >>> len(kept), len(held), 8 in kept
    (7, 2, True)
    """
    counts = np.bincount(labels)
    held_out = _drawn(labels, counts.astype(np.float64) * share, np.maximum(counts - 1, 0), seed)
    return np.setdiff1d(np.arange(len(labels)), held_out, assume_unique=True), held_out


def limited(labels: NDArray[np.int64], limit: int, seed: int) -> NDArray[np.int64]:
    """Indices, sorted, of at most `limit` examples in which every class keeps its proportion, and at least one.

    >>> limited(np.array([0] * 90 + [1] * 10), 10, seed=0).shape
    (10,)
    """
    counts = np.bincount(labels)
    chosen = _drawn(labels, counts.astype(np.float64) * min(1.0, limit / len(labels)), counts, seed)
    missing = np.setdiff1d(np.unique(labels), np.unique(labels[chosen]))
    firsts = [np.flatnonzero(labels == name)[0] for name in missing]
    return np.sort(np.concatenate([chosen, firsts])).astype(np.int64)


def _drawn(
    labels: NDArray[np.int64], wanted: NDArray[np.float64], most: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """Sorted indices with about `wanted[k]` of class k, never more than `most[k]`, drawn by seed."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    starts = np.cumsum(counts) - counts
    drawn = [by_class[start : start + number] for start, number in zip(starts, _rounded(wanted, most), strict=True)]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def _rounded(wanted: NDArray[np.float64], most: NDArray[np.int64]) -> NDArray[np.int64]:
    """Whole numbers near `wanted`, none above `most`, that add up to the rounded total where that can be had."""
    whole = np.minimum(np.floor(wanted).astype(np.int64), most)
    left = round(float(wanted.sum())) - int(whole.sum())
    for index in np.argsort(-(wanted - whole), kind="stable"):
        if left <= 0:
            break
        if whole[index] < most[index]:
            whole[index] += 1
            left -= 1
    return whole
