"""Leak between splits: examples to judge by that the network was trained on.

    examples of validation and test that an earlier split holds too / examples of validation and test

What was seen in training is known by heart, so the result looks better than it is on anything new. The data card
compares all examples by their bytes and nearly equal pictures by their looks; here its count becomes a finding. One in
two hundred is where it begins to move a result; at one in twenty no comparison holds.

A validation accuracy over that of training is no sign of it by itself: augmentation and dropout lower the latter.

Sick: 5 % of training copied into validation. Healthy: disjoint.

What it cannot see: the same person, scene or patient in other pictures. Split by those.

Barz and Denzler 2020, Do we train on test data?, arXiv:1902.00423 (3.3 % of CIFAR-10's test set, 10 % of CIFAR-100's);
Kapoor and Narayanan 2023, Leakage and the reproducibility crisis, section 3.
"""

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.registry import register

WARNING = 0.005
"""Of the examples to judge by."""

CRITICAL = 0.05
"""CIFAR-10, on which much is compared all the same, has 3.3 % near-duplicates."""


@register(
    "diagnosis",
    paper="Barz and Denzler 2020",
    year=2020,
    when="before",
    level="quick",
)
def split_leak(history: History) -> list[Finding]:
    """Examples to judge by stand in training as well."""
    found = history.setup.data.get("duplicates") or {}
    counts = history.setup.data.get("counts") or {}
    leaked, near = int(found.get("across_count", 0)), int(found.get("across_near_count", 0))
    judged = sum(sum(counts.get(split, ())) for split in ("validation", "test"))
    if not leaked or not judged:
        return []
    share = leaked / judged
    # copies to the last bit are certain; near ones were compared by their looks
    certain = (leaked - near) / judged
    severity = "critical" if certain > CRITICAL else "warning" if share > WARNING else "information"
    limit = {"critical": CRITICAL, "warning": WARNING, "information": WARNING}[severity]
    pairs = found.get("across") or []
    such = f", such as {' = '.join(map(str, pairs[0][:2]))}" if pairs else ""
    return [
        Finding(
            "split_leak",
            severity,
            f"{leaked:,} of {judged:,} examples to judge by ({100 * share:.2g} %, {_beside(share, limit)} "
            f"{100 * limit:g} %) stand in an earlier split as well{such}",
            means="they are known by heart, so the result is better than it would be on new examples",
            remedy=Remedy("take them out of training, or split anew so that copies stay on one side"),
            refuted_by="looking at the pairs: pictures that are alike and still different examples",
            confidence=0.95 if near == 0 else 0.8,
            step=history.now.step,
            seen={"leaked": leaked, "near": near, "judged": judged, "share": share, "warning": WARNING,
                  "critical": CRITICAL},
        )
    ]  # fmt: skip


def _beside(share: float, limit: float) -> str:
    return "over" if share > limit else "not over"
