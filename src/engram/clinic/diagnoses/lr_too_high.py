"""Learning rate too high: steps overshoot the valley, so that the loss rises or stays at guessing.

    on a bowl with curvature h, gradient descent converges  <=>  lr < 2 / h        with momentum m: lr < 2 (1 + m) / h

The loss tells it: five steps running at more than twice the loss of the start; a loss that after a fifth of the run is
still that of guessing although the first steps moved the weights by more than a hundredth of their size; or one that
had come down and is up again, at twice its lowest level. Gates and norms bound what a network can answer, so that its
loss need not rise: an LSTM under Adam at forty times its rate learned on, and badly. There the first step tells it,
where it was longer than the weights that it changed:

    ‖Δw_1‖ > ‖w_0‖        the weights as drawn are gone after one step, whatever they were drawn for

The size of later steps does not. A rate that is right early has updates of 5e-4 to 2.6e-2 of the weights, but once
the weights have blown up the same ratio falls back into that range: Adam at a rate of 1 showed 2.7e-3. The sharpness
says little as well: full-batch descent settles at lr · sharpness = 2 by itself and goes on learning (Cohen et al.
2021).

Sick: SGD at 1, with momentum 0.3, Adam at 0.1 to 0.3. Healthy: the best rate divided or multiplied by three. One leap
in the first steps that is made up for is nothing. UMLAUT, which calls every rate above 0.01 high, was wrong in 20 of
48.

What it cannot see: a rate that is somewhat too high only costs accuracy at the end; lower it and compare.

LeCun et al. 1998, Efficient BackProp, section 4.6; Cohen et al. 2021, arXiv:2103.00065; Goyal et al. 2017,
arXiv:1706.02677, section 2.2 (warm-up).
"""

import math
from statistics import median

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.signals import (
    changed_rate,
    guessing,
    lowest_loss,
    matrix_ratio,
    may_know_shares_alone,
    recent_loss,
)
from engram.registry import register

RISEN = 2.0
"""Loss over the first loss, or over that of guessing where that is more: the median of five steps running."""

RUNNING = 5

GUESSING = 0.9
"""Of the loss of guessing: above, nothing was learned."""

LOST = 2.0
"""Times the lowest mean of a tenth of the steps that the last tenth has: what was learned is lost again."""

LASTING = 24
"""Steps at least over which those means are taken: with batches of 8 the mean of 14 losses doubled by chance, in a run
of the zoo's calibration half that learned to 0.92."""

LITTLE = 0.25
"""Of the first loss, or of guessing: a loss that rises below it has learned most of the task all the same."""

WAITED = 0.2
"""Share of the run that may pass before a loss of guessing means anything; unknown its length, `STEPS`."""

STEPS = 100

LARGE = 1e-2
"""First updates over weights; healthy runs 5e-4 to 2.6e-2, so that it counts only with a loss of guessing."""

HUGE = 1e-1
"""From here on a loss of guessing is critical: no healthy run had it."""

FIRST = 60
"""Steps in which the size of an update tells something."""

SWEPT = 1.0
"""First update over the weights before it, of matrices that were not 0: 1.4 to 2.4 at forty times a good rate of Adam;
0.13 at most in the healthy runs of the zoo's calibration half."""


