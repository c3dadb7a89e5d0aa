"""Choosing exactly so many examples, each with its own probability.

`inclusion` turns scores into inclusion probabilities clip(c * score, floor, 1) whose sum is the quota; `systematic`
draws exactly that many, each with exactly its probability (systematic sampling: Madow 1949, "On the theory of
systematic sampling, II", Annals of Mathematical Statistics 20). The examples are put in a random order first, so that
no two of them are tied together by where they stand.

The inverse of the probabilities are the weights with which a sum over the drawn examples estimates that over all
without bias (Horvitz and Thompson 1952); `weights` takes them to an exponent, and to a mean of 1.
"""

import torch
from torch import Tensor

SMALLEST = 1e-12  # of the largest score: what scores less than that share of it counts as so much
HALVINGS = 60  # of the logarithm of c: enough for double precision


def inclusion(scores: Tensor, quota: int, *, floor: float = 0.0) -> Tensor:
    """Probabilities (N,) float64, proportional to the scores within [floor, 1], that add up to `quota`.

    Args:
        scores: (N,) not negative.
        quota: 0 to N; where `floor` alone asks for more, the floor gives way.

    >>> inclusion(torch.tensor([1.0, 1.0, 2.0, 8.0]), 2)
    tensor([0.2500, 0.2500, 0.5000, 1.0000], dtype=torch.float64)
    """
    scores = scores.double()
    number = len(scores)
    if quota in (0, number) or quota > number:
        return torch.full_like(scores, float(quota > 0))
    floor = min(floor, quota / number)
    positive = scores > 0
    certain = int(positive.sum())
    if certain + floor * (number - certain) < quota:  # all that score are taken, and the others share the rest
        return torch.full_like(scores, (quota - certain) / (number - certain)).masked_fill(positive, 1.0)
    scores = torch.where(positive, (scores / scores.max()).clamp_min(SMALLEST), 0.0)
    low, high = 0.1 * SMALLEST, 1.0 / SMALLEST
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        total = float((scores * middle).clamp(floor, 1.0).sum())
        low, high = (middle, high) if total < quota else (low, middle)
    return (scores * high).clamp(floor, 1.0)


def inclusion_of_sum(scores: Tensor, total: float) -> Tensor:
    """Probabilities (N,) float64, proportional to the scores up to 1, that add up to any `total` from 0 to N."""
    whole = int(total)
    low = inclusion(scores, whole)
    return low if whole == total else torch.lerp(low, inclusion(scores, whole + 1), total - whole)


def systematic(chances: Tensor, rng: torch.Generator) -> Tensor:
    """Indices (K,) int64 of a draw with these inclusion probabilities, in random order; K is their rounded sum.

    >>> rng = torch.Generator().manual_seed(0)
    >>> sorted(systematic(torch.tensor([1.0, 0.0, 1.0, 0.5, 0.5]), rng).tolist())[:2]
    [0, 2]
    """
    quota = round(float(chances.sum()))
    order = torch.randperm(len(chances), generator=rng).to(chances.device)
    edges = torch.cumsum(chances[order].double(), 0)
    edges *= quota / edges[-1] if quota else 0.0  # so that rounding never draws one more or less
    start = torch.rand((), dtype=torch.float64, generator=rng).to(chances.device)
    points = start + torch.arange(quota, dtype=torch.float64, device=chances.device)
    places = torch.searchsorted(edges, points, right=True).clamp_max(len(chances) - 1)
    return order[_apart(places, edges)]


def _apart(places: Tensor, edges: Tensor) -> Tensor:
    """The places, where rounding at a certain example's edge may have hit one twice, all different."""
    twice = torch.zeros_like(places, dtype=torch.bool)
    twice[1:] = places[1:] == places[:-1]
    if not bool(twice.any()):
        return places
    free = torch.ones(len(edges), dtype=torch.bool, device=edges.device)
    free[places] = False
    widths = torch.diff(edges, prepend=edges.new_zeros(1))
    widest = torch.argsort(torch.where(free, widths, -1.0), descending=True)[: int(twice.sum())]
    places = places.clone()
    places[twice] = widest
    return places


def weights(chances: Tensor, exponent: float) -> Tensor:
    """(K,) float32 weights (1 / chance)^exponent of the examples drawn, with a mean of 1.

    >>> weights(torch.tensor([0.5, 1.0]), 1.0)
    tensor([1.3333, 0.6667])
    """
    raw = chances.double().pow(-exponent)
    return (raw / raw.mean()).float()
