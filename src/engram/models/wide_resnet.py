"""Wide residual networks: sixteen layers that are wide do what a thousand thin ones do, and sooner.

A residual block may learn nothing and be passed by, so that more and more depth buys less and less. Here a network has
few blocks and every convolution k times the channels of a thin one, which a processor computes well, as k^2 times the
work lies in as many operations as before. WRN-n-k has n layers, three stages of (n - 4) / 6 pre-activation blocks with
16 k, 32 k and 64 k channels:

    y = x + F(x),     F(x) = W_2 drop(relu(bn(W_1 relu(bn(x)))))

Dropout stands between the two convolutions, not on the shortcut, where it hurts. With weights four to a hundred times
as many as a thin network's there is something for it to do.

For ImageNet only the 3x3 convolutions inside the bottlenecks of ResNet-50 and 101 are twice as wide, those without
pre-activation (`wide_resnet50_2`): better than ResNet-152 and quicker.

It helps on CIFAR: WRN-40-4 has 4.53 % error, 16-8 has 4.27, 28-10 has 4.00, and 3.89 with dropout 0.3, where 1001 thin
layers with pre-activation have 4.92 and train eight times as long as 40-4. It hurts where weights must be few: 36.5
million are more than ResNet-50 has. The errors are the paper's and the authors', not ours.

The paper's settings. CIFAR: SGD with Nesterov momentum 0.9, batch 128, weight decay 5e-4, lr 0.1 times 0.2 after 60,
120 and 160 of 200 passes, dropout 0.3 where there is any, padded crops and flips. SVHN: lr 0.01, dropout 0.4.

Where we differ: `drop` is 0 by default in all of them. In the authors' program the first block of a network with k = 1
adds what the first convolution gave, here, as in `preact_resnet.py`, the same normalised and activated; with k > 1 the
two agree. The stride of the wide bottlenecks is in the 3x3 convolution, as in theirs and torchvision's.
`wide_resnet_10_2` is ours, for small machines: two passes over 4,500 images of CIFAR-10, all settings the defaults,
came to 34 %.

Zagoruyko and Komodakis 2016, Wide Residual Networks, arXiv:1605.07146: table 1, section 2.4 (dropout) and section 3.
Program: szagoruyko/wide-residual-networks.
"""

from collections.abc import Callable
from functools import partial

from engram.grammar import number
from engram.models.preact_resnet import PreactBasicBlock, PreactResNet
from engram.models.resnet import RENAMED, Bottleneck, ResNet
from engram.registry import register

PAPER = "Zagoruyko and Komodakis 2016, arXiv:1605.07146"


def _wide(depth: int, widen: int, parameters: int, macs: int) -> Callable[..., PreactResNet]:
    """Register a network of so many layers, so many times as wide, for images of 32 pixels."""
    name, blocks = f"wide_resnet_{depth}_{widen}", (depth - 4) // 6

    def build(
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        dimensions: int = 2,
        drop: float = 0.0,
        stem: str = "small",
        shortcut: str = "projection",
    ) -> PreactResNet:
        return PreactResNet(
            partial(PreactBasicBlock, drop=number(name, "drop", drop, 0, 1)),
            (blocks, blocks, blocks),
            16 * widen,
            stem_width=16,
            num_classes=num_classes,
            in_channels=in_channels,
            dimensions=dimensions,
            stem=stem,
            shortcut=shortcut,
        )

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"""Wide residual network of {depth} layers, {widen} times as wide as a thin one.

    Args:
        drop: share of values set to zero between the convolutions of a block while training; 0.3 in the paper.
    """
    return register(
        "model",
        paper=f"{PAPER}, section 3",
        year=2016,
        parameters=parameters,
        macs=macs,
        input=(3, 32, 32),
        num_classes=10,
        dimensions=(1, 2, 3),
        smallest=4,
        **({"small": True} if depth == 10 else {}),
    )(build)


def _wide_bottleneck(
    name: str, depths: tuple[int, ...], parameters: int, macs: int, weights: str
) -> Callable[..., ResNet]:
    """Register a ResNet of bottlenecks whose 3x3 convolutions are twice as wide, for images of 224 pixels."""

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
            partial(Bottleneck, widen=2),
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
    build.__doc__ = f"Residual network of {stages} bottlenecks twice as wide inside, for photographs."
    return register(
        "model",
        paper=f"{PAPER}, section 3, ImageNet",
        year=2016,
        parameters=parameters,
        macs=macs,
        input=(3, 224, 224),
        num_classes=1000,
        dimensions=(1, 2, 3),
        smallest=32,
        weights=weights,
        renamed=RENAMED,
    )(build)


wide_resnet_10_2 = _wide(10, 2, 303_706, 44_483_840)
wide_resnet_16_4 = _wide(16, 4, 2_748_890, 392_612_352)
wide_resnet_16_8 = _wide(16, 8, 10_961_370, 1_548_145_664)
wide_resnet_16_10 = _wide(16, 10, 17_116_634, 2_412_173_568)
wide_resnet_22_8 = _wide(22, 8, 17_158_106, 2_454_115_328)
wide_resnet_28_10 = _wide(28, 10, 36_479_194, 5_243_328_768)
wide_resnet_28_12 = _wide(28, 12, 52_517_850, 7_543_905_792)
wide_resnet_40_1 = _wide(40, 1, 563_930, 83_280_512)
wide_resnet_40_2 = _wide(40, 2, 2_243_546, 327_599_360)
wide_resnet_40_4 = _wide(40, 4, 8_949_210, 1_298_582_016)
wide_resnet_40_8 = _wide(40, 8, 35_748_314, 5_172_024_320)

wide_resnet50_2 = _wide_bottleneck(
    "wide_resnet50_2", (3, 4, 6, 3), 68_883_240, 11_398_021_120, "wide_resnet50_2-95faca4d.pth"
)
wide_resnet101_2 = _wide_bottleneck(
    "wide_resnet101_2", (3, 4, 23, 3), 126_886_696, 22_753_050_624, "wide_resnet101_2-32ee1156.pth"
)