@register(
    "diagnosis",
    paper="LeCun et al. 1998, section 4.6; Cohen et al. 2021",
    year=1998,
    when="during",
    level="quick",
    causes=("not_finite", "dead_relus", "saturation", "exploding_gradient", "vanishing_gradient", "underfitting",
            "class_collapse", "train_eval_mismatch"),
)  # fmt: skip
def lr_too_high(history: History) -> list[Finding]:
    """Steps overshoot: the loss rises, or stays at guessing although the weights move much."""
    guess, losses = guessing(history), history.losses
    start = next((loss for _, loss in losses if math.isfinite(loss)), None)
    if start is None or len(losses) < 2:
        return []
    updates = [ratio for one in history.weighed() if one.step <= FIRST and (ratio := matrix_ratio(one)) is not None]
    update = max(updates, default=None)
    level = max(start, guess or 0.0)
    highest = _highest(history, update)
    seen: dict[str, float | int | str] = {"first_loss": start, "highest_loss": highest, "risen": RISEN}
    if update is not None:
        seen |= {"first_update": update, "large": LARGE}
    now = recent_loss(history)
    recent = math.inf if now is None else now
    seen["loss"] = recent
    factor = 1 / 3
    lowest, back = lowest_loss(history, least=LASTING), recent_loss(history, least=LASTING)
    if highest > RISEN * level:
        lost = recent > GUESSING * level
        severity = "critical" if lost else "warning"
        says = f"the loss rose to {highest:.3g}, more than {RISEN:g} times the {level:.3g} it had at first" + (
            "" if lost else f", and has come down to {recent:.3g}"
        )
        confidence = 0.9 if lost else 0.6
    elif guess and _has_waited(history) and recent > GUESSING * guess and update is not None and update > LARGE:
        severity = "critical" if update > HUGE else "warning"
        says = (
            f"the loss is still {recent:.3g}, that of guessing being {guess:.3g}, though the first steps moved the "
            f"weights by {update:.2g} of their size, more than {LARGE:g}"
        )
        seen |= {"guessing": guess, "huge": HUGE}
        confidence = 0.85 if severity == "critical" else 0.6
    elif lowest and back and back > max(LOST * lowest, LITTLE * level) and _is_at_peak(history):
        severity, confidence = "warning", 0.6
        says = f"the loss was down at {lowest:.3g} and is back at {back:.3g}, more than {LOST:g} times that"
        seen |= {"lowest_loss": lowest, "lost": LOST}
    elif (swept := _first_step(history)) > SWEPT and _has_waited(history) and recent > LITTLE * level:
        severity, confidence, factor = "warning", 0.6, 0.1
        says = (
            f"the first step was {swept:.2g} times as long as the weights that it changed, and the loss is still "
            f"{recent:.3g} of {level:.3g}"
        )
        seen |= {"first_step": swept, "swept": SWEPT, "little": LITTLE}
    else:
        return []
    factor = 0.1 if severity == "critical" else factor
    return [
        Finding(
            "lr_too_high",
            severity,
            says,
            means="each step jumps over the valley it should go down into, and may land higher",
            remedy=Remedy(
                "a tenth of the learning rate with a warm-up, then clip the gradient"
                if factor == 0.1
                else "a third of the learning rate, or a warm-up",
                changed_rate(history, factor),
            ),
            refuted_by="the same run at a tenth of the rate whose loss rises, or stays at guessing, as well",
            confidence=confidence,
            step=history.now.step,
            seen=seen,
        )
    ]


def _highest(history: History, update: float | None) -> float:
    """Largest median of five losses running; infinite where the run broke off as the loss rose or steps were huge."""
    losses = [loss if math.isfinite(loss) else math.inf for _, loss in history.losses]
    if not math.isfinite(losses[-1]):  # the last ones are not outvoted by the steps before
        finite = [loss for loss in losses if math.isfinite(loss)]
        huge = update is not None and not update <= HUGE  # also where it is no number
        return math.inf if finite and (huge or max(finite[-RUNNING:]) > RISEN * finite[0]) else 0.0
    if len(losses) < RUNNING:
        return 0.0
    return max(median(losses[place : place + RUNNING]) for place in range(len(losses) - RUNNING + 1))


def _first_step(history: History) -> float:
    """Median over matrices of the first update's length over that of the weights before it; 0 where it is not known.

    A matrix that began at 0 is all step, and that is no fault.
    """
    weighed = history.weighed()
    place = next((place for place, one in enumerate(weighed) if any(w.update for w in one.weights.values())), 0)
    if not place or weighed[place].step - weighed[place - 1].step > 1:
        return 0.0
    before = weighed[place - 1].weights
    lengths = [
        one.update / before[name].norm
        for name, one in weighed[place].weights.items()
        if len(one.shape) > 1 and one.update and name in before and before[name].norm
    ]
    return median(lengths) if lengths else 0.0


def _has_waited(history: History) -> bool:
    if may_know_shares_alone(history, history.now.step):
        return False
    progress = history.progress()
    if progress is not None:
        return progress >= WAITED and len(history.losses) >= 2 * RUNNING
    return history.now.step >= STEPS


def _is_at_peak(history: History) -> bool:
    """Whether the rate is over half of its highest: a loss that rises while the rate falls has another cause."""
    rates = [one.lr for one in history.moments if one.lr is not None]
    return not rates or rates[-1] > 0.5 * max(rates)
