"""One LSTM layer over a whole sequence as one operation, backward written by hand: for training on the CPU.

The idea: what enters the gates from the input is known beforehand and needs no loop; only W h does. So each step is one
matrix product into memory that is there already, and a few elementwise operations in place; no graph is built. On the
way back only W^T da is done step by step: the gradient of W is a sum of T products of B rows each, which is one product
of T B rows, made at the end.

    a_t = rows_t + W h_{t-1}                             rows_t = W_ih x_t + b_ih + b_hh
    i, f, o = σ(a)    g = tanh(a_g)    c_t = f c_{t-1} + i g    h_t = o tanh(c_t)

    back:  dh_t = dy_t + W^T da_{t+1}                    dc_t = f_{t+1} dc_{t+1} + dh_t o (1 - tanh²(c_t))
    da_i = dc g i (1 - i)    da_f = dc c_{t-1} f (1 - f)    da_g = dc i (1 - g²)    da_o = dh tanh(c) o (1 - o)
    dW = sum over t of da_t h_{t-1}^T

Where the input is a token, rows_t is a row of a table: nothing is multiplied with W_ih, and the gradient is added up by
token.

Everything in the second block but dc and dh is known before the way back begins, so these factors are made for all
steps at once. tanh is three times as dear as σ on the CPU and is 2 σ(2 x) - 1: the rows of g are doubled, so is the
cell that is kept, and σ does for all; in float32 that is wrong by up to 1e-7. The gradient of a gradient is taken
through the equations themselves.

Helps: with tokens; a layer of 128 units over 65 characters took 0.86 of the time of oneDNN's, which torch runs, on an
idle machine, 0.91 on a busy one. Hurts: with any other input, where oneDNN is quicker; from some 500 units on, where
nearly all is matrix products.

Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000; products taken together: Appleyard, Kočiský,
Blunsom 2016, Optimizing performance of recurrent neural networks on GPUs, arXiv:1604.01946, section 3.
"""

from typing import Any

import torch
from torch import Tensor

from engram.layers.recurrent.second_gradient import by_equations

Walked = tuple[Tensor, Tensor, Tensor]
"""h at every step (T, B, H), and h and c after the last, (B, H) each."""


def fused_lstm(rows: Tensor, tokens: Tensor | None, hh: Tensor, h: Tensor, c: Tensor) -> Walked:
    """An LSTM layer over time.

    Args:
        rows: what enters the gates i, f, g, o beside W_hh h: (T, B, 4 H), or (V, 4 H) with one row a token.
        tokens: (T, B) integers below V, or None.
        hh: W_hh, (4 H, H).
        h: before the first step, (B, H).
        c: likewise.

    >>> y, h, c = fused_lstm(torch.zeros(7, 2, 12), None, torch.zeros(12, 3), torch.zeros(2, 3), torch.ones(2, 3))
    >>> y.shape, c[0, 0].item() == 0.5**7
    (torch.Size([7, 2, 3]), True)
    """
    return _OverTime.apply(_ready(rows, -1), tokens, _ready(hh, 0), h, c)


def _ready(values: Tensor, dim: int) -> Tensor:
    """From i, f, g, o to o, i, f, 2 g: what meets dc on the way back is side by side, and σ does for all."""
    i, f, g, o = values.chunk(4, dim)
    return torch.cat([o, i, f, 2 * g], dim)


class _OverTime(torch.autograd.Function):
    """Of `rows` and `hh` that are ready."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx: Any, rows: Tensor, tokens: Tensor | None, hh: Tensor, h: Tensor, c: Tensor) -> Walked:
        gates = rows.clone() if tokens is None else rows.index_select(0, tokens.flatten()).view(*tokens.shape, -1)
        steps, batch, hidden = len(gates), *h.shape  # gates: (T, B, 4 H)
        states, doubled = gates.new_empty(2, steps + 1, batch, hidden)
        squashed = gates.new_empty(steps, batch, hidden)  # tanh(c)
        states[0], doubled[0] = h, 2 * c
        transposed, minus_one, minus_two = hh.T, h.new_full(h.shape, -1.0), h.new_full(h.shape, -2.0)
        o, i, f, g = (each.unbind() for each in gates.chunk(4, 2))
        hs, cs, every, shown = states.unbind(), doubled.unbind(), gates.unbind(), squashed.unbind()
        for t in range(steps):
            every[t].addmm_(hs[t], transposed).sigmoid_()
            torch.add(minus_two, g[t], alpha=4, out=g[t])  # 2 g, as the cell is doubled
            torch.mul(f[t], cs[t], out=cs[t + 1]).addcmul_(i[t], g[t])
            torch.sigmoid(cs[t + 1], out=shown[t])
            torch.add(minus_one, shown[t], alpha=2, out=shown[t])
            torch.mul(o[t], shown[t], out=hs[t + 1])
        ctx.save_for_backward(rows, tokens, hh, h, c, gates, states, doubled, squashed)
        ctx.set_materialize_grads(False)
        return states[1:], states[-1].clone(), doubled[-1] / 2

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        rows, tokens, hh, h, c, gates, states, doubled, squashed = ctx.saved_tensors
        needs = ctx.needs_input_grad
        if torch.is_grad_enabled():  # somebody will ask for the gradient of this gradient
            return by_equations(_equations, (rows, tokens, hh, h, c), needs, gradients)
        dy, dh_after, dc_after = gradients
        o, i, f, g = gates.chunk(4, 2)
        slopes = torch.empty_like(gates)  # da: first what dh is multiplied with for o, and dc for the others
        d_o, d_i, d_f, d_g = slopes.chunk(4, 2)
        of_sigmoid, of_tanh = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward
        of_sigmoid.grad_input(squashed, o, grad_input=d_o)
        of_sigmoid.grad_input(g, i, grad_input=d_i)
        of_sigmoid.grad_input(doubled[:-1], f, grad_input=d_f)
        of_tanh.grad_input(i, g / 2, grad_input=d_g)
        to_cell, keeps, every, opens = of_tanh(o, squashed).unbind(), f.unbind(), slopes.unbind(), d_o.unbind()
        others = slopes.unflatten(2, (4, -1))[:, :, 1:].unbind()  # (B, 3, H) each
        dh = (torch.zeros_like(squashed) if dy is None else dy.clone(memory_format=torch.contiguous_format)).unbind()
        if dh_after is not None:
            dh[-1].add_(dh_after)
        dc = torch.zeros_like(c) if dc_after is None else dc_after / 2  # of the doubled cell
        for t in reversed(range(len(every))):
            if t + 1 < len(every):
                dh[t].addmm_(every[t + 1], hh)
            dc.addcmul_(dh[t], to_cell[t], value=0.5)
            opens[t].mul_(dh[t])
            others[t].mul_(dc[:, None])
            dc.mul_(keeps[t])
        together = slopes.flatten(0, 1)  # (T B, 4 H)
        d_rows = slopes if tokens is None else torch.zeros_like(rows).index_add_(0, tokens.flatten(), together)
        d_hh = together.T @ states[:-1].flatten(0, 1) if needs[2] else None
        return d_rows, None, d_hh, every[0] @ hh if needs[3] else None, 2 * dc


def _equations(rows: Tensor, tokens: Tensor | None, hh: Tensor, h: Tensor, c: Tensor) -> Walked:
    """The same, step by step, of `rows` and `hh` that are ready."""
    every: list[Tensor] = []
    for entering in (rows if tokens is None else rows[tokens]).unbind():
        o, i, f, g = (entering + h @ hh.T).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * (g / 2).tanh()
        h = o.sigmoid() * c.tanh()
        every.append(h)
    return torch.stack(every), h, c
