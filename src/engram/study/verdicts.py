"""What a study shows of each arm against the baseline, in a sentence that says no more than the numbers do.

    better, worse      the paired difference has p < 0.05 after Holm's correction over the arms
    as good, no worse  within the margin that was fixed beforehand, p < 0.05 after the same correction
    not shown          neither; then the sentence says which difference could have been seen
    nothing            one seed, or none that finished with both

The intervals are for each difference by itself, at 95 %; the p values are corrected.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from engram.report.words import NARROW, number, plural
from engram.study import sharing, statistics
from engram.study.measures import Measure
from engram.study.plan import Plan
from engram.study.power import detectable
from engram.study.statistics import Mean, Paired

Kind = Literal["better", "worse", "as good", "no worse", "not shown", "nothing"]
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Result:
    """What one arm came to by itself. `failures` holds the messages of its runs that failed, by seed."""

    arm: str
    values: Mapping[int, float]
    mean: Mean
    failures: Mapping[int, str]
    missing: int = 0


@dataclass(frozen=True)
class Verdict:
    """One arm against the baseline. Differences are arm minus baseline, in units of the measure.

    Args:
        p: after Holm's correction over the arms, two-sided; `paired.p` is before it.
        within: p of equivalence within the margin, and `above` that it is no worse; NaN without a margin.
        seen: the difference that would have been shown with 80 % power.
    """

    arm: str
    baseline: str
    measure: Measure
    paired: Paired
    p: float
    within: float
    above: float
    seen: float
    kind: Kind
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def results(plan: Plan, rows: Rows) -> list[Result]:
    """Every arm by itself, in the order of the arms; failed arms are among them."""
    found = []
    for arm in plan.arms:
        own = [row for row in rows if row["arm"] == arm.name]
        done = {row["seed"]: row.get(plan.measure.name) for row in own if row["status"] == "finished"}
        values = {seed: float(value) for seed, value in done.items() if value is not None}
        failures = {row["seed"]: str(row["message"]) for row in own if row["status"] == "failed"}
        mean = statistics.describe(list(values.values()), plan.confidence)
        found.append(Result(arm.name, values, mean, failures, len(own) - len(done) - len(failures)))
    return found


def judge(plan: Plan, rows: Rows, baseline: str | None = None) -> list[Verdict]:
    """The verdict on every arm but the baseline, in the order of the arms."""
    by_arm = {result.arm: result for result in results(plan, rows)}
    first = by_arm[baseline or plan.baseline]
    others = [result for result in by_arm.values() if result is not first]
    sign = 1.0 if plan.measure.more_is_better else -1.0
    pairs = [_differences(other, first) for other in others]
    measured = [statistics.paired(one, plan.confidence) for one in pairs]
    p = statistics.holm([one.p for one in measured])
    margin = plan.margin
    within = statistics.holm([math.nan if margin is None else statistics.equivalence(one, margin) for one in pairs])
    above = statistics.holm(
        [math.nan if margin is None else statistics.above([sign * d for d in one], -margin) for one in pairs]
    )
    compared = max(1, sum(one.n > 1 for one in measured))
    level = (1 - plan.confidence) / compared
    found = []
    for at, (other, one) in enumerate(zip(others, measured, strict=True)):
        seen = detectable(one.sd, one.n, level)
        kind = _kind(one, sign * one.mean, p[at], within[at], above[at], 1 - plan.confidence)
        plain = Verdict(other.arm, first.arm, plan.measure, one, p[at], within[at], above[at], seen, kind, "")
        found.append(replace(plain, sentence=_sentence(plan, rows, plain, other, first, compared)))
    return found


def difference(measure: Measure, value: float, *, signed: bool = True) -> str:
    """A difference in the units that a reader thinks in: percentage points for shares.

    >>> difference(Measure("validation", "accuracy"), 0.0123)
    '+1.23\\u202fpp'
    """
    if math.isnan(value):
        return "–"
    shown = f"{100 * value:+.2f}{NARROW}pp" if measure.share else f"{value:+.3g}"
    return (shown if signed else shown.lstrip("+-")).replace("-", "−")


def level(measure: Measure, value: float | None) -> str:
    """A value of the measure.

    >>> level(Measure("validation", "accuracy"), 0.9671)
    '96.71\\u202f%'
    """
    if value is None or math.isnan(value):
        return "–"
    shown = min(1.0, max(0.0, value))  # a bound of an interval may lie beyond what a share can be
    return f"{100 * shown:.2f}{NARROW}%" if measure.share else number(value, 4)


def p_value(p: float) -> str:
    """A p value as papers print it.

    >>> p_value(0.0314), p_value(0.00001)
    ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _differences(other: Result, first: Result) -> list[float]:
    return [value - first.values[seed] for seed, value in other.values.items() if seed in first.values]


