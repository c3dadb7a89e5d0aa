"""DropConnect: connections are left out at random while training, and not whole units.

The idea: dropout silences a unit for all it feeds; DropConnect cuts single weights, each example its own set, and so
averages over far more networks. A weight that was cut is not destroyed: it is back at the next step, and gets no
gradient from this one.

    train   out_n = x_n (M_n ∘ w) / keep + b,  M_n = 1[u < keep]      dw = Σ_n x_nᵀ dout_n ∘ M_n / keep
    test    out = x w + b, the mean                                    dx_n = dout_n (M_n ∘ w)ᵀ / keep

At test the mean alone is a rough average, because a nonlinearity follows. The paper instead takes the sum over many
random connections as normal, with the mean and the variance that it has, draws from it and averages what comes out of
the nonlinearity: `dropconnect_inference`,

    u ~ N(x w, (1 − keep) / keep · x² w²),   out = mean a(u + b)

It suits large fully connected layers; the masks cost N · in · out numbers, so one mask for a whole batch ("batch") is
offered too, noisier. What EfficientNet calls drop_connect is stochastic depth under a wrong name (tensorflow/tpu#494).

The paper's settings: keep 0.5. Where we differ: scaled while training (inverted), so that weights need no change at
test, with the mean and variance above scaled likewise; and the bias is never cut.

Wan, Zeiler, Zhang, LeCun, Fergus 2013, Regularization of neural networks using DropConnect, section 3 and algorithm 2.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from engram.errors import UserError, unknown
from engram.rules.affine import affine_forward
from engram.rules.arrays import Array, like, share
from engram.rules.dropout import read


def dropconnect_forward(x: Array, w: Array, b: Array, dropconnect_param: Mapping[str, Any]) -> tuple[Array, tuple]:
    """An affine layer with connections cut at random.

    Args:
        x: (N, in).
        w: (in, out).
        b: (out,).
        dropconnect_param: as for dropout (mode; keep, drop or p; rng or seed), and `mask`, "sample" for a set of cuts
            for each example, which is what it is without the word, or "batch" for one for all.

    Returns:
        out (N, out), and the cache.

    Raises:
        UserError: settings that are not known or do not go together.

    >>> import numpy as np
    >>> param = {"mode": "train", "keep": 0.5, "rng": np.random.default_rng(0)}
    >>> dropconnect_forward(np.ones((2, 3)), np.ones((3, 1)), np.zeros(1), param)[0]
    array([[4.],
           [2.]])
    """
    given = dict(dropconnect_param)
    kind = given.pop("mask", "sample")
    if kind not in ("sample", "batch"):
        raise unknown("mask", kind, ("sample", "batch"))
    training, keep = read(given)
    examples = x.shape[0] if kind == "sample" and training else 1
    mask = array_namespace(w).ones_like(w)[None]  # (1, in, out)
    if training:
        draws = given.get("rng", np.random).random((examples, *w.shape))
        mask = like(w, (draws < keep).astype(np.float64)) / keep  # (N or 1, in, out)
    return (x[:, None] @ (mask * w))[:, 0] + b, (x, w, mask)


def dropconnect_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """Gradients of the input, the weights and the bias, through the connections that were there.

    Args:
        dout: (N, out).

    >>> import numpy as np
    >>> cache = (np.array([[2.0, 3.0]]), np.ones((2, 1)), np.array([[[2.0], [0.0]]]))
    >>> [g.tolist() for g in dropconnect_backward(np.array([[10.0]]), cache)]
    [[[20.0, 0.0]], [[40.0], [0.0]], [10.0]]
    """
    x, w, mask = cache
    xp = array_namespace(dout)
    dx = (dout[:, None] @ xp.matrix_transpose(mask * w))[:, 0]
    each = x[:, :, None] * dout[:, None, :]  # (N, in, out)
    return dx, xp.sum(each * mask, axis=0), xp.sum(dout, axis=0)


def dropconnect_inference(
    x: Array,
    w: Array,
    b: Array,
    keep: float,
    activation: Callable[[Array], Array],
    *,
    samples: int = 1000,
    rng: np.random.Generator,
) -> Array:
    """The paper's test: the activation averaged over normal draws that match the sum's mean and variance.

    Args:
        x: (N, in).
        w: (in, out), trained with `dropconnect_forward`.
        b: (out,).
        keep: the share of connections that stayed in training.
        activation: what follows the layer.
        samples: how many draws; the error falls with the root.

    Returns:
        (N, out).

    >>> import numpy as np
    >>> one = np.ones((1, 1))
    >>> dropconnect_inference(one, one, np.zeros(1), 1.0, np.tanh, samples=2, rng=np.random.default_rng(0)).round(3)
    array([[0.762]])
    """
    if samples < 1:
        raise UserError(f"{samples} samples", allowed="at least 1")
    keep = share(keep, "keep")
    xp = array_namespace(x, w)
    mean = affine_forward(x, w, b)[0]
    deviation = xp.sqrt((1 - keep) / keep * (x**2 @ w**2))
    total = xp.zeros_like(mean)
    for _ in range(samples):
        total = total + activation(mean + deviation * like(x, rng.standard_normal(tuple(mean.shape))))
    return total / samples
