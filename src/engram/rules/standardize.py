"""Standardising: subtract the mean, divide by the deviation; what batch, layer, group and instance norm have in common.

The idea: bring numbers to mean 0 and variance 1, over whichever axes, and let the mean and the variance be part of the
graph, so that the gradient knows that raising one number lowers all the others:

    z = (x − μ) / √(σ² + ε)          σ² = Σ (x − μ)² / m, the biased variance
    dx = (dz − mean(dz) − z · mean(dz · z)) / √(σ² + ε)

The backward formula is the whole graph folded together: two of its terms take out what the output cannot show, a
common shift and a common stretch. Hence its trap: an upstream of all ones is a common shift, so the true gradient is
zero, and a relative error against it says nothing (torch/nn#744). The four norms differ in the axes alone:

    batch     over the examples (and places), for each channel        needs a batch; running averages at test
    layer     over the features of one example                        the same at test; recurrent nets, transformers
    group     over the channels of a group and all places             small batches of large images
    instance  over the places of one channel of one image             style transfer

ε = 1e-5 everywhere; it keeps a constant input from dividing by zero and makes the variance a little less than 1.

Ioffe and Szegedy 2015, arXiv:1502.03167, section 3; Wu and He 2018, arXiv:1803.08494, equation 2.
"""

from array_api_compat import array_namespace

from engram.rules.arrays import Array

EPS = 1e-5


def standardize(x: Array, axes: int | tuple[int, ...], eps: float = EPS) -> tuple[Array, Array]:
    """Mean 0 and variance 1 over `axes`.

    Returns:
        z like x, and 1 / √(σ² + ε) with the axes kept as 1.

    >>> import numpy as np
    >>> standardize(np.array([[1.0, 3.0]]), 1, eps=0.0)[0]
    array([[-1.,  1.]])
    """
    xp = array_namespace(x)
    centered = x - xp.mean(x, axis=axes, keepdims=True)
    inverse = 1 / xp.sqrt(xp.mean(centered**2, axis=axes, keepdims=True) + eps)
    return centered * inverse, inverse


def standardize_backward(dz: Array, z: Array, inverse: Array, axes: int | tuple[int, ...]) -> Array:
    """The gradient through mean and variance.

    >>> import numpy as np
    >>> z, inverse = standardize(np.array([[1.0, 3.0, 5.0]]), 1)
    >>> standardize_backward(np.ones((1, 3)), z, inverse, 1).round(9) + 0.0
    array([[0., 0., 0.]])
    """
    xp = array_namespace(dz)
    shift = xp.mean(dz, axis=axes, keepdims=True)
    stretch = xp.mean(dz * z, axis=axes, keepdims=True)
    return (dz - shift - z * stretch) * inverse
