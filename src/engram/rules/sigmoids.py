"""Sigmoids: squash any input into a band, and saturate at both ends.

The idea: a firing rate between "never" and "always". Each derivative can be said by the output alone, so that is all
the forward pass has to remember:

    sigmoid       s = 1 / (1 + e⁻ˣ)                   s' = s (1 − s), at most 1/4
    hard sigmoid  s = min(1, max(0, x/6 + 1/2))       s' = 1/6 between -3 and 3
    log-sigmoid   log s = min(0, x) − log(1 + e⁻ˡˣˡ)  d = 1 − s
    tanh          t = tanh x                          t' = 1 − t², at most 1
    scaled tanh   t = A tanh(S x)                     t' = A S − t² S / A

On the flat ends the derivative is next to nothing (s'(10) = 4.5e-5) and kills even a large upstream gradient:
saturation, a property of a unit's input, at initialisation as at any time, and no sign that a network has converged.
Twenty layers of sigmoids leave 1e-13 of the gradient, of tanh about half. tanh is centred on zero, which the sigmoid
is not, yet saturates as well. Use them as gates and as outputs that are probabilities; elsewhere rectifiers.

LeCun's tanh has A = 1.7159, S = 2/3: f(1) = 1, f(-1) = -1, and the steepest bend of the slope at ±1.
Computed so that no exponential of a large number is ever formed.

LeCun et al. 1998, Efficient BackProp, section 4.4 (scaled tanh); Stanford CS231n, notes on neural networks 1.
"""

from array_api_compat import array_namespace

from engram.rules.arrays import Array

AMPLITUDE, STEEPNESS = 1.7159, 2 / 3


def sigmoid(x: Array) -> Array:
    """1 / (1 + e⁻ˣ) without overflow at either end.

    >>> import numpy as np
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    xp = array_namespace(x)
    small = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1 / (1 + small), small / (1 + small))


def sigmoid_forward(x: Array) -> tuple[Array, Array]:
    """The sigmoid of every value; the cache is the output itself.

    >>> import numpy as np
    >>> sigmoid_forward(np.array([0.0]))[0]
    array([0.5])
    """
    out = sigmoid(x)
    return out, out


def sigmoid_backward(dout: Array, cache: Array) -> Array:
    """Upstream times s (1 − s).

    >>> import numpy as np
    >>> sigmoid_backward(np.array([1.0]), np.array([0.5]))
    array([0.25])
    """
    return dout * cache * (1 - cache)


def hard_sigmoid_forward(x: Array) -> tuple[Array, Array]:
    """A straight line from 0 at -3 to 1 at 3.

    >>> import numpy as np
    >>> hard_sigmoid_forward(np.array([-4.0, 0.0, 4.0]))[0]
    array([0. , 0.5, 1. ])
    """
    return array_namespace(x).clip(x / 6 + 0.5, 0.0, 1.0), x


def hard_sigmoid_backward(dout: Array, cache: Array) -> Array:
    """A sixth of the upstream gradient on the slope, nothing beyond."""
    xp = array_namespace(dout)
    return xp.where((cache > -3) & (cache < 3), dout / 6, xp.zeros_like(dout))


def log_sigmoid_forward(x: Array) -> tuple[Array, Array]:
    """The logarithm of the sigmoid, right where the sigmoid itself rounds to nothing.

    >>> import numpy as np
    >>> log_sigmoid_forward(np.array([-1000.0]))[0]
    array([-1000.])
    """
    xp = array_namespace(x)
    return xp.minimum(x, xp.zeros_like(x)) - xp.log1p(xp.exp(-xp.abs(x))), x


def log_sigmoid_backward(dout: Array, cache: Array) -> Array:
    """Upstream times 1 − s, which is the sigmoid of −x."""
    return dout * sigmoid(-cache)


def tanh_forward(x: Array) -> tuple[Array, Array]:
    """The hyperbolic tangent; the cache is the output itself.

    >>> import numpy as np
    >>> tanh_forward(np.array([0.0]))[0]
    array([0.])
    """
    out = array_namespace(x).tanh(x)
    return out, out


def tanh_backward(dout: Array, cache: Array) -> Array:
    """Upstream times 1 − t²."""
    return dout * (1 - cache**2)


def scaled_tanh_forward(x: Array, amplitude: float = AMPLITUDE, steepness: float = STEEPNESS) -> tuple[Array, tuple]:
    """LeCun's tanh, which takes ±1 to ±1.

    >>> import numpy as np
    >>> scaled_tanh_forward(np.array([1.0]))[0].round(3)
    array([1.])
    """
    out = amplitude * array_namespace(x).tanh(steepness * x)
    return out, (out, amplitude, steepness)


def scaled_tanh_backward(dout: Array, cache: tuple) -> Array:
    """Upstream times A S − t² S / A."""
    out, amplitude, steepness = cache
    return dout * steepness * (amplitude - out**2 / amplitude)
