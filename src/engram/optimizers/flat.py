"""What methods that evaluate the loss themselves share: all weights as one vector, and decay as part of the loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from engram.curvature import flat, matrix_bytes, parted
from engram.errors import UserError

LossOf = Callable[[], Any]
"""Runs the network on the whole batch; gives the mean loss with its graph, or that and the outputs it is made of."""


@dataclass(frozen=True)
class Evaluation:
    """A loss at one place: the data's, the same with the decay's part and its graph, and the outputs if given."""

    loss: Tensor
    objective: Tensor
    outputs: Tensor | None


class Flat(Optimizer):
    """An optimizer over one vector of all weights that can be trained."""

    def weights(self) -> list[Tensor]:
        """The weights that can be trained, in order."""
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    def read(self) -> Tensor:
        """Where the weights are (n,)."""
        return flat(p.detach() for p in self.weights()).clone()

    @torch.no_grad()
    def write(self, vector: Tensor) -> None:
        """Put the weights at `vector` (n,)."""
        for p, part in zip(self.weights(), parted(vector, self.weights()), strict=True):
            p.copy_(part)

    def decay(self) -> Tensor:
        """The decay of every weight (n,)."""
        return torch.cat(
            [
                torch.full((p.numel(),), group["weight_decay"], dtype=p.dtype, device=p.device)
                for group in self.param_groups
                for p in group["params"]
                if p.requires_grad
            ]
        )

    def evaluate(self, loss_of: LossOf) -> Evaluation:
        """The loss where the weights are, with its graph."""
        with torch.enable_grad():
            given = loss_of()
            loss, outputs = given if isinstance(given, tuple) else (given, None)
            objective = loss
            for group in self.param_groups:
                for p in group["params"]:
                    if group["weight_decay"] and p.requires_grad:
                        objective = objective + 0.5 * group["weight_decay"] * p.square().sum()
        return Evaluation(loss.detach(), objective, outputs)

    def objective_at(self, vector: Tensor, loss_of: LossOf) -> Tensor:
        """The loss with the decay's part at `vector` (n,), where the weights then are."""
        self.write(vector)
        return self.evaluate(loss_of).objective.detach()


def refuse_large(optimizer: str, parameters: list[Tensor], largest: int, instead: str) -> None:
    """Refuse more weights than a method with a matrix over all of them is meant for, saying what it would take.

    Raises:
        UserError: there are more than `largest`.
    """
    count = sum(p.numel() for p in parameters if p.requires_grad)
    if count > largest:
        memory = matrix_bytes(count, bytes_each=max(p.element_size() for p in parameters))
        raise UserError(
            f"optimizer {optimizer} keeps a matrix over all weights: {count:,} of them would take {_amount(memory)}",
            allowed=f"networks of at most {largest:,} weights (optimizer.largest)",
            then=f"--optimizer.name {instead}",
        )


def _amount(memory: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if memory < 1000:
            return f"{memory:.3g} {unit}"
        memory /= 1000
    return f"{memory:.3g} PB"
