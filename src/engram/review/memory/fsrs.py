"""FSRS, the Free Spaced Repetition Scheduler, version 6: stability, difficulty, retrievability, 21 weights.

    p = level R(t, S),   R(t, S) = (1 + F t / S)^-decay,   F = 0.9^(-1/decay) - 1         so that R(S, S) = 0.9

An answer has a rating G: 1 again, 2 hard, 3 good, 4 easy. After the first one the stability is w0, w1, w2 or w3 and the
difficulty D0(G) = w4 - e^(w5 (G - 1)) + 1. Afterwards, with R as it was at the visit:

    recalled:  S <- S (1 + e^w8 (11 - D) S^-w9 (e^(w10 (1 - R)) - 1) [w15 if hard] [w16 if easy])
    again:     S <- min(w11 D^-w12 ((S + 1)^w13 - 1) e^(w14 (1 - R)),  S / e^(w17 w18))
    same day:  S <- S e^(w17 (G - 3 + w18)) S^-w19                        factor at least 1 if good or easy
    D <- w7 D0(4) + (1 - w7) (D - w6 (G - 3) (10 - D) / 9)                kept in 1 to 10

Stability grows less the larger it is, and more the later a visit comes. The weights are of days; `day` says how many
clock units are one, and strengths are kept in clock units. `stretch` multiplies all stabilities when they are read.
It, `level` and `decay` are what the fit moves: the others act through visits of long ago and would follow too late to
be steered.

Helps as the best of the published models for people, by its benchmark of a large number of Anki collections, and by its
form: the one thing it takes from a network is its pace. Hurts by its many weights, which nobody has fitted to networks.

In the paper (`published`): days, grades given by a person, delays in whole days, the same-day rule below one day.
Where we differ: `day` is such that good answers begin at 7 clock units; a grade below 0.5 is again, below `hard` hard,
above `easy` easy, and `easy` is 1 at first (never), as a grade of 1 may mean no more than correct; delays are not
rounded; no same-day rule unless `same_day` is set (a network visits everything several times a "day"); `decay` 0.5 is
the curve of versions 4.5 and 5.

Ye, Su and Cao 2022, "A Stochastic Shortest Path Algorithm for Optimizing Spaced Repetition Scheduling" (the memory
model it comes from). The FSRS project's description of the algorithm (formulas of version 6, default weights).
"""

from math import exp
from typing import ClassVar

import torch
from torch import Tensor

from engram.errors import UserError
from engram.registry import register
from engram.review.memory.model import LEVEL, Bounds, Memory, Parameters
from engram.review.memory.record import RECALLED

WEIGHTS: tuple[tuple[str, float, float, float], ...] = (
    ("stability_again", 0.212, 0.001, 100.0),
    ("stability_hard", 1.2931, 0.001, 100.0),
    ("stability_good", 2.3065, 0.001, 100.0),
    ("stability_easy", 8.2956, 0.001, 100.0),
    ("difficulty_start", 6.4133, 1.0, 10.0),
    ("difficulty_slope", 0.8334, 0.001, 4.0),
    ("difficulty_step", 3.0194, 0.001, 4.0),
    ("difficulty_return", 0.001, 0.001, 0.75),
    ("growth", 1.8722, 0.0, 4.5),
    ("growth_saturation", 0.1666, 0.0, 0.8),
    ("growth_spacing", 0.796, 0.001, 3.5),
    ("lapse", 1.4835, 0.001, 5.0),
    ("lapse_difficulty", 0.0614, 0.001, 0.25),
    ("lapse_stability", 0.2629, 0.001, 0.9),
    ("lapse_spacing", 1.6483, 0.0, 4.0),
    ("hard_penalty", 0.6014, 0.0, 1.0),
    ("easy_bonus", 1.8729, 1.0, 6.0),
    ("same_day_growth", 0.5425, 0.0, 2.0),
    ("same_day_shift", 0.0912, 0.0, 2.0),
    ("same_day_saturation", 0.0658, 0.0, 0.8),
    ("decay", 0.1542, 0.1, 0.8),
)
"""w0 to w20: what we call each, its default, and the range that the project gives it."""
DEFAULTS = tuple(default for _, default, _, _ in WEIGHTS)
EASIEST, HARDEST = 1.0, 10.0
AGAIN, HARD, GOOD, EASY = 1.0, 2.0, 3.0, 4.0
SHORTEST = 0.001
"""No stability is less, in days."""


