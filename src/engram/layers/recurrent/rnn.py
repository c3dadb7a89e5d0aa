"""Vanilla recurrent network: the same layer at every step, fed with the input and with its own last answer.

The idea: a sequence of any length goes through one set of weights, and what was seen is carried in a state of fixed
size. Elman's network is this one: the hidden units of the step before are copied and come in again as context.

    a_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh             h_t = tanh(a_t)
    ∂h_t / ∂h_{t-1} = diag(1 - h_t²) W_hh

The last line is why it forgets: over k steps the gradient is multiplied k times by W_hh and by a slope of at most 1. It
fades where the largest singular value of W_hh is below 1, and may explode where it is above; an orthogonal W_hh
(`orthogonal=True`) starts at 1 exactly.

Helps: short contexts, and as the thing to compare with: a quarter of the weights of an LSTM. Hurts: whatever has to
be kept for more than some ten steps. Clip the gradient's norm when training it.

The paper's settings: logistic units, a context that no gradient goes back through. Where we differ: tanh and the whole
gradient, as everyone does since; torch's names, its two biases and its start, uniform within ±1/sqrt(H).
Layer normalisation is over the sum, W_ih x + W_hh h, before the biases (Ba et al. 2016, equation 4).

Elman 1990, Finding structure in time, Cognitive Science 14(2), 179-211, section "Networks with memory"; Pascanu,
Mikolov, Bengio 2013, arXiv:1211.5063, section 2.
"""

from typing import Any, ClassVar

from torch import Tensor, nn

from engram.layers.recurrent.fused_rnn import fused_rnn
from engram.layers.recurrent.gate_norm import Norms, unchanged
from engram.layers.recurrent.stack import Stack, Weights

PLAIN: Norms = {"sum": unchanged}


def rnn_step(x: Tensor, state: tuple[Tensor, ...], weights: Weights, norms: Norms = PLAIN) -> dict[str, Tensor]:
    """One step of time.

    Args:
        x: (B, D).
        state: h (B, H), alone.
        weights: W_ih (H, D), W_hh (H, H), b_ih and b_hh (H,).
        norms: of the `sum`.

    Returns:
        h (B, H), the new state.

    >>> import torch
    >>> one = torch.ones(1, 1)
    >>> rnn_step(one, (2 * one,), Weights(one, 0.5 * one, one[0], 0 * one[0]))["h"]  # tanh(1 + 1 + 1)
    tensor([[0.9951]])
    """
    (h,) = state
    a = norms["sum"](x @ weights.ih.T + h @ weights.hh.T) + weights.bias_ih + weights.bias_hh  # (B, H)
    return {"h": a.tanh()}


def rnn_over_time(
    entering: Tensor, tokens: Tensor | None, weights: Weights, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A layer over all steps at once, for training.

    Args:
        entering: W_ih x, (T, B, H), or (V, H) with one row a token.
        tokens: (T, B), or None.
        state: h (B, H), alone.

    Returns:
        h at every step, (T, B, H), and after the last.

    >>> import torch
    >>> weights = RNN(3, 5).weights_of(0)
    >>> y, (h,) = rnn_over_time(weights.ih.T, torch.tensor([[2], [0]]), weights, (torch.zeros(1, 5),))
    >>> y.shape, torch.equal(y[-1], h)
    (torch.Size([2, 1, 5]), True)
    """
    y, h = fused_rnn(entering + (weights.bias_ih + weights.bias_hh), tokens, weights.hh, *state)
    return y, (h,)


class RNN(Stack, nn.RNN):  # type: ignore[inconsistent-inheritance]  # `lengths` besides
    """Vanilla tanh layers, one on the other; settings and calls are those of `Stack`, weights those of `nn.RNN`.

    >>> import torch
    >>> output, h = RNN(3, 5, depth=2)(torch.zeros(4, 7, 3))
    >>> output.shape, h.shape
    (torch.Size([4, 7, 5]), torch.Size([2, 4, 5]))
    """

    fused: ClassVar[Any] = nn.RNN
    step = staticmethod(rnn_step)
    over_time = staticmethod(rnn_over_time)
    states = ("h",)
    normalized: ClassVar[dict[str, int]] = {"sum": 1}
