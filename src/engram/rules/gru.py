"""GRU: an LSTM's idea with one state and two gates, one that forgets and one that waits.

The idea: the update gate z says how much of the old state stays as it is, and the reset gate r how much of it is shown
to the new candidate. Where z is near 1 the state, and the gradient with it, passes unchanged: no separate cell is
needed. Written and kept add up to one.

    r = σ(x Wx_r + h_{t-1} Wh_r + b_r)         z = σ(x Wx_z + h_{t-1} Wh_z + b_z)
    reset before:  n = tanh(x Wx_n + (r h_{t-1}) Wh_n + b_n)               Cho et al., version 3; the lecture
    reset after:   n = tanh(x Wx_n + b_n + r (h_{t-1} Wh_n + bh_n))        Cho et al., version 1; torch and cuDNN
    h_t = z h_{t-1} + (1 - z) n

The two differ in whether the reset gate acts before the matrix or after it. After is faster, for all three products
with h_{t-1} are one, and it is what every library means by a GRU; its candidate has a bias of its own inside the
reset. Weights of one give other answers in the other, but neither is known to learn better.

Helps: three quarters of an LSTM's parameters, 3 (H (D + H) + H), and as good on most tasks. Hurts where things have to
be counted: the state is bounded by 1, an LSTM's cell is not (Weiss, Goldberg, Yahav 2018).
Chung et al. swap z and 1 - z, which only names the gate after what it lets in; the formula above is torch's too.
Columns stand in the order r, z, n, which is torch's; weights are (in, out). The bias is (3 H,), or (2, 3 H) as torch
has it: one row beside x, one beside h (only the n part of the second row means something of its own).

Cho et al. 2014, Learning phrase representations using RNN encoder-decoder, arXiv 1406.1078, equations 5 to 8; Chung et
al. 2014, section 3.2; Stanford CS231n 2017, lecture 10 (from Jozefowicz et al. 2015, section 2.3).
"""

from array_api_compat import array_namespace

from engram.errors import unknown
from engram.rules.arrays import Array, zeros
from engram.rules.recurrence import check_sequence, check_step
from engram.rules.sigmoids import sigmoid

RESETS = ("before", "after")


def gru_step_forward(
    x: Array, prev_h: Array, Wx: Array, Wh: Array, b: Array, reset: str = "before"
) -> tuple[Array, tuple]:
    """One step of time.

    Args:
        x: (N, D).
        prev_h: (N, H).
        Wx: (D, 3 H), in the order r, z, n.
        Wh: (H, 3 H).
        b: (3 H,), or (2, 3 H): beside x, and beside h.
        reset: whether the reset gate acts `before` the matrix (lecture) or `after` it (torch).

    Returns:
        next_h (N, H), and the cache.

    Raises:
        UserError: reset is neither, or shapes that do not go together.

    >>> import numpy as np
    >>> one = np.ones((1, 1))
    >>> gru_step_forward(0 * one, one, np.zeros((1, 3)), np.zeros((1, 3)), np.zeros(3))[0].item()
    0.5
    """
    if reset not in RESETS:
        raise unknown("reset", reset, RESETS)
    check_step("gru", 3, x, prev_h, Wx, Wh, b, two_biases=True)
    H = prev_h.shape[1]
    xp = array_namespace(x)
    b_x, b_h = (b, zeros(b, b.shape)) if b.ndim == 1 else (b[0], b[1])  # (3 H,)
    a = x @ Wx + b_x  # (N, 3 H)
    gates = sigmoid(a[:, : 2 * H] + prev_h @ Wh[:, : 2 * H] + b_h[: 2 * H])  # (N, 2 H)
    r, z = gates[:, :H], gates[:, H:]
    seen = prev_h if reset == "after" else r * prev_h
    memory = seen @ Wh[:, 2 * H :] + b_h[2 * H :]  # (N, H)
    n = xp.tanh(a[:, 2 * H :] + (r * memory if reset == "after" else memory))
    return z * prev_h + (1 - z) * n, (x, prev_h, Wx, Wh, b, r, z, n, memory, reset)