class FSRS(Memory):
    """Stability (strength, in clock units) and difficulty (1 to 10)."""

    name = "fsrs"
    bounds: ClassVar[Bounds] = {name: (low, high) for name, _, low, high in WEIGHTS} | {
        "level": LEVEL,
        "day": (1e-4, 1e4),
        "stretch": (1 / 64, 64.0),
        "same_day": (0.0, 1e4),
        "hard": (RECALLED, 1.0),
        "easy": (RECALLED, 1.0),
        "longest": (1e-3, 1e6),
    }
    fitted = ("level", "decay", "stretch")

    def first(self, grade: Tensor) -> tuple[Tensor, Tensor]:
        w, rating = self.parameters, self.rating(grade)
        days = torch.where(rating == EASY, w["stability_easy"], w["stability_good"])
        days = torch.where(rating == HARD, w["stability_hard"], days)
        days = torch.where(rating == AGAIN, w["stability_again"], days).to(grade.dtype)
        return self._strength(days), self._difficulty_at_first(rating).clamp(EASIEST, HARDEST)

    def visit(self, delay: Tensor, strength: Tensor, difficulty: Tensor, grade: Tensor) -> tuple[Tensor, Tensor]:
        rating = self.rating(grade)
        left = self.left(delay, strength, difficulty)
        days = (strength / self.parameters["day"]).clamp(min=SHORTEST)
        after = torch.where(
            rating == AGAIN, self._lapsed(days, difficulty, left), self._recalled(days, difficulty, left, rating)
        )
        same_day = delay < self.parameters["same_day"]
        days = torch.where(same_day, self._same_day(days, rating), after)
        return self._strength(days), self._next_difficulty(difficulty, rating)

    def curve(self, parameters: Parameters, delay: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        decay, stability = parameters["decay"], parameters["stretch"] * strength
        least = SHORTEST * parameters["day"]
        return (1 + factor(decay) * delay / stability.clamp(min=least)) ** -decay

    def delay_of(self, share: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        decay, stability = self.parameters["decay"], self.parameters["stretch"] * strength
        return stability / factor(decay) * (share ** (-1 / decay) - 1)

    def rating(self, grade: Tensor) -> Tensor:
        """1 again, 2 hard, 3 good, 4 easy.

        >>> fsrs(hard=0.7, easy=0.95).rating(torch.tensor([0.2, 0.6, 0.8, 0.99])).tolist()
        [1.0, 2.0, 3.0, 4.0]
        """
        recalled = grade >= RECALLED
        hard, easy = grade < self.parameters["hard"], grade > self.parameters["easy"]
        return AGAIN + recalled.to(grade.dtype) * (HARD - hard.to(grade.dtype) + easy.to(grade.dtype))

    def _recalled(self, days: Tensor, difficulty: Tensor, left: Tensor, rating: Tensor) -> Tensor:
        w = self.parameters
        late = torch.expm1(w["growth_spacing"] * (1 - left))
        growth = exp(w["growth"]) * (11 - difficulty) * days ** -w["growth_saturation"] * late
        growth = growth * torch.where(rating == HARD, w["hard_penalty"], 1.0)
        growth = growth * torch.where(rating == EASY, w["easy_bonus"], 1.0)
        return days * (1 + growth)

    def _lapsed(self, days: Tensor, difficulty: Tensor, left: Tensor) -> Tensor:
        w = self.parameters
        kept = (days + 1) ** w["lapse_stability"] - 1
        late = torch.exp(w["lapse_spacing"] * (1 - left))
        remembered = w["lapse"] * difficulty.clamp(min=EASIEST) ** -w["lapse_difficulty"] * kept * late
        return torch.minimum(remembered, days / exp(w["same_day_growth"] * w["same_day_shift"]))

    def _same_day(self, days: Tensor, rating: Tensor) -> Tensor:
        w = self.parameters
        growth = torch.exp(w["same_day_growth"] * (rating - GOOD + w["same_day_shift"]))
        growth = growth * days ** -w["same_day_saturation"]
        return days * torch.where(rating >= GOOD, growth.clamp(min=1), growth)

    def _difficulty_at_first(self, rating: Tensor) -> Tensor:
        return self.parameters["difficulty_start"] - torch.exp(self.parameters["difficulty_slope"] * (rating - 1)) + 1

    def _next_difficulty(self, difficulty: Tensor, rating: Tensor) -> Tensor:
        w = self.parameters
        damped = difficulty - w["difficulty_step"] * (rating - GOOD) * (HARDEST - difficulty) / 9
        easy = self._difficulty_at_first(torch.full_like(rating, EASY))
        returned = w["difficulty_return"] * easy + (1 - w["difficulty_return"]) * damped
        return returned.clamp(EASIEST, HARDEST)

    def _strength(self, days: Tensor) -> Tensor:
        return (days.clamp(min=SHORTEST) * self.parameters["day"]).clamp(max=self.parameters["longest"])


def factor(decay: float) -> float:
    """F, with which recall after one stability is 0.9.

    >>> round(81 * factor(0.5), 6)
    19.0
    """
    return 0.9 ** (-1 / decay) - 1


@register(
    "memory",
    paper="Ye, Su and Cao 2022, 'A Stochastic Shortest Path Algorithm'; the FSRS project, version 6",
    year=2022,
    published={"day": 1.0, "same_day": 1.0, "longest": 36500.0},
)
def fsrs(
    *,
    weights: tuple[float, ...] = DEFAULTS,
    decay: float | None = None,
    day: float = 7.0 / 2.3065,
    stretch: float = 1.0,
    level: float = 1.0,
    same_day: float = 0.0,
    hard: float = 0.7,
    easy: float = 1.0,
    longest: float = 64.0,
) -> FSRS:
    """Stability, difficulty and retrievability of FSRS-6: p = (1 + F t / S)^-decay.

    Args:
        weights: w0 to w20, of days.
        decay: in place of w20: 0.1542 in version 6, 0.5 in versions 4.5 and 5; fitted.
        day: clock units in a day.
        stretch: what multiplies all stabilities; fitted.
        level: recall right after a visit; fitted.
        same_day: delays below it, in clock units, follow the same-day rule.
        hard: grades below it, from 0.5 up, are hard.
        easy: grades above it are easy.
        longest: no stability is more, in clock units.

    >>> memory = fsrs()
    >>> strength, difficulty = memory.first(torch.ones(1))
    >>> round(strength.item(), 2), round(difficulty.item(), 2)
    (7.0, 2.12)
    >>> strength, difficulty = memory.visit(torch.tensor([7.0]), strength, difficulty, torch.ones(1))
    >>> round(strength.item(), 1)
    36.1
    """
    given = list(weights) if isinstance(weights, list | tuple) else []
    if len(given) != len(WEIGHTS):
        raise UserError(f"memory fsrs: weights cannot be {weights!r}", allowed=f"{len(WEIGHTS)} numbers, w0 to w20")
    named = {name: value for (name, *_), value in zip(WEIGHTS, given, strict=True)}
    if decay is not None:
        named["decay"] = decay
    return FSRS(
        **named, day=day, stretch=stretch, level=level, same_day=same_day, hard=hard, easy=easy, longest=longest
    )
