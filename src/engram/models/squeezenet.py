"""SqueezeNet: AlexNet's accuracy from a fiftieth of its weights.

Three rules: use 1x1 convolutions in place of 3x3 ones, narrow what goes into the 3x3 ones that remain, and halve the
image late, so that maps stay large. The first two make the Fire module, a 1x1 convolution that squeezes its input to a
few maps, and two side by side that widen these again:

    s = relu(squeeze 1x1 (x))
    fire(x) = [relu(expand 1x1 (s)), relu(expand 3x3 (s))]

Eight of them stand between one convolution and a 1x1 convolution with a map for each class, whose mean is its score.

It helps where weights must be sent or stored: 1,248,424 of them, 4.8 MB (0.5 MB compressed, in the paper). It does not
make a network quick, as its maps stay large: version 1.0 has more multiply-adds than AlexNet; 1.1, with a smaller first
convolution and earlier poolings, less than half as many at the same accuracy.

A bypass adds a Fire module's input to its output, as in a residual network: "simple" around the four modules that keep
their width (3, 5, 7 and 9), "complex" around the other four as well, by a 1x1 convolution.

The paper's settings: SGD, batch 512, momentum 0.9, weight decay 2e-4, lr 0.04 falling in a line to 0 over 170,000
steps; dropout 0.5 before the last convolution. The paper's accuracy on ILSVRC-2012, not ours: 57.5 % top-1 and 80.3 %
top-5, with the simple bypass 60.4 and 82.5 %, with the complex one 58.8 and 82.0 %. torchvision prints 58.1 and 80.4 %
for its weights of 1.0, 58.2 and 80.6 % of 1.1.

Where we differ: weights start by He's rule, those of the last convolution from N(0, 0.01^2), as torchvision and, but
for Xavier's rule in the other layers, as the authors. Poolings let their last window hang over the edge, as both. The
ReLU on the class maps can be left out (`rectified=False`). `squeezenet_small` is ours, for 28 to 32 pixels.

Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer 2016, SqueezeNet, arXiv:1602.07360, section 3 and table 1; bypasses:
section 6. Version 1.1: the authors' repository, forresti/SqueezeNet.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.errors import unknown
from engram.grammar import number
from engram.layers.dimensions import batch_norm as normalization
from engram.layers.dimensions import convolution, max_pool
from engram.registry import register

PAPER = "Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer 2016, arXiv:1602.07360"
BYPASSES = ("simple", "complex")
SQUEEZED = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}
"""Maps that each Fire module squeezes to; it widens them to four times as many twice."""


def _layers(pools_before: tuple[int, ...]) -> tuple[str, ...]:
    """Names of all layers but the last, with a pooling before each of those Fire modules."""
    names = ["conv1", "relu1"]
    for place in SQUEEZED:
        names += [f"pool{place - 1}", f"fire{place}"] if place in pools_before else [f"fire{place}"]
    return tuple(names)


VERSION_1_0 = _layers(pools_before=(2, 5, 9))
VERSION_1_1 = _layers(pools_before=(2, 4, 6))


class Fire(nn.Module):
    """A 1x1 convolution to few maps, then a 1x1 and a 3x3 convolution side by side.

    Args:
        squeezed: maps between; the output has eight times as many.
        bypass: a module whose output is added, for instance the identity.
    """

    def __init__(
        self, in_channels: int, squeezed: int, dimensions: int, bypass: nn.Module | None, batch_norm: bool
    ) -> None:
        super().__init__()
        conv, norm = convolution(dimensions), normalization(dimensions) if batch_norm else nn.Identity
        self.squeeze = conv(in_channels, squeezed, 1, bias=not batch_norm)
        self.norm1 = norm(squeezed)
        self.expand1x1 = conv(squeezed, 4 * squeezed, 1, bias=not batch_norm)
        self.expand3x3 = conv(squeezed, 4 * squeezed, 3, padding=1, bias=not batch_norm)
        self.norm2 = norm(8 * squeezed)
        self.bypass = bypass

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        y = F.relu(self.norm1(self.squeeze(x)))  # (B, squeezed, *S)
        y = torch.cat([self.expand1x1(y), self.expand3x3(y)], 1)  # (B, 8 squeezed, *S)
        y = F.relu(self.norm2(y))
        return y if self.bypass is None else y + self.bypass(x)


class SqueezeNet(nn.Module):
    """One convolution, eight Fire modules with poolings between, and the mean of a map for each class.

    Args:
        layers: names in their order, conv1 and relu1 first; each pooling halves the image.
        stem: (maps, kernel, stride, padding) of the first convolution.
        drop: share of values set to zero before the last convolution while training.
        bypass: "simple", "complex" or None.
        batch_norm: normalise before each ReLU of the Fire modules and of the first convolution.
        rectified: pass the class maps through a ReLU before their mean.

    Raises:
        UserError: a share outside 0 to 1, an unknown word.

    >>> SqueezeNet(VERSION_1_1, (64, 3, 1, 1), num_classes=10)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        layers: Sequence[str],
        stem: tuple[int, int, int, int],
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        dimensions: int = 2,
        drop: float = 0.5,
        bypass: str | None = None,
        batch_norm: bool = False,
        rectified: bool = True,
    ) -> None:
        super().__init__()
        number("squeezenet", "drop", drop, 0, 1)
        if bypass not in (*BYPASSES, None):
            raise unknown("bypass", str(bypass), (*BYPASSES, "none"))
        conv, channels = convolution(dimensions), stem[0]
        norm = [normalization(dimensions)(channels)] if batch_norm else []
        self.features = nn.Sequential()
        self.features.add_module("conv1", conv(in_channels, *stem, bias=not batch_norm))
        self.features.add_module("relu1", nn.Sequential(*norm, nn.ReLU()))
        for layer in layers[2:]:
            if layer.startswith("pool"):
                module: nn.Module = max_pool(dimensions)(3, 2, ceil_mode=True)
            else:
                squeezed = SQUEEZED[int(layer.removeprefix("fire"))]
                path = _bypass(bypass, channels, 8 * squeezed, dimensions)
                module, channels = Fire(channels, squeezed, dimensions, path, batch_norm), 8 * squeezed
            self.features.add_module(layer, module)
        self.drop = nn.Dropout(drop)
        self.head = conv(channels, num_classes, 1)
        self.last = nn.ReLU() if rectified else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        x = self.features(x)  # (B, 512, *S / 16)
        x = self.last(self.head(self.drop(x)))  # (B, num_classes, *S / 16)
        return x.flatten(2).mean(2)  # (B, num_classes)


