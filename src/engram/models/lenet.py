"""LeNet-5: the first network to read handwriting at work, convolutions and pooling below, full connections above.

Five by five windows with shared weights find the same stroke anywhere, pooling forgets exactly where, and two such
rounds turn 1024 pixels into 16 small maps that a plain classifier can tell apart:

    32x32 -C1-> 6 of 28x28 -S2-> 14x14 -C3-> 16 of 10x10 -S4-> 5x5 -C5-> 120 -F6-> 84 -> 10

What is called LeNet-5 today, `lenet5` with 61,706 parameters, simplifies the paper's 60,000: pooling without weights,
C3 that sees all six maps and not a chosen few, a linear head in place of distances to drawn digits. Max pooling and
ReLU are the default because they are what everyone else's LeNet means by now; three passes over MNIST gave 98.8 to
99.1 % with them, with the paper's mean and tanh (`pool="average", activation="tanh"`), and with both mixtures. A
maximum stays the maximum after any rising function, so there the pooling comes first and the function has a quarter of
the work.

The original is `lenet5_1998`. Every layer up to F6 ends in f(a) = 1.7159 tanh(2 a / 3), which keeps a variance of one.
S2 and S4 add up four neighbours, times a weight, plus a bias, both learned, one of each a map. A map of C3 reads three,
four or all six maps of S2, by a table that breaks the symmetry between them. The output units have no weights to
learn: each class has a code of -1 and +1, a 7x12 picture of its digit, and unit i measures how far F6 is from it,

    y_i = sum over j of (x_j - code_ij)^2

The smallest distance wins, so the scores are -y_i. Their cross-entropy is y_right + log(sum of exp(-y_i)), the paper's
own discriminative loss but for the constant that it adds under the logarithm for what belongs to no class. What is the
same for all classes cancels in it, |x|^2 + 84, and what stays is a linear head with the fixed weights 2 code: it
separates the classes and no longer pulls x onto the code, as the plain distance to the right code would.

C5 sees the whole of its input, whatever the size, and is written as the linear layer it is. Images of 28 pixels get
the paper's field of 32: two zeros on each side, which the first convolution adds for nothing.

It suits grey digits and other small, centred pictures of one thing; on photographs it is soon too small (CIFAR-10:
about 65 %). The paper's settings: 20 passes one image at a time, the learning rate from 5e-4 down to 1e-5 for each
weight by its curvature, weights uniform in +-2.4 / inputs of the unit (`initial="paper"`), ink 1.175 and paper -0.1.
The paper's test error on MNIST, not ours: 0.95 %, 0.8 % with distorted images added.

Where `lenet5_1998` differs: the digits are drawn by us, the paper's are not published as numbers; other classes than
ten have codes drawn at random by a fixed seed, the same at every run. The distances are multiplied by `sharpness`, 0.1,
which changes no answer: at the paper's 1 the scores start tens apart, and the step must be some 25 times smaller
(`--optimizer.lr 0.002`). Weights start with a variance of 1 / inputs, and the four neighbours of S2 and S4 at weight
1/2. C3 runs as a dense convolution whose missing connections are zeros, 240,000 multiply-adds for the table's 150,000.

LeCun, Bottou, Bengio, Haffner 1998, Gradient-based learning applied to document recognition, Proc. IEEE 86(11),
section II.B, figure 2 and table I; loss: section II.C; tanh, initial weights: appendix A.
"""

from collections.abc import Sequence
from math import prod
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.errors import UserError, unknown
from engram.grammar import choice, number
from engram.layers.activations import activation as nonlinearity
from engram.layers.activations import initialize
from engram.layers.dimensions import average_pool, check_size, convolution
from engram.layers.max_pool import HalvingMaxPool
from engram.registry import register

POOLS = ("max", "average")
CODES = ("digits", "random")
INITIAL = ("lecun", "paper")
RISING = ("relu", "leaky_relu", "elu", "selu", "softplus", "tanh", "sigmoid", "identity")
SMALLEST = 16


def _padding(image_size: Sequence[int]) -> tuple[int, ...]:
    return tuple(2 if side == 28 else 0 for side in image_size)


