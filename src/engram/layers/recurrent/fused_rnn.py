"""One vanilla layer over a whole sequence as one operation, backward written by hand: for training on the CPU.

The idea is that of `fused_lstm`: a step is one matrix product into what the input gave, and tanh in place; the products
for the gradient of W are made together at the end.

    h_t = tanh(rows_t + W h_{t-1})       back:  da_t = (dy_t + W^T da_{t+1}) (1 - h_t²)       dW = sum da_t h_{t-1}^T

Helps: torch's vanilla layer is a loop of operations with a graph on the CPU. Hurts: never; with more than 512 units
nearly all time is in products that both make.

Elman 1990, Finding structure in time; Appleyard, Kočiský, Blunsom 2016, arXiv:1604.01946, section 3.
"""

from typing import Any

import torch
from torch import Tensor

from engram.layers.recurrent.second_gradient import by_equations

Walked = tuple[Tensor, Tensor]
"""h at every step (T, B, H), and after the last, (B, H)."""


def fused_rnn(rows: Tensor, tokens: Tensor | None, hh: Tensor, h: Tensor) -> Walked:
    """A tanh layer over time.

    Args:
        rows: what enters beside W h, both biases included: (T, B, H), or (V, H) with one row a token.
        tokens: (T, B) integers below V, or None.
        hh: W_hh, (H, H).
        h: before the first step, (B, H).

    >>> y, h = fused_rnn(torch.ones(7, 2, 3), None, torch.zeros(3, 3), torch.ones(2, 3))
    >>> y.shape, h[0, 0]
    (torch.Size([7, 2, 3]), tensor(0.7616))
    """
    return _OverTime.apply(rows, tokens, hh, h)


class _OverTime(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx: Any, rows: Tensor, tokens: Tensor | None, hh: Tensor, h: Tensor) -> Walked:
        steps = len(rows if tokens is None else tokens)
        states = h.new_empty(steps + 1, *h.shape)
        states[0] = h
        if tokens is None:
            states[1:] = rows
        else:
            torch.index_select(rows, 0, tokens.flatten(), out=states[1:].flatten(0, 1))
        hs, transposed = states.unbind(), hh.T
        for t in range(steps):
            hs[t + 1].addmm_(hs[t], transposed).tanh_()
        ctx.save_for_backward(rows, tokens, hh, h, states)
        ctx.set_materialize_grads(False)
        return states[1:], states[-1].clone()

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        rows, tokens, hh, h, states = ctx.saved_tensors
        needs = ctx.needs_input_grad
        if torch.is_grad_enabled():  # somebody will ask for the gradient of this gradient
            return by_equations(_equations, (rows, tokens, hh, h), needs, gradients)
        dy, dh_after = gradients
        after = states[1:]
        slopes = torch.zeros_like(after) if dy is None else dy.clone(memory_format=torch.contiguous_format)
        every, hs = slopes.unbind(), after.unbind()  # first dh, then da
        if dh_after is not None:
            every[-1].add_(dh_after)
        of_tanh = torch.ops.aten.tanh_backward.grad_input
        for t in reversed(range(len(every))):
            if t + 1 < len(every):
                every[t].addmm_(every[t + 1], hh)
            of_tanh(every[t], hs[t], grad_input=every[t])
        together = slopes.flatten(0, 1)  # (T B, H)
        d_rows = slopes if tokens is None else torch.zeros_like(rows).index_add_(0, tokens.flatten(), together)
        d_hh = together.T @ states[:-1].flatten(0, 1) if needs[2] else None
        return d_rows, None, d_hh, every[0] @ hh if needs[3] else None


def _equations(rows: Tensor, tokens: Tensor | None, hh: Tensor, h: Tensor) -> Walked:
    """The same, step by step."""
    every: list[Tensor] = []
    for entering in (rows if tokens is None else rows[tokens]).unbind():
        h = (entering + h @ hh.T).tanh()
        every.append(h)
    return torch.stack(every), h
