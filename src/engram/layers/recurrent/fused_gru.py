"""One GRU layer over a whole sequence as one operation, backward written by hand: for training on the CPU.

The idea is that of `fused_lstm`: what enters from the input is known beforehand, a step is one matrix product and a few
operations in place, the products for the gradient of W are made together at the end. A GRU's way back is shorter still:
with one state, all that a step sends back is a factor times dh, and the factors are made for all steps at once.

    r, z = σ(rows + W h_{t-1})    u = W_n h_{t-1} + b_n    n = tanh(rows_n + r u)    h_t = (1 - z) n + z h_{t-1}

    back:  da_n = dh (1 - z) (1 - n²)     da_z = dh (h_{t-1} - n) z (1 - z)     da_r = da_n u r (1 - r)     du = da_n r
           dh_{t-1} = dy_{t-1} + z dh + W^T (da_r, da_z, du)

tanh is 2 σ(2 x) - 1, so that rows_n, W_n and b_n are doubled.

Helps: torch's GRU has no kernel of its own on the CPU but a loop of operations with a graph; a layer of 128 units took
0.87 of its time with any input, and 0.55 with tokens. Hurts: memory for 5 H values a token while training.

Cho et al. 2014, arXiv:1406.1078, with r after the matrix as cuDNN has it; Appleyard, Kočiský, Blunsom 2016,
arXiv:1604.01946, section 3.
"""

from typing import Any

import torch
from torch import Tensor

from engram.layers.recurrent.second_gradient import by_equations

Walked = tuple[Tensor, Tensor]
"""h at every step (T, B, H), and after the last, (B, H)."""


def fused_gru(rows: Tensor, tokens: Tensor | None, hh: Tensor, bias: Tensor, h: Tensor) -> Walked:
    """A GRU layer over time.

    Args:
        rows: what enters r and z beside W h, and n beside r u: (T, B, 3 H), or (V, 3 H) with one row a token.
        tokens: (T, B) integers below V, or None.
        hh: W_hh, (3 H, H).
        bias: b_n, (H,).
        h: before the first step, (B, H).

    >>> y, h = fused_gru(torch.zeros(7, 2, 9), None, torch.zeros(9, 3), torch.zeros(3), torch.ones(2, 3))
    >>> y.shape, h[0, 0].item() == 0.5**7
    (torch.Size([7, 2, 3]), True)
    """
    return _OverTime.apply(_ready(rows, -1), tokens, _ready(hh, 0), 2 * bias, h)


def _ready(values: Tensor, dim: int) -> Tensor:
    """n doubled, so that σ does for all."""
    r, z, n = values.chunk(3, dim)
    return torch.cat([r, z, 2 * n], dim)


class _OverTime(torch.autograd.Function):
    """Of `rows`, `hh` and `bias` that are ready."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx: Any, rows: Tensor, tokens: Tensor | None, hh: Tensor, bias: Tensor, h: Tensor) -> Walked:
        hidden = h.shape[1]
        gates = rows.clone() if tokens is None else rows.index_select(0, tokens.flatten()).view(*tokens.shape, -1)
        n = gates[:, :, 2 * hidden :].clone()  # (T, B, H)
        gates[:, :, 2 * hidden :] = bias  # r, z and u, to which W h is added
        states = gates.new_empty(len(gates) + 1, *h.shape)
        states[0] = h
        transposed, minus_one = hh.T, h.new_full(h.shape, -1.0)
        every, both, hs, ns = gates.unbind(), gates[:, :, : 2 * hidden].unbind(), states.unbind(), n.unbind()
        r, z, u = (each.unbind() for each in gates.chunk(3, 2))
        for t in range(len(every)):
            every[t].addmm_(hs[t], transposed)
            both[t].sigmoid_()
            ns[t].addcmul_(r[t], u[t]).sigmoid_()
            torch.add(minus_one, ns[t], alpha=2, out=ns[t])
            torch.lerp(ns[t], hs[t], z[t], out=hs[t + 1])
        ctx.save_for_backward(rows, tokens, hh, bias, h, gates, n, states)
        ctx.set_materialize_grads(False)
        return states[1:], states[-1].clone()

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        rows, tokens, hh, bias, h, gates, n, states = ctx.saved_tensors
        needs = ctx.needs_input_grad
        if torch.is_grad_enabled():  # somebody will ask for the gradient of this gradient
            return by_equations(_equations, (rows, tokens, hh, bias, h), needs, gradients)
        dy, dh_after = gradients
        r, z, u = gates.chunk(3, 2)
        to_n = torch.ops.aten.tanh_backward(0.5 - z / 2, n)  # what dh is multiplied with on the way into 2 a_n
        slopes = torch.empty_like(gates)  # first such factors, then da_r, da_z and du
        d_r, d_z, d_u = slopes.chunk(3, 2)
        of_sigmoid = torch.ops.aten.sigmoid_backward.grad_input
        of_sigmoid(to_n * u, r, grad_input=d_r)
        of_sigmoid(states[:-1] - n, z, grad_input=d_z)
        torch.mul(to_n, r, out=d_u)
        total = torch.zeros_like(n) if dy is None else dy.clone(memory_format=torch.contiguous_format)
        dh, keeps, every = total.unbind(), z.unbind(), slopes.unbind()
        apart = slopes.unflatten(2, (3, -1)).unbind()  # (B, 3, H) each
        if dh_after is not None:
            dh[-1].add_(dh_after)
        before = torch.zeros_like(h)
        for t in reversed(range(len(every))):
            apart[t].mul_(dh[t][:, None])
            (dh[t - 1] if t else before).addcmul_(dh[t], keeps[t]).addmm_(every[t], hh)
        together = slopes.flatten(0, 1)  # (T B, 3 H)
        d_hh = together.T @ states[:-1].flatten(0, 1) if needs[2] else None
        d_bias = d_u.sum((0, 1)) if needs[3] else None
        torch.mul(total, to_n, out=d_u)  # r and z got from the input what they got from the state; n did not
        d_rows = slopes if tokens is None else torch.zeros_like(rows).index_add_(0, tokens.flatten(), together)
        return d_rows, None, d_hh, d_bias, before


def _equations(rows: Tensor, tokens: Tensor | None, hh: Tensor, bias: Tensor, h: Tensor) -> Walked:
    """The same, step by step, of `rows`, `hh` and `bias` that are ready."""
    every: list[Tensor] = []
    for entering in (rows if tokens is None else rows[tokens]).unbind():
        x_r, x_z, x_n = entering.chunk(3, -1)
        h_r, h_z, h_n = (h @ hh.T).chunk(3, -1)
        z, n = (x_z + h_z).sigmoid(), ((x_n + (x_r + h_r).sigmoid() * (h_n + bias)) / 2).tanh()
        h = (1 - z) * n + z * h
        every.append(h)
    return torch.stack(every), h
