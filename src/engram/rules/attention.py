"""Soft attention: look back at all places of a picture, at each as much as it fits what is being said.

The idea: a captioner that sees one vector must squeeze the whole picture into it. With attention it keeps the L places
of a feature map and asks at every step, with its state, which of them matter now. The answer is a distribution over
the places, and what is read is their mean under it; both are smooth, so the gradient goes through.

    e_l = h · a_l / sqrt(H)        α = softmax(e)        context = sum of α_l a_l
    dα_l = a_l · dcontext          de_l = α_l (dα_l - sum of α_k dα_k)
    dh = sum of de_l a_l / sqrt(H)                        da_l = α_l dcontext + de_l h / sqrt(H)

So a step of a captioner gives two distributions: α over places (where to look next) and one over words. The context
goes into all four gates of an LSTM as a second input, a = x Wx + h Wh + context Wattn + b; h0 and c0 are the mean of
the places. The division by sqrt(H) keeps e near 1 for any H, or the softmax would be a maximum and hand no gradient on.

Helps: captions, translation, anything with an input longer than a vector. Hurts: cost grows with L at every step.
Where we differ: Xu et al. score with a small network over h and a_l, gate the context, and let everything that is
looked at add up to one over time; the dot product is Luong's, its scaling Vaswani's, the whole the course's.

Xu et al. 2015, Show, attend and tell, equations 4 to 6 and 13; Luong et al. 2015, section 3.1; Vaswani et al. 2017,
section 3.2.1; Johnson, EECS 498-007, assignment 4 (2019), `dot_product_attention` and `attention_forward`.
"""

from math import prod, sqrt

from array_api_compat import array_namespace

from engram.errors import UserError
from engram.rules.arrays import Array, zeros
from engram.rules.losses import softmax
from engram.rules.lstm import lstm_step_backward, lstm_step_forward


def dot_product_attention(prev_h: Array, A: Array) -> tuple[Array, Array]:
    """What is read, and how much of it at each place: the course's form, without a cache.

    Args:
        prev_h: (N, H), the state that asks.
        A: (N, H, *S), the places, channels first; 4x4 of them in the course.

    Returns:
        context (N, H), and weights (N, *S) that add up to 1.

    Raises:
        UserError: see `dot_product_attention_forward`.

    >>> import numpy as np
    >>> context, weights = dot_product_attention(np.array([[1.0]]), np.array([[[0.0, 1000.0]]]))
    >>> context.tolist(), weights.tolist()
    ([[1000.0]], [[0.0, 1.0]])
    """
    context, weights, _ = dot_product_attention_forward(prev_h, A)
    return context, weights


def dot_product_attention_forward(prev_h: Array, A: Array) -> tuple[Array, Array, tuple]:
    """What is read, how much of it at each place, and what the way back needs.

    Args:
        prev_h: (N, H), the state that asks.
        A: (N, H, *S), the places, channels first.

    Returns:
        context (N, H), weights (N, *S) that add up to 1, and the cache.

    Raises:
        UserError: the state and the places have not the same examples and channels, or there is no place.

    >>> import numpy as np
    >>> dot_product_attention_forward(np.zeros((1, 2)), np.ones((1, 2, 4, 4)))[1][0, 0]
    array([0.0625, 0.0625, 0.0625, 0.0625])
    """
    if A.ndim < 3 or tuple(prev_h.shape) != tuple(A.shape[:2]) or not prod(A.shape[2:]):
        raise UserError(
            f"attention of a state {tuple(prev_h.shape)} to places {tuple(A.shape)}",
            allowed="a state (N, H) and places (N, H, height, width)",
        )
    N, H, *places = A.shape
    xp = array_namespace(A)
    a = xp.reshape(A, (N, H, prod(places)))  # (N, H, L)
    scores = xp.sum(prev_h[:, :, None] * a, axis=1) / sqrt(H)  # (N, L)
    alpha = softmax(scores, axis=1)
    context = xp.sum(a * alpha[:, None, :], axis=2)  # (N, H)
    return context, xp.reshape(alpha, (N, *places)), (prev_h, A, alpha)


def dot_product_attention_backward(dcontext: Array, dweights: Array | None, cache: tuple) -> tuple[Array, Array]:
    """Gradients of the state that asked and of the places.

    Args:
        dcontext: (N, H).
        dweights: (N, *S), as a penalty on where it looks has; None for none.

    Returns:
        dprev_h (N, H), dA like A.

    >>> import numpy as np
    >>> *_, cache = dot_product_attention_forward(np.array([[0.0]]), np.array([[[1.0, 3.0]]]))
    >>> [g.tolist() for g in dot_product_attention_backward(np.ones((1, 1)), None, cache)]
    [[[1.0]], [[[0.5, 0.5]]]]
    """
    prev_h, A, alpha = cache  # (N, H), (N, H, *S), (N, L)
    N, H, *places = A.shape
    xp = array_namespace(A)
    a = xp.reshape(A, (N, H, prod(places)))  # (N, H, L)
    dalpha = xp.sum(a * dcontext[:, :, None], axis=1)  # (N, L)
    if dweights is not None:
        dalpha = dalpha + xp.reshape(dweights, alpha.shape)
    dscores = alpha * (dalpha - xp.sum(alpha * dalpha, axis=1, keepdims=True)) / sqrt(H)
    dprev_h = xp.sum(a * dscores[:, None, :], axis=2)  # (N, H)
    da = dcontext[:, :, None] * alpha[:, None, :] + prev_h[:, :, None] * dscores[:, None, :]  # (N, H, L)
    return dprev_h, xp.reshape(da, A.shape)


