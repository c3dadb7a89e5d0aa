"""Learning rate decayed too early: the schedule took the rate away while the loss was still falling.

    lr(t) < lr_peak / 10  in the first half of the run,   and either
    the loss fell before and hardly moves since,   or   ‖Δw‖ / ‖w‖ was over 2e-4 before and is under it since

High rates make the progress, low ones let it settle. A rate lowered at a twentieth of the run spends the rest of it
settling where it happened to stand. At the end of every good run the rate is low and the loss is flat as well; what
tells the two apart is how much of the run was left, how fast the loss was falling, and how far it had still to go.
Where the rate went before the loss had begun to fall, or where a few losses tell too little, the steps tell it: so
small that the weights cannot get far in what is left, which `lr_too_low` says of a rate that was so from the start.

Sick: a step to a tenth at 5 % of the run. Healthy: at 60 %; one cycle and cosine, which are under a tenth at 80 to 95
%.

The other half, a rate that stays at its highest while the loss stands still (a plateau), is told as information: there
a lower rate mostly brings a leap down at once.

What it cannot see: a validation loss that goes on falling while the training loss rests, and a rate lowered on purpose
because the task was nearly known (fine-tuning begins with a low loss and is left alone).

He et al. 2016, arXiv:1512.03385, section 4.2 (decay when the error plateaus); Smith 2018, arXiv:1803.09820, section 4.
"""

import math
from statistics import mean

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.signals import first_loss, guessing, matrix_ratio
from engram.registry import register

DECAYED = 0.1
"""Of the highest rate so far."""

EARLY = 0.5
"""Share of the run: one cycle and cosine pass a tenth at 0.8 or later."""

WAITED = 0.1
"""Share of the run over which the loss must stand still before anything is said."""

FALLING = 0.1
"""Share of the loss lost over as long a time before the decay: it was falling."""

FLAT = 0.02
"""Share of the loss lost since: it stands still."""

LEFT = 0.25
"""Of the loss at the start: below, there is little left to learn and a low rate is right."""

LIVELY = 1e-3
"""Update over weight that is no low rate; the centre of the healthy range."""

LOW = 2e-4
"""Update over weight, as in `lr_too_low`. In the zoo's calibration half 1.9e-3 to 7e-3 before a rate that was divided
by 100, and 3e-5 to 1.2e-4 after it."""

PLATEAU = 0.2
"""Share of the run at a high rate without progress."""

FALLS = 0.95
"""Of the highest rate: a schedule that has begun to lower it, as one cycle does from a quarter of the run on."""

LEAST = 10
"""Losses in each of the stretches that are compared."""


@register(
    "diagnosis",
    paper="He et al. 2016, section 4.2; Smith 2018, section 4",
    year=2016,
    when="during",
    level="quick",
    causes=("underfitting",),
)
def lr_decayed_early(history: History) -> list[Finding]:
    """The rate was lowered while the loss was still falling, or stays high while it stands still."""
    total = history.setup.total_steps
    rows = [(one.step, one.loss, one.lr) for one in history.moments if one.loss is not None and one.lr is not None]
    start, guess = first_loss(history), guessing(history)
    if not total or start is None or not rows or (guess and start < 0.5 * guess):
        return []
    now = rows[-1][0]
    peak_step, _, peak = max(rows, key=lambda row: row[2])
    decayed = next((step for step, _, lr in rows if step > peak_step and lr < DECAYED * peak), None)
    if decayed is None:
        return _plateau(history, [(step, loss, lr) for step, loss, lr in rows], total, start, peak)
    window = WAITED * total
    before = _fall([(step, loss) for step, loss, _ in rows if decayed - window <= step < decayed])
    since = _fall([(step, loss) for step, loss, _ in rows if now - window <= step])
    if decayed >= EARLY * total or now - decayed < window or before is None or since is None:
        return []
    level = mean(loss for step, loss, _ in rows if now - window <= step)
    stands = before >= FALLING and since <= FLAT
    was, is_now = _updates(history, decayed)
    small = was is not None and is_now is not None and was > LOW > is_now
    if not (stands or small) or level < LEFT * start:
        return []
    seen = {
        "decayed_at": decayed,
        "total_steps": total,
        "loss": level,
        "first_loss": start,
        "fall_before": before,
        "fall_since": since,
        "falling": FALLING,
        "flat": FLAT,
        "left": LEFT,
    }
    if was is not None and is_now is not None:
        seen |= {"update_before": was, "update": is_now, "low": LOW}
    return [
        Finding(
            "lr_decayed_early",
            "warning",
            f"the rate fell under a tenth of {peak:.3g} at step {decayed} of {total}"
            + (
                f", while the loss was falling; since then it stands at {level:.3g} of {start:.3g}"
                if stands
                else f"; a step moves the weights by {is_now:.2g} since, {was:.2g} before, and the loss is still "
                f"{level:.3g} of {start:.3g}"
            ),
            means="the rest of the run only settles where the weights happened to stand",
            remedy=Remedy("let the rate fall over the whole run, as one cycle does", {"schedule": "one_cycle"}),
            refuted_by="the same run with the decay at 60 % that ends no lower",
            confidence=0.75,
            step=now,
            seen=seen,
        )
    ]


def _updates(history: History, decayed: int) -> tuple[float | None, float | None]:
    """Update over weight (at the last measurement before the rate fell, at the last one of all since)."""
    before, since = None, None
    for one in history.weighed():
        ratio = matrix_ratio(one)
        if ratio is not None and one.step < decayed:
            before = ratio
        elif ratio is not None and one.step > decayed:
            since = ratio
    return before, since


def _plateau(
    history: History, rows: list[tuple[int, float, float]], total: int, start: float, peak: float
) -> list[Finding]:
    now, _, rate = rows[-1]
    if rate < FALLS * peak:
        return []  # what would be advised is under way
    window = [(step, loss) for step, loss, lr in rows if now - PLATEAU * total <= step and lr >= 0.5 * peak]
    weighed = history.weighed(1)
    update = matrix_ratio(weighed[0]) if weighed else None
    if now < 2 * PLATEAU * total or update is None or update < LIVELY or len(window) < 2 * LEAST:
        return []
    fall, level = _fall(window), mean(loss for _, loss in window)
    guess = guessing(history) or start
    if fall is None or fall > FLAT or not LEFT * start < level < 0.9 * guess:
        return []  # at guessing it is not a plateau on the way down, and other diagnoses speak of it
    return [
        Finding(
            "lr_decayed_early",
            "information",
            f"over a fifth of the run the loss stands at {level:.3g}, while a step moves the weights by {update:.2g}",
            means="it jumps about at a height that the rate decides; a lower one would let it down",
            remedy=Remedy("lower the rate towards the end, as one cycle does", {"schedule": "one_cycle"}),
            refuted_by="a short run on from here at a tenth of the rate whose loss does not fall at once",
            confidence=0.5,
            step=now,
            seen={"loss": level, "fall": fall, "flat": FLAT, "update": update, "lively": LIVELY},
        )
    ]


def _fall(rows: list[tuple[int, float]]) -> float | None:
    """Share of the loss that the second half of these steps lies under the first; None of too few."""
    losses = [loss for _, loss in rows if math.isfinite(loss)]
    if len(losses) < LEAST:
        return None
    half = len(losses) // 2
    first = mean(losses[:half])
    return 1 - mean(losses[half:]) / first if first > 0 else None
