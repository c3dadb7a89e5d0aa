"""Steps that know the curvature: Newton, and BFGS and L-BFGS, which learn it from how the gradient changes.

The idea: a gradient says which way is down and not how far. Divided by the curvature it says both, and on a quadratic
the step ends at the minimum.

    newton   d = -(H + μ I)⁻¹ g                                                       needs the Hessian: n² numbers
    bfgs     d = -B g,   B <- (I - ρ s yᵀ) B (I - ρ y sᵀ) + ρ s sᵀ                    n² numbers, from gradients alone
    lbfgs    d the same from the last m pairs (s, y), by two loops over them          2 m n numbers
    w <- w + α d        s = w - w_before,  y = g - g_before,  ρ = 1 / yᵀs

Of all symmetric B that map y to s the new one is the closest to the old. It stays positive as long as yᵀs is, which a
line search with Wolfe's conditions sees to; without one a pair with yᵀs <= 0 is left out here. BFGS begins with the
identity, scaled to (yᵀs / yᵀy) I once a first pair is known (`scale_first`); L-BFGS begins anew from that at every
step. Before any pair is known there is no scale, and the step is cut to a sum of 1, min(1, 1 / Σ|g|) α, as torch does.

Each call is one step and one gradient. Whoever wants a line search goes along `config["direction"]` and passes the
place found as the next w: s is the step that was really made. With exact searches on a quadratic of n weights BFGS ends
in n steps, with B the inverse Hessian.

Helps: small smooth problems on all data at once. Hurts: on batches, whose noise goes into y; and Newton where the loss
bends down, for there its step goes up: raise μ. Weights of any shape are one vector; n³ operations for Newton.

Nocedal and Wright 2006, Numerical optimization, equations 3.30, 6.17 and 6.20, algorithms 6.1 and 7.4; Liu and Nocedal
1989; Stanford CS231n, notes on neural networks 3, "Second order methods".
"""

from typing import Any

from array_api_compat import array_namespace, device

from engram.errors import UserError
from engram.rules.arrays import Array
from engram.rules.settings import Config, completed

MEMORY = ("before", "gradient_before", "direction")
CURVED = 1e-10


