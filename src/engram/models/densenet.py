"""DenseNet: every layer reads the maps of all layers before it, and adds a few of its own.

A residual block adds to its input, and what came before can no longer be told apart. A dense layer puts its maps beside
the earlier ones, so that each stays to be read by all that follow, and a narrow layer is enough:

    x_l = H_l([x_0, x_1, ..., x_{l-1}])      H_l = conv 3x3 of relu of batch normalisation,     k maps, the growth rate

Layer l has k_0 + k (l - 1) input maps, and its output is a step away from the loss. Maps put side by side must be of
one size, so dense blocks stand between transitions, a 1x1 convolution and a mean over 2x2 pixels. Two refinements, the
B and the C of DenseNet-BC: a bottleneck, H_l = conv 3x3 of relu of norm of conv 1x1 of relu of norm, whose 1x1
convolution brings all maps down to 4 k; and compression, transitions that keep half of the maps.

It helps where weights are few: `densenet_bc_100_12` has 769,162 and the error of a ResNet with 10 million; the gain is
largest on small data without augmentation. It hurts in time and memory: concatenation and normalisation move every
earlier map again in each layer, which multiply-adds do not show, and training keeps these copies, a number of values
that grows with the square of the depth. With `checkpoint=True` the copies are let go, and made again in the backward
pass; no convolution is computed twice, gradients are the same to the bit and batch normalisation counts each batch
once. It keeps 6.2 MB in place of 35 for each image of `densenet_bc_100_12`, 2.3 in place of 19 of `densenet_40_12`
(float32).

The paper's settings. CIFAR-10 and 100: SGD with Nesterov momentum 0.9, batch 64, 300 passes, lr 0.1 divided by 10 after
half and three quarters of them, weight decay 1e-4; without augmentation dropout of 0.2 after each convolution but the
first (`drop=0.2`). ImageNet: 90 passes, batch 256, lr divided by 10 after 30 and 60. The paper's error on CIFAR-10, not
ours, without and with crops and flips: 40-12 7.00 and 5.24 %, 100-12 5.77 and 4.10, 100-24 5.83 and 3.74, BC-100-12
5.92 and 4.51, BC-250-24 5.19 and 3.62, BC-190-40 3.46 with. ImageNet, one crop: 121 25.0 %, 169 23.6, 201 22.5, 161
22.2; torchvision prints 25.6, 24.4, 23.1 and 22.9 % for its weights.

Where we differ: convolutions start by He's rule over the incoming connections, as torchvision, where the authors' code
has the outgoing ones. torchvision drops only after each dense layer; here, as in the paper, after its 1x1 convolution
and those of transitions too. `densenet_small` is ours.

Huang, Liu, van der Maaten, Weinberger 2016, Densely Connected Convolutional Networks, arXiv:1608.06993, section 3 and
table 1; results: table 2. Less memory: Pleiss, Chen, Huang, Li, van der Maaten, Weinberger 2017, arXiv:1707.06990.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from engram.errors import unknown
from engram.grammar import number
from engram.layers.dimensions import average_pool, batch_norm, convolution, max_pool
from engram.registry import register

PAPER = "Huang, Liu, van der Maaten, Weinberger 2016, arXiv:1608.06993"
STEMS = ("large", "small")


class Composite(nn.Module):
    """The paper's H: concatenation, batch normalisation, ReLU, convolution, and dropout behind it.

    Args:
        kernel: side of the convolution, which keeps the size.
        checkpoint: keep none of the copies that lead to the convolution; the backward pass makes them again.

    >>> Composite(12, 4, 3, 2)(torch.zeros(2, 8, 5, 5), torch.zeros(2, 4, 5, 5)).shape
    torch.Size([2, 4, 5, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        dimensions: int,
        *,
        drop: float = 0.0,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.norm = batch_norm(dimensions)(in_channels)
        self.conv = convolution(dimensions)(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
        self.drop = nn.Dropout(drop)
        self.checkpoint = checkpoint

    def forward(self, *maps: Tensor) -> Tensor:  # each (B, C_i, *S)
        # A compiler decides by itself what to compute again.
        if self.checkpoint and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            y = recompute(self._twice(), *maps, use_reentrant=False)
        else:
            y = self._once(*maps)
        return self.drop(y)  # (B, out, *S)

    def _once(self, *maps: Tensor) -> Tensor:
        x = torch.cat(maps, 1) if len(maps) > 1 else maps[0]  # (B, C, *S)
        return self.conv(F.relu(self.norm(x)))  # (B, out, *S)

    def _twice(self) -> Callable[..., Tensor]:
        """`_once`, which from the second time on normalises as it did the first, and counts no batch again.

        torch stops the second time ahead of the convolution, whose output the backward pass does not need.
        """
        training, again = self.norm.training, False

        def compute(*maps: Tensor) -> Tensor:
            nonlocal again
            if not again:
                again = True
                return self._once(*maps)
            mode, statistics = self.norm.training, dict(self.norm.named_buffers())
            try:
                self.norm.training = training
                for name, buffer in statistics.items():
                    setattr(self.norm, name, buffer.clone())
                return self._once(*maps)
            finally:
                self.norm.training = mode
                for name, buffer in statistics.items():
                    setattr(self.norm, name, buffer)

        return compute


class DenseLayer(nn.Module):
    """`growth` new maps from all earlier ones.

    Args:
        bottleneck: first bring the earlier maps down to 4 growth by a 1x1 convolution.
    """

    def __init__(self, in_channels: int, growth: int, dimensions: int, bottleneck: bool, **settings: Any) -> None:
        super().__init__()
        self.narrow = Composite(in_channels, 4 * growth, 1, dimensions, **settings) if bottleneck else None
        self.grow = Composite(4 * growth if bottleneck else in_channels, growth, 3, dimensions, **settings)

    def forward(self, *maps: Tensor) -> Tensor:  # each (B, C_i, *S)
        return self.grow(*maps) if self.narrow is None else self.grow(self.narrow(*maps))  # (B, growth, *S)


class DenseBlock(nn.ModuleList):
    """Dense layers one after another; gives the block's input and the maps of every layer, not yet joined."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # (B, C, *S)
        maps = [x]
        for layer in self:
            maps.append(layer(*maps))
        return tuple(maps)  # (B, C, *S), then each (B, growth, *S)


class Transition(nn.Module):
    """A 1x1 convolution over all maps of a block, and the mean over 2x2 pixels."""

    def __init__(self, in_channels: int, out_channels: int, dimensions: int, **settings: Any) -> None:
        super().__init__()
        self.mix = Composite(in_channels, out_channels, 1, dimensions, **settings)
        self.pool = average_pool(dimensions)(2)

    def forward(self, *maps: Tensor) -> Tensor:  # each (B, C_i, *S)
        return self.pool(self.mix(*maps))  # (B, out, *S / 2)


class DenseNet(nn.Module):
    """A stem, dense blocks with transitions between, batch normalisation, ReLU, the mean over positions, a linear head.

    Args:
        depths: dense layers in each block.
        growth: maps that each of them adds, the paper's k.
        width: maps of the stem, the paper's k_0.
        bottleneck: put a 1x1 convolution ahead of each 3x3.
        compression: share of the maps that a transition keeps, the paper's theta.
        stem: "large" is a 7x7 convolution and a max pooling that together quarter the image, "small" one 3x3
            convolution that keeps it.
        drop: share of values set to zero behind each convolution but the first while training.
        checkpoint: save memory by making copies of maps again in the backward pass; same gradients, more time.

    Raises:
        UserError: a share out of range, an unknown word.

    >>> DenseNet((2, 2), 4, 8, num_classes=5, stem="small")(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        depths: Sequence[int],
        growth: int,
        width: int,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        dimensions: int = 2,
        bottleneck: bool = True,
        compression: float = 0.5,
        stem: str = "large",
        drop: float = 0.0,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        number("densenet", "drop", drop, 0, 1)
        number("densenet", "compression", compression, 0, 1, above=True)
        if stem not in STEMS:
            raise unknown("stem", str(stem), STEMS)
        halvings = len(depths) - 1
        self.smallest = 2**halvings if stem == "small" else 4 * 2**halvings - 3  # quartering rounds up
        self.stem = _stem(stem, in_channels, width, dimensions)
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        settings, channels = {"drop": drop, "checkpoint": checkpoint}, width
        for place, depth in enumerate(depths):
            if place > 0:
                kept = int(channels * compression)
                self.transitions.append(Transition(channels, kept, dimensions, **settings))
                channels = kept
            inputs = range(channels, channels + depth * growth, growth)
            self.blocks.append(DenseBlock(DenseLayer(c, growth, dimensions, bottleneck, **settings) for c in inputs))
            channels += depth * growth
        self.norm = batch_norm(dimensions)(channels)
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        maps = self.blocks[0](self.stem(x))  # each (B, ..., *S / 4), or *S with the small stem
        for transition, block in zip(self.transitions, self.blocks[1:], strict=True):
            maps = block(transition(*maps))  # each (B, ..., half of that)
        x = F.relu(self.norm(torch.cat(maps, 1)))  # (B, channels, *S / smallest)
        return self.head(x.flatten(2).mean(2))  # (B, num_classes)


def _stem(kind: str, in_channels: int, width: int, dimensions: int) -> nn.Sequential:
    conv = convolution(dimensions)
    if kind == "small":  # the first layer of the first block normalises
        return nn.Sequential(conv(in_channels, width, 3, padding=1, bias=False))
    return nn.Sequential(
        conv(in_channels, width, 7, 2, padding=3, bias=False),
        batch_norm(dimensions)(width),
        nn.ReLU(),
        max_pool(dimensions)(3, 2, padding=1),
    )


RENAMED = (
    (r"^features\.conv0\.", "stem.0."),
    (r"^features\.norm0\.", "stem.1."),
    (
        r"^features\.denseblock(\d+)\.denselayer(\d+)\.",
        lambda found: f"blocks.{int(found[1]) - 1}.{int(found[2]) - 1}.",
    ),
    (r"^(blocks.*)\.(norm|conv)\.?1\.", r"\1.narrow.\2."),  # the official files have norm.1, torchvision norm1
    (r"^(blocks.*)\.(norm|conv)\.?2\.", r"\1.grow.\2."),
    (r"^features\.transition(\d+)\.", lambda found: f"transitions.{int(found[1]) - 1}.mix."),
    (r"^features\.norm5\.", "norm."),
    (r"^classifier\.", "head."),
)
"""From torchvision's names to ours."""


def _network(
    name: str,
    depths: tuple[int, ...],
    growth: int,
    parameters: int,
    macs: int,
    *,
    bottleneck: bool = True,
    weights: str | None = None,
    summary: str | None = None,
    **facts: Any,
) -> Callable[..., DenseNet]:
    """Register one network by name; three blocks mean the family for small images, four the one for ImageNet."""
    small = len(depths) == 3
    classes, default_stem = (10, "small") if small else (1000, "large")
    width = 2 * growth if bottleneck else 16

    def build(
        *,
        num_classes: int = classes,
        in_channels: int = 3,
        dimensions: int = 2,
        drop: float = 0.0,
        checkpoint: bool = False,
        stem: str = default_stem,
    ) -> DenseNet:
        return DenseNet(
            depths,
            growth,
            width,
            num_classes=num_classes,
            in_channels=in_channels,
            dimensions=dimensions,
            bottleneck=bottleneck,
            compression=0.5 if bottleneck else 1.0,
            stem=stem,
            drop=drop,
            checkpoint=checkpoint,
        )

    kind = "DenseNet-BC" if bottleneck else "DenseNet"
    published = {"weights": weights, "renamed": RENAMED} if weights else {}
    build.__name__ = build.__qualname__ = name
    build.__doc__ = summary or (
        f"{kind} of {'-'.join(map(str, depths))} layers that add {growth} maps each, for images of "
        f"{32 if small else 224} pixels."
    )
    return register(
        "model",
        paper=facts.pop("paper", f"{PAPER}, {'section 3' if small else 'table 1'}"),
        year=2016,
        parameters=parameters,
        macs=macs,
        input=(3, 32, 32) if small else (3, 224, 224),
        num_classes=classes,
        dimensions=(1, 2, 3),
        smallest=4 if small else 29,
        **facts,
        **published,
    )(build)


densenet_40_12 = _network("densenet_40_12", (12, 12, 12), 12, 1_019_722, 264_812_928, bottleneck=False)
densenet_100_12 = _network("densenet_100_12", (32, 32, 32), 12, 6_979_642, 1_769_516_448, bottleneck=False)
densenet_100_24 = _network("densenet_100_24", (32, 32, 32), 24, 27_249_082, 6_889_347_744, bottleneck=False)
densenet_bc_100_12 = _network("densenet_bc_100_12", (16, 16, 16), 12, 769_162, 287_929_692)
densenet_bc_250_24 = _network("densenet_bc_250_24", (41, 41, 41), 24, 15_324_406, 5_418_785_724)
densenet_bc_190_40 = _network("densenet_bc_190_40", (31, 31, 31), 40, 25_624_430, 9_301_945_740)

densenet121 = _network("densenet121", (6, 12, 24, 16), 32, 7_978_856, 2_834_161_664, weights="densenet121-a639ec97.pth")
densenet161 = _network(
    "densenet161", (6, 12, 36, 24), 48, 28_681_000, 7_727_907_072, weights="densenet161-8d451a50.pth"
)
densenet169 = _network(
    "densenet169", (6, 12, 32, 32), 32, 14_149_480, 3_359_843_328, weights="densenet169-b2777c0a.pth"
)
densenet201 = _network(
    "densenet201", (6, 12, 48, 32), 32, 20_013_928, 4_291_365_888, weights="densenet201-c1103571.pth"
)

densenet_small = _network(
    "densenet_small",
    (3, 3, 3),
    16,
    125_954,
    55_239_576,
    small=True,
    paper=f"{PAPER}, for small images",
    summary="""DenseNet-BC of 3-3-3 layers that add 16 maps each, for images of 28 to 32 pixels.

    22 layers, so that two cores do. With two passes over 5,000 images of CIFAR-10 it came to 35 %; 12 maps a layer in
    place of 16, 31 million multiply-adds, to 30 %.
    """,
)
