"""Labels that look wrong while training goes on: examples never recalled, where the losses fall into two groups.

    between(c) = (mu F(c) - M(c))^2 / (F(c) (1 - F(c)))      variance between those below the cut c and those above
    cut = argmax between,   apart = max between / variance   Otsu's measure of how far the groups stand apart, 0 to 1

with F and M the share and the summed mass of the averaged losses up to c, and mu their mean. An even spread is apart by
3/4, a normal one by 2/pi = 0.64. Suspects cost more than the cut and were never once recalled; of a class that would be
suspected for the most part, none is: it is rare or new, and not learned yet.

Measured at the end of some six hundred small runs (bench/review/told_apart.py): apart by 0.91 to 0.96 on MNIST with one
or two labels in five replaced, where 96 to 99 % of the suspects were labelled wrongly and, but for random visits, 97 to
100 % of the wrong labels were suspects; by 0.81 and less with clean labels, MNIST learned whole as CIFAR-10 hardly
learned or with a long tail. A network that learns wrong labels by heart before it learns the others, or learns little
of either (CIFAR-10 with wrong labels: 0.69), shows no two groups, and nothing is suspected.

Otsu 1979, "A Threshold Selection Method from Gray-Level Histograms"; Arazo et al. 2019, arXiv:1904.11238, section 3
(the losses of right and wrong labels). `engram.clinic.diagnoses.label_errors` looks closer, once, at the end of a run.
"""

import math

import torch
from torch import Tensor

from engram.review.labels import counted_from_0
from engram.review.ledger import Ledger

VISITS = 3  # from which an average says something
APART = 0.85  # between what was measured of clean labels, 0.81 and less, and of wrong ones, 0.91 and more
MOST = 0.5  # of a class
BINS = 64
REACH = 0.999  # share of the losses over which bins are laid; what lies beyond would make them too wide


def suspects(ledger: Ledger, labels: Tensor | None = None) -> Tensor:
    """(N,) whether the label of an example looks wrong; none where the losses are no two groups.

    Args:
        labels: (N,) classes, where they are known.

    >>> ledger = Ledger(100)
    >>> ledger.visits += 3; ledger.smoothed[:60], ledger.smoothed[60:] = 0.5, 3.0
    >>> int(suspects(ledger).sum())
    40
    >>> ledger.lapses[60:70] = 1  # once recalled
    >>> int(suspects(ledger).sum())
    30
    """
    judged = ledger.visits >= VISITS
    if not bool(judged.any()):
        return judged
    cut, apart = two_groups(ledger.smoothed[judged])
    if apart < APART:
        return torch.zeros_like(judged)
    found = judged & (ledger.smoothed > cut) & (ledger.streak == 0) & (ledger.lapses == 0)
    if labels is None:
        return found
    labels = counted_from_0(labels.to(found.device, torch.int64))
    share = torch.bincount(labels, weights=found.double()) / torch.bincount(labels).clamp_min(1)
    return found & (share <= MOST)[labels]


def two_groups(losses: Tensor) -> tuple[float, float]:
    """The cut between two groups of losses (K,), and how far they stand apart: 0 for one value, 1 for two.

    >>> two_groups(torch.tensor([0.0, 0.0, 2.0, 2.0]))[1], two_groups(torch.tensor([1.0, 1.0]))
    (1.0, (1.0, 0.0))
    >>> round(two_groups(torch.linspace(0, 1, 10_000))[1], 2)
    0.75
    """
    losses = losses.double()
    low, high = float(losses.min()), float(losses.kthvalue(math.ceil(REACH * len(losses))).values)
    if high <= low:
        return high, 0.0
    counts = torch.histc(losses, BINS, low, high)
    share = counts / counts.sum()
    middle = low + (torch.arange(BINS, dtype=torch.float64, device=losses.device) + 0.5) * (high - low) / BINS
    below, mass = share.cumsum(0)[:-1], (share * middle).cumsum(0)[:-1]
    mean = (share * middle).sum()
    between = (mean * below - mass) ** 2 / (below * (1.0 - below)).clamp_min(1e-12)
    at = int(between.argmax())
    variance = (share * (middle - mean) ** 2).sum()
    return low + (at + 1) * (high - low) / BINS, float(between[at] / variance)
