"""ResNeXt: a residual block whose branch is many small transformations side by side, all of one form, added up.

Depth and width are two ways to spend work on a network; the number C of paths in a block, its cardinality, is a third,
and at equal work the one that gains most. Each path is a bottleneck of its own, d channels wide:

    y = relu(x + sum over i = 1 .. C of T_i(x)),     T_i: 1x1 to d channels, 3x3 on these, 1x1 back

The first convolutions of all paths are one convolution to C d channels, the last ones, with the sum, one from C d
channels; in between a 3x3 convolution in C groups keeps the paths apart. These are the paper's forms (a), (b) and (c)
of one block, and (c) is what is computed here. Paths times width write a network's name: 32x4d is 32 paths of 4
channels in the first stage; every stage that halves the image doubles d.

It helps wherever a ResNet does, at the same weights and work: on ImageNet, 50 layers 22.2 % top-1 error where ResNet-50
has 23.9, 101 layers 21.2 where ResNet-101 has 22.0, and 64x4d, twice the work, 20.4. On CIFAR-10, 29 layers of 8x64d
have 3.65 %, 16x64d 3.58. It hurts on processors: convolutions in groups of few channels keep neither a CPU's nor a
GPU's arithmetic busy, so that equal work takes longer. The errors are the paper's and the authors', not ours.

The paper's settings. ImageNet: SGD, batch 256, momentum 0.9, weight decay 1e-4, lr 0.1 divided by 10 three
times. CIFAR: batch 128, weight decay 5e-4, lr 0.1 divided by 10 after 150 and 225 of 300 passes.

Where we differ: nowhere for ImageNet; torchvision's networks are the same, and its weights load. On CIFAR the paper's
blocks are pre-activated (`preactivated=True`, see `preact_resnet.py`); the authors' program has the original ones,
which they later found better with batches of 128, and these are the default. `resnext101_32x8d` came later;
`resnext_small` is ours: two passes over 4,500 images of CIFAR-10, all settings the defaults, came to 33 %.

Xie, Girshick, Dollar, Tu, He 2016, Aggregated Residual Transformations for Deep Neural Networks, arXiv:1611.05431:
section 3, figure 3, tables 1, 3, 4 and 7. Program: facebookresearch/ResNeXt.
"""

from collections.abc import Callable
from functools import partial

from engram.models.preact_resnet import PreactBottleneck, PreactResNet
from engram.models.resnet import RENAMED, Bottleneck, ResNet
from engram.registry import register

PAPER = "Xie, Girshick, Dollar, Tu, He 2016, arXiv:1611.05431"


def _photographs(
    name: str,
    depths: tuple[int, ...],
    paths: int,
    path_width: int,
    parameters: int,
    macs: int,
    weights: str | None = None,
) -> Callable[..., ResNet]:
    """Register a network for images of 224 pixels; its first stage has so many paths of so many channels."""

    def build(
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        dimensions: int = 2,
        stem: str = "large",
        shortcut: str = "projection",
        version: str = "v1.5",
        zero_gamma: bool = False,
    ) -> ResNet:
        return ResNet(
            partial(Bottleneck, widen=paths * path_width // 64, groups=paths),
            depths,
            64,
            num_classes=num_classes,
            in_channels=in_channels,
            dimensions=dimensions,
            stem=stem,
            shortcut=shortcut,
            version=version,
            zero_gamma=zero_gamma,
        )

    build.__name__ = build.__qualname__ = name
    stages = "-".join(map(str, depths))
    build.__doc__ = f"ResNeXt of {stages} blocks with {paths} paths, {path_width} channels wide, for photographs."
    return register(
        "model",
        paper=f"{PAPER}, tables 3 and 4",
        year=2016,
        parameters=parameters,
        macs=macs,
        input=(3, 224, 224),
        num_classes=1000,
        dimensions=(1, 2, 3),
        smallest=32,
        **({"weights": weights, "renamed": RENAMED} if weights else {}),
    )(build)


def _small_images(
    name: str, width: int, paths: int, path_width: int, parameters: int, macs: int
) -> Callable[..., ResNet | PreactResNet]:
    """Register a network of 29 layers for images of 32 pixels; blocks of the first stage give four times `width`."""

    def build(
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        dimensions: int = 2,
        stem: str = "small",
        shortcut: str = "projection",
        version: str = "v1.5",
        preactivated: bool = False,
    ) -> ResNet | PreactResNet:
        inside: dict[str, int] = {"widen": paths * path_width // width, "groups": paths}
        network = (
            partial(PreactResNet, partial(PreactBottleneck, **inside))
            if preactivated
            else partial(ResNet, partial(Bottleneck, **inside))
        )
        return network(
            (3, 3, 3),
            width,
            num_classes=num_classes,
            in_channels=in_channels,
            dimensions=dimensions,
            stem=stem,
            shortcut=shortcut,
            version=version,
        )

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"""ResNeXt of 29 layers with {paths} paths, {path_width} channels wide, for images of 32 pixels.

    Args:
        preactivated: normalise and activate before each convolution, as in the paper, not behind it and the sum.
    """
    return register(
        "model",
        paper=f"{PAPER}, table 7",
        year=2016,
        parameters=parameters,
        macs=macs,
        input=(3, 32, 32),
        num_classes=10,
        dimensions=(1, 2, 3),
        smallest=4,
        **({"small": True} if width < 64 else {}),
    )(build)


resnext50_32x4d = _photographs(
    "resnext50_32x4d", (3, 4, 6, 3), 32, 4, 25_028_904, 4_230_479_872, "resnext50_32x4d-7cdf4587.pth"
)
resnext101_32x4d = _photographs("resnext101_32x4d", (3, 4, 23, 3), 32, 4, 44_177_704, 7_969_996_800)
resnext101_32x8d = _photographs(
    "resnext101_32x8d", (3, 4, 23, 3), 32, 8, 88_791_336, 16_414_015_488, "resnext101_32x8d-8ba56ff5.pth"
)
resnext101_64x4d = _photographs(
    "resnext101_64x4d", (3, 4, 23, 3), 64, 4, 83_455_272, 15_460_270_080, "resnext101_64x4d-173b62eb.pth"
)

resnext29_8x64d = _small_images("resnext29_8x64d", 64, 8, 64, 34_426_698, 5_387_266_048)
resnext29_16x64d = _small_images("resnext29_16x64d", 64, 16, 64, 68_155_210, 10_688_866_304)
resnext_small = _small_images("resnext_small", 16, 8, 4, 359_898, 56_674_816)
