"""How the learning rate changes over a run: a factor that multiplies it, a pure function of the step and the total.

Every schedule rises in a straight line over W warm-up steps, reaches 1 at step t = W, and then follows its curve over
the progress u = (t - W) / (T - W), which starts at 0 and stays below 1: step T - 1 is the last, so a curve that ends
at 0 takes its last step with a small rate, not with none.

    t < W:   (t + 1) / (W + 1)           t >= W:   the curve at u

A high rate crosses plateaus and averages nothing; a low one averages the noise of the batches and goes nowhere. So
every good schedule is high for long and low at the end. Warm-up helps where the first steps are the wildest: large
rates, large batches, deep networks (Goyal et al. 2017, "Accurate, large minibatch SGD", section 2.2).

A recipe's `auto` is `one_cycle`, and `constant` for a method that takes all examples at once and finds its own step.

Lowering the rate when the validation loss stops falling ("on a plateau", as AlexNet and ResNet were trained by hand) is
not among them: it is no function of the step, so a run could not be planned, drawn or gone on with from its recipe,
and it decides by the noise of single passes. `step` at the places found, or `cosine` without any, does what it is for.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from engram import registry
from engram.errors import UserError, nearest

Factor = Callable[[int, int], float]
Rule = tuple[Callable[[float], bool], str]

LENGTH: Rule = (lambda v: 0 <= v < 1 or v == int(v) >= 1, "a share of the run from 0 up to 1, or whole steps")
PLACE: Rule = (lambda v: 0 < v < 1 or v == int(v) >= 1, "a share of the run between 0 and 1, or whole steps")
SHARE: Rule = (lambda v: 0 <= v <= 1, "from 0 to 1")
ABOVE_0: Rule = (lambda v: v > 0, "more than 0")
COUNT: Rule = (lambda v: v == int(v) >= 1, "a whole number, 1 or more")
SHARE_ABOVE_0: Rule = (lambda v: 0 < v <= 1, "more than 0, at most 1")


def build(name: str, settings: Mapping[str, Any] | None = None) -> Factor:
    """The schedule of that name as `factor(step, total_steps)`, for 0 <= step < total_steps.

    Raises:
        UserError: no such schedule, no such setting, or a value out of range.

    >>> factor = build("one_cycle", {"warmup": 0.2})
    >>> [round(factor(step, 10), 3) for step in range(10)]
    [0.333, 0.667, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
    """
    entry = registry.find("schedule", name)
    registry.check_settings(entry, settings or {})
    return entry.build(**(settings or {}))


@registry.register("schedule", paper="Robbins and Monro 1951 (why a constant rate does not converge)", year=1951)
def constant(*, warmup: float = 0.0) -> Factor:
    """The same rate to the end: f = 1.

    Helps to see what an optimizer does by itself; hurts the result, which keeps bouncing at the noise of the batches.

    Args:
        warmup: share of the run if less than 1, else steps.

    >>> constant(warmup=3)(0, 100), constant()(99, 100)
    (0.25, 1.0)
    """
    return _warmed("constant", warmup, lambda step, first, total: 1.0)


@registry.register("schedule", paper="He et al. 2016, section 4.2 (a tenth at 50% and 75% of the run)", year=2016)
def step(*, every: float = 0.1, factor: float = 0.5, at: tuple[float, ...] = (), warmup: float = 0.0) -> Factor:
    """Lower the rate at once and hold it: f = factor^n after n drops; by default halved every tenth of the run.

    The curve of most papers from AlexNet to DenseNet. The places of the drops must be known; a cosine needs nothing.

    Args:
        every: from drop to drop, counted from the end of the warm-up; a share of what follows it if less than 1, else
            steps.
        factor: what each drop multiplies by.
        at: the places of the drops instead, counted from the start of the run: shares if less than 1, else steps.
        warmup: share of the run if less than 1, else steps.

    >>> [step(every=2)(t, 6) for t in range(6)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    >>> [round(step(at=(0.5, 0.75), factor=0.1)(t, 64000), 4) for t in (31999, 32000, 48000)]
    [1.0, 0.1, 0.01]
    """
    places = tuple(at) if isinstance(at, list | tuple) else (at,)
    _check("step", "every", every, PLACE)
    _check("step", "factor", factor, SHARE_ABOVE_0)
    for place in places:
        _check("step", "at", place, PLACE)

    def drops(step: int, first: int, total: int) -> int:
        if places:
            return sum(step >= round(_steps(place, total)) for place in places)
        return math.floor((step - first) / _steps(every, total - first) + 1e-9)  # 7 / (0.1 * 70) is not quite 1

    return _warmed("step", warmup, lambda step, first, total: float(factor) ** drops(step, first, total))


@registry.register("schedule", paper="Szegedy et al. 2015, section 6 (0.96 every 8 epochs)", year=2015)
def exponential(*, end: float = 0.01, warmup: float = 0.0) -> Factor:
    """Lower the rate by the same ratio every step: f = end^u, which is e^(-kt) with k = ln(1 / end) / (T - W).

    Spends most of the run at low rates; a run that must find its way first is better off with a cosine.

    Args:
        end: the factor it comes down to as the run ends.
        warmup: share of the run if less than 1, else steps.

    >>> [round(exponential(end=0.01)(t, 4), 4) for t in range(4)]
    [1.0, 0.3162, 0.1, 0.0316]
    """
    _check("exponential", "end", end, SHARE_ABOVE_0)
    return _warmed("exponential", warmup, lambda step, first, total: float(end) ** _progress(step, first, total))


@registry.register(
    "schedule", paper="Robbins and Monro 1951 (rates that sum to infinity, squares that do not)", year=1951
)
def inverse(*, end: float = 0.05, warmup: float = 0.0) -> Factor:
    """Lower the rate as 1 over time: f = 1 / (1 + (1/end - 1) u), which is 1 / (1 + kt) with k = (1/end - 1) / (T - W).

    The rate for which theory promises convergence on convex problems. On networks it falls too fast early and too
    little late.

    Args:
        end: the factor it comes down to as the run ends.
        warmup: share of the run if less than 1, else steps.

    >>> [round(inverse(end=0.2)(t, 4), 4) for t in range(4)]
    [1.0, 0.5, 0.3333, 0.25]
    """
    _check("inverse", "end", end, SHARE_ABOVE_0)
    return _warmed(
        "inverse", warmup, lambda step, first, total: 1 / (1 + (1 / end - 1) * _progress(step, first, total))
    )


@registry.register("schedule", paper="Liu, Rabinovich, Berg 2015, ParseNet, section 3 (the `poly` of Caffe)", year=2015)
def polynomial(*, power: float = 2.0, end: float = 0.0, warmup: float = 0.0) -> Factor:
    """A power of what is left of the run: f = end + (1 - end) (1 - u)^power.

    Power 1 is the straight line that ends many recipes of today; 0.9 and 0.5 stay high for longer, 2 and more fall
    early. With power 2 it is close to a cosine in its second half and lower in its first.

    Args:
        power: of the share that is left.
        end: the factor it comes down to as the run ends.
        warmup: share of the run if less than 1, else steps.

    >>> [round(polynomial()(t, 4), 4) for t in range(4)]
    [1.0, 0.5625, 0.25, 0.0625]
    """
    _check("polynomial", "power", power, ABOVE_0)
    _check("polynomial", "end", end, SHARE)
    return _warmed(
        "polynomial",
        warmup,
        lambda step, first, total: _down((1 - _progress(step, first, total)) ** power, end),
    )


@registry.register("schedule", paper="Loshchilov and Hutter 2017, SGDR, equation 5", year=2017)
def cosine(*, end: float = 0.0, warmup: float = 0.0) -> Factor:
    """Half a cosine from 1 down to `end`: f = end + (1 - end) (1 + cos(pi u)) / 2.

    Long high, long low, and nothing to set. The paper also restarts it: `cosine_restarts`.

    Args:
        end: the factor it comes down to as the run ends.
        warmup: share of the run if less than 1, else steps.

    >>> [round(cosine()(t, 4), 4) for t in range(4)]
    [1.0, 0.8536, 0.5, 0.1464]
    """
    _check("cosine", "end", end, SHARE)
    return _warmed("cosine", warmup, lambda step, first, total: _down(_half_cosine(_progress(step, first, total)), end))


@registry.register("schedule", paper="Loshchilov and Hutter 2017, SGDR, section 3", year=2017)
def cosine_restarts(*, cycles: int = 3, longer: float = 2.0, end: float = 0.0, warmup: float = 0.0) -> Factor:
    """Half a cosine again and again, each `longer` than the last: f = end + (1 - end) (1 + cos(pi v)) / 2.

    v is the progress through the present cycle. The jump back to the peak throws the weights out of where they were,
    and each cycle ends in weights worth keeping: good for ensembles of one run, and where it is not known beforehand
    how long to train. For one result at the end a single cosine is as good or better. The lengths fill the run exactly,
    so the last cycle ends with it; the paper has cycles of 1, 10 or 50 passes that double.

    Args:
        cycles: how many.
        longer: each cycle's length over that of the one before.
        end: the factor that each comes down to.
        warmup: share of the run if less than 1, else steps.

    >>> [round(cosine_restarts(cycles=2, longer=1)(t, 8), 4) for t in range(8)]
    [1.0, 0.8536, 0.5, 0.1464, 1.0, 0.8536, 0.5, 0.1464]
    """
    _check("cosine_restarts", "cycles", cycles, COUNT)
    _check("cosine_restarts", "longer", longer, ABOVE_0)
    _check("cosine_restarts", "end", end, SHARE)
    lengths = [float(longer) ** number for number in range(int(cycles))]

    def through(step: int, first: int, total: int) -> float:
        place = (step - first) * sum(lengths) / (total - first)
        for length in lengths[:-1]:
            if place < length * (1 - 1e-9):
                return place / length
            place = max(place - length, 0.0)
        return place / lengths[-1]

    return _warmed(
        "cosine_restarts", warmup, lambda step, first, total: _down(_half_cosine(through(step, first, total)), end)
    )


@registry.register("schedule", paper="Smith 2018, 'A disciplined approach'; Smith and Topin 2019", year=2018)
def one_cycle(*, warmup: float = 0.25, end: float = 0.0, curve: str = "linear") -> Factor:
    """Up to the peak in a straight line, and down to (almost) nothing: f = 1 - (1 - end) u after it, or half a cosine.

    The fastest way to a good network in few epochs: the rise lets the peak be higher than a run could start with, and
    the fall to 0 averages the noise away. Smith also lowers the momentum while the rate rises; here it stays.

    Args:
        warmup: where the peak is: share of the run if less than 1, else steps.
        end: the factor it comes down to as the run ends.
        curve: how it comes down, `linear` or `cosine`.

    >>> [round(one_cycle(warmup=1)(t, 5), 4) for t in range(5)]
    [0.5, 1.0, 0.75, 0.5, 0.25]
    """
    _check("one_cycle", "end", end, SHARE)
    curves = {"linear": lambda u: 1 - u, "cosine": _half_cosine}
    if curve not in curves:
        near = nearest(str(curve), curves)
        raise UserError(f"schedule one_cycle: curve cannot be {curve!r}", allowed="linear, cosine", nearest=near)
    fall = curves[curve]
    return _warmed("one_cycle", warmup, lambda step, first, total: _down(fall(_progress(step, first, total)), end))


def _warmed(schedule: str, warmup: float, curve: Callable[[int, int, int], float]) -> Factor:
    """The curve, a function of (step, first step after the warm-up, total), with its warm-up before it."""
    _check(schedule, "warmup", warmup, LENGTH)

    def factor(step: int, total_steps: int) -> float:
        if not 0 <= step < total_steps:
            raise ValueError(f"step {step} is not one of a run of {total_steps} steps, counted from 0")
        first = min(round(_steps(warmup, total_steps)), total_steps - 1)  # a short run still reaches its peak
        if step < first:
            return (step + 1) / (first + 1)
        return curve(step, first, total_steps)

    return factor


def _progress(step: int, first: int, total: int) -> float:
    return (step - first) / (total - first)


def _half_cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _down(fall: float, end: float) -> float:
    """A fall from 1 to 0 as one from 1 to `end`."""
    return end + (1 - end) * fall


def _steps(length: float, total: int) -> float:
    return length * total if length < 1 else length


def _check(schedule: str, setting: str, value: Any, rule: Rule) -> None:
    holds, allowed = rule
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not holds(value):
        raise UserError(f"schedule {schedule}: {setting} cannot be {value!r}", allowed=allowed)
