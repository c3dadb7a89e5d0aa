"""Drop at random what is below the mean of its own batch, let it back in at random, weigh by how often it was seen.

Losses are compared only inside a window of `window` batches, where the network has hardly moved. An example of round
E whose loss was at least its window's mean is visited in round E + 1. All others, those below and those that were not
visited, are visited with probability 1 - rho, each by itself. The weight makes up for rounds missed so far,

    w = E / N

with E the rounds so far and N those that visited the example.

Helps over InfoBatch by comparing losses of one and the same network, and by making up for the whole past instead of
one round. Published (ResNet-18): CIFAR-10 95.6, 95.4 and 94.9 % at 30, 50 and 70 % saved, CIFAR-100 78.4, 78.1 and
77.2 %. Its reviewers noted that the weight has no bound: an example missed for many rounds comes back with a large
step. Hurts as InfoBatch does by a mean weight above 1, a larger learning rate; `rescale` keeps the weights
(`published`), brings them to a mean of 1 (`normalised`), or leaves them out (`none`).

In the paper: window of one batch; rho is not stated in what we could read (the paper's notes and reviews, not its
program), ours is 0.5. Where we differ: rounds are whole batches, and the rest of one counts as not visited; a round
that would be less than half of 1 - rho is filled up at random; a run resumes exactly.

Zhou et al. 2026, "Inconsistency Biases in Dynamic Data Pruning", ICLR.
"""

from collections.abc import Mapping
from typing import Any

import torch

from engram.grammar import choice, number
from engram.registry import register
from engram.review.ledger import Ledger, Observed
from engram.review.method import Method, Moment, Round
from engram.review.methods._rounds import RESCALES, grown, latest, rescaled


class RePB(Method):
    """See the module.

    Attributes:
        stays: (N,) whether the example was at or above its window's mean in the last round, or is new.
        rounds, visited: (N,) rounds since it came, and those that visited it.
    """

    def __init__(self, *, rho: float, window: int, rescale: str) -> None:
        self.rho, self.window, self.rescale = rho, window, rescale
        self.least_share = 0.5 * (1.0 - rho)
        self.stays = torch.ones(0, dtype=torch.bool)
        self.rounds = torch.zeros(0, dtype=torch.int32)
        self.visited = torch.zeros(0, dtype=torch.int32)

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        self._grow(ledger)
        again = torch.rand(len(ledger), generator=moment.rng).to(ledger.device) >= self.rho
        indices = moment.shuffle((self.stays | again).nonzero().flatten())
        rounds, visited = self.rounds[indices].float(), self.visited[indices].float()
        return rescaled(indices, torch.where(visited > 0, rounds / visited, 1.0), self.rescale)

    def fold(self, observed: Observed, ledger: Ledger) -> None:
        self._grow(ledger)
        windows = observed.batches // self.window
        losses = observed.losses.double()
        means = torch.bincount(windows, weights=losses) / torch.bincount(windows)
        seen = latest(observed)
        self.stays.fill_(False)
        self.stays[seen.indices] = seen.losses.double() >= means[seen.batches // self.window]
        self.rounds += 1
        self.visited[seen.indices] += 1

    def _grow(self, ledger: Ledger) -> None:
        self.stays = grown(self.stays.to(ledger.device), len(ledger), True)
        self.rounds = grown(self.rounds.to(ledger.device), len(ledger), 0)
        self.visited = grown(self.visited.to(ledger.device), len(ledger), 0)

    def state_dict(self) -> dict[str, Any]:
        return {"stays": self.stays.clone(), "rounds": self.rounds.clone(), "visited": self.visited.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.stays, self.rounds = state["stays"].clone(), state["rounds"].clone()
        self.visited = state["visited"].clone()


@register("review", paper="Zhou et al., Inconsistency Biases in Dynamic Data Pruning (RePB), ICLR 2026", year=2026)
def repb(*, rho: float = 0.5, window: int = 1, rescale: str = "published") -> Method:
    """Drops at random what is below the mean loss of its own batch, and weighs by how often an example was seen.

    Args:
        rho: chance that an example below the mean is left out of the next round.
        window: batches whose losses are compared.
        rescale: published, normalised (to a mean of 1), or none.
    """
    return RePB(
        rho=number("repb", "rho", rho, 0, 0.99),
        window=int(number("repb", "window", window, 1, whole=True)),
        rescale=choice("repb", "rescale", rescale, RESCALES),
    )
