"""Adam with Nesterov's momentum: the velocity of the next step is used in this one.

    μₜ = β₁ (1 - ½ 0.96^(tψ))                           ψ is `momentum_decay`
    m <- β₁m + (1 - β₁) g                               v <- β₂v + (1 - β₂) g²
    m̂ = μₜ₊₁ m / (1 - μ₁…μₜ₊₁) + (1 - μₜ) g / (1 - μ₁…μₜ)
    w <- w - α m̂ / (√(v / (1 - β₂ᵗ)) + ε)

What `nesterov` is to `momentum`, NAdam is to `adam`: the present gradient weighs more, so a velocity that points wrong
is noticed a step earlier. μ warms up from half of β₁ to all of it over some thousand steps. It helps a little where
Adam is noisy early; where Adam works it is no different. Its rate does not anneal by itself either.

The paper's settings: α = 0.002, β = (0.975, 0.999), ψ = 0.004. Where we differ: β₁ = 0.9 as torch and Adam; our α is
the peak of a one-cycle schedule; decay, where wanted, is part of g.

Dozat 2016, Incorporating Nesterov momentum into Adam, ICLR workshop, algorithm 2.
"""

import torch
from torch.optim import Optimizer

from engram.optimizers.checks import check, pair
from engram.optimizers.fused import Parameters, fast
from engram.registry import register
from engram.regularizers import decay_groups


@register("optimizer", paper="Dozat 2016, Incorporating Nesterov momentum into Adam, algorithm 2", year=2016, lr=0.003)
def nadam(
    parameters: Parameters,
    *,
    lr: float = 0.003,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    momentum_decay: float = 0.004,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> Optimizer:
    """Adam with Nesterov's momentum: the velocity of the next step is used in this one.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = nadam([w], lr=0.01)
    >>> (5 * w).backward(); optimizer.step(); round(w.item(), 4)
    0.9894
    """
    check("nadam", lr=lr, betas=betas, eps=eps, momentum_decay=momentum_decay)
    check("nadam", weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    return torch.optim.NAdam(groups, lr=lr, betas=pair(betas), eps=eps, momentum_decay=momentum_decay, **fast(groups))