def gru_step_backward(dnext_h: Array, cache: tuple) -> tuple[Array, Array, Array, Array, Array]:
    """Back through one step.

    Args:
        dnext_h: (N, H).

    Returns:
        dx (N, D), dprev_h (N, H), dWx (D, 3 H), dWh (H, 3 H), db like b.

    >>> import numpy as np
    >>> one = np.ones((1, 1))
    >>> _, cache = gru_step_forward(0 * one, one, np.zeros((1, 3)), np.zeros((1, 3)), np.zeros(3))
    >>> gru_step_backward(one, cache)[1].item()
    0.5
    """
    x, prev_h, Wx, Wh, b, r, z, n, memory, reset = cache
    H = prev_h.shape[1]
    xp = array_namespace(dnext_h)
    Wh_n = Wh[:, 2 * H :]
    da_n = dnext_h * (1 - z) * (1 - n**2)  # (N, H)
    da_z = dnext_h * (prev_h - n) * z * (1 - z)
    if reset == "after":
        dmemory, dr = da_n * r, da_n * memory
        through_memory, dWh_n = dmemory @ Wh_n.T, prev_h.T @ dmemory
    else:
        dmemory, dseen = da_n, da_n @ Wh_n.T
        through_memory, dr, dWh_n = dseen * r, dseen * prev_h, (r * prev_h).T @ dmemory
    da_gates = xp.concat([dr * r * (1 - r), da_z], axis=1)  # (N, 2 H)
    da = xp.concat([da_gates, da_n], axis=1)  # (N, 3 H)
    dprev_h = dnext_h * z + through_memory + da_gates @ Wh[:, : 2 * H].T  # (N, H)
    dWh = xp.concat([prev_h.T @ da_gates, dWh_n], axis=1)  # (H, 3 H)
    db = xp.sum(da, axis=0)  # (3 H,)
    if b.ndim == 2:
        db = xp.stack([db, xp.sum(xp.concat([da_gates, dmemory], axis=1), axis=0)])  # (2, 3 H)
    return da @ Wx.T, dprev_h, x.T @ da, dWh, db


def gru_forward(x: Array, h0: Array, Wx: Array, Wh: Array, b: Array, reset: str = "before") -> tuple[Array, list]:
    """A whole sequence.

    Args:
        x: (N, T, D).
        h0: (N, H), the state before the first step.
        Wx: (D, 3 H), in the order r, z, n.
        Wh: (H, 3 H).
        b: (3 H,), or (2, 3 H): beside x, and beside h.
        reset: `before` or `after` the matrix.

    Returns:
        h (N, T, H), the states after every step, and the cache.

    Raises:
        UserError: see `gru_step_forward`, or no step.

    >>> import numpy as np
    >>> gru_forward(np.ones((2, 3, 4)), np.zeros((2, 5)), np.ones((4, 15)), np.ones((5, 15)), np.zeros(15))[0].shape
    (2, 3, 5)
    """
    check_sequence("gru", x)
    h, states, cache = h0, [], []
    for t in range(x.shape[1]):
        h, step = gru_step_forward(x[:, t], h, Wx, Wh, b, reset)
        states.append(h)
        cache.append(step)
    return array_namespace(x).stack(states, axis=1), cache  # (N, T, H)


def gru_backward(dh: Array, cache: list) -> tuple[Array, Array, Array, Array, Array]:
    """Back through time.

    Args:
        dh: (N, T, H), the gradient of each state from its own output only.

    Returns:
        dx (N, T, D), dh0 (N, H), dWx (D, 3 H), dWh (H, 3 H), db like b.

    >>> import numpy as np
    >>> _, cache = gru_forward(np.ones((1, 2, 1)), np.zeros((1, 1)), np.ones((1, 3)), np.ones((1, 3)), np.zeros(3))
    >>> [g.shape for g in gru_backward(np.ones((1, 2, 1)), cache)]
    [(1, 2, 1), (1, 1), (1, 3), (1, 3), (3,)]
    """
    _, h0, Wx, Wh, b, *_ = cache[0]
    dprev_h, dWx, dWh, db = zeros(h0, h0.shape), zeros(Wx, Wx.shape), zeros(Wh, Wh.shape), zeros(b, b.shape)
    dx = []
    for t in reversed(range(len(cache))):
        dx_t, dprev_h, *weights = gru_step_backward(dh[:, t] + dprev_h, cache[t])
        dWx, dWh, db = dWx + weights[0], dWh + weights[1], db + weights[2]
        dx.append(dx_t)
    return array_namespace(dh).stack(dx[::-1], axis=1), dprev_h, dWx, dWh, db
