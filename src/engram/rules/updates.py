"""Steps with one rate for all weights: plain gradient descent and momentum.

The idea: go against the gradient. Where a valley is steep across and flat along, plain steps swing from wall to wall;
a velocity adds up what they agree on and cancels the rest.

    sgd          w <- w - α g
    momentum     v <- ρ v - α g,   w <- w + v           v starts at 0, ρ = 0.9 or 0.99 is what friction leaves of it

The rate stands inside the velocity, as in the course. torch keeps b <- ρ b + g and w <- w - α b instead: the same path
while α is constant, another one as soon as a schedule changes it, since a velocity remembers the rates it was built
with and b does not. Where gradients agree, momentum is 1 / (1 - ρ) times as fast.

Every rule here has the course's form, (w, dw, config) -> next_w, config; the state lives in `config`, the course's keys
and defaults. It belongs to one parameter: give each its own.

Helps: with a schedule still the best there is for convolutional networks. Hurts: one rate for all weights needs
gradients of one size, so sensible initial weights or normalisation.

Polyak 1964 (heavy ball); Sutskever et al. 2013, equations 1 and 2; Stanford CS231n, notes on neural networks 3,
"Parameter updates", and assignment 2, `sgd` and `sgd_momentum`.
"""

from array_api_compat import array_namespace

from engram.rules.arrays import Array
from engram.rules.settings import Config, completed


def sgd(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """One step against the gradient.

    Args:
        w: weights of any shape.
        dw: their gradient.
        config: learning_rate (1e-2).

    Returns:
        the new weights, and config.

    Raises:
        UserError: a word in config that is not known, or a rate below 0.

    >>> import numpy as np
    >>> sgd(np.array([1.0]), np.array([2.0]), {"learning_rate": 0.25})
    (array([0.5]), {'learning_rate': 0.25})
    """
    config = completed(config, {"learning_rate": 1e-2})
    return w - config["learning_rate"] * dw, config


def sgd_momentum(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """One step of a velocity that friction slows and the gradient pushes.

    Args:
        w: weights of any shape.
        dw: their gradient.
        config: learning_rate (1e-2), momentum (0.9); keeps velocity.

    Returns:
        the new weights, and config.

    Raises:
        UserError: as for `sgd`.

    >>> import numpy as np
    >>> w, config = sgd_momentum(np.array([1.0]), np.array([2.0]), {"learning_rate": 0.25})
    >>> sgd_momentum(w, np.array([0.0]), config)[0].round(3)
    array([0.05])
    """
    config = completed(config, {"learning_rate": 1e-2, "momentum": 0.9}, ("velocity",))
    velocity = config.get("velocity")
    velocity = array_namespace(w).zeros_like(w) if velocity is None else velocity
    config["velocity"] = config["momentum"] * velocity - config["learning_rate"] * dw
    return w + config["velocity"], config
