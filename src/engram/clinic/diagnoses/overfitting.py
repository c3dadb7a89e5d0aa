"""Over-fitting: from some pass on the network gets better on what it has seen and worse on what it has not.

    b = the pass of the lowest validation loss
    over-fitted  <=>  for 5 passes running  val > 1.1 val_b + 0.02,   and train < train_b

The anchor is the best pass, not the training loss. A gap between the two is no disease: in a healthy run with 0.98
validation accuracy, whose loss was at its best, SageMaker Debugger's (val - train) / train > 0.1 fired in 28 of 30
passes and UMLAUT's rule in 4; this one in none of 9 such runs, and in 9 of 9 that were truly over-fitted.

The loss may rise while the accuracy does not: the network grows too sure of its errors, a matter of calibration. That
is a warning; critical is an accuracy that falls with it, by more than two points. With wrong labels learned by heart
the accuracy may fall and the loss not; three points of it count by themselves.

Sick: 60 examples with 512 units a layer; 30 % of labels at random. Healthy: 1200 clean examples.

What it cannot see: an over-fit to the validation split itself, by choosing among many runs. Without one, nothing.

Prechelt 1998, Early stopping - but when?, section 2; Guo et al. 2017, arXiv:1706.04599 (loss against accuracy).
"""

import math
from statistics import mean

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import Figures, History
from engram.registry import register

FACTOR, OFFSET = 1.1, 0.02
"""Over the best validation loss; the offset is for losses close to 0. From 18 small runs, to be calibrated."""

PASSES = 5

SMOOTHED = 3
"""Passes whose mean accuracy is compared, so that one lucky pass is no best."""

FALLEN = 0.02
"""Of the validation accuracy, from its best: critical."""

LOST = 0.03
"""Of the validation accuracy, whatever the loss does: with wrong labels 7 points at an even loss were seen."""


@register(
    "diagnosis",
    paper="Prechelt 1998, section 2",
    year=1998,
    when="during",
    level="quick",
)
def overfitting(history: History) -> list[Finding]:
    """Better on what it has seen, worse on what it has not."""
    passes = [one.figures for one in history.judged() if one.figures is not None]
    judged = [(one, one.validation_loss) for one in passes if one.validation_loss is not None]
    if len(judged) <= PASSES or not all(math.isfinite(loss) for _, loss in judged):
        return []
    best, lowest = min(judged, key=lambda one: one[1])
    limit = FACTOR * lowest + OFFSET
    last = judged[-PASSES:]
    risen = all(loss > limit and figures.epoch > best.epoch for figures, loss in last)
    fallen, peak = _fallen(passes)
    lost = fallen is not None and fallen > LOST and peak is not None
    if lost and not risen and peak is not None:  # the loss hides it: surer answers where it is right still
        best, limit = peak, lowest
    now, loss = judged[-1]
    if not (risen or lost) or now.train_loss >= best.train_loss:
        return []
    critical = fallen is not None and fallen > FALLEN
    accuracy = "" if fallen is None else f"; validation accuracy {100 * fallen:.1f} points under its best"
    what = f"since pass {best.epoch:g} validation has got worse"
    if risen:
        what = (
            f"validation loss {loss:.3g}, its best was {lowest:.3g} at pass {best.epoch:g}; for {PASSES} passes over "
        )
        what += f"{limit:.3g}"
    return [
        Finding(
            "overfitting",
            "critical" if critical else "warning",
            f"{what}, while the training loss fell from {best.train_loss:.3g} to {now.train_loss:.3g}{accuracy}",
            means="it learns its examples by heart; every pass since has made it worse on others"
            if critical
            else "it grows surer of its answers than they deserve; their number that is right has hardly changed",
            remedy=Remedy(
                f"stop near pass {best.epoch:g}; then more data, augmentation, a stronger regulariser or a smaller net",
                {"patience": PASSES, "augment": ("auto",), "label_smoothing": 0.1},
            ),
            refuted_by="a validation split several times as large whose loss has not risen",
            confidence=0.95 if critical else 0.8,
            step=history.judged(1)[0].step,
            seen={
                "best_epoch": best.epoch,
                "best_validation_loss": lowest,
                "validation_loss": loss,
                "train_loss": now.train_loss,
                "train_loss_then": best.train_loss,
                "factor": FACTOR,
                "offset": OFFSET,
                "passes": PASSES,
                **({} if fallen is None else {"accuracy_fallen": fallen, "fallen": FALLEN}),
            },
        )
    ]


def _fallen(passes: list[Figures]) -> tuple[float | None, Figures | None]:
    """How far validation accuracy lies under its best, and where that was: by means of three and of the last five.

    The best lies before the last five: of an accuracy that still rises, their mean is under the last three's, and no
    harm is done. In the zoo's calibration half that was 1 false critical alarm in 5 on short runs.
    """
    found = [(one, one.validation_accuracy) for one in passes if one.validation_accuracy is not None]
    if len(found) < PASSES + SMOOTHED:
        return None, None
    means = [
        (mean(value for _, value in found[place : place + SMOOTHED]), found[place + SMOOTHED // 2][0])
        for place in range(len(found) - PASSES - SMOOTHED + 1)
    ]
    highest, where = max(means, key=lambda one: one[0])
    return highest - mean(value for _, value in found[-PASSES:]), where
