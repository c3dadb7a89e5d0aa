"""The examples of a split, ready to be taken a batch at a time: all in memory on the device, or streamed from disk.

Both give the same batches for the same indices. A resident pool is one tensor with the channels last, from which a
batch is one row selection: no worker processes, no Python for each image. The streamed one is in its own file.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engram.data import decoding
from engram.data.examples import Examples, Unreadable
from engram.data.form import Form

Progress = Callable[[int, int], None]


class Pool(Protocol):
    """What training, evaluation and the data card ask of a split."""

    labels: Tensor  # int64 (N,), on the device
    shape: tuple[int, ...]  # (C, *S) of a stored example
    dtype: torch.dtype  # uint8 for pictures, float32 for signals and volumes

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        ...

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Where the example came from."""
        ...

    def batches(self, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For each int64 CPU tensor of indices: x (B, C, *S) with the channels last in memory, and y (B,).

        The indices may be drawn a few batches before the batch is given.
        """
        ...

    def pictures(self, indices: Sequence[int]) -> NDArray[Any]:
        """Stored examples as (B, C, *S) NumPy, for cards and reports."""
        ...


class Names(Sequence[str]):
    """The names of a pool's examples by index, told only when asked: a streamed set has millions."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __len__(self) -> int:
        return len(self.pool)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        return self.pool.name(range(len(self))[index])


class ResidentPool:
    """A split as one (N, *S, C) tensor on the device."""

    def __init__(self, examples: Examples, rows: NDArray[np.int64], stored: Tensor, device: torch.device) -> None:
        self.examples, self.rows = examples, rows
        self.stored = stored.to(device)
        self.labels = torch.from_numpy(examples.labels[rows]).to(device)
        self.shape: tuple[int, ...] = (stored.shape[-1], *stored.shape[1:-1])
        self.dtype, self.nbytes = stored.dtype, stored.nbytes

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return self.examples.name(int(self.rows[index]))

    def batches(self, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in indices:
            there = batch.to(self.stored.device, non_blocking=True)
            yield self.stored.index_select(0, there).movedim(-1, 1), self.labels.index_select(0, there)

    def pictures(self, indices: Sequence[int]) -> NDArray[Any]:
        chosen = torch.as_tensor(list(indices), dtype=torch.int64, device=self.stored.device)
        return np.moveaxis(self.stored.index_select(0, chosen).cpu().numpy(), -1, 1)


def fill(
    examples: Examples,
    rows: NDArray[np.int64],
    form: Form,
    device: torch.device,
    progress: Progress = lambda done, total: None,
) -> tuple[ResidentPool, list[Unreadable]]:
    """Read `rows` of a split into memory; examples that cannot be decoded are left out and returned.

    Each block goes to its place on the device as it comes, so that the set is never in memory twice, and never whole in
    main memory when it is for another device.
    """
    stored = torch.empty((len(rows), *form.last), dtype=form.dtype, device=device)
    kept = np.zeros(len(rows), bool)
    failed: list[Unreadable] = []
    done = filled = 0
    for block in decoding.blocks(examples, rows, form):
        number = len(block.kept)
        stored[filled : filled + number] = torch.from_numpy(np.ascontiguousarray(block.stored, form.array_dtype))
        kept[done + np.array(block.kept, np.int64)] = True
        failed += block.failed.values()
        filled += number
        done += number + len(block.failed)
        progress(done, len(rows))
    return ResidentPool(examples, rows[kept], stored[:filled], device), failed


def readable(
    examples: Examples, rows: NDArray[np.int64], form: Form, progress: Progress = lambda done, total: None
) -> tuple[NDArray[np.int64], list[Unreadable]]:
    """Those of `rows` that can be decoded, found by decoding each once and keeping nothing.

    A streamed set is read through before training, so that a damaged file is named now and not after hours.
    """
    kept = np.zeros(len(rows), bool)
    failed: list[Unreadable] = []
    done = 0
    for block in decoding.blocks(examples, rows, form, keep=False):
        kept[done + np.array(block.kept, np.int64)] = True
        failed += block.failed.values()
        done += len(block.kept) + len(block.failed)
        progress(done, len(rows))
    return rows[kept], failed
