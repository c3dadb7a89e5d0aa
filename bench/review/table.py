"""What bench/results/review_*.json hold, as Markdown: every method at every budget, paired by seed with shuffling."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from workloads import margin

from engram.study.statistics import describe, equivalence, holm, paired

CONTROL = "permuted"
ABLATED = "validation.accuracy"


def print_all(results: Path) -> None:
    for path in sorted(results.glob("review_*.json")):
        told = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(told, dict) and told.get("budgets"):
            again = path.with_stem(f"{path.stem}-auto")
            apart = json.loads(again.read_text(encoding="utf-8"))["budgets"] if again.exists() else {}
            print(section(told, {budget: p_of_auto(one["runs"]) for budget, one in apart.items()}))


def p_of_auto(runs: list[dict[str, Any]]) -> float:
    """Of `save="auto"` against shuffling."""
    auto, shuffle = ({row["seed"]: row for row in runs if row["arm"] == arm} for arm in ("auto", "shuffle"))
    return paired(differences(auto, shuffle)).p


def section(told: dict[str, Any], apart: dict[str, float]) -> str:
    """One workload; `apart` are the p-values, by budget, of one method more that was decided apart."""
    facts = told["workload"]
    regime = "saturated" if facts["saturated"] else "not saturated"
    parts = [f"### {facts['name']}", f"{facts['about']}; the full run has {facts['epochs']:g} epochs; {regime}."]
    for budget in sorted(told["budgets"], key=float):
        parts += [
            f"{float(budget):.0%} of the full run's visits:",
            table(told["budgets"][budget]["runs"], told["tuned"], apart.get(budget)),
        ]
    if len(told["budgets"]) > 1:
        parts += ["By visits, and against shuffling with as many:", by_visits(told["budgets"])]
    full = told["budgets"].get("1.0")
    if full:
        parts.append(
            against_full(
                told["budgets"],
                {row["seed"]: row for row in full["runs"] if row["arm"] == "shuffle"},
                margin(facts["name"]),
            )
        )
        parts += ["Visits to the full run's accuracy:", to_full(told["budgets"])]
    if told.get("ablations"):
        parts.append("One change at a time, half of the visits, validation data:")
        parts.append(ablations(told["ablations"]))
    for again in told.get("ablations_again", []):
        parts.append(f"Some by themselves, {again.get('at', 0.5):.0%} of the visits:")
        parts.append(ablations(again["runs"]))
    return "\n\n".join(parts) + "\n"


def by_visits(budgets: dict[str, Any]) -> str:
    """Test accuracy of every method at every budget, with the paired difference from shuffling in points."""
    order = sorted(budgets, key=float)
    lines = [
        "| method | " + " | ".join(f"{float(budget):.0%} of the visits" for budget in order) + " |",
        "|---|" + "---:|" * len(order),
    ]
    for arm in dict.fromkeys(row["arm"] for budget in order for row in budgets[budget]["runs"]):
        cells = []
        for budget in order:
            runs = budgets[budget]["runs"]
            rows = {row["seed"]: row for row in runs if row["arm"] == arm}
            shuffle = {row["seed"]: row for row in runs if row["arm"] == "shuffle"}
            cell = mean(list(rows.values()), "test.accuracy", 100) if rows else ""
            if arm != "shuffle" and len(shared(rows, shuffle)) > 1:
                cell += f"; {points(paired(differences(rows, shuffle)))}"
            cells.append(cell)
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def points(one: Any) -> str:
    """A mean difference with its interval, in percentage points."""
    return f"{100 * one.mean:+.2f} ({100 * one.low:+.2f} to {100 * one.high:+.2f})"


def against_full(budgets: dict[str, Any], full: dict[int, Any], within: float) -> str:
    """Every method on a part of the visits against shuffling with all of them, and whether it is as good."""
    lines = [
        f"| method | visits | against the full run (95 % interval), points | within {100 * within:g} point: p |",
        "|---|---:|---:|---:|",
    ]
    for budget in sorted(budgets, key=float):
        runs = budgets[budget]["runs"]
        for arm in dict.fromkeys(row["arm"] for row in runs):
            rows = {row["seed"]: row for row in runs if row["arm"] == arm}
            if float(budget) == 1 or not shared(rows, full):
                continue
            found = differences(rows, full)
            one = paired(found)
            lines.append(f"| {arm} | {float(budget):.0%} | {points(one)} | {number(equivalence(found, within))} |")
    return "\n".join(lines)


def to_full(budgets: dict[str, Any]) -> str:
    """The part of the full run's visits at which every method has the mean accuracy of shuffling with all of them."""
    lines = ["| method | visits to the full run's accuracy, % (95 % interval) |", "|---|---:|"]
    return "\n".join([*lines, *(f"| {arm} | {told} |" for arm, told in visits_to_full(budgets).items())])


def visits_to_full(budgets: dict[str, Any]) -> dict[str, str]:
    """Of every method with all visits: between two budgets accuracy is taken to grow evenly.

    The interval is of 9,999 resamples of the seeds, the same for both; where one does not get there with all visits
    either, it has no upper end.
    """
    by: dict[str, dict[float, dict[int, float]]] = {}
    for budget, told in budgets.items():
        for row in told["runs"]:
            if row["test.accuracy"] is not None:
                by.setdefault(row["arm"], {}).setdefault(float(budget), {})[row["seed"]] = row["test.accuracy"]
    full = by.get("shuffle", {}).get(1.0, {})
    result = {}
    for arm, found in by.items():
        seeds = [seed for seed in full if all(seed in rows for rows in found.values())]
        at = sorted(found)
        if len(at) < 2 or at[-1] < 1 or len(seeds) < 2 or arm == "shuffle":
            continue
        values = np.array([[found[budget][seed] for seed in seeds] for budget in at])
        target = np.array([full[seed] for seed in seeds])
        drawn = np.random.default_rng(0).integers(len(seeds), size=(9999, len(seeds)))
        again = np.array([reached(at, values[:, some].mean(1), target[some].mean()) for some in drawn])
        low, high = np.quantile(again, (0.025, 0.975), method="nearest")
        one = reached(at, values.mean(1), target.mean())
        result[arm] = f"{share(one, at)} ({share(low, at)} to {share(high, at)})"
    return result


