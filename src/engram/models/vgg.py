"""VGG: small windows only, stacked deep, so that depth alone can be judged.

Two 3x3 convolutions see 5x5 pixels, three see 7x7, with a nonlinearity after each and fewer weights:

    3 (3 3 C C) = 27 C^2   against   7 7 C C = 49 C^2

Five stages of such convolutions, a halving max pooling after each, the channels doubling from 64 to 512; then three
full connections. Where a stage keeps its width, adding one more convolution is all that makes the network deeper:

    vgg11  A   1 1 2 2 2      vgg16    D   2 2 3 3 3
    vgg13  B   2 2 2 2 2      vgg19    E   2 2 4 4 4
    vgg16_c  C   as D, the third convolution of a stage 1x1: more nonlinearity without a wider view
    vgg11_lrn    A-LRN, as A with local response normalisation after the first convolution: it gave nothing

Layers are named by stage and place, `features.conv3_2`, `top.fc6`, `top.fc7`, `head`, in every depth alike. So the
paper's way to train E, begun from a trained A, is a copy by equal names: conv1_1, conv2_1, conv3_1, conv3_2 and the
three full connections (Glorot's or He's initial weights made it unnecessary, and batch normalisation more so).

It helps where a plain, regular network is wanted: features to transfer, style, a lesson in receptive fields. It hurts
in memory and time: 138 million weights, 89 % of them in the full connections (`top="average"` takes the mean over
positions instead, as later networks do, and leaves 15 million), and past 19 layers a plain stack gets worse.

The paper's settings: SGD, batch 256, lr 0.01 divided by 10 three times on plateaus, momentum 0.9, weight decay 5e-4,
dropout 0.5 after the first two full connections, 74 epochs, weights from N(0, 0.01), sides scaled at random between
256 and 512. The paper's errors on ILSVRC-2012, one network tested at one scale, not ours: top-1 and top-5, trained with
a side of 256, A 29.6 and 10.4 %, A-LRN 29.7 and 10.5, B 28.7 and 9.9, C 28.1 and 9.4; trained with sides from 256 to
512, D 25.6 and 8.1, E 25.5 and 8.0.

Where we differ: weights start by He's rule, so that all depths train from scratch. Maps of other sides than 7 are
averaged or repeated to 7x7 ahead of the full connections, as torchvision does, so that its published weights read
images of any size from 32 on. `_bn` networks, with batch normalisation after each convolution, are torchvision's;
the paper is older than the idea. `vgg_small` is ours.

Simonyan and Zisserman 2014, Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv:1409.1556:
section 2.1 and table 1 for the networks, section 3.1 for growing and training them, table 3 for the errors, section
4.1 for local response normalisation.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from engram.errors import UserError, unknown
from engram.grammar import number
from engram.layers.activations import initialize
from engram.layers.dimensions import batch_norm as normalization
from engram.layers.dimensions import convolution, max_pool
from engram.layers.local_response_norm import LocalResponseNorm
from engram.registry import register

PAPER = "Simonyan and Zisserman 2014, arXiv:1409.1556"
TOPS = ("fc", "average")
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
LAST_SIDE = 7
"""Positions along each axis that the full connections read."""


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each but perhaps the last halved by max pooling, and a top that classifies.

    Args:
        depths: convolutions in each stage.
        widths: channels of each stage.
        top: "fc" for two hidden full connections of 4096, "average" for the mean over positions.
        drop: share of the full connections' inputs that training leaves out.
        pointwise: make the third convolution of a stage 1x1 (configuration C).
        local_response: normalise after the first convolution's ReLU (configuration A-LRN).
        last_pool: halve after the last stage too.

    Raises:
        UserError: the top is not known, a share outside 0 to 1.

    >>> import torch; VGG((1, 1), (8, 16), num_classes=5, top="average")(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int] = WIDTHS,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        dimensions: int = 2,
        batch_norm: bool = False,
        top: str = "fc",
        drop: float = 0.5,
        pointwise: bool = False,
        local_response: bool = False,
        last_pool: bool = True,
    ) -> None:
        super().__init__()
        number("vgg", "drop", drop, 0, 1)
        if top not in TOPS:
            raise unknown("top", top, TOPS)
        conv, norm = convolution(dimensions), normalization(dimensions)
        layers: dict[str, nn.Module] = {}
        channels = in_channels
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
            for place in range(1, depth + 1):
                kernel = 1 if pointwise and place == 3 else 3
                layers[f"conv{stage}_{place}"] = conv(channels, width, kernel, padding=kernel // 2)
                if batch_norm:
                    layers[f"norm{stage}_{place}"] = norm(width)
                layers[f"relu{stage}_{place}"] = nn.ReLU()
                channels = width
            if local_response and stage == 1:
                layers["lrn1"] = LocalResponseNorm()
            if last_pool or stage < len(depths):
                layers[f"pool{stage}"] = max_pool(dimensions)(2)
        self.smallest = 2 ** (len(depths) if last_pool else len(depths) - 1)
        self.features = nn.Sequential(OrderedDict(layers))
        hidden = 4096 if top == "fc" else channels
        self.top = _full_connections(channels, hidden, drop, dimensions) if top == "fc" else _average(dimensions)
        self.head = nn.Linear(hidden, num_classes)
        self._initialize()

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
                initialize(module.weight, before="identity" if module is self.head else "relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        x = self.features(x)  # (B, channels, *S / 32)
        x = self.top(x)  # (B, 4096), or (B, channels) with the average
        return self.head(x)  # (B, num_classes)


def _full_connections(channels: int, hidden: int, drop: float, dimensions: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            pool=_adaptive_average(dimensions, LAST_SIDE),
            flat=nn.Flatten(),
            fc6=nn.Linear(channels * LAST_SIDE**dimensions, hidden),
            relu6=nn.ReLU(),
            drop6=nn.Dropout(drop),
            fc7=nn.Linear(hidden, hidden),
            relu7=nn.ReLU(),
            drop7=nn.Dropout(drop),
        )
    )


def _average(dimensions: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(pool=_adaptive_average(dimensions, 1), flat=nn.Flatten()))


def _adaptive_average(dimensions: int, side: int) -> nn.Module:
    return {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[dimensions](side)


def renamed(depths: Sequence[int], batch_norm: bool) -> tuple[tuple[str, str | Callable[[Any], str]], ...]:
    """From torchvision's names, which count every module of the features, to ours.

    >>> import re; pattern, name = renamed((1, 1), False)[0]; re.sub(pattern, name, "features.3.weight")
    'features.conv2_1.weight'
    """
    names, index = dict[int, str](), 0
    for stage, depth in enumerate(depths, 1):
        for place in range(1, depth + 1):
            names[index], names[index + 1] = f"conv{stage}_{place}", f"norm{stage}_{place}"
            index += 3 if batch_norm else 2
        index += 1
    return (
        (r"^features\.(\d+)\.", lambda found: f"features.{names[int(found[1])]}."),
        (r"^classifier\.0\.", "top.fc6."),
        (r"^classifier\.3\.", "top.fc7."),
        (r"^classifier\.6\.", "head."),
    )


def _network(
    name: str,
    depth: int,
    parameters: int,
    macs: int,
    weights: str | None = None,
    *,
    pointwise: bool = False,
    local_response: bool = False,
) -> Callable[..., VGG]:
    """Register one of the networks for images of 224 pixels by name."""
    depths, normalized = DEPTHS[depth], name.endswith("_bn")

    def build(
        *, num_classes: int = 1000, in_channels: int = 3, dimensions: int = 2, top: str = "fc", drop: float = 0.5
    ) -> VGG:
        return VGG(
            depths,
            num_classes=num_classes,
            in_channels=in_channels,
            dimensions=dimensions,
            batch_norm=normalized,
            top=top,
            drop=drop,
            pointwise=pointwise,
            local_response=local_response,
        )

    configuration = "C" if pointwise else "ABDE"[list(DEPTHS).index(depth)] + ("-LRN" if local_response else "")
    published: Mapping[str, Any] = (
        {"weights": weights, "renamed": renamed(depths, normalized)} if weights is not None else {}
    )
    build.__name__ = build.__qualname__ = name
    build.__doc__ = (
        f"VGG of {depth} layers, configuration {configuration}{', with batch normalisation' if normalized else ''}."
    )
    return register(
        "model",
        paper=f"{PAPER}, table 1, {configuration}",
        year=2014,
        parameters=parameters,
        macs=macs,
        input=(3, 224, 224),
        num_classes=1000,
        dimensions=(1, 2, 3),
        smallest=32,
        **published,
    )(build)


vgg11 = _network("vgg11", 11, 132_863_336, 7_609_090_048, "vgg11-8a719046.pth")
vgg13 = _network("vgg13", 13, 133_047_848, 11_308_466_176, "vgg13-19584684.pth")
vgg16 = _network("vgg16", 16, 138_357_544, 15_470_264_320, "vgg16-397923af.pth")
vgg19 = _network("vgg19", 19, 143_667_240, 19_632_062_464, "vgg19-dcbb9e9d.pth")

vgg11_bn = _network("vgg11_bn", 11, 132_868_840, 7_609_090_048, "vgg11_bn-6002323d.pth")
vgg13_bn = _network("vgg13_bn", 13, 133_053_736, 11_308_466_176, "vgg13_bn-abd245e5.pth")
vgg16_bn = _network("vgg16_bn", 16, 138_365_992, 15_470_264_320, "vgg16_bn-6c64b313.pth")
vgg19_bn = _network("vgg19_bn", 19, 143_678_248, 19_632_062_464, "vgg19_bn-c79401a0.pth")

vgg16_c = _network("vgg16_c", 16, 133_638_952, 11_770_888_192, pointwise=True)
vgg11_lrn = _network("vgg11_lrn", 11, 132_863_336, 7_609_090_048, local_response=True)


@register(
    "model",
    paper=f"{PAPER}, table 1, scaled down",
    year=2014,
    parameters=2_357_930,
    macs=57_510_400,
    input=(3, 32, 32),
    num_classes=10,
    dimensions=(1, 2, 3),
    smallest=16,
    small=True,
)
def vgg_small(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    dimensions: int = 2,
    depth: int = 13,
    width: int = 32,
    batch_norm: bool = True,
    top: str = "average",
    drop: float = 0.5,
) -> VGG:
    """VGG for images of 28 or 32 pixels: configuration B with half the channels and a mean over positions.

    Half the channels are a quarter of the work. The fifth pooling is left out, since 32 pixels are 2 after the fourth
    and the mean takes what is left. Batch normalisation is on: with two passes over 4,500 images of CIFAR-10, all
    settings the defaults, it came to 48 % so, and without stayed at 11 %. `depth` is 11, 13, 16 or 19, with the large
    networks' names, so that a trained shallow one grows into a deeper one.

    Raises:
        UserError: no such depth, fewer than 8 channels.
    """
    number("vgg_small", "width", width, 8, whole=True)
    if depth not in DEPTHS:
        raise UserError(f"VGG has no configuration of {depth} layers", allowed=", ".join(map(str, DEPTHS)))
    return VGG(
        DEPTHS[depth],
        [width * size // WIDTHS[0] for size in WIDTHS],
        num_classes=num_classes,
        in_channels=in_channels,
        dimensions=dimensions,
        batch_norm=batch_norm,
        top=top,
        drop=drop,
        last_pool=False,
    )
