"""What a regulariser is made of, and which parameters of a network it is about."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from engram.errors import UserError
from engram.grammar import choice, number
from engram.initializers.layers import NORMS as WITH_STATISTICS
from engram.initializers.layers import Layer, count

NORMS = (*WITH_STATISTICS, nn.RMSNorm)
ON = ("weights", "all")


@dataclass(frozen=True)
class Rule:
    """A word with its values: what it puts on a network, once, and what it does at every step.

    Attributes:
        put: changes the network in place and says what it did, in a line; raises a UserError where it cannot.
        regularize: adds to the gradients of a network.
        constrain: moves its weights after a step of a rate.
        penalty: what the weights cost, without axes.
        settings: of the recipe, for what acts in neither.
    """

    put: Callable[[nn.Module], str]
    regularize: Callable[[nn.Module], None] | None = None
    constrain: Callable[[nn.Module, float], None] | None = None
    penalty: Callable[[nn.Module], Tensor] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


class Held(NamedTuple):
    """A parameter and the module that it belongs to."""

    module: Layer
    p: nn.Parameter


def held(net: nn.Module, on: str = "weights") -> list[Held]:
    """The parameters that are trained, each once; "weights" leaves out biases, norms and all that has one axis.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.LayerNorm((6, 6)), nn.PReLU(4))
    >>> len(held(net)), len(held(net, "all"))
    (1, 5)
    """
    seen: set[nn.Parameter] = set()
    found = []
    for module in net.modules():
        for name, p in module.named_parameters(recurse=False):
            spared = p.ndim < 2 or "bias" in name or isinstance(module, NORMS)
            if p.requires_grad and p not in seen and (on == "all" or not spared):
                found.append(Held(module, p))
                seen.add(p)
    return found


def describe(word: str, net: nn.Module, on: str) -> str:
    """How many parameters a word is about, for a person.

    Raises:
        UserError: there are none.
    """
    found = held(net, on)
    if not found:
        raise UserError(f"regularizer {word}: this network has no {'weights' if on == 'weights' else 'parameters'}")
    values = sum(one.p.numel() for one in found)
    kind = count(len(found), "weight" if on == "weights" else "parameter")
    return f"{kind} of {values:,} values"


def spared(on: str) -> str:
    """The end of such a line."""
    return "; biases and norms spared" if on == "weights" else ""


def scope(word: str, on: Any) -> str:
    """The setting `on`, checked."""
    return choice(word, "on", on, ON)


def share(word: str, value: Any, setting: str = "drop") -> float:
    """A share from 0 up to 1, exclusive, checked.

    >>> share("dropout", 0.5)
    0.5
    >>> share("dropout", 1)
    Traceback (most recent call last):
    engram.errors.UserError: dropout: drop cannot be 1
      allowed: a number from 0 up to 1, exclusive
    """
    try:
        given = number(word, setting, value, 0, 1)
    except UserError:
        given = 1.0
    if given == 1:
        raise UserError(f"{word}: {setting} cannot be {value!r}", allowed="a number from 0 up to 1, exclusive")
    return given
