"""Weights from one distribution for all layers, however wide they are: the normal, the same without tails, a box.

    normal            w ~ N(0, std²)
    truncated_normal  w ~ N(0, std²) drawn again while |w| > 2 std, which leaves a deviation of 0.88 std
    uniform           w ~ U(-a, a);  without an a: 1 / sqrt(n_in), the old heuristic and what torch does by itself

A fixed width helps where the paper's own start is wanted: N(0, 0.01²) in AlexNet and VGG, 0.02 in GANs and, truncated,
in vision transformers. It hurts depth: with n inputs a layer multiplies the signal by std sqrt(n) and by the share that
the nonlinearity leaves, so 10 tanh layers of 500 units at 0.01 leave 3e-7 of it at the end, and at 1.0 nine units in
ten are saturated. The uniform heuristic has Var(w) = 1 / (3 n_in), and loses a factor of sqrt(3) a layer even without a
nonlinearity, which is where Glorot and Bengio began. A truncated normal has no weight so large that its unit starts
saturated.

Krizhevsky, Sutskever, Hinton 2012, section 5 (0.01). Simonyan and Zisserman 2015, section 3.1. Glorot and Bengio 2010,
equation 1 (the heuristic). Biases are zero in all three, where AlexNet sets some to one: that is the word `alexnet`.
"""

from torch import nn

from engram.grammar import number
from engram.initializers.layers import Rule, fan_in, set_weights
from engram.registry import register


@register("initializer", paper="Krizhevsky, Sutskever, Hinton 2012, section 5", year=2012)
def normal(*, std: float = 0.01) -> Rule:
    """Normal weights of one deviation for all layers.

    Args:
        std: of every weight; biases are 0.

    >>> from engram.initializers import apply
    >>> net = nn.Linear(1000, 100); _ = apply(net, "normal:0.02"); round(net.weight.std().item(), 3)
    0.02
    """
    deviation = number("normal", "std", std, 0)
    return lambda net, given: set_weights(
        net, given, lambda name, module, empty: empty.normal_(0, deviation, generator=given.rng)
    )


@register("initializer", paper="Dosovitskiy et al. 2021 and its code (0.02)", year=2021)
def truncated_normal(*, std: float = 0.02) -> Rule:
    """Normal weights without those beyond two deviations.

    Args:
        std: of the normal that is cut; what is left has a deviation of 0.88 std.

    >>> from engram.initializers import apply
    >>> net = nn.Linear(1000, 100); _ = apply(net, "truncated_normal:0.1"); bool(net.weight.abs().max() <= 0.2)
    True
    """
    deviation = number("truncated_normal", "std", std, 0, above=True)
    return lambda net, given: set_weights(
        net,
        given,
        lambda name, module, empty: nn.init.trunc_normal_(
            empty, 0, deviation, -2 * deviation, 2 * deviation, generator=given.rng
        ),
    )


@register("initializer", paper="Glorot and Bengio 2010, equation 1", year=2010)
def uniform(*, bound: float | None = None) -> Rule:
    """Uniform weights between -bound and bound; without one, 1 / sqrt(n_in).

    Args:
        bound: of every weight; biases are 0.

    >>> from engram.initializers import apply
    >>> net = nn.Linear(100, 100); _ = apply(net, "uniform"); bool(0.099 < net.weight.max() <= 0.1)
    True
    """
    half = None if bound is None else number("uniform", "bound", bound, 0)

    def rule(net, given):
        def draw(name, module, empty):
            reach = fan_in(module) ** -0.5 if half is None else half
            return empty.uniform_(-reach, reach, generator=given.rng)

        return set_weights(net, given, draw)

    return rule
