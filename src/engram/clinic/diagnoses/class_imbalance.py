"""Imbalance: the largest class has many times the examples of the smallest.

    q = examples of the largest class / of the smallest that has any

A network that always answers "the large one" is then right most of the time, and its loss is low before it has learned
anything; the mean over examples hardly hears the small classes. Nothing is broken, but the accuracy of the whole says
little: judge by class, and weigh or repeat the rare ones if they matter.

The counts come from the data card, or else from the labels of the probe batch, where a class may be missing by chance.

Sick: 95 to 5. Healthy: alike to some. SageMaker Debugger's ClassImbalance asks for the same ratio of 10.

What it cannot see: whether the rare classes are also the hard ones. `class_collapse` sees what came of it.

Buda, Maki and Mazurowski 2018, A systematic study of the class imbalance problem, arXiv:1710.05381; He and Garcia 2009,
Learning from imbalanced data.
"""

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.signals import foresees_words
from engram.registry import register

WARNING = 10.0
"""SageMaker Debugger's ClassImbalance and the data card ask for the same."""

PROBED = 256
"""Labels at least, where the counts come from the probe batch alone."""


@register(
    "diagnosis",
    paper="He and Garcia 2009; Buda, Maki and Mazurowski 2018",
    year=2009,
    when="before",
    level="quick",
    causes=("class_collapse",),
)
def class_imbalance(history: History) -> list[Finding]:
    """The largest class has many times the examples of the smallest."""
    data = history.setup.data
    if foresees_words(history):  # words are never equally frequent
        return []
    counts = [float(one) for one in (data.get("counts") or {}).get("train", ())]
    names = [str(one) for one in data.get("classes", ())]
    probe = history.now.probe
    if not counts and probe is not None and (history.setup.examples or 0) >= PROBED:
        counts = [share * (history.setup.examples or 0) for share in probe.given]
    present = [one for one in counts if one > 0]
    if len(present) < 2 or max(present) < WARNING * min(present):
        return []
    ratio, large, small = max(present) / min(present), counts.index(max(present)), counts.index(min(present))

    def called(place: int) -> str:
        return names[place] if place < len(names) else f"class {place}"

    share = max(present) / sum(present)
    return [
        Finding(
            "class_imbalance",
            "warning",
            f"{called(large)} has {ratio:,.0f} times the examples of {called(small)}, {WARNING:g} times or more",
            means=f"always answering {called(large)} is right in {100 * share:.0f} % of cases, so accuracy says little",
            remedy=Remedy(
                f"judge by the accuracy of each class; weigh the loss, or show {called(small)} and its like more often"
            ),
            refuted_by="rare classes that are right as often as the common ones",
            confidence=0.9,
            step=history.now.step,
            seen={"ratio": ratio, "largest": max(present), "smallest": min(present), "warning": WARNING},
        )
    ]
