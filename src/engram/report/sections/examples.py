"""What became of the training examples: how often each was lost again, and how the classes differ in that."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engram.report.charts import figure
from engram.report.charts_review import bars
from engram.report.ledger import Columns
from engram.report.markup import Markup, join, table, tag
from engram.report.run_folder import Run, text
from engram.report.words import count, number, percent

ORDER = 65
TITLE = "What became of the examples"

MOST_LAPSES = 24
"""Bars; examples that were lost more often are counted with these."""
MOST_ROWS = 200
ENOUGH = 20
"""Examples of a class below which it is not called the worst."""


def section(run: Run) -> Markup | None:
    ledger = run.ledger
    seen = ledger["visits"] > 0 if ledger else np.zeros(0, bool)
    if not seen.any():
        return None
    known = {name: column[seen] for name, column in ledger.items()}
    return join([tag("p", " ".join(_told(known, len(seen)))), _chart(known), _classes(run, known)])


def _told(known: Columns, examples: int) -> Iterator[str]:
    """How the examples stand now, and how they came there."""
    visits, lapses, now = known["visits"], known["lapses"], known["streak"] > 0
    total = len(visits)
    of = f"{count(total)} training examples" if total == examples else f"{count(total)} examples visited so far"
    yield f"Of the {of}, {percent(now.mean())} were recalled at their last visit."
    yield f"{percent((now & (lapses == 0)).mean())} were recalled and never lost again,"
    yield f"{percent((now & (lapses > 0)).mean())} were lost and learned anew,"
    yield f"{percent((~now & (lapses > 0)).mean())} were known once and are lost now,"
    yield f"{percent((~now & (lapses == 0)).mean())} were never recalled."
    least, most = int(visits.min()), int(visits.max())
    yield f"Each was visited {count(least)} times." if least == most else f"They were visited {least} to {most} times."


def _chart(known: Columns) -> Markup | None:
    lapses = np.minimum(known["lapses"], MOST_LAPSES)
    most = int(lapses.max())
    if most < 2:
        return None
    counts = np.bincount(lapses, minlength=most + 1).tolist()
    often = (known["lapses"] >= 2).mean()
    caption = (
        f"{percent((known['lapses'] == 0).mean())} of the examples were never lost after they had been recalled; the "
        f"others are drawn. {percent(often)} were lost twice or more, at most {count(known['lapses'].max())} times: "
        "they are hard, or labelled wrongly."
    )
    spec = bars(list(range(1, most + 2)), counts[1:], x="times lost", y="examples")
    return tag("div", figure(spec, "How often an example was lost", caption), class_="charts")


def _classes(run: Run, known: Columns) -> Markup | None:
    """The same by class, the one that is remembered worst first."""
    labels = known.get("label")
    if labels is None or not len(run.classes) or labels.min() < 0 or labels.max() >= len(run.classes):
        return None
    present = np.unique(labels)
    if len(present) < 2:
        return None
    now = known["streak"] > 0
    order = sorted(present.tolist(), key=lambda label: float(now[labels == label].mean()))
    rows = [_row(run, known, labels == label, now, label) for label in order[:MOST_ROWS]]
    head = ["class", "examples", "visits, mean", "recalled last time", "lost at least once", "never recalled"]
    shown = table("Training examples by class, the one remembered worst first", head, rows)
    sure = [label for label in order if (labels == label).sum() >= ENOUGH]
    told = None
    if sure:
        worst, best = sure[0], sure[-1]
        told = (
            f"The class remembered worst is {text(run.classes[worst])}: {percent(now[labels == worst].mean())} of its "
            f"training examples were recalled last time; of {text(run.classes[best])}, "
            f"{percent(now[labels == best].mean())}."
        )
    return join([tag("p", told) if told else None, tag("details", tag("summary", "Class by class"), shown)])


def _row(run: Run, known: Columns, chosen: NDArray[np.bool_], now: NDArray[np.bool_], label: int) -> tuple[str, ...]:
    lapses = known["lapses"][chosen]
    return (
        text(run.classes[label]),
        count(int(chosen.sum())),
        number(float(known["visits"][chosen].mean())),
        percent(float(now[chosen].mean())),
        percent(float((lapses > 0).mean())),
        percent(float((~now[chosen] & (lapses == 0)).mean())),
    )