def _kind(one: Paired, gain: float, p: float, within: float, above: float, alpha: float) -> Kind:
    if one.n < 2:
        return "nothing"
    if p < alpha and gain != 0:
        return "better" if gain > 0 else "worse"
    if within < alpha:
        return "as good"
    return "no worse" if above < alpha else "not shown"


def _sentence(plan: Plan, rows: Rows, one: Verdict, other: Result, first: Result, compared: int) -> str:
    """The verdict with its numbers, what failed, and what else it has to be read with."""
    failed = [f"{plural(len(result.failures), 'run')} of {result.arm} failed" for result in (other, first)]
    failed = [words for words, result in zip(failed, (other, first), strict=True) if result.failures]
    if one.paired.n == 0:
        why = " and ".join(failed) if failed else "no seed has finished with both yet"
        return f"{one.arm} cannot be compared with {one.baseline}: {why}."
    caveat = f"{' and '.join(failed)}: this holds for the seeds that finished with both." if failed else ""
    read_with = sharing.caveats(plan, rows, other.arm, first.arm)
    return " ".join(filter(None, (_told(plan, one, compared), caveat, read_with)))


def _told(plan: Plan, one: Verdict, compared: int) -> str:
    measure, pair = one.measure, one.paired
    mean = difference(measure, pair.mean)
    if one.kind == "nothing":
        return (
            f"One seed shows nothing: {one.arm} gave a {measure.words} {mean} apart from {one.baseline}, "
            "and chance alone may do that."
        )
    bounds = f"{100 * plan.confidence:g}{NARROW}% interval {_bounds(measure, pair)}"
    corrected = f" after correction for {plural(compared, 'comparison')}" if compared > 1 else ""
    effect = "" if math.isnan(pair.effect) else f", d_z = {pair.effect:.1f}".replace("-", "−")
    alone = f" ({p_value(pair.p)} by itself)" if one.kind not in ("better", "worse") and pair.p < 0.05 else ""
    numbers = f"{mean} over {pair.n} seeds, {bounds}, {p_value(one.p)}{corrected}{alone}{effect}"
    margin = "" if plan.margin is None else difference(measure, plan.margin, signed=False)
    if one.kind in ("better", "worse"):
        small = f" The difference is smaller than the margin of {margin}." if one.within < 1 - plan.confidence else ""
        return f"{one.arm} is {one.kind} than {one.baseline} in {measure.words}: {numbers}.{small}"
    unseen = (
        f" A difference of {difference(measure, one.seen, signed=False)} would have been shown in 4 studies of 5; "
        "a smaller one may be there."
        if one.seen > 0
        else ""
    )
    if one.kind == "as good":
        return f"{one.arm} is as good as {one.baseline} in {measure.words}, within {margin}: {numbers}."
    if one.kind == "no worse":
        return (
            f"{one.arm} is no worse than {one.baseline} in {measure.words} by more than {margin}; that it is better "
            f"was not shown: {numbers}.{unseen}"
        )
    beyond = f", nor that they are within {margin}" if margin else ""
    return (
        f"No difference was shown between {one.arm} and {one.baseline} in {measure.words}{beyond}: {numbers}.{unseen}"
    )


def _bounds(measure: Measure, pair: Paired) -> str:
    return f"{difference(measure, pair.low)} to {difference(measure, pair.high)}"
