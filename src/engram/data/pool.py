"""The examples of a split, ready to be taken a batch at a time: all in memory on the device, or streamed from disk.

Both give the same batches for the same indices. A resident pool is one tensor with the channels last, from which a
batch is one row selection: no worker processes, no Python for each image. A streamed one decodes in worker processes a
few batches ahead, so that memory depends on the batch and not on the set.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engram.data import images
from engram.data.examples import Examples, Unreadable
from engram.errors import UserError

Progress = Callable[[int, int], None]


class Pool(Protocol):
    """What training, evaluation and the data card ask of a split."""

    labels: Tensor  # int64 (N,), on the device
    shape: tuple[int, ...]  # (C, *S) of a stored example
    dtype: torch.dtype  # uint8 for pictures, float32 for signals and volumes
    nbytes: int  # held in memory

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Where the example came from."""
        ...

    def batches(self, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For each int64 CPU tensor of indices: x (B, C, *S) with the channels last in memory, and y (B,)."""
        ...

    def pictures(self, indices: Sequence[int]) -> NDArray[Any]:
        """Stored examples as (B, C, *S) NumPy, for cards and reports."""
        ...


class Form:
    """How a stored example is made from what a source reads: channels and size, the same for all.

    Args:
        shape: (C, *S) of a stored example.
        pictures: whether they are pictures that may be converted and resized; other data must already have the shape.
    """

    def __init__(self, shape: Sequence[int], *, pictures: bool) -> None:
        self.shape, self.pictures = tuple(shape), pictures

    def read(self, examples: Examples, index: int) -> NDArray[Any]:
        """One example in stored form, (*S, C).

        Raises:
            Unreadable: it cannot be decoded, or is of another shape and no picture.
        """
        example = examples.read(index, max(self.shape[1:]) if self.pictures else None)
        if self.pictures:
            example = images.fit(
                images.to_channels(example.astype(np.uint8, copy=False), self.shape[0]), self.shape[1:]
            )
        if example.shape != self.shape:
            wanted = "x".join(map(str, self.shape))
            raise Unreadable(examples.name(index), f"its shape is {'x'.join(map(str, example.shape))}, not {wanted}")
        if example.dtype != np.uint8 and not np.isfinite(example).all():
            raise Unreadable(examples.name(index), "it holds values that are infinite or not a number")
        return np.moveaxis(example, 0, -1)

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8 if self.pictures else torch.float32


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


class StreamedPool:
    """A split that stays on disk: worker processes decode a few batches ahead of training."""

    nbytes = 0

    def __init__(
        self, examples: Examples, rows: NDArray[np.int64], form: Form, device: torch.device, workers: int
    ) -> None:
        self.examples, self.rows, self.form, self.device, self.workers = examples, rows, form, device, workers
        self.labels = torch.from_numpy(examples.labels[rows]).to(device)
        self.shape, self.dtype = form.shape, form.dtype

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return self.examples.name(int(self.rows[index]))

    def batches(self, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        batches = list(indices)
        loader = torch.utils.data.DataLoader(
            _Decoded(self.examples, self.rows, self.form),
            batch_sampler=_Lists(batches),
            collate_fn=_as_it_is,
            num_workers=self.workers,
            prefetch_factor=2 if self.workers else None,
            pin_memory=self.device.type == "cuda",
        )
        for batch, stored in zip(batches, loader, strict=True):
            if isinstance(stored, _Failure):
                raise UserError(
                    f"{stored.name} can no longer be read: {stored.why}", then="repair or remove it, then engram resume"
                )
            y = self.labels.index_select(0, batch.to(self.device))
            yield stored.to(self.device, non_blocking=True).movedim(-1, 1), y

    def pictures(self, indices: Sequence[int]) -> NDArray[Any]:
        stored = _Decoded(self.examples, self.rows, self.form).__getitems__(list(indices))
        if isinstance(stored, _Failure):
            raise UserError(f"{stored.name} can no longer be read: {stored.why}")
        return np.moveaxis(stored.numpy(), -1, 1)


class _Lists:
    """Index tensors as the lists that a data loader hands to its workers, each made when it is asked for."""

    def __init__(self, batches: list[Tensor]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.tolist() for batch in self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Failure:
    """What a worker gives in place of a batch it could not decode: exceptions lose their arguments on the way."""

    def __init__(self, name: str, why: str) -> None:
        self.name, self.why = name, why


class _Decoded(torch.utils.data.Dataset[Any]):
    """Whole batches in stored form, for the worker processes."""

    def __init__(self, examples: Examples, rows: NDArray[np.int64], form: Form) -> None:
        self.examples, self.rows, self.form = examples, rows, form

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> Tensor | _Failure:
        try:
            read = [self.form.read(self.examples, int(self.rows[index])) for index in indices]
        except Unreadable as error:
            return _Failure(error.name, error.why)
        return torch.from_numpy(np.stack(read))


def _as_it_is(batch: Any) -> Any:
    return batch


def fill(
    examples: Examples,
    rows: NDArray[np.int64],
    form: Form,
    device: torch.device,
    progress: Progress = lambda done, total: None,
) -> tuple[ResidentPool, list[Unreadable]]:
    """Read `rows` of a split into memory, in parallel; examples that cannot be decoded are left out and returned."""
    whole = examples.array()
    sound = whole is not None and (whole.dtype == np.uint8) == form.pictures
    if whole is not None and sound and whole.shape[1:] == form.shape and (form.pictures or np.isfinite(whole).all()):
        dtype = np.uint8 if form.pictures else np.float32
        chosen = np.moveaxis(whole[rows], 1, -1)  # a copy: the file behind it may be mapped and read-only
        return ResidentPool(examples, rows, torch.from_numpy(np.ascontiguousarray(chosen, dtype)), device), []
    *sides, channels = (*form.shape[1:], form.shape[0])
    content = np.empty((len(rows), *sides, channels), np.uint8 if form.pictures else np.float32)
    failures: dict[int, Unreadable] = {}

    def read(places: range) -> int:
        for place in places:
            try:
                content[place] = form.read(examples, int(rows[place]))
            except Unreadable as error:
                failures[place] = error
        return len(places)

    chunks = [range(start, min(start + CHUNK, len(rows))) for start in range(0, len(rows), CHUNK)]
    done = 0
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as executor:  # decoders release the interpreter
        for count in executor.map(read, chunks):
            done += count
            progress(done, len(rows))
    stored = torch.from_numpy(content)
    if failures:
        kept = np.setdiff1d(np.arange(len(rows)), list(failures))
        rows, stored = rows[kept], stored[torch.from_numpy(kept)]
    return ResidentPool(examples, rows, stored, device), [failures[place] for place in sorted(failures)]


CHUNK = 64  # examples a thread reads at a time


def readable(
    examples: Examples, rows: NDArray[np.int64], form: Form, progress: Progress = lambda done, total: None
) -> tuple[NDArray[np.int64], list[Unreadable]]:
    """Those of `rows` that can be decoded, found by decoding each once and keeping nothing.

    A streamed set is read through before training, so that a damaged file is named now and not after hours.
    """
    failures: dict[int, Unreadable] = {}

    def read(places: range) -> int:
        for place in places:
            try:
                form.read(examples, int(rows[place]))
            except Unreadable as error:
                failures[place] = error
        return len(places)

    chunks = [range(start, min(start + CHUNK, len(rows))) for start in range(0, len(rows), CHUNK)]
    done = 0
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as executor:
        for count in executor.map(read, chunks):
            done += count
            progress(done, len(rows))
    kept = np.setdiff1d(np.arange(len(rows)), list(failures))
    return rows[kept], [failures[place] for place in sorted(failures)]


def budget(wanted: float | None, device: torch.device) -> int:
    """Bytes the resident set may take: `wanted` GiB, else half of what is free on the device."""
    if wanted is not None:
        return int(wanted * 2**30)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    return free_memory() // 2


def free_memory() -> int:
    """Bytes of main memory this process could still take: what the system has free, within a container's limit."""
    free = 8 * 2**30
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            rows = dict(line.split(":", 1) for line in file)
        free = int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        if limit != "max":
            free = min(free, int(limit) - used)
    except (OSError, ValueError):
        pass
    return max(0, free)
