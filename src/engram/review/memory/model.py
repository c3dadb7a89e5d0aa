"""What every memory model is: two numbers an example, a forgetting curve, and parameters that follow the record.

The curve gives the share that is left of an example after a delay t, from the two numbers that the last visit left;
level times that share is the probability p of recalling it; a visit makes new numbers. All work on tensors, on any
device, without waiting for it. The curve's own parameters act when it is read: when the fit moves them, every
example's prediction follows at once, and nothing stored is stale.

Networks do not forget like people. Measured on CIFAR-10 with a small convolutional network, examples that were right
at the last visit are right again with probability .92 after a quarter of an epoch and .87 after three epochs; after
three right answers in a row .97 and .94. The defaults start there: recalled once, an example's recall falls to 0.9
after 7 clock units (7 epochs' worth of visits). `published` beside each builder has the values for people.

Every model has a `level`, what is recalled right after a visit, 1 in all of the papers but Wickelgren's. A network's
is below 1, for the next visit shows the example under another augmentation and after other examples' steps. Without it
a fit takes the missing share for fast forgetting.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from engram.errors import UserError
from engram.review.memory import likelihood
from engram.review.memory.record import Record

FOREVER = 1e6
"""Longest interval a model answers, in clock units."""
NEARLY_ALL = 1 - 1e-7
"""Largest share that is asked of the inverse of a curve."""
LEVEL = (0.05, 1.0)
"""Bounds of the level."""
FOLLOW = 0.3
"""Share of the way to the round's best parameters that one fit goes."""
MOST_ROWS = 65_536
"""Rows of a record that a fit looks at."""

Parameters = Mapping[str, float]
Bounds = dict[str, tuple[float, float]]


class Memory(ABC):
    """A memory model: subclasses give the curve, its inverse, and what a visit leaves.

    All tensors have one axis and one length; delays and strengths are in clock units; grades are 0 to 1, and from 0.5
    up count as recalled.

    Raises:
        UserError: a parameter out of its bounds.
    """

    name: ClassVar[str]
    bounds: ClassVar[Bounds]
    """Every parameter and the range it never leaves."""
    fitted: ClassVar[tuple[str, ...]]
    """The parameters that `fit` moves; all of them positive."""

    def __init__(self, **parameters: float) -> None:
        self.parameters = {name: self._checked(name, value) for name, value in parameters.items()}

    @abstractmethod
    def first(self, grade: Tensor) -> tuple[Tensor, Tensor]:
        """Strength and difficulty after the first visit."""

    @abstractmethod
    def visit(self, delay: Tensor, strength: Tensor, difficulty: Tensor, grade: Tensor) -> tuple[Tensor, Tensor]:
        """Strength and difficulty after another visit, `delay` after the last."""

    @abstractmethod
    def curve(self, parameters: Parameters, delay: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        """The share of what was remembered that is left under these parameters, 1 to 0; delays are at least 0."""

    @abstractmethod
    def delay_of(self, share: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        """The delay after which that share is left: the curve's inverse. Shares are below 1."""

    def left(self, delay: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        """The share of what was remembered that is left after a delay, 1 to 0; a negative delay counts as none."""
        return self.curve(self.parameters, delay.clamp(min=0), strength, difficulty)

    def recall(self, delay: Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        """The probability of recall after a delay, 0 to 1: level times what is left."""
        return self.parameters["level"] * self.left(delay, strength, difficulty)

    def interval(self, retention: float | Tensor, strength: Tensor, difficulty: Tensor) -> Tensor:
        """The delay at which recall has fallen to `retention` (0 to 1, both excluded): 0 to FOREVER clock units.

        0 where recall is below it from the start.
        """
        wanted = torch.as_tensor(retention, dtype=strength.dtype, device=strength.device) / self.parameters["level"]
        delay = self.delay_of(wanted.clamp(max=NEARLY_ALL), strength, difficulty).clamp(0, FOREVER)
        return torch.where(wanted < 1, delay, 0.0)

    def fit(self, record: Record) -> None:
        """Move the curve's parameters towards where what was observed is most likely, part of the way.

        Looks at examples that had been recalled at their last visit: the others do not follow a forgetting curve (they
        are right next time with about the same probability after any delay), and the calibration link has a place for
        them. A large record is thinned to the same rows each time. Nothing to look at: nothing changes.
        """
        seen = record.thinned(MOST_ROWS).double()
        seen = seen.at(seen.streak > 0)
        if not len(seen):
            return

        def probability(values: list[float]) -> Tensor:
            parameters = self.parameters | dict(zip(self.fitted, values, strict=True))
            left = self.curve(parameters, seen.delay.clamp(min=0), seen.strength, seen.difficulty)
            return parameters["level"] * left

        start = [self.parameters[name] for name in self.fitted]
        bounds = [self.bounds[name] for name in self.fitted]
        moved = likelihood.climb(probability, start, bounds, seen.recalled.double(), rate=FOLLOW)
        self.parameters.update(zip(self.fitted, moved, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """The model's name and its parameters, plain numbers."""
        return {"name": self.name, "parameters": dict(self.parameters)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the parameters of a saved model.

        Raises:
            UserError: they belong to another model or are out of bounds; nothing has changed.
        """
        saved = dict(state.get("parameters", {}))
        if state.get("name") != self.name or saved.keys() != self.parameters.keys():
            raise UserError(
                f"memory {self.name}: the saved state is of {state.get('name')!r}", allowed=", ".join(self.parameters)
            )
        self.parameters = {name: self._checked(name, value) for name, value in saved.items()}

    def _checked(self, name: str, value: Any) -> float:
        low, high = self.bounds[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise UserError(f"memory {self.name}: {name} cannot be {value!r}", allowed=f"from {low:g} to {high:g}")
        return float(value)
