"""Steps with a rate for each weight: AdaGrad, Adadelta, RMSProp, Adam and AdamW.

The idea: divide each weight's gradient by how large its gradients have been, so that steep and flat directions move
alike. The methods differ in how they remember:

    adagrad    s <- s + g²                        w <- w - α g / (√s + ε)                    a sum, which only grows
    rmsprop    s <- γ s + (1 - γ) g²              w <- w - α g / (√s + ε)                    a mean that forgets
    adadelta   s as rmsprop;  d = √(u + ε) / √(s + ε) g;  u <- ρ u + (1 - ρ) d²;  w <- w - α d    steps in units of w
    adam       m <- β₁ m + (1 - β₁) g,  v <- β₂ v + (1 - β₂) g²,  m̂ = m / (1 - β₁ᵗ),  v̂ = v / (1 - β₂ᵗ)
               w <- w - α m̂ / (√v̂ + ε)            t counts from 1 and is raised before it is used
    adamw      w <- w - α λ w first, then adam     decay beside the step, not through √v̂

AdaGrad's steps fall as 1/√t, on purpose, for convex problems; networks stop on the way, hence the means that forget.
Adam's means start at 0 and would be too small at first, v by a thousand, m by ten: without the correction
(`bias_correction` False) the first step is (1 - β₁) / √(1 - β₂) = 3.16 α for β₂ = 0.999, and the twelfth 6.57 α; with
the 0.99 that is sometimes quoted it would be 1.0 α. None of them anneals: with a constant rate all keep bouncing.

Keys and defaults are the course's where the course has the rule: rmsprop decay_rate 0.99, epsilon 1e-8; adam beta1 0.9,
beta2 0.999, epsilon 1e-8, rate 1e-3. AdaGrad's ε is the lecture's 1e-7. Adadelta's ρ is the paper's 0.95.

In 2015 the course's rmsprop had ε under the root, √(s + ε), as TensorFlow's has: `epsilon_inside`. Steps for tiny
gradients, which √s + ε lets be large, are smaller then.

Duchi, Hazan, Singer 2011, figure 1; Zeiler 2012, arXiv:1212.5701, algorithm 1; Tieleman and Hinton 2012, lecture 6.5;
Graves 2013, arXiv:1308.0850, equations 38 to 45 (centred, with momentum); Kingma and Ba 2015, arXiv:1412.6980,
algorithm 1; Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2; Stanford CS231n, assignment 2, `rmsprop` and
`adam`.
"""

from array_api_compat import array_namespace

from engram.rules.arrays import Array
from engram.rules.settings import Config, completed

RMSPROP = {
    "learning_rate": 1e-2,
    "decay_rate": 0.99,
    "epsilon": 1e-8,
    "epsilon_inside": False,
    "centered": False,
    "momentum": 0.0,
}
ADAM = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "bias_correction": True}


