"""Momentum made orthogonal: every direction of a layer's step gets the same length, the rare ones too.

    m <- ρm + (1 - ρ) g,   u = (1 - ρ) g + ρm
    O = UVᵀ of u = U S Vᵀ, approximately:   X <- aX + (bA + cA²) X,  A = XXᵀ,  five times from X = u / ‖u‖
    w <- (1 - αλ) w - 0.2 √max(rows, columns) α O

The step of a layer is a matrix, and a few of its directions usually outweigh the rest. Setting all singular values to
one is what Shampoo does to it, (GGᵀ)^(-1/4) G (GᵀG)^(-1/4), when it keeps no history: here without its roots and
inverses, by five products that push singular values to between 0.7 and 1.2. (a, b, c) = (3.4445, -4.7750, 2.0315)
are chosen to raise small ones fast, not to converge.

It helps wide layers and large batches, where it needs fewer steps than Adam, and one value of state a weight instead of
two. On small networks its products cost more than the rest of the step. A convolution's kernel is taken as the matrix
(out, in x positions). Biases and scales, which have one direction, go by `adamw` at the same rate; the factor 0.2 √max
gives matrices the size of its steps.

Why it and not K-FAC or Shampoo: both of those come from packages that would have to be installed beside torch, and
K-FAC must know every kind of layer; torch has Muon itself. Its class takes only matrices and orthogonalises in
bfloat16; ours takes any shape and stays in the weights' own type, and agrees with it to bfloat16's digits.
The author's settings: ρ = 0.95, and α = 0.02 without the factor; torch has λ = 0.1. Where we differ: the first and
last layer are treated as all others, where the author leaves them to AdamW.

Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks. Liu et al. 2025, arXiv:2502.16982, section
2.2 (the factor). Bernstein and Newhouse 2024, arXiv:2409.20325, section 2 (Shampoo without history). Gupta, Koren,
Singer 2018, arXiv:1802.09568 (Shampoo).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from engram.optimizers.checks import check, pair
from engram.optimizers.fused import Parameters
from engram.registry import register
from engram.regularizers import decay_groups

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
TINY = 1e-7


@register(
    "optimizer", paper="Jordan et al. 2024, Muon; Liu et al. 2025, arXiv:2502.16982, section 2.2", year=2024, lr=0.03
)
def muon(
    parameters: Parameters,
    *,
    lr: float = 0.03,
    momentum: float = 0.95,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.05,
    decay_all: bool = False,
) -> Optimizer:
    """Momentum made orthogonal: every direction of a layer's step gets the same length, the rare ones too.

    Args:
        momentum: ρ of the matrices.
        betas, eps: of AdamW, for biases and scales.

    >>> w = torch.nn.Parameter(torch.eye(2)); optimizer = muon([w], lr=0.1, weight_decay=0.0)
    >>> w.grad = torch.tensor([[3.0, 0.0], [0.0, 3.0]]); optimizer.step(); bool((w.diagonal() < 0.99).all())
    True
    """
    check("muon", lr=lr, momentum=momentum, betas=betas, eps=eps, weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    return Muon(groups, {"lr": lr, "momentum": momentum, "betas": pair(betas), "eps": eps})


class Muon(Optimizer):
    """Muon for weights with two axes or more, AdamW for the others."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; calls the closure first where there is one, and returns what it gave."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                p.mul_(1 - group["lr"] * group["weight_decay"])
                (self._matrix if p.ndim > 1 else self._vector)(p, p.grad, group)
        return loss

    def _matrix(self, p: Tensor, g: Tensor, group: dict) -> None:
        m = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
        m.lerp_(g, 1 - group["momentum"])
        ahead = g.lerp(m, group["momentum"]).flatten(1)  # (rows, columns)
        length = group["lr"] * 0.2 * max(ahead.shape) ** 0.5
        p.sub_(orthogonal(ahead).view_as(p), alpha=length)

    def _vector(self, p: Tensor, g: Tensor, group: dict) -> None:
        state, (first, second) = self.state[p], group["betas"]
        m = state.setdefault("exp_avg", torch.zeros_like(p)).lerp_(g, 1 - first)
        v = state.setdefault("exp_avg_sq", torch.zeros_like(p)).lerp_(g.square(), 1 - second)
        state["step"] = state.get("step", 0) + 1
        root = (v / (1 - second ** state["step"])).sqrt_().add_(group["eps"])
        p.addcdiv_(m, root, value=-group["lr"] / (1 - first ** state["step"]))


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix (rows, columns) with its singular values pushed to about one.

    >>> values = orthogonal(torch.diag(torch.tensor([5.0, 0.5]))).diagonal()
    >>> bool(((values > 0.6) & (values < 1.3)).all())
    True
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=TINY)
    for _ in range(ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x
