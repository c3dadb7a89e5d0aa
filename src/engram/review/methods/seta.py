"""Cut a tenth at random, group the rest by loss, and slide a window over the groups from easy to hard.

A round leaves out a random share `cut`, sorts the other examples into `groups` by k-means on their last losses (3.0
before the first visit), and visits those of a window of round(groups * window) neighbouring groups. The window begins
at the easiest group, moves one group towards the hardest each round, and starts over when it has reached it; the
first round has all groups. The last 1 - delta of the run visits all but a random `cut`.

Helps by leaving out in turn what is too easy and what is too hard. Published (ResNet-18): CIFAR-10 95.7, 95.3 and
95.0 % at 30, 50 and 70 % saved with everything at 95.6 %; ImageNet, ResNet-50, 78.5 % at 30 % saved with everything
at 78.6 %. Hurts where losses are concentrated: groups of k-means are of very different sizes, and when nearly all
examples lie in the easiest group, the rounds without it are small. All weights are 1 and nothing is unbiased.

In their program for CIFAR: cut 0.1, 5 groups, window 0.9, delta 0.875; a window of 0.9 of 5 groups is 4 of them, by
rounding halves to even. The last phase is cut too ("partial annealing"). Where we differ: k-means runs on one axis
from groups of equal numbers of distinct losses, exactly repeatable, where theirs starts at random points of a fixed
seed; fewer distinct losses than groups make fewer groups; a round smaller than a twentieth of the examples is filled
up at random; rounds are whole batches; no global generator is touched, and a run resumes exactly.

Zhou et al. 2025, "Scale Efficient Training for Large Datasets", CVPR, section 3.
"""

import torch
from torch import Tensor

from engram.grammar import number
from engram.registry import register
from engram.review.ledger import Ledger
from engram.review.method import Method, Moment, Round

UNSEEN = 3.0  # score before the first visit
ROUNDS = 300  # of k-means, at most


class SeTa(Method):
    """See the module."""

    least_share = 0.05

    def __init__(self, *, cut: float, groups: int, window: float, delta: float) -> None:
        self.cut, self.groups, self.window, self.delta = cut, groups, window, delta

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        order = torch.randperm(len(ledger), generator=moment.rng).to(ledger.device)
        order = order[: max(1, int((1.0 - self.cut) * len(ledger)))]
        if moment.spent >= self.delta:
            return Round(order)
        scores = torch.where(ledger.seen, ledger.loss, UNSEEN)[order]
        groups = grouped(scores, self.groups)
        first, last = self.reach(moment.round)
        return Round(order[(groups >= first) & (groups < last)])

    def reach(self, round_: int) -> tuple[int, int]:
        """The first group of the window in a round, and the one after its last.

        >>> method = SeTa(cut=0.1, groups=5, window=0.6, delta=0.875)
        >>> [method.reach(round_) for round_ in range(5)]
        [(0, 5), (1, 4), (2, 5), (0, 3), (1, 4)]
        """
        if round_ == 0:
            return 0, self.groups
        size = max(1, round(self.groups * self.window))
        first = round_ % (self.groups - size + 1)
        return first, first + size


def grouped(values: Tensor, groups: int) -> Tensor:
    """(K,) which group each value is in, 0 the smallest: k-means on one axis.

    Values that are all equal are cut into groups of equal size as they stand. With fewer distinct values than groups,
    each is a group.

    >>> grouped(torch.tensor([0.1, 5.0, 0.2, 5.1, 9.0]), 3).tolist()
    [0, 1, 0, 1, 2]
    """
    distinct = torch.unique(values.double())
    if len(distinct) == 1:
        return torch.arange(len(values), device=values.device) * groups // len(values)
    groups = min(groups, len(distinct))
    middles = (torch.arange(groups, device=values.device) * 2 + 1) * len(distinct) // (2 * groups)
    centres = distinct[middles]
    ordered, order = torch.sort(values.double(), stable=True)
    sums = torch.cat([ordered.new_zeros(1), torch.cumsum(ordered, 0)])
    edges = torch.empty(0, dtype=torch.int64, device=values.device)
    for _ in range(ROUNDS):
        before, edges = edges, torch.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        if torch.equal(before, edges):
            break
        bounds = torch.cat([edges.new_zeros(1), edges, edges.new_full((1,), len(ordered))])
        counts = torch.diff(bounds)
        centres = torch.where(counts > 0, torch.diff(sums[bounds]) / counts.clamp_min(1), centres)
    places = torch.searchsorted(edges, torch.arange(len(ordered), device=values.device), right=True)
    result = torch.empty_like(order)
    result[order] = places
    return result


@register("review", paper="Zhou et al., Scale Efficient Training for Large Datasets (SeTa), CVPR 2025", year=2025)
def seta(*, cut: float = 0.1, groups: int = 5, window: float = 0.9, delta: float = 0.875) -> Method:
    """Groups examples by loss, and slides a window over the groups from easy to hard.

    Args:
        cut: share of the examples that every round leaves out at random.
        groups: how many groups of loss.
        window: share of the groups that a round visits.
        delta: share of the visits after which only the random cut is left.
    """
    return SeTa(
        cut=number("seta", "cut", cut, 0, 0.99),
        groups=int(number("seta", "groups", groups, 1, whole=True)),
        window=number("seta", "window", window, 0, 1, above=True),
        delta=number("seta", "delta", delta, 0, 1),
    )
