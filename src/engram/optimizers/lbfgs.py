"""Newton's direction from the last few steps, without a Hessian; the whole training set at once.

    w <- w + αd,   d = -Hg,   H = (I - ρsyᵀ) H (I - ρysᵀ) + ρssᵀ for each remembered pair, from (sᵀy / yᵀy) I

where s is a step, y the change of the gradient over it, ρ = 1 / yᵀs. Few parameters and little data: no rate to
find, and a quarter of Adam's gradient evaluations. Needs about 2 history_size + 5 times the parameters' memory. The
pairs compare gradients, so noise ruins them: never on small batches. Batch normalisation's running statistics mix
all the points a search has tried; more steps settle them.

One step is `max_iter` iterations, each with a search along d for the strong Wolfe conditions (Nocedal and Wright,
algorithm 3.5); without `line_search` the step along d is α. `optimizer.step(closure)` takes a closure that clears
the gradients, computes the mean loss of all examples and its gradients, and returns it.

Liu and Nocedal 1989, On the limited memory BFGS method for large scale optimization, algorithm 2.1. Nocedal and Wright
2006, Numerical optimization, algorithms 7.4 and 3.5.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from engram.optimizers.checks import check
from engram.optimizers.fused import Parameters
from engram.registry import register
from engram.regularizers import decay_groups


@register("optimizer", paper="Liu and Nocedal 1989, algorithm 2.1", year=1989, lr=1.0, closure=True, full_batch=True)
def lbfgs(
    parameters: Parameters,
    *,
    lr: float = 1.0,
    max_iter: int = 20,
    history_size: int = 10,
    line_search: bool = True,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> Optimizer:
    """Newton's direction from the last few steps, without a Hessian; the whole training set at once.

    >>> w = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    >>> optimizer = lbfgs([w])
    >>> def closure():
    ...     optimizer.zero_grad(); loss = ((w - 1.0) ** 2 * torch.tensor([1.0, 100.0])).sum(); loss.backward()
    ...     return loss
    >>> optimizer.step(closure).item(), [round(value, 3) for value in w.tolist()]
    (904.0, [1.0, 1.0])
    """
    check("lbfgs", lr=lr, max_iter=max_iter, history_size=history_size, line_search=line_search)
    check("lbfgs", weight_decay=weight_decay, decay_all=decay_all)
    parameters = list(parameters)  # torch's takes one group only, so the decay knows its weights apart from it
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    search = "strong_wolfe" if line_search else None
    return _LBFGS(
        parameters, groups, lr=lr, max_iter=int(max_iter), history_size=int(history_size), line_search_fn=search
    )


class _LBFGS(torch.optim.LBFGS):
    """torch's, with weight decay as ½λ‖w‖² in the loss, and for gradients in any memory format."""

    def __init__(self, parameters: list[Tensor], decay_groups: list[dict[str, Any]], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        self.decay_groups = decay_groups

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Run `max_iter` iterations; returns the closure's loss before them, without the decay's part."""
        losses: list[Tensor] = []

        def objective() -> Tensor:
            loss = closure().detach()
            losses.append(loss)
            for group in self.decay_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    loss = loss + 0.5 * group["weight_decay"] * p.detach().square().sum()
                    p.grad = p.grad.add(p.detach(), alpha=group["weight_decay"]).contiguous()  # torch views them flat
            return loss

        super().step(objective)
        return losses[0]
