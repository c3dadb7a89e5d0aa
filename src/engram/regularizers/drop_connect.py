"""DropConnect on any network: its linear layers lose single connections at random while they train.

    u = (M * W) v / keep,    M_ij ~ Bernoulli(keep), drawn anew for every example

The layer and what it costs are in `engram.layers.drop_connect`; a layer becomes one where it stands, with its weights.

The paper has it in the linear layer between the convolutions and the layer that gives scores, and that is where it
goes: into every linear layer but the last. A network whose only linear layer gives scores (ResNet, DenseNet) has it
there. `at=all` takes every linear layer, `at=head` the one that gives scores.

A mask for every example takes B x out x in values, four bytes each, which for AlexNet's largest layer is 151 MB an
example: there `per=batch` has one for the batch.

It helps large linear layers on little or wrongly labelled data; it hurts small ones and needs longer training. The
paper's setting: 0.5.

Wan, Zeiler, Zhang, LeCun, Fergus 2013, Regularization of Neural Networks using DropConnect, ICML, section 3.
"""

from torch import nn

from engram.errors import UserError
from engram.grammar import choice
from engram.initializers.layers import Layer
from engram.layers.drop_connect import MASKS, DropConnect
from engram.registry import register
from engram.regularizers import places
from engram.regularizers.rule import Rule, share

PLACES = ("auto", "head", "all")


@register("regularizer", paper="Wan et al. 2013, ICML, section 3", year=2013, acts="network")
def drop_connect(*, drop: float = 0.5, per: str = "sample", at: str = "auto") -> Rule:
    """Single connections of the linear layers fall silent at random.

    Args:
        drop: the share of connections.
        per: "sample" has a mask for each example, "batch" one for all.
        at: "auto" (all but the layer that gives scores, or that one where it is alone), "head" or "all".

    >>> from engram import models; from engram.regularizers import build
    >>> build("drop_connect:0.5", models.mlp()).changes
    ('drop_connect: 0.5 of the connections of hidden.0, hidden.2; masks of 935.4 kB an example',)
    """
    drop, per = share("drop_connect", drop), choice("drop_connect", "per", per, MASKS)
    at = choice("drop_connect", "at", at, PLACES)

    def put(net: nn.Module) -> str:
        layers = _layers(net, at)
        for layer in layers.values():
            DropConnect.into(layer, drop=drop, per=per)
        values = sum(p.numel() for layer in layers.values() for p in layer.parameters())
        whose = "an example" if per == "sample" else "a batch"
        return f"{drop:g} of the connections of {', '.join(layers)}; masks of {_bytes(4 * values)} {whose}"

    return Rule(put)


def _layers(net: nn.Module, at: str) -> dict[str, Layer]:
    linear = {
        name: module
        for name, module in net.named_modules()
        if type(module) in (nn.Linear, DropConnect) and not places.auxiliary(name)
    }
    last = places.heads(net).keys() & linear.keys()
    hidden = {name: module for name, module in linear.items() if name not in last}
    chosen = {"all": linear, "head": {name: linear[name] for name in last}, "auto": hidden or linear}[at]
    if not chosen:
        which = "linear layer that gives scores" if at == "head" and linear else "linear layer"
        raise UserError(f"regularizer drop_connect: this network has no {which}", then="dropout, or another model")
    return chosen


def _bytes(number: int) -> str:
    """Bytes for a person.

    >>> _bytes(940), _bytes(2_500_000)
    ('0.9 kB', '2.5 MB')
    """
    return f"{number / 1e3:.1f} kB" if number < 1e6 else f"{number / 1e6:.1f} MB"