def attention_lstm_step_forward(
    x: Array, prev_h: Array, prev_c: Array, Wx: Array, Wh: Array, b: Array, attn: Array, Wattn: Array
) -> tuple[Array, Array, tuple]:
    """One step of an LSTM that also reads a context.

    A second input with weights of its own is one longer input with weights one above the other.

    Args:
        x: (N, D).
        prev_h: (N, H).
        prev_c: (N, H).
        Wx: (D, 4 H), gates in the order i, f, o, g.
        Wh: (H, 4 H).
        b: (4 H,).
        attn: (N, H), the context.
        Wattn: (H, 4 H).

    Returns:
        next_h (N, H), next_c (N, H), and the cache.

    >>> import numpy as np
    >>> one, row = np.ones((1, 1)), np.zeros((1, 4))
    >>> attention_lstm_step_forward(one, one, one, row, row, np.zeros(4), one, row)[1].item()
    0.5
    """
    xp = array_namespace(x)
    inputs, weights = xp.concat([x, attn], axis=1), xp.concat([Wx, Wattn], axis=0)  # (N, D + H), (D + H, 4 H)
    return lstm_step_forward(inputs, prev_h, prev_c, weights, Wh, b)


def attention_lstm_step_backward(dnext_h: Array, dnext_c: Array, cache: tuple) -> tuple[Array, ...]:
    """Back through one step.

    Args:
        dnext_h: (N, H).
        dnext_c: (N, H), from the next step only.

    Returns:
        dx (N, D), dprev_h (N, H), dprev_c (N, H), dWx (D, 4 H), dWh (H, 4 H), db (4 H,), dattn (N, H),
        dWattn (H, 4 H).

    >>> import numpy as np
    >>> one, row = np.ones((1, 1)), np.ones((1, 4))
    >>> *_, cache = attention_lstm_step_forward(one, one, one, row, row, np.zeros(4), one, row)
    >>> dx, *_, dattn, dWattn = attention_lstm_step_backward(one, one, cache)
    >>> bool(dx == dattn), dWattn.shape
    (True, (1, 4))
    """
    H = dnext_h.shape[1]
    dinputs, dprev_h, dprev_c, dweights, dWh, db = lstm_step_backward(dnext_h, dnext_c, cache)
    D = dinputs.shape[1] - H
    return dinputs[:, :D], dprev_h, dprev_c, dweights[:D], dWh, db, dinputs[:, D:], dweights[D:]


def attention_forward(x: Array, A: Array, Wx: Array, Wh: Array, Wattn: Array, b: Array) -> tuple[Array, list]:
    """A whole sequence: look, step, look again with the new state.

    Args:
        x: (N, T, D).
        A: (N, H, *S), the places; their mean is the first state and the first cell.
        Wx: (D, 4 H), gates in the order i, f, o, g.
        Wh: (H, 4 H).
        Wattn: (H, 4 H).
        b: (4 H,).

    Returns:
        h (N, T, H), the states after every step, and the cache. `cache[t][0]` is where step t looked, (N, *S).

    >>> import numpy as np
    >>> W = np.ones((3, 12))
    >>> h, cache = attention_forward(np.ones((2, 5, 3)), np.ones((2, 3, 4, 4)), W, W, W, np.zeros(12))
    >>> h.shape, cache[0][0].shape
    ((2, 5, 3), (2, 4, 4))
    """
    xp = array_namespace(A)
    h = c = xp.mean(A, axis=tuple(range(2, A.ndim)))  # (N, H)
    states, cache = [], []
    for t in range(x.shape[1]):
        context, weights, look = dot_product_attention_forward(h, A)
        h, c, step = attention_lstm_step_forward(x[:, t], h, c, Wx, Wh, b, context, Wattn)
        states.append(h)
        cache.append((weights, look, step))
    return xp.stack(states, axis=1), cache  # (N, T, H)


def attention_backward(dh: Array, cache: list) -> tuple[Array, ...]:
    """Back through time: the places are blamed for what was read at every step, and for the first state and cell.

    Args:
        dh: (N, T, H), the gradient of each state from its own output only.

    Returns:
        dx (N, T, D), dA like A, dWx (D, 4 H), dWh (H, 4 H), dWattn (H, 4 H), db (4 H,).

    >>> import numpy as np
    >>> W = np.ones((3, 12))
    >>> h, cache = attention_forward(np.ones((2, 5, 3)), np.ones((2, 3, 4, 4)), W, W, W, np.zeros(12))
    >>> [g.shape for g in attention_backward(h, cache)][:2]
    [(2, 5, 3), (2, 3, 4, 4)]
    """
    A = cache[0][1][1]
    dA, dprev_h, dprev_c = zeros(A, A.shape), zeros(A, A.shape[:2]), zeros(A, A.shape[:2])
    dx, total = [], ()
    for t in reversed(range(len(cache))):
        _, look, step = cache[t]
        back = attention_lstm_step_backward(dh[:, t] + dprev_h, dprev_c, step)
        dx_t, dprev_h, dprev_c, dWx, dWh, db, dcontext, dWattn = back
        asked, seen = dot_product_attention_backward(dcontext, None, look)
        dprev_h, dA = dprev_h + asked, dA + seen
        step_weights = (dWx, dWh, dWattn, db)
        total = tuple(a + b for a, b in zip(total, step_weights, strict=True)) if total else step_weights
        dx.append(dx_t)
    xp = array_namespace(dh)
    first = xp.reshape(dprev_h + dprev_c, (*A.shape[:2], *(1 for _ in A.shape[2:])))  # (N, H, 1, 1)
    return xp.stack(dx[::-1], axis=1), dA + first / prod(A.shape[2:]), *total
