"""ZFNet: AlexNet mended where pictures of its filters showed it wanting.

Its authors projected single activations back to pixels (deconvolution, unpooling) to see what a layer had learned. The
first layer of AlexNet turned out to have only very high and very low frequencies, the second aliasing from steps of
four. So the first convolution became 7x7 in steps of two, and the second takes steps of two, too:

    224x224 -conv1 7x7/2-> 96 of 110x110 -pool-> 55x55 -conv2 5x5/2-> 256 of 26x26 -pool-> 13x13 -conv3 3x3-> 384
            -conv4-> 384 -conv5-> 256 -pool-> 6x6 -fc6-> 4096 -fc7-> 4096 -> 1000

in one tower, each pooling of 3 in steps of 2 after the ReLU and, the first two times, before local response
normalisation over channels:

    y = normalise(maxpool(relu(conv(x))))

It helps over AlexNet by 2.3 points (top-1) with the same weights in the full connections; it hurts by 1.6 times the
multiply-adds of the two towers, for maps four times as large at the start. VGG soon went on to 3x3 everywhere.

The paper's settings: SGD, batch 128, momentum 0.9, lr 0.01 divided by 10 by hand when the validation error stops
falling, 70 passes in 12 days; all weights from N(0, 0.01^2), biases 0 (`initial="paper"`); dropout 0.5 after fc6 and
fc7; crops of 224 from 256 pixels and flips. Any filter of a convolution whose root mean square comes above 0.1 is
scaled back to 0.1. The paper's error on ILSVRC-2012, validation, not ours: 38.4 % top-1 and 16.5 % top-5 by one
network, 36.7 and 15.3 % by five.

Where we differ: weights start by He's rule unless `initial="paper"`, the filters are not scaled back, and the constants
of the normalisation, which the paper does not print, are AlexNet's. The poolings let their last window hang over the
edge, which gives the paper's 55, 13 and 6. `zfnet_small` is ours, for 28 to 32 pixels.

Zeiler, Fergus 2013, Visualizing and Understanding Convolutional Networks, arXiv:1311.2901, section 3, figure 3 and
section 4.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from math import prod

from torch import Tensor, nn

from engram.grammar import choice, number
from engram.layers.activations import initialize
from engram.layers.dimensions import check_size, convolution, max_pool
from engram.layers.local_response_norm import LocalResponseNorm
from engram.registry import register

INITIAL = ("he", "paper")
PAPER = "Zeiler, Fergus 2013, arXiv:1311.2901"


@dataclass(frozen=True)
class Layout:
    """Maps, hidden units, and (kernel, stride, padding) of the first two convolutions."""

    widths: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)
    hidden: int = 4096
    first: tuple[int, int, int] = (7, 2, 1)
    second: tuple[int, int, int] = (5, 2, 0)

    def last(self, side: int) -> int:
        """The side of the last maps, after three poolings."""
        for kernel, stride, padding in (self.first, self.second):
            side = (side + 2 * padding - kernel) // stride + 1
            side = _pooled(side)
        return _pooled(side)

    @property
    def smallest(self) -> int:
        """The smallest side that leaves a pixel for fc6."""
        return next(side for side in count(1) if self.last(side) >= 1)


def _pooled(side: int) -> int:
    """After windows of 3 in steps of 2, the last of which may hang over."""
    return (side - 2) // 2 + 1


SMALL = Layout(widths=(48, 128, 192, 192, 128), hidden=512, first=(3, 1, 1), second=(5, 2, 2))


class ZFNet(nn.Module):
    """Five convolutions, three poolings, two full connections and a linear head.

    Args:
        image_size: sides of the input, from one to three of them.
        drop: share of the full connections' units set to zero while training.
        initial: "he", or "paper" for N(0, 0.01^2).

    Raises:
        UserError: an image too small, a share outside 0 to 1, an unknown word.

    >>> import torch; ZFNet(SMALL, (28, 28), num_classes=10)(torch.zeros(2, 3, 28, 28)).shape
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
        choice("zfnet", "initial", initial, INITIAL)
        number("zfnet", "drop", drop, 0, 1)
        self.smallest = layout.smallest
        check_size(image_size, self.smallest, "zfnet")
        conv, pool = convolution(len(image_size)), max_pool(len(image_size))
        first, second, third, fourth, fifth = layout.widths
        self.features = nn.Sequential()
        self.features.add_module("conv1", conv(in_channels, first, *layout.first))
        self.features.add_module("relu1", nn.ReLU())
        self.features.add_module("pool1", pool(3, 2, ceil_mode=True))
        self.features.add_module("norm1", LocalResponseNorm())
        self.features.add_module("conv2", conv(first, second, *layout.second))
        self.features.add_module("relu2", nn.ReLU())
        self.features.add_module("pool2", pool(3, 2, ceil_mode=True))
        self.features.add_module("norm2", LocalResponseNorm())
        self.features.add_module("conv3", conv(second, third, 3, padding=1))
        self.features.add_module("relu3", nn.ReLU())
        self.features.add_module("conv4", conv(third, fourth, 3, padding=1))
        self.features.add_module("relu4", nn.ReLU())
        self.features.add_module("conv5", conv(fourth, fifth, 3, padding=1))
        self.features.add_module("relu5", nn.ReLU())
        self.features.add_module("pool5", pool(3, 2, ceil_mode=True))
        last = [layout.last(side) for side in image_size]
        self.fc6 = nn.Sequential(nn.Linear(fifth * prod(last), layout.hidden), nn.ReLU(), nn.Dropout(drop))
        self.fc7 = nn.Sequential(nn.Linear(layout.hidden, layout.hidden), nn.ReLU(), nn.Dropout(drop))
        self.head = nn.Linear(layout.hidden, num_classes)
        self._initialize(initial)

    def _initialize(self, initial: str) -> None:
        for module in self.modules():
            if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear) or module.bias is None:
                continue
            nn.init.zeros_(module.bias)
            if initial == "paper":
                nn.init.normal_(module.weight, std=0.01)
            else:
                initialize(module.weight, before="identity" if module is self.head else "relu")

    def forward(self, x: Tensor) -> Tensor:  # (B, C, 224, 224)
        x = self.features(x)  # (B, 256, 6, 6)
        x = self.fc6(x.flatten(1))  # (B, 4096)
        x = self.fc7(x)  # (B, 4096)
        return self.head(x)  # (B, num_classes)


