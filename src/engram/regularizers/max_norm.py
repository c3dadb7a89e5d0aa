"""Max-norm: the incoming weights of a unit may point anywhere, but not be longer than a limit.

    after each step, for every unit i:   w_i  <-  w_i min(1, c / ‖w_i‖)

Nothing is pulled as long as it is short; what is longer is projected onto the ball of radius c. Whatever the learning
rate, weights cannot blow up, so that high rates can be used and lowered later, which is what dropout wants: its noisy
gradients need large steps to average over.

A unit's weights are a row of a linear layer (a piece of a maxout unit has its own), the kernel over all channels of a
map of a convolution, and of a transposed convolution the same by outputs. The bias is spared. In front of a batch
normalisation the length of w_i has no meaning, and the limit then only bounds how far the effective rate can sink.

It helps beside dropout in networks without normalisation. It hurts where c is smaller than what the fit needs: a map
with many inputs needs a longer vector than one with few.

The paper's settings: c = 3 or 4 (2 for CIFAR-10's and MNIST's convolutions by others), beside dropout 0.5.

Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov 2014, Dropout, JMLR 15, section 5.1; Srebro and Shraibman 2005.
"""

import torch
from torch import Tensor, nn

from engram.grammar import number
from engram.initializers.layers import TRANSPOSED, Layer, count
from engram.registry import register
from engram.regularizers.rule import Rule, describe, held


@register("regularizer", paper="Srivastava et al. 2014, JMLR 15, section 5.1", year=2014, acts="weights")
def max_norm(*, largest: float = 3.0) -> Rule:
    """The incoming weights of each unit have at most a certain length.

    Args:
        largest: c.

    >>> from engram.regularizers import build
    >>> net = nn.Linear(2, 2); net.weight.data = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    >>> build("max_norm:1", net).constrain(net, lr=0.1); net.weight
    Parameter containing:
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]], requires_grad=True)
    """
    largest = number("max_norm", "largest", largest, 0, above=True)

    def put(net: nn.Module) -> str:
        describe("max_norm", net, "weights")  # refuses a network without weights
        found = held(net)
        units = sum(lengths(module, p).numel() for module, p in found)
        return f"{largest:g} for each of {count(units, 'unit')} of {count(len(found), 'weight')}"

    def constrain(net: nn.Module, lr: float) -> None:
        for module, p in held(net):
            grouped = by_units(module, p)
            grouped.mul_((largest / lengths(module, p)).clamp(max=1))  # no weights: infinite, and so 1

    return Rule(put, constrain=constrain)


def by_units(module: Layer, p: Tensor) -> Tensor:
    """A view of a weight in which all but the axes 0 and 2 are incoming: (groups, in, out, *kernel) or (out, in, 1).

    >>> by_units(nn.ConvTranspose2d(8, 6, 4, groups=2), torch.zeros(8, 3, 4, 4)).shape
    torch.Size([2, 4, 3, 4, 4])
    """
    if isinstance(module, TRANSPOSED):
        return p.unflatten(0, (module.groups, -1))  # (groups, in / groups, out / groups, *kernel)
    return p.unsqueeze(2)  # (out, in, 1, *kernel)


def lengths(module: Layer, p: Tensor) -> Tensor:
    """The length of each unit's incoming weights, with the axes of `by_units`, those summed over of one element."""
    grouped = by_units(module, p)
    incoming = [axis for axis in range(grouped.ndim) if axis not in (0, 2)]
    return torch.linalg.vector_norm(grouped, dim=incoming, keepdim=True)
