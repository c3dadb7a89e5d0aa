"""What the channels of a few layers say of a picture: the first layer, and the ends of stages.

    brighter    the channel is more active there; black is zero, and what lies below zero, which a ReLU cuts off

In the first layers the picture can still be recognised, in edges and colours; in the last ones a map is active at a few
places or nowhere. A channel that is silent for every example is dead: it costs its multiply-adds and says nothing.

Yosinski, Clune, Nguyen, Fuchs, Lipson 2015, arXiv:1506.06579, section 2; CS231n, Visualizing what ConvNets learn.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engram import atomic
from engram.attribution.grad_cam import spatial_layers
from engram.attribution.score import asked
from engram.clinic.admission import inner
from engram.training.inside.choice import BATCH, Choice
from engram.training.inside.pixels import shrink, to_bytes
from engram.training.inside.seen import Seen

LAYERS = 4
CHANNELS = 16
EXAMPLES = 2
SIDE = 32
"""Longest side of a map, in pixels, that is kept as it is."""
KERNEL = 3
"""Axes of a weight from which on it is a kernel."""


def write(folder: Path, net: nn.Module, seen: Seen, choice: Choice, indices: Sequence[int]) -> None:
    """Write `pictures/activations.npz`: for each layer maps uint8 (examples, channels, H, W) of its strongest channels.

    Of a network none of whose layers keeps positions, nothing.

    Args:
        indices: examples over which channels are looked at for one that is never active.

    Raises:
        OSError: it cannot be written.
    """
    x = choice.x[:EXAMPLES]
    names = chosen_layers(net, x)
    if not names:
        return
    shown = outputs(net, x, names)
    active = ever_active(net, seen, names, indices)
    content: dict[str, Any] = {
        "layers": np.array(names, dtype=np.str_),
        "shapes": np.array([tuple(shown[name].shape[1:]) for name in names], dtype=np.int64),
        "silent": np.array([int((~active[name]).sum()) for name in names], dtype=np.int64),
        "examples": np.int64(len(indices)),
        "truth": np.array([seen.classes[one] for one in choice.truth[:EXAMPLES].tolist()], dtype=np.str_),
        "predicted": np.array([seen.classes[one] for one in choice.predicted[:EXAMPLES].tolist()], dtype=np.str_),
        "pixels": shrink(seen.pixels(x).float(), 2 * SIDE).round().byte().movedim(1, -1).cpu().numpy(),
    }
    for place, name in enumerate(names):
        channels, maps = strongest(shown[name])
        content |= {f"channels_{place}": channels.numpy(), f"maps_{place}": maps.numpy()}
    atomic.write(folder / "pictures" / "activations.npz", lambda file: np.savez_compressed(file, **content))


def chosen_layers(net: nn.Module, x: Tensor) -> list[str]:
    """Up to four layers: the first convolution, with what follows it at its raster, and the last of rasters behind it.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
    >>> chosen_layers(nn.Sequential(net, nn.Flatten(), nn.Linear(36, 2)), torch.ones(1, 1, 8, 8))
    ['0.1', '0']
    """
    shapes = spatial_layers(net, x)
    network, names = inner(net), list(shapes)
    if not names:
        return []
    kernels = [name for name in names if _has_kernel(network.get_submodule(name))]
    begin = names.index(kernels[0]) if kernels else 0
    until = names.index(kernels[1]) if len(kernels) > 1 else len(names)
    first = [name for name in names[begin:until] if shapes[name][1:] == shapes[names[begin]][1:]][-1]
    last: dict[tuple[int, ...], str] = {}
    for name in names[names.index(first) + 1 :]:
        raster = shapes[name][1:]
        last.pop(raster, None)
        last[raster] = name
    ends = list(last.values())
    if len(ends) > LAYERS - 1:
        ends = [ends[place] for place in torch.linspace(0, len(ends) - 1, LAYERS - 1).round().long().tolist()]
    return [first, *ends]


def _has_kernel(module: nn.Module) -> bool:
    return any(weight.ndim >= KERNEL for weight in module.parameters(recurse=False))


def outputs(net: nn.Module, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """What modules give for x, each (B, C, H, W) float32: the last time that they run over positions."""
    with asked(net) as network, torch.no_grad(), _listening(network, names, x.ndim) as heard:
        network(x)
    return dict(heard)


@contextmanager
def _listening(net: nn.Module, names: Sequence[str], axes: int) -> Iterator[dict[str, Tensor]]:
    heard: dict[str, Tensor] = {}

    def note(name: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == axes:
            heard[name] = output.float().clone()  # what follows may overwrite it

    handles = [
        net.get_submodule(name).register_forward_hook(lambda module, inputs, output, name=name: note(name, output))
        for name in names
    ]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def ever_active(net: nn.Module, seen: Seen, names: Sequence[str], indices: Sequence[int]) -> dict[str, Tensor]:
    """Which channels (C,) of each layer are above zero anywhere in any of the examples."""
    active: dict[str, Tensor] = {}
    for start in range(0, len(indices), BATCH):
        x, _ = seen.take(indices[start : start + BATCH])
        for name, maps in outputs(net, x, names).items():
            above = (maps > 0).any(0).flatten(1).any(1).cpu()
            active[name] = active[name] | above if name in active else above
    return active


def strongest(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The most active channels, the strongest first, and their maps uint8 (examples, channels, H, W).

    All maps of an example are on one scale.

    Args:
        maps: (examples, C, H, W); activity is what lies above zero.

    >>> channels, shown = strongest(torch.tensor([[[[0.0, -1.0]], [[1.0, 2.0]]]]))
    >>> channels.tolist(), shown.tolist()
    ([1, 0], [[[[128, 255]], [[0, 0]]]])
    """
    above = maps.clamp(min=0).nan_to_num(0.0, 0.0, 0.0)
    channels = above.mean((0, 2, 3)).argsort(descending=True, stable=True)[:CHANNELS]
    small = shrink(above[:, channels], SIDE)
    return channels.cpu(), to_bytes(small, small.amax((1, 2, 3), keepdim=True)).cpu()
