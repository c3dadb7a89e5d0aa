"""Nesterov's momentum in its three forms, which walk the same path.

The idea: the velocity is about to carry the weights to w + ρ v anyway, so ask for the gradient there and not where they
stand. A step that is about to go too far is corrected before it is taken.

    look_ahead   v <- ρ v - α g(w + ρ v),   w <- w + v                            as published
    rewritten    v' = ρ v - α g(x),   x <- x - ρ v + (1 + ρ) v',   v <- v'        the course's notes; x = w + ρ v
    torch        b <- ρ b + g(x),   x <- x - α (g(x) + ρ b)                       v = -α b

The first needs a gradient at a place that is not where the weights are: `look_ahead` names it. The second keeps that
place x as the weights, so that any loop that takes a gradient at the weights will do; what it holds in the end is
ahead of the published weights by ρ v, which goes to 0. The third is the second with the rate taken out of the
velocity, and differs once the rate changes. From w = 1 on w², with α = 0.1 and ρ = 0.9, three steps lead all of them to
x = -0.108352.

Helps: a little steadier than momentum at the same rate, for nothing. On convex problems the best that gradients can do
(an error that falls as 1/t² rather than 1/t); on networks with noisy gradients no such promise.

Nesterov 1983; Sutskever et al. 2013, equations 3 and 4; Bengio et al. 2013, arXiv:1212.0901, equations 6 and 7;
Stanford CS231n, notes on neural networks 3, "Nesterov Momentum".
"""

from array_api_compat import array_namespace

from engram.errors import unknown
from engram.rules.arrays import Array
from engram.rules.settings import Config, completed

FORMS = ("rewritten", "look_ahead", "torch")


def nesterov(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """One step of momentum that looks ahead.

    Args:
        w: weights of any shape.
        dw: the gradient at w; in the form `look_ahead`, at `look_ahead(w, config)`.
        config: learning_rate (1e-2), momentum (0.9), form (`rewritten`); keeps velocity.

    Returns:
        the new weights, and config.

    Raises:
        UserError: a word in config that is not known, another form, or a rate below 0.

    >>> import numpy as np
    >>> w, config = np.array([1.0]), {"learning_rate": 0.1}
    >>> for _ in range(3):
    ...     w, config = nesterov(w, 2 * w, config)
    >>> w.round(6)
    array([-0.108352])
    """
    config = completed(config, {"learning_rate": 1e-2, "momentum": 0.9, "form": "rewritten"}, ("velocity",))
    if config["form"] not in FORMS:
        raise unknown("form", config["form"], FORMS)
    rate, momentum, before = config["learning_rate"], config["momentum"], config.get("velocity")
    before = array_namespace(w).zeros_like(w) if before is None else before
    if config["form"] == "torch":
        config["velocity"] = momentum * before + dw
        return w - rate * (dw + momentum * config["velocity"]), config
    velocity = config["velocity"] = momentum * before - rate * dw
    if config["form"] == "look_ahead":
        return w + velocity, config
    return w - momentum * before + (1 + momentum) * velocity, config


def look_ahead(w: Array, config: Config | None = None) -> Array:
    """Where the velocity is about to carry the weights: the place for the gradient of the form `look_ahead`.

    >>> import numpy as np
    >>> w, config = np.array([1.0]), {"learning_rate": 0.1, "form": "look_ahead"}
    >>> for _ in range(3):
    ...     w, config = nesterov(w, 2 * look_ahead(w, config), config)
    >>> look_ahead(w, config).round(6)
    array([-0.108352])
    """
    config = config or {}
    velocity = config.get("velocity")
    return w if velocity is None else w + config.get("momentum", 0.9) * velocity
