"""Signals with a label at every step: what is a network to say at each moment, and not only at the end.

One `.npz`: x_train (N, T) or (N, C, T) numbers and y_train (N, T) whole numbers, and likewise with `_validation` and
`_test` where there are any; `classes` (text) names the classes. A label below 0 does not count, so that signals of
unlike lengths lie in one array, padded with anything and labelled -1 there.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engram.data import split
from engram.data.sources._names import listed
from engram.data.text_pool import IGNORED
from engram.errors import UserError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class StepLabels:
    """Signals and their labels by split.

    Args:
        signals: of each split, float32 (N, C, T).
        labels: likewise int64 (N, T), `IGNORED` where a step does not count.
    """

    path: str
    classes: tuple[str, ...]
    signals: dict[str, NDArray[np.float32]]
    labels: dict[str, NDArray[np.int64]]
    kind: str = "npz of labelled steps"


def open_step_labels(path: str | Path) -> StepLabels:
    """Read signals with a label at every step.

    Raises:
        UserError: no such file, arrays that are missing or do not fit each other, numbers that are not finite, labels
            that are no whole numbers or have no class; each is named.
    """
    arrays = _arrays(Path(path))
    signals, labels = {}, {}
    for name in SPLITS:
        x, y = arrays.get(f"x_{name}"), arrays.get(f"y_{name}")
        if x is None and y is None and name != "train":
            continue
        if x is None or y is None:
            lacking = f"{'x' if x is None else 'y'}_{name}"
            raise UserError(
                f"{path} lacks {lacking}",
                allowed=f"x_train and y_train; there is {listed(list(arrays)) or 'nothing'}",
                then="np.savez_compressed('steps.npz', x_train=..., y_train=...)",
            )
        signals[name], labels[name] = _checked(name, x, y)
    shapes = {name: one.shape[1] for name, one in signals.items()}
    if len(set(shapes.values())) > 1:
        raise UserError(f"{path}: the splits have different channels: {shapes}")
    named = tuple(str(one) for one in arrays["classes"].reshape(-1)) if "classes" in arrays else None
    return StepLabels(str(path), _classes(labels, named), signals, labels)


def hold_out(found: StepLabels, share: float, seed: int) -> StepLabels:
    """The same with a validation split taken from the training signals, where the data bring none."""
    if "validation" in found.labels or share == 0 or len(found.labels["train"]) < 2:
        return found
    kept, held = split.stratified(np.zeros(len(found.labels["train"]), np.int64), share, seed)
    if not len(held):
        return found
    signals = {**found.signals, "train": found.signals["train"][kept], "validation": found.signals["train"][held]}
    labels = {**found.labels, "train": found.labels["train"][kept], "validation": found.labels["train"][held]}
    return StepLabels(found.path, found.classes, signals, labels, found.kind)


class StepPool:
    """The signals of a split in memory; satisfies `engram.data.pool.Pool`, y being (B, T)."""

    def __init__(self, split: str, signals: NDArray[np.float32], labels: NDArray[np.int64], device: torch.device):
        self.split = split
        self.signals, self.steps = torch.from_numpy(signals).to(device), torch.from_numpy(labels).to(device)
        self.labels = torch.zeros(len(signals), dtype=torch.int64, device=device)  # a signal as a whole has no class
        self.shape: tuple[int, ...] = tuple(signals.shape[1:])
        self.dtype, self.nbytes = self.signals.dtype, self.signals.nbytes + self.steps.nbytes

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"{self.split}[{index}]"

    def batches(self, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For each (B,) tensor of indices: x float32 (B, C, T) and y int64 (B, T)."""
        for batch in indices:
            there = batch.to(self.signals.device, non_blocking=True)
            yield self.signals.index_select(0, there), self.steps.index_select(0, there)

    def pictures(self, indices: Sequence[int]) -> NDArray[np.float32]:
        return self.signals[list(indices)].cpu().numpy()


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    if path.suffix.lower() != ".npz":
        raise UserError(
            f"{path} is no .npz file", allowed="an .npz file with x_train and y_train", then="--task classify"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise UserError(f"there is no file {path}", then=f"ls {path.parent}") from None
    except (OSError, ValueError, BadZipFile) as error:
        raise UserError(f"{path} cannot be read: {error}", allowed="arrays of numbers; no pickled objects") from None


def _checked(
    split: str, x: NDArray[np.generic], y: NDArray[np.generic]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    if x.ndim not in (2, 3) or x.dtype.kind not in "biuf":
        raise UserError(f"x_{split} is {x.dtype} of shape {x.shape}", allowed="numbers, (N, T) or (N, C, T)")
    signals = x.astype(np.float32).reshape(len(x), -1, x.shape[-1])
    bad = np.flatnonzero(~np.isfinite(signals).all((1, 2)))
    if len(bad):
        raise UserError(f"x_{split}[{bad[0]}] holds numbers that are not finite ({len(bad)} such signals)")
    if y.shape != (len(x), x.shape[-1]):
        raise UserError(
            f"y_{split} has shape {y.shape} and x_{split} {x.shape}", allowed="a label at every step: (N, T)"
        )
    if y.dtype.kind not in "biuf" or not np.array_equal(y, np.floor(y.astype(np.float64))):
        raise UserError(f"y_{split} is {y.dtype}", allowed="whole numbers, below 0 where a step does not count")
    labels = y.astype(np.int64)
    return signals, np.where(labels < 0, IGNORED, labels)


def _classes(labels: dict[str, NDArray[np.int64]], named: tuple[str, ...] | None) -> tuple[str, ...]:
    train = np.unique(labels["train"][labels["train"] != IGNORED])
    if not len(train):
        raise UserError("y_train has no label that counts", allowed="whole numbers from 0 up")
    number = int(train[-1]) + 1 if named is None else len(named)
    if named is None and len(train) < number:
        missing = sorted(set(range(number)) - set(train.tolist()))
        raise UserError(f"y_train has no step of class {missing[0]}", allowed=f"every class from 0 to {number - 1}")
    for split_, own in labels.items():
        if own.max(initial=0) >= number:
            raise UserError(f"y_{split_} holds the label {own.max()}", allowed=f"0 to {number - 1}")
    return named or tuple(str(one) for one in range(number))
