"""Half-life regression: how long a memory lasts is read off how often it was right and wrong.

    p = level 2^(-t / h),    h = 2^(bias + right sqrt(1 + successes) + wrong sqrt(1 + lapses))

h is kept from `shortest` to `longest`. An example's second number holds its counts, lapses and successes up to 4095
each, as lapses * 4096 + successes (whole numbers, exact in float32); its strength is the half-life h that the weights
made of them at its last visit, for looking at. Recall is always computed from the counts, so a change of the weights is
a change for every example at once.

`fit` moves `level` and the weights down the paper's loss, with o the outcome of a visit (1 or 0) and h_o = -t / log2 o,
o clipped to [0.0001, 0.9999] and h_o to the range of half-lives:

    (o - p)^2 + alpha (h_o - h)^2 + ridge |parameters - where they began|^2        mean over visits

Helps where the counts say much: nothing in it depends on the delays of earlier visits, and it is a regression that can
be read. Hurts for the same reason: it knows no spacing effect, and a lapse long ago counts for ever.

In the paper: t and h in days, h from 15 minutes to 9 months, alpha 0.01, lambda 0.1, weights from 0 by gradient steps,
outcomes averaged over a session. Where we differ: one Gauss-Newton step a round, part of the way, on the whole round;
alpha 0 by default (of a single visit, right or wrong, h_o is but one of the two bounds); the ridge pulls towards the
weights that were given, which are the paper's 0 when those are given; examples that were wrong at their last visit are
left out; no weight for each word.

Settles and Meeder 2016, "A Trainable Spaced Repetition Model for Language Learning" (half-life regression, its loss).
"""

from collections.abc import Mapping
from math import log
from typing import Any, ClassVar

import torch
from torch import Tensor

from engram.registry import register
from engram.review.memory.model import FOLLOW, LEVEL, MOST_ROWS, Bounds, Memory, Parameters
from engram.review.memory.record import RECALLED, Record

MOST = 4095
"""Highest count."""
LIMITS = ("shortest", "longest")
CLIP = 1e-4
"""How far the paper keeps an outcome from 0 and 1 when it works a half-life out of it."""


