"""Forgetting: examples that were known and then lost, again and again.

    a lapse: recalled at one visit, not at the next;   an example is unstable from three lapses on

Most examples of a clean set are never forgotten once they are known (88 to 92 %, with 0.16 lapses an example); those
that are lie at the border between classes, or have a wrong label (2.1 lapses). The ones that are never forgotten could
be shown less often; the ones that are forgotten are what review is for.

A fact, and no verdict: forgetting is also what a high rate does to everything, so a run that is half done shows more.

Sick: a tenth of the labels flipped. Healthy: clean labels.

What it cannot see: an example that was never known has nothing to forget.

Toneva et al. 2019, An empirical study of example forgetting during deep neural network learning, arXiv:1812.05159,
sections 3 and 4.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.signals import foresees_words
from engram.clinic.subject import Subject
from engram.registry import register
from engram.review.ledger import Ledger

LAPSES = 3
"""From which an example is unstable; a clean one has 0.16 on average."""

SHARE = 0.05
"""Of the examples unstable, from which it is told."""

VISITS = 5

NAMED = 10


CLASSES = (
    "they lie at the border between classes, or their labels are wrong; or the rate shakes everything",
    Remedy(
        "review what is about to be forgotten, and lower the rate to 0 at the end",
        {"review": "forgetting_curve", "schedule": "one_cycle"},
    ),
)
"""(what it means, what helps) where examples have a class each."""

WORDS = (
    "they say what the others do not; or the rate shakes everything",
    Remedy("lower the rate to 0 at the end", {"schedule": "one_cycle"}),
)
"""Where what follows is foreseen: reviewing showed no gain there (docs/sequences.md)."""


def lapses(subject: Subject) -> Mapping[str, Any] | None:
    """Of `subject.facts["ledger"]`: how many examples were forgotten how often, the most forgotten by name."""
    ledger = subject.facts.get("ledger")
    return None if not isinstance(ledger, Ledger) else counted(ledger, subject.facts.get("names"))


def counted(ledger: Ledger, names: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Lapses of the examples that were visited often enough; None where there are none.

    >>> ledger = Ledger(4)
    >>> ledger.visits += 10; ledger.recall += 1; ledger.lapses[:] = torch.tensor([0, 4, 0, 3])
    >>> found = counted(ledger); found["unstable"], found["mean"], found["names"]
    (2, 1.75, ['example 1', 'example 3'])
    """
    rows = torch.nonzero(ledger.visits >= VISITS).flatten()
    if not len(rows):
        return None
    found = ledger.lapses[rows].cpu()
    known = (ledger.recall[rows] > 0).cpu() | (found > 0)
    order = found.argsort(descending=True, stable=True)
    worst = [int(rows[place]) for place in order[:NAMED] if found[place] >= LAPSES]
    return {
        "of": len(rows),
        "mean": found.double().mean().item(),
        "unstable": int((found >= LAPSES).sum()),
        "never_forgotten": ((found == 0) & known).sum().item() / max(1, int(known.sum())),
        "names": [names[index] if names else f"example {index}" for index in worst],
    }


@register(
    "diagnosis",
    paper="Toneva et al. 2019, sections 3 and 4",
    year=2019,
    when="after",
    level="quick",
    measure=lapses,
)
def forgetting(history: History) -> list[Finding]:
    """Examples that were known and then lost, again and again."""
    own = history.own("forgetting")
    if own is None or own["unstable"] <= SHARE * own["of"]:
        return []
    means, remedy = CLASSES
    if foresees_words(history):
        means, remedy = WORDS
    return [
        Finding(
            "forgetting",
            "information",
            f"{own['unstable']:,} of {own['of']:,} examples were forgotten {LAPSES} times or more, over "
            f"{100 * SHARE:g} %; the mean is {own['mean']:.2g}, and {100 * own['never_forgotten']:.0f} % of those ever "
            "known were never forgotten",
            means=means,
            remedy=remedy,
            refuted_by="a run with a rate ten times lower that forgets as few as others do",
            confidence=0.6,
            step=history.now.step,
            where=tuple(own["names"]),
            seen={
                "unstable": own["unstable"],
                "examples": own["of"],
                "mean_lapses": own["mean"],
                "never_forgotten": own["never_forgotten"],
                "lapses": LAPSES,
                "share": SHARE,
            },
        )
    ]
