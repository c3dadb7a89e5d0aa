"""Unreadable examples: reading some of the data raises an error.

    share = examples that raised / examples asked for

A data set that fails half-way stops a run after an hour instead of at its start. The examples that the clinic measures
on are spread evenly over the data, so that a hundredth of bad ones is met among a thousand almost surely (1 - 0.99¹⁰²⁴
> 0.9999); what could not be read is named, and the rest is measured.

What it cannot see: a bad example between those asked for.

Deepchecks and cleanlab leave reading to the loader; no published rule is known to us.
"""

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.registry import register


@register("diagnosis", when="before", level="quick", causes=(), of_trained=True)
def unreadable_examples(history: History) -> list[Finding]:
    """Some examples cannot be read."""
    said = history.setup.data.get("unreadable", ())
    if not said:
        return []
    return [
        Finding(
            "unreadable_examples",
            "warning",
            f"{len(said)} could not be read; the first: {said[0]}",
            means="training stops, or leaves them out, when it comes to them",
            remedy=Remedy("repair or remove them, or let the data set give another example in their place"),
            refuted_by="the same examples being read alone",
            confidence=1.0,
            step=history.now.step,
            seen={"unreadable": len(said)},
        )
    ]
