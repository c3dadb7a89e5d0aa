"""The layers above a recurrent network: the same affine map and the same loss at every step of time.

The idea: the states of a sequence are (N, T, D), and one classifier reads them all. Time is only more examples, so
both layers fold it into the batch. What differs is the mean. Captions have different lengths and are filled up with
<NULL>; a mask takes those places out, and the loss adds up what is left and divides by the sequences, not by the
words:

    loss = (1 / N) sum over n, t of mask[n, t] (log sum_v e^(x[n, t, v]) - x[n, t, y[n, t]])
    dx   = mask (softmax(x) - one_hot(y)) / N

So a fresh captioner with V words and T steps starts near T ln V. Long captions weigh more than short ones, and the
gradient grows with T. A mean over the words, which torch's `cross_entropy` takes, gives every word the same weight and
losses that can be compared between lengths; it is N / (number of words) times this one.

Helps: losses and gradients equal the course's. Where we differ: the course's functions print; ours do not.

Stanford CS231n, assignment 3, `temporal_affine_forward` and `temporal_softmax_loss` (2016 to 2024).
"""

from array_api_compat import array_namespace, device

from engram.errors import UserError
from engram.rules.arrays import Array, one_hot


def temporal_affine_forward(x: Array, w: Array, b: Array) -> tuple[Array, tuple]:
    """The same affine map at every step.

    Args:
        x: (N, T, D).
        w: (D, M).
        b: (M,).

    Returns:
        out (N, T, M), and the cache.

    Raises:
        UserError: x has not as many values a step as w has rows.

    >>> import numpy as np
    >>> temporal_affine_forward(np.ones((1, 2, 3)), np.ones((3, 1)), np.array([0.5]))[0].tolist()
    [[[3.5], [3.5]]]
    """
    if x.shape[-1] != w.shape[0]:
        raise UserError(
            f"temporal affine: {x.shape[-1]} values a step, the weights have {w.shape[0]} rows",
            allowed="weights (in, out)",
        )
    return x @ w + b, (x, w)  # (N, T, M)


def temporal_affine_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """Gradients of the input and, summed over examples and time, of the weights and the bias.

    Args:
        dout: (N, T, M).

    Returns:
        dx (N, T, D), dw (D, M), db (M,).

    >>> import numpy as np
    >>> _, cache = temporal_affine_forward(np.ones((1, 2, 3)), np.ones((3, 1)), np.array([0.5]))
    >>> temporal_affine_backward(np.ones((1, 2, 1)), cache)[2].tolist()
    [2.0]
    """
    x, w = cache
    rows, dout_rows = x.reshape(-1, x.shape[-1]), dout.reshape(-1, dout.shape[-1])  # (N T, D), (N T, M)
    return dout @ w.T, rows.T @ dout_rows, array_namespace(dout).sum(dout_rows, axis=0)


def temporal_softmax_loss(x: Array, y: Array, mask: Array | None = None) -> tuple[Array, Array]:
    """Cross-entropy of every step, added up over time, averaged over the sequences.

    Args:
        x: (N, T, V), scores.
        y: (N, T), the right words, whole numbers from 0 below V.
        mask: (N, T), true where the step counts; every step where left out. Labels of steps that do not count may be
            anything.

    Returns:
        the loss, natural logarithm, and dx (N, T, V).

    Raises:
        UserError: shapes that do not go together, or a label outside of the scores where the step counts.

    >>> import numpy as np
    >>> loss, dx = temporal_softmax_loss(np.zeros((1, 2, 4)), np.array([[3, 0]]), np.array([[True, False]]))
    >>> round(float(loss), 6), dx[0, 0].tolist(), bool((dx[0, 1] == 0).all())
    (1.386294, [0.25, 0.25, 0.25, -0.75], True)
    """
    xp = array_namespace(x)
    counted = xp.ones_like(x[..., :1])  # (N, T, 1)
    if mask is not None:
        counted = xp.astype(xp.asarray(mask, device=device(x)), x.dtype)[..., None]
    _check(x, y, counted)
    right = one_hot(y, x)  # (N, T, V)
    shifted = x - xp.max(x, axis=-1, keepdims=True)  # no exponential of a large number
    log_probabilities = shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
    loss = -xp.sum(counted * right * log_probabilities) / x.shape[0]
    return loss, counted * (xp.exp(log_probabilities) - right) / x.shape[0]


def _check(x: Array, y: Array, counted: Array) -> None:
    if x.ndim != 3 or not tuple(x.shape[:2]) == tuple(y.shape) == tuple(counted.shape[:2]):
        raise UserError(
            f"scores {tuple(x.shape)}, words {tuple(y.shape)} and a mask {tuple(counted.shape[:-1])}",
            allowed="(N, T, V), (N, T) and (N, T)",
        )
    words = y[array_namespace(y).asarray(counted[..., 0] != 0, device=device(y))]
    if words.shape[0] and not 0 <= int(words.min()) <= int(words.max()) < x.shape[-1]:
        raise UserError(
            f"words from {int(words.min())} to {int(words.max())}",
            allowed=f"0 to {x.shape[-1] - 1}, as there are {x.shape[-1]} scores",
        )
