"""Residual networks: every block learns what to add to its input, so that depth stops hurting.

A plain stack of layers gets worse past some depth even on the data it is trained on: the solver cannot find weights
that a shallower network plus identities would have. A residual block computes

    y = relu(F(x) + shortcut(x))

where F is two 3x3 convolutions (basic block) or 1x1 - 3x3 - 1x1 (bottleneck: the 3x3 works on a quarter of the
channels), each convolution followed by batch normalisation. To be the identity, F only has to go to zero. The
difference that F learns is to the block's own desired output, not to the network's.

Where a stage halves the image and doubles the channels, the shortcut must follow. The paper's options:
    A "identity"         every second pixel, new channels zero: no parameters (the paper's choice on CIFAR)
    B "projection"       1x1 convolution where the shape changes (the paper's choice on ImageNet, and torchvision's)
    C "all_projection"   1x1 convolution around every block
The letters are understood too.

It helps from about 20 layers up; at 18 a plain network with batch normalisation reaches the same accuracy, only later.
Twins without shortcuts, `plain20` and so on, stand beside each network to see it. It hurts where the features have no
neighbourhood (a permuted signal): the convolution does, not the shortcut.

The paper's settings. ImageNet: SGD, batch 256, lr 0.1 divided by 10 on plateaus, momentum 0.9, weight decay 1e-4,
60e4 steps. CIFAR-10: batch 128, lr 0.1 divided by 10 at 32k and 48k of 64k steps, the same decay, padded crops and
flips; 110 layers start at 0.01 until the training error is below 80 %.

Where we differ: in bottlenecks the 3x3 convolution takes the stride, not the first 1x1 (`version="v1.5"`, as
torchvision and its published weights: about 0.5 % better for 5 to 6 % more work); `version="v1"` is the paper's.
Convolutions start by He's rule over the outgoing connections (the authors' later code), the head as torch does.

He, Zhang, Ren, Sun 2015, Deep Residual Learning for Image Recognition, arXiv:1512.03385: section 3.3 and table 1 for
ImageNet, section 4.2 and table 6 for CIFAR-10. Zero gamma: Goyal et al. 2017, arXiv:1706.02677, section 5.1.
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from engram.errors import UserError, unknown
from engram.layers.dimensions import average_pool, batch_norm, convolution, max_pool
from engram.layers.drop_path import DropPath
from engram.registry import register

SHORTCUTS = ("identity", "projection", "all_projection")
LETTERS: dict[str, str] = dict(zip("ABC", SHORTCUTS, strict=True))
STEMS = ("large", "small")
VERSIONS = ("v1.5", "v1")
PAPER = "He, Zhang, Ren, Sun 2015, arXiv:1512.03385"


class PaddedIdentity(nn.Module):
    """Option A: every `stride`-th pixel, and zeros for the channels that the block adds."""

    def __init__(self, added_channels: int, stride: int, dimensions: int) -> None:
        super().__init__()
        # The mean of one pixel is that pixel, and pooling strides through channels-last memory faster than a slice.
        self.skip = average_pool(dimensions)(1, stride) if stride > 1 else nn.Identity()
        self.padding = (0, 0) * dimensions + (0, added_channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        return F.pad(self.skip(x), self.padding)  # (B, C + added, *S / stride)


def _shortcut(kind: str | None, in_channels: int, out_channels: int, stride: int, dimensions: int) -> nn.Module | None:
    if kind is None:
        return None
    if in_channels == out_channels and stride == 1 and kind != "all_projection":
        return nn.Identity()
    if kind == "identity":
        return PaddedIdentity(out_channels - in_channels, stride, dimensions)
    return nn.Sequential(
        convolution(dimensions)(in_channels, out_channels, 1, stride, bias=False), batch_norm(dimensions)(out_channels)
    )


class Block(nn.Module):
    """relu(branch(x) + shortcut(x)), or relu(branch(x)) in a plain network."""

    expansion: int
    shortcut: nn.Module | None
    drop_path: DropPath

    def branch(self, x: Tensor) -> Tensor:  # (B, C, *S)
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        if self.shortcut is None:
            return F.relu(self.branch(x))  # (B, expansion width, *S / stride)
        return F.relu(self.drop_path.add(x, self.branch, self.shortcut))  # (B, expansion width, *S / stride)

    def _join(self, shortcut: nn.Module | None) -> None:
        self.shortcut = shortcut
        if shortcut is not None:
            self.drop_path = DropPath()


class BasicBlock(Block):
    """Two 3x3 convolutions, the first of which may halve the image."""

    expansion = 1

    def __init__(
        self, in_channels: int, width: int, stride: int, dimensions: int, shortcut: str | None, version: str
    ) -> None:
        super().__init__()
        conv, norm = convolution(dimensions), batch_norm(dimensions)
        self.conv1 = conv(in_channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = norm(width)
        self.conv2 = conv(width, width, 3, padding=1, bias=False)
        self.norm2 = norm(width)
        self._join(_shortcut(shortcut, in_channels, width, stride, dimensions))

    def branch(self, x: Tensor) -> Tensor:  # (B, C, *S)
        y = F.relu(self.norm1(self.conv1(x)))  # (B, width, *S / stride)
        return self.norm2(self.conv2(y))


class Bottleneck(Block):
    """A 3x3 convolution between a 1x1 that narrows to `width` channels and a 1x1 that widens to four times as many.

    Args:
        widen: the 3x3 convolution has so many times `width` channels (Wide ResNet, ResNeXt).
        groups: of channels that the 3x3 convolution keeps apart (ResNeXt).
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        dimensions: int,
        shortcut: str | None,
        version: str,
        widen: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        conv, norm = convolution(dimensions), batch_norm(dimensions)
        first, second = (stride, 1) if version == "v1" else (1, stride)
        inner = widen * width
        self.conv1 = conv(in_channels, inner, 1, first, bias=False)
        self.norm1 = norm(inner)
        self.conv2 = conv(inner, inner, 3, second, padding=1, groups=groups, bias=False)
        self.norm2 = norm(inner)
        self.conv3 = conv(inner, 4 * width, 1, bias=False)
        self.norm3 = norm(4 * width)
        self._join(_shortcut(shortcut, in_channels, 4 * width, stride, dimensions))

    def branch(self, x: Tensor) -> Tensor:  # (B, C, *S)
        y = F.relu(self.norm1(self.conv1(x)))  # (B, inner, *S) or, in v1, (B, inner, *S / stride)
        y = F.relu(self.norm2(self.conv2(y)))  # (B, inner, *S / stride)
        return self.norm3(self.conv3(y))  # (B, 4 width, *S / stride)


