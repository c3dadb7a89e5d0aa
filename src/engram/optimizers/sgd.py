"""Stochastic gradient descent: a step against the gradient of one batch.

    w <- w - α (g + λw)

The yardstick of all others: nothing to remember, nothing to go wrong but the rate. Slow where the loss is steep in
one direction and flat in another, because the steep one bounds the rate. The default rate is several times that of
`momentum`, whose steps add up; more breaks small networks without normalisation.

Robbins and Monro 1951, A stochastic approximation method, Annals of Mathematical Statistics 22, 400-407.
Bottou 2010, Large-scale machine learning with stochastic gradient descent, section 2.
"""

import torch
from torch.optim import Optimizer

from engram.optimizers.checks import check
from engram.optimizers.fused import Parameters, aligned, fast
from engram.registry import register
from engram.regularizers import decay_groups


@register("optimizer", paper="Robbins and Monro 1951", year=1951, lr=0.3)
def sgd(parameters: Parameters, *, lr: float = 0.3, weight_decay: float = 5e-4, decay_all: bool = False) -> Optimizer:
    """Stochastic gradient descent: a step against the gradient of one batch.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = sgd([w], lr=0.1, weight_decay=0.0)
    >>> (w**2).backward(); optimizer.step(); round(w.item(), 4)
    0.8
    """
    check("sgd", lr=lr, weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    return aligned(torch.optim.SGD(groups, lr=lr, **fast(groups, "cpu", "cuda", "mps")))
