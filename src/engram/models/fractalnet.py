"""FractalNet: very deep without shortcuts, by a rule that puts a shallow path beside every deep one.

A block begins as one convolution. The rule turns a block of C columns into one of C + 1: twice the old block, one after
the other, and beside both a new convolution:

    f_1(z) = conv(z)
    f_{C+1}(z) = join((f_C . f_C)(z), conv(z))        conv: 3x3 convolution, batch normalisation, ReLU
    join(a, b, ...) = the mean of the inputs that are alive

Column k is then 2^(k-1) convolutions deep, and a join where several columns meet is one mean over all of them. Blocks
follow one another with a max pooling that halves the image, five of them on 32 pixels, and a linear head. No signal
passes by unchanged, as in a residual network; the gradient reaches the first layer over the shallow columns, which
learn first and then teach the deep ones.

Drop-path keeps columns from leaning on each other. For each mini-batch, by a coin,
    local    every join loses each of its inputs with probability `drop_path`, but never all of them;
    global   one column, drawn evenly, is alone from the first block to the last.
So every column becomes a network that stands by itself, and `net.column(k)` takes it out: the deepest is as good as the
whole, the shallow ones are quick. What is lost is not computed, learns nothing and normalises nothing in that step. At
test all columns are there.

It helps as proof that depth does not need residuals; as a network it has far more weights than a residual one of the
same error, and drop-path needs long training. That it "reduces depth" is half right: the longest path stays, and the
effective ones are short.

The paper's settings: CIFAR, 400 passes, batch 100, SGD with momentum 0.9, lr 0.02 divided by 10 each time half of the
remaining passes are gone, Xavier's initial weights, dropout of 0, 0.1, 0.2, 0.3, 0.4 in the five blocks, drop-path with
0.15 on half of the batches and one column on the other half. The paper's error on CIFAR-10, not ours, with both: 7.33 %
without and 4.60 % with crops and flips, by the deepest column alone 7.27 and 4.68; with neither 10.18 and 5.22. Three
re-implementations known to us did not reach these.

Where we differ: `fractalnet_20` as described has 33,724,618 weights; the paper says 38.6 million, which nobody has been
able to count, the authors' own generator included. `fractalnet_40` is the paper's in its experiment on depth, 4.8
million. Dropout stands between convolution and normalisation, as in the re-implementations; the paper does not say.
Blocks are joined, then pooled, as the paper has it; the published generator pools each column first.
`fractalnet_small` is ours.

Larsson, Maire, Shakhnarovich 2016, FractalNet: Ultra-Deep Neural Networks without Residuals, arXiv:1605.07648: section
3, equations 1 to 3 (rule and drop-path); section 4.1 and table 1 (20 layers); table 3 (40 layers).
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from engram.errors import UserError
from engram.grammar import number
from engram.layers.dimensions import batch_norm, convolution, max_pool
from engram.registry import register

PAPER = "Larsson, Maire, Shakhnarovich 2016, arXiv:1605.07648"

Choice = Callable[[int], list[bool]]
"""Which of so many inputs of a join are alive, the shallowest column first."""


def everything(inputs: int) -> list[bool]:
    """No input is lost.

    >>> everything(3)
    [True, True, True]
    """
    return [True] * inputs


def one_column(column: int, columns: int) -> Choice:
    """Of `columns` only that column, 1 being the shallowest; joins inside a block have only the deeper ones.

    >>> one_column(2, columns=3)(3), one_column(2, columns=3)(2)
    ([False, True, False], [True, False])
    """

    def choose(inputs: int) -> list[bool]:
        return [place == column for place in range(columns - inputs + 1, columns + 1)]

    return choose


def local_drop_path(drop: float) -> Choice:
    """Each input is lost with probability `drop`, drawn from torch's global generator; of none left, one comes back.

    >>> _ = torch.manual_seed(0); choose = local_drop_path(0.9)
    >>> all(any(choose(2)) for _ in range(100))
    True
    """

    def choose(inputs: int) -> list[bool]:
        alive = (torch.rand(inputs, device="cpu") >= drop).tolist()
        if not any(alive):
            alive[int(torch.randint(inputs, (), device="cpu"))] = True
        return alive

    return choose


class Fractal(nn.Module):
    """A block of so many columns, by the rule.

    Args:
        unit: builds one convolution with what belongs to it, from the number of its input maps.

    >>> block = Fractal(3, 8, 16, lambda channels: nn.Conv2d(channels, 16, 3, padding=1))
    >>> block(torch.zeros(2, 8, 4, 4)).shape, sum(isinstance(module, nn.Conv2d) for module in block.modules())
    (torch.Size([2, 16, 4, 4]), 7)
    """

    def __init__(self, columns: int, in_channels: int, width: int, unit: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.columns = columns
        self.short = unit(in_channels)
        if columns > 1:
            self.first = Fractal(columns - 1, in_channels, width, unit)
            self.second = Fractal(columns - 1, width, width, unit)

    def forward(self, z: Tensor, choose: Choice = everything) -> Tensor:  # (B, C, *S)
        alive = self.paths(z, choose(self.columns), choose)
        return sum(alive[1:], alive[0]) / len(alive) if len(alive) > 1 else alive[0]  # (B, width, *S)

    def paths(self, z: Tensor, alive: Sequence[bool], choose: Choice) -> list[Tensor]:
        """What the columns that are alive bring to the join at the block's end, the shallowest first."""
        short = [self.short(z)] if alive[0] else []
        if not any(alive[1:]):
            return short
        return short + self.second.paths(self.first(z, choose), alive[1:], choose)

    def column(self, number: int) -> list[nn.Module]:
        """The units of one column, 1 being the shallowest, in their order."""
        if number == 1:
            return [self.short]
        return self.first.column(number - 1) + self.second.column(number - 1)


