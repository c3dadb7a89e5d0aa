"""AdaGrad whose sum fades and whose steps have the units of the weights, so that no rate has to be found.

    s <- ρs + (1 - ρ) g²
    d = √(u + ε) / √(s + ε) g,   u <- ρu + (1 - ρ) d²
    w <- w - α d

A step of `rmsprop` has no units: α carries them. Here the size of the last steps, √u, does, as a Newton step's would.
u starts at 0, so the first steps are of size √ε, and the method takes a while to trust itself: a larger ε, or an α
above 1, starts it sooner. It helps where no rate is known at all. It hurts in short runs, and with a schedule there is
an α again.

The paper's settings: ρ = 0.95, ε = 1e-6, α = 1. Where we differ: ρ = 0.9 and ε = 1e-6 as torch, and α = 3, which makes
up for the slow start in runs of a few epochs; decay, where wanted, is part of g.

Zeiler 2012, ADADELTA: an adaptive learning rate method, arXiv:1212.5701, algorithm 1.
"""

import torch
from torch.optim import Optimizer

from engram.optimizers.checks import check
from engram.optimizers.fused import Parameters, fast
from engram.registry import register
from engram.regularizers import decay_groups


@register("optimizer", paper="Zeiler 2012, arXiv:1212.5701, algorithm 1", year=2012, lr=3.0)
def adadelta(
    parameters: Parameters,
    *,
    lr: float = 3.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> Optimizer:
    """AdaGrad whose sum fades and whose steps have the units of the weights, so that no rate has to be found.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = adadelta([w], lr=1.0, rho=0.75, eps=1e-4)
    >>> (5 * w).backward(); optimizer.step(); round(w.item(), 4)
    0.98
    """
    check("adadelta", lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    return torch.optim.Adadelta(groups, lr=lr, rho=rho, eps=eps, **fast(groups))
