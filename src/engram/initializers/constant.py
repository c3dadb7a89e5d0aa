"""The same value everywhere, to see that it cannot work: units that start alike stay alike.

    w = c,  b = 0

Two units of a layer with equal weights compute the same, receive the same gradient and take the same step, so a layer
of a hundred units is worth one. With zeros it is worse: behind a ReLU or a tanh nothing but the last bias receives a
gradient at all, because every path to an earlier weight passes through a weight of zero or a signal of zero. What
breaks the symmetry is the randomness of the weights, which is why biases may be zero.

It helps in experiments (the slide "what happens when W = 0 init is used?") and for a single linear layer, whose loss is
convex, where zeros are as good a start as any. It hurts every network with a hidden layer. Dropout breaks the symmetry
a little, and very slowly. Settings: none in any paper; `zeros` is `constant` with 0.

Goodfellow, Bengio, Courville 2016, Deep Learning, section 8.4 (initial weights must break symmetry).
"""

from engram.grammar import number
from engram.initializers.layers import Rule, set_weights
from engram.registry import register

PAPER = "Goodfellow, Bengio, Courville 2016, Deep Learning, section 8.4"


@register("initializer", paper=PAPER, year=2016)
def constant(*, value: float = 0.0) -> Rule:
    """Every weight the same value; shows why weights must differ.

    Args:
        value: of every weight; biases are 0.

    >>> from torch import nn; from engram.initializers import apply
    >>> net = nn.Linear(2, 1); apply(net, "constant:0.5"), net.weight.tolist()
    (['constant: weights of 1 layer, biases 0'], [[0.5, 0.5]])
    """
    level = number("constant", "value", value, -1e6, 1e6)
    return lambda net, given: set_weights(net, given, lambda name, module, empty: empty.fill_(level))


@register("initializer", paper=PAPER, year=2016)
def zeros() -> Rule:
    """Every weight zero; only right for a single linear layer.

    >>> from torch import nn; from engram.initializers import apply
    >>> net = nn.Linear(2, 1); _ = apply(net, "zeros"); net.weight.tolist()
    [[0.0, 0.0]]
    """
    return constant(value=0.0)
