"""Naming what an image shows: the loss of each example, and whether it was named right.

The loss of an example is the cross-entropy between its target t and p = softmax(logits): -Σ_k t_k log p_k.

- With label smoothing ε the target is (1 - ε) at the class and ε / K spread over all K of them (the class included):
  the loss becomes (1 - ε) (-log p_y) + ε mean_k(-log p_k). It keeps the logits from growing without end; it hurts where
  the probabilities of the wrong classes are wanted, as in distillation.
- With mixup the target is w at the example's own class and 1 - w at its partner's. The loss is linear in the target,
  so it is w times the one plus 1 - w times the other, and no target of K numbers is ever made.

Szegedy et al. 2016, "Rethinking the Inception architecture", section 7. Zhang et al. 2018, "mixup", equation 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.augment.compose import Batch
from engram.layers.auxiliary import Scores
from engram.tasks.task import Autocast, Measured


def losses(
    logits: Tensor,
    y: Tensor,
    *,
    smoothing: float = 0.0,
    other: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of each example, in at least 32 bits whatever the logits come in.

    Args:
        logits: (B, K).
        y: (B,) classes, integers.
        smoothing: share of the target spread evenly over the classes, from 0 up to 1.
        other: (B,) class of the example mixed in; given together with `weight`.
        weight: (B,) share of the own class.

    Returns:
        (B,) float32 (float64 for float64 logits), nats.

    >>> losses(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([1, 0]))
    tensor([0.6931, 0.1269])
    """
    logs = F.log_softmax(logits, dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))  # (B, K)
    loss = F.nll_loss(logs, y, reduction="none")  # (B,)
    if other is not None:
        if weight is None:
            raise ValueError("another class comes with a weight")
        loss = torch.lerp(F.nll_loss(logs, other, reduction="none"), loss, weight.to(loss.dtype))
    if smoothing:
        loss = torch.lerp(loss, -logs.mean(dim=1), smoothing)
    return loss


def correct(logits: Tensor, y: Tensor) -> Tensor:
    """Whether the largest logit is that of the class, for each example: (B,) truth values, on the logits' device.

    >>> correct(torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([1, 1]))
    tensor([ True, False])
    """
    return logits.argmax(dim=1) == y


@dataclass(frozen=True)
class Classify:
    """Naming what an image shows, as the loop asks for it.

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
        """See `Task`. Of a mixed picture, what it shows of the one that is the larger part of it is remembered."""
        with autocast():
            given = net(batch.x[part])
        scores, heads = (given.main, given.auxiliary) if isinstance(given, Scores) else (given, ())
        other = None if batch.partner is None else y[batch.partner][part]
        weight = None if batch.weight is None else batch.weight[part]

        def losses_of(logits: Tensor) -> Tensor:
            return losses(logits, y[part], smoothing=self.smoothing, other=other, weight=weight)

        found = objective = losses_of(scores)
        for logits in heads:
            objective = objective + given.weight * losses_of(logits)
        alone, right = found.detach(), correct(scores, y[part])
        if other is not None and weight is not None:
            larger = torch.where(weight >= 0.5, y[part], other)
            alone = losses(scores.detach(), larger, smoothing=self.smoothing)
            # in the shares of the labels: more than half where the answer is that of the larger part
            right = torch.lerp(correct(scores, other).float(), right.float(), weight)
        return Measured(objective, found.detach(), alone, right, scores)

    def join(self, carried: Sequence[Any]) -> None:
        """Nothing goes from one batch to the next."""

    def rank(self, figures: Mapping[str, float]) -> tuple[float, ...]:
        """Accuracy first, then the loss."""
        return figures["accuracy"], -figures["loss"]
