"""Where biases start: at one value everywhere, or as AlexNet and GoogLeNet had them.

    bias:0.1     every bias of a weighted layer 0.1
    alexnet      w ~ N(0, 0.01²); b = 1 in every second convolution and the last one (of five: 2, 4, 5) and in the
                 hidden linear layers; b = 0 in the others
    googlenet    Var(w) = 1 / n_in, uniform; b = 0.2, and 0 where scores are given

A bias above zero lets ReLUs pass most of their inputs at first: AlexNet's weights are so small that without it some
layers would hardly receive a gradient, and the authors write that it speeds up the early stages of learning. With
weights of the right scale (`he`) or batch normalisation it makes no difference, and biases before a normalisation
are subtracted again. A bias that is large against the signal hurts: all units then pass everything, and the network
starts out linear.

Where we differ: both papers speak of one network; the rule for any number of convolutions is ours, and gives the
paper's for five; those of parallel `towers` count as one. GoogLeNet's paper does not say how it started; the values are
those of its public Caffe definition (bvlc_googlenet, "xavier" with fan-in and bias 0.2).

Krizhevsky, Sutskever, Hinton 2012, section 5. Szegedy et al. 2015, arXiv:1409.4842.
"""

import re

from torch import nn

from engram.errors import UserError
from engram.grammar import number
from engram.initializers.layers import Rule, count, fan_in, outputs_of, set_weights, weighted
from engram.registry import register

TOWER = re.compile(r"\btowers\.\d+\.")


@register("initializer", paper="Krizhevsky, Sutskever, Hinton 2012, section 5", year=2012)
def bias(*, value: float) -> Rule:
    """One value in every bias of a weighted layer; weights and normalisations stay.

    Args:
        value: of the biases.

    >>> from engram.initializers import apply
    >>> net = nn.Linear(3, 2); apply(net, "bias:0.5"), net.bias.tolist()
    (['bias: 0.5 in 1 layer'], [0.5, 0.5])
    """
    level = number("bias", "value", value, -1e6, 1e6)

    def rule(net, given):
        layers = [module for module in weighted(net).values() if module.bias is not None]
        if not layers:
            raise UserError("initializer bias: no layer of this network has a bias")
        for module in layers:
            module.bias.fill_(level)
        return f"{level:g} in {count(len(layers))}"

    return rule


@register("initializer", paper="Krizhevsky, Sutskever, Hinton 2012, section 5", year=2012)
def alexnet(*, std: float = 0.01) -> Rule:
    """Small normal weights, and biases of 1 where they keep ReLUs open.

    Args:
        std: of every weight.

    >>> from engram.initializers import apply
    >>> net = nn.Sequential(nn.Conv1d(3, 4, 3), nn.Conv1d(4, 4, 3), nn.Linear(4, 2))
    >>> apply(net, "alexnet"), net[1].bias.tolist()
    (['alexnet: weights of 3 layers, biases 0, or 1 in: 1'], [1.0, 1.0, 1.0, 1.0])
    """
    deviation = number("alexnet", "std", std, 0, above=True)

    def rule(net, given):
        said = set_weights(net, given, lambda name, module, empty: empty.normal_(0, deviation, generator=given.rng))
        layers, last = weighted(net), outputs_of(net, given)
        depth: dict[str, list[str]] = {}  # convolutions that stand side by side count as one
        for name, module in layers.items():
            if not isinstance(module, nn.Linear):
                depth.setdefault(TOWER.sub("", name), []).append(name)
        stages = list(depth.values())
        chosen = [*stages[1::2], *(stages[-1:] if len(stages) % 2 and len(stages) > 1 else [])]
        linear = [name for name, module in layers.items() if isinstance(module, nn.Linear)]
        ones = [
            name
            for name in [*(name for stage in chosen for name in stage), *linear]
            if name not in last and layers[name].bias is not None
        ]
        for name in ones:
            layers[name].bias.fill_(1.0)
        return f"{said}, or 1 in: {', '.join(ones)}" if ones else said

    return rule


@register("initializer", paper="Szegedy et al. 2015, arXiv:1409.4842, and its Caffe definition", year=2014)
def googlenet(*, value: float = 0.2) -> Rule:
    """Uniform weights of variance 1 / n_in, and biases a little above 0.

    Args:
        value: of the biases, but where scores are given.

    >>> from engram.initializers import apply
    >>> net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)); apply(net, "googlenet")
    ['googlenet: weights of 2 layers, biases 0.2, 0 where scores are given']
    """
    level = number("googlenet", "value", value, -1e6, 1e6)

    def rule(net, given):
        def draw(name, module, empty):
            reach = (3 / fan_in(module)) ** 0.5
            return empty.uniform_(-reach, reach, generator=given.rng)

        said = set_weights(net, given, draw, biases=level)
        for name in outputs_of(net, given):
            head = weighted(net)[name]
            if head.bias is not None:
                head.bias.zero_()
        return f"{said}, 0 where scores are given"

    return rule