def _last(image_size: Sequence[int]) -> list[int]:
    """Sides of S4, after two convolutions and two poolings."""
    padded = [side + 2 * pad for side, pad in zip(image_size, _padding(image_size), strict=True)]
    return [((side - 4) // 2 - 4) // 2 for side in padded]


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
        padding = _padding(image_size)
        squash = nonlinearity(activation)
        shrink = HalvingMaxPool(len(image_size)) if pool == "max" else average_pool(len(image_size))(2)
        half = (shrink, squash) if pool == "max" and activation in RISING else (squash, shrink)
        self.c1 = conv(in_channels, 6, 5, padding=padding)
        self.s2 = nn.Sequential(*half)
        self.c3 = conv(6, 16, 5)
        self.s4 = nn.Sequential(*half)
        self.c5 = nn.Linear(16 * prod(_last(image_size)), 120)
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
    small=True,
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


C3_TABLE = tuple(
    tuple(sorted(maps))
    for maps in (
        *[{start, (start + 1) % 6, (start + 2) % 6} for start in range(6)],
        *[{start, (start + 1) % 6, (start + 2) % 6, (start + 3) % 6} for start in range(6)],
        *[{0, 1, 3, 4}, {1, 2, 4, 5}, {0, 2, 3, 5}],
        set(range(6)),
    )
)
"""The maps of S2 that each of C3's 16 maps reads: neighbours by three, by four, four with a gap, all."""


class ScaledTanh(nn.Module):
    """1.7159 tanh(2 x / 3): through (-1, -1), (0, 0) and (1, 1), steepest in between, flat at +-1.7159.

    >>> ScaledTanh()(torch.tensor([-1.0, 0.0, 1.0, 99.0]))
    tensor([-1.0000,  0.0000,  1.0000,  1.7159])
    """

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(x * (2 / 3))


class Subsampling(nn.Module):
    """The sum of every 2x2 neighbours, times a weight, plus a bias; one of each a map, both learned.

    >>> layer = Subsampling(1); layer(torch.ones(1, 1, 2, 2)).item()
    2.0
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 0.5))  # four independent values keep their variance
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        total = 4 * F.avg_pool2d(x, 2)  # (B, C, H / 2, W / 2)
        return total * self.weight[:, None, None] + self.bias[:, None, None]


class TableConvolution(nn.Module):
    """A 5x5 convolution each of whose maps reads only those that a table names; the others have no weights.

    Args:
        table: for each map that is made, the maps that it reads.

    >>> sum(p.numel() for p in TableConvolution(C3_TABLE).parameters())
    1516
    """

    def __init__(self, table: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.shape = (len(table), 1 + max(max(maps) for maps in table))
        places = [target * self.shape[1] + source for target, maps in enumerate(table) for source in maps]
        self.inputs = [25 * len(maps) for maps in table for _ in maps]
        self.weight = nn.Parameter(torch.zeros(len(places), 5, 5))
        self.bias = nn.Parameter(torch.zeros(len(table)))
        self.register_buffer("places", torch.tensor(places), persistent=False)
        self.places: Tensor

    def forward(self, x: Tensor) -> Tensor:  # (B, 6, H, W)
        missing = self.weight.new_zeros(prod(self.shape), 5, 5)
        weight = missing.index_copy(0, self.places, self.weight).view(*self.shape, 5, 5)
        return F.conv2d(x, weight, self.bias)  # (B, 16, H - 4, W - 4)


class Distances(nn.Module):
    """For each class the squared distance from its code, negative: the nearest class has the largest score.

    Args:
        code: (K, features) of -1 and +1, which no step changes.
        sharpness: what the distances are multiplied by; 1 is the paper's.

    >>> Distances(torch.tensor([[1.0, -1.0], [1.0, 1.0]]))(torch.tensor([[0.0, 1.0]]))
    tensor([[-5., -1.]])
    """

    def __init__(self, code: Tensor, sharpness: float = 1.0) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.register_buffer("code", code)
        self.code: Tensor

    def forward(self, x: Tensor) -> Tensor:  # (B, features)
        # Not as |x|^2 - 2 x code + |code|^2: near the code, that loses the difference of two large numbers.
        return -self.sharpness * (x[:, None] - self.code).square().sum(2)  # (B, K)


DIGITS = """
..###.. ...#... .#####. .#####. .....#. ####### ..####. ####### ..###.. ..###..
.#...#. ..##... #.....# #.....# ....##. #...... .#..... ......# .#...#. .#...#.
#.....# .#.#... ......# ......# ....##. #...... #...... .....#. #.....# #.....#
#.....# ...#... ......# ......# ...#.#. #...... #...... .....#. #.....# #.....#
#.....# ...#... ......# ......# ..#..#. #...... #...... ....#.. .#...#. #.....#
#.....# ...#... .....#. ..####. ..#..#. ######. #.###.. ....#.. ..###.. .#...##
#.....# ...#... ....#.. ......# .#...#. ......# ##...#. ...#... .#...#. ..###.#
#.....# ...#... ...#... ......# #....#. ......# #.....# ...#... #.....# ......#
#.....# ...#... ..#.... ......# ####### ......# #.....# ..#.... #.....# ......#
#.....# ...#... .#..... ......# .....#. ......# #.....# ..#.... #.....# ......#
.#...#. ...#... #...... #.....# .....#. #.....# .#...#. ..#.... .#...#. .....#.
..###.. .#####. ####### .#####. .....#. .#####. ..###.. ..#.... ..###.. .####..
"""


def digit_code() -> Tensor:
    """The ten digits as pictures 7 wide and 12 high, row by row: (10, 84), ink +1 and paper -1."""
    rows = [row.split() for row in DIGITS.strip().splitlines()]
    pictures = ["".join(column) for column in zip(*rows, strict=True)]
    return torch.tensor([[1.0 if dot == "#" else -1.0 for dot in picture] for picture in pictures])


def random_code(classes: int) -> Tensor:
    """A code of 84 fair coins for each class, (K, 84) of -1 and +1, the same ones at every call."""
    coin = Random(1998)
    return torch.tensor([[1.0 if coin.random() < 0.5 else -1.0 for _ in range(84)] for _ in range(classes)])


class LeNet5Of1998(nn.Module):
    """LeNet-5 as published: learned sub-sampling, a sparse C3, scaled tanh, distances to one code a class.

    Args:
        image_size: the two sides of the input.
        code: "digits", drawn ones, for ten classes; "random" for any number. None takes the digits where they fit.
        sharpness: what the distances are multiplied by, above 0; 1 is the paper's.
        initial: "lecun", or "paper" for uniform weights within 2.4 / inputs.

    Raises:
        UserError: an image too small, an unknown word, drawn digits for other than ten classes.

    >>> LeNet5Of1998((32, 32))(torch.zeros(3, 1, 32, 32)).shape
    torch.Size([3, 10])
    """

    smallest = SMALLEST

    def __init__(
        self,
        image_size: Sequence[int],
        *,
        in_channels: int = 1,
        num_classes: int = 10,
        code: str | None = None,
        sharpness: float = 0.1,
        initial: str = "lecun",
    ) -> None:
        super().__init__()
        code = choice("lenet5_1998", "code", code or ("digits" if num_classes == 10 else "random"), CODES)
        choice("lenet5_1998", "initial", initial, INITIAL)
        number("lenet5_1998", "sharpness", sharpness, 0, above=True)
        if code == "digits" and num_classes != 10:
            raise UserError(f"lenet5_1998: code 'digits' with {num_classes} classes", allowed="ten classes, or random")
        check_size(image_size, SMALLEST, "lenet5_1998")
        self.squash = ScaledTanh()
        self.c1 = convolution(2)(in_channels, 6, 5, padding=_padding(image_size))
        self.s2 = Subsampling(6)
        self.c3 = TableConvolution(C3_TABLE)
        self.s4 = Subsampling(16)
        self.c5 = nn.Linear(16 * prod(_last(image_size)), 120)
        self.f6 = nn.Linear(120, 84)
        self.head = Distances(digit_code() if code == "digits" else random_code(num_classes), sharpness)
        self._initialize(initial)

    def _initialize(self, initial: str) -> None:
        c3_inputs = torch.tensor(self.c3.inputs)[:, None, None]
        inputs = (self.c1.weight[0].numel(), c3_inputs, self.c5.in_features, self.f6.in_features)
        for layer, count in zip((self.c1, self.c3, self.c5, self.f6), inputs, strict=True):
            _draw(layer.weight, count, initial)
            layer.bias.data.zero_()
        if initial == "paper":
            for layer in (self.s2, self.s4):
                _draw(layer.weight, 4, initial)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, 32, 32)
        x = self.squash(self.c1(x))  # (B, 6, 28, 28)
        x = self.squash(self.s2(x))  # (B, 6, 14, 14)
        x = self.squash(self.c3(x))  # (B, 16, 10, 10)
        x = self.squash(self.s4(x))  # (B, 16, 5, 5)
        x = self.squash(self.c5(x.flatten(1)))  # (B, 120)
        x = self.squash(self.f6(x))  # (B, 84)
        return self.head(x)  # (B, num_classes), none above zero


def _draw(weight: Tensor, inputs: int | Tensor, initial: str) -> None:
    """Initial weights in place: a variance of 1 / inputs, or uniform within 2.4 / inputs."""
    with torch.no_grad():
        if initial == "paper":
            weight.uniform_(-2.4, 2.4).div_(inputs)
        else:
            weight.normal_().div_(torch.as_tensor(inputs).sqrt())


@register(
    "model",
    paper="LeCun, Bottou, Bengio, Haffner 1998, Proc. IEEE 86(11), section II.B",
    year=1998,
    parameters=60_000,
    macs=415_680,
    input=(1, 32, 32),
    num_classes=10,
    dimensions=(2,),
    smallest=SMALLEST,
    small=True,
)
def lenet5_1998(
    *,
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: Sequence[int] = (32, 32),
    code: str | None = None,
    sharpness: float = 0.1,
    initial: str = "lecun",
) -> LeNet5Of1998:
    """LeNet-5 as published in 1998: learned sub-sampling, a sparse C3, distances to drawn digits as scores."""
    return LeNet5Of1998(
        image_size, in_channels=in_channels, num_classes=num_classes, code=code, sharpness=sharpness, initial=initial
    )
