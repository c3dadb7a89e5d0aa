"""Weight matrices that neither stretch nor squeeze: rows, or columns, of length one and at right angles.

    W = gain Q,   QᵀQ = I  (or QQᵀ = I where W is wide),   Q from the QR decomposition of a normal matrix

A random normal matrix keeps the length of a signal on average but stretches some directions and squeezes others; after
L layers the ratio of the two grows exponentially with L. An orthogonal matrix keeps every direction, so a deep linear
network starts with all singular values at one and its training time does not depend on its depth. The signs of R's
diagonal are taken into Q, or Q would not be uniform over rotations (Mezzadri 2007).

It helps deep plain stacks and recurrent networks, whose matrix acts a hundred times over. With a ReLU behind, which
is not a rotation, the gain is what matters (`gain=auto` takes it from the activation that follows). It hurts nothing
but the time for the decomposition, O(n³) a layer. A convolution's kernel is taken as the matrix (out, in x positions),
which makes the kernel orthogonal, not the convolution; each group is a matrix of its own.

The paper's setting is gain 1 for linear networks, slightly more than 1 for tanh. Biases are zero.

Saxe, McClelland, Ganguli 2014, arXiv:1312.6120, sections 3 and 4. Mezzadri 2007, arXiv:math-ph/0609050, section 5.
"""

import torch
from torch import Tensor

from engram.grammar import number
from engram.initializers.layers import Given, Layer, Rule, gains, set_weights
from engram.registry import register


@register("initializer", paper="Saxe, McClelland, Ganguli 2014, arXiv:1312.6120, section 3", year=2014)
def orthogonal(*, gain: float | str = 1.0) -> Rule:
    """Orthogonal matrices: no direction of the signal grows or shrinks.

    Args:
        gain: multiplies every matrix; `auto` takes it from the nonlinearity that follows.

    >>> from torch import nn; from engram.initializers import apply
    >>> net = nn.Linear(6, 4); _ = apply(net, "orthogonal:2")
    >>> (net.weight @ net.weight.T).round(decimals=4).diagonal().tolist()
    [4.0, 4.0, 4.0, 4.0]
    """
    scale = None if gain == "auto" else number("orthogonal", "gain", gain, 0, above=True)

    def rule(net, given):
        by_layer = gains(net, given)

        def draw(name, module, empty):
            return rotation(module, empty, given).mul_(by_layer[name] if scale is None else scale)

        return set_weights(net, given, draw)

    return rule


def rotation(module: Layer, empty: Tensor, given: Given) -> Tensor:
    """A weight of that layer's shape that is orthogonal group by group."""
    groups = getattr(module, "groups", 1)
    parts = [_orthogonal(len(part), part[0].numel(), given) for part in empty.chunk(groups)]
    return empty.copy_(torch.cat(parts).reshape(empty.shape))


def _orthogonal(rows: int, columns: int, given: Given) -> Tensor:
    matrix = torch.empty(rows, columns).normal_(generator=given.rng)
    q, r = torch.linalg.qr(matrix if rows >= columns else matrix.T)
    q = q * torch.where(r.diagonal() < 0, -1.0, 1.0)  # (long, short), its columns at right angles
    return q if rows >= columns else q.T