class ResNet(nn.Module):
    """A stem, stages of blocks that halve the image and double the channels, the mean over positions, a linear head.

    Args:
        block: BasicBlock or Bottleneck, or what builds one from the same arguments.
        depths: blocks in each stage.
        width: channels of the first stage's 3x3 convolutions.
        stem: "large" is a 7x7 convolution and a max pooling that together quarter the image, "small" one 3x3
            convolution that keeps it.
        shortcut: one of the paper's options, by its word or its letter, or None for a plain network.
        zero_gamma: start every block as the identity, by a last normalisation that gives zero.

    Raises:
        UserError: a word among the settings is not known.

    >>> import torch; ResNet(BasicBlock, (1, 1), 8, num_classes=5, stem="small")(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        block: Callable[..., Block],
        depths: Sequence[int],
        width: int,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        dimensions: int = 2,
        stem: str = "large",
        shortcut: str | None = "projection",
        version: str = "v1.5",
        zero_gamma: bool = False,
    ) -> None:
        super().__init__()
        shortcut = LETTERS.get(shortcut or "", shortcut)
        check_words(stem=(stem, STEMS), version=(version, VERSIONS), shortcut=(shortcut, (*SHORTCUTS, None)))
        if version == "v1" and block is BasicBlock:
            raise UserError("version v1 moves the stride inside bottlenecks, and this network has none")
        if zero_gamma and shortcut is None:
            raise UserError("zero_gamma would silence a network without shortcuts: every block would give zero")
        self.smallest = (4 if stem == "large" else 1) * 2 ** (len(depths) - 1)
        self.stem = stem_layers(stem, in_channels, width, dimensions)
        stages, channels = [], width
        for number, depth in enumerate(depths):
            blocks: list[Block] = []
            for position in range(depth):
                stride = 2 if number > 0 and position == 0 else 1
                blocks.append(block(channels, width * 2**number, stride, dimensions, shortcut, version))
                channels = width * 2**number * blocks[-1].expansion
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, num_classes)
        self._initialize(zero_gamma)

    def _initialize(self, zero_gamma: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero_gamma and isinstance(module, BasicBlock):
                nn.init.zeros_(module.norm2.weight)
            elif zero_gamma and isinstance(module, Bottleneck):
                nn.init.zeros_(module.norm3.weight)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        x = self.stem(x)  # (B, width, *S / 4), or *S with the small stem
        x = self.stages(x)  # (B, channels, *S / smallest)
        x = x.flatten(2).mean(2)  # (B, channels)
        return self.head(x)  # (B, num_classes)


def check_words(**settings: tuple[str | None, tuple[str | None, ...]]) -> None:
    """Refuse a word that a setting does not know: each is given with the words it may be.

    >>> check_words(stem=("tiny", STEMS))
    Traceback (most recent call last):
    engram.errors.UserError: stem 'tiny' is not known
      allowed: large, small
    """
    for setting, (word, words) in settings.items():
        if word not in words:
            raise unknown(setting, str(word), [known or "none" for known in words])


def stem_layers(kind: str, in_channels: int, width: int, dimensions: int) -> nn.Sequential:
    """What stands before the first block: "large" quarters the image, "small" keeps it."""
    conv, norm = convolution(dimensions), batch_norm(dimensions)
    if kind == "small":
        return nn.Sequential(conv(in_channels, width, 3, padding=1, bias=False), norm(width), nn.ReLU())
    return nn.Sequential(
        conv(in_channels, width, 7, 2, padding=3, bias=False),
        norm(width),
        nn.ReLU(),
        max_pool(dimensions)(3, 2, padding=1),
    )


def _network(
    name: str,
    block: type[BasicBlock | Bottleneck],
    depths: tuple[int, ...],
    parameters: int,
    macs: int,
    weights: str | None = None,
) -> Callable[..., ResNet]:
    """Register one network by name; three stages mean the family for small images, four the one for ImageNet."""
    small, plain = len(depths) == 3, name.startswith("plain")
    classes, default_stem = (10, "small") if small else (1000, "large")
    default_shortcut = None if plain else "identity" if small else "projection"

    def build(
        *,
        num_classes: int = classes,
        in_channels: int = 3,
        dimensions: int = 2,
        stem: str = default_stem,
        shortcut: str | None = default_shortcut,
        version: str = "v1.5",
        zero_gamma: bool = False,
    ) -> ResNet:
        return ResNet(
            block,
            depths,
            16 if small else 64,
            num_classes=num_classes,
            in_channels=in_channels,
            dimensions=dimensions,
            stem=stem,
            shortcut=shortcut,
            version=version,
            zero_gamma=zero_gamma,
        )

    published = {"weights": weights, "renamed": RENAMED} if weights else {}
    kind = "Plain twin, without shortcuts," if plain else "Residual network"
    blocks = "bottlenecks" if block is Bottleneck else "basic blocks"
    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"{kind} of {'-'.join(map(str, depths))} {blocks}, for images of {32 if small else 224} pixels."
    return register(
        "model",
        paper=f"{PAPER}, {'section 4.2' if small else 'table 1'}",
        year=2015,
        parameters=parameters,
        macs=macs,
        input=(3, 32, 32) if small else (3, 224, 224),
        num_classes=classes,
        dimensions=(1, 2, 3),
        smallest=4 if small else 32,
        **({"small": True} if name == "resnet20" else {}),
        **published,
    )(build)


RENAMED = (
    (r"^conv1\.", "stem.0."),
    (r"^bn1\.", "stem.1."),
    (r"^layer(\d)\.", lambda found: f"stages.{int(found[1]) - 1}."),
    (r"\.bn(\d)\.", r".norm\1."),
    (r"\.downsample\.", ".shortcut."),
    (r"^fc\.", "head."),
)
"""From torchvision's names to ours."""


