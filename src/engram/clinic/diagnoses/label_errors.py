"""Label errors: examples that go on costing much and answering otherwise, when their like have long been learned.

    m_i = running mean of example i's loss;   log m is fitted by two normal distributions (EM);
    suspects: more likely of the upper one, and recalled in less than half of their last visits;
    said where the two stand apart and the suspects' mean loss is that of guessing or more

A wrong label is learned last, by heart, against all examples that look the same. Ranking by the mean loss found 92 to
96 % of labels that were flipped at random in the first so many places; counting how often an example was forgotten,
61 to 70 %. What is given is a list to look at, with its worst first, and never a verdict on one: rare and hard examples
look the same, and the losses are those of training, in which a large network learns wrong labels too in the end.

Nothing is said where the two distributions do not stand apart, and where only few labels are wrong. How far they stand
apart is not enough: losses of a clean set that is nearly known have a long upper tail as well. What tells a wrong label
from a hard example is that the network is sure of another answer, so that the example costs more than guessing would; a
hard one costs less the longer it is learned.

Needs the review's ledger of every example, which each run of `engram train` keeps.

Arpit et al. 2017, arXiv:1706.05394, section 3; Arazo et al. 2019, arXiv:1904.11238, section 3.1 (two components);
Pleiss et al. 2020, arXiv:2001.10528 (areas under the margin); Northcutt, Jiang and Chuang 2021, arXiv:1911.00068.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History
from engram.clinic.signals import guessing
from engram.clinic.subject import Subject
from engram.registry import register
from engram.review.ledger import RECALLED, Ledger

VISITS = 5
"""Of an example, from which its losses tell something."""

APART = 2.8
"""Distance of the two means over the root of the mean variance (d'): in the zoo's calibration half 3.0 to 3.6 with 2 to
20 % of the labels exchanged; up to 2.6 in clean runs whose suspects were sure as well, but for twelve layers of batch
norm, which were far from done after eight passes, at 3.0 to 3.3."""

SURE = 0.95
"""Of the loss of guessing, which the suspects' must reach: 2.20 to 3.34 with labels exchanged, where guessing is 2.30;
0.6 to 2.1 in nearly all clean runs."""

FEWEST, MOST = 5, 0.4
"""Suspects: so many at least, and at most this share; of more, labels are not the trouble."""

NAMED = 10

SMALLEST = 1e-6
"""Losses below count as it: their logarithms would stretch the lower group without end."""


def suspects(subject: Subject) -> Mapping[str, Any] | None:
    """Of `subject.facts["ledger"]`: how many are suspects, the worst by name, and how far the groups lie apart."""
    ledger = subject.facts.get("ledger")
    if subject.y.ndim != 1:
        return None  # a text has many labels, and what it costs on average says of none that it is wrong
    return None if not isinstance(ledger, Ledger) else ranked(ledger, subject.facts.get("names"))


def ranked(ledger: Ledger, names: Sequence[str] | None = None) -> dict[str, Any] | None:
    """The suspects of a ledger, costliest first; None where too few examples were visited often enough.

    >>> ledger = Ledger(200)
    >>> ledger.visits += 9; ledger.recall += 1; ledger.smoothed += torch.linspace(0.01, 0.05, 200)
    >>> ledger.smoothed[[3, 50, 70, 90, 120, 150]] = torch.tensor([3.0, 4.0, 5.0, 3.5, 4.5, 2.5])
    >>> ledger.recall[[3, 50, 70, 90, 120, 150]] = 0
    >>> ranked(ledger)["indices"]
    [70, 120, 50, 90, 3, 150]
    """
    rows = torch.nonzero((ledger.visits >= VISITS) & torch.isfinite(ledger.smoothed)).flatten()
    if len(rows) < 10 * FEWEST:
        return None
    losses = ledger.smoothed[rows].double().cpu()
    upper, apart = two_groups(losses.clamp_min(SMALLEST).log())
    wrong = ledger.recall[rows].float().cpu() < RECALLED
    chosen = torch.nonzero((upper > 0.5) & wrong).flatten()
    chosen = chosen[losses[chosen].argsort(descending=True)]
    indices = rows.cpu()[chosen].tolist()
    return {
        "count": len(indices),
        "of": len(rows),
        "apart": apart,
        "indices": indices[: 10 * NAMED],
        "names": [names[index] if names else f"example {index}" for index in indices[:NAMED]],
        "loss": losses[chosen].mean().item() if len(chosen) else 0.0,
        "loss_of_others": losses[upper <= 0.5].mean().item() if bool((upper <= 0.5).any()) else 0.0,
    }


def two_groups(x: Tensor, *, rounds: int = 100) -> tuple[Tensor, float]:
    """Fit two normal distributions by expectation and maximisation, from the lower nine tenths and the upper one.

    Returns:
        (N,) probability of belonging to the upper one, and d', how far the two stand apart.

    >>> upper, apart = two_groups(torch.cat([torch.linspace(-1, 1, 90), torch.linspace(9, 11, 10)]).double())
    >>> int((upper > 0.5).sum()), round(apart)
    (10, 16)
    """
    split = x.quantile(0.9)
    low, high = x[x <= split], x[x > split]
    if not len(high):
        return torch.zeros_like(x), 0.0
    floor = x.var(correction=0).clamp_min(1e-12) * 1e-3
    means = torch.stack([low.mean(), high.mean()])
    variances = torch.stack([low.var(correction=0), high.var(correction=0)]).clamp_min(floor)
    shares = torch.tensor([0.9, 0.1], dtype=x.dtype)
    belongs = torch.zeros(2, len(x), dtype=x.dtype)
    for _ in range(rounds):
        logs = shares.log()[:, None] - 0.5 * (variances.log()[:, None] + (x - means[:, None]) ** 2 / variances[:, None])
        belongs = logs.softmax(0)  # (2, N)
        counts = belongs.sum(1).clamp_min(1e-9)
        means = (belongs @ x) / counts
        variances = ((belongs * (x - means[:, None]) ** 2).sum(1) / counts).clamp_min(floor)
        shares = counts / len(x)
    apart = (means[1] - means[0]) / variances.mean().sqrt()
    upper = belongs[1].clone()
    upper[x <= means[0]] = 0.0  # a wide upper group also claims what lies below the lower one
    return upper, apart.item()


@register(
    "diagnosis",
    paper="Arazo et al. 2019, section 3.1; Pleiss et al. 2020",
    year=2019,
    when="after",
    level="quick",
    causes=("overfitting", "forgetting"),
    measure=suspects,
)
def label_errors(history: History) -> list[Finding]:
    """Examples that may have a wrong label, to be looked at."""
    own = history.own("label_errors")
    if own is None or not math.isfinite(own["apart"]):
        return []
    count, of = int(own["count"]), int(own["of"])
    guess = guessing(history)
    if own["apart"] < APART or not FEWEST <= count <= MOST * of or (guess and own["loss"] < SURE * guess):
        return []
    return [
        Finding(
            "label_errors",
            "information",
            f"{count:,} of {of:,} examples cost {own['loss']:.2g} on average and are mostly answered otherwise than "
            f"their label says; the others cost {own['loss_of_others']:.2g}, and the groups stand {own['apart']:.1f} "
            f"deviations apart, {APART:g} or more",
            means="wrong labels look so, and so do rare and hard examples: look at these first",
            remedy=Remedy("look at them, and relabel or remove those that are wrong"),
            refuted_by="looking at the first of them and finding their labels right",
            confidence=0.6,
            step=history.now.step,
            where=tuple(own["names"]),
            seen={
                "suspects": count,
                "examples": of,
                "loss": own["loss"],
                "loss_of_others": own["loss_of_others"],
                "apart": own["apart"],
                "least_apart": APART,
                "sure": SURE,
            },
        )
    ]
