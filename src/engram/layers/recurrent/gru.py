"""GRU: an LSTM's idea with one state and two gates, one that forgets and one that waits.

The idea: the update gate z says how much of the old state stays as it is, the reset gate r how much of it the new
candidate n sees. Where z is near 1, the state and the gradient with it pass unchanged; no separate cell is needed.
What is kept and what is written add up to one.

    r = σ(W_ir x_t + b_ir + W_hr h_{t-1} + b_hr)            z = σ(W_iz x_t + b_iz + W_hz h_{t-1} + b_hz)
    n = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn))     h_t = (1 - z) n + z h_{t-1}

Helps: three quarters of an LSTM's parameters, 3 (H (D + H) + 2 H), and as good on most tasks. Hurts where something has
to be counted: this state stays within ±1, an LSTM's cell does not.

Where we differ from the paper's equation 8, as torch and cuDNN do: r acts after the matrix, W_hn (the paper's first
version too), so that the three products with h_{t-1} are one; the candidate has a second bias inside of r. What the
paper calls U is W_h here. Layer normalisation is of W_i x and of W_h h, gate by gate (Ba et al. 2016, supplementary
material).

Cho, van Merriënboer, Gulcehre, Bahdanau, Bougares, Schwenk, Bengio 2014, Learning phrase representations using RNN
encoder-decoder for statistical machine translation, arXiv:1406.1078, section 2.3, equations 5 to 8.
"""

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from engram.layers.recurrent.fused_gru import fused_gru
from engram.layers.recurrent.gate_norm import Norms, unchanged
from engram.layers.recurrent.stack import Stack, Weights

PLAIN: Norms = {"input": unchanged, "state": unchanged}


def gru_step(x: Tensor, state: tuple[Tensor, ...], weights: Weights, norms: Norms = PLAIN) -> dict[str, Tensor]:
    """One step of time.

    Args:
        x: (B, D).
        state: h (B, H), alone.
        weights: W_i (3 H, D), W_h (3 H, H), b_i and b_h (3 H,), rows in the order r, z, n.
        norms: of `input` and `state`.

    Returns:
        The gates r and z, the candidate n and the new state h, (B, H) each.

    >>> import torch
    >>> zero = torch.zeros(1, 1)
    >>> weights = Weights(zero.expand(3, 1), zero.expand(3, 1), torch.zeros(3), torch.zeros(3))
    >>> {name: value.item() for name, value in gru_step(zero, (zero + 1,), weights).items()}
    {'r': 0.5, 'z': 0.5, 'n': 0.0, 'h': 0.5}
    """
    (h,) = state
    x_r, x_z, x_n = (norms["input"](x @ weights.ih.T) + weights.bias_ih).chunk(3, dim=-1)  # (B, H) each
    h_r, h_z, h_n = (norms["state"](h @ weights.hh.T) + weights.bias_hh).chunk(3, dim=-1)  # (B, H) each
    r = (x_r + h_r).sigmoid()
    z = (x_z + h_z).sigmoid()
    n = (x_n + r * h_n).tanh()
    return {"r": r, "z": z, "n": n, "h": (1 - z) * n + z * h}


def gru_over_time(
    entering: Tensor, tokens: Tensor | None, weights: Weights, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A layer over all steps at once, for training.

    Args:
        entering: W_i x, (T, B, 3 H), or (V, 3 H) with one row a token.
        tokens: (T, B), or None.
        state: h (B, H), alone.

    Returns:
        h at every step, (T, B, H), and after the last.

    >>> import torch
    >>> weights = GRU(3, 5).weights_of(0)
    >>> y, (h,) = gru_over_time(weights.ih.T, torch.tensor([[2], [0]]), weights, (torch.zeros(1, 5),))
    >>> y.shape, torch.equal(y[-1], h)
    (torch.Size([2, 1, 5]), True)
    """
    (h,) = state
    r_and_z, n = weights.bias_hh.split([2 * h.shape[1], h.shape[1]])
    rows = entering + (weights.bias_ih + F.pad(r_and_z, (0, h.shape[1])))  # n's own bias is inside, with r
    y, h = fused_gru(rows, tokens, weights.hh, n, h)
    return y, (h,)


class GRU(Stack, nn.GRU):  # type: ignore[inconsistent-inheritance]  # `lengths` besides
    """GRU layers, one on the other; settings and calls are those of `Stack`, weights those of `nn.GRU`.

    >>> import torch
    >>> output, h = GRU(3, 5, depth=2)(torch.zeros(4, 7, 3))
    >>> output.shape, h.shape
    (torch.Size([4, 7, 5]), torch.Size([2, 4, 5]))
    """

    fused: ClassVar[Any] = nn.GRU
    step = staticmethod(gru_step)
    over_time = staticmethod(gru_over_time)
    states = ("h",)
    normalized: ClassVar[dict[str, int]] = {"input": 3, "state": 3}
