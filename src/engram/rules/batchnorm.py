"""Batch normalisation: every feature is standardised over the batch, then scaled and shifted as learned.

The idea: a layer learns badly while the distribution of its inputs moves and stretches under it. So standardise each
feature over the batch, inside the graph, and give back by γ and β what the network wants of scale and shift:

    μ = Σ x / N,  σ² = Σ (x − μ)² / N,  x̂ = (x − μ) / √(σ² + ε),  out = γ x̂ + β
    dβ = Σ dout,  dγ = Σ dout x̂,  dx = γ / (N √(σ² + ε)) · (N dout − Σ dout − x̂ Σ dout x̂)

Two ways back stand here: `batchnorm_backward` walks the graph node by node and can show every node's gradient
(`batchnorm_backward_nodes`); `batchnorm_backward_alt` is the closed form. They agree to about 1e-12.

It allows higher learning rates and careless initial weights and regularises a little by the batch's noise; it hurts
where the batch is small or unlike the data at test. At test the running averages stand in for μ and σ², each
r = momentum · r + (1 − momentum) · batch; then the layer is a fixed affine map, and so is its way back.

Where libraries differ: the course's running variance is the biased one and begins at 0, torch's is unbiased (N − 1) and
begins at 1; the course's momentum 0.9 is torch's 0.1. Ours is the course's. `spatial_` counts each place of an image
as one more example. ε = 1e-5. `bn_param` is changed: it holds running_mean and running_var.

Ioffe and Szegedy 2015, arXiv:1502.03167, section 3 and algorithms 1 and 2; Stanford CS231n, assignment 2.
"""

from typing import Any

from array_api_compat import array_namespace

from engram.errors import UserError, unknown
from engram.rules.arrays import Array, zeros
from engram.rules.standardize import EPS


def batchnorm_forward(x: Array, gamma: Array, beta: Array, bn_param: dict[str, Any]) -> tuple[Array, dict[str, Any]]:
    """Standardise each feature over the batch, scale and shift.

    Args:
        x: (N, D).
        gamma, beta: (D,).
        bn_param: mode "train" or "test"; eps 1e-5; momentum 0.9; running_mean and running_var (D,), put there by
            the first call and updated by every call in training.

    Returns:
        out (N, D), and the cache: every node of the graph by name.

    Raises:
        UserError: another mode, or x that is not (N, D).

    >>> import numpy as np
    >>> batchnorm_forward(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1), {"mode": "train"})[0].round(3)
    array([[-1.],
           [ 1.]])
    """
    if x.ndim != 2:
        raise UserError(
            f"batchnorm: an input {tuple(x.shape)}", allowed="(N, D)", then="spatial_batchnorm_forward takes (N, C, *S)"
        )
    mode, eps, momentum = bn_param["mode"], bn_param.get("eps", EPS), bn_param.get("momentum", 0.9)
    if mode not in ("train", "test"):
        raise unknown("mode", mode, ("train", "test"))
    xp = array_namespace(x)
    bn_param.setdefault("running_mean", zeros(x, x.shape[1:]))
    bn_param.setdefault("running_var", zeros(x, x.shape[1:]))
    if mode == "train":
        mean = xp.sum(x, axis=0) / x.shape[0]  # (D,)
        centered = x - mean  # (N, D)
        squared = centered**2
        variance = xp.sum(squared, axis=0) / x.shape[0]  # (D,)
        for name, batch in (("running_mean", mean), ("running_var", variance)):
            bn_param[name] = momentum * bn_param[name] + (1 - momentum) * batch
    else:
        mean, variance = bn_param["running_mean"], bn_param["running_var"]
        centered = x - mean
        squared = centered**2
    deviation = xp.sqrt(variance + eps)  # (D,)
    inverse = 1 / deviation
    normalized = centered * inverse  # (N, D)
    scaled = gamma * normalized
    cache = {
        "mode": mode,
        "gamma": gamma,
        "x": x,
        "mean": mean,
        "centered": centered,
        "squared": squared,
        "variance": variance,
        "deviation": deviation,
        "inverse": inverse,
        "normalized": normalized,
        "scaled": scaled,
    }
    return scaled + beta, cache


def batchnorm_backward(dout: Array, cache: dict[str, Any]) -> tuple[Array, Array, Array]:
    """Gradients along the graph, node by node.

    Args:
        dout: (N, D).

    Returns:
        dx (N, D), dgamma (D,), dbeta (D,).

    >>> import numpy as np
    >>> x = np.array([[1.0], [3.0]])
    >>> _, cache = batchnorm_forward(x, np.ones(1), np.zeros(1), {"mode": "train"})
    >>> [g.round(3).tolist() for g in batchnorm_backward(np.array([[1.0], [2.0]]), cache)]
    [[[-0.0], [0.0]], [1.0], [3.0]]
    """
    nodes = batchnorm_backward_nodes(dout, cache)
    return nodes["x"], nodes["gamma"], nodes["beta"]


