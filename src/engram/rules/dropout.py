"""Dropout: units are left out at random while training, so that none can rely on another.

The idea: every example sees another thinned network; at test all of them are averaged by using the whole network at
the scale it was trained at. `keep` is the share that stays, `drop` the share that goes, keep = 1 − drop:

    inverted   train  x · m / keep, m = 1[u < keep]       test  x              dx = dout · m / keep
    vanilla    train  x · m                               test  x · keep       dx = dout · m
    spatial    inverted, one m for a whole channel        test  x              "drop whole activation maps"
    Gaussian   train  x · (1 + ε), ε ~ N(0, drop / keep)  test  x              dx = dout · (1 + ε)
    alpha      train  a (x m + α′ (1 − m)) + b            test  x              dx = dout · a m

Alpha dropout sets units to SELU's floor α′ = −1.7581 and then scales so that mean 0 and variance 1 stay: it belongs to
SELU as inverted dropout belongs to ReLU. On images neighbouring pixels say the same, so single ones dropped hardly
matter and whole channels are. Helps large fully connected layers on little data; hurts small networks, and goes badly
in front of batch normalisation, whose variances then differ between training and test.

The word p is a trap: it is the share that stays in the lecture and in the course since 2018, the share that goes in
the course of 2016 and 2017 and in torch. Here it is `keep` or `drop`; the course's key `p` is accepted as keep.

Draws are NumPy's, for both libraries. `rng` gives a generator; without one they come from NumPy's global generator, as
in the course, and `seed` seeds that one before each use, as the course does for its gradient checks.

The paper's settings: keep 0.5 in hidden layers, 0.8 at the input.

Srivastava et al. 2014, JMLR 15, sections 4 and 10 (Gaussian); Tompson et al. 2015, arXiv:1411.4280, section 3.2
(spatial); Klambauer et al. 2017, arXiv:1706.02515, section "new dropout technique"; Stanford CS231n, assignment 2.
"""

from collections.abc import Mapping
from math import sqrt
from typing import Any

import numpy as np

from engram.errors import UserError, unknown
from engram.rules.arrays import Array, like, share
from engram.rules.rectifiers import SELU_ALPHA, SELU_SCALE

FLOOR = -SELU_SCALE * SELU_ALPHA
SETTINGS = ("mode", "p", "keep", "drop", "seed", "rng")


def dropout_forward(x: Array, dropout_param: Mapping[str, Any]) -> tuple[Array, tuple]:
    """Inverted dropout: what stays is scaled up in training, and nothing happens at test.

    Args:
        x: of any shape.
        dropout_param: mode "train" or "test"; keep, or drop, or the course's p (the share that stays); rng, a NumPy
            generator, or seed, for NumPy's global one.

    Returns:
        out like x, and the cache.

    Raises:
        UserError: another mode, no share or more than one, or one outside of 0 to 1.

    >>> import numpy as np
    >>> dropout_forward(np.ones(4), {"mode": "train", "keep": 0.5, "rng": np.random.default_rng(0)})[0]
    array([0., 2., 2., 2.])
    """
    training, keep = read(dropout_param)
    if not training:
        return x, (1.0,)
    mask = _stays(x, x.shape, keep, dropout_param) / keep
    return x * mask, (mask,)


def dropout_backward(dout: Array, cache: tuple) -> Array:
    """The upstream gradient through the same mask; all of it at test.

    >>> import numpy as np
    >>> dropout_backward(np.ones(2), (np.array([2.0, 0.0]),))
    array([2., 0.])
    """
    return dout * cache[0]


def vanilla_dropout_forward(x: Array, dropout_param: Mapping[str, Any]) -> tuple[Array, tuple]:
    """Dropout as first written: what stays keeps its size in training, and all is scaled down at test.

    Args:
        dropout_param: see `dropout_forward`.

    >>> import numpy as np
    >>> vanilla_dropout_forward(np.ones(2), {"mode": "test", "keep": 0.75})[0]
    array([0.75, 0.75])
    """
    training, keep = read(dropout_param)
    mask = _stays(x, x.shape, keep, dropout_param) if training else keep
    return x * mask, (mask,)


vanilla_dropout_backward = dropout_backward


