"""SuperMemo 2: the next interval is the last one times the example's easiness, and a lapse starts over.

    I(1) = first,   I(2) = second,   I(n) = I(n-1) * easiness
    easiness <- easiness + 0.1 - (5 - q) (0.08 + (5 - q) 0.02),   never below `lowest`

with q the quality of the answer, 0 to 5, of which 3 and more are recalls. Below 3 the intervals start over and the
easiness stays. The strength is the interval, the second number the easiness. Which interval comes next is told from the
last one: below `first`, below `second`, or more.

The algorithm has intervals and no curve. Its aim was to have about a tenth forgotten at the end of each interval, and
forgetting at a constant rate in between gives the curve, with `level` (1) and `forgotten` (0.1) fitted:

    p = level (1 - forgotten)^(t / interval)

Helps as the ancestor of all spaced repetition programs, with nothing to fit. Hurts by not looking at the delay: an
answer after a day and one after a year lengthen the interval alike. Under a network's frequent visits it grows fast,
until `longest`.

In the paper: 1 day, 6 days, easiness 2.5 at first and 1.3 at least (`published`). Where we differ: grades 0.5 to 1 are
q from 3 to 5 and those below are below 3, in between on a line, not rounded; a lapse may start over below `first`
(`again`); there is a longest interval; and no easiness is above 5, where the algorithm has a least one alone. From 2.5
that is 25 perfect answers away, which a person never gives in a row; a network gives hundreds, each for another 0.1
that no lapse takes back, and without an end an interval would go from `second` to the longest at once.

Wozniak 1990, "Optimization of learning", section 3.2 (algorithm SM-2).
"""

from math import log1p
from typing import ClassVar

import torch
from torch import Tensor

from engram.registry import register
from engram.review.memory.model import LEVEL, Bounds, Memory, Parameters
from engram.review.memory.record import RECALLED

LEAST = 1e-6
"""No interval is less: an example that was never visited has none."""
NEARLY = 0.999
"""Times `first`: below it an interval is shorter than `first` beyond doubt of rounding."""
EASIEST = 5.0
"""No easiness is more, which is ours: a network's visits are many enough for a sum without an end."""


class SM2(Memory):
    """Interval (strength) times easiness (difficulty)."""

    name = "sm2"
    bounds: ClassVar[Bounds] = {
        "first": (1e-3, 1e5),
        "second": (1e-3, 1e5),
        "again": (1e-3, 1e5),
        "easiness": (1.0, EASIEST),
        "lowest": (1.0, EASIEST),
        "longest": (1e-3, 1e6),
        "level": LEVEL,
        "forgotten": (1e-3, 0.9),
    }
    fitted = ("level", "forgotten")

    def first(self, grade: Tensor) -> tuple[Tensor, Tensor]:
        interval = torch.where(grade >= RECALLED, self.parameters["first"], self.parameters["again"])
        easiness = torch.full_like(grade, self.parameters["easiness"])
        return interval.to(grade.dtype), self._eased(easiness, grade)

    def visit(self, delay: Tensor, strength: Tensor, difficulty: Tensor, grade: Tensor) -> tuple[Tensor, Tensor]:
        first, second, again = (self.parameters[name] for name in ("first", "second", "again"))
        easiness = self._eased(difficulty, grade)
        grown = torch.where(strength < NEARLY * second, second, strength * easiness)
        grown = torch.where(strength < NEARLY * first, first, grown)
        interval = torch.where(grade >= RECALLED, grown, again).clamp(max=self.parameters["longest"])
        return interval.to(strength.dtype), easiness

    def curve(self, parameters: Parameters, delay: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        return (1 - parameters["forgotten"]) ** (delay / strength.clamp(min=LEAST))

    def delay_of(self, share: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        return strength * torch.log(share) / log1p(-self.parameters["forgotten"])

    def _eased(self, easiness: Tensor, grade: Tensor) -> Tensor:
        missing = 5 - quality(grade)
        changed = easiness + 0.1 - missing * (0.08 + missing * 0.02)
        return torch.where(grade >= RECALLED, changed, easiness).clamp(self.parameters["lowest"], EASIEST)


def quality(grade: Tensor) -> Tensor:
    """SuperMemo's quality of an answer, 0 to 5, of a grade of 0 to 1.

    >>> quality(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])).tolist()
    [0.0, 1.5, 3.0, 4.0, 5.0]
    """
    return torch.where(grade >= RECALLED, 1 + 4 * grade, 6 * grade)


@register(
    "memory",
    paper="Wozniak 1990, 'Optimization of learning', section 3.2 (algorithm SM-2)",
    year=1990,
    published={"first": 1.0, "second": 6.0, "again": 1.0, "easiness": 2.5, "lowest": 1.3, "longest": 36500.0},
)
def sm2(
    *,
    first: float = 7.0,
    second: float = 11.0,
    again: float = 2.0,
    easiness: float = 1.4,
    lowest: float = 1.1,
    longest: float = 64.0,
    level: float = 1.0,
    forgotten: float = 0.1,
) -> SM2:
    """Multiplies intervals by an easiness that follows the grades: SuperMemo 2.

    Args:
        first: interval after a first recall, in clock units.
        second: interval after the second.
        again: interval after a lapse.
        easiness: what multiplies intervals, at the start.
        lowest: no easiness is less.
        longest: no interval is more.
        level: recall right after a visit; fitted.
        forgotten: share forgotten at the end of an interval; fitted.

    >>> memory = sm2()
    >>> interval, easiness = memory.first(torch.ones(1))
    >>> for _ in range(3):
    ...     interval, easiness = memory.visit(interval, interval, easiness, torch.ones(1))
    ...     print(round(interval.item(), 1), round(easiness.item(), 1))
    11.0 1.6
    18.7 1.7
    33.7 1.8
    """
    return SM2(
        first=first,
        second=second,
        again=again,
        easiness=easiness,
        lowest=lowest,
        longest=longest,
        level=level,
        forgotten=forgotten,
    )
