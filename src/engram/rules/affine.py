"""Affine layer: every output is a weighted sum of all inputs, plus a bias.

The idea: a row of weights asks how much of one pattern is in the input, and the bias says from which amount on a unit
may answer. In the course's layout the weights stand as (in, out) and examples as rows:

    out = x w + b          dx = dout wᵀ        dw = xᵀ dout        db = Σ_n dout_n

Each way back is what the shapes leave as the only product that fits: dw must be (in, out), so it is (in, N) times
(N, out). A unit fires when w·x > −b, so the threshold is −b and not b; it is learned by the same gradient as the rest.
It suits features without order; on images it has to learn the same stroke anew in every place, which convolution
spares. Inputs with more than one axis of features are flattened and get a gradient of their own shape.

Where we differ: torch keeps `nn.Linear.weight` as (out, in), the transpose of ours. The bias may be None.

Stanford CS231n, assignment 1, `affine_forward`; Rumelhart, Hinton, Williams 1986, Nature 323, equations 1 to 6.
"""

from math import prod

from array_api_compat import array_namespace

from engram.errors import UserError
from engram.rules.arrays import Array


def affine_forward(x: Array, w: Array, b: Array | None = None) -> tuple[Array, tuple]:
    """Weighted sums of the inputs, x w + b.

    Args:
        x: (N, *D), flattened to (N, in).
        w: (in, out).
        b: (out,).

    Returns:
        out (N, out), and the cache.

    Raises:
        UserError: x does not flatten to as many values as w has rows.

    >>> import numpy as np
    >>> affine_forward(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]), np.array([0.5]))[0]
    array([[11.5]])
    """
    features = prod(x.shape[1:])
    if features != w.shape[0]:
        raise UserError(
            f"affine: an input {tuple(x.shape)} has {features} values an example, the weights have {w.shape[0]} rows",
            allowed="weights (in, out)",
        )
    xp = array_namespace(x, w)
    out = xp.reshape(x, (x.shape[0], features)) @ w  # (N, out)
    return (out if b is None else out + b), (x, w, b)


def affine_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """Gradients of the input, the weights and the bias.

    Args:
        dout: (N, out).

    Returns:
        dx like x, dw (in, out), db (out,) or None where there was no bias.

    >>> import numpy as np
    >>> _, cache = affine_forward(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]), np.array([0.5]))
    >>> [g.tolist() for g in affine_backward(np.array([[10.0]]), cache)]
    [[[30.0, 40.0]], [[10.0], [20.0]], [10.0]]
    """
    x, w, b = cache
    xp = array_namespace(dout)
    dx = xp.reshape(dout @ w.T, x.shape)
    dw = xp.reshape(x, (x.shape[0], w.shape[0])).T @ dout
    return dx, dw, None if b is None else xp.sum(dout, axis=0)
