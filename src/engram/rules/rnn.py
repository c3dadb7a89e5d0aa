"""Vanilla recurrent network: the same small layer at every step, fed with its own last answer.

The idea: a sequence of any length goes through one set of weights, and what was seen is carried in a hidden state of
fixed size. Backward is the chain rule along the unrolled steps: a state is used by the output at its time and by the
next state, so its gradient is the sum of both, and the weights, used at every step, add up what every step says.

    h_t = tanh(x_t Wx + h_{t-1} Wh + b)
    da_t = (dout_t + dh_t) (1 - h_t^2)        dh_{t-1} = da_t Whᵀ
    dWx = sum of x_tᵀ da_t                     dWh = sum of h_{t-1}ᵀ da_t                db = sum of da_t

From step to step the gradient is multiplied by the same Whᵀ (and a slope of at most 1). Where the largest singular
value of Wh stays below 1 it vanishes; where it is above, it can explode: an orthogonal matrix times 0.9, 1.0 and 1.1
leaves 2.7e-5, 1 and 1.4e4 after 100 steps. Clipping cures only the second (see clipping.py); gates are for the first
(lstm.py, gru.py).

Helps: the smallest model of sequences, good for short dependencies. Hurts: beyond ten or twenty steps.
Where we differ: weights are (in, out) and there is one bias; torch keeps them transposed and has two biases whose sum
is this one.

Elman 1990, Finding structure in time, Cognitive Science 14; Werbos 1990, Backpropagation through time, Proc. IEEE
78(10), section 3; Stanford CS231n, assignment 3, `rnn_step_forward` to `rnn_backward`.
"""

from array_api_compat import array_namespace

from engram.rules.arrays import Array, zeros
from engram.rules.recurrence import check_sequence, check_step


def rnn_step_forward(x: Array, prev_h: Array, Wx: Array, Wh: Array, b: Array) -> tuple[Array, tuple]:
    """One step of time.

    Args:
        x: (N, D).
        prev_h: (N, H).
        Wx: (D, H).
        Wh: (H, H).
        b: (H,).

    Returns:
        next_h (N, H), and the cache.

    Raises:
        UserError: shapes that do not go together.

    >>> import numpy as np
    >>> rnn_step_forward(np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1)), -np.ones((1, 1)), np.zeros(1))[0].tolist()
    [[0.0]]
    """
    check_step("rnn", 1, x, prev_h, Wx, Wh, b)
    next_h = array_namespace(x).tanh(x @ Wx + prev_h @ Wh + b)  # (N, H)
    return next_h, (x, prev_h, Wx, Wh, next_h)


def rnn_step_backward(dnext_h: Array, cache: tuple) -> tuple[Array, Array, Array, Array, Array]:
    """Back through one step.

    Args:
        dnext_h: (N, H), everything that the state is blamed for: its own output and the next step.

    Returns:
        dx (N, D), dprev_h (N, H), dWx (D, H), dWh (H, H), db (H,).

    >>> import numpy as np
    >>> one = np.ones((1, 1))
    >>> _, cache = rnn_step_forward(one, one, one, -one, np.zeros(1))
    >>> [g.item() for g in rnn_step_backward(one, cache)]
    [1.0, -1.0, 1.0, 1.0, 1.0]
    """
    x, prev_h, Wx, Wh, next_h = cache
    da = dnext_h * (1 - next_h**2)  # (N, H)
    return da @ Wx.T, da @ Wh.T, x.T @ da, prev_h.T @ da, array_namespace(da).sum(da, axis=0)


def rnn_forward(x: Array, h0: Array, Wx: Array, Wh: Array, b: Array) -> tuple[Array, list]:
    """A whole sequence.

    Args:
        x: (N, T, D).
        h0: (N, H), the state before the first step.
        Wx: (D, H).
        Wh: (H, H).
        b: (H,).

    Returns:
        h (N, T, H), the states after every step, and the cache.

    Raises:
        UserError: shapes that do not go together, or no step.

    >>> import numpy as np
    >>> rnn_forward(np.ones((2, 3, 4)), np.zeros((2, 5)), np.ones((4, 5)), np.ones((5, 5)), np.zeros(5))[0].shape
    (2, 3, 5)
    """
    check_sequence("rnn", x)
    h, states, cache = h0, [], []
    for t in range(x.shape[1]):
        h, step = rnn_step_forward(x[:, t], h, Wx, Wh, b)
        states.append(h)
        cache.append(step)
    return array_namespace(x).stack(states, axis=1), cache  # (N, T, H)


def rnn_backward(dh: Array, cache: list) -> tuple[Array, Array, Array, Array, Array]:
    """Back through time.

    Args:
        dh: (N, T, H), the gradient of each state from its own output only; what comes from later steps is added here.

    Returns:
        dx (N, T, D), dh0 (N, H), dWx (D, H), dWh (H, H), db (H,).

    >>> import numpy as np
    >>> one = np.ones((1, 1))
    >>> _, cache = rnn_forward(np.zeros((1, 3, 1)), 0 * one, one, 0.5 * one, np.zeros(1))
    >>> rnn_backward(np.ones((1, 3, 1)), cache)[0].ravel().tolist()
    [1.75, 1.5, 1.0]
    """
    _, h0, Wx, Wh, _ = cache[0]
    dprev_h, dWx, dWh, db = zeros(h0, h0.shape), zeros(Wx, Wx.shape), zeros(Wh, Wh.shape), zeros(Wh, Wh.shape[1:])
    dx = []
    for t in reversed(range(len(cache))):
        dx_t, dprev_h, *weights = rnn_step_backward(dh[:, t] + dprev_h, cache[t])
        dWx, dWh, db = dWx + weights[0], dWh + weights[1], db + weights[2]
        dx.append(dx_t)
    return array_namespace(dh).stack(dx[::-1], axis=1), dprev_h, dWx, dWh, db
