"""GoogLeNet: modules that look at a place through windows of several sizes at once, 22 layers for few weights.

An Inception module does not choose between a 1x1, a 3x3 and a 5x5 convolution and a pooling: it does all four, each
padded to the same size, and lays their maps side by side. So that the larger windows stay affordable, a 1x1 convolution
narrows what goes into them, and what comes out of the pooling:

    inception(x) = [1x1 x,  3x3 (1x1 x),  5x5 (1x1 x),  1x1 (pool 3x3 x)]        ReLU after every convolution

The channels of the four branches add up. With 256 maps of 28 x 28 pixels, and 128, 192 and 96 filters, narrowing to 64
takes 271 million multiply-adds in place of 854, and gives 480 maps in place of 672. Nothing is widened again after the
large window: that came with ResNet's bottleneck.

After the last module stands the mean over positions in place of hidden full connections, as in Network in Network. Two
auxiliary heads, after modules 4a and 4d, bring the gradient to the lower layers while the network trains
(`engram.layers.auxiliary`); in evaluation they are not there.

It helps where weights and multiply-adds are dear: a twelfth of AlexNet's weights and about a tenth of VGG's work, at a
lower error than either's. It hurts in hands that have to change it: some hundred numbers, found by trying. Batch
normalisation made the heads unnecessary.

The paper's settings: asynchronous SGD with momentum 0.9, lr reduced by 4 % every 8 epochs, averaged weights; crops of 8
to 100 % of the area with aspects from 3/4 to 4/3, distorted colours; heads with weight 0.3. The paper's top-5 error on
ILSVRC-2014, not ours: 10.07 % with one network and one crop, 7.89 % with 144 crops, 6.67 % with seven networks.

Where we differ. `googlenet` is the paper's table 1. What the paper leaves open: the response normalisations around the
second convolution have AlexNet's constants, weights start by He's rule, windows of poolings may hang over the edge. On
other images than of 224 pixels the heads pool to 4 x 4 positions as evenly as can be. `googlenet_bn` is the same with
batch normalisation after every convolution, without response normalisation and heads; it is not the network of the
batch normalisation paper, whose modules are others. `googlenet_torchvision` is torchvision's: 3x3 windows in the "5x5"
branch, a mistake that its weights have made permanent, a last pooling of 2x2, dropout 0.2. `googlenet_small` is ours.

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich 2014, Going Deeper with Convolutions,
arXiv:1409.4842: section 4 for the modules, section 5 and table 1 for the network and its heads, sections 6 and 7 for
training and results.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from engram.errors import UserError, unknown
from engram.grammar import number
from engram.layers.activations import initialize
from engram.layers.auxiliary import GoogLeNetHead, Scores
from engram.layers.dimensions import batch_norm as normalization
from engram.layers.dimensions import convolution, max_pool
from engram.layers.local_response_norm import LocalResponseNorm
from engram.registry import register

PAPER = "Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich 2014, arXiv:1409.4842"
Unit = Callable[..., nn.Module]
"""Builds a convolution with what follows it, from channels in and out and a kernel."""


class Maps(NamedTuple):
    """The maps of a module's branches; where one narrows first, (maps to narrow to, maps to give)."""

    one: int
    three: tuple[int | None, int]
    five: tuple[int | None, int]
    pool: int | None

    def scaled(self, width: int) -> "Maps":
        """The same for a network that is width/64 as wide."""

        def share(maps: int) -> int:
            return maps * width // 64

        (narrow3, three), (narrow5, five) = self.three, self.five
        return Maps(
            share(self.one),
            (narrow3 and share(narrow3), share(three)),
            (narrow5 and share(narrow5), share(five)),
            self.pool and share(self.pool),
        )


MODULES = {
    "3a": Maps(64, (96, 128), (16, 32), 32),
    "3b": Maps(128, (128, 192), (32, 96), 64),
    "4a": Maps(192, (96, 208), (16, 48), 64),
    "4b": Maps(160, (112, 224), (24, 64), 64),
    "4c": Maps(128, (128, 256), (24, 64), 64),
    "4d": Maps(112, (144, 288), (32, 64), 64),
    "4e": Maps(256, (160, 320), (32, 128), 128),
    "5a": Maps(256, (160, 320), (32, 128), 128),
    "5b": Maps(384, (192, 384), (48, 128), 128),
}
"""Table 1 of the paper."""
HEADS_AFTER = ("inception4a", "inception4d")
STEMS = ("large", "small")


