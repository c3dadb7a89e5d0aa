"""Saturation: tanh or sigmoid units that stand at their ends let hardly any gradient through.

    share of |tanh z| > 0.97, of sigmoid outside 0.02 to 0.98          there the slope is under 6 and 8 % of its largest

Saturation alone is no disease. A sigmoid network with 63 % of its units at their ends reached an accuracy of 0.96 where
one with none reached 0.48; a first layer on inputs of 0 to 16 had 80 % and learned to 0.98. It is told as a fact, and
becomes a diagnosis where it blocks: less than a hundredth of the gradient arrives, or the loss stands still or is slow.

The last layer is left out: a sigmoid that answers yes or no stands at its ends because it has learned.

Sick: tanh with ten times Xavier's weights, 84 % and an accuracy of 0.45. Healthy: once 5 %, twice 30 %. SageMaker
Debugger asks for |z| > 9.5 in half of the units, which was never seen, even there (35 %).

What it cannot see: gates are made to stand open or shut; in recurrent cells and squeeze-excitation it says little.

LeCun, Bottou, Orr and Müller 1998, Efficient BackProp, section 4.4; Glorot and Bengio 2010, section 3.
"""

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History, Moment, persists
from engram.clinic.signals import gradient_ratio, has_learned, is_stalled
from engram.registry import register

INFORMATION = 0.5
"""Share of a layer's values; twice Xavier's weights, which learn well, have 0.30. To be calibrated."""

BLOCKED = 1e-2
"""Share of the last hidden layers' gradient that arrives at the first: `vanishing_gradient`'s own warning."""

CRITICAL = 0.8
"""And the loss stands still: ten times Xavier's weights have 0.84. With a loss that is merely slow, a warning."""

WAITED = 0.2
"""Share of the run after which a loss over half of its start is slow."""


@register(
    "diagnosis",
    paper="LeCun et al. 1998, section 4.4; Glorot and Bengio 2010, section 3",
    year=1998,
    when="during",
    level="standard",
    causes=("vanishing_gradient", "underfitting", "lr_too_low"),
)
def saturation(history: History) -> list[Finding]:
    """Units of tanh or sigmoid that stand at their ends."""
    moments = history.probed(5)
    if not moments:
        return []
    last = max((one.depth for one in moments[-1].layers), default=0)
    inner = [one for one in moments[-1].layers if one.saturated is not None and one.depth < last]
    sick = [one for one in inner if persists(moments, lambda moment, name=one.name: _share(moment, name) > INFORMATION)]
    if not sick:
        return []
    worst = max(sick, key=lambda one: one.saturated or 0.0)
    share = worst.saturated or 0.0
    ratio = gradient_ratio(moments[-1])
    blocked, stalled = ratio is not None and ratio < BLOCKED, is_stalled(history)
    slow = share > CRITICAL and (history.progress() or 0.0) >= WAITED and not has_learned(history)
    severity = (
        "critical" if stalled and share > CRITICAL else "warning" if blocked or slow or stalled else "information"
    )
    harm = [f"{ratio:.2g} of the gradient arrives"] if blocked else []
    harm += ["the loss stands still"] if stalled else ["the loss has not halved"] if slow else []
    seen: dict[str, float | int | str] = {"share": share, "information": INFORMATION, "critical": CRITICAL}
    if ratio is not None:
        seen |= {"gradient_ratio": ratio, "blocked": BLOCKED}
    return [
        Finding(
            "saturation",
            severity,
            f"{100 * share:.0f} % of {worst.name}'s values ({worst.kind}, over {100 * INFORMATION:.0f} %) stand at the "
            f"ends of its range{'; ' if harm else ''}{' and '.join(harm)}",
            means="the slope there is close to 0, so these units hardly learn"
            if harm
            else "the slope there is close to 0; as the loss falls and the gradient arrives, it does no harm so far",
            remedy=Remedy(
                "normalise the input and draw the weights by Xavier's rule; or ReLU in place of it",
                {"initializer": ("xavier",)},
            ),
            refuted_by="a run with weights a third as large that saturates less and learns no faster",
            confidence={"information": 0.5, "warning": 0.7, "critical": 0.85}[severity],
            step=moments[-1].step,
            where=tuple(one.name for one in sick),
            seen=seen,
        )
    ]


def _share(moment: Moment, name: str) -> float:
    return next((one.saturated or 0.0 for one in moment.layers if one.name == name), 0.0)
