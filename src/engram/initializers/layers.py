"""The layers an initial weight is for, how many connections meet in a unit, and what follows it.

    n_in  = inputs of one unit         a convolution: channels of its group x positions of its kernel
    n_out = units that one input feeds

Both leave the stride out, as the papers do, except for transposed convolutions: there a stride of s spreads the kernel
over s times as many outputs along every axis, and each sees only 1/s of it. In a grouped convolution n_out counts the
group's own outputs (torch counts all of them).

A rectifier halves the signal's mean square, and other nonlinearities take other shares. The gain makes up for it:

    gain = 1 / sqrt(E[f(z)²]),  z ~ N(0, 1)        ReLU: sqrt(2)    tanh: 1.59    SELU: 1    none: 1

which is He's argument for ReLU carried over to any f (torch's table has 5/3 for tanh and 3/4 for SELU). What follows a
layer is read off the order in which modules were made: the first nonlinearity before the next weighted layer. Where
there is none, as in networks that call `F.relu` themselves, it is taken to be a ReLU; after the layers that give scores
there is nothing.

He, Zhang, Ren, Sun 2015, arXiv:1502.01852, equations 7-14.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.errors import UserError
from engram.layers.activations import ACTIVATIONS, activation

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
WEIGHTED = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)
Layer = Any  # a module of one of these classes; torch types what they hold too loosely to say so
NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.LayerNorm, nn.GroupNorm)
NONLINEAR = (
    *(type(kind()) for name, kind in ACTIVATIONS.items() if name != "identity"),
    *(nn.CELU, nn.RReLU, nn.ReLU6, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softsign, nn.LogSigmoid),
)


@dataclass(frozen=True)
class Given:
    """What a rule may use beside the network."""

    rng: torch.Generator | None = None
    batch: Tensor | None = None
    outputs: tuple[str, ...] | None = None


Rule = Callable[[nn.Module, Given], str]
"""Changes a network's weights in place and says what it did, in a line."""


def weighted(net: nn.Module) -> dict[str, Layer]:
    """The layers with weights by name, in the order in which they were made.

    Raises:
        UserError: there are none.

    >>> list(weighted(nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(8, 3))))
    ['0', '3']
    """
    found = {name: module for name, module in net.named_modules() if isinstance(module, WEIGHTED)}
    if not found:
        raise UserError("this network has no convolution and no linear layer to initialise")
    return found


def fan_in(module: Layer) -> float:
    """Connections into one unit.

    >>> fan_in(nn.Conv2d(8, 6, 3, groups=2)), fan_in(nn.ConvTranspose1d(8, 6, 4, stride=2))
    (36.0, 16.0)
    """
    positions = math.prod(module.weight.shape[2:])
    if isinstance(module, TRANSPOSED):
        return module.in_channels / module.groups * positions / math.prod(module.stride)
    return float(module.weight.shape[1] * positions)


def fan_out(module: Layer) -> float:
    """Connections out of one input.

    >>> fan_out(nn.Linear(4, 3)), fan_out(nn.Conv2d(8, 6, 3, groups=2))
    (3.0, 27.0)
    """
    positions = math.prod(module.weight.shape[2:])
    if isinstance(module, TRANSPOSED):
        return float(module.weight.shape[1] * positions)
    return module.weight.shape[0] / getattr(module, "groups", 1) * positions


def outputs_of(net: nn.Module, given: Given) -> set[str]:
    """The names of the layers that give scores: as given; else `head`, or the last layer within it; else the last.

    >>> outputs_of(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), Given())
    {'1'}
    """
    layers = weighted(net)
    if given.outputs is not None:
        for name in given.outputs:
            if name not in layers:
                raise UserError(f"there is no weighted layer {name!r}", allowed=", ".join(layers))
        return set(given.outputs)
    within = [name for name in layers if name == "head" or name.startswith("head.")]
    return {(within or list(layers))[-1]}


def gains(net: nn.Module, given: Given, name: str | None = None) -> dict[str, float]:
    """The gain of every weighted layer by what follows it.

    Args:
        name: the nonlinearity after every layer but those that give scores, instead of what the modules say.

    >>> net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> {key: round(value, 2) for key, value in gains(net, Given()).items()}
    {'0': 1.41, '2': 1.59, '4': 1.0}
    """
    last, found, waiting = outputs_of(net, given), {}, None
    assumed = gain(activation(name or "relu"))
    for key, module in net.named_modules():
        if isinstance(module, WEIGHTED):
            waiting = key
            found[key] = 1.0 if key in last else assumed
        elif isinstance(module, NONLINEAR) and waiting is not None:
            if name is None and waiting not in last:
                found[waiting] = gain(module)
            waiting = None
    return found


def gain(module: nn.Module) -> float:
    """1 / sqrt(E[f(z)²]) of a nonlinearity f for z ~ N(0, 1).

    >>> round(gain(nn.ReLU()) ** 2, 4), round(gain(nn.LeakyReLU(0.5)) ** 2, 4)
    (2.0, 1.6)
    """
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2)
    if isinstance(module, nn.PReLU):  # one slope a channel; their mean at the start
        values = F.leaky_relu(z, float(module.weight.detach().mean()))
    elif isinstance(module, nn.RReLU):  # slopes are drawn while training
        values = F.leaky_relu(z, (module.lower + module.upper) / 2)
    else:
        values = module(z.clone())
    return float((density.sum() / (density * values**2).sum()).sqrt())


def set_weights(
    net: nn.Module, given: Given, draw: Callable[[str, Layer, Tensor], Tensor], *, biases: float | None = 0.0
) -> str:
    """Replace the weights of every layer by `draw(name, layer, empty tensor on the CPU)`; biases by one value.

    Returns:
        A line for a person.
    """
    layers = weighted(net)
    for name, module in layers.items():
        if isinstance(module.weight, nn.UninitializedParameter):
            raise UserError(f"layer {name!r} does not know its size before its first input")
    done: set[Tensor] = set()
    for name, module in layers.items():
        if module.weight in done:  # shared by two layers: drawn once
            continue
        done.add(module.weight)
        empty = torch.empty(module.weight.shape, dtype=module.weight.dtype)
        module.weight.copy_(draw(name, module, empty))
        if biases is not None and module.bias is not None:
            module.bias.fill_(biases)
    has_biases = any(module.bias is not None for module in layers.values())
    said = f", biases {biases:g}" if biases is not None and has_biases else ""
    return f"weights of {count(len(done))}{said}"


def count(number: int, kind: str = "layer") -> str:
    """A number of things for a person.

    >>> count(1), count(3)
    ('1 layer', '3 layers')
    """
    return f"{number} {kind}{'' if number == 1 else 's'}"