class Inception(nn.Module):
    """Windows of several sizes side by side.

    Args:
        maps: of each branch. Without a number to narrow to, a branch sees all of the input (the paper's naive module);
            without one for the pooling, its maps are passed on as they are.
        unit: builds each convolution with what follows it.
        five: side of the largest window.

    >>> unit = lambda *shape: nn.Conv2d(*shape, padding=shape[2] // 2)
    >>> Inception(192, MODULES["3a"], unit)(torch.zeros(2, 192, 28, 28)).shape
    torch.Size([2, 256, 28, 28])
    """

    def __init__(self, in_channels: int, maps: Maps, unit: Unit, *, dimensions: int = 2, five: int = 5) -> None:
        super().__init__()
        self.one = unit(in_channels, maps.one, 1)
        self.three = _narrowed(in_channels, maps.three, 3, unit)
        self.five = _narrowed(in_channels, maps.five, five, unit)
        window = max_pool(dimensions)(3, 1, padding=1)
        projected = {} if maps.pool is None else {"project": unit(in_channels, maps.pool, 1)}
        self.pool = nn.Sequential(OrderedDict(window=window, **projected))
        self.channels = maps.one + maps.three[1] + maps.five[1] + (in_channels if maps.pool is None else maps.pool)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)  # (B, channels, *S)


def _narrowed(channels: int, maps: tuple[int | None, int], kernel: int, unit: Unit) -> nn.Sequential:
    narrow, wide = maps
    first = {} if narrow is None else {"reduce": unit(channels, narrow, 1)}
    return nn.Sequential(OrderedDict(**first, filter=unit(narrow or channels, wide, kernel)))