def reached(at: list[float], means: Any, target: float) -> float:
    """Where the line through these means first is at the target: 0 before the first, infinite after the last.

    >>> reached([0.5, 1.0], [0.9, 1.0], 0.95)
    0.75
    """
    if means[0] >= target:
        return 0.0
    for place in range(1, len(at)):
        before, after = means[place - 1], means[place]
        if after >= target:
            return float(at[place - 1] + (at[place] - at[place - 1]) * (target - before) / (after - before))
    return math.inf


def share(one: float, at: list[float]) -> str:
    """A part in per cent, or beyond which of the budgets it lies."""
    return f"< {100 * at[0]:.0f}" if one == 0 else f"> {100 * at[-1]:.0f}" if math.isinf(one) else f"{100 * one:.0f}"


def ablations(runs: list[dict[str, Any]]) -> str:
    """Each change against the tuned method."""
    lines = [
        "| change | validation accuracy, % | against as tuned (95 % interval), points | p (Holm) | NLL |",
        "|---|---:|---:|---:|---:|",
    ]
    by: dict[str, dict[int, Any]] = {}
    for row in runs:
        by.setdefault(row["arm"], {})[row["seed"]] = row
    tuned = by["as tuned"]
    tests = {}
    for arm, rows in by.items():
        seeds = [seed for seed in rows if None not in (rows[seed][ABLATED], tuned[seed][ABLATED])]
        if arm != "as tuned" and len(seeds) > 1:
            tests[arm] = paired([rows[seed][ABLATED] - tuned[seed][ABLATED] for seed in seeds])
    corrected = dict(zip(tests, holm([one.p for one in tests.values()]), strict=True))
    for arm, rows in by.items():
        cells = [arm, mean(list(rows.values()), ABLATED, 100), "", ""]
        if arm in tests:
            one = tests[arm]
            cells[2] = points(one)
            cells[3] = number(corrected[arm])
        lines.append("| " + " | ".join([*cells, mean(list(rows.values()), "validation.loss", 1, 4)]) + " |")
    return "\n".join(lines)


def table(runs: list[dict[str, Any]], tuned: dict[str, Any], apart: float | None = None) -> str:
    """Every method of one budget; `apart` is the p-value of one more, which counts where they are corrected."""
    arms = list(dict.fromkeys(row["arm"] for row in runs))
    by = {arm: {row["seed"]: row for row in runs if row["arm"] == arm} for arm in arms}
    shuffle = by.get("shuffle", {})
    tests = {
        arm: paired(differences(by[arm], shuffle)) for arm in arms if arm != "shuffle" and shared(by[arm], shuffle)
    }
    family = [one.p for one in tests.values()] + ([] if apart is None or "auto" in tests else [apart])
    corrected = dict(zip(tests, holm(family), strict=False))
    lines = [
        "| method | tuned to | test accuracy, % | against shuffle (95 % interval), points | p (Holm) "
        "| against permuted | NLL | ECE, % | worst class, % | training accuracy, % |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for arm in arms:
        rows = list(by[arm].values())
        settings = " ".join(f"{key.removeprefix('review.')}={value}" for key, value in tuned.get(arm, {}).items())
        cells = [
            arm,
            settings or "published" if arm in tuned else "as forgetting_curve",
            mean(rows, "test.accuracy", 100),
        ]
        if arm in tests:
            one = tests[arm]
            cells += [points(one), number(corrected[arm])]
        else:
            cells += ["", ""]
        control = by.get(CONTROL, {})
        if arm != CONTROL and shared(by[arm], control):
            one = paired(differences(by[arm], control))
            cells.append(f"{100 * one.mean:+.2f} (p {number(one.p)})")
        else:
            cells.append("")
        cells += [mean(rows, "test.loss", 1, 4), mean(rows, "test.ece", 100), mean(rows, "test.worst_class", 100)]
        cells.append(mean(rows, "train.accuracy", 100))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def shared(one: dict[int, Any], other: dict[int, Any]) -> list[int]:
    """Seeds that both have finished."""
    return [
        seed for seed in one if seed in other and None not in (one[seed]["test.accuracy"], other[seed]["test.accuracy"])
    ]


def differences(one: dict[int, Any], other: dict[int, Any]) -> list[float]:
    return [one[seed]["test.accuracy"] - other[seed]["test.accuracy"] for seed in shared(one, other)]


def mean(rows: list[dict[str, Any]], key: str, scale: float, digits: int = 2) -> str:
    values = [scale * row[key] for row in rows if row.get(key) is not None]
    if not values:
        return "none finished"
    told = describe(values)
    spread = "" if math.isnan(told.sd) else f" ± {told.sd:.{digits}f}"
    few = "" if len(values) == len(rows) else f" (n = {len(values)} of {len(rows)})"
    return f"{told.mean:.{digits}f}{spread}{few}"


def number(p: float) -> str:
    return "" if math.isnan(p) else f"{p:.3f}" if p >= 0.001 else "< 0.001"
