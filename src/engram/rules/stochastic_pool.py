"""Stochastic pooling: each window passes on one of its values, the likelier the larger it is.

The idea: the maximum trusts one value and forgets the rest, the mean is dragged down by all the zeros of a ReLU. In
between, with the window's shares p_i = a_i / Σ a_j:

    train   out = a_l,  l drawn with chances p        da_l = dout, the others nothing
    test    out = Σ p_i a_i = Σ a² / Σ a, its mean    da_i = dout (2 a_i - out) / Σ a

It belongs behind a ReLU: negative values count as the zeros that one would have made of them. A window of zeros gives
zero and has no slope. As a regulariser it has nothing to tune and sees another deformation of the picture at every
pass; with augmentation and batch normalisation little of its gain is left. The paper's windows: 3 x 3 at stride 2.

Zeiler and Fergus 2013, Stochastic pooling for regularization of deep convolutional neural networks, arXiv:1301.3557,
sections 3.1 and 3.2.
"""

from collections.abc import Mapping
from typing import Any

from array_api_compat import array_namespace, device

from engram.rules.arrays import Array, crop, like, pad
from engram.rules.draws import drawing
from engram.rules.pooling import geometry
from engram.rules.windows import fold, unfold


def stochastic_pool_forward(x: Array, pool_param: Mapping[str, Any]) -> tuple[Array, tuple]:
    """One value of each window, or at test the mean of what would have been drawn.

    Args:
        x: (N, C, *S), not negative; negative values count as 0.
        pool_param: mode "train" or "test"; kernel or pool_height and pool_width, stride and pad, as for `max_pool_`;
            rng, a NumPy generator, or seed, for NumPy's global one.

    Returns:
        out (N, C, *O), and the cache.

    Raises:
        UserError: another mode, or windows that do not fit.

    >>> import numpy as np
    >>> stochastic_pool_forward(np.array([[[1.0, 3.0]]]), {"mode": "test", "kernel": 2})[0]
    array([[[2.5]]])
    """
    sides = {name: value for name, value in pool_param.items() if name not in ("mode", "rng", "seed")}
    training, rng = drawing(pool_param)
    xp, where = array_namespace(x), geometry(x, sides)
    positive = xp.maximum(x, xp.zeros_like(x))
    a = unfold(pad(positive, where.widths), where.kernel, where.stride, where.dilation, where.out)  # (N, C, K, *O)
    total = xp.sum(a, axis=2)  # (N, C, *O)
    whole = xp.where(total > 0, total, xp.ones_like(total))
    if training:
        mark = like(x, rng.random(tuple(total.shape))) * total
        passed = xp.cumulative_sum(a, axis=2) > mark[:, :, None]  # from the drawn value on
        drawn = xp.argmax(xp.astype(passed, xp.int32), axis=2, keepdims=True)  # (N, C, 1, *O)
        places = xp.reshape(xp.arange(a.shape[2], device=device(a)), (-1, *[1] * len(where.out)))
        slope = xp.astype((places == drawn) & (a > 0), x.dtype)
        out = xp.sum(a * slope, axis=2)
    else:
        out = xp.sum(a**2, axis=2) / whole
        slope = xp.where(a > 0, (2 * a - out[:, :, None]) / whole[:, :, None], xp.zeros_like(a))
    return out, (slope, where)


def stochastic_pool_backward(dout: Array, cache: tuple) -> Array:
    """The upstream gradient to the value that was drawn; at test shared as the mean's slope says.

    >>> import numpy as np
    >>> _, cache = stochastic_pool_forward(np.array([[[1.0, 3.0]]]), {"mode": "test", "kernel": 2})
    >>> stochastic_pool_backward(np.array([[[8.0]]]), cache)
    array([[[-1.,  7.]]])
    """
    slope, where = cache
    windows = slope * dout[:, :, None]
    return crop(fold(windows, where.padded, where.kernel, where.stride, where.dilation), where.widths)
