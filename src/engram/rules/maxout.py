"""Maxout: the largest of several affine answers, so that the activation itself is learned.

The idea: the maximum of k straight lines is a convex function made of pieces, and with enough pieces any convex
function. ReLU is the maximum of 0 and x, leaky ReLU of αx and x; maxout learns which. It neither saturates nor dies,
since some piece is always in charge:

    out_j = max_i z_ij,  z_i = x w_i + b_i, i = 1 … k        dz_ij = dout_j where i won, 0 elsewhere

The way back is that of max pooling, over pieces and not over places: the upstream gradient goes whole to the piece
that won. The price is k times the parameters (k = 2 doubles them). It was made to go with dropout, whose averaging is
exact for pieces that are linear.

The paper's settings: k = 2 on MNIST's convolutional net, 5 on its fully connected one, dropout on every layer.
Among equal pieces the first wins, as in torch's max over an axis; the paper leaves it open.

`maxout_forward` takes the k answers as they are, grouped along the channels; `affine_maxout_forward` has the weights.

Goodfellow, Warde-Farley, Mirza, Courville, Bengio 2013, Maxout Networks, arXiv:1302.4389, section 3.
"""

from array_api_compat import array_namespace

from engram.errors import UserError
from engram.rules.affine import affine_backward, affine_forward
from engram.rules.arrays import Array


def maxout_forward(x: Array, pieces: int = 2) -> tuple[Array, tuple]:
    """The largest of each run of `pieces` channels.

    Args:
        x: (N, C, *S), C a multiple of `pieces`; channels j k to j k + k - 1 make output j.

    Returns:
        out (N, C / pieces, *S), and the cache.

    Raises:
        UserError: the channels cannot be shared out.

    >>> import numpy as np
    >>> maxout_forward(np.array([[1.0, 5.0, 3.0, 2.0]]))[0]
    array([[5., 3.]])
    """
    batch, channels, *shape = x.shape
    if pieces < 1 or channels % pieces:
        raise UserError(f"{channels} channels cannot be shared out in runs of {pieces}", allowed="a divisor of them")
    xp = array_namespace(x)
    runs = xp.reshape(x, (batch, channels // pieces, pieces, *shape))  # (N, C/k, k, *S)
    return xp.max(runs, axis=2), (runs, channels)


def maxout_backward(dout: Array, cache: tuple) -> Array:
    """The upstream gradient for the winner of each run, zero for the others.

    >>> import numpy as np
    >>> _, cache = maxout_forward(np.array([[1.0, 5.0, 3.0, 2.0]]))
    >>> maxout_backward(np.array([[7.0, 9.0]]), cache)
    array([[0., 7., 9., 0.]])
    """
    runs, channels = cache
    xp = array_namespace(dout)
    winner = xp.argmax(runs, axis=2, keepdims=True)  # the first of equals
    which = xp.reshape(xp.arange(runs.shape[2]), (-1, *[1] * (runs.ndim - 3)))  # (k, 1, ...)
    won = xp.astype(xp.asarray(which, device=winner.device) == winner, dout.dtype)
    return xp.reshape(won * dout[:, :, None], (runs.shape[0], channels, *runs.shape[3:]))


def affine_maxout_forward(x: Array, w: Array, b: Array) -> tuple[Array, tuple]:
    """The maxout layer of the paper: k affine maps, the largest answer.

    Args:
        x: (N, *D), flattened to (N, in).
        w: (in, out, k).
        b: (out, k).

    >>> import numpy as np
    >>> affine_maxout_forward(np.array([[2.0]]), np.array([[[1.0, -1.0]]]), np.array([[0.0, 0.0]]))[0]
    array([[2.]])
    """
    xp = array_namespace(x)
    flat, affine_cache = affine_forward(x, xp.reshape(w, (w.shape[0], -1)), xp.reshape(b, (-1,)))
    out, cache = maxout_forward(flat, w.shape[2])
    return out, (affine_cache, cache, w.shape, b.shape)


def affine_maxout_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """Gradients of the input, the weights and the biases; pieces that lost get none."""
    affine_cache, maxout_cache, shape, bias_shape = cache
    xp = array_namespace(dout)
    dx, dw, db = affine_backward(maxout_backward(dout, maxout_cache), affine_cache)
    return dx, xp.reshape(dw, shape), xp.reshape(db, bias_shape)
