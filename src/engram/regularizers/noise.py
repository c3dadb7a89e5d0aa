"""Noise in three places: on the inputs, on the values between layers, on the gradients.

    noise              x + ε                  before the first layer       the network's slope is held small
    activation_noise   x (1 + ε)              before every inner layer     Gaussian dropout: deviation² = drop / keep
    gradient_noise     g + ε                  after backward               a walk that leaves bad places
                       ε ~ N(0, deviation²), drawn for every value and step

The first two act while training only and are layers (`engram.layers.noise`); inputs are as the network sees them, so
where they are normalised a deviation of 1 is as much as the picture. The gradient's noise goes to every parameter that
is trained, biases and norms as well. A step then walks by lr deviation at random.

They help small sets, wrong labels (on the inputs), and very deep networks that hardly start (on the gradients: with it,
fully connected networks of 20 layers learned from poor initial weights). They hurt where training is hard as it is, and
beside augmentation there is little left for them.

The papers' settings: activations deviation 1, which is dropout 0.5; gradients variance η / (1 + t)^0.55 with η 0.01,
0.3 or 1, which is a deviation of 0.1 to 1 at the start. Where we differ: the deviation of the gradients' noise is
constant; what it does to the weights falls with the learning rate's schedule.

Bishop 1995, Training with noise is equivalent to Tikhonov regularization, Neural Computation 7 (inputs); Srivastava et
al. 2014, JMLR 15, section 10 (activations); Neelakantan et al. 2015, arXiv:1511.06807, section 3 (gradients).
"""

from typing import Any

import torch
from torch import nn

from engram.errors import UserError
from engram.grammar import number
from engram.layers.noise import GaussianNoise
from engram.registry import register
from engram.regularizers import places
from engram.regularizers.rule import Rule, describe, held


@register("regularizer", paper="Bishop 1995, Neural Computation 7, pages 108-116", year=1995, acts="network")
def noise(*, deviation: float = 0.1) -> Rule:
    """Normal noise is added to the inputs.

    Args:
        deviation: of the noise, on the scale of the inputs as the network sees them.

    >>> from engram.regularizers import build
    >>> build("noise:0.1", nn.Sequential(nn.Linear(2, 2))).changes
    ('noise: deviation 0.1, added to the inputs',)
    """
    deviation = number("noise", "deviation", deviation, 0)

    def put(net: nn.Module) -> str:
        places.put_before(net, "noise", GaussianNoise(deviation))
        return f"deviation {deviation:g}, added to the inputs"

    return Rule(put)


@register("regularizer", paper="Srivastava et al. 2014, JMLR 15, section 10", year=2014, acts="network")
def activation_noise(*, deviation: float = 0.1) -> Rule:
    """Values between layers are multiplied by 1 and normal noise.

    Args:
        deviation: of the noise, as a share of the value.

    >>> from engram.regularizers import build
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)); build("activation_noise:1", net).changes
    ('activation_noise: deviation 1 of each value before 2',)
    """
    deviation = number("activation_noise", "deviation", deviation, 0)

    def put(net: nn.Module) -> str:
        found = places.inner(net)
        if not found:
            raise UserError(
                "regularizer activation_noise: this network has a single layer", then="noise, on its inputs"
            )
        for module in found.values():
            places.put_before(module, "activation_noise", GaussianNoise(deviation, proportional=True))
        return f"deviation {deviation:g} of each value {places.before(found)}"

    return Rule(put)


@register("regularizer", paper="Neelakantan et al. 2015, arXiv:1511.06807, section 3", year=2015, acts="gradient")
def gradient_noise(*, deviation: float = 0.01) -> Rule:
    """Normal noise is added to every gradient.

    Args:
        deviation: of the noise.

    >>> from engram.regularizers import build
    >>> build("gradient_noise:0.1", nn.Linear(2, 2)).changes
    ('gradient_noise: deviation 0.1, on 2 parameters of 6 values',)
    """
    deviation = number("gradient_noise", "deviation", deviation, 0)

    def put(net: nn.Module) -> str:
        return f"deviation {deviation:g}, on {describe('gradient_noise', net, 'all')}"

    def regularize(net: Any) -> None:
        for _, p in held(net, "all"):
            if p.grad is not None:  # what took no part in the loss does not move
                p.grad.add_(torch.randn_like(p.grad), alpha=deviation)

    return Rule(put, regularize=regularize)