class GoogLeNet(nn.Module):
    """A stem, nine Inception modules with poolings between, the mean over positions and a linear head.

    Args:
        width: maps of the first module's first branch, and all others in proportion; the paper's are 64.
        stem: "large" for the paper's, which leaves an eighth of the side, "small" for one 3x3 convolution.
        batch_norm: after every convolution, in place of the two response normalisations.
        eps: that the batch normalisation adds to the variance.
        five: side of the window in the branch that the paper calls 5x5.
        last_pool: side of the window of the last pooling.
        auxiliary: put the two heads on, which only training has.
        auxiliary_weight: of each head's loss; as an attribute it may be changed while the network trains.
        windows: of the heads' pooling, as in `GoogLeNetHead`.
        drop: share of values that training sets to zero before the head.
        transform_input: of inputs normalised by ImageNet's mean and standard deviation, make ones normalised by 0.5.

    Raises:
        UserError: a share outside 0 to 1, an unknown stem, a weight below 0; a transformation of other than three
            channels.

    >>> GoogLeNet(width=16, stem="small", auxiliary=False, num_classes=5)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        dimensions: int = 2,
        width: int = 64,
        stem: str = "large",
        batch_norm: bool = False,
        eps: float = 1e-5,
        five: int = 5,
        last_pool: int = 3,
        auxiliary: bool = True,
        auxiliary_weight: float = 0.3,
        windows: str = "paper",
        drop: float = 0.4,
        transform_input: bool = False,
    ) -> None:
        super().__init__()
        number("googlenet", "drop", drop, 0, 1)
        number("googlenet", "width", width, 4, whole=True)
        if transform_input and in_channels != 3:
            raise UserError(
                f"googlenet: transform_input is for three channels, and these inputs have {in_channels}",
                then="--model.transform_input false",
            )
        self.transform_input = transform_input
        self.auxiliary_weight = number("googlenet", "auxiliary_weight", auxiliary_weight, 0)
        pool, bias = max_pool(dimensions), not batch_norm  # which a normalisation would subtract again

        def unit(channels: int, maps: int, kernel: int, stride: int = 1) -> nn.Module:
            layers = nn.Sequential()
            layers.add_module("conv", convolution(dimensions)(channels, maps, kernel, stride, kernel // 2, bias=bias))
            if batch_norm:
                layers.add_module("norm", normalization(dimensions)(maps, eps=eps))
            layers.add_module("relu", nn.ReLU())
            return layers

        layers = _stem(stem, in_channels, width, unit, pool, local_response=not batch_norm)
        channels, self.auxiliary_heads = 3 * width, nn.ModuleDict() if auxiliary else None
        for place, maps in MODULES.items():
            if place in ("4a", "5a"):
                side = 3 if place == "4a" else last_pool
                layers[f"pool{int(place[0]) - 1}"] = pool(side, 2, ceil_mode=True)
            module = Inception(channels, maps.scaled(width), unit, dimensions=dimensions, five=five)
            layers[f"inception{place}"], channels = module, module.channels
            if self.auxiliary_heads is not None and f"inception{place}" in HEADS_AFTER:
                self.auxiliary_heads[f"inception{place}"] = GoogLeNetHead(
                    channels, num_classes, dimensions, pointwise=lambda maps: unit(maps, 128, 1), windows=windows
                )
        self.features = nn.Sequential(OrderedDict(layers))
        self.pool = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[dimensions](1)
        self.drop = nn.Dropout(drop)
        self.head = nn.Linear(channels, num_classes)
        self._initialize()

    def _initialize(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
                scores = module is self.head or name.endswith("fc2")
                initialize(module.weight, before="identity" if scores else "relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor | Scores:  # (B, C, *S)
        x = transformed(x) if self.transform_input else x
        heads = []
        for name, layer in self.features.named_children():
            x = layer(x)
            if self.training and self.auxiliary_heads is not None and name in self.auxiliary_heads:
                heads.append(self.auxiliary_heads[name](x))
        x = self.pool(x).flatten(1)  # (B, 16 width)
        scores = self.head(self.drop(x))  # (B, num_classes)
        return Scores(scores, tuple(heads), self.auxiliary_weight) if heads else scores


def _stem(
    kind: str, in_channels: int, width: int, unit: Unit, pool: Callable[..., nn.Module], *, local_response: bool
) -> dict[str, nn.Module]:
    """What comes before the modules, by name; it gives three times `width` maps."""
    if kind not in STEMS:
        raise unknown("stem", kind, STEMS)
    if kind == "small":
        return {"conv1": unit(in_channels, 3 * width, 3)}
    layers = {
        "conv1": unit(in_channels, width, 7, 2),
        "pool1": pool(3, 2, ceil_mode=True),
        "norm1": LocalResponseNorm() if local_response else None,
        "conv2_reduce": unit(width, width, 1),
        "conv2": unit(width, 3 * width, 3),
        "norm2": LocalResponseNorm() if local_response else None,
        "pool2": pool(3, 2, ceil_mode=True),
    }
    return {name: layer for name, layer in layers.items() if layer is not None}


def transformed(x: Tensor) -> Tensor:
    """From inputs normalised by ImageNet's mean and standard deviation to ones normalised by 0.5 and 0.5.

    >>> transformed(torch.zeros(1, 3, 1)).flatten()  # the mean colour
    tensor([-0.0300, -0.0880, -0.1880])
    """
    shape = (3, *[1] * (x.dim() - 2))
    scale = x.new_tensor([std / 0.5 for std in IMAGENET_STD]).view(shape)
    shift = x.new_tensor([(mean - 0.5) / 0.5 for mean in IMAGENET_MEAN]).view(shape)
    return x * scale + shift  # (B, 3, *S)


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

RENAMED = (
    (r"^(conv|inception)", r"features.\1"),
    (r"^features\.conv2\.", "features.conv2_reduce."),
    (r"^features\.conv3\.", "features.conv2."),
    (r"\.branch1\.", ".one."),
    (r"\.branch2\.0\.", ".three.reduce."),
    (r"\.branch2\.1\.", ".three.filter."),
    (r"\.branch3\.0\.", ".five.reduce."),
    (r"\.branch3\.1\.", ".five.filter."),
    (r"\.branch4\.1\.", ".pool.project."),
    (r"^aux1\.", "auxiliary_heads.inception4a."),
    (r"^aux2\.", "auxiliary_heads.inception4d."),
    (r"\.bn\.", ".norm."),
    (r"^fc\.", "head."),
)
"""From torchvision's names to ours."""


