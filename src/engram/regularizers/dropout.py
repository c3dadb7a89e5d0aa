"""Dropout on any network: of single values before the scores, or of whole maps before convolutions.

    dropout           y = x mask / keep     a mask for every value           before the layer that gives scores
    channel_dropout   y = x mask / keep     one for a map, all its pixels    before each convolution but the first

While training only; keep = 1 - drop. Neighbouring pixels of a map say the same, so that single ones dropped between
convolutions are made up for by those around them; a map dropped whole is not. See `engram.layers.dropout` for the two
conventions and the two meanings of "p", `engram.layers.drop_block` for what is between the two.

Where: networks whose authors put dropout somewhere keep it there, and the word sets the share (AlexNet, VGG, NiN,
SqueezeNet); elsewhere `dropout` goes before the layer that gives scores, as in GoogLeNet. `at=linear` puts it before
every linear layer but the first of the network, as in AlexNet; `at=head` before the scores whatever else there is.
`channel_dropout` stands before convolutions that look at more than one pixel, inside the branch of a residual block
and not on its shortcut, as Wide ResNet has it; `deepest=0.5` takes the last half of them.

It helps large linear layers on few or wrongly labelled examples. It hurts small networks, short training, and right
before a batch normalisation, whose statistics are then not those it judges by; a convolution stands between here.

The papers' settings: 0.5 before linear layers, 0.2 on inputs; maps 0.1 to 0.5.

Srivastava et al. 2014, Dropout, JMLR 15, section 4; Tompson, Goroshin, Jain, LeCun, Bregler 2015, Efficient object
localization, arXiv:1411.4280, section 3.2 (whole maps).
"""

from collections.abc import Mapping
from math import ceil

from torch import nn

from engram.errors import UserError
from engram.grammar import choice, number
from engram.initializers.layers import Layer
from engram.registry import register
from engram.regularizers import places
from engram.regularizers.rule import Rule, share

PLACES = ("auto", "head", "linear")
SINGLE = (nn.Dropout, nn.AlphaDropout)
CHANNEL = {1: nn.Dropout1d, 2: nn.Dropout2d, 3: nn.Dropout3d}


@register("regularizer", paper="Srivastava et al. 2014, JMLR 15, section 4", year=2014, acts="network")
def dropout(*, drop: float = 0.5, at: str = "auto") -> Rule:
    """Single values fall silent at random, before the scores or where the network has it.

    Args:
        drop: the share that falls silent.
        at: "auto" (where the network has dropout, else before the scores), "head" or "linear".

    >>> from engram import models; from engram.regularizers import build
    >>> build("dropout:0.3", models.resnet20()).changes
    ('dropout: 0.3 before head',)
    >>> build("dropout:0.3", models.squeezenet_small()).changes
    ('dropout: 0.3 in 1 layer of that kind that the network has',)
    """
    drop, at = share("dropout", drop), choice("dropout", "at", at, PLACES)

    def put(net: nn.Module) -> str:
        if at == "auto":
            where = places.set_or_put(
                net,
                "dropout",
                SINGLE,
                change=lambda layer: setattr(layer, "p", drop),
                make=lambda _: nn.Dropout(drop),
                places=lambda: places.heads(net),
            )
        else:
            found = places.heads(net) if at == "head" else _linear(net)
            for module in found.values():
                places.put_before(module, "dropout", nn.Dropout(drop))
            where = places.before(found)
        return f"{drop:g} {where}"

    return Rule(put)


@register("regularizer", paper="Tompson et al. 2015, arXiv:1411.4280, section 3.2", year=2015, acts="network")
def channel_dropout(*, drop: float = 0.1, deepest: float = 1.0) -> Rule:
    """Whole maps fall silent at random, before convolutions.

    Args:
        drop: the share of maps.
        deepest: the share of the convolutions that have it, counted from the last.

    >>> from engram import models; from engram.regularizers import build
    >>> build("channel_dropout:0.2", models.resnet20()).changes
    ('channel_dropout: 0.2 before 18 layers, stages.0.0.conv1 to stages.2.2.conv2',)
    """
    drop, deepest = share("channel_dropout", drop), part("channel_dropout", deepest)

    def put(net: nn.Module) -> str:
        where = places.set_or_put(
            net,
            "channel_dropout",
            tuple(CHANNEL.values()),
            change=lambda layer: setattr(layer, "p", drop),
            make=lambda module: CHANNEL[len(module.kernel_size)](drop),
            places=lambda: last_part("channel_dropout", places.convolutions(net), deepest),
        )
        return f"{drop:g} {where}"

    return Rule(put)


def part(word: str, deepest: float) -> float:
    """The share of the layers that have it, checked."""
    return number(word, "deepest", deepest, 0, 1, above=True)


def last_part(word: str, found: Mapping[str, Layer], deepest: float) -> dict[str, Layer]:
    """The last share of the layers, one at least.

    Raises:
        UserError: there are none.

    >>> list(last_part("drop_block", dict.fromkeys("abc", nn.Identity()), 0.5))
    ['b', 'c']
    """
    if not found:
        raise UserError(f"regularizer {word} stands before convolutions, and this network has none but its first layer")
    return dict(list(found.items())[-ceil(deepest * len(found)) :])


def _linear(net: nn.Module) -> dict[str, Layer]:
    found = {name: module for name, module in places.inner(net).items() if isinstance(module, nn.Linear)}
    if not found:
        raise UserError(
            "regularizer dropout:at=linear: this network has no linear layer but its first", then="dropout:at=head"
        )
    return found
