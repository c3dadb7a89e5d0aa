"""Newton's method: jump to where a parabola through the loss has its minimum.

    d = -(H + μI)⁻¹ g,   w <- w + t α d,   t = 1, halved while the loss does not fall by 1e-4 of what the slope promises

It asks for no rate: α is 1. Near a minimum the number of right digits doubles with every step, whatever the condition
number. On a quadratic one step is enough. Far away, or where the loss bends down, the parabola has no minimum: then μ,
0 at first, is raised until the matrix is positive (Cholesky's factorisation succeeds), which turns the step towards the
gradient. Saddles draw the undamped method in; this one goes downhill.

The Hessian is exact, a product for every weight, and takes n² values: 15.2 GB for LeNet-5, 76.6 PB for VGG-16, and n³
operations to solve. That is why it is refused above `largest` weights, and why the approximations exist: `lbfgs` and
`bfgs` build the inverse from gradients, `hessian_free` only multiplies by it. On batches it fits the batch's noise; so
the whole training set is the batch. The schedule is `constant` unless told otherwise: any factor below 1 on a step
that needs no rate only slows it. Softmax regression on the digits (650 weights, decay 0.002 on all) reaches a gradient
of 6.9e-11 in 6 steps: 8.6e-2, 4.4e-2, 7.3e-3, 4.1e-4, 2.1e-6, 6.9e-11.

`optimizer.step(loss_of)` takes a function that gives the mean loss of all examples with its graph.

Nocedal and Wright 2006, Numerical optimization, algorithms 3.2 and 3.3 (line search, added multiple of the identity).
Boyd and Vandenberghe 2004, Convex optimization, section 9.5 (damped and quadratically convergent phases).
"""

import torch
from torch import Tensor
from torch.optim import Optimizer

from engram.curvature import hessian
from engram.optimizers.checks import check
from engram.optimizers.flat import Flat, LossOf, refuse_large
from engram.optimizers.fused import Parameters
from engram.registry import register
from engram.regularizers import decay_groups

PROMISE = 1e-4  # share of the fall that the slope promises which a step has to bring
HALVINGS = 30


@register(
    "optimizer",
    paper="Nocedal and Wright 2006, Numerical optimization, algorithms 3.2 and 3.3",
    year=2006,
    lr=1.0,
    closure=True,
    full_batch=True,
    whole_matrix=True,
)
def newton(
    parameters: Parameters,
    *,
    lr: float = 1.0,
    damping: float = 0.0,
    largest: int = 5000,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> Optimizer:
    """Newton's method: jump to where a parabola through the loss has its minimum.

    Args:
        damping: μ to begin every step with.
        largest: number of weights above which it is refused.

    >>> w = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    >>> optimizer = newton([w])
    >>> loss = optimizer.step(lambda: ((w - 1.0) ** 2 * torch.tensor([1.0, 100.0])).sum())
    >>> loss.item(), [round(value, 4) for value in w.tolist()]
    (904.0, [1.0, 1.0])
    """
    check("newton", lr=lr, damping=damping, largest=largest, weight_decay=weight_decay, decay_all=decay_all)
    parameters = list(parameters)
    refuse_large("newton", parameters, int(largest), "lbfgs")
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    return Newton(groups, {"lr": lr, "damping": damping})


class Newton(Flat):
    """Exact Newton steps, damped where they have to be."""

    needs_loss = True

    def step(self, loss_of: LossOf) -> Tensor:  # type: ignore[override]
        """One step; returns the loss before it, without the decay's part."""
        group, start = self.param_groups[0], self.read()
        here = self.evaluate(loss_of)
        g, curvature = hessian(here.objective, self.weights())
        direction = -solve(curvature, g, group["damping"])
        self.backtrack(loss_of, start, group["lr"] * direction, here.objective.detach(), g)
        return here.loss

    def backtrack(self, loss_of: LossOf, start: Tensor, step: Tensor, before: Tensor, g: Tensor) -> None:
        """Go the step, or half of it again and again until the loss falls enough; else stay."""
        noise = torch.finfo(start.dtype).eps * before.abs()
        for _ in range(HALVINGS):
            after = self.objective_at(start + step, loss_of)
            if after <= before + PROMISE * (g @ step) + noise:
                return
            step = step / 2
        self.write(start)


def solve(matrix: Tensor, right: Tensor, damping: float) -> Tensor:
    """(matrix + μI)⁻¹ right with the first μ, from `damping` up, that makes the matrix positive.

    >>> solve(torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.tensor([2.0, 2.0]), 0.0)
    tensor([1.0000, 0.5000])
    """
    scale = matrix.diagonal().abs().max().item() or 1.0
    smallest, μ = 1e-6 * scale, damping
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    while True:
        factor, failed = torch.linalg.cholesky_ex(matrix + μ * identity)
        positive = not failed and factor.diagonal().min() ** 2 > torch.finfo(matrix.dtype).eps * scale
        if positive or not μ < 1e12 * scale:
            return torch.cholesky_solve(right.unsqueeze(1), factor).squeeze(1)
        μ = max(smallest, 10 * μ)
