"""Regulariser dominates: weight decay pulls at the weights harder than the data do.

    by layer  q = λ ‖W‖ / ‖g‖          g of the batch, without decay            more than 1 in most layers, five times
    decoupled decay (AdamW)  q = lr λ ‖W‖ / ‖ΔW‖                                half-life of idle weights  ln 2 / (lr λ)

At a minimum of loss and decay together the two pulls are equal, so a network that has learned may show q near 1 and be
well. Sick is one that has not learned: its weights shrink and the loss stays at guessing. Behind batch norm the length
of the weights means nothing to the output, and q settles near √(λ lr / 2), 0.005 for usual settings.

Sick: SGD with an L2 of 0.1 and more. Healthy: 5e-4.

What it cannot see: penalties whose gradient is no multiple of the weights (L1, dropout), and a λ that nobody told it.

Krogh and Hertz 1992, A simple weight decay can improve generalization; Loshchilov and Hutter 2019, arXiv:1711.05101,
section 2; van Laarhoven 2017, arXiv:1706.05350 (with batch norm).
"""

import math
from statistics import median

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History, Moment, Weights, persists
from engram.clinic.signals import guessing, has_learned, recent_loss
from engram.registry import register

DOMINATES = 1.0
"""Of decay over data, in more than half of the layers."""

TIMES = 5
"""Measurements running."""

SHRUNK = 0.5
"""Median of the weights' norms over that at first; with a loss of guessing, critical."""

GUESSING = 0.9

DECOUPLED = ("adamw", "muon", "lion", "lamb", "sgdw")
"""Classes of optimisers that shorten the weights beside the step and not through the gradient."""


@register(
    "diagnosis",
    paper="Krogh and Hertz 1992; Loshchilov and Hutter 2019, section 2",
    year=1992,
    when="during",
    level="quick",
    causes=("underfitting", "lr_too_high", "class_collapse", "residual_identity", "vanishing_gradient", "dead_relus"),
)
def regularizer_dominates(history: History) -> list[Finding]:
    """Weight decay pulls at the weights harder than the data do."""
    decay, optimizer = history.setup.weight_decay, (history.setup.optimizer or "").lower()
    moments = history.weighed(TIMES)
    if not decay or len(moments) < TIMES:
        return []
    decoupled = any(word in optimizer for word in DECOUPLED)

    def pull(moment: Moment, one: Weights) -> float | None:
        if len(one.shape) < 2 or not one.trainable:
            return None
        data, lr = (one.update, moment.lr) if decoupled else (one.gradient, 1.0)
        if data is None or lr is None or not math.isfinite(data):
            return None
        return lr * decay * one.norm / data if data else math.inf

    def pulls(moment: Moment) -> dict[str, float]:
        found = {one.name: pull(moment, one) for one in moment.weights.values()}
        return {name: value for name, value in found.items() if value is not None}

    def sick(moment: Moment) -> bool:
        found = pulls(moment)
        return bool(found) and median(found.values()) > DOMINATES

    if not persists(moments, sick, times=TIMES, of=TIMES):
        return []
    now = pulls(moments[-1])
    middle = median(now.values())
    lr = moments[-1].lr or history.setup.lr
    shrunk = _shrunk(history)
    loss, guess, learned = recent_loss(history), guessing(history), has_learned(history)
    stuck = loss is not None and guess is not None and loss > GUESSING * guess
    severity = "information" if learned else "critical" if stuck and shrunk < SHRUNK else "warning"
    half_life = math.log(2) / (lr * decay) if lr else None
    seen: dict[str, float | int | str] = {
        "decay_over_data": middle,
        "dominates": DOMINATES,
        "weights_now_over_first": shrunk,
        "shrunk": SHRUNK,
        "weight_decay": decay,
    }
    if half_life is not None:
        seen["half_life"] = half_life
    return [
        Finding(
            "regularizer_dominates",
            severity,
            f"weight decay {decay:g} pulls {middle:.3g} times as hard as the data at the middle layer, more than "
            f"{DOMINATES:g}; the weights are {100 * shrunk:.0f} % of what they were"
            + ("" if half_life is None else f" and halve in {half_life:,.0f} steps where the data do not hold them"),
            means="decay and data hold each other in balance; as the network has learned, that may be right"
            if learned
            else "the weights fade before the data can build them up",
            remedy=Remedy(
                "a tenth of the weight decay, and none on biases and normalisations",
                {"optimizer.weight_decay": float(f"{decay / 10:.3g}")},
            ),
            refuted_by="the same run without decay that learns no more of its training examples",
            confidence={"information": 0.4, "warning": 0.7, "critical": 0.9}[severity],
            step=moments[-1].step,
            where=tuple(sorted((name for name in now if now[name] > DOMINATES), key=lambda name: -now[name])),
            seen=seen,
        )
    ]


def _shrunk(history: History) -> float:
    moments = history.weighed()
    first, last = moments[0].weights, moments[-1].weights
    ratios = [last[one.name].norm / one.norm for one in first.values() if one.name in last and one.norm]
    return median(ratios) if ratios else 1.0
