"""Layer normalisation inside a recurrent cell: the units of one gate, in one example, at one step of time.

    y_k = gain_k (x_k - mean(x_k)) / sqrt(var(x_k) + 1e-5) + shift_k,      k a gate, mean and variance over its H units

What enters a gate at step 50 need not have the scale of what entered at step 1, so batch normalisation would need
statistics for every step and a longest sequence. Here they come from the example itself: any length, any batch, the
same when training and when predicting. Scale all incoming weights, and nothing changes, which keeps the recurrent
product from growing or fading.

Helps: long sequences, small batches. Hurts: the fused kernels know nothing of it, so that every step is several small
operations: two LSTM layers of 128 units over 64 steps took twice the time of torch's on one core of a CPU.

The paper's settings: gains 1, shifts 0 at the start. Where we differ: a gate is normalised by itself, as most
implementations do, while the equations may be read as one mean over all four; and where a bias is added right after,
as in all gates, it is the shift.

Ba, Kiros, Hinton 2016, Layer normalization, arXiv:1607.06450, section 3.1, and the LSTM and GRU of the supplementary
material.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-5

Norms = Mapping[str, Callable[[Tensor], Tensor]]
"""What to do with each sum that a cell may normalise, by name."""


class GateNorm(nn.Module):
    """Normalises each of `gates` blocks of `hidden_size` values that stand side by side.

    Args:
        shift: whether something is added too; where a bias follows, it would be one too many.

    >>> GateNorm(2, 2)(torch.tensor([[1.0, 3.0, 10.0, 30.0]])).round()
    tensor([[-1.,  1., -1.,  1.]], grad_fn=<RoundBackward0>)
    """

    def __init__(self, gates: int, hidden_size: int, *, shift: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(gates, hidden_size))
        self.bias = nn.Parameter(torch.zeros(gates, hidden_size)) if shift else None

    def forward(self, x: Tensor) -> Tensor:  # (B, gates * H)
        x = F.layer_norm(x.unflatten(-1, self.weight.shape), self.weight.shape[1:], eps=EPS)  # (B, gates, H)
        x = x * self.weight
        return (x if self.bias is None else x + self.bias).flatten(-2)  # (B, gates * H)

    def extra_repr(self) -> str:
        """Gates and units."""
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}, shift={self.bias is not None}"


def unchanged(x: Tensor) -> Tensor:
    """No normalisation.

    >>> unchanged(torch.ones(1))
    tensor([1.])
    """
    return x
