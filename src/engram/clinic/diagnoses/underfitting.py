"""Under-fitting: at the end, the network knows its own training examples less well than simple rules would.

    accuracy in training < 0.8 max(nearest neighbour, linear),    and it is short of that by more than validation of it

The two rules are judged on the probe batch, each example left out in turn: the label of the nearest other example, and
a linear least-squares fit (with e_i / (1 - h_ii) for the left-out residual, so that one solution does for all). They
see a thousand examples where the network sees all, which is in its favour.

Causes lie elsewhere mostly: a rate too high or too low, a gradient that does not arrive, a regulariser that dominates;
where one was found it is listed first. What remains is a network too small, or a run too short: where the loss fell by
another 5 % in the last fifth, it is the run.

Sick: a waist of one unit (accuracy 0.23), a huge weight decay. Healthy: 64 units (1.00).

What it cannot see: a task that no rule knows, where guessing is all there is, and a network that is under its own
possibilities but above these rules.

Goodfellow, Bengio and Courville 2016, Deep learning, section 5.2; Stone 1974, Cross-validatory choice (left-out
residuals).
"""

from collections.abc import Mapping
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.subject import Subject
from engram.registry import register

SHARE = 0.8
"""Of the better simple rule's accuracy. From a few small networks, to be calibrated."""

CRITICAL = 0.5
"""Of it, and the loss no longer falls."""

GAP = 0.1
"""Training less validation accuracy, above which it may be no under-fit: it is one all the same where what is missing
in training is more. Networks with a waist of one unit lacked 0.5, and the gap of a single pass was up to 0.13."""

FALLING = 0.05
"""Share by which the last fifth of the steps lowered the training loss: the run was too short."""

SHORT = 50
"""Steps below which every run was too short."""

RIDGE = 1.0
"""Added to the diagonal of the linear rule's normal equations, of standardised inputs over their number."""

EXAMPLES = 1024
"""Probed at most."""

LEAST = 50


def baselines(subject: Subject) -> Mapping[str, Any] | None:
    """Left-out accuracy of the nearest neighbour and of a linear rule on the probe examples."""
    count = min(EXAMPLES, len(subject.x))
    if subject.num_classes is None or count < LEAST or subject.y.ndim != 1:
        return None
    x = subject.x[:count].detach().cpu().double().flatten(1)  # (N, D)
    y = subject.y[:count].detach().cpu()
    x = (x - x.mean(0)) / x.std(0).clamp_min(1e-6)
    x = x * (x.std(0) > 0) / max(x.shape[1], 1) ** 0.5
    apart = torch.cdist(x, x)
    apart.fill_diagonal_(torch.inf)
    neighbour = (y[apart.argmin(1)] == y).double().mean()
    gram = x @ x.T + 1.0  # the 1 is a bias
    targets = F.one_hot(y, subject.num_classes).double()
    inverse = torch.linalg.inv(gram + RIDGE * torch.eye(count, dtype=torch.float64))
    left_out = targets - (inverse @ targets) / inverse.diagonal()[:, None]
    linear = (left_out.argmax(1) == y).double().mean()
    return {"neighbour": neighbour.item(), "linear": linear.item(), "examples": count}


@register(
    "diagnosis",
    paper="Goodfellow, Bengio and Courville 2016, section 5.2",
    year=2016,
    when="after",
    level="quick",
    measure=baselines,
)
def underfitting(history: History) -> list[Finding]:
    """Training examples are known less well than simple rules know them."""
    own = history.own("underfitting")
    passes = [one.figures for one in history.judged() if one.figures is not None]
    probe = next((one.probe for one in reversed(history.moments) if one.probe is not None), None)
    seen = [one for one in (probe and probe.accuracy, passes and passes[-1].train_accuracy) if isinstance(one, float)]
    if own is None or not seen:
        return []
    accuracy = max(seen)  # augmentation and dropout lower that of training
    rule = max(("neighbour", "linear"), key=lambda name: own[name])
    other = own[rule]
    guess = max(probe.given, default=0.0) if probe else 0.0
    if accuracy >= SHARE * other or other <= 1.2 * guess:
        return []
    validation = passes[-1].validation_accuracy if passes else None
    if validation is not None and accuracy - validation > max(GAP, other - accuracy):
        return []
    falling = _is_falling(history)
    critical = accuracy < CRITICAL * other and not falling
    words = {"neighbour": "the nearest neighbour among", "linear": "a linear rule on"}
    epochs = passes[-1].epoch if passes else None
    return [
        Finding(
            "underfitting",
            "critical" if critical else "warning",
            f"{100 * accuracy:.0f} % of the training examples are right; {words[rule]} {own['examples']} of them gives "
            f"{100 * other:.0f} %, and {100 * SHARE:.0f} % of that is the least to expect",
            means="the loss was still falling when the run ended"
            if falling
            else "the network cannot express the task, or something keeps it from learning it",
            remedy=Remedy("train three times as long", {"epochs": 3 * epochs} if epochs else {})
            if falling
            else Remedy(
                "look at the causes found; else a wider or deeper network, and less decay and dropout",
                {"regularizer": ()},
            ),
            refuted_by="a network twice as wide, trained the same way, that knows no more of them",
            confidence=0.8 if critical else 0.65,
            step=history.now.step,
            seen={
                "accuracy": accuracy,
                "neighbour": own["neighbour"],
                "linear": own["linear"],
                "share": SHARE,
                "critical": CRITICAL,
                "falling": int(falling),
            },
        )
    ]


def _is_falling(history: History) -> bool:
    """Whether the last fifth of the losses lies under the fifth before; of too few, it may."""
    losses = [loss for _, loss in history.losses]
    fifth = len(losses) // 5
    if len(losses) < SHORT or history.now.step < SHORT:
        return True
    return mean(losses[-fifth:]) < (1 - FALLING) * mean(losses[-2 * fifth : -fifth])