class MeanOverPositions(nn.Module):
    """A value a map.

    >>> MeanOverPositions()(torch.ones(2, 3, 4, 4)).shape
    torch.Size([2, 3])
    """

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        return x.flatten(2).mean(2)  # (B, C)


class FractalNet(nn.Module):
    """Fractal blocks with a max pooling after each, the mean over the positions that are left, a linear head.

    Args:
        widths: maps of each block.
        columns: of each block; the deepest of them is 2^(columns - 1) convolutions deep in each.
        drop: share of values set to zero in the last block while training; from the first it grows in a line from 0.
        drop_path: probability with which a join loses an input (local drop-path).
        global_drop_path: share of mini-batches that train one column alone in place of that.
        bias: of convolutions, which the normalisation behind them makes useless.

    Raises:
        UserError: a number out of range.

    >>> net = FractalNet((4, 8), columns=3, num_classes=5)
    >>> net(torch.zeros(2, 3, 8, 8)).shape, len(net.column(3).block1)
    (torch.Size([2, 5]), 5)
    """

    def __init__(
        self,
        widths: Sequence[int],
        columns: int,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        dimensions: int = 2,
        drop: float = 0.4,
        drop_path: float = 0.15,
        global_drop_path: float = 0.5,
        bias: bool = False,
    ) -> None:
        super().__init__()
        number("fractalnet", "columns", columns, 1, whole=True)
        number("fractalnet", "drop", drop, 0, 1)
        self.drop_path = number("fractalnet", "drop_path", drop_path, 0, 1)
        self.global_drop_path = number("fractalnet", "global_drop_path", global_drop_path, 0, 1)
        self.columns, self.smallest = columns, 2 ** len(widths)
        self.blocks = nn.ModuleList()
        for place, width in enumerate(widths):
            share = drop * place / max(len(widths) - 1, 1)
            self.blocks.append(Fractal(columns, in_channels, width, _unit(width, dimensions, share, bias)))
            in_channels = width
        self.pool = max_pool(dimensions)(2)
        self.mean = MeanOverPositions()
        self.head = nn.Linear(in_channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, column: int | None = None) -> Tensor:  # (B, C, *S)
        """The scores; of one column alone where it is given."""
        choose = self._choice(x) if column is None else one_column(self._known(column), self.columns)
        for block in self.blocks:
            x = self.pool(block(x, choose))  # (B, width, *S / 2)
        return self.head(self.mean(x))  # (B, num_classes)

    def column(self, number: int, *, shared: bool = False) -> nn.Sequential:
        """A column as a plain network by itself: convolutions, poolings and the head, in a row.

        Args:
            number: 1, which is the shallowest, up to `columns`.
            shared: with this network's own layers, so that training one trains the other, in place of copies.

        Raises:
            UserError: there is no such column.
        """
        self._known(number)
        layers = OrderedDict[str, nn.Module]()
        for place, block in enumerate(self.blocks, 1):
            layers[f"block{place}"] = nn.Sequential(*cast(Fractal, block).column(number), self.pool)
        net = nn.Sequential(OrderedDict([*layers.items(), ("mean", self.mean), ("head", self.head)]))
        return (net if shared else deepcopy(net)).train(self.training)

    def _choice(self, x: Tensor) -> Choice:
        if not self.training or x.is_meta:  # where costs are counted, nothing is lost
            return everything
        if self.global_drop_path and torch.rand((), device="cpu").item() < self.global_drop_path:
            return one_column(int(torch.randint(self.columns, (), device="cpu")) + 1, self.columns)
        return local_drop_path(self.drop_path) if self.drop_path else everything

    def _known(self, column: int) -> int:
        if column not in range(1, self.columns + 1):
            raise UserError(f"there is no column {column!r}", allowed=f"1, the shallowest, to {self.columns}")
        return column


