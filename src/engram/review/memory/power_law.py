"""Forgetting that slows down with age: a memory that has lasted is likely to last.

    p = level (1 + beta t / S)^-psi

after a delay t, with strength S; `level` (lambda in the paper) is recall right after learning, `beta` the scale of
time, `psi` the rate of forgetting, all three fitted. With the defaults, which are FSRS-4.5's curve, a strength is the
delay after which 0.9 is recalled.

Helps where delays span decades: the power law holds for people and is what the shallow curves of networks look like.
`level` below 1 takes up that even an example seen just now may be wrong under another augmentation or after one bad
step. Hurts little; on few data its three parameters are hard to tell apart, so they move slowly.

In the paper: fitted to each experiment; no values for all people. Where we differ: t is divided by a strength, and how
visits change it is `strengthen`'s rule, with a spacing effect.

Wickelgren 1974, "Single-trace fragility theory of memory dynamics" (the equation). Wixted and Carpenter 2007, "The
Wickelgren power law and the Ebbinghaus savings function" (its form, and its fit to Ebbinghaus's figures).
"""

import torch
from torch import Tensor

from engram.registry import register
from engram.review.memory.model import LEVEL, Memory, Parameters
from engram.review.memory.strengthen import BOUNDS, first_strength, next_strength

LEAST = 1e-6
"""No strength is less: an example that was never visited has none."""


class PowerLaw(Memory):
    """p = level (1 + beta t / S)^-psi."""

    name = "power_law"
    bounds = BOUNDS | {"level": LEVEL, "beta": (1e-3, 1e3), "psi": (0.01, 2.0)}
    fitted = ("level", "beta", "psi")

    def first(self, grade: Tensor) -> tuple[Tensor, Tensor]:
        return first_strength(self.parameters, grade), torch.ones_like(grade)

    def visit(self, delay: Tensor, strength: Tensor, difficulty: Tensor, grade: Tensor) -> tuple[Tensor, Tensor]:
        left = self.left(delay, strength, difficulty)
        return next_strength(self.parameters, strength, left, grade), difficulty

    def curve(self, parameters: Parameters, delay: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        age = parameters["beta"] * delay / strength.clamp(min=LEAST)
        return (1 + age) ** -parameters["psi"]

    def delay_of(self, share: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        return (share ** (-1 / self.parameters["psi"]) - 1) * strength / self.parameters["beta"]


@register("memory", paper="Wickelgren 1974, 'Single-trace fragility theory of memory dynamics'", year=1974)
def power_law(
    *,
    level: float = 1.0,
    beta: float = 19 / 81,
    psi: float = 0.5,
    start: float = 7.0,
    growth: float = 0.5,
    spacing: float = 2.0,
    lapse: float = 0.3,
    shortest: float = 0.25,
    longest: float = 64.0,
) -> PowerLaw:
    """Forgets ever more slowly: p = level (1 + beta t / S)^-psi, Wickelgren's power law.

    Args:
        level: recall right after a visit; fitted.
        beta: the scale of time, for a strength of 1; fitted.
        psi: the rate of forgetting; fitted.
        start: strength after a first recall, in clock units.
        growth: how much a recall adds to a strength, as a share of it.
        spacing: how much more it adds the likelier a lapse was.
        lapse: what a lapse leaves of a strength.
        shortest: no strength is less.
        longest: no strength is more.

    >>> memory = power_law()
    >>> strength, difficulty = memory.first(torch.ones(1))
    >>> strength, difficulty = memory.visit(torch.tensor([7.0]), strength, difficulty, torch.ones(1))
    >>> round(strength.item(), 2), round(memory.interval(0.9, strength, difficulty).item(), 2)
    (11.9, 11.9)
    """
    return PowerLaw(
        level=level,
        beta=beta,
        psi=psi,
        start=start,
        growth=growth,
        spacing=spacing,
        lapse=lapse,
        shortest=shortest,
        longest=longest,
    )
