"""Temporal convolutional network: residual blocks of convolutions in one dimension that never see what comes later.

The idea: a convolution of dilation d looks at the steps t, t - d, t - 2d, ... With dilations 1, 2, 4, ... the view back
doubles from block to block, so that a few blocks see as far as a recurrent network remembers, and all steps of a signal
are computed side by side.

    block(x) = ReLU(x + F(x)),    F = dropout ReLU conv_d dropout ReLU conv_d
    view back of L blocks, steps = 1 + 2 (k - 1) (2^L - 1)

Every convolution is padded on the left alone, by (k - 1) d zeros: the answer at step t depends on x_1 .. x_t only. Its
weights are normalised (weight normalisation, Salimans and Kingma 2016: direction and length are learned apart).

Helps: long signals, whose gradients need not go through every step, and wherever steps shall run side by side. Hurts:
what lies before its view is not seen at all, and going on with a signal needs all of the view again, where a recurrent
network needs its state.

The paper's settings: for MNIST's pixels in order 8 blocks of 25 channels, k = 7, dropout 0.05, Adam at 2e-3 (section
5.2 and appendix A). Where we differ: fewer blocks by default, and no dropout; first weights as He's rule draws them, in
place of deviation 0.01.

Bai, Kolter, Koltun 2018, An empirical evaluation of generic convolutional and recurrent networks for sequence modeling,
arXiv:1803.01271, section 3.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.errors import UserError, unknown
from engram.registry import register

READINGS = ("last", "every")


class CausalConv(nn.Module):
    """A convolution over (B, C, T) whose answer at a step depends on that step and earlier ones.

    >>> import torch
    >>> conv, x = CausalConv(1, 1, kernel_size=3, dilation=1), torch.zeros(1, 1, 6)
    >>> x.requires_grad_()
    tensor([[[0., 0., 0., 0., 0., 0.]]], requires_grad=True)
    >>> conv(x)[0, 0, 3].backward()
    >>> (x.grad != 0).int()  # steps 1, 2 and 3
    tensor([[[0, 1, 1, 1, 0, 0]]], dtype=torch.int32)
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size))  # (C', C, k)
        nn.init.kaiming_normal_(self.direction, nonlinearity="relu")
        self.length = nn.Parameter(self.direction.detach().flatten(1).norm(dim=1))  # (C',)
        self.bias = nn.Parameter(torch.zeros(out_channels))  # (C',)
        self.dilation, self.before = dilation, (kernel_size - 1) * dilation

    def forward(self, x: Tensor) -> Tensor:  # (B, C, T)
        weight = self.direction * (self.length / self.direction.flatten(1).norm(dim=1))[:, None, None]
        return F.conv1d(F.pad(x, (self.before, 0)), weight, self.bias, dilation=self.dilation)  # (B, C', T)


class Block(nn.Module):
    """Two causal convolutions and a shortcut, which is a projection where the number of channels changes."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int, dilation: int, drop: float) -> None:
        super().__init__()
        self.first = CausalConv(in_channels, out_channels, kernel_size=kernel_size, dilation=dilation)
        self.second = CausalConv(out_channels, out_channels, kernel_size=kernel_size, dilation=dilation)
        self.drop = nn.Dropout(drop)
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv1d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(F.relu(self.first(x)))
        y = self.drop(F.relu(self.second(y)))
        return F.relu(self.shortcut(x) + y)


class TCN(nn.Module):
    """Blocks of growing dilation, and a linear head on the last step or on every one.

    Args:
        blocks: how many; the dilation doubles from one to the next.
        read: what the head sees, the `last` step or `every` one, which gives scores (B, T, K).

    >>> import torch
    >>> TCN(3, 5, width=8, blocks=2)(torch.zeros(4, 3, 50)).shape
    torch.Size([4, 5])
    >>> TCN(3, 5, width=8, blocks=2, read="every")(torch.zeros(4, 3, 50)).shape
    torch.Size([4, 50, 5])
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        width: int,
        blocks: int,
        kernel_size: int = 5,
        drop: float = 0.0,
        read: str = "last",
    ) -> None:
        super().__init__()
        if read not in READINGS:
            raise unknown("read", read, READINGS)
        sizes = [in_channels, *[width] * blocks]
        self.blocks = nn.Sequential(
            *(
                Block(before, after, kernel_size=kernel_size, dilation=2**place, drop=drop)
                for place, (before, after) in enumerate(pairwise(sizes))
            )
        )
        self.head = nn.Linear(width, num_classes)
        self.read = read
        self.view = 1 + 2 * (kernel_size - 1) * (2**blocks - 1)  # steps that an answer depends on

    def forward(self, x: Tensor) -> Tensor:  # (B, C, T)
        x = self.blocks(x)  # (B, width, T)
        if self.read == "every":
            return self.head(x.movedim(1, 2))  # (B, T, num_classes)
        return self.head(x[..., -1])  # (B, num_classes)


@register(
    "model",
    paper="Bai, Kolter, Koltun 2018, arXiv:1803.01271, section 3",
    year=2018,
    parameters=47_274,
    macs=1_481_024,
    input=(1, 32),
    small=True,
    num_classes=10,
    dimensions=(1,),
    smallest=1,
)
def tcn(
    *,
    num_classes: int = 10,
    in_channels: int = 1,
    width: int = 32,
    blocks: int = 5,
    kernel_size: int = 5,
    drop: float = 0.0,
    read: str = "last",
) -> TCN:
    """Residual causal convolutions over a signal, each block looking back twice as far as the one before.

    Args:
        width: channels of every block.
        blocks: how many; with 5 of kernel size 5 the view is 249 steps.
        kernel_size: steps that a convolution sees.
        drop: share of values set to zero after each convolution.
        read: what the head sees, the `last` step or `every` one, for task label.

    Raises:
        UserError: a size below 1, a share outside 0 to 1, an unknown reading.
    """
    for name, value in (("width", width), ("blocks", blocks), ("kernel_size", kernel_size)):
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{name} cannot be {value}", allowed="whole numbers from 1 up")
    if not 0 <= drop < 1:
        raise UserError(f"drop cannot be {drop}", allowed="a share from 0 up to 1")
    return TCN(in_channels, num_classes, width=width, blocks=blocks, kernel_size=kernel_size, drop=drop, read=read)
