"""All tasks at a glance, from bench/results/review_*.json: pairs that the marks ask for, visits to the full run, time.

`python bench/review/run.py table` prints it; docs/review.md and docs/review_results.md hold it.
"""

import json
import statistics
from pathlib import Path
from typing import Any

from table import CONTROL, differences, points, shared, visits_to_full

from engram.study.statistics import paired

TASKS = {
    "mnist": "MNIST, LeNet-5",
    "cifar10-three": "3 classes of CIFAR-10, ResNet-20",
    "cifar10-three-wide": "3 classes of CIFAR-10, wide ResNet-10-2",
    "cifar10-16-rates": "CIFAR-10, ResNet-20",
    "cifar10-lenet-tail": "CIFAR-10 with a long tail, LeNet-5",
    "cifar10-lenet": "CIFAR-10, LeNet-5",
    "digits": "digits, small MLP",
    "mnist-wrong20": "MNIST, 20 % wrong labels",
    "mnist-wrong40": "MNIST, 40 % wrong labels",
    "cifar10-lenet-wrong20": "CIFAR-10, 20 % wrong labels",
    "cifar10-lenet-wrong40": "CIFAR-10, 40 % wrong labels",
    "cifar10-10k-vgg-others": "CIFAR-10 by heart, VGG",
}
PAIRS = {
    "curve - shuffling": ("forgetting_curve", "shuffle"),
    "curve - its control": ("forgetting_curve", CONTROL),
    "curve - no forgetting": ("forgetting_curve", "no forgetting"),
    "curve - InfoBatch": ("forgetting_curve", "infobatch"),
    "auto - shuffling": ("auto", "shuffle"),
    "auto - InfoBatch": ("auto", "infobatch"),
}


def print_all(results: Path) -> None:
    print(f"### At a glance\n\n{pairs(results)}\n")
    print(f"### Visits to the full run's accuracy, %\n\n{all_to_full(results)}\n")
    print(f"Time over shuffling's for as many visits: {pace(results)}\n")


def studies(results: Path, task: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Every budget's runs of a task; what was decided again with `--again auto` comes after."""
    found = []
    for path in (results / f"review_{task}.json", results / f"review_{task}-auto.json"):
        if path.exists():
            budgets = json.loads(path.read_text(encoding="utf-8"))["budgets"]
            found += [(budget, budgets[budget]["runs"]) for budget in sorted(budgets, key=float)]
    return found


def pairs(results: Path) -> str:
    """What the marks ask for of every task at every budget: the paired difference in points, its interval, a star.

    The last row counts the stars.
    """
    stars: dict[tuple[str, str, str], int] = {}  # +1 ahead, -1 behind, 0 not shown
    lines = ["| task | visits | " + " | ".join(PAIRS) + " |", "|---|---:|" + "---|" * len(PAIRS)]
    for task, title in TASKS.items():
        found: dict[str, dict[str, str]] = {}
        for budget, runs in studies(results, task):
            for name, arms in PAIRS.items():
                one, other = ({row["seed"]: row for row in runs if row["arm"] == arm} for arm in arms)
                if len(shared(one, other)) > 1:
                    told = paired(differences(one, other))
                    star = told.p < 0.05
                    found.setdefault(budget, {})[name] = points(told) + (" *" if star else "")
                    stars[task, budget, name] = star * (1 if told.mean > 0 else -1)
        for budget in sorted(found, key=float):
            cells = [found[budget].get(name, "") for name in PAIRS]
            lines.append(f"| {title} | {float(budget):.0%} | " + " | ".join(cells) + " |")
    by = [[sign for (_, _, pair), sign in stars.items() if pair == name] for name in PAIRS]
    tally = (f"{signs.count(1)} ahead, {signs.count(-1)} behind, of {len(signs)}" for signs in by)
    return "\n".join([*lines, "| with a star | | " + " | ".join(tally) + " |"])


def all_to_full(results: Path) -> str:
    """At which part of the full run's visits each of these has its accuracy, of every task that was run to the end."""
    arms = {
        "forgetting_curve": "forgetting curve",
        CONTROL: "its control",
        "auto": '`save="auto"`',
        "infobatch": "InfoBatch",
    }
    lines = ["| task | " + " | ".join(arms.values()) + " |", "|---|" + "---:|" * len(arms)]
    for task, title in TASKS.items():
        found: dict[str, str] = {}
        for path in (results / f"review_{task}-auto.json", results / f"review_{task}.json"):
            if path.exists():
                found |= visits_to_full(json.loads(path.read_text(encoding="utf-8"))["budgets"])
        if any(arm in found for arm in arms):
            lines.append(f"| {title} | " + " | ".join(found.get(arm, "") for arm in arms) + " |")
    return "\n".join(lines)


def pace(results: Path) -> str:
    """The forgetting curve's time over shuffling's for as many visits, in studies that had a core for themselves."""
    ratios = []
    for path in sorted(results.glob("review_*.json")):
        told = json.loads(path.read_text(encoding="utf-8"))
        for one in told.get("budgets", {}).values() if isinstance(told, dict) else ():
            ours, shuffle = (
                {row["seed"]: row["seconds"] for row in one["runs"] if row["arm"] == arm}
                for arm in ("forgetting_curve", "shuffle")
            )
            seeds = [seed for seed in ours if seed in shuffle]
            if seeds and one.get("machine", {}).get("cores") == 1:
                ratios.append(statistics.median(ours[seed] / shuffle[seed] for seed in seeds))
    if not ratios:
        return "none"
    middle = statistics.median(ratios)
    return f"{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} studies)"
