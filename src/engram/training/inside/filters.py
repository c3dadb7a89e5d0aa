"""The filters of the first layer, at the start of a run and now: what the network looks for in the pixels themselves.

A filter of the first layer is as deep as the picture, so it can be shown as one: it answers most where the picture
looks like it. Two numbers go with the pictures:

    moved          |now - start| / |start|, over the filters shown
    fine detail    share of the filters' energy at frequencies over a quarter of a cycle a pixel

Weights drawn at random have a flat spectrum, and so an expected share of fine detail that is that of the frequencies
themselves: 1 - pi / 16, about 80 % of the plane, for filters of any size. Filters that have become smooth have less.
Noisy filters after long training say that the network trained too short, or without a regulariser that it needs.

Zeiler and Fergus 2013, arXiv:1311.2901, section 4.1, mend AlexNet by a look at its first layer; CS231n, Visualizing
what ConvNets learn.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from engram import atomic
from engram.clinic.admission import inner
from engram.clinic.untouched import untouched
from engram.training.inside.pixels import shrink
from engram.training.inside.seen import Seen

MOST = 64
"""Filters that are kept."""
VALUES = 16_000
"""Weights of them that are kept, twice: 64 kB."""
SIDE = 32
"""Longest side of a filter, in pixels, that is kept as it is."""
FINE = 0.25
"""Cycles a pixel over which a frequency is fine detail: half of the finest there is."""


class Filters(NamedTuple):
    """The first weights of a network: the layer's name, (K, C, *kernel) or (K, inputs), and how many there are."""

    name: str
    weights: NDArray[np.float32]
    count: int


def first_filters(net: nn.Module) -> Filters | None:
    """Weights of the first convolution or linear layer, the first 64 of them; None of a network that has neither.

    >>> found = first_filters(nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.Conv2d(8, 8, 3)))
    >>> found.name, found.weights.shape
    ('0', (8, 3, 5, 5))
    """
    net = inner(net)
    for name, module in net.named_modules():
        if isinstance(module, _ConvNd | nn.Linear) and not isinstance(module, _ConvTransposeNd):
            with untouched(net):  # the weight may be made anew each time, with a draw
                weights = module.weight.detach()[:MOST].float().cpu().numpy().copy()
            return Filters(name, weights, len(module.weight))
    return None


def write(folder: Path, net: nn.Module, start: Filters | None, seen: Seen) -> None:
    """Write `pictures/filters.npz`: `now` and, where it is known, `start`, float16 (K, C, H, W), and what was measured.

    Raises:
        ValueError: the first layer does not look at the picture itself.
        OSError: it cannot be written.
    """
    now = first_filters(net)
    if now is None:
        raise ValueError("the network has no convolution and no linear layer")
    if start is not None and (start.name != now.name or start.weights.shape != now.weights.shape):
        start = None
    shown = as_pictures(now, net, seen)
    content: dict[str, Any] = {"layer": np.str_(now.name), "count": np.int64(now.count)}
    content |= measured(shown, "now")
    content["now"] = kept(shown)
    if start is not None:
        before = as_pictures(start, net, seen)
        content |= measured(before, "start")
        content["start"] = kept(before)
        content["moved"] = np.float64((shown - before).norm() / before.norm())
    atomic.write(folder / "pictures" / "filters.npz", lambda file: np.savez_compressed(file, **content))


def as_pictures(filters: Filters, net: nn.Module, seen: Seen) -> Tensor:
    """Filters as pictures (K, C, H, W): those of a linear layer are laid out as the picture was that they are given.

    Raises:
        ValueError: the layer is given something else than the picture.
    """
    x, _ = seen.take(seen.spread(1))
    weights = torch.from_numpy(filters.weights)
    given = _given(inner(net), filters.name, x)
    if weights.ndim == 4:
        if given is None or given.shape[1] != x.shape[1] or weights.shape[1] != x.shape[1]:
            raise ValueError(f"the first layer, {filters.name}, does not look at the channels of the picture")
        return weights
    if weights.ndim == 2 and given is not None:
        if torch.equal(given.flatten(), x.flatten()):
            return weights.reshape(-1, *x.shape[1:])
        if torch.equal(given.flatten(), x.movedim(1, -1).flatten()):
            return weights.reshape(-1, *x.shape[2:], x.shape[1]).movedim(-1, 1)
    raise ValueError(f"the first layer, {filters.name}, does not look at the picture itself")


def _given(net: nn.Module, name: str, x: Tensor) -> Tensor | None:
    """What a module is given for x."""
    found: list[Tensor] = []
    handle = net.get_submodule(name).register_forward_pre_hook(lambda module, inputs: found.append(inputs[0].clone()))
    try:
        with untouched(net), torch.no_grad():
            net(x)
    finally:
        handle.remove()
    return found[0] if found else None


def kept(filters: Tensor) -> NDArray[np.float16]:
    """As many of the first filters as there is room for, and no larger than need be."""
    small = shrink(filters, SIDE)
    room = max(1, VALUES // small[0].numel())
    return small[:room].clamp(-60_000, 60_000).numpy().astype(np.float16)


def measured(filters: Tensor, when: str) -> dict[str, Any]:
    """The share of fine detail, and that of the frequencies themselves, which random weights are expected to have."""
    share, chance = fine_detail(filters)
    return {f"detail_{when}": np.float64(share), "chance": np.float64(chance)}


def fine_detail(filters: Tensor) -> tuple[float, float]:
    """Share of the energy of filters (K, C, H, W) over a quarter of a cycle a pixel, and that of a flat spectrum.

    >>> flat = torch.zeros(1, 1, 5, 5); flat[0, 0, 2, 2] = 1.0
    >>> [round(share, 2) for share in fine_detail(flat)], round(fine_detail(torch.ones(1, 1, 5, 5))[0], 2)
    ([0.81, 0.81], 0.15)
    """
    size = max(64, *filters.shape[2:])
    energy = torch.fft.fft2(filters.double(), s=(size, size)).abs().square().sum((0, 1))  # (size, size)
    along = torch.fft.fftfreq(size, dtype=torch.float64)
    fine = (along[:, None].square() + along.square()).sqrt() > FINE
    whole = float(energy.sum())
    return float(energy[fine].sum()) / whole if whole else float("nan"), float(fine.double().mean())
