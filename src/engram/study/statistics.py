"""What a few seeds allow to be said: means with their intervals, differences by pairs, corrected and bounded.

Values are float64, one a seed; differences are taken seed by seed (arm minus baseline), because both ran with the
same initial weights, split and order: what a seed gives to both falls out.

    mean d, sd s over n pairs:   t = d / (s / sqrt n),   interval d ± t(n-1, 1-alpha/2) s / sqrt n,   d_z = d / s
    Holm:   the i-th smallest of k p-values times (k - i + 1), never below the ones before
    TOST:   equivalent within m where both d > -m and d < m are shown at level alpha; no worse where d > -m is

Differences without any spread (accuracies are coarse, seeds are few) have no t; then the test is the exact one over
all flips of signs, whose smallest p is 2^-n one-sided: two equal differences show nothing.

Student 1908; Cohen 1988, section 2.3.5 (d_z); Holm 1979; Schuirmann 1987 (TOST); Efron 1987 (BCa bootstrap).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

RESAMPLES = 9999


@dataclass(frozen=True)
class Mean:
    """n values: their mean, standard deviation (n - 1; NaN for one value) and the bounds of the mean."""

    n: int
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """n differences: mean, sd, t interval, bootstrap interval, two-sided p, and the mean in units of the sd (d_z)."""

    n: int
    mean: float
    sd: float
    low: float
    high: float
    bootstrap_low: float
    bootstrap_high: float
    p: float
    effect: float


def describe(values: ArrayLike, confidence: float = 0.95) -> Mean:
    """Mean, sd and t interval of one arm's values.

    >>> one = describe([0.95, 0.96, 0.97])
    >>> round(one.mean, 4), round(one.sd, 4), round(one.low, 4), round(one.high, 4)
    (0.96, 0.01, 0.9352, 0.9848)
    """
    found = _array(values)
    if not len(found):
        return Mean(0, math.nan, math.nan, math.nan, math.nan)
    low, high = t_interval(found, confidence)
    return Mean(len(found), float(found.mean()), _sd(found), low, high)


def t_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of the mean by Student's t, NaN for fewer than two values."""
    found = _array(values)
    if len(found) < 2:
        return math.nan, math.nan
    half = float(stdtrit(len(found) - 1, (1 + confidence) / 2)) * _sd(found) / math.sqrt(len(found))
    return float(found.mean()) - half, float(found.mean()) + half


def bootstrap_interval(
    values: ArrayLike, confidence: float = 0.95, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Bounds of the mean by resampling, bias-corrected and accelerated (BCa); NaN for fewer than two values.

    It assumes no normal spread, but of few seeds it knows no more than they show: below ten it is too narrow.
    """
    found = _array(values)
    if len(found) < 2:
        return math.nan, math.nan
    mean = found.mean()
    left_out = mean - (found.sum() - found) / (len(found) - 1)  # influence of each value: the jackknife
    squares = float((left_out**2).sum())
    if squares == 0:
        return float(mean), float(mean)
    drawn = np.random.default_rng(seed).integers(0, len(found), (resamples, len(found)))
    means = np.sort(found[drawn].mean(axis=1))
    below = np.searchsorted(means, mean, "left") + np.searchsorted(means, mean, "right")
    bias = float(ndtri(below / (2 * resamples)))
    acceleration = float((left_out**3).sum()) / (6 * squares**1.5)
    z = bias + ndtri(np.array([(1 - confidence) / 2, (1 + confidence) / 2]))
    low, high = np.quantile(means, ndtr(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def paired(differences: ArrayLike, confidence: float = 0.95, *, seed: int = 0) -> Paired:
    """Everything about differences that came in pairs.

    >>> one = paired([0.004, 0.006, 0.002, 0.004])
    >>> round(one.mean, 4), round(one.p, 4), round(one.effect, 2)
    (0.004, 0.0163, 2.45)
    """
    found = _array(differences)
    plain = describe(found, confidence)
    low, high = bootstrap_interval(found, confidence, seed=seed)
    effect = plain.mean / plain.sd if plain.sd > 0 else math.nan
    both = 2 * min(above(found, 0.0), below(found, 0.0), 0.5)
    return Paired(plain.n, plain.mean, plain.sd, plain.low, plain.high, low, high, both, effect)


def above(differences: ArrayLike, bound: float) -> float:
    """p of the one-sided test that the mean difference is above `bound`; NaN for fewer than two.

    >>> round(above([0.004, 0.006, 0.002, 0.004], 0.0), 4), above([0.01, 0.01, 0.01], 0.0)
    (0.0081, 0.125)
    """
    found = _array(differences) - bound
    if len(found) < 2:
        return math.nan
    if _sd(found) == 0:
        return 0.5 ** len(found) if found[0] > 0 else 1.0
    t = found.mean() / (_sd(found) / math.sqrt(len(found)))
    return float(stdtr(len(found) - 1, -t))


def below(differences: ArrayLike, bound: float) -> float:
    """p of the one-sided test that the mean difference is below `bound`."""
    return above(-_array(differences), -bound)


def equivalence(differences: ArrayLike, margin: float) -> float:
    """p of the two one-sided tests that the mean difference lies within ± `margin`.

    >>> round(equivalence([0.001, -0.001, 0.0, 0.0005], 0.002), 4)
    0.0109
    """
    found = _array(differences)
    if len(found) < 2:
        return math.nan
    return max(above(found, -margin), below(found, margin))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number: at level alpha, no more than alpha of such studies show anything falsely.

    What is NaN stays so and is not counted.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = np.array(p_values, dtype=np.float64)
    counted = np.flatnonzero(~np.isnan(p))
    order = counted[np.argsort(p[counted], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    p[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return [float(one) for one in p]


def _array(values: ArrayLike) -> NDArray[np.float64]:
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise ValueError("values are finite numbers, one a seed")
    return found


def _sd(values: NDArray[np.float64]) -> float:
    """Standard deviation with n - 1; what is rounding only is none."""
    if len(values) < 2:
        return math.nan
    sd = float(values.std(ddof=1))
    return sd if sd > 1e-12 * float(np.abs(values).max()) else 0.0
