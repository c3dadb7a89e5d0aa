"""L1: every weight pays by its size, and those that do not earn it become exactly 0.

    R = λ Σ |w|,    after each step of the rate lr:   w  <-  sign(w) max(|w| - lr λ, 0)

The pull does not weaken as a weight gets small, as that of L2 does, so weights arrive at 0 and stay there until the
data pull harder than λ. The step above (soft-thresholding, the proximal operator of lr λ |w|) is the one that gives
zeros. Adding the subgradient λ sign(w) to the gradient, `by=subgradient`, pulls as hard on average, but a weight
jumps to and fro across 0 and hardly ever stands on it: weights become small by either, 0 by the step alone.

It helps to see which inputs matter and to prune; as regularisation of a network L2 is mostly as good. It hurts where
many weights each do a little, and with adaptive optimisers its meaning is loose: the threshold is lr λ for all weights,
while their steps have a scale each (as AdamW's decay is beside Adam's).

Settings: λ from 1e-6 to 1e-4 for networks. There is no paper's one.

Tibshirani 1996, Regression shrinkage and selection via the lasso, section 2; Parikh and Boyd 2014, Proximal algorithms,
sections 4.2 and 6.5.2.
"""

import torch
from torch import Tensor, nn

from engram.grammar import choice, number
from engram.registry import register
from engram.regularizers.rule import Rule, describe, held, scope, spared

STEPS = ("proximal", "subgradient")


@register(
    "regularizer",
    paper="Tibshirani 1996, section 2; Parikh and Boyd 2014, section 6.5.2",
    year=1996,
    acts="weights",
)
def l1(*, strength: float = 1e-5, by: str = "proximal", on: str = "weights") -> Rule:
    """Weights pay by their size; those that do not earn it become 0.

    Args:
        strength: λ.
        by: "proximal", or "subgradient", which gives no zeros.
        on: "weights", or "all" for biases and norms as well.

    >>> from engram.regularizers import build
    >>> net = nn.Linear(3, 1); net.weight.data = torch.tensor([[0.5, -0.02, -0.3]])
    >>> build("l1:0.1", net).constrain(net, lr=1.0); net.weight.data
    tensor([[ 0.4000,  0.0000, -0.2000]])
    """
    strength = number("l1", "strength", strength, 0)
    by, on = choice("l1", "by", by, STEPS), scope("l1", on)

    def put(net: nn.Module) -> str:
        return f"{strength:g} on {describe('l1', net, on)}, by the {_STEP[by]}{spared(on)}"

    def regularize(net: nn.Module) -> None:
        for _, p in held(net, on):
            p.grad = p.sign() * strength if p.grad is None else p.grad.add_(p.sign(), alpha=strength)

    def constrain(net: nn.Module, lr: float) -> None:
        for _, p in held(net, on):
            soft_threshold(p, lr * strength)

    proximal = by == "proximal"
    return Rule(
        put,
        regularize=None if proximal else regularize,
        constrain=constrain if proximal else None,
        penalty=lambda net: strength * size(net, on),
    )


_STEP = {"proximal": "proximal step", "subgradient": "subgradient"}


def soft_threshold(p: Tensor, threshold: float) -> None:
    """p <- sign(p) max(|p| - threshold, 0), in place.

    >>> p = torch.tensor([3.0, -0.5, -2.0]); soft_threshold(p, 1.0); p
    tensor([ 2.,  0., -1.])
    """
    p.sub_(p.clamp(-threshold, threshold))


def size(net: nn.Module, on: str) -> Tensor:
    """The sum of |w|."""
    return torch.stack([p.abs().sum() for _, p in held(net, on)]).sum()
