"""Local response normalisation: a unit is held down by the activity of its neighbours.

The idea, from the retina's lateral inhibition: of several channels that answer at one place, let the strongest stand
out. Each value is divided by a power of the energy around it:

    s_i = k + α Σ_{j near i} a_j²,   b_i = a_i / s_i^β
    da_i = db_i s_i^−β − 2 α β a_i Σ_{j near i} db_j a_j s_j^(−β−1)

"Near" are the n channels around i at the same place (`across`), cut off at the first and last channel, or the n x n
places around it in the same channel (`within`). Both neighbourhoods are symmetric, so the way back sums over the same
window as the way forward.

The paper's constants: k = 2, n = 5, α = 1e-4, β = 0.75, after the ReLU and before pooling. α multiplies the sum. torch
and Caffe divide α by n, so the paper's layer is torch's `LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)`; with
alpha=1e-4 it is wrong by a factor of five (BVLC/caffe#1453, pytorch#4667). `within` keeps the paper's sum too, where
Caffe takes the mean over n².

It was worth 1.4 points in AlexNet; VGG found it useless (10.4 with it as without), and batch normalisation replaced it.

Krizhevsky, Sutskever, Hinton 2012, section 3.3; Simonyan and Zisserman 2015, arXiv:1409.1556, section 4.1.
"""

from collections.abc import Mapping
from typing import Any

from array_api_compat import array_namespace

from engram.errors import UserError, unknown
from engram.rules.arrays import Array, pad

DEFAULTS: dict[str, Any] = {"n": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0, "region": "across"}


def lrn_forward(x: Array, lrn_param: Mapping[str, Any] | None = None) -> tuple[Array, tuple]:
    """Divide each value by a power of its neighbourhood's energy.

    Args:
        x: (N, C, *S).
        lrn_param: n, odd; alpha; beta; k; region "across" channels or "within" one. The paper's where left out.

    Returns:
        out like x, and the cache.

    Raises:
        UserError: an unknown setting or region, or a neighbourhood that has no middle.

    >>> import numpy as np
    >>> lrn_forward(np.array([[[1.0], [1.0]]]), {"n": 3, "alpha": 1.0, "beta": 1.0, "k": 0.0})[0].tolist()
    [[[0.5], [0.5]]]
    """
    given = lrn_param or {}
    for name in given:
        if name not in DEFAULTS:
            raise unknown("lrn_param", name, DEFAULTS)
    setting = {**DEFAULTS, **given}
    if setting["region"] not in ("across", "within"):
        raise unknown("region", setting["region"], ("across", "within"))
    if setting["n"] < 1 or setting["n"] % 2 == 0:
        raise UserError(f"lrn: a neighbourhood of {setting['n']} has no middle", allowed="1, 3, 5, ...")
    energy = setting["k"] + setting["alpha"] * _neighbourhood(x**2, setting)
    return x * energy ** -setting["beta"], (x, energy, setting)


def lrn_backward(dout: Array, cache: tuple) -> Array:
    """A value's own gradient, less what it took from its neighbours.

    >>> import numpy as np
    >>> _, cache = lrn_forward(np.array([[[3.0]]]), {"n": 1, "alpha": 0.0, "beta": 1.0, "k": 2.0})
    >>> lrn_backward(np.array([[[1.0]]]), cache)
    array([[[0.5]]])
    """
    x, energy, setting = cache
    alpha, beta = setting["alpha"], setting["beta"]
    taken = _neighbourhood(dout * x * energy ** (-beta - 1), setting)
    return dout * energy**-beta - 2 * alpha * beta * x * taken


def _neighbourhood(x: Array, setting: Mapping[str, Any]) -> Array:
    """Sums over the window around each value."""
    reach = setting["n"] // 2
    for axis in [1] if setting["region"] == "across" else range(2, x.ndim):
        last = array_namespace(x).moveaxis(x, axis, -1)
        wide = pad(last, [(reach, reach)])
        total = sum(wide[..., start : start + last.shape[-1]] for start in range(setting["n"]))
        x = array_namespace(x).moveaxis(total, -1, axis)
    return x
