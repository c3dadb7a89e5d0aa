"""Networks by name, one paper a file; each is a plain `nn.Module` and a function of this package.

>>> resnet20(num_classes=10).head
Linear(in_features=64, out_features=10, bias=True)
>>> build("lenet5", shape=(1, 28, 28), num_classes=10).head
Linear(in_features=84, out_features=10, bias=True)
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from engram import registry
from engram.errors import UserError, nearest
from engram.layers.dimensions import check_size

FILLED_IN = ("num_classes", "in_channels", "image_size", "dimensions")
"""What the data decides and a person cannot set."""


def build(
    name: str,
    *,
    shape: Sequence[int],
    num_classes: int,
    settings: Mapping[str, Any] | None = None,
    rng: torch.Generator | None = None,
) -> nn.Module:
    """The network of that name for inputs of that shape.

    Args:
        name: a registered name, or `path/to/mine.py:net`, a function or class which takes any of num_classes,
            in_channels, image_size and dimensions, and settings of its own; or a network, which is taken as it is.
        shape: (C, *S) of one input, pixels or samples.
        settings: what the builder takes beyond that; `engram show models NAME` lists it.
        rng: where the initial weights come from; without it, torch's own generator.

    Raises:
        UserError: an unknown name or setting, a number of axes it is not made for, an input smaller than it can use.
    """
    if rng is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=rng)))
            return build(name, shape=shape, num_classes=num_classes, settings=settings)
    entry = registry.find("model", name)
    settings = settings or {}
    registry.check_settings(entry, settings, reserved=FILLED_IN)
    channels, size = shape[0], tuple(shape[1:])
    if len(size) not in entry.facts.get("dimensions", (len(size),)):
        allowed = " or ".join(str(count) for count in entry.facts["dimensions"])
        raise UserError(
            f"model {name!r} is not made for inputs with {len(size)} spatial axes", allowed=f"{allowed} axes"
        )
    given = {"num_classes": num_classes, "in_channels": channels, "image_size": size, "dimensions": len(size)}
    wanted = {**_accepted(entry.build, given), **settings}
    net = _call(entry, wanted)
    check_size(size, getattr(net, "smallest", entry.facts.get("smallest", 1)), name)
    return net


def build_writer(name: str, *, vocabulary: int, settings: Mapping[str, Any] | None = None) -> nn.Module:
    """The network of that name that writes: tokens (B, T) in, scores (B, T, V) for what follows each and a state out.

    Args:
        vocabulary: V, tokens that there are.

    Raises:
        UserError: an unknown name or setting.

    >>> build_writer("char_lstm", vocabulary=65).head
    Linear(in_features=128, out_features=65, bias=True)
    """
    return _checked("writer", name, settings, {"vocabulary": vocabulary})


def build_captioner(
    name: str, *, vocabulary: int, shape: Sequence[int], settings: Mapping[str, Any] | None = None
) -> nn.Module:
    """The network of that name that says in words what a picture shows.

    Args:
        vocabulary: V, words that there are, the special ones first.
        shape: (C, H, W) of a picture.

    Raises:
        UserError: an unknown name or setting.
    """
    return _checked("captioner", name, settings, {"vocabulary": vocabulary, "shape": tuple(shape)})


def _checked(kind: str, name: str, settings: Mapping[str, Any] | None, given: Mapping[str, Any]) -> nn.Module:
    entry = registry.find(kind, name)
    registry.check_settings(entry, settings or {}, reserved=tuple(given))
    return _call(entry, {**given, **(settings or {})})


def _accepted(builder: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(builder).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(given)
    names = {parameter.name for parameter in parameters}
    return {name: value for name, value in given.items() if name in names}


def _call(entry: registry.Entry, wanted: Mapping[str, Any]) -> nn.Module:
    try:
        net = entry.build(**wanted)
    except TypeError as error:  # a value of the wrong type, or an argument that only the user's own builder knows
        raise UserError(
            f"{entry.kind} {entry.name!r} cannot be built: {error}",
            then=f"engram show {registry.plural(entry.kind)} {entry.name}",
        ) from error
    if not isinstance(net, nn.Module):
        raise UserError(f"{entry.name} gave a {type(net).__name__}", allowed="a torch.nn.Module")
    return net


def __getattr__(name: str) -> Any:
    close = nearest(name, registry.names("model"))
    hint = f"; did you mean {close}" if close else ""
    raise AttributeError(f"engram.models has no {name!r}{hint}")


globals().update({name: registry.find("model", name).build for name in registry.names("model")})
