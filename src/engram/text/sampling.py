"""Ways to choose the next token: pure functions from scores to scores, and one draw.

With scores s_k (logits) and p = softmax(s):

- *temperature* t: s / t. Below 1 the likely becomes likelier and the text more repetitive, above 1 more surprising.
- *top-k*: only the k largest. Always k, also where only one makes sense, or hundreds do.
- *top-p* (nucleus): only the smallest set of most likely tokens whose probabilities add up to at least p. Follows the
  network's own certainty; the paper uses 0.95 and finds that what lies outside, the unreliable tail, is what makes
  drawn text derail. 0.9 to 0.95 is usual.
- *greedy*: only the largest. The limit of temperature 0; repeats itself on free text, right for short answers.

A token that is left out has the score -inf. `adjust` applies them in the order temperature, top-k, top-p, as Holtzman
et al.'s program does: what is likely is decided after the temperature.

Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", arXiv 1904.09751, section 3.1 (top-p, equation 2),
3.2 (top-k), 3.3 (temperature, equation 4). Fan et al. 2018, arXiv 1805.04833, section 5.4 (top-k).
"""

import math

import torch
from torch import Generator, Tensor

from engram.errors import UserError


def temper(scores: Tensor, temperature: float) -> Tensor:
    """Scores (B, V) over the temperature.

    Raises:
        UserError: it is not above 0.

    >>> temper(torch.tensor([[1.0, 2.0]]), 0.5)
    tensor([[2., 4.]])
    """
    if not 0 < temperature < math.inf:
        raise UserError(f"temperature {temperature} is out of range", allowed="above 0", nearest="greedy, its limit")
    return scores / temperature


def keep_top_k(scores: Tensor, k: int) -> Tensor:
    """Scores (B, V) of the k largest of each row, of equal ones the first; all if there are no more.

    >>> keep_top_k(torch.tensor([[1.0, 3.0, 2.0, 2.0]]), 2)
    tensor([[-inf, 3., 2., -inf]])
    """
    if k < 1:
        raise UserError(f"top-k {k} is out of range", allowed="1 or more")
    order = scores.argsort(dim=1, descending=True, stable=True)  # topk would take any of equal ones
    return _without(scores, order[:, k:])


def keep_top_p(scores: Tensor, p: float) -> Tensor:
    """Scores (B, V) of each row's nucleus: the fewest likeliest tokens whose probabilities sum to p or more.

    >>> keep_top_p(torch.tensor([[0.25, 0.5, 0.125, 0.125]]).log(), 0.6).exp()
    tensor([[0.2500, 0.5000, 0.0000, 0.0000]])
    """
    if not 0 < p <= 1:
        raise UserError(f"top-p {p} is out of range", allowed="above 0, up to 1")
    if p == 1:
        return scores  # nothing to leave out, whatever rounding says
    order = scores.argsort(dim=1, descending=True, stable=True)
    chances = scores.double().softmax(dim=1).gather(1, order)
    before = chances.cumsum(dim=1) - chances  # the first is always in: nothing comes before it
    kept = torch.empty_like(before, dtype=torch.bool).scatter_(1, order, before < p)
    return scores.masked_fill(~kept, -math.inf)


def keep_greedy(scores: Tensor) -> Tensor:
    """Scores (B, V) of the largest of each row alone.

    >>> keep_greedy(torch.tensor([[1.0, 3.0, 2.0]]))
    tensor([[-inf, 3., -inf]])
    """
    return keep_top_k(scores, 1)


def adjust(
    scores: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0, greedy: bool = False
) -> Tensor:
    """Scores (B, V) as the settings leave them; greedy goes before all others.

    >>> adjust(torch.tensor([[0.0, 1.0, 2.0]]), temperature=0.5, top_k=2)
    tensor([[-inf, 2., 4.]])
    """
    if greedy:
        return keep_greedy(scores)
    scores = temper(scores, temperature)
    if top_k is not None:
        scores = keep_top_k(scores, top_k)
    return keep_top_p(scores, top_p)


def draw(scores: Tensor, rng: Generator) -> Tensor:
    """One token of each row, with the probabilities softmax(scores).

    The k with the largest s_k - log e_k, e_k drawn from an exponential distribution, has just these probabilities
    (Gumbel's trick: Maddison et al. 2014, arXiv 1411.0030, section 2); no sum is rounded, and what is left out is never
    drawn.

    Args:
        scores: (B, V), -inf for what is left out.
        rng: on the scores' device.

    Returns:
        (B,) int64.

    Raises:
        UserError: a row has nothing that can be drawn.

    >>> draw(torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]]), torch.Generator().manual_seed(0))
    tensor([0, 1])
    """
    best = scores.max(dim=1).values  # not a number if any is not
    if not best.isfinite().all():
        row = int((~best.isfinite()).nonzero()[0])
        raise UserError(
            f"row {row} of the scores has nothing to draw: its largest is {best[row].item()}",
            allowed="at least one finite score and no other but -inf",
            then="look whether the network's weights are finite",
        )
    waits = torch.empty_like(scores, dtype=torch.float64).exponential_(generator=rng)
    return (scores.double() - waits.log()).argmax(dim=1)


def _without(scores: Tensor, left_out: Tensor) -> Tensor:
    """Scores with -inf at the columns `left_out`, (B, m)."""
    return scores.scatter(1, left_out, -math.inf)
