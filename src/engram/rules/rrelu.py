"""Randomized leaky ReLU: a slope for negative inputs that is drawn anew for every unit while training.

The idea: which slope a leaky ReLU should have is not known, so train with all of an interval and use its middle:

    train   out = x or a x, a ~ U(lower, upper) for each number        d = 1 or that a
    test    out = x or (lower + upper) / 2 · x                          d = 1 or that mean

The noise regularises, on small data above all; with much data a fixed slope of that size does as well. The paper draws
1 / a from U(3, 8) and divides; the interval here is torch's, slopes from 1/8 to 1/3, whose mean 0.229 is a little more
than the paper's 1 / 5.5 = 0.182.

Xu, Wang, Chen, Li 2015, Empirical evaluation of rectified activations, arXiv:1505.00853, section 2.4.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from engram.errors import UserError, unknown
from engram.rules.arrays import Array, like
from engram.rules.draws import drawing

SETTINGS = ("mode", "lower", "upper", "rng", "seed")


def rrelu_forward(x: Array, rrelu_param: Mapping[str, Any]) -> tuple[Array, tuple]:
    """ReLU that lets a random share of each negative input through.

    Args:
        x: of any shape.
        rrelu_param: mode "train" or "test"; lower (1/8) and upper (1/3) end of the slopes; rng, a NumPy generator, or
            seed, for NumPy's global one.

    Returns:
        out like x, and the cache.

    Raises:
        UserError: another mode, an unknown word, or an interval that runs backwards.

    >>> rrelu_forward(np.array([-1.0, 2.0]), {"mode": "test", "lower": 0.1, "upper": 0.3})[0]
    array([-0.2,  2. ])
    """
    for name in rrelu_param:
        if name not in SETTINGS:
            raise unknown("rrelu_param", name, SETTINGS)
    training, rng = drawing(rrelu_param)
    lower, upper = rrelu_param.get("lower", 1 / 8), rrelu_param.get("upper", 1 / 3)
    if not lower <= upper:
        raise UserError(f"slopes from {lower!r} to {upper!r}", allowed="lower at most upper")
    xp = array_namespace(x)
    drawn = rng.random(tuple(x.shape)) if training else np.full(tuple(x.shape), 0.5)
    slope = xp.where(x > 0, xp.ones_like(x), like(x, lower + (upper - lower) * drawn))
    return x * slope, (slope,)


def rrelu_backward(dout: Array, cache: tuple) -> Array:
    """The upstream gradient, times the slope that was drawn where the input was not positive.

    >>> rrelu_backward(np.array([10.0, 10.0]), (np.array([0.2, 1.0]),))
    array([ 2., 10.])
    """
    return dout * cache[0]
