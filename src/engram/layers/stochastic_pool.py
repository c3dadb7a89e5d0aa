"""Stochastic pooling: each window passes on one of its values, the likelier the larger it is.

Max pooling trusts one value and forgets the rest; the mean is dragged down by all the zeros of a ReLU. In between:

    training   y = a_l,  l ~ Multinomial(p),  p_i = a_i / sum_j a_j      one value, drawn anew for every window and pass
    judging    y = sum_i p_i a_i                                         its expected value

As a regulariser it has nothing to tune: each pass sees another deformation of the picture, and layers above see many
combinations of what is below. It helped networks without other regularisation (the paper: CIFAR-10 15.13 % against
19.40 with maxima); with augmentation and batch normalisation little is left of that, and the draw costs time.

The p need values that are not negative, so it stands after a ReLU; negative values count as the zeros a ReLU would
have made of them. A window of zeros gives zero. The gradient goes to the drawn value alone.

The paper's windows are 3x3 with stride 2 (`StochasticPool(3, 2)`); it draws in all its three pooling layers.

Zeiler and Fergus 2013, Stochastic Pooling for Regularization of Deep Convolutional Neural Networks, ICLR,
arXiv:1301.3557, sections 3.1 (training), 3.2 (probability weighting) and 4.2.
"""

import torch
from torch import Tensor, nn

from engram.errors import UserError


def windows(x: Tensor, side: int, stride: int) -> Tensor:
    """All windows of maps: (B, C, *S) to (B, C, *out, side^d), out = (S - side) // stride + 1.

    >>> windows(torch.arange(5.0)[None, None], side=3, stride=2)[0, 0].tolist()
    [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]
    """
    axes = x.dim() - 2
    for axis in range(2, x.dim()):
        x = x.unfold(axis, side, stride)
    return x.flatten(-axes)


def draw_from_windows(a: Tensor) -> Tensor:
    """One value of every window (*N, n), drawn with a chance in proportion to it; zero where all are zero.

    Each value races: it arrives after a time with an exponential distribution of that rate, and the first one wins,
    which happens with exactly the wanted chance and takes no running sums.
    """
    a = a.clamp_min(0)
    rates = a.detach().float()
    winner = (rates / torch.empty_like(rates).exponential_()).argmax(-1, keepdim=True)
    return a.gather(-1, winner).squeeze(-1)


def weight_windows(a: Tensor) -> Tensor:
    """The expected value of `draw_from_windows`, sum a^2 / sum a; zero where all are zero.

    >>> weight_windows(torch.tensor([[1.0, 3.0, 0.0], [0.0, 0.0, -1.0]]))
    tensor([2.5000, 0.0000])
    """
    a = a.clamp_min(0)
    total = a.sum(-1)
    return a.square().sum(-1) / torch.where(total > 0, total, 1)


class StochasticPool(nn.Module):
    """Pooling that draws while training and gives the expected value otherwise.

    Args:
        side: of the windows, in pixels, on every axis.
        stride: pixels between them; none is `side`.

    Raises:
        UserError: windows or strides below 1.

    >>> pool = StochasticPool(2).eval(); pool(torch.tensor([[[[1.0, 2.0], [0.0, 5.0]]]])).item()
    3.75
    """

    draws_while_training = True

    def __init__(self, side: int, stride: int | None = None) -> None:
        super().__init__()
        stride = side if stride is None else stride
        if side < 1 or stride < 1:
            raise UserError(f"windows of {side} pixels, {stride} apart", allowed="1 pixel or more")
        self.side, self.stride = side, stride

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        a = windows(x, self.side, self.stride)  # (B, C, *out, side^d)
        return draw_from_windows(a) if self.training else weight_windows(a)  # (B, C, *out)

    def extra_repr(self) -> str:
        """The windows."""
        return f"side={self.side}, stride={self.stride}"
