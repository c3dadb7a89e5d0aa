"""Pre-activation residual networks: normalise and activate before each convolution, and leave the sum alone.

In the first residual networks a ReLU stands behind the sum, so that what a block passes on is not quite its input plus
a difference. Here nothing does: normalisation and ReLU move in front of the convolutions,

    y = x + F(x),     F(x) = W_2 relu(bn(W_1 relu(bn(x))))          (basic block; a bottleneck has three of these)

so that the value of any deeper block L is that of any shallower one l plus a sum, and gradients likewise:

    x_L = x_l + sum over i = l .. L-1 of F(x_i),     dE/dx_l = dE/dx_L (1 + d/dx_l of that sum)

One last normalisation and ReLU stand before the mean. The first block reads what the first convolution, normalised and
activated, gives to both paths. Where the shape changes and the shortcut is a 1x1 convolution, it reads the activated
input as well; an identity reads the input itself. Options A, B and C are those of `resnet.py`.

It helps where networks are very deep: 1001 layers on CIFAR-10 fall from 7.61 to 4.92 % error, 164 layers from 5.93 to
5.46, 110 from 6.61 to 6.37. It hardly matters below a hundred layers, and at 20 can be a little worse. The values grow
along the shortcuts, which nothing normalises before the last layer.

The paper's settings. CIFAR: batch 128, SGD, momentum 0.9, weight decay 1e-4, lr 0.1 divided by 10 at 32k and 48k of 64k
steps, of which the first 400 are at 0.01; basic blocks for 110 layers (9 a stage in 56, 18 in 110), bottlenecks for
164 and 1001 (18 and 111 a stage) with 64, 128 and 256 channels around 16, 32 and 64. Their errors above, not ours.

Where we differ: the 3x3 convolution of a bottleneck takes the stride, as in the authors' networks for ImageNet
(`version="v1.5"`, 247.6 million multiply-adds for 164 layers); their program for CIFAR gives it to the first 1x1
convolution (`version="v1"`, 244.5 million), with the same weights. There the projection has no normalisation, nor here;
in fb.resnet.torch, from which torch programs descend, it has one and reads the input before its activation.
For ImageNet the paper has 152 and 200 layers; 18 and 50 are the same with fewer blocks, as in fb.resnet.torch. 20
layers are for small machines: two passes over 4,500 images of CIFAR-10, all settings the defaults, came to 31 %.

He, Zhang, Ren, Sun 2016, Identity Mappings in Deep Residual Networks, arXiv:1603.05027: equations 4 and 5, figure 4
(e), tables 3 to 5 and the appendix. Programs: KaimingHe/resnet-1k-layers; facebookarchive/fb.resnet.torch.
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from engram.errors import UserError
from engram.layers.dimensions import batch_norm, convolution
from engram.layers.drop_path import DropPath
from engram.models.resnet import LETTERS, SHORTCUTS, STEMS, VERSIONS, PaddedIdentity, check_words, stem_layers
from engram.registry import register

PAPER = "He, Zhang, Ren, Sun 2016, arXiv:1603.05027"


class PreactBlock(nn.Module):
    """shortcut(x) + branch(relu(norm1(x))), and nothing behind the sum.

    The network's first block has no norm1: what it reads is activated already.
    """

    expansion: int
    norm1: nn.Module | None
    shortcut: nn.Module
    drop_path: DropPath

    def branch(self, x: Tensor) -> Tensor:  # (B, C, *S), activated
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        if isinstance(self.shortcut, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return self.drop_path.add(self._activated(x), self.branch, self.shortcut)
        return self.drop_path.add(x, lambda x: self.branch(self._activated(x)), self.shortcut)

    def _activated(self, x: Tensor) -> Tensor:
        return x if self.norm1 is None else F.relu(self.norm1(x))

    def _join(self, kind: str, in_channels: int, out_channels: int, stride: int, dimensions: int) -> None:
        self.drop_path = DropPath()
        if in_channels == out_channels and stride == 1 and kind != "all_projection":
            self.shortcut = nn.Identity()
        elif kind == "identity":
            self.shortcut = PaddedIdentity(out_channels - in_channels, stride, dimensions)
        else:
            self.shortcut = convolution(dimensions)(in_channels, out_channels, 1, stride, bias=False)


class PreactBasicBlock(PreactBlock):
    """Two 3x3 convolutions, the first of which may halve the image.

    Args:
        first: of the network.
        drop: share of values set to zero between the convolutions while training (Wide ResNet).
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        dimensions: int,
        shortcut: str,
        version: str,
        first: bool = False,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        conv, norm = convolution(dimensions), batch_norm(dimensions)
        self.norm1 = None if first else norm(in_channels)
        self.conv1 = conv(in_channels, width, 3, stride, padding=1, bias=False)
        self.norm2 = norm(width)
        self.drop = nn.Dropout(drop)
        self.conv2 = conv(width, width, 3, padding=1, bias=False)
        self._join(shortcut, in_channels, width, stride, dimensions)

    def branch(self, x: Tensor) -> Tensor:  # (B, C, *S)
        y = F.relu(self.norm2(self.conv1(x)))  # (B, width, *S / stride)
        return self.conv2(self.drop(y))


