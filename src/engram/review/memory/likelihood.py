"""One step uphill on the log-likelihood of recalled-or-not, for any curve with a few positive parameters.

Fisher scoring on the logarithms v = ln(parameter), so that a step is a ratio:

    score_i = sum (k - n p) / (p (1 - p)) dp/dv_i        information_ij = sum n / (p (1 - p)) dp/dv_i dp/dv_j
    v <- v + rate * (information + prior)^-1 score

with k of n recalled. The derivatives are central differences, so a model needs to give nothing but its curve. The prior
keeps v near where it is: a handful of rows moves little, and what the data do not decide stays. A step that lowers the
likelihood is halved, at last not taken; a parameter at a bound that would leave it is held there.

McCullagh and Nelder 1989, section 2.5 (Fisher scoring).
"""

from collections.abc import Callable, Sequence
from math import exp, log

import torch
from torch import Tensor

UNLIKELY = 1e-3
"""No outcome counts as less likely than this: one surprise is not evidence without end."""
PRIOR = 4.0
"""Information held about where a parameter is: as if known to half its logarithm."""
LONGEST = log(2)
"""A step at most doubles or halves a parameter."""
WIDTH = 1e-3
"""Half the width of a difference, in logarithms."""

Curve = Callable[[list[float]], Tensor]
Bound = tuple[float, float]


def climb(
    curve: Curve,
    values: Sequence[float],
    bounds: Sequence[Bound],
    recalled: Tensor,
    trials: Tensor | None = None,
    *,
    rate: float = 1.0,
    prior: float = PRIOR,
) -> list[float]:
    """The parameters after one step; never less likely than before, never out of bounds.

    Args:
        curve: the probability of recall of every row, from the parameters.
        values: the parameters, each positive.
        bounds: the range of each.
        recalled: how many of each row's trials were recalled, float64.
        trials: how many trials each row stands for; one where not given.
        rate: share of the step to take.
        prior: the information that holds each parameter where it is.

    >>> delay = torch.tensor([1.0, 2.0, 4.0]).double()
    >>> recalled, trials = torch.tensor([90.0, 82.0, 67.0]).double(), torch.full((3,), 100.0).double()
    >>> [round(value, 2) for value in climb(lambda v: torch.exp(-v[0] * delay), [0.11], [(0.01, 1)], recalled, trials)]
    [0.1]
    """
    trials = torch.ones_like(recalled) if trials is None else trials
    start = [min(max(value, low), high) for value, (low, high) in zip(values, bounds, strict=True)]
    p = _bounded(curve(start))
    slopes = torch.stack([_slope(curve, start, index, bound) for index, bound in enumerate(bounds)])
    score = (slopes * ((recalled - trials * p) / (p * (1 - p)))).sum(1)
    information = (slopes * (trials / (p * (1 - p)))) @ slopes.T
    free = [
        index
        for index, (low, high) in enumerate(bounds)
        if not (start[index] >= high and score[index] > 0) and not (start[index] <= low and score[index] < 0)
    ]
    if not free:
        return start
    step = torch.linalg.solve(information[free][:, free] + prior * torch.eye(len(free)).double(), score[free])
    step = step * min(1.0, LONGEST / max(float(step.abs().max()), LONGEST)) * rate
    best = log_likelihood(p, recalled, trials)
    for halving in range(5):
        moved = list(start)
        for index, change in zip(free, step.tolist(), strict=True):
            low, high = bounds[index]
            moved[index] = min(max(start[index] * exp(change / 2**halving), low), high)
        if log_likelihood(curve(moved), recalled, trials) > best:
            return moved
    return start


def log_likelihood(p: Tensor, recalled: Tensor, trials: Tensor | float = 1.0) -> float:
    """Sum over rows of k ln p + (n - k) ln(1 - p), no outcome less likely than `UNLIKELY`.

    >>> round(log_likelihood(torch.tensor([0.5, 0.0]), torch.tensor([1.0, 1.0])), 3) == round(log(0.5) + log(1e-3), 3)
    True
    """
    p = _bounded(p)
    return float((recalled * p.log() + (trials - recalled) * (1 - p).log()).sum())


def _slope(curve: Curve, values: list[float], index: int, bound: Bound) -> Tensor:
    """dp / d ln(parameter), by the difference of two curves inside the bounds."""
    low, high = (min(max(values[index] * exp(sign * WIDTH), bound[0]), bound[1]) for sign in (-1, 1))
    below, above = list(values), list(values)
    below[index], above[index] = low, high
    return (curve(above) - curve(below)) / log(high / low)


def _bounded(p: Tensor) -> Tensor:
    return p.clamp(UNLIKELY, 1 - UNLIKELY)
