"""Layer normalisation: one example's features are standardised among themselves.

The idea: batch normalisation needs a batch, of one kind in training and another at test. Standardise instead over the
features of each example, so that examples never meet and training and test are the same function:

    x̂ = (x − mean_D(x)) / √(var_D(x) + ε),   out = γ x̂ + β,   γ and β for each feature
    dβ = Σ_n dout,   dγ = Σ_n dout x̂,   dx = (dx̂ − mean_D(dx̂) − x̂ mean_D(dx̂ x̂)) / √(σ² + ε),   dx̂ = γ dout

It is the transpose of batch normalisation: same formula, other axis. It suits recurrent networks and transformers, any
size of batch, and features that are of one kind. It hurts where the features' own scales carry the meaning, and with
few features: the course's exercise shows it fail on tiny layers. After a fully connected layer it is as good as batch
normalisation with small batches; in convolutional networks group normalisation takes its place.

The paper's setting: before the nonlinearity, in each recurrent step. ε = 1e-5, biased variance, as in torch.

Ba, Kiros, Hinton 2016, Layer normalization, arXiv:1607.06450, section 3; Stanford CS231n, assignment 2.
"""

from collections.abc import Mapping
from typing import Any

from array_api_compat import array_namespace

from engram.rules.arrays import Array
from engram.rules.standardize import EPS, standardize, standardize_backward


def layernorm_forward(
    x: Array, gamma: Array, beta: Array, ln_param: Mapping[str, Any] | None = None
) -> tuple[Array, tuple]:
    """Standardise the last axis of each example, scale and shift.

    Args:
        x: (..., D).
        gamma, beta: (D,).
        ln_param: eps, 1e-5 where left out.

    Returns:
        out like x, and the cache.

    >>> import numpy as np
    >>> layernorm_forward(np.array([[1.0, 3.0]]), np.ones(2), np.zeros(2), {})[0].round(3)
    array([[-1.,  1.]])
    """
    normalized, inverse = standardize(x, -1, (ln_param or {}).get("eps", EPS))
    return gamma * normalized + beta, (normalized, inverse, gamma)


def layernorm_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """Gradients of the input, and of gamma and beta (D,) summed over all examples.

    >>> import numpy as np
    >>> _, cache = layernorm_forward(np.array([[1.0, 3.0]]), np.ones(2), np.zeros(2), {})
    >>> layernorm_backward(np.array([[1.0, 2.0]]), cache)[2]
    array([1., 2.])
    """
    normalized, inverse, gamma = cache
    xp = array_namespace(dout)
    others = tuple(range(dout.ndim - 1))
    dx = standardize_backward(dout * gamma, normalized, inverse, -1)
    return dx, xp.sum(dout * normalized, axis=others), xp.sum(dout, axis=others)
