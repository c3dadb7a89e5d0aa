"""Which training examples are held out for validation, and which are used at all: drawn by class, by seed.

Every class keeps its proportion (to the nearest example) and at least one example in training, so that a rare class is
never only judged and never only learnt. The test split has no part in this: it chooses nothing.
"""

import numpy as np
from numpy.typing import NDArray

from engram.errors import UserError


def stratified(labels: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices (kept, held out), each sorted; `share` of every class is held out.

    The shares of all classes are rounded together (largest remainder), so that the total is right too. A class of one
    example keeps it in training.

    >>> kept, held = stratified(np.array([0, 0, 0, 0, 1, 1, 1, 1, 2]), 0.25, seed=0)
    >>> len(kept), len(held), 8 in kept
    (7, 2, True)
    """
    counts = np.bincount(labels)
    number = _rounded(counts * share, np.zeros_like(counts), np.maximum(counts - 1, 0))
    held_out = _drawn(labels, number, seed)
    return np.setdiff1d(np.arange(len(labels)), held_out, assume_unique=True), held_out


def limited(labels: NDArray[np.int64], limit: int, seed: int) -> NDArray[np.int64]:
    """Indices, sorted, of at most `limit` examples in which every class keeps its proportion, and at least one.

    Raises:
        UserError: there are more classes than that.

    >>> chosen = limited(np.array([0] * 97 + [1] * 3), 10, seed=0)
    >>> len(chosen), int(chosen.max()) >= 97
    (10, True)
    """
    counts = np.bincount(labels)
    classes = np.count_nonzero(counts)
    if limit < classes:
        raise UserError(f"data.limit {limit} is less than one example for each class", allowed=f"{classes} or more")
    return _drawn(labels, _rounded(counts * min(1.0, limit / len(labels)), np.minimum(counts, 1), counts), seed)


def _drawn(labels: NDArray[np.int64], number: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Sorted indices with `number[k]` of class k, drawn by seed."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    starts = np.cumsum(counts) - counts
    drawn = [by_class[start : start + some] for start, some in zip(starts, number, strict=True)]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def _rounded(wanted: NDArray[np.floating], least: NDArray[np.int64], most: NDArray[np.int64]) -> NDArray[np.int64]:
    """Whole numbers near `wanted`, from `least` to `most`, that add up to the rounded total where that can be had."""
    whole = np.clip(np.floor(wanted).astype(np.int64), least, most)
    left = round(float(wanted.sum())) - int(whole.sum())
    for index in np.argsort(-(wanted - whole), kind="stable"):
        if left <= 0:
            break
        if whole[index] < most[index]:
            whole[index] += 1
            left -= 1
    while left < 0:  # classes raised to the least are paid for by those that have most above what they wanted
        surplus = np.where(whole > least, whole - wanted, -np.inf)
        whole[int(surplus.argmax())] -= 1
        left += 1
    return whole