def batchnorm_backward_nodes(dout: Array, cache: dict[str, Any]) -> dict[str, Array]:
    """The gradient at every node of the graph, in the order in which they are found.

    Args:
        dout: (N, D).

    Returns:
        gradients by the names of the cache, and `out` and `beta`; each has its node's shape.

    >>> import numpy as np
    >>> _, cache = batchnorm_forward(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1), {"mode": "train"})
    >>> list(batchnorm_backward_nodes(np.ones((2, 1)), cache))[-4:]
    ['squared', 'centered', 'mean', 'x']
    """
    node = cache
    xp = array_namespace(dout)
    count = dout.shape[0]
    d: dict[str, Array] = {"out": dout}
    # out = scaled + beta
    d["beta"] = xp.sum(dout, axis=0)
    d["scaled"] = dout
    # scaled = gamma · normalized
    d["gamma"] = xp.sum(d["scaled"] * node["normalized"], axis=0)
    d["normalized"] = d["scaled"] * node["gamma"]
    # normalized = centered · inverse
    d["inverse"] = xp.sum(d["normalized"] * node["centered"], axis=0)
    through_product = d["normalized"] * node["inverse"]
    # inverse = 1 / deviation
    d["deviation"] = -d["inverse"] / node["deviation"] ** 2
    # deviation = √(variance + ε)
    d["variance"] = d["deviation"] / (2 * node["deviation"])
    if node["mode"] == "test":  # mean and variance are constants
        d["centered"] = through_product
        d["mean"] = -xp.sum(d["centered"], axis=0)
        d["x"] = d["centered"]
        return d
    # variance = Σ squared / N
    d["squared"] = zeros(dout, dout.shape) + d["variance"] / count
    # squared = centered²; centered is used twice, so its two gradients add up
    d["centered"] = through_product + 2 * node["centered"] * d["squared"]
    # centered = x − mean
    d["mean"] = -xp.sum(d["centered"], axis=0)
    # mean = Σ x / N; x is used twice as well
    d["x"] = d["centered"] + d["mean"] / count
    return d


def batchnorm_backward_alt(dout: Array, cache: dict[str, Any]) -> tuple[Array, Array, Array]:
    """The same gradients by the closed form.

    Args:
        dout: (N, D).

    Returns:
        dx (N, D), dgamma (D,), dbeta (D,).

    >>> import numpy as np
    >>> x = np.array([[1.0], [3.0]])
    >>> _, cache = batchnorm_forward(x, np.ones(1), np.zeros(1), {"mode": "train"})
    >>> [g.round(3).tolist() for g in batchnorm_backward_alt(np.array([[1.0], [2.0]]), cache)][1:]
    [[1.0], [3.0]]
    """
    xp = array_namespace(dout)
    normalized, count = cache["normalized"], dout.shape[0]
    dbeta = xp.sum(dout, axis=0)
    dgamma = xp.sum(dout * normalized, axis=0)
    slope = cache["gamma"] * cache["inverse"]  # (D,)
    if cache["mode"] == "test":
        return dout * slope, dgamma, dbeta
    return slope / count * (count * dout - dbeta - normalized * dgamma), dgamma, dbeta


def spatial_batchnorm_forward(
    x: Array, gamma: Array, beta: Array, bn_param: dict[str, Any]
) -> tuple[Array, dict[str, Any]]:
    """Batch normalisation of images: one mean and variance for each channel, over examples and places.

    Args:
        x: (N, C, *S).
        gamma, beta: (C,).
        bn_param: see `batchnorm_forward`.

    Returns:
        out (N, C, *S), and the cache.

    >>> import numpy as np
    >>> x = np.array([[[1.0, 3.0]]])
    >>> spatial_batchnorm_forward(x, np.ones(1), np.zeros(1), {"mode": "train"})[0].round(3)
    array([[[-1.,  1.]]])
    """
    out, cache = batchnorm_forward(_rows(x), gamma, beta, bn_param)
    return _images(out, x.shape), cache


def spatial_batchnorm_backward(dout: Array, cache: dict[str, Any]) -> tuple[Array, Array, Array]:
    """Gradients of an image batch (N, C, *S), of gamma and of beta (C,).

    >>> import numpy as np
    >>> _, cache = spatial_batchnorm_forward(np.array([[[1.0, 3.0]]]), np.ones(1), np.zeros(1), {"mode": "train"})
    >>> spatial_batchnorm_backward(np.array([[[1.0, 2.0]]]), cache)[2]
    array([3.])
    """
    dx, dgamma, dbeta = batchnorm_backward_alt(_rows(dout), cache)
    return _images(dx, dout.shape), dgamma, dbeta


def _rows(x: Array) -> Array:
    """(N, C, *S) to (N S, C)."""
    xp = array_namespace(x)
    return xp.reshape(xp.moveaxis(x, 1, -1), (-1, x.shape[1]))


def _images(rows: Array, shape: tuple[int, ...]) -> Array:
    """(N S, C) back to (N, C, *S)."""
    xp = array_namespace(rows)
    return xp.moveaxis(xp.reshape(rows, (shape[0], *shape[2:], shape[1])), -1, 1)
