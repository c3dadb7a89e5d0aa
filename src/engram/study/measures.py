"""By which figure arms are compared: `validation.accuracy`, `test.loss`, ..., and where a run folder has it.

The *final* weights are those of the last step, and what research compares: choosing the best epoch by validation
flatters whoever fluctuates most. The *best* weights are those of the best epoch on validation.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engram.errors import unknown
from engram.report.run_folder import finite

JUDGED = ("final", "best")

FIGURES = {
    "accuracy": (True, True),
    "loss": (False, False),
    "ece": (False, True),
    "worst_class": (True, True),
    "top5": (True, True),
}
"""Figure -> (whether more is better, whether it is a share): ece is the calibration error, worst_class the lowest
share of any class that is recognised."""

SPLITS = {"validation": tuple(FIGURES), "test": tuple(FIGURES), "train": ("accuracy", "loss")}
"""Training figures are those of the last pass, as the weights changed, on augmented examples."""


@dataclass(frozen=True)
class Measure:
    """A figure on a split."""

    split: str
    figure: str

    @property
    def name(self) -> str:
        return f"{self.split}.{self.figure}"

    @property
    def more_is_better(self) -> bool:
        return FIGURES[self.figure][0]

    @property
    def share(self) -> bool:
        return FIGURES[self.figure][1]

    @property
    def words(self) -> str:
        """As a sentence says it."""
        spoken = {"ece": "calibration error", "worst_class": "accuracy of the worst class", "top5": "top-5 accuracy"}
        return f"{self.split} {spoken.get(self.figure, self.figure)}"


def parse(word: str) -> Measure:
    """The measure of that name.

    Raises:
        UserError: no such measure, with the nearest one.

    >>> parse("test.worst_class").words
    'test accuracy of the worst class'
    """
    known = [f"{split}.{figure}" for split, figures in SPLITS.items() for figure in figures]
    if word not in known:
        raise unknown("measure", word, known)
    split, _, figure = word.partition(".")
    return Measure(split, figure)


def evaluation(folder: Path, split: str, judged: str) -> Path:
    """Where a run of a study keeps what the judged weights do on a split."""
    return folder / "evaluation" / (f"{split}.json" if judged == "best" else f"final_{split}.json")


def figures(folder: Path, judged: str, epochs: tuple[Mapping[str, Any], ...]) -> dict[str, float | None]:
    """Every measure that a finished run has, by name.

    Args:
        epochs: its epoch events, in order.
    """
    found: dict[str, float | None] = {}
    for split in ("validation", "test"):
        try:
            summary = json.loads(evaluation(folder, split, judged).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        found |= {f"{split}.{figure}": finite(summary.get(figure)) for figure in ("accuracy", "loss", "ece", "top5")}
        found[f"{split}.worst_class"] = _worst_class(summary)
    chosen = epochs if judged == "final" else [one for one in epochs if one.get("best")]
    if chosen:
        last = chosen[-1].get("train") or {}
        found |= {f"train.{figure}": finite(last.get(figure)) for figure in SPLITS["train"]}
    return found


def _worst_class(summary: Mapping[str, Any]) -> float | None:
    shares = [one["recall"] for one in summary.get("per_class") or [] if one.get("examples")]
    lowest = min(shares, default=math.nan)
    return None if math.isnan(lowest) else lowest
