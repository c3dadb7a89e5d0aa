"""LSTM: a recurrent network with a memory that is added to, and gates that say what is written, kept and shown.

The idea: a vanilla network rewrites its state at every step and multiplies the gradient by the same matrix each time.
Here a cell c runs beside the state. What is new is added, and the way back along the cell is a product of forget
gates only: no matrix, no tanh. A gate near 1 carries the gradient over many steps.

    a = x Wx + h_{t-1} Wh + b, cut into four of H columns in the order i, f, o, g
    i = σ(a_i) write    f = σ(a_f) keep    o = σ(a_o) show    g = tanh(a_g) what to write
    c_t = f c_{t-1} + i g                  h_t = o tanh(c_t)
    dc_t += dh_t o (1 - tanh(c_t)^2)       dc_{t-1} = dc_t f
    da = (dc g i (1 - i), dc c_{t-1} f (1 - f), dh tanh(c) o (1 - o), dc i (1 - g^2))

Helps: dependencies of hundreds of steps. Hurts: four times the weights of a vanilla network, and a forget gate that
starts at a half forgets within a few steps; start its bias at 1 (Jozefowicz et al. 2015, section 4).
Parameters 4 (H (D + H) + H). An LSTM does not stop a gradient from exploding: clip as well.

Variants: coupled gates set f = 1 - i (`coupled=True`, three quarters of the freedom, the column block of f unused) and
peepholes let the gates see the cell, p (3, H) for i, f (which see c_{t-1}) and o (which sees c_t).
Where we differ: torch orders the gates i, f, g, o, keeps weights transposed and has two biases; the course's order is
i, f, o, g. `h0` is given and c0 is zero, as in the course, unless said.

Hochreiter and Schmidhuber 1997, Neural Computation 9(8); Gers, Schmidhuber, Cummins 2000 (forget gate); Gers and
Schmidhuber 2000 (peepholes); Greff et al. 2017, LSTM: a search space odyssey, section 2 and appendix A (backward);
Stanford CS231n, assignment 3, `lstm_step_forward` to `lstm_backward`.
"""

from array_api_compat import array_namespace

from engram.rules.arrays import Array, zeros
from engram.rules.recurrence import check_sequence, check_step
from engram.rules.sigmoids import sigmoid


def lstm_step_forward(
    x: Array,
    prev_h: Array,
    prev_c: Array,
    Wx: Array,
    Wh: Array,
    b: Array,
    *,
    peephole: Array | None = None,
    coupled: bool = False,
) -> tuple[Array, Array, tuple]:
    """One step of time.

    Args:
        x: (N, D).
        prev_h: (N, H).
        prev_c: (N, H).
        Wx: (D, 4 H), gates in the order i, f, o, g.
        Wh: (H, 4 H).
        b: (4 H,).
        peephole: (3, H), how the gates i, f and o see the cell; None for gates that do not.
        coupled: keep exactly what is not written over, f = 1 - i.

    Returns:
        next_h (N, H), next_c (N, H), and the cache.

    Raises:
        UserError: shapes that do not go together.

    >>> import numpy as np
    >>> zero = np.zeros((1, 1))
    >>> h, c, _ = lstm_step_forward(zero, zero, 2 * np.ones((1, 1)), np.zeros((1, 4)), np.zeros((1, 4)), np.zeros(4))
    >>> c.item(), round(h.item(), 4)
    (1.0, 0.3808)
    """
    check_step("lstm", 4, x, prev_h, Wx, Wh, b)
    H = prev_h.shape[1]
    xp = array_namespace(x)
    a = x @ Wx + prev_h @ Wh + b  # (N, 4 H)
    a_i, a_f, a_o, a_g = (a[:, k * H : (k + 1) * H] for k in range(4))
    if peephole is not None:
        a_i, a_f = a_i + prev_c * peephole[0], a_f + prev_c * peephole[1]
    i, g = sigmoid(a_i), xp.tanh(a_g)
    f = 1 - i if coupled else sigmoid(a_f)
    next_c = f * prev_c + i * g  # (N, H)
    if peephole is not None:
        a_o = a_o + next_c * peephole[2]
    o, shown = sigmoid(a_o), xp.tanh(next_c)
    return o * shown, next_c, (x, prev_h, prev_c, Wx, Wh, i, f, o, g, shown, next_c, peephole, coupled)