resnet20 = _network("resnet20", BasicBlock, (3, 3, 3), 269_722, 40_551_040)
resnet32 = _network("resnet32", BasicBlock, (5, 5, 5), 464_154, 68_862_592)
resnet44 = _network("resnet44", BasicBlock, (7, 7, 7), 658_586, 97_174_144)
resnet56 = _network("resnet56", BasicBlock, (9, 9, 9), 853_018, 125_485_696)
resnet110 = _network("resnet110", BasicBlock, (18, 18, 18), 1_727_962, 252_887_680)
resnet1202 = _network("resnet1202", BasicBlock, (200, 200, 200), 19_421_274, 2_829_238_912)

plain20 = _network("plain20", BasicBlock, (3, 3, 3), 269_722, 40_551_040)
plain32 = _network("plain32", BasicBlock, (5, 5, 5), 464_154, 68_862_592)
plain44 = _network("plain44", BasicBlock, (7, 7, 7), 658_586, 97_174_144)
plain56 = _network("plain56", BasicBlock, (9, 9, 9), 853_018, 125_485_696)
plain110 = _network("plain110", BasicBlock, (18, 18, 18), 1_727_962, 252_887_680)

resnet18 = _network("resnet18", BasicBlock, (2, 2, 2, 2), 11_689_512, 1_814_073_344, "resnet18-f37072fd.pth")
resnet34 = _network("resnet34", BasicBlock, (3, 4, 6, 3), 21_797_672, 3_663_761_408, "resnet34-b627a593.pth")
resnet50 = _network("resnet50", Bottleneck, (3, 4, 6, 3), 25_557_032, 4_089_184_256, "resnet50-0676ba61.pth")
resnet101 = _network("resnet101", Bottleneck, (3, 4, 23, 3), 44_549_160, 7_801_405_440, "resnet101-63fe2227.pth")
resnet152 = _network("resnet152", Bottleneck, (3, 8, 36, 3), 60_192_808, 11_513_626_624, "resnet152-394f9c45.pth")

plain18 = _network("plain18", BasicBlock, (2, 2, 2, 2), 11_515_688, 1_794_805_760)
plain34 = _network("plain34", BasicBlock, (3, 4, 6, 3), 21_623_848, 3_644_493_824)