class PreactBottleneck(PreactBlock):
    """A 3x3 convolution between a 1x1 that narrows to `width` channels and a 1x1 that widens to four times as many.

    Args:
        first: of the network.
        widen: the 3x3 convolution has so many times `width` channels (ResNeXt).
        groups: of channels that the 3x3 convolution keeps apart (ResNeXt).
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        dimensions: int,
        shortcut: str,
        version: str,
        first: bool = False,
        widen: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        conv, norm = convolution(dimensions), batch_norm(dimensions)
        strides = (stride, 1) if version == "v1" else (1, stride)
        inner = widen * width
        self.norm1 = None if first else norm(in_channels)
        self.conv1 = conv(in_channels, inner, 1, strides[0], bias=False)
        self.norm2 = norm(inner)
        self.conv2 = conv(inner, inner, 3, strides[1], padding=1, groups=groups, bias=False)
        self.norm3 = norm(inner)
        self.conv3 = conv(inner, 4 * width, 1, bias=False)
        self._join(shortcut, in_channels, 4 * width, stride, dimensions)

    def branch(self, x: Tensor) -> Tensor:  # (B, C, *S)
        y = F.relu(self.norm2(self.conv1(x)))  # (B, inner, *S) or, in v1, (B, inner, *S / stride)
        y = F.relu(self.norm3(self.conv2(y)))  # (B, inner, *S / stride)
        return self.conv3(y)  # (B, 4 width, *S / stride)


class PreactResNet(nn.Module):
    """A stem, stages of blocks, one last normalisation, the mean over positions, a linear head.

    Args:
        block: PreactBasicBlock or PreactBottleneck, or what builds one from the same arguments.
        depths: blocks in each stage; each but the first halves the image and doubles the channels.
        width: channels of the first stage's 3x3 convolutions.
        stem_width: channels of the stem, if others than `width`.
        stem: "large" is a 7x7 convolution and a max pooling that together quarter the image, "small" one 3x3
            convolution that keeps it.
        shortcut: one of the options "identity" (A), "projection" (B) and "all_projection" (C).

    Raises:
        UserError: a word among the settings is not known.

    >>> import torch
    >>> PreactResNet(PreactBottleneck, (1, 1), 8, num_classes=5, stem="small")(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        block: Callable[..., PreactBlock],
        depths: Sequence[int],
        width: int,
        *,
        stem_width: int | None = None,
        num_classes: int = 1000,
        in_channels: int = 3,
        dimensions: int = 2,
        stem: str = "large",
        shortcut: str = "projection",
        version: str = "v1.5",
    ) -> None:
        super().__init__()
        shortcut = LETTERS.get(shortcut, shortcut)
        check_words(stem=(stem, STEMS), version=(version, VERSIONS), shortcut=(shortcut, SHORTCUTS))
        if version == "v1" and block is PreactBasicBlock:
            raise UserError("version v1 moves the stride inside bottlenecks, and this network has none")
        self.smallest = (4 if stem == "large" else 1) * 2 ** (len(depths) - 1)
        channels = stem_width or width
        self.stem = stem_layers(stem, in_channels, channels, dimensions)
        stages = []
        for number, depth in enumerate(depths):
            blocks: list[PreactBlock] = []
            for position in range(depth):
                first, stride = number == position == 0, 2 if number > 0 and position == 0 else 1
                blocks.append(block(channels, width * 2**number, stride, dimensions, shortcut, version, first))
                channels = width * 2**number * blocks[-1].expansion
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.norm = batch_norm(dimensions)(channels)
        self.head = nn.Linear(channels, num_classes)
        nn.init.zeros_(self.head.bias)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        x = self.stem(x)  # (B, stem_width, *S / 4), or *S with the small stem
        x = self.stages(x)  # (B, channels, *S / smallest)
        x = F.relu(self.norm(x))
        x = x.flatten(2).mean(2)  # (B, channels)
        return self.head(x)  # (B, num_classes)


