"""LeNet-5: the first network to read handwriting at work, convolutions and pooling below, full connections above.

Five by five windows with shared weights find the same stroke anywhere, pooling forgets exactly where, and two such
rounds turn 1024 pixels into 16 small maps that a plain classifier can tell apart:

    32x32 -C1-> 6 of 28x28 -S2-> 14x14 -C3-> 16 of 10x10 -S4-> 5x5 -C5-> 120 -F6-> 84 -> 10

What is called LeNet-5 today, 61,706 parameters, simplifies the paper's 60,000: pooling without weights, C3 that sees
all six maps and not a chosen few, a linear head in place of distances to drawn digits. Max pooling and ReLU are the
default because they are what everyone else's LeNet means by now; three passes over MNIST gave 98.8 to 99.1 % with
them, with the paper's mean and tanh (`pool="average", activation="tanh"`), and with both mixtures. A maximum stays the
maximum after any rising function, so there the pooling comes first and the function has a quarter of the work.

C5 sees the whole of its input, whatever the size, and is written as the linear layer it is. Images of 28 pixels get
the paper's field of 32: two zeros on each side, which the first convolution adds for nothing.

It suits grey digits and other small, centred pictures of one thing; on photographs it is soon too small (CIFAR-10:
about 65 %). The paper's settings: 20 passes one image at a time, the learning rate from 5e-4 down to 1e-5 for each
weight by its curvature.

LeCun, Bottou, Bengio, Haffner 1998, Gradient-based learning applied to document recognition, Proc. IEEE 86(11),
section II.B and figure 2.
"""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from engram.errors import unknown
from engram.layers.activations import activation as nonlinearity
from engram.layers.activations import initialize
from engram.layers.dimensions import average_pool, check_size, convolution
from engram.layers.max_pool import HalvingMaxPool
from engram.registry import register

POOLS = ("max", "average")
RISING = ("relu", "leaky_relu", "elu", "selu", "softplus", "tanh", "sigmoid", "identity")
SMALLEST = 16


class LeNet5(nn.Module):
    """Two rounds of convolution and pooling, two full connections and a linear head.

    Args:
        image_size: sides of the input; one, two or three of them.

    >>> import torch; LeNet5((28, 28))(torch.zeros(3, 1, 28, 28)).shape
    torch.Size([3, 10])
    """

    smallest = SMALLEST

    def __init__(
        self,
        image_size: Sequence[int],
        *,
        in_channels: int = 1,
        num_classes: int = 10,
        activation: str = "relu",
        pool: str = "max",
    ) -> None:
        super().__init__()
        if pool not in POOLS:
            raise unknown("pool", pool, POOLS)
        check_size(image_size, SMALLEST, "lenet5")
        conv = convolution(len(image_size))
        padding = tuple(2 if side == 28 else 0 for side in image_size)
        squash = nonlinearity(activation)
        shrink = HalvingMaxPool(len(image_size)) if pool == "max" else average_pool(len(image_size))(2)
        half = (shrink, squash) if pool == "max" and activation in RISING else (squash, shrink)
        self.c1 = conv(in_channels, 6, 5, padding=padding)
        self.s2 = nn.Sequential(*half)
        self.c3 = conv(6, 16, 5)
        self.s4 = nn.Sequential(*half)
        last = [((side + 2 * pad - 4) // 2 - 4) // 2 for side, pad in zip(image_size, padding, strict=True)]
        self.c5 = nn.Linear(16 * prod(last), 120)
        self.f6 = nn.Linear(120, 84)
        self.head = nn.Linear(84, num_classes)
        self.squash = squash
        for layer in (self.c1, self.c3, self.c5, self.f6):
            initialize(layer.weight, before=activation)
            nn.init.zeros_(layer.bias)
        initialize(self.head.weight, before="identity")
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, 32, 32)
        x = self.s2(self.c1(x))  # (B, 6, 14, 14)
        x = self.s4(self.c3(x))  # (B, 16, 5, 5)
        x = x.movedim(1, -1).flatten(1)  # (B, 400), position by position: no copy in channels-last memory
        x = self.squash(self.c5(x))  # (B, 120)
        x = self.squash(self.f6(x))  # (B, 84)
        return self.head(x)  # (B, num_classes)


@register(
    "model",
    paper="LeCun, Bottou, Bengio, Haffner 1998, Proc. IEEE 86(11), section II.B",
    year=1998,
    parameters=61_706,
    macs=416_520,
    input=(1, 28, 28),
    num_classes=10,
    dimensions=(1, 2, 3),
    smallest=SMALLEST,
)
def lenet5(
    *,
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: Sequence[int] = (28, 28),
    activation: str = "relu",
    pool: str = "max",
) -> LeNet5:
    """LeNet-5 in its modern form, for handwritten digits of 28 or 32 pixels and other small pictures."""
    return LeNet5(image_size, in_channels=in_channels, num_classes=num_classes, activation=activation, pool=pool)
