"""Every residual block starts as the identity: the last thing its branch does gives zero.

    y = shortcut(x) + F(x),  F's last normalisation: γ = 0, β = 0   =>   y = shortcut(x)

A network of many blocks then starts as a shallow one: the signal passes along the shortcuts alone, its variance does
not grow a block at a time, and gradients reach every block as strongly as the last. Each γ receives a gradient at once
and the branches fade in as they become useful.

It helps large batches, high rates and great depth: a few tenths of a per cent on ImageNet, fewer runs that diverge.
It hurts nothing much, except a plain network, which it would silence altogether: there it is refused.

A block is any module with a `shortcut`; what is zeroed is the last normalisation made in it outside the shortcut. In
pre-activation blocks, where a nonlinearity and a convolution still follow it, a γ of zero would never receive a
gradient (the slope of a ReLU at 0 is taken as 0), so there the last convolution or linear layer is zeroed instead, as
Fixup does.

Goyal et al. 2017, Accurate, large minibatch SGD, arXiv:1706.02677, section 5.1. Zhang, Dauphin, Ma 2019, Fixup,
arXiv:1901.09321, section 3 (a last layer of zeros, without normalisation).
"""

from torch import nn

from engram.errors import UserError
from engram.initializers.layers import NORMS, WEIGHTED, Layer, Rule, count
from engram.registry import register


@register("initializer", paper="Goyal et al. 2017, arXiv:1706.02677, section 5.1", year=2017)
def zero_gamma() -> Rule:
    """Residual branches that start at zero, by their last normalisation or layer.

    >>> from engram import models; from engram.initializers import apply
    >>> net = models.resnet20(); apply(net, "zero_gamma")
    ['zero_gamma: 9 blocks by their last normalisation']
    """

    def rule(net, given):
        blocks = {
            name: module
            for name, module in net.named_modules()
            if isinstance(module._modules.get("shortcut"), nn.Module)
        }
        ends = {name: _last(block) for name, block in blocks.items()}
        lacking = [name for name, end in ends.items() if end is None]
        if not blocks or lacking:
            what = f"block {lacking[0]!r} has no layer to silence" if lacking else "this network has no residual blocks"
            raise UserError(
                f"initializer zero_gamma: {what}", allowed="a network whose blocks have a `shortcut`, such as resnet20"
            )
        norms = 0
        for end in ends.values():
            norms += isinstance(end, NORMS)
            end.weight.zero_()
            if end.bias is not None:
                end.bias.zero_()
        parts = [(norms, "normalisation"), (len(ends) - norms, "convolution or linear layer")]
        return ", ".join(f"{count(number, 'block')} by their last {kind}" for number, kind in parts if number)

    return rule


def _last(block: nn.Module) -> Layer:
    """What the branch ends with: its last module that scales or weighs, outside the shortcut; or None."""
    found = None
    for name, module in block.named_modules():
        outside = name.partition(".")[0] != "shortcut"
        scales = isinstance(module, WEIGHTED) or (isinstance(module, NORMS) and module.weight is not None)
        if outside and scales:
            found = module
    return found
