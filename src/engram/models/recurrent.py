"""Recurrent networks that read a sequence to its end and then say what it is: many to one.

The idea: the same weights at every step, a state that carries what was read, and a linear head on the last state. A
signal (B, C, length) is read sample by sample, its channels together; an image row by row from the top, every row one
input of W values for each channel.

    h_t = recurrent(x_t, h_{t-1}),   t = 1 .. length            scores = W h_length + b

The last state has to hold everything; `read="mean"` gives the head the mean of all states instead, a short way from
every step to the loss, which helps where the class shows somewhere and not at the end.

    rnn      tanh; what lies tens of steps back is forgotten
    gru      gates and one state, three times the weights
    lstm     gates and a cell that is added to, four times the weights

Helps: order matters, lengths differ, and few parameters shall do for any length. Hurts: a step waits for the one
before, so that long signals are slow; for images and for patterns with a fixed shape a convolution does better (1-D
residual networks take the same data: `resnet20`). Clip the gradient's norm (`--clip_norm 1`).

Settings of the papers differ by task; with 100 units Le, Jaitly and Hinton read images pixel by pixel. Where we differ:
recurrent weights start orthogonal, an LSTM's forget gates open (`forget_bias` 1; Jozefowicz et al. 2015), and images
are read by rows. Weights and cells: `engram.layers.recurrent`.

Elman 1990, Cognitive Science 14(2), 179-211; Hochreiter and Schmidhuber 1997, Neural Computation 9(8), 1735-1780; Cho
et al. 2014, arXiv:1406.1078, section 2.3; Le, Jaitly, Hinton 2015, arXiv:1504.00941, section 4 (images as sequences).
"""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from engram.errors import unknown
from engram.layers.recurrent import GRU, LSTM, RNN, Stack
from engram.registry import register

READINGS = ("last", "mean", "every")


class SequenceClassifier(nn.Module):
    """Recurrent layers over (B, C, length) signals or the rows of (B, C, H, W) images, and a linear head.

    Args:
        recurrent: layers whose input is C, or C W for images.
        read: what the head sees of the last layer, its `last` state, the `mean` of all, or `every` one by itself, which
            gives scores for each step.

    Raises:
        UserError: another reading.

    >>> import torch
    >>> net = SequenceClassifier(LSTM(3, 16), num_classes=5)
    >>> net(torch.zeros(4, 3, 100)).shape
    torch.Size([4, 5])
    """

    def __init__(self, recurrent: Stack, *, num_classes: int, read: str = "last") -> None:
        super().__init__()
        if read not in READINGS:
            raise unknown("read", read, READINGS)
        self.read = read
        self.recurrent = recurrent
        self.head = nn.Linear(recurrent.hidden_size, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, length), or (B, C, H, W)
        x = x.movedim(2, 1).flatten(2)  # (B, steps, C), or (B, H, C W)
        states, _ = self.recurrent(x)  # (B, steps, units)
        if self.read == "every":
            return self.head(states)  # (B, steps, num_classes)
        x = states[:, -1] if self.read == "last" else states.mean(1)  # (B, units)
        return self.head(x)  # (B, num_classes)


@register(
    "model",
    paper="Elman 1990, Cognitive Science 14(2), 179-211",
    year=1990,
    parameters=21_514,
    macs=560_384,
    input=(1, 28, 28),
    num_classes=10,
    dimensions=(1, 2),
    smallest=1,
)
def rnn(
    *,
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: Sequence[int] = (28, 28),
    hidden_size: int = 128,
    depth: int = 1,
    drop: float = 0.0,
    read: str = "last",
    orthogonal: bool = True,
    layer_norm: bool = False,
) -> SequenceClassifier:
    """Vanilla recurrent layers over a signal, or over an image's rows.

    Args:
        hidden_size: units of each layer.
        depth: recurrent layers.
        drop: share of values set to zero between layers.
        read: what the head sees, the `last` state, the `mean` of all, or `every` one, for task label.
        orthogonal: recurrent weights start orthogonal.
        layer_norm: normalise the sum before its tanh; slower.

    Raises:
        UserError: a size below 1, a share outside 0 to 1 or between layers where there is one, an unknown reading.
    """
    size = _step_size(in_channels, image_size)
    recurrent = RNN(size, hidden_size, depth, drop=drop, orthogonal=orthogonal, layer_norm=layer_norm)
    return SequenceClassifier(recurrent, num_classes=num_classes, read=read)


@register(
    "model",
    paper="Cho et al. 2014, arXiv:1406.1078, section 2.3",
    year=2014,
    parameters=61_962,
    macs=1_678_592,
    input=(1, 28, 28),
    num_classes=10,
    dimensions=(1, 2),
    smallest=1,
)
def gru(
    *,
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: Sequence[int] = (28, 28),
    hidden_size: int = 128,
    depth: int = 1,
    drop: float = 0.0,
    read: str = "last",
    orthogonal: bool = True,
    layer_norm: bool = False,
) -> SequenceClassifier:
    """GRU layers over a signal, or over an image's rows.

    Args:
        hidden_size: units of each layer.
        depth: recurrent layers.
        drop: share of values set to zero between layers.
        read: what the head sees, the `last` state, the `mean` of all, or `every` one, for task label.
        orthogonal: recurrent weights start orthogonal, gate by gate.
        layer_norm: normalise what enters the gates; slower.

    Raises:
        UserError: as `rnn`.
    """
    size = _step_size(in_channels, image_size)
    recurrent = GRU(size, hidden_size, depth, drop=drop, orthogonal=orthogonal, layer_norm=layer_norm)
    return SequenceClassifier(recurrent, num_classes=num_classes, read=read)


@register(
    "model",
    paper="Hochreiter and Schmidhuber 1997, Neural Computation 9(8), 1735-1780",
    year=1997,
    parameters=82_186,
    macs=2_237_696,
    input=(1, 28, 28),
    num_classes=10,
    dimensions=(1, 2),
    smallest=1,
    small=True,
)
def lstm(
    *,
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: Sequence[int] = (28, 28),
    hidden_size: int = 128,
    depth: int = 1,
    drop: float = 0.0,
    read: str = "last",
    forget_bias: float = 1.0,
    orthogonal: bool = True,
    layer_norm: bool = False,
) -> SequenceClassifier:
    """LSTM layers over a signal, or over an image's rows.

    Args:
        hidden_size: units of each layer.
        depth: recurrent layers.
        drop: share of values set to zero between layers.
        read: what the head sees, the `last` state, the `mean` of all, or `every` one, for task label.
        forget_bias: added to the bias that the forget gates start with.
        orthogonal: recurrent weights start orthogonal, gate by gate.
        layer_norm: normalise what enters the gates; slower.

    Raises:
        UserError: as `rnn`.
    """
    recurrent = LSTM(
        _step_size(in_channels, image_size),
        hidden_size,
        depth,
        drop=drop,
        forget_bias=forget_bias,
        orthogonal=orthogonal,
        layer_norm=layer_norm,
    )
    return SequenceClassifier(recurrent, num_classes=num_classes, read=read)


def _step_size(channels: int, size: Sequence[int]) -> int:
    """Values that one step reads: the channels of a sample, or of a whole row."""
    return channels * prod(size[1:])
