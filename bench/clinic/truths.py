"""Which diseases a run has: each diagnosis's oracle, as yes, no, or not for this oracle to say.

`exact` diseases are facts measured of the run itself and are decided for every run of the zoo, so that a finding beside
another disease is also known to be right or wrong. Statistical ones are decided for the runs of their own recipe, by
dose and body against the control, and for the healthy, which do not have them; beside another disease nobody says.
"""

import math
import statistics
import warnings
from collections.abc import Callable
from typing import Any

from bodies import K
from diseases import DISEASES
from scipy import stats

Row = dict[str, Any]
GUESSING = math.log(K)
P, EFFECT = 0.05, 0.5
WORSE_ABOVE = {"mean_loss", "last_loss", "validation_loss"}  # of the other figures, less is worse


def effect(sick: list[float], control: list[float], figure: str) -> tuple[float, float]:
    """(p, d): Welch's test that the sick are worse, and Cohen's d with the pooled deviation.

    >>> p, d = effect([2.0, 2.1, 2.2], [1.0, 1.1, 1.2, 1.05], "last_loss")
    >>> p < 0.001, d > 5
    (True, True)
    """
    sign = 1 if figure in WORSE_ABOVE else -1
    gap = sign * (statistics.fmean(sick) - statistics.fmean(control))
    squares = sum((one - statistics.fmean(group)) ** 2 for group in (sick, control) for one in group)
    pooled = math.sqrt(squares / max(1, len(sick) + len(control) - 2))
    alternative = "greater" if sign > 0 else "less"
    if pooled <= 1e-9 * max(map(abs, (*sick, *control))):  # alike to the last digits: nothing to test
        return (0.0, math.inf) if gap > 0 else (1.0, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of one group all alike, as of losses that were cut at a limit
        found = stats.ttest_ind(sick, control, equal_var=False, alternative=alternative)
    p = float(found.pvalue)
    return (1.0 if math.isnan(p) else p), gap / pooled


class Truths:
    """The oracles of a whole zoo; statistical ones need its controls."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self._groups: dict[tuple[str, str, str], list[Row]] = {}
        self._controls: dict[str, list[Row]] = {}
        for row in rows:
            if row["kind"] == "sick":
                self._groups.setdefault((row["name"], row["body"], row["dose"]), []).append(row)
            elif row["kind"] == "control":
                self._controls.setdefault(row["body"], []).append(row)
        self._verdicts: dict[tuple[str, str, str], bool | None] = {}

    def harmed(self, row: Row, figure: str) -> bool | None:
        """Whether runs like this one are worse than their control; None of too few."""
        key = (row["name"], row["body"], row["dose"])
        if key not in self._verdicts:
            sick = [one["measured"][figure] for one in self._groups[key]]
            control = [one["measured"][figure] for one in self._controls.get(row["body"], ())]
            if len(sick) < 2 or len(control) < 3:
                self._verdicts[key] = None
            else:
                p, d = effect(sick, control, figure)
                self._verdicts[key] = p < P and d >= EFFECT
        return self._verdicts[key]

    def has(self, diagnosis: str, row: Row) -> bool | None:
        """Whether a run has what a diagnosis says."""
        own = row["kind"] == "sick" and DISEASES[row["name"]].diagnosis == diagnosis
        m = row["measured"]
        if own:
            oracle = DISEASES[row["name"]].oracle
            if oracle == "saturated":
                shares = m.get("saturated", 0.0), m["start"].get("saturated", 0.0)
                return max(shares) > 0.5 and self.harmed(row, "mean_loss")
            if oracle != "exact":
                return self.harmed(row, oracle)
        if diagnosis != "not_finite" and not m["finite"] and row["kind"] == "sick" and not own:
            return None
        if diagnosis in EXACT:
            found = EXACT[diagnosis](row)
            if own or row["kind"] != "sick":
                return found
            # beside another disease a figure may have another cause, and some are not looked at all the time
            return None if (found and diagnosis in ONLY_OWN) or (not found and diagnosis in IF_FOUND) else found
        if row["kind"] != "sick":
            return False
        return False if diagnosis in NEVER_ELSEWHERE else None


def _ratios(row: Row) -> list[float]:
    return [one for one in row["measured"]["ratios"] if one is not None]


def _at_any(row: Row, name: str, default: float) -> list[float]:
    m = row["measured"]
    return [one for one in (m.get(name, default), m["start"].get(name, default)) if one is not None]


def _fades(row: Row) -> bool:
    return row["body"] in ("rnn", "relu_rnn") and min(_at_any(row, "horizon", 1.0)) < 0.5


def _averages_trail(row: Row) -> bool:
    m = row["measured"]
    if "renewed_loss" not in m:
        return False
    return m["train_loss"] > 1.5 * m["renewed_loss"] and m["train_loss"] - m["renewed_loss"] > 0.05 * GUESSING


EXACT: dict[str, Callable[[Row], bool]] = {
    "not_finite": lambda row: not row["measured"]["finite"],
    "dead_relus": lambda row: row["measured"].get("dead", 0.0) > 0.25,
    "vanishing_gradient": lambda row: len(_ratios(row)) == 2 and max(_ratios(row)) < 1e-2,
    "exploding_gradient": lambda row: len(_ratios(row)) == 2 and min(_ratios(row)) > 100,
    "symmetric_weights": lambda row: row["measured"].get("copies", 0.0) > 0.5,
    "unused_parameters": lambda row: row["measured"]["still"] > 0,
    "wrong_gradient": lambda row: row["measured"].get("gradient_error", 0.0) > 1e-4,
    "mixed_samples": lambda row: bool(row["measured"].get("mixed", False)),
    "ignores_input": lambda row: row["measured"].get("informed", 0.0) < 0.01,
    "overfitting": lambda row: row["measured"].get("harm_z", 0.0) > 1.96 and row["measured"]["harm"] > 1.1,
    "train_eval_mismatch": _averages_trail,
    "class_collapse": lambda row: row["measured"]["favourite"] > max(
        2 * row["measured"]["favourite_given"], row["measured"]["favourite_given"] + 0.1
    ),
    "residual_identity": lambda row: row["measured"].get("useless", 0.0) >= 0.5,
    "attention_collapse": lambda row: max(_at_any(row, "collapsed_heads", 0.0)) >= 0.5,
    "gradient_through_time": lambda row: max(_at_any(row, "time_ratio", 0.0)) > 1e3 or _fades(row),
    "label_errors": lambda row: row["name"] == "labels exchanged",
    "pooling_routes": lambda row: max(_at_any(row, "one_place", 0.0)) > 0.6,
}  # fmt: skip

ONLY_OWN = ("ignores_input", "residual_identity", "symmetric_weights", "unused_parameters")

IF_FOUND = ("exploding_gradient", "vanishing_gradient")
"""The oracle is of depth, at the start and an eighth of the run on: that a gradient leaps from step to step beside a
rate too high, or fades later under a decay too strong, it cannot deny."""

NEVER_ELSEWHERE = ("input_scale", "softmax_twice", "class_imbalance")
"""Made by their recipes alone: no other run of the zoo has raw inputs, a second softmax, rare classes."""
