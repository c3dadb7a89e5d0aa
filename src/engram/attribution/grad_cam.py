"""Grad-CAM: where the maps of the last convolution speak for a class.

    a_k = mean over positions of dS_y / dA_k          how much the class asks for map k
    L   = max(sum over k of a_k A_k, 0)               where the maps that it asks for are active

The last convolution is where a network still knows where, and already what. The result is as coarse as its maps, and is
enlarged to the input by linear interpolation.

It does depend on the class and on what was learned (Adebayo et al. 2018, arXiv:1810.03292), and it is coarse: of a map
of 4x4 nothing can be said about edges. Where the gradient has both signs over a map, its mean says little. For a
network that ends in a mean over positions and one linear layer it is, up to a factor, the class activation map of Zhou
et al. 2015, arXiv:1512.04150.

The paper takes the last convolution's maps behind their ReLU. Here, by default: the last layer with kernels whose
output keeps the positions, and of the modules behind it those that keep its raster (normalisation, ReLU, the sum with a
shortcut), the last one; a pooling behind it would only make the map coarser. Where that still has values below zero and
a ReLU follows behind the pooling, as in LeNet-5, it is what the ReLU gives. Of a network in several towers it is the
last one's. Any module can be named instead.

Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra 2017, arXiv:1610.02391, section 3.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.attribution.score import Classes, as_input, asked, class_scores, slope
from engram.errors import UserError, unknown
from engram.registry import register

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""Ways of interpolating over so many axes."""
KERNEL = 3
"""Axes of a weight from which on it is a kernel: out, in, and at least one over positions."""


@register("attribution", paper="Selvaraju et al. 2017, arXiv:1610.02391, section 3", year=2017)
def grad_cam(net: nn.Module, x: Tensor, y: Classes = None, *, layer: str | None = None) -> Tensor:
    """Where the maps of the last convolution speak for a class.

    Maps (B, *S), from 0 up, enlarged to the size of x.

    Args:
        net: any module that gives (B, K) scores and has maps on the way; it is left as it was.
        x: (B, C, *S) inputs as the network takes them, over one, two or three axes.
        y: (B,) the classes asked about, or one for all; by default those that the network predicts.
        layer: name of the module whose output is taken, as `net.named_modules()` gives it; by default the last one.

    Raises:
        UserError: as for `gradient`; no such layer, or none whose output keeps positions, as in a perceptron.

    >>> net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2, bias=False))
    >>> for weight in net.parameters(): _ = weight.data.fill_(1.0)
    >>> grad_cam(net, torch.tensor([[[[1.0, -1.0], [0.0, 3.0]]]]))
    tensor([[[1., 0.],
             [0., 3.]]])
    """
    with asked(net) as network:
        given = as_input(network, x)
        if given.ndim - 2 not in MODES:
            raise UserError(
                f"Grad-CAM has no map over inputs of shape {tuple(x.shape[1:])}",
                allowed="(C, *S) with one, two or three axes S",
                then="engram.attribution.gradient",
            )
        layer = _checked(network, given, layer)
        maps, scores = _maps_and_scores(network, given, y, layer)
        slopes = slope(scores, maps, f"layer {layer}")
        weights = slopes.flatten(2).mean(2).reshape(*slopes.shape[:2], *[1] * (slopes.ndim - 2))
        spoken = F.relu((weights * maps.detach()).sum(1, keepdim=True))  # (B, 1, *S')
        size = list(given.shape[2:])
        return F.interpolate(spoken, size=size, mode=MODES[given.ndim - 2], align_corners=False)[:, 0]


def spatial_layers(net: nn.Module, x: Tensor) -> dict[str, tuple[int, ...]]:
    """Modules whose output keeps positions, in the order in which they end, with the shape (C, *S') of it.

    Args:
        x: (B, C, *S); its first example is tried.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    >>> spatial_layers(net, torch.ones(1, 1, 4, 4))
    {'0': (4, 2, 2), '1': (4, 2, 2)}
    """
    with asked(net) as network, torch.no_grad():
        found = _spatial(network, as_input(network, x).detach())
    return {name: maps.shape for name, maps in found.items()}


