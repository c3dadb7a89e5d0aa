"""Nonlinearities by name, and the initial weights that suit each.

A signal keeps its scale through many layers when the variance of the weights makes up for what the nonlinearity takes:

    He       Var(w) = 2 / n_in              half of a ReLU's input is cut off
    Xavier   Var(w) = 2 / (n_in + n_out)    sigmoid and tanh, nearly straight around zero, forward and backward alike
    LeCun    Var(w) = 1 / n_in              SELU, which normalises by itself, and no nonlinearity at all

Sources: He et al. 2015, arXiv:1502.01852, section 2.2; Glorot and Bengio 2010, section 4.2; LeCun et al. 1998,
Efficient BackProp, section 4.6; Klambauer et al. 2017, arXiv:1706.02515.
"""

from collections.abc import Callable

from torch import Tensor, nn

from engram.errors import unknown

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}


def activation(name: str) -> nn.Module:
    """The nonlinearity of that name.

    Raises:
        UserError: the name is not known; the nearest is named.

    >>> activation("leaky_relu")
    LeakyReLU(negative_slope=0.01)
    """
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


def initialize(weight: Tensor, before: str) -> None:
    """Draw initial weights, in place, for a layer that feeds the activation named `before`.

    Args:
        weight: (out, in, *kernel).

    >>> import torch; layer = nn.Linear(1000, 200); initialize(layer.weight, before="relu")
    >>> round(layer.weight.var().item() * 1000)
    2
    """
    if before in ("tanh", "sigmoid"):
        nn.init.xavier_normal_(weight)
    elif before in ("selu", "identity"):
        nn.init.kaiming_normal_(weight, nonlinearity="linear")
    else:
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
