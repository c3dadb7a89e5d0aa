"""Naming every step of a signal: the loss of a signal is the mean over its steps that count.

    loss = mean over t of -log softmax(scores_t)[y_t],    y_t below 0 (`IGNORED`) does not count

The same comparison as for a text (`engram.tasks.write`), whose next token is the label of each step; nothing is carried
from one signal to the next. Graves 2012, Supervised sequence labelling with recurrent neural networks, section 2.2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from engram.augment.compose import Batch
from engram.tasks.task import Autocast, Measured
from engram.tasks.write import losses, share_right


@dataclass(frozen=True)
class Label:
    """Naming every step, as the loop asks for it.

    Args:
        smoothing: share of the target spread evenly over the classes.
    """

    smoothing: float = 0.0

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
        """See `Task`. `y`: (B, T) classes, `IGNORED` where a step does not count."""
        with autocast():
            scores = net(batch.x[part])  # (b, T, K)
        found = losses(scores, y[part], smoothing=self.smoothing)
        alone = found.detach()
        return Measured(found, alone, alone, share_right(scores, y[part]), scores)

    def join(self, carried: Sequence[Any]) -> None:
        """Nothing goes from one batch to the next."""

    def rank(self, figures: Mapping[str, float]) -> tuple[float, ...]:
        """Accuracy first, then the loss."""
        return figures["accuracy"], -figures["loss"]
