"""Sandwich layers: operations that always stand together, as one forward and one backward.

The idea: once every operation has its pair, a longer chain needs no new mathematics. Forward runs them in order and
keeps each cache; backward runs their backward functions in the reverse order, each upstream being what the one behind
it sent. That is the whole of back-propagation, and `engine.py` does the same for any graph:

    affine_relu          out = relu(x w + b)
    affine_bn_relu       out = relu(batchnorm(x w + b))             affine_ln_relu: layernorm in its place
    conv_relu            out = relu(conv(x))
    conv_bn_relu         out = relu(spatial_batchnorm(conv(x)))
    conv_relu_pool       out = max_pool(relu(conv(x)))

Normalisation comes before the nonlinearity, as in the paper; the bias in front of it is then redundant, since the mean
takes it away again (its gradient is zero up to rounding), and stays because the course has it. Pooling after ReLU or
before gives the same values for a maximum.

Useful where the pieces are really one block; for a network of one's own, write the chain down. Gradients come in the
order of the arguments.

Stanford CS231n, assignments 1 and 2, `layer_utils.py`.
"""

from collections.abc import Mapping
from typing import Any

from engram.rules.affine import affine_backward, affine_forward
from engram.rules.arrays import Array
from engram.rules.batchnorm import (
    batchnorm_backward_alt,
    batchnorm_forward,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
)
from engram.rules.convolution import conv_backward, conv_forward
from engram.rules.layernorm import layernorm_backward, layernorm_forward
from engram.rules.pooling import max_pool_backward, max_pool_forward
from engram.rules.rectifiers import relu_backward, relu_forward


def affine_relu_forward(x: Array, w: Array, b: Array) -> tuple[Array, tuple]:
    """An affine layer, then ReLU: x (N, *D), w (in, out), b (out,) to (N, out).

    >>> import numpy as np
    >>> affine_relu_forward(np.array([[1.0]]), np.array([[2.0, -2.0]]), np.zeros(2))[0]
    array([[2., 0.]])
    """
    a, affine_cache = affine_forward(x, w, b)
    out, relu_cache = relu_forward(a)
    return out, (affine_cache, relu_cache)


def affine_relu_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """dx, dw, db."""
    affine_cache, relu_cache = cache
    return affine_backward(relu_backward(dout, relu_cache), affine_cache)


def affine_bn_relu_forward(
    x: Array, w: Array, b: Array, gamma: Array, beta: Array, bn_param: dict[str, Any]
) -> tuple[Array, tuple]:
    """An affine layer, batch normalisation (gamma, beta (out,)), then ReLU.

    >>> import numpy as np
    >>> x, one, zero = np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1)
    >>> affine_bn_relu_forward(x, np.ones((1, 1)), zero, one, zero, {"mode": "train"})[0].round(3)
    array([[0.],
           [1.]])
    """
    a, affine_cache = affine_forward(x, w, b)
    n, norm_cache = batchnorm_forward(a, gamma, beta, bn_param)
    out, relu_cache = relu_forward(n)
    return out, (affine_cache, norm_cache, relu_cache)


def affine_bn_relu_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array | None, Array, Array]:
    """dx, dw, db, dgamma, dbeta."""
    affine_cache, norm_cache, relu_cache = cache
    da, dgamma, dbeta = batchnorm_backward_alt(relu_backward(dout, relu_cache), norm_cache)
    return *affine_backward(da, affine_cache), dgamma, dbeta


def affine_ln_relu_forward(
    x: Array, w: Array, b: Array, gamma: Array, beta: Array, ln_param: Mapping[str, Any]
) -> tuple[Array, tuple]:
    """An affine layer, layer normalisation (gamma, beta (out,)), then ReLU.

    >>> import numpy as np
    >>> affine_ln_relu_forward(np.ones((1, 1)), np.array([[1.0, 3.0]]), np.zeros(2), np.ones(2), np.zeros(2), {})[
    ...     0
    ... ].round(3)
    array([[0., 1.]])
    """
    a, affine_cache = affine_forward(x, w, b)
    n, norm_cache = layernorm_forward(a, gamma, beta, ln_param)
    out, relu_cache = relu_forward(n)
    return out, (affine_cache, norm_cache, relu_cache)


def affine_ln_relu_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array | None, Array, Array]:
    """dx, dw, db, dgamma, dbeta."""
    affine_cache, norm_cache, relu_cache = cache
    da, dgamma, dbeta = layernorm_backward(relu_backward(dout, relu_cache), norm_cache)
    return *affine_backward(da, affine_cache), dgamma, dbeta


def conv_relu_forward(x: Array, w: Array, b: Array, conv_param: Mapping[str, Any]) -> tuple[Array, tuple]:
    """A convolution, then ReLU.

    >>> import numpy as np
    >>> conv_relu_forward(np.array([[[2.0, 1.0, 3.0]]]), np.array([[[1.0, -1.0]]]), np.zeros(1), {})[0]
    array([[[1., 0.]]])
    """
    a, conv_cache = conv_forward(x, w, b, conv_param)
    out, relu_cache = relu_forward(a)
    return out, (conv_cache, relu_cache)


def conv_relu_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """dx, dw, db."""
    conv_cache, relu_cache = cache
    return conv_backward(relu_backward(dout, relu_cache), conv_cache)


def conv_bn_relu_forward(
    x: Array,
    w: Array,
    b: Array,
    gamma: Array,
    beta: Array,
    conv_param: Mapping[str, Any],
    bn_param: dict[str, Any],
) -> tuple[Array, tuple]:
    """A convolution, batch normalisation of its channels (gamma, beta (F,)), then ReLU.

    >>> import numpy as np
    >>> x, w, one, zero = np.array([[[1.0, 3.0]]]), np.ones((1, 1, 1)), np.ones(1), np.zeros(1)
    >>> conv_bn_relu_forward(x, w, zero, one, zero, {}, {"mode": "train"})[0].round(3)
    array([[[0., 1.]]])
    """
    a, conv_cache = conv_forward(x, w, b, conv_param)
    n, norm_cache = spatial_batchnorm_forward(a, gamma, beta, bn_param)
    out, relu_cache = relu_forward(n)
    return out, (conv_cache, norm_cache, relu_cache)


def conv_bn_relu_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array | None, Array, Array]:
    """dx, dw, db, dgamma, dbeta."""
    conv_cache, norm_cache, relu_cache = cache
    da, dgamma, dbeta = spatial_batchnorm_backward(relu_backward(dout, relu_cache), norm_cache)
    return *conv_backward(da, conv_cache), dgamma, dbeta


def conv_relu_pool_forward(
    x: Array, w: Array, b: Array, conv_param: Mapping[str, Any], pool_param: Mapping[str, Any]
) -> tuple[Array, tuple]:
    """A convolution, ReLU, then max pooling.

    >>> import numpy as np
    >>> conv_relu_pool_forward(np.array([[[1.0, 3.0]]]), np.ones((1, 1, 1)), np.zeros(1), {}, {"kernel": 2})[0]
    array([[[3.]]])
    """
    a, conv_cache = conv_forward(x, w, b, conv_param)
    r, relu_cache = relu_forward(a)
    out, pool_cache = max_pool_forward(r, pool_param)
    return out, (conv_cache, relu_cache, pool_cache)


def conv_relu_pool_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """dx, dw, db."""
    conv_cache, relu_cache, pool_cache = cache
    return conv_backward(relu_backward(max_pool_backward(dout, pool_cache), relu_cache), conv_cache)
