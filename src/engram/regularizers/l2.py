"""L2: every weight is pulled towards 0 in proportion to itself, whatever the optimiser.

    R = ½ λ Σ w²,    after backward:   g  <-  g + λ w

Of all weights that fit the same, the shortest vector is wanted: a pattern spread over many inputs rather than resting
on a few. A direction that the data do not care about decays to 0; one with the curvature h is shortened to h / (h + λ)
of its length. The convention is that with ½, torch's `weight_decay`; without it λ counts twice.

It is the optimisers' own `weight_decay` for SGD and its kin, and adds up with it: set that to 0 beside this word. For
AdaGrad, RMSProp and Adam it is what L2 literally means, a gradient like the data's, which they divide by its own scale,
so that it hardly acts on weights with large gradients; AdamW's decay, beside the step, is mostly better there.

It helps nearly always a little. It hurts on biases and the scales of normalisations, which are spared. In front of a
batch normalisation the length of the weights does not matter to the output, and the pull only keeps up the effective
learning rate.

Settings: 5e-4 (AlexNet, VGG, Wide ResNet), 1e-4 (ResNet), 2e-4 (SqueezeNet).

Krogh and Hertz 1992, A simple weight decay can improve generalization, section 1; Loshchilov and Hutter 2019,
arXiv:1711.05101, section 2 (where decay and L2 part).
"""

import torch
from torch import Tensor, nn

from engram.grammar import number
from engram.registry import register
from engram.regularizers.rule import Rule, describe, held, scope, spared


@register(
    "regularizer", paper="Krogh and Hertz 1992, NeurIPS 4, section 1", year=1992, acts="gradient", replaces_decay=True
)
def l2(*, strength: float = 5e-4, on: str = "weights") -> Rule:
    """Weights are pulled towards 0 in proportion to themselves.

    Args:
        strength: λ of ½ λ Σ w².
        on: "weights", or "all" for biases and norms as well.

    >>> from engram.regularizers import build
    >>> net = nn.Linear(2, 1); net.weight.data = torch.tensor([[0.5, -2.0]]); net.weight.grad = torch.ones(1, 2)
    >>> build("l2:0.5", net).regularize(net); net.weight.grad
    tensor([[1.2500, 0.0000]])
    """
    strength, on = number("l2", "strength", strength, 0), scope("l2", on)

    def put(net: nn.Module) -> str:
        return f"{strength:g} on {describe('l2', net, on)}{spared(on)}"

    return Rule(
        put,
        regularize=lambda net: pull(net, strength, on),
        penalty=lambda net: strength * half_squares(net, on),
    )


def pull(net: nn.Module, strength: float, on: str) -> None:
    """Add λ w to the gradients; a weight that the loss did not depend on has this one alone."""
    for _, p in held(net, on):
        p.grad = p.detach() * strength if p.grad is None else p.grad.add_(p, alpha=strength)


def half_squares(net: nn.Module, on: str) -> Tensor:
    """½ Σ w²."""
    return torch.stack([p.square().sum() for _, p in held(net, on)]).sum() / 2
