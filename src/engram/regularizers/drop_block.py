"""DropBlock on any network: squares of the maps fall silent, before the deeper half of the convolutions.

The layer, its equation and its scale are in `engram.layers.drop_block`: about a share `drop` of each map lies under
squares of `side` pixels, drawn anew for every map and pass; on signals stretches, in volumes cubes.

The paper puts it into the last two of ResNet-50's four groups, after every convolution and on the shortcut. Here it
stands before each of the convolutions of more than one pixel that are in the deeper half, which is inside the branches
and after the nonlinearity; shortcuts are left alone. `deepest=1` takes all of them but the first.

It helps large networks in long training on photographs; in small ones and short runs it hurts. The paper raises `drop`
from 0 over the training; here it is constant. A map smaller than a square falls silent whole: pictures of 32 pixels
want `side=3`.

The paper's settings: drop 0.1, side 7 (ImageNet, ResNet-50: 76.5 to 78.1 %, in 270 passes).

Ghiasi, Lin, Le 2018, arXiv:1810.12890, sections 3 and 4.1.
"""

from typing import Any

from torch import nn

from engram.grammar import number
from engram.layers.drop_block import DropBlock
from engram.registry import register
from engram.regularizers import places
from engram.regularizers.dropout import last_part, part
from engram.regularizers.rule import Rule, share


@register("regularizer", paper="Ghiasi, Lin, Le 2018, arXiv:1810.12890, section 3", year=2018, acts="network")
def drop_block(*, drop: float = 0.1, side: int = 7, deepest: float = 0.5) -> Rule:
    """Squares of the maps fall silent at random, before the deeper convolutions.

    Args:
        drop: the share of a map that lies under squares, about.
        side: of a square, in pixels.
        deepest: the share of the convolutions that have it, counted from the last.

    >>> from engram import models; from engram.regularizers import build
    >>> build("drop_block:0.1:3", models.resnet20()).changes
    ('drop_block: 0.1 in blocks of 3 before 9 layers, stages.1.1.conv2 to stages.2.2.conv2',)
    """
    drop, deepest = share("drop_block", drop), part("drop_block", deepest)
    pixels = int(number("drop_block", "side", side, 1, whole=True))

    def change(layer: Any) -> None:
        layer.drop, layer.side = drop, pixels

    def put(net: nn.Module) -> str:
        where = places.set_or_put(
            net,
            "drop_block",
            DropBlock,
            change=change,
            make=lambda _: DropBlock(drop, pixels),
            places=lambda: last_part("drop_block", places.convolutions(net), deepest),
        )
        return f"{drop:g} in blocks of {pixels} {where}"

    return Rule(put)
