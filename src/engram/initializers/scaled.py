"""Weights whose variance makes up for the number of connections, so that the signal keeps its scale through depth.

    lecun    Var(w) = 1 / n_in                  forward, no nonlinearity, or one that normalises by itself (SELU)
    xavier   Var(w) = 2 / (n_in + n_out)        a compromise between forward and backward; tanh near zero is straight
    he       Var(w) = gain² / n_in              forward; gain² = 2 for ReLU, which halves the signal's mean square
             Var(w) = gain² / n_out             backward, with `fan=out`

With n inputs of mean square q, a unit has variance n Var(w) q. Asking that layer after layer q stays what it was gives
the rules; asking the same of gradients gives them with n_out. He's two forms differ only by a constant for the whole
network, and either trains. 10 layers of 500 units: xavier under tanh leaves 0.63, 0.32, 0.23 of deviation after layers
1, 5 and 10; under ReLU it falls to 0.023, where he keeps 0.83 to 0.98.

They help any network without normalisation, and cost nothing elsewhere. They hurt residual networks without
normalisation, where the branches add up and the variance doubles a block (see `zero_gamma`), and do not know about
weights that are shared, or sparse by construction.

The papers: xavier uniform with no gain; he normal, the gain by the activation; lecun only the variance. Here each has
both distributions and a `gain` or an `activation` to force. Our `he` gives the layer of scores, which nothing follows,
gain 1. Biases are zero in all.

LeCun et al. 1998, Efficient BackProp, equation 16; Glorot and Bengio 2010, equations 12 and 16; He et al. 2015,
arXiv:1502.01852, equations 10 and 14; Klambauer et al. 2017, arXiv:1706.02515 (1/n for SELU).
"""

from torch import Tensor

from engram.grammar import choice, number
from engram.initializers.layers import Given, Rule, fan_in, fan_out, gains, set_weights
from engram.layers.activations import activation as nonlinearity
from engram.registry import register

DISTRIBUTIONS = ("normal", "uniform")
FANS = ("in", "out")


@register("initializer", paper="LeCun, Bottou, Orr, Müller 1998, Efficient BackProp, equation 16", year=1998)
def lecun(*, distribution: str = "normal", gain: float = 1.0) -> Rule:
    """Variance 1 / n_in: keeps a signal that no nonlinearity shrinks; the one for SELU.

    Args:
        distribution: `normal` or `uniform`.
        gain: multiplies every weight.

    >>> from torch import nn; from engram.initializers import apply
    >>> net = nn.Linear(500, 400); _ = apply(net, "lecun"); round(net.weight.var().item() * 500, 1)
    1.0
    """
    choice("lecun", "distribution", distribution, DISTRIBUTIONS)
    scale = number("lecun", "gain", gain, 0, above=True)

    def rule(net, given):
        def draw(name, module, empty):
            return spread(empty, scale**2 / fan_in(module), distribution, given)

        return set_weights(net, given, draw)

    return rule


@register("initializer", paper="Glorot and Bengio 2010, equation 16", year=2010)
def xavier(*, distribution: str = "uniform", gain: float = 1.0) -> Rule:
    """Variance 2 / (n_in + n_out): half for the signal, half for the gradient; the one for tanh and sigmoid.

    Args:
        distribution: `uniform`, as the paper, or `normal`.
        gain: multiplies every weight.

    >>> from torch import nn; from engram.initializers import apply
    >>> net = nn.Linear(500, 300); _ = apply(net, "xavier:normal"); round(net.weight.var().item() * 400, 1)
    1.0
    """
    choice("xavier", "distribution", distribution, DISTRIBUTIONS)
    scale = number("xavier", "gain", gain, 0, above=True)

    def rule(net, given):
        def draw(name, module, empty):
            return spread(empty, scale**2 * 2 / (fan_in(module) + fan_out(module)), distribution, given)

        return set_weights(net, given, draw)

    return rule


@register("initializer", paper="Glorot and Bengio 2010, equation 16", year=2010)
def glorot(*, distribution: str = "uniform", gain: float = 1.0) -> Rule:
    """The same as `xavier`, by its first author's other name.

    >>> from torch import nn; from engram.initializers import apply
    >>> apply(nn.Linear(5, 3), "glorot")
    ['glorot: weights of 1 layer, biases 0']
    """
    return xavier(distribution=distribution, gain=gain)


@register("initializer", paper="He, Zhang, Ren, Sun 2015, arXiv:1502.01852, section 2.2", year=2015)
def he(*, fan: str = "in", distribution: str = "normal", activation: str | None = None) -> Rule:
    """Variance gain² / n_in, the gain by the nonlinearity that follows; the one for ReLU and its kin.

    Args:
        fan: `in` keeps the signal's scale, `out` the gradient's.
        distribution: `normal`, as the paper, or `uniform`.
        activation: what follows every layer but the scores, where it is not to be read off the modules.

    >>> from torch import nn; from engram.initializers import apply
    >>> net = nn.Sequential(nn.Conv2d(50, 40, 3), nn.ReLU(), nn.Conv2d(40, 9, 3)); _ = apply(net, "he")
    >>> round(net[0].weight.var().item() * 450, 1)
    2.0
    """
    choice("he", "fan", fan, FANS)
    choice("he", "distribution", distribution, DISTRIBUTIONS)
    if activation is not None:
        nonlinearity(activation)
    connections = fan_in if fan == "in" else fan_out

    def rule(net, given):
        scale = gains(net, given, activation)

        def draw(name, module, empty):
            return spread(empty, scale[name] ** 2 / connections(module), distribution, given)

        return set_weights(net, given, draw)

    return rule


def spread(empty: Tensor, variance: float, distribution: str, given: Given) -> Tensor:
    """Values of mean 0 and that variance, in place: normal, or uniform between plus and minus sqrt(3 variance)."""
    if distribution == "normal":
        return empty.normal_(0, variance**0.5, generator=given.rng)
    reach = (3 * variance) ** 0.5
    return empty.uniform_(-reach, reach, generator=given.rng)