def adagrad(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """A rate for each weight, over the root of the sum of its squared gradients.

    Args:
        w: weights of any shape.
        dw: their gradient.
        config: learning_rate (1e-2), epsilon (1e-7); keeps cache, the sum.

    Returns:
        the new weights, and config.

    Raises:
        UserError: a word in config that is not known, or a rate below 0.

    >>> import numpy as np
    >>> w, config = adagrad(np.array([1.0]), np.array([5.0]), {"learning_rate": 0.1})
    >>> w.round(4), adagrad(w, np.array([5.0]), config)[0].round(4)
    (array([0.9]), array([0.8293]))
    """
    config = completed(config, {"learning_rate": 1e-2, "epsilon": 1e-7}, ("cache",))
    cache = config["cache"] = _kept(config, "cache", w) + dw**2
    return w - config["learning_rate"] * dw / (cache**0.5 + config["epsilon"]), config


def adadelta(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """AdaGrad whose sum fades, times the size of the steps it has made: no rate has to be found.

    Args:
        w: weights of any shape.
        dw: their gradient.
        config: learning_rate (1), rho (0.95), epsilon (1e-6); keeps cache, of gradients, and steps, of steps.

    Returns:
        the new weights, and config.

    Raises:
        UserError: as for `adagrad`.

    >>> import numpy as np
    >>> adadelta(np.array([1.0]), np.array([5.0]), {"rho": 0.75, "epsilon": 1e-4})[0].round(4)
    array([0.98])
    """
    config = completed(config, {"learning_rate": 1.0, "rho": 0.95, "epsilon": 1e-6}, ("cache", "steps"))
    rho, epsilon, steps = config["rho"], config["epsilon"], _kept(config, "steps", w)
    cache = config["cache"] = rho * _kept(config, "cache", w) + (1 - rho) * dw**2
    step = (steps + epsilon) ** 0.5 / (cache + epsilon) ** 0.5 * dw
    config["steps"] = rho * steps + (1 - rho) * step**2
    return w - config["learning_rate"] * step, config


def rmsprop(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """A rate for each weight, over the root of a fading mean of its squared gradients.

    Args:
        w: weights of any shape.
        dw: their gradient.
        config: learning_rate (1e-2), decay_rate (0.99), epsilon (1e-8), epsilon_inside (False: √s + ε, not
            √(s + ε)), centered (False: less the squared mean gradient), momentum (0: of the steps); keeps
            cache, and mean and velocity where they are used.

    Returns:
        the new weights, and config.

    Raises:
        UserError: as for `adagrad`.

    >>> import numpy as np
    >>> rmsprop(np.array([1.0]), np.array([5.0]), {"decay_rate": 0.75})[0].round(4)
    array([0.98])
    """
    config = completed(config, RMSPROP, ("cache", "mean", "velocity"))
    decay, epsilon = config["decay_rate"], config["epsilon"]
    spread = config["cache"] = decay * _kept(config, "cache", w) + (1 - decay) * dw**2
    if config["centered"]:
        config["mean"] = decay * _kept(config, "mean", w) + (1 - decay) * dw
        spread = spread - config["mean"] ** 2
    step = dw / ((spread + epsilon) ** 0.5 if config["epsilon_inside"] else spread**0.5 + epsilon)
    if config["momentum"]:
        step = config["velocity"] = config["momentum"] * _kept(config, "velocity", w) + step
    return w - config["learning_rate"] * step, config


def adam(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Momentum and a rate for each weight, both corrected for having started at 0.

    Args:
        w: weights of any shape.
        dw: their gradient.
        config: learning_rate (1e-3), beta1 (0.9), beta2 (0.999), epsilon (1e-8), bias_correction (True); keeps m, v
            and t, the number of steps taken.

    Returns:
        the new weights, and config.

    Raises:
        UserError: as for `adagrad`.

    >>> import numpy as np
    >>> [adam(np.array([1.0]), np.array([5.0]), {"bias_correction": on})[0].round(5) for on in (True, False)]
    [array([0.999]), array([0.99684])]
    """
    config = completed(config, ADAM, ("m", "v", "t"))
    beta1, beta2 = config["beta1"], config["beta2"]
    t = config["t"] = config.get("t", 0) + 1
    m = config["m"] = beta1 * _kept(config, "m", w) + (1 - beta1) * dw
    v = config["v"] = beta2 * _kept(config, "v", w) + (1 - beta2) * dw**2
    if config["bias_correction"]:
        m, v = m / (1 - beta1**t), v / (1 - beta2**t)
    return w - config["learning_rate"] * m / (v**0.5 + config["epsilon"]), config


def adamw(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Adam beside a decay that does not pass through its division.

    Args:
        w: weights of any shape.
        dw: their gradient, without the decay's part.
        config: as for `adam`, and weight_decay (1e-2), which the rate multiplies.

    Returns:
        the new weights, and config.

    Raises:
        UserError: as for `adagrad`.

    >>> import numpy as np
    >>> adamw(np.array([1.0]), np.array([0.0]), {"learning_rate": 0.1, "weight_decay": 0.5})[0]
    array([0.95])
    """
    config = {} if config is None else config
    decay = config.pop("weight_decay", 1e-2)
    try:
        completed(config, ADAM, ("m", "v", "t"))
        return adam(w - config["learning_rate"] * decay * w, dw, config)
    finally:
        config["weight_decay"] = decay


def _kept(config: Config, name: str, w: Array) -> Array:
    """State from the call before; zeros at the first."""
    value = config.get(name)
    return array_namespace(w).zeros_like(w) if value is None else value
