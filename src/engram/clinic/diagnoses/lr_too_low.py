"""Learning rate too low: the loss falls, and at this pace the run will be over long before it is down.

    u = median over matrices of ‖ΔW‖ / ‖W‖          near 1e-3 in most healthy runs, 5e-4 to 2.6e-2 in their first steps

An update of 1e-5 of the weights needs 1e5 steps to change them by their own size. In steps 10 to 60 that is clear:
before, momentum has not gathered; later, a schedule lowers the rate with good reason, and so does a small gradient.

It is only said where the loss is still above a quarter of its start and not at its end, where the rate has left its
warm-up, and where no gradient is blocked: a network that cannot learn has small updates too, and a larger rate would
not help. A network that already knew the task, as in fine-tuning, begins low and is left alone.

Sick: SGD at 1e-4 (2e-5), Adam at 1e-5 (5e-5). Healthy: 2e-3 to 2.6e-2.

What it cannot see: a rate three times too low, and weights much larger than they need be (behind batch norm their
length means nothing).

Karpathy, cs231n notes, Neural networks part 3, "Ratio of weights:updates"; Bottou 2012, Stochastic gradient descent
tricks, section 4.2.
"""

import math
from statistics import median

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History, Moment
from engram.clinic.signals import changed_rate, first_loss, gradient_ratio, guessing, matrix_ratio, recent_loss
from engram.registry import register

LOW = 2e-4
"""Update over weight; the lowest of 48 healthy runs was 5e-4. From 76 small networks, to be calibrated."""

VERY_LOW = 2e-5

RIGHT = 1e-3
"""The least update that the remedy aims at, by powers of ten, so that it comes to lie within 1e-3 and 1e-2. Always ten
times the rate, as it was above 2e-5, brought back 57 % and 10 % of the loss in the zoo's calibration half, where rates
were 300 times too small."""

WINDOW = (10, 60)
"""Steps in which it tells something."""

LEAST = 3
"""Measurements in the window."""

LEFT = 0.25
"""Of the loss at the start: below, the loss is down and a small step is right."""

KNOWN = 0.5
"""Of the loss of guessing: a network that begins below knew the task before."""

BLOCKED = 1e-2
"""Share of the gradient that must arrive at the first layers: `vanishing_gradient`'s own warning."""

DEAD = 0.5
"""Share of a layer's units: `dead_relus`' own critical one."""


@register(
    "diagnosis",
    paper="Karpathy, cs231n notes, Neural networks part 3",
    year=2015,
    when="during",
    level="quick",
    causes=("underfitting",),
)
def lr_too_low(history: History) -> list[Finding]:
    """Updates are so small that the loss cannot come down in time."""
    first, last = WINDOW
    rates = [one.lr for one in history.moments if one.lr is not None]
    peak = max(rates, default=None)
    inside = [one for one in history.weighed() if first <= one.step <= last and _is_at_rate(one, peak)]
    ratios = [ratio for one in inside if (ratio := matrix_ratio(one)) is not None]
    start, now, guess = first_loss(history), recent_loss(history), guessing(history)
    if len(ratios) < LEAST or start is None or now is None or not math.isfinite(now):
        return []
    update = median(ratios)
    if update >= LOW or now < LEFT * start or (guess and start < KNOWN * guess) or _is_blocked(history):
        return []
    if history.setup.lr and peak and peak < 0.5 * history.setup.lr:
        return []  # the rate is still on its way up
    factor = 10 ** min(3, max(1, math.ceil(math.log10(RIGHT / max(update, 1e-9)))))
    return [
        Finding(
            "lr_too_low",
            "warning",
            f"a step moves the weights by {update:.2g} of their size in steps {first} to {last}, under {LOW:g}, and "
            f"the loss is still {now:.3g} of {start:.3g}",
            means=f"at this pace the weights need about {1 / update:,.0f} steps to change by their own size",
            remedy=Remedy(f"a learning rate {factor} times larger", changed_rate(history, factor)),
            refuted_by=f"a short run at {factor} times the rate that is no lower after the same steps",
            confidence=0.85 if update <= VERY_LOW else 0.7,
            step=history.now.step,
            seen={"update": update, "low": LOW, "loss": now, "first_loss": start, "left": LEFT},
        )
    ]


def _is_at_rate(moment: Moment, peak: float | None) -> bool:
    return peak is None or moment.lr is None or moment.lr > 0.5 * peak


def _is_blocked(history: History) -> bool:
    probed = history.probed(1)
    if not probed:
        return False
    ratio = gradient_ratio(probed[0], least=3)
    dead = [one.dead_share for one in probed[0].layers if one.dead_share is not None]
    return (ratio is not None and ratio < BLOCKED) or max(dead, default=0.0) > DEAD
