"""Momentum and a rate for each weight, both corrected for having started at 0.

    m <- β₁m + (1 - β₁) g            v <- β₂v + (1 - β₂) g²
    w <- w - α m̂ / (√v̂ + ε)          m̂ = m / (1 - β₁ᵗ),  v̂ = v / (1 - β₂ᵗ),  t from 1

Works nearly untuned and where gradients differ by orders of magnitude. Convolutional networks with normalisation
often end a little better with `nesterov`. Its rate does not anneal by itself: it needs a schedule as any other.
Decay inside the gradient is divided by √v̂ too and hardly decays; use `adamw` for it. The paper's α is 0.001 held
constant; a one-cycle peak can be three times that.

Without `bias_correction` m̂ and v̂ are m and v, which is only there to be seen: v starts a thousand times too small and m
ten times, so the first step is (1 - β₁) / √(1 - β₂) = 3.16 α long and the twelfth 6.57 α.

Kingma and Ba 2015, Adam: a method for stochastic optimization, arXiv:1412.6980, algorithm 1. Reddi, Kale, Kumar 2018,
arXiv:1904.09237 (`amsgrad`: v̂ never falls).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from engram.errors import UserError
from engram.optimizers.checks import check, pair
from engram.optimizers.fused import Parameters, aligned, fast
from engram.registry import register
from engram.regularizers import decay_groups


@register("optimizer", paper="Kingma and Ba 2015, algorithm 1", year=2015, lr=0.003)
def adam(
    parameters: Parameters,
    *,
    lr: float = 0.003,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    amsgrad: bool = False,
    bias_correction: bool = True,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> Optimizer:
    """Momentum and a rate for each weight, both corrected for having started at 0.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = adam([w], lr=0.01)
    >>> (5 * w).backward(); optimizer.step(); round(w.item(), 4)
    0.99
    """
    check("adam", lr=lr, betas=betas, eps=eps, amsgrad=amsgrad, weight_decay=weight_decay, decay_all=decay_all)
    check("adam", bias_correction=bias_correction)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    if not bias_correction:
        if amsgrad:
            raise UserError("optimizer adam: amsgrad is only there with bias_correction")
        return Uncorrected(groups, {"lr": lr, "betas": pair(betas), "eps": eps})
    path = fast(groups, "cpu", "cuda", "mps")
    return aligned(torch.optim.Adam(groups, lr=lr, betas=pair(betas), eps=eps, amsgrad=amsgrad, **path))


class Uncorrected(Optimizer):
    """Adam as it would be without the correction for having started at 0."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; calls the closure first where there is one, and returns what it gave."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                m = state.setdefault("exp_avg", torch.zeros_like(p))
                v = state.setdefault("exp_avg_sq", torch.zeros_like(p))
                g = p.grad.add(p, alpha=group["weight_decay"])
                m.mul_(first).add_(g, alpha=1 - first)
                v.mul_(second).addcmul_(g, g, value=1 - second)
                p.addcdiv_(m, v.sqrt().add_(group["eps"]), value=-group["lr"])
        return loss
