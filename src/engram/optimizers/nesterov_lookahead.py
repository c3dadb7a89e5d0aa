"""Nesterov's momentum as the paper has it: walk with the velocity, look at the gradient there, come back and correct.

    v <- ρv - α (g(w + ρv) + λ (w + ρv))
    w <- w + v

The gradient is taken where the velocity is about to lead, so a velocity that is wrong is corrected a step earlier than
by `momentum`. `nesterov` is the same method rewritten: with x = w + ρv for its weights, the point looked at,

    x <- x - ρ v_before + (1 + ρ) v

runs along the same path, as the tests show to the last digits, and needs no second set of weights. It is what to train
with. This form is here to see the two agree, and because its weights are the method's own: at the end, and whenever
the network is judged, they stand at w, not at the point looked at. Helps and hurts as `nesterov`; a step costs two
copies of the weights more, and the rate may change on the way, which the rewritten form with α outside the velocity
follows only approximately.

`optimizer.step(closure)` moves the weights, calls the closure (which clears the gradients, computes the batch's mean
loss and its gradients, and returns it), and moves them back and on. The loss it returns is the one looked at.

Nesterov 1983, A method for solving the convex programming problem with convergence rate O(1/k²). Sutskever, Martens,
Dahl, Hinton 2013, On the importance of initialization and momentum in deep learning, equations 3-4.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from engram.optimizers.checks import check
from engram.optimizers.fused import Parameters
from engram.registry import register
from engram.regularizers import decay_groups


@register("optimizer", paper="Nesterov 1983; Sutskever et al. 2013, equations 3-4", year=1983, lr=0.05, closure=True)
def nesterov_lookahead(
    parameters: Parameters,
    *,
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    decay_all: bool = False,
) -> Optimizer:
    """Nesterov's momentum as the paper has it: walk with the velocity, look at the gradient there, and correct.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = nesterov_lookahead([w], lr=0.1, weight_decay=0.0)
    >>> def closure():
    ...     optimizer.zero_grad(); loss = w**2; loss.backward(); return loss
    >>> for _ in range(3):
    ...     _ = optimizer.step(closure)
    >>> round(w.item(), 4)
    0.1779
    """
    check("nesterov_lookahead", lr=lr, momentum=momentum, weight_decay=weight_decay, decay_all=decay_all)
    groups = decay_groups(parameters, weight_decay, decay_all=decay_all)
    return NesterovLookahead(groups, {"lr": lr, "momentum": momentum})


class NesterovLookahead(Optimizer):
    """The look-ahead form; `velocity` is kept for every weight."""

    needs_closure = True

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """One step; returns the loss at the point looked at."""
        weights = [(group, p) for group in self.param_groups for p in group["params"] if p.requires_grad]
        places = [p.detach().clone() for _, p in weights]
        with torch.no_grad():
            for group, p in weights:
                p.add_(self.state[p].setdefault("velocity", torch.zeros_like(p)), alpha=group["momentum"])
        loss = closure()
        with torch.no_grad():
            for (group, p), place in zip(weights, places, strict=True):
                velocity = self.state[p]["velocity"]
                if p.grad is not None:
                    g = p.grad.add(p, alpha=group["weight_decay"])
                    velocity.mul_(group["momentum"]).add_(g, alpha=-group["lr"])
                    p.copy_(place + velocity)
                else:
                    p.copy_(place)
        return loss.detach()