@register(
    "model",
    paper=f"{PAPER}, table 1",
    year=2014,
    parameters=13_378_280,
    macs=1_582_671_872,
    input=(3, 224, 224),
    num_classes=1000,
    dimensions=(1, 2, 3),
    smallest=31,
)
def googlenet(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    dimensions: int = 2,
    auxiliary: bool = True,
    auxiliary_weight: float = 0.3,
    drop: float = 0.4,
) -> GoogLeNet:
    """GoogLeNet as its paper has it, for photographs of 224 pixels, with two auxiliary heads.

    Of its parameters 6,998,552 are the network's own, and 6,379,728 the heads'.
    """
    return GoogLeNet(
        num_classes=num_classes,
        in_channels=in_channels,
        dimensions=dimensions,
        auxiliary=auxiliary,
        auxiliary_weight=auxiliary_weight,
        drop=drop,
    )


@register(
    "model",
    paper=f"{PAPER}, with batch normalisation",
    year=2014,
    parameters=7_005_832,
    macs=1_582_671_872,
    input=(3, 224, 224),
    num_classes=1000,
    dimensions=(1, 2, 3),
    smallest=31,
)
def googlenet_bn(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    dimensions: int = 2,
    auxiliary: bool = False,
    drop: float = 0.4,
) -> GoogLeNet:
    """GoogLeNet with batch normalisation after every convolution, which makes the auxiliary heads unnecessary."""
    return GoogLeNet(
        num_classes=num_classes,
        in_channels=in_channels,
        dimensions=dimensions,
        batch_norm=True,
        auxiliary=auxiliary,
        drop=drop,
    )


@register(
    "model",
    paper=f"{PAPER}, as torchvision has it",
    year=2014,
    parameters=6_624_904,
    macs=1_498_376_192,
    input=(3, 224, 224),
    num_classes=1000,
    dimensions=(1, 2, 3),
    smallest=15,
    weights="googlenet-1378be20.pth",
    renamed=RENAMED,
)
def googlenet_torchvision(
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    dimensions: int = 2,
    auxiliary: bool = False,
    drop: float = 0.2,
    transform_input: bool | None = None,
) -> GoogLeNet:
    """GoogLeNet as torchvision has it, to which its official weights belong.

    These were trained on inputs normalised by 0.5, not by ImageNet's mean and standard deviation as those of its other
    networks. So that it takes the same inputs as they do, it transforms them first, unless `transform_input` is false;
    where there are not three channels, nothing is transformed. The official heads were never trained, and are left
    out here (6,379,984 parameters more, with `auxiliary=True`).
    """
    return GoogLeNet(
        num_classes=num_classes,
        in_channels=in_channels,
        dimensions=dimensions,
        batch_norm=True,
        eps=0.001,
        five=3,
        last_pool=2,
        auxiliary=auxiliary,
        windows="even",
        drop=drop,
        transform_input=in_channels == 3 if transform_input is None else transform_input,
    )


@register(
    "model",
    paper=f"{PAPER}, for small images",
    year=2014,
    parameters=284_152,
    macs=69_674_304,
    input=(3, 32, 32),
    num_classes=10,
    dimensions=(1, 2, 3),
    smallest=4,
    small=True,
)
def googlenet_small(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    dimensions: int = 2,
    width: int = 14,
    batch_norm: bool = True,
    auxiliary: bool = False,
    drop: float = 0.4,
) -> GoogLeNet:
    """GoogLeNet for images of 28 to 32 pixels: all nine modules, narrower, after one 3x3 convolution.

    Modules 3 work at the image's own side, 4 at half of it, 5 at a quarter. With two passes over 4,500 images of
    CIFAR-10, all settings the defaults, it came to 41 %.
    """
    return GoogLeNet(
        num_classes=num_classes,
        in_channels=in_channels,
        dimensions=dimensions,
        width=width,
        stem="small",
        batch_norm=batch_norm,
        auxiliary=auxiliary,
        drop=drop,
    )
