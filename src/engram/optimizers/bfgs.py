"""BFGS: the inverse of the Hessian, learned from how the gradient changes along the way.

    d = -Bg,   w <- w + td,   B <- (I - ρsyᵀ) B (I - ρysᵀ) + ρssᵀ,   s the step, y the change of g, ρ = 1 / yᵀs

Of all symmetric matrices that map y to s, the new B is the one closest to the old. It stays positive as long as yᵀs is,
which the strong Wolfe conditions of the search see to; a pair for which it is not is left out. After the first step B
starts from (yᵀs / yᵀy) I. On a quadratic of n weights with exact searches it finds the minimum in n steps and the true
inverse with it; near any minimum it converges faster than any fixed rate, from gradients alone.

It takes n² values and operations, instead of the n³ of `newton`; `lbfgs` keeps the last few pairs and takes 2 m n. It
helps small smooth problems: curve fits, softmax regression. It hurts on batches, whose noise goes into y, and behind
ReLUs it learns from kinks. So the whole training set is the batch, and networks above `largest` weights are refused.

One step of `optimizer.step(closure)` is `max_iter` iterations, as for `lbfgs`; the closure clears the gradients,
computes the mean loss of all examples and its gradients, and returns it. The rate α is the first length that a search
tries, 1 being Newton's. `flatness` near 0 makes searches exact.

Broyden, Fletcher, Goldfarb, Shanno 1970, each; Nocedal and Wright 2006, Numerical optimization, algorithm 6.1 and
equations 6.17 and 6.20.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from engram.curvature import flat
from engram.optimizers.checks import check
from engram.optimizers.flat import Flat, refuse_large
from engram.optimizers.fused import Parameters
from engram.optimizers.line_search import Try, strong_wolfe
from engram.registry import register
from engram.regularizers import decay_groups


@register(
    "optimizer",
    paper="Broyden, Fletcher, Goldfarb, Shanno 1970; Nocedal and Wright 2006, algorithm 6.1",
    year=1970,
    lr=1.0,
    closure=True,
    full_batch=True,
    whole_matrix=True,
)
def bfgs(
    parameters: Parameters,
    *,
    lr: float = 1.0,
    max_iter: int = 20,
    flatness: float = 0.9,
    largest: int = 5000,
    weight_decay: float = 0.0,
    decay_all: bool = False,
) -> Optimizer:
    """BFGS: the inverse of the Hessian, learned from how the gradient changes along the way.

    Args:
        lr: the first length that a search tries.
        max_iter: iterations of one step.
        flatness: share of the slope at which a search may stop; near 0 it is exact.
        largest: number of weights above which it is refused.

    >>> w = torch.nn.Parameter(torch.tensor([3.0, -2.0], dtype=torch.float64))
    >>> optimizer = bfgs([w])
    >>> def closure():
    ...     optimizer.zero_grad(); loss = ((w - 1.0) ** 2 * torch.tensor([1.0, 100.0])).sum(); loss.backward()
    ...     return loss
    >>> optimizer.step(closure).item(), [round(value, 4) for value in w.tolist()]
    (904.0, [1.0, 1.0])
    """
    check("bfgs", lr=lr, max_iter=max_iter, flatness=flatness, largest=largest)
    check("bfgs", weight_decay=weight_decay, decay_all=decay_all)
    parameters = list(parameters)
    refuse_large("bfgs", parameters, int(largest), "lbfgs")
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    return BFGS(groups, {"lr": lr, "max_iter": int(max_iter), "flatness": flatness})


class BFGS(Flat):
    """Quasi-Newton steps by a dense inverse."""

    needs_closure = True

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Run `max_iter` iterations; returns the closure's loss before them, without the decay's part."""
        group, state = self.param_groups[0], self.state[self.weights()[0]]
        data_loss, value, g = self._look(closure)
        w = self.read()
        for _ in range(group["max_iter"]):
            if not g.abs().max() > 0 or not torch.isfinite(g).all():
                break
            direction = -g if "inverse" not in state else -(state["inverse"] @ g)
            if g @ direction >= 0:  # rounding has bent the matrix: begin afresh
                del state["inverse"]
                direction = -g
            start = Try(0.0, value.item(), (g @ direction).item(), g)
            first = group["lr"] if "inverse" in state else group["lr"] * min(1.0, 1 / g.abs().sum().item())
            noise = 4 * torch.finfo(value.dtype).eps * abs(start.value)
            along = self._along(closure, w, direction)
            found = strong_wolfe(along, start, first, flatness=group["flatness"], noise=noise)
            s, y = found.t * direction, found.kept - g
            w, g, value = w + s, found.kept, value.new_tensor(found.value)
            if found.t == 0:  # no lower place to be found
                break
            self._learn(state, s, y)
        self.write(w)
        return data_loss

    def _along(self, closure: Callable[[], Tensor], w: Tensor, direction: Tensor) -> Callable:
        def at(t: float) -> tuple[float, float, Tensor]:
            self.write(w + t * direction)
            _, value, g = self._look(closure)
            return value.item(), (g @ direction).item(), g

        return at

    def _look(self, closure: Callable[[], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The closure's loss, the same with the decay's part, and its gradient (n,)."""
        with torch.enable_grad():
            loss = torch.as_tensor(closure()).detach()
        w, weights = self.read(), self.weights()
        pull = self.decay() * w
        g = flat(torch.zeros_like(p) if p.grad is None else p.grad for p in weights)
        return loss, loss + 0.5 * (pull @ w).to(loss.dtype), g + pull

    @staticmethod
    def _learn(state: dict, s: Tensor, y: Tensor) -> None:
        """Let the inverse map y to s."""
        along = y @ s
        if not along > 1e-10 * s.norm() * y.norm():
            return
        if "inverse" not in state:
            state["inverse"] = along / (y @ y) * torch.eye(len(s), dtype=s.dtype, device=s.device)
        inverse = state["inverse"]
        by = inverse @ y
        inverse += (along + y @ by) / along**2 * torch.outer(s, s)
        inverse -= (torch.outer(by, s) + torch.outer(s, by)) / along
