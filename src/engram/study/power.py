"""The difference that a study could have seen: before it, "no difference was shown" says nothing.

A paired t test at level alpha over n seeds whose differences have standard deviation s finds a true difference d with
probability

    power = P(|T| > t(n-1, 1-alpha/2)),   T noncentral t with n-1 degrees of freedom and centre d sqrt(n) / s

The smallest d with 80 % power is what a reader needs beside every difference that was not shown. It is a statement
about the design and uses s alone, never the difference found: "observed power" would repeat p (Hoenig and Heisey 2001).

Cohen 1988, section 2.3; Johnson, Kotz and Balakrishnan 1995, chapter 31.
"""

import math

from scipy.special import nctdtr, stdtrit

POWER = 0.8


def power(difference: float, sd: float, n: int, alpha: float = 0.05) -> float:
    """Probability that a two-sided paired t test over n pairs shows a true mean difference.

    >>> round(power(0.5, 1.0, 34), 2)  # Cohen: d_z 0.5 takes 34 pairs
    0.81
    """
    if n < 2 or not sd > 0:
        return math.nan
    limit, centre = float(stdtrit(n - 1, 1 - alpha / 2)), difference * math.sqrt(n) / sd
    return 1 - _below(limit, n - 1, centre) + _below(-limit, n - 1, centre)


def detectable(sd: float, n: int, alpha: float = 0.05, wanted: float = POWER) -> float:
    """The smallest true difference that would be shown with probability `wanted`; NaN for one pair, 0 without spread.

    >>> round(detectable(1.0, 34), 3)
    0.495
    """
    if n < 2 or math.isnan(sd):
        return math.nan
    if sd == 0:
        return 0.0
    low, high = 0.0, sd
    while power(high, sd, n, alpha) < wanted:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, sd, n, alpha) < wanted else (low, middle)
    return high


def _below(t: float, freedom: int, centre: float) -> float:
    """P(T < t); far out in a tail, where SciPy gives NaN, it is none or all."""
    share = float(nctdtr(freedom, centre, t))
    return share if share == share else float(t > centre)