def _network(
    name: str, block: type[PreactBasicBlock | PreactBottleneck], depths: tuple[int, ...], parameters: int, macs: int
) -> Callable[..., PreactResNet]:
    """Register one network by name; three stages mean the family for small images, four the one for ImageNet."""
    small, basic = len(depths) == 3, block is PreactBasicBlock
    classes, default_stem = (10, "small") if small else (1000, "large")

    def build(
        *,
        num_classes: int = classes,
        in_channels: int = 3,
        dimensions: int = 2,
        stem: str = default_stem,
        shortcut: str = "identity" if small and basic else "projection",
        version: str = "v1.5",
    ) -> PreactResNet:
        return PreactResNet(
            block,
            depths,
            16 if small else 64,
            num_classes=num_classes,
            in_channels=in_channels,
            dimensions=dimensions,
            stem=stem,
            shortcut=shortcut,
            version=version,
        )

    blocks = f"{'-'.join(map(str, depths))} {'basic blocks' if basic else 'bottlenecks'}"
    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"Pre-activation residual network of {blocks}, for images of {32 if small else 224} pixels."
    return register(
        "model",
        paper=f"{PAPER}, {'table 4' if small else 'table 5'}",
        year=2016,
        parameters=parameters,
        macs=macs,
        input=(3, 32, 32) if small else (3, 224, 224),
        num_classes=classes,
        dimensions=(1, 2, 3),
        smallest=4 if small else 32,
        **({"small": True} if name == "preact_resnet_20" else {}),
    )(build)


preact_resnet_20 = _network("preact_resnet_20", PreactBasicBlock, (3, 3, 3), 269_722, 40_551_040)
preact_resnet_56 = _network("preact_resnet_56", PreactBasicBlock, (9, 9, 9), 853_018, 125_485_696)
preact_resnet_110 = _network("preact_resnet_110", PreactBasicBlock, (18, 18, 18), 1_727_962, 252_887_680)
preact_resnet_164 = _network("preact_resnet_164", PreactBottleneck, (18, 18, 18), 1_703_258, 247_646_720)
preact_resnet_1001 = _network("preact_resnet_1001", PreactBottleneck, (111, 111, 111), 10_327_706, 1_490_995_712)

preact_resnet_18 = _network("preact_resnet_18", PreactBasicBlock, (2, 2, 2, 2), 11_687_720, 1_814_073_344)
preact_resnet_50 = _network("preact_resnet_50", PreactBottleneck, (3, 4, 6, 3), 25_549_352, 4_089_184_256)
preact_resnet_152 = _network("preact_resnet_152", PreactBottleneck, (3, 8, 36, 3), 60_185_128, 11_513_626_624)
preact_resnet_200 = _network("preact_resnet_200", PreactBottleneck, (3, 24, 36, 3), 64_666_152, 15_007_481_856)
