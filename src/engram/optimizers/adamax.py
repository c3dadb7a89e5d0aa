"""Adam by the largest gradient instead of the mean square: a step is never longer than the rate.

    m <- β₁m + (1 - β₁) g            u <- max(β₂u, |g| + ε)
    w <- w - α / (1 - β₁ᵗ) m / u

Adam divides by the root of a mean of squares; with the p-th power and p growing without bound that mean becomes a
maximum that fades. u needs no correction for its start. A gradient that is rarely not zero keeps its u for long: good
for embeddings. It hurts where one outlier of a gradient holds its weight back for 1 / (1 - β₂) steps.

The paper's settings: α = 0.002, β = (0.9, 0.999). Where we differ: torch adds ε = 1e-8 inside the maximum, where the
paper has none and divides 0 by 0 for a weight that never had a gradient; our α is the peak of a one-cycle schedule;
decay, where wanted, is part of g.

Kingma and Ba 2015, Adam: a method for stochastic optimization, arXiv:1412.6980, section 7.1, algorithm 2.
"""

import torch
from torch.optim import Optimizer

from engram.optimizers.checks import check, pair
from engram.optimizers.fused import Parameters, fast
from engram.registry import register
from engram.regularizers import decay_groups


@register("optimizer", paper="Kingma and Ba 2015, section 7.1, algorithm 2", year=2015, lr=0.01)
def adamax(
    parameters: Parameters,
    *,
    lr: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> Optimizer:
    """Adam by the largest gradient instead of the mean square: a step is never longer than the rate.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = adamax([w], lr=0.01)
    >>> (5 * w).backward(); optimizer.step(); round(w.item(), 4)
    0.99
    """
    check("adamax", lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    return torch.optim.Adamax(groups, lr=lr, betas=pair(betas), eps=eps, **fast(groups))
