"""AdaGrad with a memory that fades, so the rate does not run out.

    s <- γs + (1 - γ) g²             γ is `alpha`
    w <- w - α g / (√s + ε)

Helps where AdaGrad stalls. s starts at 0, so the first steps are larger, up to 1 / √(1 - γ) times α: the warm-up
of the schedule is for them. `centered` subtracts the squared mean gradient from s (Graves 2013), `momentum` adds
the steps up. The lecture's γ is 0.9; 0.99, torch's, learned faster here at every rate.

Tieleman and Hinton 2012, Coursera: Neural networks for machine learning, lecture 6.5. Graves 2013, arXiv:1308.0850,
equations 38-45 (centred, with momentum).
"""

import torch
from torch.optim import Optimizer

from engram.optimizers.checks import check
from engram.optimizers.fused import Parameters, fast
from engram.registry import register
from engram.regularizers import decay_groups


@register("optimizer", paper="Tieleman and Hinton 2012, Coursera lecture 6.5", year=2012, lr=0.002)
def rmsprop(
    parameters: Parameters,
    *,
    lr: float = 0.002,
    alpha: float = 0.99,
    momentum: float = 0.0,
    centered: bool = False,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> Optimizer:
    """AdaGrad with a memory that fades, so the rate does not run out.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = rmsprop([w], lr=0.01, alpha=0.75)
    >>> (5 * w).backward(); optimizer.step(); round(w.item(), 4)
    0.98
    """
    check("rmsprop", lr=lr, alpha=alpha, momentum=momentum, centered=centered, eps=eps)
    check("rmsprop", weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    return torch.optim.RMSprop(
        groups, lr=lr, alpha=alpha, eps=eps, momentum=momentum, centered=centered, **fast(groups)
    )
