"""Cannot overfit one batch: sixteen examples, learnt by heart, are the least that a network must be able to do.

    passed:  all 16 right and loss < 0.1 ln K     failed: loss > 0.5 ln K     after 200 steps of Adam at 1e-3 or 1e-2

where the loss is counted from the least that perfect answers have: with label smoothing that is not 0.

Everything that training needs is tried at once: labels that belong to their inputs, a gradient that reaches the
weights, weights that move, a loss that measures the right thing. What fails here fails everywhere, and looking for a
better learning rate on the whole data is time lost. Dropout is off, nothing is augmented, batch norm takes the batch's
statistics; frozen parameters, and those that no optimiser holds, stay as they are. Two rates are tried since a narrow
network needs the larger one to be done in time. Examples with equal inputs and different labels are left out. Of a
network that writes it is the first sixteen tokens of a text; of one that captions, pictures with as many words.

Measured: MLPs of two to six layers and tanh of four are below 0.05 ln K within 37 steps; ten layers of sigmoid stay at
1.74, twenty of ReLU with torch's weights at 1.2, a network whose biases kill every unit at 2.17.

What it cannot see: everything that only many examples show. A network frozen but for its last layer passes as long as
its features tell sixteen examples apart.

Karpathy 2019, A recipe for training neural networks, "overfit one batch". CS231n, Neural networks part 3, "before
learning: sanity checks". Braiek and Khomh 2022, TheDeepChecker, arXiv:2204.00694.
"""

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.subject import IGNORED, Subject
from engram.registry import register

SAMPLES, STEPS = 16, 200
RATES = (1e-3, 1e-2)

PASSED, FAILED = 0.1, 0.5
"""Loss over ln K: healthy networks came below 0.005 in 200 steps, sick ones stayed above 0.5."""

STRENGTHS = (1.0, 2.0, 3.0, 4.0, 4.5, 5.0, 6.0, 8.0, 16.0, 32.0)
"""Scores of the right class tried for the least loss; label smoothing of 0.1 has it at 4.5."""

SECONDS = 30.0
"""After so long the check says nothing: a large network on a slow machine is no disease."""


def measure(subject: Subject) -> Mapping[str, Any] | None:
    """The lowest loss on one batch, and how much of it is right there."""
    if subject.num_classes is None:
        return None
    x, y = _batch(subject)
    with torch.no_grad():
        _, labels = subject.outputs(subject.call(subject.copy(), x, y), y)
    chance, begin, floor = math.log(subject.num_classes), time.monotonic(), least_loss(subject, labels)
    best: dict[str, Any] = {}
    for rate in RATES:
        net = subject.copy(batch_statistics=True)
        trainable = [
            one
            for name, one in net.named_parameters()
            if one.requires_grad and (subject.optimized is None or name in subject.optimized)
        ]
        if not trainable:
            return {
                "loss": math.nan,
                "correct": 0,
                "samples": len(labels),
                "steps": 0,
                "rate": rate,
                "trainable": 0,
                "floor": 0.0,
            }
        optimizer = torch.optim.Adam(trainable, lr=rate)
        for step in range(STEPS + 1):
            output = subject.call(net, x, y)
            loss, scores = subject.loss(output, y), subject.outputs(output, y)[0]
            now = {
                "loss": loss.item(), "correct": int((scores.argmax(1) == labels).sum()), "samples": len(labels),
                "steps": step, "rate": rate, "trainable": len(trainable), "floor": floor,
            }  # fmt: skip
            if not best or now["loss"] < best["loss"]:
                best = now
            if _passed(now, chance) or not math.isfinite(now["loss"]) or not loss.requires_grad or step == STEPS:
                break
            if time.monotonic() - begin > SECONDS:
                return None
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        if _passed(best, chance):
            break
    return best


def _passed(seen: Mapping[str, Any], chance: float) -> bool:
    return seen["correct"] == seen["samples"] and seen["loss"] - seen.get("floor", 0.0) < PASSED * chance


