"""Stochastic depth: a residual network whose blocks are left out at random while it trains, the deeper ones more often.

A step of training sees a shallower network, another one each time, and the gradient reaches the lower layers over fewer
blocks; at test all blocks are there, each weighed by how often it was. Block l of L survives a step with

    keep_l = 1 - l/L (1 - keep_L),     keep_L = 0.5,

because what all later blocks build on must be there more reliably than what only the head reads. Of the 54 blocks of
110 layers 40.25 are there on average, and training takes a quarter less time. The mechanism is `layers/drop_path.py`,
which also puts it on any other residual network; here are the paper's networks, ResNets of basic blocks.

It helps where depth over-fits: 110 layers on CIFAR-10, 6.41 to 5.25 % error; 1202 layers, which by themselves are worse
than 110, 4.91 %. It hurts when training is short or the network is small: 20 layers have no depth to give away, and the
form of that size is here to look at, not to win. Constant decay (`decay="constant"`) is worse in the paper.

The paper's settings: CIFAR-10, 500 passes, batch 128, lr 0.1 divided by 10 after 250 and 375, Nesterov momentum 0.9,
weight decay 1e-4, padded crops and flips.

Where we differ: a shortcut that halves the image takes every second pixel, as in the ResNet paper, where the authors'
code takes the mean of four; convolutions have no bias, which batch normalisation would take away; a block that is left
out rests altogether, where theirs goes on with its momentum and weight decay, as all weights are one vector there.

Huang, Sun, Liu, Sedra, Weinberger 2016, Deep networks with stochastic depth, arXiv:1603.09382, sections 3 and 4.
"""

from collections.abc import Callable

from engram.layers.drop_path import add_stochastic_depth
from engram.models.resnet import BasicBlock, ResNet
from engram.registry import register


def _network(name: str, blocks: int, parameters: int, macs: int) -> Callable[..., ResNet]:
    """Register one network by name: three stages of so many blocks each."""

    def build(
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        dimensions: int = 2,
        drop: float = 0.5,
        decay: str = "linear",
        per: str = "batch",
        scale: str = "test",
        shortcut: str = "identity",
    ) -> ResNet:
        net = ResNet(
            BasicBlock,
            (blocks, blocks, blocks),
            16,
            num_classes=num_classes,
            in_channels=in_channels,
            dimensions=dimensions,
            stem="small",
            shortcut=shortcut,
        )
        add_stochastic_depth(net, drop, per=per, scale=scale, decay=decay)
        return net

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"""ResNet of {6 * blocks + 2} layers, of whose {3 * blocks} blocks a random part trains at a time.

    Args:
        drop: probability of leaving out the last block; the earlier ones less, or all of them with decay "constant".
        per: "batch" saves the time of what is left out, "sample" decides for each image.
        scale: where the expectation is kept: "test", or "training".
    """
    return register(
        "model",
        paper="Huang, Sun, Liu, Sedra, Weinberger 2016, arXiv:1603.09382, section 4",
        year=2016,
        parameters=parameters,
        macs=macs,
        input=(3, 32, 32),
        num_classes=10,
        dimensions=(1, 2, 3),
        smallest=4,
        **({"small": True} if blocks == 3 else {}),
    )(build)


stochastic_depth_20 = _network("stochastic_depth_20", 3, 269_722, 40_551_040)
stochastic_depth_56 = _network("stochastic_depth_56", 9, 853_018, 125_485_696)
stochastic_depth_110 = _network("stochastic_depth_110", 18, 1_727_962, 252_887_680)
stochastic_depth_1202 = _network("stochastic_depth_1202", 200, 19_421_274, 2_829_238_912)
