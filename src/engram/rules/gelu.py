"""GELU and SiLU: the input times the probability that it is let through.

The idea: ReLU multiplies x by 0 or 1 according to its sign. These multiply it by a smooth share that grows with x: the
chance Φ(x) that a standard normal number is smaller (GELU), or the sigmoid (SiLU, also called Swish with β = 1). Both
dip a little below zero before they rise, and are smooth everywhere.

    GELU        x Φ(x),  Φ(x) = ½ (1 + erf(x / √2))               d = Φ(x) + x φ(x),  φ(x) = e^(−x²/2) / √(2π)
    GELU tanh   ½ x (1 + t),  t = tanh(√(2/π) (x + 0.044715 x³))  d = ½ (1 + t) + ½ x (1 − t²) √(2/π) (1 + 0.134145 x²)
    Swish       x s(β x)                                          d = s + β x s (1 − s)

They are what transformers and recent convolutional networks use; in the small networks of these notes ReLU does as
well and costs a fraction. The tanh form was made when erf was slow, and differs from the exact one by less than 5e-4:
a network trained with one should be run with the same. Both stand here because both are in use.

Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2; Ramachandran et al. 2017, arXiv:1710.05941, section 3 (Swish).
"""

from math import pi, sqrt

from array_api_compat import array_namespace

from engram.errors import unknown
from engram.rules.arrays import Array, erf
from engram.rules.sigmoids import sigmoid

CUBIC = 0.044715


def gelu_forward(x: Array, approximate: str = "none") -> tuple[Array, tuple]:
    """The Gaussian error linear unit.

    Args:
        approximate: "none" for the exact form, "tanh" for the approximation, as torch calls them.

    Raises:
        UserError: another word.

    >>> import numpy as np
    >>> gelu_forward(np.array([-1.0, 1.0]))[0].round(4)
    array([-0.1587,  0.8413])
    """
    if approximate not in ("none", "tanh"):
        raise unknown("approximate", approximate, ("none", "tanh"))
    xp = array_namespace(x)
    if approximate == "tanh":
        return 0.5 * x * (1 + xp.tanh(sqrt(2 / pi) * (x + CUBIC * x**3))), (x, approximate)
    return 0.5 * x * (1 + erf(x / sqrt(2))), (x, approximate)


def gelu_backward(dout: Array, cache: tuple) -> Array:
    """Upstream times the derivative of the form that went forward.

    >>> import numpy as np
    >>> gelu_backward(np.array([1.0]), (np.array([0.0]), "none"))
    array([0.5])
    """
    x, approximate = cache
    xp = array_namespace(x)
    if approximate == "tanh":
        t = xp.tanh(sqrt(2 / pi) * (x + CUBIC * x**3))
        return dout * (0.5 * (1 + t) + 0.5 * x * (1 - t**2) * sqrt(2 / pi) * (1 + 3 * CUBIC * x**2))
    share = 0.5 * (1 + erf(x / sqrt(2)))
    return dout * (share + x * xp.exp(-(x**2) / 2) / sqrt(2 * pi))


def swish_forward(x: Array, beta: float = 1.0) -> tuple[Array, tuple]:
    """The input times its own sigmoid; SiLU at beta 1.

    >>> import numpy as np
    >>> swish_forward(np.array([0.0, 100.0]))[0]
    array([  0., 100.])
    """
    gate = sigmoid(beta * x)
    return x * gate, (x, gate, beta)


def swish_backward(dout: Array, cache: tuple) -> Array:
    """Upstream times s + β x s (1 − s)."""
    x, gate, beta = cache
    return dout * (gate + beta * x * gate * (1 - gate))
