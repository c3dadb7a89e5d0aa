"""AlexNet: a deep convolutional network on two graphics cards, and the beginning of deep learning on photographs.

Five convolutions and three full connections, with four ideas that were not usual in 2012: ReLU in place of tanh (the
authors' small network came to 25 % training error six times sooner), dropout in the full connections, local response
normalisation after the first two convolutions, and pooling windows of 3 that overlap by one.

    227x227 -conv1 11x11/4-> 96 of 55x55 -pool-> 27x27 -conv2 5x5-> 256 -pool-> 13x13 -conv3 3x3-> 384 -conv4-> 384
            -conv5-> 256 -pool-> 6x6 -fc6-> 4096 -fc7-> 4096 -fc8-> 1000

The two rows of the paper's figure are two cards of 3 GB, each holding a tower with half of every layer. conv2, conv4
and conv5 read their own tower alone; before conv3, fc6, fc7 and fc8 each card also reads what the other has made. One
image sends, each way,

    conv3 128 x 13 x 13 = 21,632    fc6 128 x 6 x 6 = 4,608    fc7 2,048    fc8 2,048 values,

which `crossings` counts. So three convolutions have half the weights that they would have if everything were connected
(`alexnet_merged`), and the towers come to see different things: colour in one, edges in the other. A convolution with
two groups is the same arithmetic, except that the towers' normalisation does not reach across the seam.

It helps as the measure of all later ones and where many parameters do no harm; it hurts where memory is short: 96 % of
its weights stand in full connections.

The paper's settings: SGD, batch 128, momentum 0.9, weight decay 5e-4, lr 0.01 divided by 10 three times when the
validation error stops falling, 90 passes; weights from N(0, 0.01^2), biases 1 in conv2, conv4, conv5, fc6 and fc7, 0
elsewhere (`initial="paper"`); dropout 0.5 after fc6 and fc7; crops of 224 from 256 pixels, flips, colour moved along
its principal directions; the mean of ten crops when tested. The paper's error on ILSVRC-2012, not ours: 40.7 % top-1
and 18.2 % top-5 by one network on the validation set, 16.4 % top-5 by five; the two cards are worth 1.7 and 1.2 points
against a network on one card with half the maps.

Where we differ: weights start by He's rule and biases at 0 unless `initial="paper"`, whose biases of 1 Caffe's makers
found to hold the loss flat. The paper prints 224 pixels where its arithmetic needs 227: sides of 224 get two zeros at
each end here, so that both give the same network. `alexnet_torchvision` is another paper's network under this name:
64-192-384-256-256 maps in one tower, no normalisation, dropout before fc6 and fc7 and not after, the last maps pooled
to 6x6 whatever the input, torchvision's published weights. `alexnet_small` is ours, for 28 to 32 pixels.

Krizhevsky, Sutskever, Hinton 2012, ImageNet Classification with Deep Convolutional Neural Networks, NeurIPS 25,
section 3 and figure 2. torchvision's: Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks,
arXiv:1404.5997, section 5.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from engram import accounting
from engram.errors import UserError
from engram.grammar import choice, number
from engram.layers.activations import initialize
from engram.layers.dimensions import check_size, convolution, max_pool
from engram.layers.local_response_norm import LocalResponseNorm
from engram.registry import register

INITIAL = ("he", "paper")
PAPER = "Krizhevsky, Sutskever, Hinton 2012, NeurIPS 25, section 3"
_SHRINK = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


@dataclass(frozen=True)
class Layout:
    """What differs between the networks of this name.

    Args:
        widths: maps of the five convolutions, all towers together.
        hidden: units of fc6 and of fc7, all towers together.
        towers: 1 or 2.
        kernel, stride, padding: of the first convolution.
        norm: whether the first two convolutions are followed by local response normalisation.
        pooled: the side to which the last maps are averaged; none leaves them as they are.
        drops_early: dropout before fc6 and fc7 in place of after them.
    """

    widths: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)
    hidden: int = 4096
    towers: int = 2
    kernel: int = 11
    stride: int = 4
    padding: int = 0
    norm: bool = True
    pooled: int | None = None
    drops_early: bool = False

    def pad(self, side: int) -> int:
        """Zeros at each end of an axis; 224 pixels get what they lack to the paper's 227."""
        return 2 if self.stride == 4 and side == 224 else self.padding

    def last(self, side: int) -> int:
        """The side of the last maps, after three poolings."""
        side = (side + 2 * self.pad(side) - self.kernel) // self.stride + 1
        for _ in range(3):
            side = (side - 3) // 2 + 1
        return side

    @property
    def smallest(self) -> int:
        """The smallest side that leaves a pixel for fc6."""
        return next(side for side in count(1) if self.last(side) >= 1)


SINGLE = Layout(towers=1)
WEIRD_TRICK = Layout(widths=(64, 192, 384, 256, 256), towers=1, padding=2, norm=False, pooled=6, drops_early=True)
SMALL = Layout(widths=(48, 128, 192, 192, 128), hidden=512, kernel=5, stride=1, padding=2)


