"""LSTM: a recurrent network with a memory that is added to, and gates that say what is written, kept and shown.

The idea: a vanilla network rewrites its state at every step, and its gradient is multiplied by the same matrix each
time. Here a cell c runs beside the state; what is new is added to it. Along the cell the way back is a product of
forget gates only, no matrix and no tanh, so that a gate near 1 carries the gradient over many steps.

    a = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh, cut into four of H in torch's order i, f, g, o
    i = σ(a_i) write      f = σ(a_f) keep      o = σ(a_o) show      g = tanh(a_g) what to write
    c_t = f c_{t-1} + i g                                           h_t = o tanh(c_t)

The forget gate came in 2000, for streams without end, whose cells otherwise grow until they saturate; the LSTM of 1997
is f = 1. A gate that starts at a half forgets in a few steps: `forget_bias=1` starts it at 0.73 (Gers et al. start it
positive; Jozefowicz et al. 2015, section 4).

Helps: dependencies of hundreds of steps. Hurts: four times the weights and work of a vanilla network, 4 (H (D + H) +
2 H) parameters; and it can still explode, so clip the gradient's norm.

Layer normalisation is of W_ih x, of W_hh h, gate by gate, and of c before its tanh (Ba et al. 2016, supplementary
material); c itself is carried on as it is. Where we differ from 1997: forget gates, whole gradients through time (the
paper cuts them at the gates), torch's second bias. No peepholes, as in torch.

Hochreiter and Schmidhuber 1997, Long short-term memory, Neural Computation 9(8), section 4; Gers, Schmidhuber,
Cummins 2000, Learning to forget, Neural Computation 12(10), section 3.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from engram.layers.recurrent.fused_lstm import fused_lstm
from engram.layers.recurrent.gate_norm import Norms, unchanged
from engram.layers.recurrent.stack import Stack, Weights

PLAIN: Norms = {"input": unchanged, "state": unchanged, "cell": unchanged}


def lstm_step(x: Tensor, state: tuple[Tensor, ...], weights: Weights, norms: Norms = PLAIN) -> dict[str, Tensor]:
    """One step of time.

    Args:
        x: (B, D).
        state: h and c, (B, H) each.
        weights: W_ih (4 H, D), W_hh (4 H, H), b_ih and b_hh (4 H,), rows in the order i, f, g, o.
        norms: of `input`, `state` and `cell`.

    Returns:
        The gates i, f, o and g, the new cell c and the new state h, (B, H) each.

    >>> zero = torch.zeros(1, 1)
    >>> weights = Weights(zero.expand(4, 1), zero.expand(4, 1), torch.zeros(4), torch.zeros(4))
    >>> {name: round(value.item(), 4) for name, value in lstm_step(zero, (zero, zero + 2), weights).items()}
    {'i': 0.5, 'f': 0.5, 'o': 0.5, 'g': 0.0, 'c': 1.0, 'h': 0.3808}
    """
    h, c = state
    from_input = norms["input"](x @ weights.ih.T) + weights.bias_ih  # (B, 4 H)
    from_state = norms["state"](h @ weights.hh.T) + weights.bias_hh  # (B, 4 H)
    a_i, a_f, a_g, a_o = (from_input + from_state).chunk(4, dim=-1)  # (B, H) each
    i, f, o = a_i.sigmoid(), a_f.sigmoid(), a_o.sigmoid()
    g = a_g.tanh()
    c = f * c + i * g
    h = o * norms["cell"](c).tanh()
    return {"i": i, "f": f, "o": o, "g": g, "c": c, "h": h}


def lstm_over_time(
    entering: Tensor, tokens: Tensor | None, weights: Weights, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A layer over all steps at once, for training.

    Args:
        entering: W_ih x, (T, B, 4 H), or (V, 4 H) with one row a token.
        tokens: (T, B), or None.
        state: h and c, (B, H) each.

    Returns:
        h at every step, (T, B, H), and h and c after the last.

    >>> weights = LSTM(3, 5).weights_of(0)
    >>> y, (h, c) = lstm_over_time(weights.ih.T, torch.tensor([[2], [0]]), weights, (torch.zeros(1, 5),) * 2)
    >>> y.shape, torch.equal(y[-1], h)
    (torch.Size([2, 1, 5]), True)
    """
    h, c = state
    y, *after = fused_lstm(entering + (weights.bias_ih + weights.bias_hh), tokens, weights.hh, h, c)
    return y, tuple(after)


class LSTM(Stack, nn.LSTM):  # type: ignore[inconsistent-inheritance]  # `lengths` besides
    """LSTM layers, one on the other; calls are those of `Stack`, weights those of `nn.LSTM`, and the state is (h, c).

    Args:
        forget_bias: added to the bias that the forget gates of all layers start with; 0 is torch's start.

    >>> output, (h, c) = LSTM(3, 5, depth=2, forget_bias=1.0)(torch.zeros(4, 7, 3))
    >>> output.shape, h.shape, c.shape
    (torch.Size([4, 7, 5]), torch.Size([2, 4, 5]), torch.Size([2, 4, 5]))
    """

    fused: ClassVar[Any] = nn.LSTM
    step = staticmethod(lstm_step)
    over_time = staticmethod(lstm_over_time)
    look_up_from = 0.25
    states = ("h", "c")
    normalized: ClassVar[dict[str, int]] = {"input": 4, "state": 4, "cell": 1}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        depth: int = 1,
        *,
        drop: float = 0.0,
        forget_bias: float = 0.0,
        orthogonal: bool = False,
        layer_norm: bool = False,
        readable: bool = False,
    ) -> None:
        super().__init__(
            input_size, hidden_size, depth, drop=drop, orthogonal=orthogonal, layer_norm=layer_norm, readable=readable
        )
        with torch.no_grad():
            for layer in range(depth):
                self.weights_of(layer).bias_ih.chunk(4)[1].add_(forget_bias)  # the second of i, f, g, o
