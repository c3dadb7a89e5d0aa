"""Elastic net: L1 for zeros and L2 for sharing, each with its own strength.

    R = λ₁ Σ |w| + ½ λ₂ Σ w²        after backward   g  <-  g + λ₂ w
                                    after the step   w  <-  sign(w) max(|w| - lr λ₁, 0)

Of several inputs that go together, L1 alone keeps one and drops the rest, which one being chance. The little L2 makes
the problem strictly convex: inputs that are alike get weights that are alike. It is solved as it is built, by a
gradient step on the smooth part, L2 with the data, and the proximal operator of the other (forward-backward splitting).

It helps where zeros are wanted and inputs are correlated, as pixels are. It hurts as both of its parts do, and has two
numbers to choose. As for `l2`, the optimiser's own `weight_decay` adds up with λ₂.

Where we differ: the paper's naive elastic net is this; its correction by (1 + λ₂) for regression has no counterpart in
a network. Its penalty is λ₂ Σ w² without ½.

Zou and Hastie 2005, Regularization and variable selection via the elastic net, J. R. Statist. Soc. B 67, section 2;
Combettes and Wajs 2005 (forward-backward splitting), section 3.
"""

from torch import nn

from engram.grammar import number
from engram.registry import register
from engram.regularizers.l1 import size, soft_threshold
from engram.regularizers.l2 import half_squares, pull
from engram.regularizers.rule import Rule, describe, held, scope, spared


@register("regularizer", paper="Zou and Hastie 2005, section 2", year=2005, acts="gradient", replaces_decay=True)
def elastic(*, l1: float = 1e-5, l2: float = 5e-4, on: str = "weights") -> Rule:
    """L1 and L2 together: zeros, and alike weights for inputs that are alike.

    Args:
        l1: λ₁, of Σ |w|.
        l2: λ₂, of ½ Σ w².
        on: "weights", or "all" for biases and norms as well.

    >>> from engram.regularizers import build
    >>> net = nn.Linear(4, 2); build("elastic:1e-5:1e-3", net).changes
    ('elastic: L1 1e-05 and L2 0.001 on 1 weight of 8 values; biases and norms spared',)
    """
    first, second = number("elastic", "l1", l1, 0), number("elastic", "l2", l2, 0)
    on = scope("elastic", on)

    def put(net: nn.Module) -> str:
        return f"L1 {first:g} and L2 {second:g} on {describe('elastic', net, on)}{spared(on)}"

    def constrain(net: nn.Module, lr: float) -> None:
        for _, p in held(net, on):
            soft_threshold(p, lr * first)

    return Rule(
        put,
        regularize=lambda net: pull(net, second, on),
        constrain=constrain,
        penalty=lambda net: first * size(net, on) + second * half_squares(net, on),
    )
