"""How far to go along a direction: the strong Wolfe conditions, by brackets that shrink around a parabola's minimum.

    f(t) <= f(0) + c₁ t f'(0)         it falls by a share of what the slope promises
    |f'(t)| <= c₂ |f'(0)|             and the slope there is a share of the slope here, in size

The second condition is what quasi-Newton methods need: it makes yᵀs positive, so that the matrix stays positive. With
c₂ = 0.9 the first try mostly passes; c₂ near 0 makes the search exact. Steps are doubled until they bracket such a
place; within a bracket the next try is the minimum of the cubic through both ends' values and slopes, kept away from
the ends. It helps methods whose directions have a natural length. It hurts on batches: noise is not a slope.

Nocedal and Wright 2006, Numerical optimization, algorithms 3.5 and 3.6, equation 3.59.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

EVALUATIONS = 25


@dataclass(frozen=True)
class Try:
    """A place along the direction, its value and slope, and what the caller wants to keep from there."""

    t: float
    value: float
    slope: float
    kept: Any = None


def strong_wolfe(
    at: Callable[[float], tuple[float, float, Any]],
    start: Try,
    first: float,
    *,
    fall: float = 1e-4,
    flatness: float = 0.9,
    noise: float = 0.0,
    evaluations: int = EVALUATIONS,
) -> Try:
    """A place that fulfils both conditions, or the lowest one seen when the evaluations run out.

    Args:
        at: value, slope and anything to keep at t.
        start: what is known at 0; its slope is below 0.
        first: the t to try first.
        fall, flatness: c₁ and c₂.
        noise: how much values are off by rounding; closer ones are told apart by their slopes alone.

    >>> found = strong_wolfe(lambda t: ((t - 3) ** 2, 2 * (t - 3), None), Try(0, 9.0, -6.0), 1.0, flatness=1e-6)
    >>> found.t
    3.0
    """
    seen = [start]

    def look(t: float) -> Try:
        seen.append(Try(t, *at(t)))
        return seen[-1]

    def falls(one: Try) -> bool:
        return one.value <= start.value + fall * one.t * start.slope + noise

    def is_flat(one: Try) -> bool:
        return abs(one.slope) <= flatness * abs(start.slope)

    before, now, low, high = start, look(first), None, None
    while len(seen) <= evaluations:
        if not falls(now) or (now.value > before.value + noise and before is not start):
            low, high = before, now
            break
        if is_flat(now):
            return now
        if now.slope >= 0:
            low, high = now, before
            break
        before, now = now, look(2 * now.t)
    while low is not None and high is not None and len(seen) <= evaluations and low.t != high.t:
        now = look(between(low, high))
        if not falls(now) or now.value > low.value + noise:
            high = now
            continue
        if is_flat(now):
            return now
        if now.slope * (high.t - low.t) >= 0:
            high = low
        low = now
    lower = [one for one in seen if math.isfinite(one.value)]
    return min(lower, key=lambda one: one.value)


def between(one: Try, other: Try) -> float:
    """Where the cubic through both has its minimum, at least a tenth of the way from either; else the middle.

    >>> between(Try(0, 0.0, -2.0), Try(4, 8.0, 6.0))
    1.0
    """
    reach = other.t - one.t
    if math.isfinite(other.value) and math.isfinite(other.slope):
        lean = one.slope + other.slope - 3 * (one.value - other.value) / (one.t - other.t)
        square = lean**2 - one.slope * other.slope
        if square >= 0:
            root = math.copysign(math.sqrt(square), reach)
            bottom = other.slope - one.slope + 2 * root
            if bottom:
                share = 1 - (other.slope + root - lean) / bottom
                return one.t + min(max(share, 0.1), 0.9) * reach
    return one.t + 0.5 * reach
