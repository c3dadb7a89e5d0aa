"""Forgetting at a constant rate: whatever the age of a memory, it loses the same share in the same time.

    p = level * exp(-difficulty * d_i * t / S)

after a delay t, with a strength S that grows by a factor with every recall and shrinks with a lapse. `difficulty` is
the rate for all examples (theta in the paper) and is fitted; d_i is an example's own share of it, kept in its second
number: 1, unless somebody knows better. With the default rate, -ln 0.9, a strength is the delay after which 0.9 is
recalled.

Helps as the simplest curve there is: one parameter, one division. Hurts where forgetting slows down with age, which is
what is found in people and in networks alike: it then promises too much early and too little late.

In the paper: theta fitted to the logs of flashcard users, strength = the flashcard's Leitner box (or the number of
reviews). Where we differ: strength grows by a factor (1.6), so that it has no boxes to run out of; `spacing` makes it
grow more after a long delay.

Ebbinghaus 1885, chapter 7 (that there is such a curve; the exponential is not his). Reddy, Labutov, Banerjee and
Joachims 2016, "Unbounded human learning", the memory model of their queueing network (exponential forgetting curve).
"""

from math import log

import torch
from torch import Tensor

from engram.registry import register
from engram.review.memory.model import LEVEL, Memory, Parameters
from engram.review.memory.strengthen import BOUNDS, first_strength, next_strength

LEAST = 1e-6
"""No strength and no difficulty is less: an example that was never visited has none."""


class Exponential(Memory):
    """p = level exp(-difficulty d_i t / S)."""

    name = "exponential"
    bounds = BOUNDS | {"level": LEVEL, "difficulty": (1e-3, 10.0)}
    fitted = ("level", "difficulty")

    def first(self, grade: Tensor) -> tuple[Tensor, Tensor]:
        return first_strength(self.parameters, grade), torch.ones_like(grade)

    def visit(self, delay: Tensor, strength: Tensor, difficulty: Tensor, grade: Tensor) -> tuple[Tensor, Tensor]:
        left = self.left(delay, strength, difficulty)
        return next_strength(self.parameters, strength, left, grade), difficulty

    def curve(self, parameters: Parameters, delay: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        return torch.exp(-parameters["difficulty"] * difficulty * delay / strength.clamp(min=LEAST))

    def delay_of(self, share: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        return -torch.log(share) * strength / (self.parameters["difficulty"] * difficulty.clamp(min=LEAST))


@register(
    "memory",
    paper="Reddy, Labutov, Banerjee and Joachims 2016, 'Unbounded human learning' (exponential forgetting curve)",
    year=2016,
)
def exponential(
    *,
    level: float = 1.0,
    difficulty: float = -log(0.9),
    start: float = 7.0,
    growth: float = 0.6,
    spacing: float = 0.0,
    lapse: float = 0.3,
    shortest: float = 0.25,
    longest: float = 64.0,
) -> Exponential:
    """Forgets at a constant rate: p = exp(-difficulty t / S).

    Args:
        level: recall right after a visit; fitted.
        difficulty: the rate of forgetting, for a strength of 1; fitted.
        start: strength after a first recall, in clock units.
        growth: how much a recall adds to a strength, as a share of it.
        spacing: how much more it adds the likelier a lapse was.
        lapse: what a lapse leaves of a strength.
        shortest: no strength is less.
        longest: no strength is more.

    >>> memory = exponential()
    >>> strength, difficulty = memory.first(torch.tensor([1.0, 0.0]))
    >>> [round(p, 3) for p in memory.recall(torch.tensor([7.0, 7.0]), strength, difficulty).tolist()]
    [0.9, 0.704]
    """
    return Exponential(
        level=level,
        difficulty=difficulty,
        start=start,
        growth=growth,
        spacing=spacing,
        lapse=lapse,
        shortest=shortest,
        longest=longest,
    )
