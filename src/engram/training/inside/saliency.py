"""Where six pictures speak for what the network says of them, by the four methods of `engram.attribution`.

Every map is shown by itself: white is its own 99th percentile (Smilkov et al. 2017 cut there, so that a few pixels do
not darken the rest), of Grad-CAM its highest value. How much a map depends on the class is measured with it: the rank
correlation, pixel by pixel, with the map of the class that the network names second.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import atomic
from engram.attribution import grad_cam, gradient, guided_backpropagation, smooth_grad
from engram.attribution.grad_cam import last_layer
from engram.errors import UserError
from engram.training.inside.choice import Choice
from engram.training.inside.pixels import shrink, to_bytes
from engram.training.inside.seen import Seen

SIDE = 68
"""Longest side of a picture, in pixels, that is kept as it is."""
WORK = 12e9
"""Multiply-adds that SmoothGrad may cost: 16 samples of six pictures with ResNet-20, a third of them forward."""
SAMPLES = (4, 50)
"""Fewest and most samples of SmoothGrad."""
CUT = 0.99

METHODS: dict[str, Callable[..., Tensor]] = {
    "gradient": gradient,
    "smooth_grad": smooth_grad,
    "grad_cam": grad_cam,
    "guided_backpropagation": guided_backpropagation,
}


def write(folder: Path, net: nn.Module, seen: Seen, choice: Choice, macs: int) -> list[str]:
    """Write `pictures/saliency.npz`: pixels uint8 (N, H, W, C) and maps uint8 (N, methods, H, W), with what was said.

    A method that this network has no use for is left out, and why is among `missing`.

    Returns:
        A sentence for each method that failed although it should not have.

    Raises:
        ValueError: no method gives anything.
        OSError: it cannot be written.
    """
    samples = int(min(max(WORK / (3 * len(choice.x) * macs), SAMPLES[0]), SAMPLES[1]))
    best = choice.probability.topk(min(2, choice.probability.shape[1]), 1).indices.to(choice.x.device)
    maps: dict[str, Tensor] = {}
    alike: dict[str, float] = {}
    missing, notes = [], []
    for name, method in METHODS.items():
        settings = {"samples": samples} if name == "smooth_grad" else {}
        try:
            found = method(net, choice.x, best[:, 0], **settings)
            other = None if settings else method(net, choice.x, best[:, -1])
        except UserError as error:
            missing.append(error.given)
        except Exception as error:
            missing.append(f"{name}: {error}")
            notes.append(f"no maps of {name}: {error}")
        else:
            maps[name] = as_bytes(found, cut=name != "grad_cam")
            alike[name] = float("nan") if other is None else likeness(found, other)
    if not maps:
        raise ValueError(missing[0])
    content: dict[str, Any] = {
        "methods": np.array(list(maps), dtype=np.str_),
        "maps": torch.stack(list(maps.values()), 1).numpy(),
        "alike": np.array(list(alike.values()), dtype=np.float64),
        "missing": np.array(missing, dtype=np.str_),
        "samples": np.int64(samples),
        "layer": np.str_(last_layer(net, choice.x) if "grad_cam" in maps else ""),
        "kinds": np.array(choice.kinds, dtype=np.str_),
        "truth": np.array([seen.classes[one] for one in choice.truth.tolist()], dtype=np.str_),
        "predicted": np.array([seen.classes[one] for one in choice.predicted.tolist()], dtype=np.str_),
        "probability": choice.probability.max(1).values.double().numpy(),
        "names": np.array([seen.pool.name(one) for one in choice.indices], dtype=np.str_),
        "pixels": shrink(seen.pixels(choice.x).float(), SIDE).round().byte().movedim(1, -1).cpu().numpy(),
        "channels": np.int64(choice.x.shape[1]),
    }
    atomic.write(folder / "pictures" / "saliency.npz", lambda file: np.savez_compressed(file, **content))
    return notes


def as_bytes(maps: Tensor, *, cut: bool) -> Tensor:
    """Maps (N, H, W) as uint8, each on its own scale: to its 99th percentile, or to its highest value.

    >>> as_bytes(torch.tensor([[[0.0, 1.0], [2.0, 4.0]]]), cut=False).tolist()
    [[[0, 64], [128, 255]]]
    """
    small = shrink(maps[:, None].float().nan_to_num(0.0), SIDE)[:, 0]
    values = small.flatten(1)
    highest = torch.quantile(values, CUT, dim=1) if cut else values.amax(1)
    return to_bytes(small, highest[:, None, None]).cpu()


def likeness(maps: Tensor, others: Tensor) -> float:
    """Spearman's rank correlation of two sets of maps (N, H, W), the mean over those that are not constant.

    >>> maps = torch.rand(3, 8, 8)
    >>> round(likeness(maps, 2 * maps), 3), round(likeness(maps, -maps), 3)
    (1.0, -1.0)
    """
    varies = [(one != one[:, :1]).any(1) for one in (maps.flatten(1), others.flatten(1))]
    kept = varies[0] & varies[1]
    if not bool(kept.any()):
        return float("nan")
    ranks = [_ranks(one.flatten(1)[kept]) for one in (maps, others)]
    return float((ranks[0] * ranks[1]).sum(1).mean())


def _ranks(values: Tensor) -> Tensor:
    """Ranks of each row as a vector of mean 0 and length 1; equal values share the middle of theirs."""
    values = values.double().cpu().contiguous()
    ordered = values.sort(1).values
    low = torch.searchsorted(ordered, values)
    high = torch.searchsorted(ordered, values, right=True)
    ranks = (low + high).double()
    return F.normalize(ranks - ranks.mean(1, keepdim=True), dim=1)
