"""How well each class is known: recall, precision and F1, the hardest first."""

from collections.abc import Mapping
from typing import Any

from engram.report.markup import Markup, join, table, tag
from engram.report.run_folder import Run, finite, text
from engram.report.words import count, percent

ORDER = 30
TITLE = "Class by class"

FEW, MOST = 20, 1000


def section(run: Run) -> Markup | None:
    evaluation = run.evaluation
    rows = list(evaluation.summary.get("per_class") or []) if evaluation else []
    if evaluation is None or not rows:
        return None
    rows.sort(key=lambda row: finite(row.get("f1")) or 0.0)
    explained = tag(
        "p",
        "Recall: how many of the examples of a class are recognised. Precision: how often the network is right when it "
        "names the class. F1 is high only where both are.",
    )
    of = f"{count(evaluation.examples)} {evaluation.split} examples"
    if len(rows) <= FEW:
        return join([explained, _table(f"Every class on {of}, hardest first", rows)])
    rest = rows[10:MOST]
    cut = f", of {count(len(rows))}" if len(rows) > MOST else ""
    return join(
        [
            explained,
            _table(f"The ten hardest classes on {of}", rows[:10]),
            tag(
                "details",
                tag("summary", f"The other {count(len(rest))} classes{cut}"),
                _table("The other classes, hardest first", rest),
            ),
        ]
    )


def _table(caption: str, rows: list[Mapping[str, Any]]) -> Markup:
    shown = [
        (
            text(row.get("name")),
            count(finite(row.get("examples"))),
            *(_meter(finite(row.get(name))) for name in ("recall", "precision", "f1")),
        )
        for row in rows
    ]
    return table(caption, ("class", "examples", "recall", "precision", "F1"), shown, wide=True)


def _meter(share: float | None) -> Markup:
    bar = tag("span", class_="bar", style=f"--share:{share or 0:.3f}")
    return tag("span", percent(share), bar, class_="meter")
