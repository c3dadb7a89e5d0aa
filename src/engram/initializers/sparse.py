"""A few strong connections into each unit and none from the rest.

    each unit: 10 inputs drawn at random, w ~ N(0, std²); all other weights 0;  biases 0

With all n inputs connected, the weights of a wide layer must be small and every unit sees much the same sum; with ten,
units differ from the start, saturate less, and the scale of their input does not depend on the layer's width at all.
Martens could train deep autoencoders from it with Hessian-free optimisation where dense starts needed pre-training.

It helps fully connected networks, deep or recurrent. It hurts convolutions with few channels, where ten of 27
connections are not sparse, and bottlenecks that must pass everything on: an input that nobody drew is lost until its
zero weights have moved. They receive gradients like all others: sparsity is only where training starts.

Settings: Martens draws 15 from N(0, 1), with biases 0 (0.5 for tanh); the course's slides say 10. Where we differ: the
deviation is gain / sqrt(connections), which keeps the signal's scale under any nonlinearity; `std=1` is the paper's,
made for sigmoids. Units with fewer inputs than that are connected to all.

Martens 2010, Deep learning via Hessian-free optimization, section 5 (sparse initialization); Sutskever, Martens, Dahl,
Hinton 2013, section 3.1.
"""

import torch

from engram.grammar import number
from engram.initializers.layers import TRANSPOSED, Rule, gains, set_weights
from engram.registry import register


@register("initializer", paper="Martens 2010, Deep learning via Hessian-free optimization, section 5", year=2010)
def sparse(*, connections: int = 10, std: float | None = None) -> Rule:
    """Ten connections into every unit, the other weights zero.

    Args:
        connections: into every unit that has so many inputs.
        std: of the weights that are not zero; without it, gain / sqrt(connections).

    >>> from torch import nn; from engram.initializers import apply
    >>> net = nn.Linear(100, 3); _ = apply(net, "sparse:10"); (net.weight != 0).sum(1).tolist()
    [10, 10, 10]
    """
    wanted = int(number("sparse", "connections", connections, 1, whole=True))
    fixed = None if std is None else number("sparse", "std", std, 0, above=True)

    def rule(net, given):
        by_layer = gains(net, given)

        def draw(name, module, empty):
            units = empty.movedim(0, 1) if isinstance(module, TRANSPOSED) else empty  # a unit a row
            drawn = torch.empty(units.shape, dtype=empty.dtype).flatten(1)
            kept = min(wanted, drawn.shape[1])
            deviation = by_layer[name] / kept**0.5 if fixed is None else fixed
            places = drawn.uniform_(generator=given.rng).topk(kept, dim=1).indices
            values = torch.empty(places.shape, dtype=empty.dtype).normal_(0, deviation, generator=given.rng)
            units.copy_(torch.zeros_like(drawn).scatter_(1, places, values).view(units.shape))
            return empty

        return set_weights(net, given, draw)

    return rule
