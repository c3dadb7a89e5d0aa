"""Network in Network: a small perceptron in place of each filter, and class maps in place of full connections.

A convolution answers to its patch by one linear function. Here a perceptron of two more layers slides over the image
with it; since it sees one pixel of the maps below at a time, its layers are 1x1 convolutions:

    mlpconv(x) = relu(W3 relu(W2 relu(W1 * x)))        W1 a kernel of 3 to 11 pixels, W2 and W3 1x1

The last mlpconv makes as many maps as there are classes, and the score of a class is the mean of its map (global
average pooling). That has no weights to overfit, takes images of any size, and the map shows where the class was seen.

It helps where full connections would hold nearly all weights: 7.6 million here where AlexNet has 61, at about the same
error. It hurts in depth: nine layers and ReLU on the scores, without normalisation, are slow to start. Both of its
ideas stayed, in GoogLeNet and in every residual network; making a 1x1 convolution narrow before a costly one came
later.

The paper's settings: SGD with momentum, batch 128, lr by hand, two divisions by 10; dropout 0.5 between mlpconvs,
weight decay; CIFAR-10 with global contrast normalisation and ZCA whitening. The paper's test error on CIFAR-10, not
ours: 10.41 %, 8.81 % with crops and flips; CIFAR-100 35.68 %, SVHN 2.35 %, MNIST 0.47 %.

Where we differ: the paper leaves widths and kernels open, and these are its authors' networks as Caffe's zoo has them:
the second pooling of `nin_cifar` is a mean, poolings let their last window hang over the edge, the scores pass a ReLU
before their mean. Weights start by He's rule, the zoo's from fixed normal distributions, and the ReLU on the scores
can be left out (`rectified=False`). `nin_small` is ours: half the width, batch normalisation after each convolution and
no ReLU on the scores.

Lin, Chen, Yan 2013, Network In Network, arXiv:1312.4400, section 3 and figure 2; results: section 4.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from engram.grammar import number
from engram.layers.activations import initialize
from engram.layers.dimensions import average_pool, batch_norm, convolution, max_pool
from engram.registry import register

PAPER = "Lin, Chen, Yan 2013, arXiv:1312.4400, section 3"


class Block(NamedTuple):
    """One mlpconv: its first kernel, the widths of its three layers, and what follows it."""

    kernel: int
    stride: int
    padding: int
    widths: tuple[int, ...]
    pool: str | None = None
    drops: bool = False


IMAGENET = (
    Block(11, 4, 0, (96, 96, 96), "max"),
    Block(5, 1, 2, (256, 256, 256), "max"),
    Block(3, 1, 1, (384, 384, 384), "max", drops=True),
    Block(3, 1, 1, (1024, 1024)),
)
CIFAR = (
    Block(5, 1, 2, (192, 160, 96), "max", drops=True),
    Block(5, 1, 2, (192, 192, 192), "average", drops=True),
    Block(3, 1, 1, (192, 192)),
)
SMALL = (
    Block(5, 1, 2, (96, 80, 48), "max", drops=True),
    Block(5, 1, 2, (96, 96, 96), "average", drops=True),
    Block(3, 1, 1, (96, 96)),
)


class NiN(nn.Module):
    """Mlpconvs, the last of which makes a map for each class, and the mean of each map.

    Args:
        blocks: the third layer of the last one is the head, and is not listed there.
        drop: share of values set to zero between mlpconvs while training.
        batch_norm: normalise after each convolution but the head.
        rectified: pass the class maps through a ReLU before their mean.

    Raises:
        UserError: a share outside 0 to 1.

    >>> import torch; NiN(SMALL, num_classes=10)(torch.zeros(2, 3, 28, 30)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        dimensions: int = 2,
        drop: float = 0.5,
        batch_norm: bool = False,
        rectified: bool = True,
    ) -> None:
        super().__init__()
        number("nin", "drop", drop, 0, 1)
        conv = convolution(dimensions)
        pools = {"max": max_pool(dimensions), "average": average_pool(dimensions)}
        self.features = nn.Sequential()
        for place, block in enumerate(blocks, 1):
            self.features.add_module(f"mlpconv{place}", _mlpconv(in_channels, block, dimensions, batch_norm))
            if block.pool is not None:
                self.features.add_module(f"pool{place}", pools[block.pool](3, 2, ceil_mode=True))
            if block.drops:
                self.features.add_module(f"drop{place}", nn.Dropout(drop))
            in_channels = block.widths[-1]
        self.head = conv(in_channels, num_classes, 1)
        self.last = nn.ReLU() if rectified else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                initialize(module.weight, before="identity" if module is self.head else "relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        x = self.features(x)  # (B, widths[-1], *S / 4)
        x = self.last(self.head(x))  # (B, num_classes, *S / 4)
        return x.flatten(2).mean(2)  # (B, num_classes)


def _mlpconv(channels: int, block: Block, dimensions: int, normalized: bool) -> nn.Sequential:
    conv, layers = convolution(dimensions), nn.Sequential()
    for place, width in enumerate(block.widths, 1):
        first = (block.kernel, block.stride, block.padding) if place == 1 else (1,)
        layers.add_module(f"conv{place}", conv(channels, width, *first, bias=not normalized))
        if normalized:
            layers.add_module(f"norm{place}", batch_norm(dimensions)(width))
        layers.add_module(f"relu{place}", nn.ReLU())
        channels = width
    return layers


@register(
    "model",
    paper=f"{PAPER}, with the layers of Caffe's zoo",
    year=2013,
    parameters=7_595_176,
    macs=1_105_996_320,
    input=(3, 227, 227),
    num_classes=1000,
    dimensions=(1, 2, 3),
    smallest=39,
)
def nin_imagenet(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    dimensions: int = 2,
    drop: float = 0.5,
    batch_norm: bool = False,
    rectified: bool = True,
) -> NiN:
    """Network in Network for photographs of 224 pixels, four mlpconvs."""
    return NiN(
        IMAGENET,
        num_classes=num_classes,
        in_channels=in_channels,
        dimensions=dimensions,
        drop=drop,
        batch_norm=batch_norm,
        rectified=rectified,
    )


@register(
    "model",
    paper=f"{PAPER}, with the layers of Caffe's zoo",
    year=2013,
    parameters=966_986,
    macs=222_486_528,
    input=(3, 32, 32),
    num_classes=10,
    dimensions=(1, 2, 3),
    smallest=6,  # the mean over volumes wants three pixels
)
def nin_cifar(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    dimensions: int = 2,
    drop: float = 0.5,
    batch_norm: bool = False,
    rectified: bool = True,
) -> NiN:
    """Network in Network for small images, as its authors trained it on CIFAR-10, three mlpconvs."""
    return NiN(
        CIFAR,
        num_classes=num_classes,
        in_channels=in_channels,
        dimensions=dimensions,
        drop=drop,
        batch_norm=batch_norm,
        rectified=rectified,
    )


@register(
    "model",
    paper=f"{PAPER}, at half the width",
    year=2013,
    parameters=246_890,
    macs=59_338_752,
    input=(3, 32, 32),
    num_classes=10,
    dimensions=(1, 2, 3),
    smallest=6,  # the mean over volumes wants three pixels
    small=True,
)
def nin_small(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    dimensions: int = 2,
    drop: float = 0.5,
    batch_norm: bool = True,
    rectified: bool = False,
) -> NiN:
    """`nin_cifar` at half the width, a quarter of the work.

    It has batch normalisation and no ReLU on the scores by default: with two passes over 5,000 images of CIFAR-10 it
    came to 29 % so, without either to 18 %, all else the same.
    """
    return NiN(
        SMALL,
        num_classes=num_classes,
        in_channels=in_channels,
        dimensions=dimensions,
        drop=drop,
        batch_norm=batch_norm,
        rectified=rectified,
    )