def spatial_dropout_forward(x: Array, dropout_param: Mapping[str, Any]) -> tuple[Array, tuple]:
    """Inverted dropout of whole channels.

    Args:
        x: (N, C, *S).
        dropout_param: see `dropout_forward`.

    >>> import numpy as np
    >>> x, rng = np.ones((1, 2, 2)), np.random.default_rng(0)
    >>> spatial_dropout_forward(x, {"mode": "train", "keep": 0.5, "rng": rng})[0].tolist()
    [[[0.0, 0.0], [2.0, 2.0]]]
    """
    training, keep = read(dropout_param)
    if not training:
        return x, (1.0,)
    mask = _stays(x, (*x.shape[:2], *[1] * (x.ndim - 2)), keep, dropout_param) / keep
    return x * mask, (mask,)


spatial_dropout_backward = dropout_backward


def gaussian_dropout_forward(x: Array, dropout_param: Mapping[str, Any]) -> tuple[Array, tuple]:
    """Every value times a normal number of mean 1 and the variance that inverted dropout's mask has.

    Args:
        dropout_param: see `dropout_forward`.

    >>> import numpy as np
    >>> gaussian_dropout_forward(np.ones(2), {"mode": "train", "keep": 1.0})[0]
    array([1., 1.])
    """
    training, keep = read(dropout_param)
    if not training:
        return x, (1.0,)
    rng = dropout_param.get("rng", np.random)
    noise = 1 + sqrt((1 - keep) / keep) * like(x, rng.standard_normal(tuple(x.shape)))
    return x * noise, (noise,)


gaussian_dropout_backward = dropout_backward


def alpha_dropout_forward(x: Array, dropout_param: Mapping[str, Any]) -> tuple[Array, tuple]:
    """Dropout to SELU's floor, scaled so that mean 0 and variance 1 stay.

    Args:
        dropout_param: see `dropout_forward`.

    >>> import numpy as np
    >>> alpha_dropout_forward(np.ones(2), {"mode": "test", "keep": 0.9})[0]
    array([1., 1.])
    """
    training, keep = read(dropout_param)
    if not training:
        return x, (1.0,)
    scale = 1 / sqrt(keep + FLOOR**2 * keep * (1 - keep))
    stays = _stays(x, x.shape, keep, dropout_param)
    return scale * (x * stays + FLOOR * (1 - stays)) - scale * FLOOR * (1 - keep), (scale * stays,)


alpha_dropout_backward = dropout_backward


def read(dropout_param: Mapping[str, Any]) -> tuple[bool, float]:
    """Whether this is training, and the share that stays; seeds NumPy's global generator where `seed` says so.

    Raises:
        UserError: another mode, an unknown word, no share or more than one, or one outside of 0 to 1.

    >>> read({"mode": "train", "drop": 0.25})
    (True, 0.75)
    """
    for name in dropout_param:
        if name not in SETTINGS:
            raise unknown("dropout_param", name, SETTINGS)
    if dropout_param["mode"] not in ("train", "test"):
        raise unknown("mode", dropout_param["mode"], ("train", "test"))
    shares = [name for name in ("p", "keep", "drop") if name in dropout_param]
    if len(shares) != 1:
        raise UserError(
            f"dropout with {' and '.join(shares) or 'no share'}",
            allowed="one of keep, drop, or the course's p, which is the share that stays",
        )
    value = dropout_param[shares[0]]
    keep = share(1 - value if shares[0] == "drop" else value, "the share that dropout keeps")
    if dropout_param.get("seed") is not None:
        if "rng" in dropout_param:
            raise UserError("dropout with a seed and a generator", allowed="one of them", then="rng=default_rng(seed)")
        np.random.seed(dropout_param["seed"])  # noqa: NPY002  the course's way; rng is the one without side effects
    return dropout_param["mode"] == "train", keep


def _stays(x: Array, shape: tuple[int, ...], keep: float, dropout_param: Mapping[str, Any]) -> Array:
    """Ones with probability `keep`, zeros otherwise."""
    rng = dropout_param.get("rng", np.random)
    return like(x, (rng.random(tuple(shape)) < keep).astype(np.float64))
