"""The first forgetting curve there was: what relearning saves falls with the logarithm of the time that has passed.

    b = 100 k / ((log10 t)^c + k)          k = 1.84, c = 1.25, t in minutes, from one minute before learning ended

Ebbinghaus learned series of syllables by heart, relearned them after a delay, and counted the share of the work b that
he saved. His seven figures and what his formula makes of them are in `OBSERVED` and `CALCULATED`. Here his minute
stretches with the strength, and what is saved is read as the probability of recall:

    p = level * k / ((log10 t)^c + k),    t = 1 + minute * delay / S

so that p is `level`, his 1, where learning ended. With the default `minute` a strength is the delay after which 0.9 is
recalled. `level`, `k` and `minute` are fitted.

Helps where forgetting is fast at first and almost stands still later; in it nothing is ever quite lost. Hurts by its
shape near 0, steeper than what is found in networks.

In the paper: one person, himself, and one fit to the means of his tests (`published`). Where we differ: there is no
strength in it; how visits change it is `strengthen`'s rule.

Ebbinghaus 1885, "Ueber das Gedaechtnis", section 29 (the formula, and the table of its values).
"""

from math import log

import torch
from torch import Tensor

from engram.registry import register
from engram.review.memory.model import LEVEL, Memory, Parameters
from engram.review.memory.strengthen import BOUNDS, first_strength, next_strength

OBSERVED = ((19, 58.2), (63, 44.2), (525, 35.8), (1440, 33.7), (2880, 27.8), (8640, 25.4), (44640, 21.1))
"""Minutes since learning ended, and the percentage of the work that was saved: his own figures."""
CALCULATED = (57.0, 46.7, 34.5, 30.4, 28.1, 24.9, 21.2)
"""What he computed for them; he leaves the one minute out from a day on."""
MINUTE = 10 ** ((1.84 / 9) ** (1 / 1.25)) - 1
"""With which, and Ebbinghaus's k and c, 0.9 is recalled after one strength: 0.909."""
LEAST = 1e-6
"""No strength is less: an example that was never visited has none."""


class Savings(Memory):
    """p = level k / ((log10(1 + minute t / S))^c + k)."""

    name = "savings"
    bounds = BOUNDS | {"level": LEVEL, "k": (0.05, 50.0), "c": (0.1, 5.0), "minute": (1e-3, 1e3)}
    fitted = ("level", "k", "minute")

    def first(self, grade: Tensor) -> tuple[Tensor, Tensor]:
        return first_strength(self.parameters, grade), torch.ones_like(grade)

    def visit(self, delay: Tensor, strength: Tensor, difficulty: Tensor, grade: Tensor) -> tuple[Tensor, Tensor]:
        left = self.left(delay, strength, difficulty)
        return next_strength(self.parameters, strength, left, grade), difficulty

    def curve(self, parameters: Parameters, delay: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        k, c, minute = parameters["k"], parameters["c"], parameters["minute"]
        decades = torch.log1p(minute * delay / strength.clamp(min=LEAST)) / log(10)
        return k / (decades**c + k)

    def delay_of(self, share: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        k, c, minute = (self.parameters[name] for name in ("k", "c", "minute"))
        decades = (k * (1 / share - 1)) ** (1 / c)
        return torch.expm1(decades * log(10)) * strength / minute


@register(
    "memory",
    paper="Ebbinghaus 1885, 'Ueber das Gedaechtnis', section 29",
    year=1885,
    published={"k": 1.84, "c": 1.25, "minute": 1.0, "start": 1.0},
)
def savings(
    *,
    level: float = 1.0,
    k: float = 1.84,
    c: float = 1.25,
    minute: float = MINUTE,
    start: float = 7.0,
    growth: float = 0.5,
    spacing: float = 2.0,
    lapse: float = 0.3,
    shortest: float = 0.25,
    longest: float = 64.0,
) -> Savings:
    """Forgets with the logarithm of time: p = k / ((log10 t)^c + k), Ebbinghaus's own curve.

    Args:
        level: recall right after a visit; fitted.
        k: how much the logarithm of time is worth; fitted.
        c: its power.
        minute: Ebbinghaus's minute, in strengths: the scale of time; fitted.
        start: strength after a first recall, in clock units.
        growth: how much a recall adds to a strength, as a share of it.
        spacing: how much more it adds the likelier a lapse was.
        lapse: what a lapse leaves of a strength.
        shortest: no strength is less.
        longest: no strength is more.

    >>> minutes, saved = (torch.tensor(column).float() for column in zip(*OBSERVED))
    >>> human = savings(minute=1, start=1)
    >>> (100 * human.recall(minutes, torch.ones(7), torch.ones(7))).round().tolist()
    [57.0, 47.0, 34.0, 30.0, 28.0, 25.0, 21.0]
    """
    return Savings(
        level=level,
        k=k,
        c=c,
        minute=minute,
        start=start,
        growth=growth,
        spacing=spacing,
        lapse=lapse,
        shortest=shortest,
        longest=longest,
    )
