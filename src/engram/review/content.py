"""What a data set holds, in a few bytes, without asking it for an example.

`dataset[i]` may read a file, draw an augmentation or change a counter, so nothing here calls it. What lies open is
looked at: the tensors of a TensorDataset, the items of a list, the arrays or file names that torchvision's data sets
keep as `data`, `samples` or `imgs`, and these behind Subset and ConcatDataset. Of any other data set nothing is known
but its length, type and labels.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

LOOKED_AT = 64  # examples, evenly over all of them
KEPT = ("data", "samples", "imgs")


def content(dataset: Any, examples: int) -> str | None:
    """A digest of the first `examples` examples of a data set; none where they do not lie open.

    >>> one, other = [(torch.ones(2), 0), (torch.ones(2), 1)], [(torch.ones(2), 0), (torch.zeros(2), 1)]
    >>> content(one, 2) == content(one + other, 2), content(one, 2) == content(other, 2)
    (True, False)
    """
    held = _held(dataset)
    if held is None:
        return None
    digest = hashlib.sha256()
    for place in sorted({round(step * (examples - 1) / (LOOKED_AT - 1)) for step in range(LOOKED_AT)}):
        _take(digest.update, held(place))
    return digest.hexdigest()[:16]


def _held(dataset: Any) -> Callable[[int], Any] | None:
    """What the data set holds of an example, by its index."""
    if isinstance(dataset, torch.utils.data.TensorDataset):
        return lambda index: [tensor[index] for tensor in dataset.tensors]
    if isinstance(dataset, torch.utils.data.Subset):
        whole = _held(dataset.dataset)
        return None if whole is None else lambda index: whole(int(dataset.indices[index]))
    if isinstance(dataset, torch.utils.data.ConcatDataset):
        parts, ends = [_held(one) for one in dataset.datasets], dataset.cumulative_sizes
        if any(part is None for part in parts):
            return None

        def of_part(index: int) -> Any:
            which = bisect_right(ends, index)
            part = parts[which]
            return None if part is None else part(index - (ends[which - 1] if which else 0))

        return of_part
    if getattr(type(dataset), "__getitem__", None) in (list.__getitem__, tuple.__getitem__):  # one's own may draw
        return lambda index: dataset[index]
    for name in KEPT:
        kept = getattr(dataset, name, None)
        if isinstance(kept, (Tensor, np.ndarray, list, tuple)) and len(kept) == len(dataset):
            return lambda index, kept=kept: kept[index]
    return None


def _take(update: Callable[[bytes], None], value: Any) -> None:
    """One value after the other, each with its kind, so that no two values look alike."""
    if isinstance(value, Tensor) and value.layout is torch.strided:
        flat = value.detach().cpu().resolve_conj().resolve_neg().reshape(-1).contiguous().view(torch.uint8)
        update(f"{value.dtype}{tuple(value.shape)}".encode() + flat.numpy().tobytes())
    elif isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        update(f"[{len(value)}".encode())
        for one in value:
            _take(update, one)
    elif isinstance(value, (str, bytes, int, float, bool)) or value is None:
        update(repr(value).encode() + b"\0")
    else:
        update(type(value).__name__.encode() + b"\0")
