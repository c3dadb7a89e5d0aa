"""Rounds by hand for tests of review methods: a ledger with given columns, a moment, what was observed."""

from typing import Any

import torch

from engram.review.ledger import Ledger, Observed
from engram.review.method import Method, Moment


def moment(quota: int = 10**6, *, seed: int = 0, left: int = 10**6, round_: int = 1, **more: Any) -> Moment:
    """A moment in the middle of a run."""
    given: dict[str, Any] = {"spent": 0.5, "clock": 1.0, "batch_size": 2} | more
    return Moment(round=round_, quota=quota, left=left, rng=torch.Generator().manual_seed(seed), **given)


def ledger_of(losses: list[float], **columns: list[Any]) -> Ledger:
    """A ledger in which every example was visited once with that loss; other columns as given."""
    ledger = Ledger(len(losses))
    for name, values in {"loss": losses, "visits": [1] * len(losses), **columns}.items():
        getattr(ledger, name).copy_(torch.tensor(values))
    return ledger


def observed(indices: list[int], losses: list[float], grades: list[float], batch_size: int = 2) -> Observed:
    """Visits in batches of that size."""
    places = torch.arange(len(indices))
    return Observed(
        torch.tensor(indices),
        torch.tensor(losses, dtype=torch.float32),
        torch.tensor(grades, dtype=torch.float32),
        places.float(),
        places // batch_size,
    )


def counted(method: Method, ledger: Ledger, quota: int, seeds: int = 1000, **more: Any) -> list[float]:
    """How often each example is chosen, as a share of the seeds."""
    counts = torch.zeros(len(ledger))
    for seed in range(seeds):
        counts[method.choose(ledger, moment(quota, seed=seed, **more)).indices] += 1
    return (counts / seeds).tolist()
