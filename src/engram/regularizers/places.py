"""Where something is put into a network that knows nothing of it: in front of a layer, as a part of that layer.

A layer without parameters becomes a child of the one it stands before, and a hook passes the input through it. The
names in the state dict stay as they are, training and judging switch it as any layer, a copy of the network has its
own, and `print(net)` shows it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from engram.initializers.layers import CONVOLUTIONS, WEIGHTED, Given, Layer, count, outputs_of

PREFIX = "before_"


class Through:
    """The hook: the first input goes through the child of that name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (getattr(module, self.name)(given[0]), *given[1:])


def put_before(module: nn.Module, word: str, layer: nn.Module) -> None:
    """Put a layer before a module, in place of one that this word has put there.

    >>> import torch; net = nn.Linear(2, 1, bias=False); put_before(net, "dropout", nn.Dropout(1.0))
    >>> net(torch.ones(3, 2)).abs().sum().item(), list(net.state_dict())
    (0.0, ['weight'])
    """
    name = f"{PREFIX}{word}"
    layer.train(module.training)
    if name not in module._modules:
        module.register_forward_pre_hook(Through(name))
    module.register_module(name, layer)


def set_or_put(
    net: nn.Module,
    word: str,
    kinds: type[nn.Module] | tuple[type[nn.Module], ...],
    change: Callable[[Any], None],
    make: Callable[[Layer], nn.Module],
    places: Callable[[], Mapping[str, Layer]],
) -> str:
    """Set the layers of a kind that the network has; where it has none, put one before each of the places.

    Returns:
        where, for a person.
    """
    own = [module for name, module in net.named_modules() if isinstance(module, kinds) and not auxiliary(name)]
    for module in own:
        change(module)
    if own:
        return f"in {count(len(own), 'layer')} of that kind that the network has"
    found = places()
    for module in found.values():
        put_before(module, word, make(module))
    return before(found)


def before(places: Iterable[str]) -> str:
    """Places for a person: all of a few, the ends of many.

    >>> before(["head"]), before(["a", "b", "c", "d"])
    ('before head', 'before 4 layers, a to d')
    """
    names = list(places)
    if len(names) <= 3:
        return f"before {', '.join(names)}"
    return f"before {count(len(names))}, {names[0]} to {names[-1]}"


def heads(net: nn.Module) -> dict[str, Layer]:
    """The layers that give scores: `head`, else the last layer with weights.

    >>> list(heads(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))))
    ['1']
    """
    names = outputs_of(net, Given())
    return {name: module for name, module in net.named_modules() if name in names}


def inner(net: nn.Module) -> dict[str, Layer]:
    """The layers with weights but the first, whose input is the picture, and those of auxiliary heads."""
    layers = {name: module for name, module in net.named_modules() if isinstance(module, WEIGHTED)}
    return {name: module for name, module in list(layers.items())[1:] if not auxiliary(name)}


def convolutions(net: nn.Module) -> dict[str, Layer]:
    """The inner convolutions that look at more than one pixel; where there are none, those of one pixel.

    Those of one pixel mix channels for others: a bottleneck's ends, a shortcut's change of width.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(8, 2))
    >>> list(convolutions(net))
    ['2']
    """
    found = {name: module for name, module in inner(net).items() if isinstance(module, CONVOLUTIONS)}
    wide = {name: module for name, module in found.items() if max(module.kernel_size) > 1}
    return wide or found


def auxiliary(name: str) -> bool:
    """Whether a module belongs to an auxiliary head, which has its own settings."""
    return "auxiliary" in name
