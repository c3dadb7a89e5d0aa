"""Progressive deepening: a deep network starts from the weights of a shallower one that has been trained.

    first 4 convolutions, last 3 linear layers  <-  the shallower network's
    what lies between                           <-  as it is, or near the identity (`rest=near_identity`)

A plain stack of 16 or 19 layers with small random weights does not begin to learn: signal and gradient die on the way.
VGG was trained shallow first (11 layers, where N(0, 0.01²) still works); its first and last layers, which see the image
and give the classes, then held the deeper ones up while the new layers between found their place.

It helps to deepen a network that took long to train. It is not needed from nothing: the same authors found that
`xavier` starts the deep networks just as well, and batch normalisation ended the question. It hurts where the new
layers are much like zero: copying 3 of 11 layers between small random ones learned nothing (0.10), with the rest
near the identity 0.463, against 0.434 of the shallow network and 0.40 by `he`.

The paper's settings: 4 and 3, the rest N(0, 0.01²), no layer's rate lowered. Put the rest's word first, as in
`normal:0.01,grow:runs/vgg11` or `he,grow:runs/vgg11:first=2:last=1`. Where we differ: a normalisation that follows a
copied convolution is copied with it, or its scale would belong to other weights.

Layers are matched by their place: convolutions from the first on, linear layers from the last back, in the order of the
network's modules and of the natural order of names in the file. The file is read as tensors only.

Simonyan and Zisserman 2015, arXiv:1409.1556, section 3.1 (and the footnote on Glorot's rule).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from engram.errors import UserError
from engram.grammar import choice, number
from engram.initializers.layers import NORMS, Layer, Rule, count, weighted
from engram.initializers.near_identity import allows, pass_on
from engram.registry import register
from engram.tensors import read

RESTS = ("stay", "near_identity")


@register("initializer", paper="Simonyan and Zisserman 2015, arXiv:1409.1556, section 3.1", year=2014)
def grow(*, weights: Any, first: int = 4, last: int = 3, rest: str = "stay", noise: float = 0.01) -> Rule:
    """The first and last layers from a shallower network that has been trained.

    Args:
        weights: a run's folder, or a file of weights (safetensors, or a state dict of torch.save).
        first: convolutions to copy, from the input on.
        last: linear layers to copy, from the scores back.
        rest: what becomes of the others: `stay`, or `near_identity` where they can.
        noise: standard deviation of what is added to the identity.

    >>> import tempfile; import torch; from engram.initializers import apply
    >>> shallow = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Linear(2, 3))
    >>> deep = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Conv1d(2, 2, 3), nn.Linear(2, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save(shallow.state_dict(), f"{folder}/shallow.pt")
    ...     apply(deep, f"grow:{folder}/shallow.pt:first=1:last=1")
    ['grow: 0, 2 from shallow.pt; the other layer stays']
    """
    path = _file(Path(str(weights)))
    convolutions = int(number("grow", "first", first, 0, whole=True))
    linear = int(number("grow", "last", last, 0, whole=True))
    choice("grow", "rest", rest, RESTS)
    deviation = number("grow", "noise", noise, 0)

    def rule(net, given):
        tensors, layers = read(path), weighted(net)
        here = _parted(layers, {name: module.weight for name, module in layers.items()})
        names = sorted((key.removesuffix(".weight") for key in tensors if key.endswith(".weight")), key=_natural)
        there = _parted(names, {name: tensors[f"{name}.weight"] for name in names})
        pairs = _ends(here[0], there[0], convolutions, path, "convolution")
        pairs += [pair[::-1] for pair in _ends(there[1][::-1], here[1][::-1], linear, path, "linear layer")]
        for name, source in pairs:
            _check_shape(name, layers[name], source, tensors, path)
        for name, source in pairs:
            _copy(layers[name], source, tensors)
            norm, its_source = _norm_after(net, name), _next(names, source)
            if norm is not None and f"{its_source}.running_mean" in tensors:
                _copy(norm, its_source, tensors)
        copied = [name for name, _ in pairs]
        others = [module for name, module in layers.items() if name not in copied]
        able = [module for module in others if rest == "near_identity" and allows(module)]
        for module in able:
            pass_on(module, deviation, given)
        return f"{', '.join(copied)} from {path.name}; {_said(len(others), len(able))}"

    return rule


def _said(others: int, able: int) -> str:
    stay = others - able
    if not others:
        return "nothing else has weights"
    left = f"the other {'layer stays' if stay == 1 else f'{stay} stay'}"
    return f"{able} near the identity{f', {left}' if stay else ''}" if able else left


def _file(path: Path) -> Path:
    """The weights of a run's folder, or the file itself.

    Raises:
        UserError: there is none.
    """
    file = path / "weights" / "best.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"initializer grow: there are no weights {file}", allowed="a run's folder, or a file of weights"
        )
    return file


def _parted(names: Any, tensors: dict[str, Tensor]) -> tuple[list[str], list[str]]:
    """The names of convolutions and of linear layers, by the axes of their weights."""
    return [name for name in names if tensors[name].ndim > 2], [name for name in names if tensors[name].ndim == 2]


def _ends(one: Sequence[str], other: Sequence[str], wanted: int, path: Path, kind: str) -> list[tuple[str, str]]:
    if wanted > min(len(one), len(other)):
        fewest = min(len(one), len(other))
        setting = "first" if kind == "convolution" else "last"
        raise UserError(
            f"initializer grow: {setting}={wanted}, but network and {path.name} have {count(fewest, kind)} in common",
            allowed=f"{setting}=0 to {fewest}",
        )
    return list(zip(one[:wanted], other[:wanted], strict=True))


def _check_shape(name: str, module: Layer, source: str, tensors: dict[str, Tensor], path: Path) -> None:
    own, given = tuple(module.weight.shape), tuple(tensors[f"{source}.weight"].shape)
    if own != given or (module.bias is not None) != (f"{source}.bias" in tensors):
        differs = f"is {given}, and here {own}" if own != given else "has a bias only in one of them"
        raise UserError(
            f"initializer grow: {source!r} of {path.name} would be {name!r}, but {differs}",
            allowed="a network of the same kind and widths; fewer layers by first= and last=",
        )


def _copy(module: Layer, source: str, tensors: dict[str, Tensor]) -> None:
    for name, value in module.state_dict(keep_vars=True).items():
        if f"{source}.{name}" in tensors:
            value.detach().copy_(tensors[f"{source}.{name}"])


def _norm_after(net: nn.Module, name: str) -> Layer | None:
    """The normalisation made directly after that layer."""
    modules = [(key, module) for key, module in net.named_modules() if not list(module.children())]
    place = [key for key, _ in modules].index(name)
    after = modules[place + 1][1] if place + 1 < len(modules) else None
    return after if isinstance(after, NORMS) else None


def _next(names: list[str], name: str) -> str:
    place = names.index(name)
    return names[place + 1] if place + 1 < len(names) else ""


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key to sort names by in which 10 follows 9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]
