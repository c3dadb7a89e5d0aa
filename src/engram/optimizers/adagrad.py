"""A rate for each weight that falls with all it has been through.

    s <- s + g²
    w <- w - α g / (√s + ε)

Helps where some inputs are rare: their weights keep a high rate. The sum only grows, so the rate of a steady
gradient falls as 1/√t: right for convex problems, too early an end on long runs of deep networks.
Decay, where wanted, is part of g.

Duchi, Hazan, Singer 2011, Adaptive subgradient methods for online learning and stochastic optimization, JMLR 12,
section 1.1 (the diagonal form).
"""

import torch
from torch.optim import Optimizer

from engram.optimizers.checks import check
from engram.optimizers.fused import Parameters, aligned, fast
from engram.registry import register
from engram.regularizers import decay_groups


@register("optimizer", paper="Duchi et al. 2011, section 1.1", year=2011, lr=0.02)
def adagrad(
    parameters: Parameters,
    *,
    lr: float = 0.02,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> Optimizer:
    """A rate for each weight that falls with all it has been through.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = adagrad([w], lr=0.1)
    >>> (5 * w).backward(); optimizer.step(); round(w.item(), 4)
    0.9
    """
    check("adagrad", lr=lr, eps=eps, weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    return aligned(torch.optim.Adagrad(groups, lr=lr, eps=eps, **fast(groups, "cpu", "cuda")))
