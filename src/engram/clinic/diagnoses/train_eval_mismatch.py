"""Train and eval disagree: the same images cost another loss in eval mode, for batch norm remembers another network.

    r = loss in eval mode / loss with the batch's own statistics,    same images, dropout off in both

In training, batch norm divides by the batch's mean and variance; in evaluation, by running averages of those it saw.
The averages trail behind the weights by some 1 / momentum steps: where the weights move fast, where the momentum is
small, or where batches are tiny or unlike the data, they describe a network that is no more. What was trained is then
not what is judged. Without batch norm the two losses are equal, unless a layer does something of its own in training.

Looked at only once the averages had time to arrive, and only where the difference counts beside the loss of guessing;
three of five measurements, as one leap at a high rate is usual.

Sick: a momentum of 0.001 after 200 steps, 12.7 times the loss. Healthy: 0.95.

What it cannot see: dropout, which is off in both, and data that differ between training and evaluation.

Ioffe and Szegedy 2015, arXiv:1502.03167, section 3.1; Wu and Johnson 2021, Rethinking "batch" in BatchNorm,
arXiv:2105.07576, section 3.
"""

import math

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History, Moment, Probe, persists
from engram.clinic.signals import guessing
from engram.registry import register

HEALTHY = (0.5, 1.5)
"""Eval loss over that with the batch's statistics."""

LOWER = 0.25
"""Share of the loss of guessing by which an eval loss must lie under the other to count: the statistics of 64 examples
alone cost as much in deep networks. Twelve layers of batch norm in the zoo's calibration half had 0.2 in training mode
and 0.08 in eval mode, and 0.08 with averages taken anew: nothing was wrong."""

CRITICAL = 3.0
"""And the eval loss is over half of guessing."""

COUNTS = 0.05
"""Share of the loss of guessing that the difference must have: of two losses near 0 the ratio says nothing."""

ARRIVED = 50
"""Steps after which the averages of torch's momentum 0.1 hold 99 % of what they follow."""


@register(
    "diagnosis",
    paper="Ioffe and Szegedy 2015, section 3.1; Wu and Johnson 2021, section 3",
    year=2015,
    when="during",
    level="standard",
    causes=("overfitting", "class_collapse"),
)
def train_eval_mismatch(history: History) -> list[Finding]:
    """The same images cost another loss in eval mode than with the batch's own statistics."""
    moments = tuple(one for one in history.moments if one.probe is not None and one.step >= ARRIVED)
    guess = guessing(history) or 1.0
    low, high = HEALTHY

    def sick(moment: Moment) -> bool:
        return moment.probe is not None and not low <= _ratio(moment.probe, guess) <= high

    def lost(moment: Moment) -> bool:
        return moment.probe is not None and _ratio(moment.probe, guess) > CRITICAL

    if not persists(moments, sick):
        return []
    probe = moments[-1].probe
    if probe is None:
        return []
    ratio = _ratio(probe, guess)
    critical = persists(moments, lost) and probe.loss_eval > 0.5 * guess
    return [
        Finding(
            "train_eval_mismatch",
            "critical" if critical else "warning",
            f"the same images cost {probe.loss_eval:.3g} in eval mode and {probe.loss:.3g} with the batch's own "
            f"statistics: {ratio:.3g} times, outside {low:g} to {high:g}",
            means="the averages that batch norm keeps for evaluation do not describe the network as it is now",
            remedy=Remedy(
                "a batch norm momentum of 0.1 or more, larger batches, or a rate that falls to 0; or let the averages "
                "be taken anew from the training data before evaluation",
                {"schedule": "one_cycle"},
            ),
            refuted_by="averages taken anew from 1,000 training images that leave the eval loss where it is",
            confidence=0.9 if critical else 0.7,
            step=moments[-1].step,
            seen={
                "loss_eval": probe.loss_eval,
                "loss": probe.loss,
                "ratio": ratio,
                "low": low,
                "high": high,
                "critical": CRITICAL,
            },
        )
    ]


def _ratio(probe: Probe, guess: float) -> float:
    """1 where the difference does not count, or one of the two is no number: that is `not_finite`'s."""
    if not math.isfinite(probe.loss) or math.isnan(probe.loss_eval):
        return 1.0
    if -LOWER * guess < probe.loss_eval - probe.loss < COUNTS * guess:
        return 1.0
    return probe.loss_eval / probe.loss if probe.loss > 0 else math.inf
