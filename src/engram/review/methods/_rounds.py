"""What several review methods do alike: a round of everything, those due soonest, one row an example."""

import torch
from torch import Tensor

from engram.review.ledger import Ledger, Observed
from engram.review.method import Moment, Round

PUBLISHED, NORMALISED, NONE = RESCALES = ("published", "normalised", "none")
"""What to do with a method's weights: as its paper has them, brought to a mean of 1, or all alike."""


def everything(ledger: Ledger, moment: Moment) -> Round:
    """All examples in random order, or as many as the quota has."""
    return Round(torch.randperm(len(ledger), generator=moment.rng)[: moment.quota])


def rescaled(indices: Tensor, weights: Tensor, rescale: str) -> Round:
    """A round whose weights are treated as `rescale` says."""
    return Round(indices, None if rescale == NONE else weights, normalise=rescale != PUBLISHED)


def soonest(wait: Tensor, least: int, moment: Moment) -> Tensor:
    """Indices, in random order, of all that wait no longer (0 or less), and of the next ones until there are `least`.

    Args:
        wait: (N,) how long each still has to wait; equal ones are taken at random.

    >>> rng = torch.Generator().manual_seed(0)
    >>> moment = Moment(round=1, quota=4, left=8, spent=0.5, clock=1.0, batch_size=2, rng=rng)
    >>> sorted(soonest(torch.tensor([5.0, -1.0, 0.0, 1.0]), 1, moment).tolist())
    [1, 2]
    >>> sorted(soonest(torch.tensor([5.0, -1.0, 0.0, 1.0]), 3, moment).tolist())
    [1, 2, 3]
    """
    order = moment.shuffle(torch.arange(len(wait), device=wait.device))
    order = order[torch.argsort(wait[order], stable=True)]
    number = max(int((wait <= 0).sum()), min(least, len(wait)))
    return moment.shuffle(order[:number])


def least_of(share: float, ledger: Ledger, moment: Moment) -> int:
    """The least number of examples in a round: a share of them, at least a batch."""
    return max(moment.batch_size, int(share * len(ledger)))


def grown(rows: Tensor, examples: int, value: float) -> Tensor:
    """The rows, and rows of `value` for examples that have come to the end of the data set.

    >>> grown(torch.tensor([3, 4]), 4, 0).tolist()
    [3, 4, 0, 0]
    """
    if examples <= len(rows):
        return rows
    return torch.cat([rows, rows.new_full((examples - len(rows),), value)])


def latest(observed: Observed) -> Observed:
    """The last visit of every example visited, by index.

    >>> columns = torch.tensor([2, 0, 2]), torch.tensor([1.0, 2.0, 3.0])
    >>> latest(Observed(columns[0], columns[1], columns[1], columns[1], columns[0])).losses.tolist()
    [2.0, 3.0]
    """
    order = torch.argsort(observed.indices, stable=True)
    ordered = observed.indices[order]
    last = torch.ones_like(ordered, dtype=torch.bool)
    last[:-1] = ordered[:-1] != ordered[1:]
    return observed.at(order[last])