@register(
    "model",
    paper=f"{PAPER}, figure 3",
    year=2013,
    parameters=62_357_608,
    macs=1_168_032_896,
    input=(3, 224, 224),
    num_classes=1000,
    dimensions=(2,),
    smallest=47,
)
def zfnet(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    image_size: Sequence[int] = (224, 224),
    drop: float = 0.5,
    initial: str = "he",
) -> ZFNet:
    """ZFNet as its paper has it: AlexNet in one piece, with smaller kernels and steps at the start."""
    return ZFNet(Layout(), image_size, num_classes=num_classes, in_channels=in_channels, drop=drop, initial=initial)


@register(
    "model",
    paper=f"{PAPER}, figure 3, for small images",
    year=2013,
    parameters=1_460_170,
    macs=24_073_216,
    input=(3, 32, 32),
    num_classes=10,
    dimensions=(1, 2, 3),
    smallest=14,
    small=True,
)
def zfnet_small(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: Sequence[int] = (32, 32),
    drop: float = 0.5,
    initial: str = "he",
) -> ZFNet:
    """ZFNet for images of 28 to 32 pixels, which still takes its second step in conv2.

    Half the maps in each convolution, 512 hidden units in place of 4096, and a first convolution of 3x3 that keeps the
    side; two zeros at each end of conv2's input keep its border.
    """
    return ZFNet(SMALL, image_size, num_classes=num_classes, in_channels=in_channels, drop=drop, initial=initial)
