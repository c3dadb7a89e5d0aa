"""Momentum that looks ahead: first the step of the velocity, then the gradient where it leads, then a correction.

    b <- ρb + g + λw
    w <- w - α (g + λw + ρb)

Written with the gradient at w, where w is the point looked at: the same path as the paper's, shifted by ρ times the
velocity. A little steadier than `momentum` at the same rate, at no cost; hence the default of a run. With a
momentum of 0 it is `sgd`.

Nesterov 1983, A method for solving the convex programming problem with convergence rate O(1/k²). Sutskever et al.
2013, On the importance of initialization and momentum in deep learning, equations 3-4; Bengio et al. 2013,
arXiv:1212.0901, section 3.5 (the rewritten form).
"""

import torch
from torch.optim import Optimizer

from engram.optimizers.checks import check
from engram.optimizers.fused import Parameters, aligned, fast
from engram.registry import register
from engram.regularizers import decay_groups


@register("optimizer", paper="Nesterov 1983; Sutskever et al. 2013, equations 3-4", year=1983, lr=0.05)
def nesterov(
    parameters: Parameters,
    *,
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    decay_all: bool = False,
) -> Optimizer:
    """Momentum that looks ahead: first the step of the velocity, then the gradient where it leads, then a correction.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = nesterov([w], lr=0.1, weight_decay=0.0)
    >>> for _ in range(3):
    ...     optimizer.zero_grad(); (w**2).backward(); optimizer.step()
    >>> round(w.item(), 6)
    -0.108352
    """
    check("nesterov", lr=lr, momentum=momentum, weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    path = fast(groups, "cpu", "cuda", "mps")
    return aligned(torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, **path))