def _unit(width: int, dimensions: int, drop: float, bias: bool) -> Callable[[int], nn.Module]:
    def build(in_channels: int) -> nn.Module:
        layers = OrderedDict[str, nn.Module](
            conv=convolution(dimensions)(in_channels, width, 3, padding=1, bias=bias),
            drop=nn.Dropout(drop),
            norm=batch_norm(dimensions)(width),
            relu=nn.ReLU(),
        )
        return nn.Sequential(layers)

    return build


@register(
    "model",
    paper=f"{PAPER}, section 4.1",
    year=2016,
    parameters=33_724_618,
    macs=845_222_912,
    input=(3, 32, 32),
    num_classes=10,
    dimensions=(1, 2, 3),
    smallest=32,
)
def fractalnet_20(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    dimensions: int = 2,
    drop: float = 0.4,
    drop_path: float = 0.15,
    global_drop_path: float = 0.5,
    bias: bool = False,
) -> FractalNet:
    """FractalNet of 20 layers: five blocks of three columns, 64 to 512 maps."""
    return FractalNet(
        (64, 128, 256, 512, 512),
        3,
        num_classes=num_classes,
        in_channels=in_channels,
        dimensions=dimensions,
        drop=drop,
        drop_path=drop_path,
        global_drop_path=global_drop_path,
        bias=bias,
    )


@register(
    "model",
    paper=f"{PAPER}, table 3",
    year=2016,
    parameters=4_767_210,
    macs=128_582_912,
    input=(3, 32, 32),
    num_classes=10,
    dimensions=(1, 2, 3),
    smallest=32,
)
def fractalnet_40(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    dimensions: int = 2,
    drop: float = 0.4,
    drop_path: float = 0.15,
    global_drop_path: float = 0.5,
    bias: bool = False,
) -> FractalNet:
    """FractalNet of 40 layers: five blocks of four columns, a quarter as wide as `fractalnet_20`."""
    return FractalNet(
        (16, 32, 64, 128, 128),
        4,
        num_classes=num_classes,
        in_channels=in_channels,
        dimensions=dimensions,
        drop=drop,
        drop_path=drop_path,
        global_drop_path=global_drop_path,
        bias=bias,
    )


@register(
    "model",
    paper=f"{PAPER}, for small images",
    year=2016,
    parameters=266_170,
    macs=36_717_184,
    input=(3, 32, 32),
    num_classes=10,
    dimensions=(1, 2, 3),
    smallest=8,
    small=True,
)
def fractalnet_small(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    dimensions: int = 2,
    drop: float = 0.0,
    drop_path: float = 0.0,
    global_drop_path: float = 0.0,
    bias: bool = False,
) -> FractalNet:
    """FractalNet of 12 layers for images of 28 to 32 pixels: three blocks of three columns.

    It trains whole by default, for minutes are too short for drop-path: with two passes over 5,000 images of CIFAR-10
    at a rate of 0.1 it came to 45 % of the validation images, and with the paper's drop-path (`drop_path=0.15,
    global_drop_path=0.5`, what columns that stand by themselves need) to 19 %.
    """
    return FractalNet(
        (16, 32, 64),
        3,
        num_classes=num_classes,
        in_channels=in_channels,
        dimensions=dimensions,
        drop=drop,
        drop_path=drop_path,
        global_drop_path=global_drop_path,
        bias=bias,
    )
