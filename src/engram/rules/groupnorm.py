"""Group and instance normalisation: channels of one image are standardised in groups, or each for itself.

The idea: layer normalisation lets all channels of an image share one mean, but an edge detector and a colour detector
have little in common. Share within groups of channels, over all their places, still without other examples:

    x (N, C, *S) → (N, G, C/G · S);   x̂ standardised over the last axis;   out = γ_c x̂ + β_c

G = 1 is layer normalisation over the whole image, G = C is instance normalisation, where each channel of each image
stands for itself. The way back is that of `standardize.py` within each group; γ and β belong to channels, so their
gradients sum over examples and places.

Group normalisation suits small batches of large images (detection, segmentation): its error does not grow when the
batch shrinks, where that of batch normalisation rises steeply below 8 images. With large batches batch normalisation
is about half a point ahead on ImageNet. Instance normalisation takes away an image's contrast, which is what style
transfer wants and a classifier mostly does not.

The paper's settings: G = 32, or 16 channels a group. ε = 1e-5, biased variance. The course gives γ and β the shape
(1, C, 1, 1); (C,) is taken as well, and the gradients come back in the shape that was given.

Wu and He 2018, Group normalization, arXiv:1803.08494, section 3.1; Ulyanov, Vedaldi, Lempitsky 2016,
Instance normalization, arXiv:1607.08022, equation 3; Stanford CS231n, assignment 2.
"""

from collections.abc import Mapping
from typing import Any

from array_api_compat import array_namespace

from engram.errors import UserError
from engram.rules.arrays import Array
from engram.rules.standardize import EPS, standardize, standardize_backward


def spatial_groupnorm_forward(
    x: Array, gamma: Array, beta: Array, G: int, gn_param: Mapping[str, Any] | None = None
) -> tuple[Array, tuple]:
    """Standardise groups of channels of each image, scale and shift each channel.

    Args:
        x: (N, C, *S).
        gamma, beta: (C,) or (1, C, 1, ...).
        G: how many groups; a divisor of C.
        gn_param: eps, 1e-5 where left out.

    Returns:
        out like x, and the cache.

    Raises:
        UserError: G does not divide C.

    >>> import numpy as np
    >>> x = np.array([[[1.0], [3.0], [5.0], [9.0]]])
    >>> spatial_groupnorm_forward(x, np.ones(4), np.zeros(4), 2, {})[0][0, :, 0].round(3)
    array([-1.,  1., -1.,  1.])
    """
    if G < 1 or x.shape[1] % G:
        raise UserError(f"groupnorm: {x.shape[1]} channels in {G} groups", allowed="a divisor of the channels")
    xp = array_namespace(x)
    grouped = xp.reshape(x, (x.shape[0], G, -1))  # (N, G, C/G S)
    normalized, inverse = standardize(grouped, -1, (gn_param or {}).get("eps", EPS))
    normalized = xp.reshape(normalized, x.shape)
    out = _along(gamma, x) * normalized + _along(beta, x)
    return out, (normalized, inverse, gamma, tuple(beta.shape), G)


def spatial_groupnorm_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """Gradients of the images, and of gamma and beta in the shapes they were given in.

    >>> import numpy as np
    >>> _, cache = spatial_groupnorm_forward(np.array([[[1.0], [3.0]]]), np.ones(2), np.zeros(2), 1, {})
    >>> spatial_groupnorm_backward(np.array([[[1.0], [2.0]]]), cache)[2]
    array([1., 2.])
    """
    normalized, inverse, gamma, beta_shape, groups = cache
    xp = array_namespace(dout)
    grouped = (dout.shape[0], groups, -1)
    dnormalized = xp.reshape(dout * _along(gamma, dout), grouped)
    dx = standardize_backward(dnormalized, xp.reshape(normalized, grouped), inverse, -1)
    others = (0, *range(2, dout.ndim))
    dgamma = xp.reshape(xp.sum(dout * normalized, axis=others), tuple(gamma.shape))
    return xp.reshape(dx, dout.shape), dgamma, xp.reshape(xp.sum(dout, axis=others), beta_shape)


def spatial_instancenorm_forward(
    x: Array, gamma: Array, beta: Array, in_param: Mapping[str, Any] | None = None
) -> tuple[Array, tuple]:
    """Standardise each channel of each image for itself, scale and shift.

    Args:
        x: (N, C, *S).
        gamma, beta: (C,) or (1, C, 1, ...).
        in_param: eps, 1e-5 where left out.

    >>> import numpy as np
    >>> spatial_instancenorm_forward(np.array([[[1.0, 3.0]]]), np.ones(1), np.zeros(1))[0].round(3)
    array([[[-1.,  1.]]])
    """
    return spatial_groupnorm_forward(x, gamma, beta, x.shape[1], in_param)


def spatial_instancenorm_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """Those of group normalisation with a group for each channel."""
    return spatial_groupnorm_backward(dout, cache)


def _along(values: Array, x: Array) -> Array:
    """(C,) or (1, C, 1, ...) so that it meets the channels of x."""
    return array_namespace(values).reshape(values, (1, -1, *[1] * (x.ndim - 2)))
