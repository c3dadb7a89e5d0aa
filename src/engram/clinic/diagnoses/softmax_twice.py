"""Softmax twice: probabilities are handed to a loss that expects scores, and takes their softmax again.

    best case  p = one-hot:   L = -ln( e¹ / (e¹ + (K - 1) e⁰) ) = ln(e + K - 1) - 1        1.461 for ten classes

Probabilities lie between 0 and 1, so the second softmax can never prefer one class by more than a factor of e. The
network learns, slowly, its accuracy may be perfect, and the loss stays far above zero with gradients that never say
"sure enough". The same holds of a sigmoid before the loss. Which loss is used is found by asking it: the loss of the
perfect answer, one-hot, is near zero where probabilities are right and near that floor where scores are expected.

Healthy: scores; log-probabilities (softmax of them gives them back); probabilities with a loss that wants them, such as
the negative log of the one that counts.

What it cannot see: probabilities that a loss of one's own takes a softmax of only sometimes.

Humbatova et al. 2020, Taxonomy of real faults in deep learning systems, ICSE, "missing or redundant softmax"; UMLAUT
(Schoop et al. 2021, CHI) checks the layer's name, this the numbers.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.subject import Subject
from engram.registry import register

SUMS_TO_ONE = 1e-3
"""Error of a sum of probabilities that rounding may cause, also in bfloat16 of few classes; exact otherwise."""

OF_FLOOR = 0.5
"""Share of the floor from which the loss of the perfect answer cannot be rounding."""

SAMPLES = 128
"""Of the probe: the sums are the same for every example."""


def measure(subject: Subject) -> Mapping[str, Any] | None:
    """Whether the scores are probabilities, and what the loss says of perfect ones."""
    if subject.num_classes is None:
        return None
    x, y = subject.part(SAMPLES)
    with torch.no_grad():
        scores, labels = subject.outputs(subject.call(subject.copy(), x, y), y)
    scores = scores.float()
    perfect = F.one_hot(labels, subject.num_classes).to(scores.dtype)
    of_perfect = subject.cost_of(perfect, labels).item()
    if math.isnan(of_perfect):
        return None  # the loss takes what the network gives, and no scores of ours
    return {
        "lowest": scores.min().item(),
        "highest": scores.max().item(),
        "sum_error": (scores.sum(1) - 1).abs().max().item(),
        "spread": scores.std().item(),
        "loss_of_perfect": of_perfect,
    }


@register(
    "diagnosis",
    paper="Schoop et al. 2021, UMLAUT: Debugging deep learning programs using program structure and model behavior",
    year=2021,
    when="before",
    level="quick",
    causes=("underfitting", "lr_too_low", "cannot_overfit_one_batch"),
    of_trained=True,
    measure=measure,
)
def softmax_twice(history: History) -> list[Finding]:
    """The loss takes the softmax of what already is one."""
    seen, classes = history.own("softmax_twice"), history.setup.num_classes
    if seen is None or classes is None:
        return []
    floor = math.log(math.e + classes - 1) - 1
    between = 0 <= seen["lowest"] <= seen["highest"] <= 1  # and no score is NaN
    if not between or seen["loss_of_perfect"] < OF_FLOOR * floor:
        return []
    squashed = _squashed(history)
    if seen["sum_error"] > SUMS_TO_ONE and not squashed:
        return []
    word = "sigmoid" if seen["sum_error"] > SUMS_TO_ONE else "softmax"
    return [
        Finding(
            "softmax_twice",
            "critical",
            f"the network gives {'probabilities' if word == 'softmax' else 'values between 0 and 1'}, and the loss "
            f"takes their softmax: for perfect ones it is still {seen['loss_of_perfect']:.4g}",
            means=f"the loss cannot go below {floor:.3f}, and learning is slow however right the answers are",
            remedy=Remedy(f"remove the {word} at the end of the network: the loss has its own"),
            refuted_by=f"a training loss below {floor:.3f}",
            confidence=0.98,
            step=history.now.step,
            where=squashed,
            seen={**seen, "floor": floor},
        )
    ]


def _squashed(history: History) -> tuple[str, ...]:
    layers = history.now.layers
    return (layers[-1].name,) if layers and layers[-1].kind.lower() in ("softmax", "sigmoid") else ()
