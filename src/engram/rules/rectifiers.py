"""Rectifiers: let positive inputs through as they are, and differ in what they leave of the negative ones.

The idea: a unit that passes x > 0 unchanged has derivative 1 there, so gradients neither shrink nor grow on the way
back, however deep the network; the sigmoid lets at most a quarter through.

    ReLU         max(0, x)                         d = 1[x > 0]
    ReLU6        min(6, max(0, x))                 d = 1[0 < x < 6]
    Leaky ReLU   x or α x, α = 0.01                d = 1 or α
    PReLU        x or a_c x, a_c learned           d = 1 or a_c;  ∂/∂a_c = Σ min(0, x) · dout
    ELU          x or α (eˣ − 1), α = 1            d = 1 or α eˣ
    SELU         λ · ELU, λ = 1.0507, α = 1.6733   keeps mean 0 and variance 1 through many layers

ReLU does not saturate for x > 0 but can die: a unit that is negative for every example has gradient zero forever,
as up to 40 % of them do under too high a learning rate. Leaky ReLU, PReLU and the exponential kinds keep a way back;
ELU and SELU push means towards zero and cost an exponential. The papers' settings: PReLU begins at a = 0.25, one for
each channel, without weight decay; SELU wants LeCun's initial weights and alpha dropout.

At x = 0 itself every derivative here is that of the negative side, as in torch (ReLU: 0).

Nair and Hinton 2010, section 2; Maas et al. 2013, section 2; He et al. 2015, arXiv:1502.01852, section 2.1;
Clevert et al. 2016, arXiv:1511.07289, equation 15; Klambauer et al. 2017, arXiv:1706.02515, equation 2.
"""

from array_api_compat import array_namespace

from engram.rules.arrays import Array

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


def relu_forward(x: Array) -> tuple[Array, Array]:
    """The positive part, max(0, x), of any shape.

    >>> import numpy as np
    >>> relu_forward(np.array([-1.0, 2.0]))[0]
    array([0., 2.])
    """
    xp = array_namespace(x)
    return xp.maximum(x, xp.zeros_like(x)), x


def relu_backward(dout: Array, cache: Array) -> Array:
    """The upstream gradient where the input was positive.

    >>> import numpy as np
    >>> relu_backward(np.array([3.0, 3.0]), np.array([-1.0, 2.0]))
    array([0., 3.])
    """
    xp = array_namespace(dout)
    return xp.where(cache > 0, dout, xp.zeros_like(dout))


def relu6_forward(x: Array) -> tuple[Array, Array]:
    """ReLU that is cut off at six.

    >>> import numpy as np
    >>> relu6_forward(np.array([-1.0, 2.0, 9.0]))[0]
    array([0., 2., 6.])
    """
    return array_namespace(x).clip(x, 0.0, 6.0), x


def relu6_backward(dout: Array, cache: Array) -> Array:
    """The upstream gradient where the input lay between 0 and 6."""
    xp = array_namespace(dout)
    return xp.where((cache > 0) & (cache < 6), dout, xp.zeros_like(dout))


def leaky_relu_forward(x: Array, alpha: float = 0.01) -> tuple[Array, tuple]:
    """ReLU that lets `alpha` of the negative inputs through.

    >>> import numpy as np
    >>> leaky_relu_forward(np.array([-1.0, 2.0]))[0]
    array([-0.01,  2.  ])
    """
    return array_namespace(x).where(x > 0, x, alpha * x), (x, alpha)


def leaky_relu_backward(dout: Array, cache: tuple) -> Array:
    """The upstream gradient, times `alpha` where the input was not positive."""
    x, alpha = cache
    return array_namespace(dout).where(x > 0, dout, alpha * dout)


def prelu_forward(x: Array, a: Array) -> tuple[Array, tuple]:
    """Leaky ReLU whose slopes are learned.

    Args:
        x: (N, C, *S).
        a: (C,), a slope for each channel, or (1,), one for all.

    >>> import numpy as np
    >>> prelu_forward(np.array([[-1.0, -1.0]]), np.array([0.25, 0.5]))[0]
    array([[-0.25, -0.5 ]])
    """
    xp = array_namespace(x)
    return xp.where(x > 0, x, _along_channels(a, x) * x), (x, a)


def prelu_backward(dout: Array, cache: tuple) -> tuple[Array, Array]:
    """Gradients of the input and of the slopes: what fell on the negative side, summed.

    >>> import numpy as np
    >>> prelu_backward(np.array([[3.0, 1.0]]), (np.array([[-2.0, 5.0]]), np.array([0.25])))[1]
    array([-6.])
    """
    x, a = cache
    xp = array_namespace(dout)
    dx = xp.where(x > 0, dout, _along_channels(a, x) * dout)
    every = xp.minimum(x, xp.zeros_like(x)) * dout  # (N, C, *S)
    da = xp.sum(every, axis=(0, *range(2, x.ndim)))  # (C,)
    return dx, da if a.shape[0] > 1 else xp.sum(da, keepdims=True)


def elu_forward(x: Array, alpha: float = 1.0) -> tuple[Array, tuple]:
    """ReLU with a soft bend down to -alpha.

    >>> import numpy as np
    >>> elu_forward(np.array([-100.0, 2.0]))[0]
    array([-1.,  2.])
    """
    xp = array_namespace(x)
    below = alpha * xp.expm1(xp.minimum(x, xp.zeros_like(x)))  # large inputs never reach the exponential
    return xp.where(x > 0, x, below), (x, alpha)


def elu_backward(dout: Array, cache: tuple) -> Array:
    """The upstream gradient, times alpha eˣ where the input was not positive."""
    x, alpha = cache
    xp = array_namespace(dout)
    return xp.where(x > 0, dout, dout * alpha * xp.exp(xp.minimum(x, xp.zeros_like(x))))


def selu_forward(x: Array) -> tuple[Array, tuple]:
    """ELU scaled so that mean 0 and variance 1 are a fixed point.

    >>> import numpy as np
    >>> selu_forward(np.array([1.0]))[0].round(4)
    array([1.0507])
    """
    out, cache = elu_forward(x, SELU_ALPHA)
    return SELU_SCALE * out, cache


def selu_backward(dout: Array, cache: tuple) -> Array:
    """That of ELU, scaled."""
    return elu_backward(SELU_SCALE * dout, cache)


def _along_channels(a: Array, x: Array) -> Array:
    """(C,) so that it meets the second axis of x."""
    return array_namespace(a).reshape(a, (1, -1, *[1] * (x.ndim - 2))) if x.ndim > 1 else a