def newton(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """One step to where a parabola through the loss has its minimum.

    Args:
        w: weights of any shape, n of them.
        dw: their gradient.
        config: hessian (n, n), which is needed anew at every step; learning_rate (1), damping (0); keeps direction.

    Returns:
        the new weights, and config.

    Raises:
        UserError: no Hessian, or one of another size; a word in config that is not known; a rate below 0.

    >>> import numpy as np
    >>> w, H = np.array([3.0, -2.0]), np.diag([2.0, 200.0])
    >>> newton(w, H @ (w - 1), {"hessian": H})[0]
    array([1., 1.])
    """
    config = completed(config, {"learning_rate": 1.0, "damping": 0.0}, ("hessian", "direction"))
    xp, g = array_namespace(w), dw.reshape(-1)
    hessian = config.get("hessian")
    n = g.shape[0]
    if hessian is None or tuple(hessian.shape) != (n, n):
        given = "none" if hessian is None else f"one of {tuple(hessian.shape)}"
        raise UserError(f"newton needs a Hessian, and there is {given}", allowed=f'config["hessian"] ({n}, {n})')
    damped = hessian + config["damping"] * xp.eye(n, dtype=w.dtype, device=device(w))
    return _go(w, -xp.linalg.solve(damped, g[:, None])[:, 0], config["learning_rate"], config)


def bfgs(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """One step by an inverse Hessian that is learned on the way.

    Args:
        w: weights of any shape, n of them; where the step before really ended.
        dw: their gradient.
        config: learning_rate (1), scale_first (True); keeps inverse (n, n), direction and the place before.

    Returns:
        the new weights, and config.

    Raises:
        UserError: a word in config that is not known, or a rate below 0.

    >>> import numpy as np
    >>> w, config = np.array([3.0, -2.0]), None
    >>> for _ in range(30):
    ...     w, config = bfgs(w, np.array([2.0, 20.0]) * (w - 1), config)
    >>> w.round(6)
    array([1., 1.])
    """
    config = completed(config, {"learning_rate": 1.0, "scale_first": True}, (*MEMORY, "inverse"))
    xp, g = array_namespace(w), dw.reshape(-1)
    inverse, pair = config.get("inverse"), _pair(w, dw, config)
    if pair is not None:
        s, y = pair
        along = s @ y
        if inverse is None:
            scale = along / (y @ y) if config["scale_first"] else 1.0
            inverse = scale * xp.eye(g.shape[0], dtype=w.dtype, device=device(w))
        through = xp.eye(g.shape[0], dtype=w.dtype, device=device(w)) - s[:, None] * y[None] / along
        inverse = config["inverse"] = through @ inverse @ through.T + s[:, None] * s[None] / along
    _remember(w, dw, config)
    if inverse is None:
        return _go(w, -g, _first(g, config), config)
    return _go(w, -(inverse @ g), config["learning_rate"], config)


def lbfgs(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """One step by the last few pairs of steps and changes of the gradient, without a matrix.

    Args:
        w: weights of any shape; where the step before really ended.
        dw: their gradient.
        config: learning_rate (1), history_size (10); keeps pairs, direction and the place before.

    Returns:
        the new weights, and config.

    Raises:
        UserError: a word in config that is not known, a rate below 0, or no history.

    >>> import numpy as np
    >>> w, config = np.array([3.0, -2.0]), None
    >>> for _ in range(30):
    ...     w, config = lbfgs(w, np.array([2.0, 20.0]) * (w - 1), config)
    >>> w.round(6)
    array([1., 1.])
    """
    config = completed(config, {"learning_rate": 1.0, "history_size": 10}, (*MEMORY, "pairs"))
    if config["history_size"] < 1:
        raise UserError(f"history_size is {config['history_size']!r}", allowed="1 or more")
    pairs, pair, g = config.get("pairs", []), _pair(w, dw, config), dw.reshape(-1)
    if pair is not None:
        pairs = [*pairs, pair][-config["history_size"] :]
    config["pairs"] = pairs
    _remember(w, dw, config)
    if not pairs:
        return _go(w, -g, _first(g, config), config)
    return _go(w, -_two_loops(g, pairs), config["learning_rate"], config)


def _two_loops(g: Array, pairs: list[tuple[Array, Array]]) -> Array:
    """B g without B: newest to oldest pair, the scale of the newest, and back."""
    shares = []
    for s, y in reversed(pairs):
        shares.append((s @ g) / (y @ s))
        g = g - shares[-1] * y
    s, y = pairs[-1]
    r = (s @ y) / (y @ y) * g
    for (s, y), share in zip(pairs, reversed(shares), strict=True):
        r = r + s * (share - (y @ r) / (y @ s))
    return r


def _pair(w: Array, dw: Array, config: Config) -> tuple[Array, Array] | None:
    """The step before and the change of the gradient over it; None at first, or where it does not bend up."""
    if config.get("before") is None:
        return None
    s = (w - config["before"]).reshape(-1)
    y = (dw - config["gradient_before"]).reshape(-1)
    return (s, y) if float(s @ y) > CURVED * float(s @ s) ** 0.5 * float(y @ y) ** 0.5 else None


def _remember(w: Array, dw: Array, config: Config) -> None:
    config["before"], config["gradient_before"] = w, dw


def _first(g: Array, config: Config) -> Any:
    """The rate where no scale is known."""
    total = float(array_namespace(g).sum(abs(g)))
    return config["learning_rate"] * (min(1.0, 1.0 / total) if total else 1.0)


def _go(w: Array, direction: Array, rate: Any, config: Config) -> tuple[Array, Config]:
    config["direction"] = direction.reshape(w.shape)
    return w + rate * config["direction"], config