def least_loss(subject: Subject, y: Tensor) -> float:
    """The loss of scores that prefer the right class, as strongly as suits the loss best.

    >>> smoothed = lambda scores, y: F.cross_entropy(scores, y, label_smoothing=0.1)
    >>> subject = Subject(torch.nn.Linear(1, 10), torch.zeros(2, 1), torch.tensor([0, 1]), smoothed, 10)
    >>> round(least_loss(subject, subject.y), 2)  # the entropy of labels of which a tenth is given away
    0.5
    """
    perfect = F.one_hot(y, subject.num_classes or -1).float()
    found = [float(subject.cost_of(strength * perfect, y)) for strength in STRENGTHS]
    return max(0.0, min((one for one in found if math.isfinite(one)), default=0.0))


def _batch(subject: Subject) -> tuple[Tensor, Tensor]:
    """What is to be learnt by heart: sixteen examples, or as many sequences as have sixteen labels together."""
    x, y = subject.x, subject.y
    if y.ndim == 1:
        chosen = _distinct(subject)
        return x[chosen], y[chosen]
    counts = y != IGNORED
    if x.shape == y.shape:  # a token read for every one that is foreseen: of one text, as many
        row = int(counts.flatten(1).sum(1).argmax())
        begin = int(counts[row].int().argmax())
        part = slice(row, row + 1), slice(begin, begin + SAMPLES)
        return x[part], y[part]
    enough = counts.flatten(1).sum(1).cumsum(0) >= SAMPLES
    count = int(enough.int().argmax()) + 1 if enough.any() else len(y)
    return x[:count], y[:count]


def _distinct(subject: Subject) -> list[int]:
    """Places of the first examples with different inputs, of as many classes as there are."""
    chosen: list[int] = []
    by_class: dict[int, list[int]] = {}
    for place, label in enumerate(subject.y.tolist()):
        by_class.setdefault(label, []).append(place)
    queues = list(by_class.values())
    while any(queues) and len(chosen) < SAMPLES:
        for queue in queues:
            if queue and len(chosen) < SAMPLES:
                place = queue.pop(0)
                if not any(torch.equal(subject.x[place], subject.x[one]) for one in chosen):
                    chosen.append(place)
    return chosen if len(chosen) > 1 else list(range(min(SAMPLES, len(subject.y))))


@register(
    "diagnosis",
    paper="Karpathy 2019, A recipe for training neural networks",
    year=2019,
    when="before",
    level="standard",
    causes=("underfitting",),
    measure=measure,
)
def cannot_overfit_one_batch(history: History) -> list[Finding]:
    """Sixteen examples cannot be learnt by heart."""
    seen, chance = history.own("cannot_overfit_one_batch"), history.setup.chance
    if seen is None or not chance or _passed(seen, chance):
        return []
    failed = not seen["loss"] - seen.get("floor", 0.0) <= FAILED * chance  # also of a loss that is not a number
    said = (
        "nothing in the network can be trained"
        if not seen["trainable"]
        else f"after {STEPS} steps on {seen['samples']} examples alone, {seen['correct']} are right and the loss is "
        f"{seen['loss']:.3g}; chance is {chance:.3g}"
    )
    return [
        Finding(
            "cannot_overfit_one_batch",
            "critical" if failed else "warning",
            said,
            means="something on the way from the labels to the weights is broken, and more data cannot mend it"
            if failed
            else "learning is slow even where nothing has to be generalised",
            remedy=Remedy("look for the cause before anything is tuned: the findings above, the labels, the loss"),
            refuted_by="the same batch learnt in more steps, or with the optimizer and rate it will be trained with",
            confidence=0.9 if failed else 0.5,
            step=history.now.step,
            seen={**seen, "chance": chance, "passed_below": PASSED * chance, "failed_above": FAILED * chance},
        )
    ]
