"""Softmax and hinge loss: what scores of classes cost, and which way they should move.

The idea: the class that is right should score above the others; the two losses differ in when they are content.

    softmax   p_j = e^{s_j} / Σ e^{s_k},   L = −log p_y               ds_j = (p_j − 1[j = y]) / N
    hinge     L = Σ_{j ≠ y} max(0, s_j − s_y + Δ)                     ds_j = 1[margin_j > 0] / N,  ds_y = −Σ_j of them

The softmax loss always wants more; the hinge loss (Weston and Watkins's, several classes, all that violate counted) is
satisfied once every other class is Δ below. Both are means over the examples. What they are before anything is
learned, scores all alike, is a check: log C and (C − 1) Δ, so 2.3 and 9 for ten classes.

The largest score is subtracted first; it cancels in p, and no exponential overflows. The natural logarithm, always: a
lecture slide of 2017 shows 0.452 where the loss is 1.04, which is the logarithm to base 10.

Softmax gives probabilities and is the rule today; the hinge loss leaves alone what is right with a margin, and its
gradient has corners, at which a numerical check can be wrong while the gradient is right.

Stanford CS231n, notes on linear classification, and assignments 1 and 2; Weston and Watkins 1999, section 3;
Bridle 1990.
"""

from typing import Any

from array_api_compat import array_namespace

from engram.errors import UserError
from engram.rules.arrays import Array, one_hot


def softmax(x: Array, axis: int = -1) -> Array:
    """Scores as probabilities that sum to 1 along an axis.

    >>> import numpy as np
    >>> softmax(np.array([123.0, 456.0, 789.0])).round(12)
    array([0., 0., 1.])
    """
    xp = array_namespace(x)
    power = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return power / xp.sum(power, axis=axis, keepdims=True)


def softmax_loss(x: Array, y: Array) -> tuple[Any, Array]:
    """Cross-entropy of the softmax, the mean over examples.

    Args:
        x: scores (N, C).
        y: labels (N,), whole numbers below C.

    Returns:
        loss, a number of the array's library, and dx (N, C).

    Raises:
        UserError: labels outside the classes, or not one an example.

    >>> import numpy as np
    >>> loss, dx = softmax_loss(np.zeros((1, 2)), np.array([0]))
    >>> round(float(loss), 4), dx.tolist()
    (0.6931, [[-0.5, 0.5]])
    """
    _check(x, y)
    xp = array_namespace(x)
    right = one_hot(y, x)  # (N, C)
    shifted = x - xp.max(x, axis=1, keepdims=True)
    log_total = xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))  # (N, 1)
    log_share = shifted - log_total
    loss = -xp.sum(log_share * right) / x.shape[0]
    return loss, (xp.exp(log_share) - right) / x.shape[0]


def svm_loss(x: Array, y: Array, delta: float = 1.0) -> tuple[Any, Array]:
    """Hinge loss of several classes, the mean over examples.

    Args:
        x: scores (N, C).
        y: labels (N,), whole numbers below C.
        delta: the margin asked for.

    Returns:
        loss, a number of the array's library, and dx (N, C).

    Raises:
        UserError: labels outside the classes, or not one an example.

    >>> import numpy as np
    >>> loss, dx = svm_loss(np.array([[13.0, -7.0, 11.0]]), np.array([0]), delta=10.0)
    >>> float(loss), dx.tolist()
    (8.0, [[-1.0, 0.0, 1.0]])
    """
    _check(x, y)
    xp = array_namespace(x)
    right = one_hot(y, x)
    margins = (x - xp.sum(x * right, axis=1, keepdims=True) + delta) * (1 - right)  # (N, C), 0 at the label
    violated = xp.astype(margins > 0, x.dtype)
    loss = xp.sum(margins * violated) / x.shape[0]
    return loss, (violated - right * xp.sum(violated, axis=1, keepdims=True)) / x.shape[0]


def _check(x: Array, y: Array) -> None:
    if x.ndim != 2 or tuple(y.shape) != (x.shape[0],):
        raise UserError(f"scores {tuple(x.shape)} and labels {tuple(y.shape)}", allowed="(N, C) and (N,)")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= x.shape[1]:
        raise UserError(
            f"labels from {low} to {high}", allowed=f"0 to {x.shape[1] - 1}, as there are {x.shape[1]} scores"
        )
