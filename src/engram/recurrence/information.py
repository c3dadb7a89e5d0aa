"""Mutual information between many cells and many features of a text, all at once, in bits.

    I(cell; feature) = Σ p(a, b) log2( p(a, b) / (p(a) p(b)) ),     a a level of the cell, b a level of the feature

How many bits of the feature are known once the cell's level is, whatever the shape of the relation: on while inside
quotes, off, or only near a line's end. At most the feature's own entropy, which 1 bit for a fair yes or no is.

A cell's levels are cut where its own values have their 3rd, 15th, 50th, 85th and 97th hundredth, so that something that
is seldom so (quotes) has levels of its own at either end, and any monotone function of the cell gives the same. A
feature's levels are its values where there are few, otherwise cut at even hundredths.

From N places an I of independent things is not 0 but about (levels - 1)² / 2N ln 2 bits, and far more where both go on
for long stretches, as states and quotes do: their places are not N independent ones. So a bare number says nothing;
`cells` compares it with what shifted texts give, which have the same stretches.

Counts of all pairs are one matrix product of indicators. Shannon 1948; Cover and Thomas, Elements of information
theory, section 2.3; the bias: Miller 1955.
"""

import numpy as np
from numpy.typing import NDArray

from engram.errors import UserError

CUTS = (0.03, 0.15, 0.5, 0.85, 0.97)
"""Of a cell."""
LEVELS = 6
"""Of a feature, at most."""
TIED = 0.01
"""By how much the share above a cut may be off before ties at the cut are looked at."""


def above(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Whether each value lies above each of its cell's cuts, (cuts, U, N) as 0 and 1.

    Args:
        values: (N, U), cells side by side.

    >>> above(np.arange(100.0)[:, None]).sum((1, 2)).tolist()
    [97.0, 85.0, 50.0, 15.0, 3.0]
    """
    cells = np.ascontiguousarray(values.T)  # (U, N)
    cuts = np.quantile(cells, CUTS, axis=1).astype(cells.dtype)  # (cuts, U)
    over = np.empty((len(CUTS), *cells.shape), np.float32)
    for row, share in enumerate(CUTS):
        cut = cuts[row, :, None]
        np.greater(cells, cut, out=over[row])
        few = np.flatnonzero(np.abs(over[row].mean(1) - (1 - share)) > TIED)
        if few.size:  # a cell of few values has many at the cut itself: they go where the share comes out closer
            reached = (cells[few] >= cut[few]).astype(np.float32)
            far, near = (np.abs(one.mean(1) - (1 - share)) for one in (over[row, few], reached))
            over[row, few[near < far]] = reached[near < far]
    return over


def levels(feature: NDArray[np.integer]) -> NDArray[np.float32]:
    """Which level a feature has at each place, (N, levels) with a single 1 a row.

    >>> levels(np.array([0, 5, 0])).tolist()
    [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    >>> levels(np.arange(600)).sum(0).tolist()
    [100.0, 100.0, 100.0, 100.0, 100.0, 100.0]
    """
    distinct = np.unique(feature)
    if len(distinct) <= LEVELS:
        return (feature[:, None] == distinct).astype(np.float32)
    cuts = np.unique(np.quantile(feature, np.arange(1, LEVELS) / LEVELS))
    return (np.searchsorted(cuts, feature, side="left")[:, None] == np.arange(len(cuts) + 1)).astype(np.float32)


def information(cells: NDArray[np.float32], features: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Bits for every feature and cell, (F, U).

    Args:
        cells: (cuts, U, N), what `above` gives.
        features: (N, levels) each, what `levels` gives.

    Raises:
        UserError: cells and features of unlike lengths.

    >>> steps = np.tile(np.arange(4), 25)
    >>> information(above(steps[:, None] * 1.0), [levels(steps), levels(steps // 2)]).round(2)
    array([[2.],
           [1.]])
    """
    cuts, units, count = cells.shape
    for feature in features:
        if len(feature) != count:
            raise UserError(f"a feature of {len(feature)} places for cells at {count}", allowed="one place each")
    sides = np.concatenate(features, axis=1)  # (N, L)
    joint = np.zeros((cuts + 2, units, sides.shape[1]))  # from above nothing to above everything
    joint[0] = sides.mean(0, dtype=np.float64)
    joint[1:-1] = (cells.reshape(cuts * units, count) @ sides).reshape(cuts, units, -1) / count
    joint = np.maximum(joint[:-1] - joint[1:], 0.0)  # (levels of a cell, U, L)
    found, start = [], 0
    for feature in features:
        part = joint[..., start : start + feature.shape[1]]
        start += feature.shape[1]
        found.append(_entropy(part.sum(2), 0) + _entropy(part.sum(0), 1) - _entropy(part, (0, 2)))
    return np.maximum(np.stack(found), 0.0)


def entropy(feature: NDArray[np.float32]) -> float:
    """Bits of a feature by itself: what a cell could tell of it at most.

    Args:
        feature: (N, levels).

    >>> entropy(levels(np.array([0, 1, 1, 0])))
    1.0
    """
    return float(_entropy(feature.mean(0, dtype=np.float64), 0))


def _entropy(shares: NDArray[np.float64], axis: int | tuple[int, ...]) -> NDArray[np.float64]:
    return -(shares * np.log2(np.where(shares > 0, shares, 1.0))).sum(axis)