def lstm_step_backward(dnext_h: Array, dnext_c: Array, cache: tuple) -> tuple[Array, ...]:
    """Back through one step.

    Args:
        dnext_h: (N, H).
        dnext_c: (N, H), from the next step only; what the cell owes to the state is added here.

    Returns:
        dx (N, D), dprev_h (N, H), dprev_c (N, H), dWx (D, 4 H), dWh (H, 4 H), db (4 H,), and dpeephole (3, H) where
        there were peepholes.

    >>> import numpy as np
    >>> zero = np.zeros((1, 1))
    >>> *_, cache = lstm_step_forward(zero, zero, zero, np.zeros((1, 4)), np.zeros((1, 4)), np.zeros(4))
    >>> lstm_step_backward(zero, zero + 1, cache)[2].item()
    0.5
    """
    x, prev_h, prev_c, Wx, Wh, i, f, o, g, shown, next_c, peephole, coupled = cache
    xp = array_namespace(dnext_h)
    da_o = dnext_h * shown * o * (1 - o)  # (N, H)
    dc = dnext_c + dnext_h * o * (1 - shown**2)  # (N, H)
    if peephole is not None:
        dc = dc + da_o * peephole[2]
    df = dc * prev_c
    da_i = dc * g * i * (1 - i)
    da_f = df * f * (1 - f)
    if coupled:
        da_i, da_f = da_i - df * i * (1 - i), xp.zeros_like(da_f)
    da_g = dc * i * (1 - g**2)
    da = xp.concat([da_i, da_f, da_o, da_g], axis=1)  # (N, 4 H)
    dprev_c = dc * f  # (N, H)
    grads = (da @ Wx.T, da @ Wh.T, dprev_c, x.T @ da, prev_h.T @ da, xp.sum(da, axis=0))
    if peephole is None:
        return grads
    dprev_c = dprev_c + da_i * peephole[0] + da_f * peephole[1]
    dpeephole = xp.stack([xp.sum(d * c, axis=0) for d, c in ((da_i, prev_c), (da_f, prev_c), (da_o, next_c))])
    return (*grads[:2], dprev_c, *grads[3:], dpeephole)


def lstm_forward(x: Array, h0: Array, Wx: Array, Wh: Array, b: Array, c0: Array | None = None) -> tuple[Array, tuple]:
    """A whole sequence.

    Args:
        x: (N, T, D).
        h0: (N, H), the state before the first step.
        Wx: (D, 4 H), gates in the order i, f, o, g.
        Wh: (H, 4 H).
        b: (4 H,).
        c0: (N, H), the cell before the first step; zeros unless given.

    Returns:
        h (N, T, H), the states after every step, and the cache. The cells stay inside.

    Raises:
        UserError: shapes that do not go together, or no step.

    >>> import numpy as np
    >>> lstm_forward(np.ones((2, 3, 4)), np.zeros((2, 5)), np.ones((4, 20)), np.ones((5, 20)), np.zeros(20))[0].shape
    (2, 3, 5)
    """
    check_sequence("lstm", x)
    h, c = h0, zeros(h0, h0.shape) if c0 is None else c0
    states, steps = [], []
    for t in range(x.shape[1]):
        h, c, step = lstm_step_forward(x[:, t], h, c, Wx, Wh, b)
        states.append(h)
        steps.append(step)
    return array_namespace(x).stack(states, axis=1), (steps, c0 is not None)  # (N, T, H)


def lstm_backward(dh: Array, cache: tuple) -> tuple[Array, ...]:
    """Back through time, along the states and along the cells.

    Args:
        dh: (N, T, H), the gradient of each state from its own output only.

    Returns:
        dx (N, T, D), dh0 (N, H), dWx (D, 4 H), dWh (H, 4 H), db (4 H,), and dc0 (N, H) where c0 was given.

    >>> import numpy as np
    >>> _, cache = lstm_forward(np.ones((1, 2, 1)), np.zeros((1, 1)), np.ones((1, 4)), np.ones((1, 4)), np.zeros(4))
    >>> [g.shape for g in lstm_backward(np.ones((1, 2, 1)), cache)]
    [(1, 2, 1), (1, 1), (1, 4), (1, 4), (4,)]
    """
    steps, had_cell = cache
    _, h0, _, Wx, Wh, *_ = steps[0]
    dprev_h, dprev_c = zeros(h0, h0.shape), zeros(h0, h0.shape)
    dWx, dWh, db = zeros(Wx, Wx.shape), zeros(Wh, Wh.shape), zeros(Wh, Wh.shape[1:])
    dx = []
    for t in reversed(range(len(steps))):
        dx_t, dprev_h, dprev_c, *weights = lstm_step_backward(dh[:, t] + dprev_h, dprev_c, steps[t])
        dWx, dWh, db = dWx + weights[0], dWh + weights[1], db + weights[2]
        dx.append(dx_t)
    grads = (array_namespace(dh).stack(dx[::-1], axis=1), dprev_h, dWx, dWh, db)
    return (*grads, dprev_c) if had_cell else grads