def last_layer(net: nn.Module, x: Tensor) -> str:
    """The layer that Grad-CAM takes by default.

    Raises:
        UserError: there is none.

    >>> last_layer(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()), torch.ones(1, 1, 6, 6))
    '1'
    """
    with asked(net) as network, torch.no_grad():
        return _last(network, _spatial(network, as_input(network, x).detach()))


class Maps(NamedTuple):
    """What a layer gave: its shape (C, *S'), and whether any value was below zero."""

    shape: tuple[int, ...]
    negative: bool


def _last(net: nn.Module, found: dict[str, Maps]) -> str:
    if not found:
        raise UserError(
            f"{type(net).__name__} has no layer whose output keeps positions, and Grad-CAM is a map over them",
            then="engram.attribution.gradient, smooth_grad or guided_backpropagation",
        )
    names = list(found)
    kernels = [name for name in names if _has_kernel(net.get_submodule(name))]
    behind = names[names.index(kernels[-1] if kernels else names[-1]) :]
    chosen = _last_of_raster(behind, found)
    if found[chosen].negative:
        positive = [name for name in behind[behind.index(chosen) :] if not found[name].negative]
        return _last_of_raster(positive, found) if positive else chosen
    return chosen


def _last_of_raster(names: list[str], found: dict[str, Maps]) -> str:
    """The last of the layers whose maps have the raster of the first one's."""
    return next(name for name in reversed(names) if found[name].shape[1:] == found[names[0]].shape[1:])


def _has_kernel(module: nn.Module) -> bool:
    return any(weight.ndim >= KERNEL for weight in module.parameters(recurse=False))


def _spatial(net: nn.Module, x: Tensor) -> dict[str, Maps]:
    """Layers whose output keeps positions, in the order in which they end."""
    found: dict[str, Maps] = {}

    def note(name: str, output: Any) -> None:
        same = isinstance(output, Tensor) and output.ndim == x.ndim and len(output) == 1
        if same and output.is_floating_point() and output[0, 0].numel() > 1:
            found.pop(name, None)  # of a module that runs several times, the last time counts
            found[name] = Maps(tuple(output.shape[1:]), bool((output < 0).any()))

    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: note(name, output))
        for name, module in net.named_modules()
        if name
    ]
    try:
        class_scores(net, x[:1])
    finally:
        for handle in handles:
            handle.remove()
    return found


def _checked(net: nn.Module, x: Tensor, layer: str | None) -> str:
    """The layer's name, found where none is given, refused where its output has no positions."""
    names = [name for name, _ in net.named_modules() if name]
    if layer is not None and layer not in names:
        raise unknown("layer", layer, names)
    with torch.no_grad():
        found = _spatial(net, x.detach())
    if layer is None:
        return _last(net, found)
    if layer not in found:
        raise UserError(
            f"the output of layer {layer!r} has no positions, or it does not run",
            allowed=", ".join(list(found)[-8:]) or None,
            nearest=_last(net, found),
        )
    return layer


def _maps_and_scores(net: nn.Module, x: Tensor, y: Classes, layer: str) -> tuple[Tensor, Tensor]:
    """The layer's output (B, C, *S') in the last time that it runs, and the scores that depend on it."""
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        if output.ndim != x.ndim:  # a module that runs at other places too, such as a ReLU that is shared
            return None
        maps = output if output.requires_grad else output.detach().requires_grad_()
        found.append(maps)
        return maps.clone()  # the network may overwrite its own, as a ReLU in place behind it does

    handle = net.get_submodule(layer).register_forward_hook(keep)
    try:
        scores, _ = class_scores(net, x, y)
    finally:
        handle.remove()
    return found[-1], scores
