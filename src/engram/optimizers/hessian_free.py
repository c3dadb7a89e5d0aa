"""Hessian-free optimisation: Newton's step by conjugate gradients, which only ever multiply by the matrix.

    (A + μI) d = -g  by conjugate gradients from 0.95 d_before,  A = Gauss-Newton, or Hessian
    r = (f(w + d) - f(w)) / (gᵀd + ½ dᵀAd)          r < 1/4: μ <- 3/2 μ       r > 3/4: μ <- 2/3 μ

Conjugate gradients need a product a step, which costs about two backward passes, and find the directions that matter
first; a hundred of them stand for the n³ operations of `newton`. They stop when the last tenth of them improved the
parabola by less than 0.0005 a step. μ says how far the parabola is trusted: r compares the fall it promised with the
fall that came.

It helps deep autoencoders and other losses with long curved valleys, which plain gradients crawl along; it was the
first to train them without pre-training. It hurts on small batches, whose curvature is noise, and costs a hundred
passes a step, for which Adam takes a hundred steps: on image classifiers it does not pay.

The Gauss-Newton matrix is never negative, so it is what the paper takes. It needs the network's outputs:
`optimizer.step(loss_of)` takes a function that gives the pair (mean loss, outputs), both with their graph. Where it
gives the loss alone the Hessian is multiplied by instead, and the iteration stops where that curves down (Steihaug
1983). The paper's settings: full batch, first μ 45 or so by problem, at most 250 iterations. Where we differ: our μ
begins at 0.1; no preconditioner; the iterates of the paper's backtracking are replaced by its line search, and a step
after which the loss is higher is not taken. On the digits, 15 steps of a 64-64-10 network end at a loss of 0.005 with
Gauss-Newton products and 0.26 with the Hessian's, whose parabola often bends down.

Martens 2010, Deep learning via Hessian-free optimization, sections 3 and 4. Nocedal and Wright 2006, algorithm 7.1.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from engram.curvature import Product, gauss_newton_product, hessian_product
from engram.optimizers.checks import check
from engram.optimizers.flat import Flat, LossOf
from engram.optimizers.fused import Parameters
from engram.registry import register
from engram.regularizers import decay_groups

KEPT = 0.95  # of the last direction, to begin the next search with
SHORTER = 0.8  # from one try of the line search to the next
TRIES = 40
PROMISE = 0.01


@register(
    "optimizer",
    paper="Martens 2010, Deep learning via Hessian-free optimization, sections 3 and 4",
    year=2010,
    lr=1.0,
    closure=True,
    full_batch=True,
)
def hessian_free(
    parameters: Parameters,
    *,
    lr: float = 1.0,
    max_iter: int = 100,
    damping: float = 0.1,
    tolerance: float = 5e-4,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> Optimizer:
    """Hessian-free optimisation: Newton's step by conjugate gradients, which only ever multiply by the matrix.

    Args:
        max_iter: products of one step at most.
        damping: μ of the first step; it then follows how well the parabola foretold the loss.
        tolerance: relative progress an iteration below which conjugate gradients stop.

    >>> w = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    >>> optimizer = hessian_free([w], damping=0.0)
    >>> loss = optimizer.step(lambda: ((w - 1.0) ** 2 * torch.tensor([1.0, 100.0])).sum())
    >>> loss.item(), [round(value, 3) for value in w.tolist()]
    (904.0, [1.0, 1.0])
    """
    check("hessian_free", lr=lr, max_iter=max_iter, damping=damping, tolerance=tolerance)
    check("hessian_free", weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    return HessianFree(groups, {"lr": lr, "max_iter": int(max_iter), "damping": damping, "tolerance": tolerance})


class HessianFree(Flat):
    """Truncated Newton steps whose damping adapts."""

    needs_loss = True

    def step(self, loss_of: LossOf) -> Tensor:  # type: ignore[override]
        """One step; returns the loss before it, without the decay's part."""
        group, state = self.param_groups[0], self.state[self.weights()[0]]
        start, here = self.read(), self.evaluate(loss_of)
        g, curved = self._curved(here)
        before = here.objective.detach()

        def damped(v: Tensor) -> Tensor:
            return curved(v) + group["damping"] * v

        first = KEPT * state.get("direction", torch.zeros_like(g))
        direction = conjugate_gradients(damped, -g, first, most=group["max_iter"], tolerance=group["tolerance"])
        if g @ direction >= 0:  # the last direction misled it
            direction = conjugate_gradients(
                damped, -g, torch.zeros_like(g), most=group["max_iter"], tolerance=group["tolerance"]
            )
        state["direction"] = direction
        foretold = g @ direction + 0.5 * direction @ curved(direction)
        came = self.objective_at(start + direction, loss_of) - before
        ratio = came / foretold
        if foretold >= 0 or not ratio >= 0.25:
            group["damping"] = 1.5 * group["damping"] or 1e-3
        elif ratio > 0.75:
            group["damping"] = group["damping"] / 1.5
        self._shorten(loss_of, start, group["lr"] * direction, before, g)
        return here.loss

    def _curved(self, here) -> tuple[Tensor, Product]:
        """The gradient and the curvature of the objective; the decay's part of a Gauss-Newton matrix is its own."""
        if here.outputs is None:
            return hessian_product(here.objective, self.weights())
        decay = self.decay()
        whole = here.objective  # the decay's part does not pass through the outputs, and its slope is in the gradient
        g, product = gauss_newton_product(whole, here.outputs, self.weights())
        return g, lambda v: product(v) + decay * v

    def _shorten(self, loss_of: LossOf, start: Tensor, step: Tensor, before: Tensor, g: Tensor) -> None:
        """Go the step, or a fifth less of it again and again until the loss falls enough; else stay."""
        noise = torch.finfo(start.dtype).eps * before.abs()
        for _ in range(TRIES):
            after = self.objective_at(start + step, loss_of)
            if after <= before + PROMISE * (g @ step) + noise:
                return
            step = SHORTER * step
        self.write(start)


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], right: Tensor, start: Tensor, *, most: int, tolerance: float
) -> Tensor:
    """The solution x (n,) of a product(x) = right, or the best parabola's place so far where it curves down.

    >>> scale = torch.tensor([1.0, 4.0])
    >>> conjugate_gradients(lambda v: scale * v, torch.ones(2), torch.zeros(2), most=9, tolerance=1e-6)
    tensor([1.0000, 0.2500])
    """
    x = start
    residual = right - product(x)
    search, square = residual, residual @ residual
    heights = [(-0.5 * (right + residual) @ x).item()]
    for number in range(1, most + 1):
        if not square > 0:
            break
        bent = product(search)
        curvature = search @ bent
        if curvature <= 0:
            return search if number == 1 else x
        length = square / curvature
        x = x + length * search
        residual = residual - length * bent
        square, previous = residual @ residual, square
        search = residual + square / previous * search
        heights.append((-0.5 * (right + residual) @ x).item())
        window = max(10, number // 10)
        late = number > window and heights[-1] < 0
        if late and (heights[-1] - heights[-1 - window]) / heights[-1] < window * tolerance:
            break
    return x
