"""What a task tells the training loop: the losses of a batch, and which figures are the better ones.

Classifying, captioning and writing share one loop. What differs is how a network's output becomes a loss for each
example, and what is carried from one batch to the next.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from engram.augment.compose import Batch

Autocast = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Measured:
    """What part of a batch gave.

    Args:
        objective: (b,) with its graph, what is minimised.
        losses: (b,) detached, what is shown as the loss.
        remembered: (b,) detached, what the review takes for each example's loss.
        correct: (b,) truth values, or the share of an example that is right.
        scores: what the network gave, for methods that differentiate it again.
        carried: what the next batch begins with.
    """

    objective: Tensor
    losses: Tensor
    remembered: Tensor
    correct: Tensor
    scores: Tensor
    carried: Any = None


class Task(Protocol):
    """A kind of work: classifying, captioning, writing."""

    def measure(
        self,
        net: nn.Module,
        batch: Batch,
        y: Tensor,
        part: slice,
        *,
        autocast: Autocast,
        indices: Tensor | None = None,
        carried: Any = None,
        done: float = 0.0,
    ) -> Measured:
        """Run the network on part of a batch and compare.

        Args:
            batch: what the network sees, whole.
            y: (B, ...) what it should say, whole.
            part: the rows that are run.
            indices: (B,) which examples these are, on the CPU.
            carried: what the step before left, whole.
            done: share of the training that is done, 0 to 1.
        """
        ...

    def join(self, carried: Sequence[Any]) -> Any:
        """What the parts of a batch leave, as one."""
        ...

    def rank(self, figures: Mapping[str, float]) -> tuple[float, ...]:
        """What makes weights the better ones: the larger tuple."""
        ...
