"""Heavy ball: steps add up along a valley and cancel across it.

    b <- ρb + g + λw
    w <- w - αb

The velocity b starts at 0 and reaches 1 / (1 - ρ) times a steady gradient: ρ = 0.9 makes α worth ten times as much.
Helps on ill-conditioned losses and carries over small bumps; overshoots where the minimum is sharp. Sutskever and
others keep α inside the velocity (v <- ρv - αg), which differs only while α changes.
ResNets take α = 0.1, networks without normalisation 0.01 to 0.05.

Polyak 1964, Some methods of speeding up the convergence of iteration methods. Sutskever, Martens, Dahl, Hinton 2013, On
the importance of initialization and momentum in deep learning, equations 1-2. CS231n 2017, lecture 7.
"""

import torch
from torch.optim import Optimizer

from engram.optimizers.checks import check
from engram.optimizers.fused import Parameters, aligned, fast
from engram.registry import register
from engram.regularizers import decay_groups


@register("optimizer", paper="Polyak 1964; Sutskever et al. 2013, equations 1-2", year=1964, lr=0.05)
def momentum(
    parameters: Parameters,
    *,
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    decay_all: bool = False,
) -> Optimizer:
    """Heavy ball: steps add up along a valley and cancel across it.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = momentum([w], lr=0.1, weight_decay=0.0)
    >>> for _ in range(2):
    ...     optimizer.zero_grad(); (w**2).backward(); optimizer.step()
    >>> round(w.item(), 4)
    0.46
    """
    check("momentum", lr=lr, momentum=momentum, weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    return aligned(torch.optim.SGD(groups, lr=lr, momentum=momentum, **fast(groups, "cpu", "cuda", "mps")))