def _bypass(kind: str | None, channels: int, made: int, dimensions: int) -> nn.Module | None:
    if kind is None or (kind == "simple" and channels != made):
        return None
    return nn.Identity() if channels == made else convolution(dimensions)(channels, made, 1)


def _renamed(layers: Sequence[str]) -> tuple[tuple[str, Any], ...]:
    """From torchvision's names to ours."""
    return ((r"^features\.(\d+)\.", lambda found: f"features.{layers[int(found[1])]}."), (r"^classifier\.1\.", "head."))


@register(
    "model",
    paper=f"{PAPER}, table 1",
    year=2016,
    parameters=1_248_424,
    macs=818_924_576,
    input=(3, 224, 224),
    num_classes=1000,
    dimensions=(1, 2, 3),
    smallest=21,
    weights="squeezenet1_0-b66bff10.pth",
    renamed=_renamed(VERSION_1_0),
)
def squeezenet1_0(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    dimensions: int = 2,
    drop: float = 0.5,
    bypass: str | None = None,
    batch_norm: bool = False,
    rectified: bool = True,
) -> SqueezeNet:
    """SqueezeNet as its paper has it, for photographs of 224 pixels."""
    return SqueezeNet(
        VERSION_1_0,
        (96, 7, 2, 0),
        num_classes=num_classes,
        in_channels=in_channels,
        dimensions=dimensions,
        drop=drop,
        bypass=bypass,
        batch_norm=batch_norm,
        rectified=rectified,
    )


@register(
    "model",
    paper=f"{PAPER}, version 1.1 of its authors' repository",
    year=2016,
    parameters=1_235_496,
    macs=349_151_936,
    input=(3, 224, 224),
    num_classes=1000,
    dimensions=(1, 2, 3),
    smallest=17,
    weights="squeezenet1_1-b8a52dc0.pth",
    renamed=_renamed(VERSION_1_1),
)
def squeezenet1_1(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    dimensions: int = 2,
    drop: float = 0.5,
    bypass: str | None = None,
    batch_norm: bool = False,
    rectified: bool = True,
) -> SqueezeNet:
    """SqueezeNet with a 3x3 first convolution and earlier poolings: the same accuracy for less than half the work."""
    return SqueezeNet(
        VERSION_1_1,
        (64, 3, 2, 0),
        num_classes=num_classes,
        in_channels=in_channels,
        dimensions=dimensions,
        drop=drop,
        bypass=bypass,
        batch_norm=batch_norm,
        rectified=rectified,
    )


@register(
    "model",
    paper=f"{PAPER}, for small images",
    year=2016,
    parameters=730_570,
    macs=23_511_040,
    input=(3, 32, 32),
    num_classes=10,
    dimensions=(1, 2, 3),
    smallest=8,
    small=True,
)
def squeezenet_small(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    dimensions: int = 2,
    drop: float = 0.5,
    bypass: str | None = "simple",
    batch_norm: bool = True,
    rectified: bool = False,
) -> SqueezeNet:
    """SqueezeNet for images of 28 to 32 pixels.

    Version 1.1 whose first convolution keeps the side, so that 4 of 32 pixels remain at the end. By default it has the
    simple bypass, batch normalisation and no ReLU on the class maps: with two passes over 5,000 images of CIFAR-10 it
    came to 38 % so, and in the paper's way (`bypass=None, batch_norm=False, rectified=True`) stayed at 10 %.
    """
    return SqueezeNet(
        VERSION_1_1,
        (64, 3, 1, 1),
        num_classes=num_classes,
        in_channels=in_channels,
        dimensions=dimensions,
        drop=drop,
        bypass=bypass,
        batch_norm=batch_norm,
        rectified=rectified,
    )