class HalfLife(Memory):
    """p = level 2^(-t / h), h = 2^(weights . features of the counts)."""

    name = "half_life"
    bounds: ClassVar[Bounds] = {
        "level": LEVEL,
        "bias": (-20.0, 20.0),
        "right": (0.0, 10.0),
        "wrong": (-10.0, 0.0),
        "shortest": (1e-6, 1e5),
        "longest": (1e-3, 1e6),
        "alpha": (0.0, 10.0),
        "ridge": (0.0, 10.0),
    }
    fitted = ("level", "bias", "right", "wrong")

    def __init__(self, **parameters: float) -> None:
        super().__init__(**parameters)
        self.began = [self.parameters[name] for name in self.fitted]

    def first(self, grade: Tensor) -> tuple[Tensor, Tensor]:
        return self._counted(torch.zeros_like(grade), torch.zeros_like(grade), grade)

    def visit(self, delay: Tensor, strength: Tensor, difficulty: Tensor, grade: Tensor) -> tuple[Tensor, Tensor]:
        return self._counted(*counts(difficulty), grade)

    def curve(self, parameters: Parameters, delay: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        return torch.exp2(-delay / self.half_life(parameters, difficulty))

    def delay_of(self, share: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        return -torch.log2(share) * self.half_life(self.parameters, difficulty)

    def half_life(self, parameters: Parameters, difficulty: Tensor) -> Tensor:
        """The half-life h, in clock units, of examples with these counts."""
        bias, right, wrong = features(difficulty)
        exponent = parameters["bias"] * bias + parameters["right"] * right + parameters["wrong"] * wrong
        return torch.exp2(exponent).clamp(parameters["shortest"], parameters["longest"])

    def fit(self, record: Record) -> None:
        """One Gauss-Newton step down the paper's loss, part of the way; no record, no change."""
        seen = record.thinned(MOST_ROWS).double()
        seen = seen.at(seen.streak > 0)
        if not len(seen):
            return
        delay, outcome = seen.delay.clamp(min=0), seen.recalled.double()
        level, alpha, ridge, *clip = (self.parameters[name] for name in ("level", "alpha", "ridge", *LIMITS))
        x = torch.stack(features(seen.difficulty))  # (3, rows)
        h = self.half_life(self.parameters, seen.difficulty)
        left = torch.exp2(-delay / h)
        observed = (-delay / torch.log2(outcome.clamp(CLIP, 1 - CLIP))).clamp(*clip)
        of_p = torch.cat([left[None], level * left * log(2) ** 2 * delay / h * x])  # dp / d each of the fitted
        of_h = torch.cat([torch.zeros_like(h)[None], log(2) * h * x])  # dh / d each of the fitted
        pull = (of_p @ (outcome - level * left) + alpha * of_h @ (observed - h)) / len(seen)
        curvature = (of_p @ of_p.T + alpha * of_h @ of_h.T) / len(seen)
        values = [self.parameters[name] for name in self.fitted]
        pull += ridge * torch.tensor([began - now for began, now in zip(self.began, values, strict=True)]).double()
        free = [place for place, name in enumerate(self.fitted) if not self._is_held(name, float(pull[place]))]
        held = (ridge + 1e-6) * torch.eye(len(free)).double()  # solvable where all examples have the same counts
        step = torch.linalg.solve(curvature[free][:, free] + held, pull[free]).clamp(-1, 1)
        for place, change in zip(free, (FOLLOW * step).tolist(), strict=True):
            low, high = self.bounds[self.fitted[place]]
            self.parameters[self.fitted[place]] = min(max(values[place] + change, low), high)

    def _is_held(self, name: str, pull: float) -> bool:
        """Whether a weight is at a bound and pulled out of it."""
        low, high = self.bounds[name]
        return (self.parameters[name] <= low and pull < 0) or (self.parameters[name] >= high and pull > 0)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"began": list(self.began)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        began = [float(value) for value in state.get("began", self.began)]
        super().load_state_dict(state)
        self.began = began

    def _counted(self, successes: Tensor, lapses: Tensor, grade: Tensor) -> tuple[Tensor, Tensor]:
        recalled = grade >= RECALLED
        difficulty = packed(successes + recalled, lapses + ~recalled)
        return self.half_life(self.parameters, difficulty), difficulty


def packed(successes: Tensor, lapses: Tensor) -> Tensor:
    """Two counts in one number.

    >>> packed(torch.tensor([3.0, 9999.0]), torch.tensor([2.0, 0.0])).tolist()
    [8195.0, 4095.0]
    """
    return lapses.clamp(max=MOST) * (MOST + 1) + successes.clamp(max=MOST)


def counts(difficulty: Tensor) -> tuple[Tensor, Tensor]:
    """Successes and lapses out of one number.

    >>> [count.tolist() for count in counts(torch.tensor([8195.0]))]
    [[3.0], [2.0]]
    """
    lapses = torch.floor(difficulty / (MOST + 1))
    return difficulty - lapses * (MOST + 1), lapses


def features(difficulty: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the weights multiply: 1, and the square roots of 1 + successes and of 1 + lapses."""
    successes, lapses = counts(difficulty)
    return torch.ones_like(difficulty), torch.sqrt(1 + successes), torch.sqrt(1 + lapses)


@register(
    "memory",
    paper="Settles and Meeder 2016, 'A Trainable Spaced Repetition Model for Language Learning'",
    year=2016,
    published={
        "bias": 0.0,
        "right": 0.0,
        "wrong": 0.0,
        "shortest": 15 / (24 * 60),
        "longest": 274.0,
        "alpha": 0.01,
        "ridge": 0.1,
    },
)
def half_life(
    *,
    level: float = 1.0,
    bias: float = 6.44,
    right: float = 2.18,
    wrong: float = -4.0,
    shortest: float = 1.5,
    longest: float = 420.0,
    alpha: float = 0.0,
    ridge: float = 1e-4,
) -> HalfLife:
    """Reads the half-life off the counts of right and wrong answers: p = 2^(-t / h).

    Args:
        level: recall right after a visit; fitted.
        bias: logarithm (base 2) of the half-life, before the counts; fitted.
        right: what the square root of 1 + successes adds to it; fitted, never below 0.
        wrong: what the square root of 1 + lapses adds to it; fitted, never above 0.
        shortest: no half-life is less, in clock units.
        longest: no half-life is more.
        alpha: how much the fit cares for half-lives, beside recall.
        ridge: how strongly the fit is pulled to the weights that were given (lambda in the paper).

    >>> memory = half_life()
    >>> strength, counted = memory.first(torch.tensor([1.0, 0.0]))
    >>> [round(p, 2) for p in memory.recall(torch.tensor([7.0, 7.0]), strength, counted).tolist()]
    [0.9, 0.54]
    """
    return HalfLife(
        level=level,
        bias=bias,
        right=right,
        wrong=wrong,
        shortest=shortest,
        longest=longest,
        alpha=alpha,
        ridge=ridge,
    )