class Tower(nn.Module):
    """One card's share of every layer: `lower` reads its own maps alone, all others read those of all towers."""

    def __init__(self, layout: Layout, in_channels: int, image_size: Sequence[int]) -> None:
        super().__init__()
        dimensions, towers = len(image_size), layout.towers
        conv, pool = convolution(dimensions), max_pool(dimensions)
        first, second, third, fourth, fifth = (width // towers for width in layout.widths)
        hidden = layout.hidden // towers
        padding = tuple(layout.pad(side) for side in image_size)
        last = [layout.pooled or layout.last(side) for side in image_size]
        self.lower = nn.Sequential()
        self.lower.add_module("conv1", conv(in_channels, first, layout.kernel, layout.stride, padding))
        self.lower.add_module("relu1", nn.ReLU())
        if layout.norm:
            self.lower.add_module("norm1", LocalResponseNorm())
        self.lower.add_module("pool1", pool(3, 2))
        self.lower.add_module("conv2", conv(first, second, 5, padding=2))
        self.lower.add_module("relu2", nn.ReLU())
        if layout.norm:
            self.lower.add_module("norm2", LocalResponseNorm())
        self.lower.add_module("pool2", pool(3, 2))
        self.upper = nn.Sequential()
        self.upper.add_module("conv3", conv(towers * second, third, 3, padding=1))
        self.upper.add_module("relu3", nn.ReLU())
        self.upper.add_module("conv4", conv(third, fourth, 3, padding=1))
        self.upper.add_module("relu4", nn.ReLU())
        self.upper.add_module("conv5", conv(fourth, fifth, 3, padding=1))
        self.upper.add_module("relu5", nn.ReLU())
        self.upper.add_module("pool5", pool(3, 2))
        if layout.pooled:
            self.upper.add_module("average", _SHRINK[dimensions](layout.pooled))
        self.fc6 = nn.Linear(towers * fifth * prod(last), hidden)
        self.relu6 = nn.ReLU()
        self.fc7 = nn.Linear(towers * hidden, hidden)
        self.relu7 = nn.ReLU()


class AlexNet(nn.Module):
    """One tower or two that exchange what they have made, and a linear head over both.

    Args:
        layout: the form of the network.
        image_size: sides of the input, from one to three of them.
        drop: share of the full connections' units set to zero while training.
        initial: "he", or "paper" for N(0, 0.01^2) and the paper's biases of 1.

    Raises:
        UserError: an image too small, a share outside 0 to 1, other than one or two towers, an unknown word.

    >>> import torch; AlexNet(SMALL, (32, 32), num_classes=10)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        layout: Layout,
        image_size: Sequence[int],
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        drop: float = 0.5,
        initial: str = "he",
    ) -> None:
        super().__init__()
        choice("alexnet", "initial", initial, INITIAL)
        number("alexnet", "drop", drop, 0, 1)
        if layout.towers not in (1, 2):
            raise UserError(f"alexnet: towers cannot be {layout.towers!r}", allowed="1 or 2")
        self.smallest = layout.smallest
        check_size(image_size, self.smallest, "alexnet")
        self.towers: Any = nn.ModuleList(Tower(layout, in_channels, image_size) for _ in range(layout.towers))
        self.early = nn.Dropout(drop) if layout.drops_early else nn.Identity()
        self.drop = nn.Dropout(drop)
        self.late = nn.Identity() if layout.drops_early else nn.Dropout(drop)
        self.head = nn.Linear(layout.hidden, num_classes)
        _start(self, initial)

    def exchange(self, parts: Sequence[Tensor], before: str) -> Tensor:
        """What every tower has made, side by side, as each of them reads it in the layer `before`.

        This is all that ever crosses from card to card. Towers in processes of their own gather here.

        Args:
            parts: (B, C / towers, ...) each, in the towers' order.
            before: conv3, fc6, fc7 or fc8.

        Returns:
            (B, C, ...)
        """
        return torch.cat(list(parts), 1) if len(parts) > 1 else parts[0]

    def forward(self, x: Tensor) -> Tensor:  # (B, C, 227, 227)
        parts = [tower.lower(x) for tower in self.towers]  # (B, 128, 13, 13) each
        x = self.exchange(parts, "conv3")  # (B, 256, 13, 13)
        parts = [tower.upper(x) for tower in self.towers]  # (B, 128, 6, 6) each
        x = self.early(self.exchange(parts, "fc6").flatten(1))  # (B, 9216)
        parts = [self.drop(tower.relu6(tower.fc6(x))) for tower in self.towers]  # (B, 2048) each
        x = self.exchange(parts, "fc7")  # (B, 4096)
        parts = [self.late(tower.relu7(tower.fc7(x))) for tower in self.towers]  # (B, 2048) each
        x = self.exchange(parts, "fc8")  # (B, 4096)
        return self.head(x)  # (B, num_classes), of which each card works out one half


def _start(net: AlexNet, initial: str) -> None:
    for name, module in net.named_modules():
        if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear) or module.bias is None:
            continue
        layer = name.rpartition(".")[2]
        nn.init.zeros_(module.bias)
        if initial == "he":
            initialize(module.weight, before="identity" if layer == "head" else "relu")
            continue
        nn.init.normal_(module.weight, std=0.01)
        if layer in ("conv2", "conv4", "conv5", "fc6", "fc7"):
            nn.init.ones_(module.bias)  # a ReLU that starts open has a gradient from the first step on


def crossings(net: AlexNet, shape: Sequence[int]) -> dict[str, int]:
    """Values that one image sends from each tower to the other, by the layer that reads them.

    Args:
        shape: of one input, (C, *S).

    >>> crossings(alexnet_small(), (3, 32, 32))
    {'conv3': 3136, 'fc6': 576, 'fc7': 256, 'fc8': 256}
    """
    sent: dict[str, int] = {}

    def count_and_exchange(parts: Sequence[Tensor], before: str) -> Tensor:
        sent[before] = parts[0][0].numel() if len(parts) > 1 else 0
        return AlexNet.exchange(net, parts, before)

    net.exchange = count_and_exchange  # on this network alone, and only while it is looked at
    try:
        accounting.account(net, shape)
    finally:
        del net.exchange
    return sent


RENAMED = (
    (r"^features\.(0|3)\.", lambda found: f"towers.0.lower.conv{1 + int(found[1]) // 3}."),
    (r"^features\.(6|8|10)\.", lambda found: f"towers.0.upper.conv{int(found[1]) // 2}."),
    (r"^classifier\.(1|4)\.", lambda found: f"towers.0.fc{6 + int(found[1]) // 4}."),
    (r"^classifier\.6\.", "head."),
)
"""From torchvision's names to ours."""


@register(
    "model",
    paper=PAPER,
    year=2012,
    parameters=60_965_224,
    macs=724_406_816,
    input=(3, 227, 227),
    num_classes=1000,
    dimensions=(2,),
    smallest=67,
)
def alexnet(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    image_size: Sequence[int] = (227, 227),
    drop: float = 0.5,
    initial: str = "he",
) -> AlexNet:
    """AlexNet as its paper has it: two towers that exchange their maps before conv3 and the full connections."""
    return AlexNet(Layout(), image_size, num_classes=num_classes, in_channels=in_channels, drop=drop, initial=initial)


@register(
    "model",
    paper=PAPER,
    year=2012,
    parameters=62_378_344,
    macs=1_135_256_096,
    input=(3, 227, 227),
    num_classes=1000,
    dimensions=(2,),
    smallest=67,
)
def alexnet_merged(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    image_size: Sequence[int] = (227, 227),
    drop: float = 0.5,
    initial: str = "he",
) -> AlexNet:
    """AlexNet in one piece: every convolution reads all maps."""
    return AlexNet(SINGLE, image_size, num_classes=num_classes, in_channels=in_channels, drop=drop, initial=initial)


@register(
    "model",
    paper="Krizhevsky 2014, arXiv:1404.5997, section 5, as torchvision has it",
    year=2014,
    parameters=61_100_840,
    macs=714_188_480,
    input=(3, 224, 224),
    num_classes=1000,
    dimensions=(2,),
    smallest=63,
    weights="alexnet-owt-7be5be79.pth",
    renamed=RENAMED,
)
def alexnet_torchvision(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    image_size: Sequence[int] = (224, 224),
    drop: float = 0.5,
    initial: str = "he",
) -> AlexNet:
    """AlexNet as torchvision has it and its weights fit: fewer maps, one tower, no normalisation."""
    return AlexNet(
        WEIRD_TRICK, image_size, num_classes=num_classes, in_channels=in_channels, drop=drop, initial=initial
    )


@register(
    "model",
    paper=f"{PAPER}, for small images",
    year=2012,
    parameters=1_436_874,
    macs=46_209_024,
    input=(3, 32, 32),
    num_classes=10,
    dimensions=(1, 2, 3),
    smallest=15,
    small=True,
)
def alexnet_small(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: Sequence[int] = (32, 32),
    towers: int = 2,
    norm: bool = True,
    drop: float = 0.5,
    initial: str = "he",
) -> AlexNet:
    """AlexNet for images of 28 to 32 pixels, still with two towers.

    Half the maps in each convolution, 512 hidden units in place of 4096, and a first convolution of 5x5 that keeps the
    side: 11x11 in steps of 4 would leave 6 of 32 pixels. Everything else is the paper's.

    Args:
        towers: 1 connects every convolution to all maps.
        norm: local response normalisation after the first two convolutions.
    """
    layout = replace(SMALL, towers=towers, norm=norm)
    return AlexNet(layout, image_size, num_classes=num_classes, in_channels=in_channels, drop=drop, initial=initial)
