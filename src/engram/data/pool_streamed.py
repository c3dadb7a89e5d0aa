"""A split that stays on disk: worker processes decode a few batches ahead, so memory depends on the batch, not the set.

Where processes are forked they are started for each pass over the data, which takes a few hundredths of a second and
leaves nothing in memory between passes. Where they must be started anew (macOS, Windows, Python 3.14) that takes
seconds, and they stay.

An example that was sound when the set was read through and is not any more (a network drive that was away, say) is
tried again after a moment; if it still fails, training stops by naming it, and resumes from its last state.
"""

import multiprocessing
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engram.data import memory
from engram.data.decoding import forked, watched
from engram.data.examples import Examples
from engram.data.form import Block, Form
from engram.errors import UserError

AHEAD = 2  # batches that each worker decodes before they are asked for
PATIENCE = 2.0  # seconds after which an example that cannot be read is tried once more


class StreamedPool:
    """A split of which only a few batches are in memory.

    Args:
        workers: processes that decode; 0 decodes in this one.
        method: how they are started: fork, spawn or forkserver instead of the system's own way.
    """

    nbytes = 0

    def __init__(
        self,
        examples: Examples,
        rows: NDArray[np.int64],
        form: Form,
        device: torch.device,
        workers: int,
        *,
        method: str | None = None,
    ) -> None:
        self.examples, self.rows, self.form, self.device, self.workers = examples, rows, form, device, workers
        self.labels = torch.from_numpy(examples.labels[rows]).to(device)
        self.shape, self.dtype = form.shape, form.dtype
        self.method = method or multiprocessing.get_start_method()
        self._lasting: _Loader | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return self.examples.name(int(self.rows[index]))

    def batches(self, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        source = iter(indices)
        first = next(source, None)
        if first is None:
            return
        loader = self._loader(len(first))
        loader.busy = True
        try:
            for batch, stored in loader.run(chain([first], source)):
                y = self.labels.index_select(0, batch.to(self.device, non_blocking=True))
                yield stored.to(self.device, non_blocking=True).movedim(-1, 1), y
        finally:
            loader.busy = False

    def pictures(self, indices: Sequence[int]) -> NDArray[Any]:
        block = _Batches(self.examples, self.rows, self.form, shared=False).__getitems__(list(indices))
        return np.moveaxis(_sound(block), -1, 1)

    def _loader(self, batch_size: int) -> "_Loader":
        """A new one, or the one whose workers stay, unless it is in the middle of another pass."""
        if self._lasting is not None and not self._lasting.busy:
            return self._lasting
        in_flight = self.workers * AHEAD * batch_size * self.form.nbytes
        dataset = _Batches(self.examples, self.rows, self.form, shared=2 * in_flight < memory.shared_memory())
        lasts = bool(self.workers) and self.method != "fork" and self._lasting is None
        loader = _Loader(dataset, self.workers, self.method, lasts=lasts, pinned=self.device.type == "cuda")
        if lasts:
            self._lasting = loader
        return loader


class _Loader:
    """torch's data loader, fed with batches of indices that are drawn as they are needed."""

    def __init__(self, dataset: "_Batches", workers: int, method: str, *, lasts: bool, pinned: bool) -> None:
        self.busy = False
        self.order = _Order()
        self.loader = torch.utils.data.DataLoader(
            dataset,
            batch_sampler=self.order,
            collate_fn=_as_it_is,
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            persistent_workers=lasts,
            pin_memory=pinned,
            multiprocessing_context=method if workers else None,
        )

    def run(self, indices: Iterator[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """(indices, stored examples) of every batch."""
        self.order.start(indices)
        for given in watched(forked(self.loader)):
            stored = given if isinstance(given, Tensor) else torch.from_numpy(_sound(given))
            yield self.order.drawn.popleft(), stored


class _Order:
    """Batches of indices as the lists that a data loader hands to its workers; remembers those under way."""

    def start(self, indices: Iterator[Tensor]) -> None:
        self.source, self.drawn = indices, deque[Tensor]()

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.source:
            self.drawn.append(batch)
            yield batch.tolist()


class _Batches(torch.utils.data.Dataset[Any]):
    """Whole batches in stored form, for the worker processes.

    Args:
        shared: whether a batch goes to the parent in shared memory, or, where there is little of it, through a pipe.
    """

    def __init__(self, examples: Examples, rows: NDArray[np.int64], form: Form, *, shared: bool) -> None:
        self.examples, self.rows, self.form, self.shared = examples, rows, form, shared

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> Tensor | Block:
        """The batch as a tensor in shared memory, or as a block; a block too if something cannot be read."""
        rows = self.rows[indices]
        block = self.form.block(self.examples, rows)
        if block.failed:
            time.sleep(PATIENCE)
            block = self.form.block(self.examples, rows)
        return torch.from_numpy(block.stored) if self.shared and not block.failed else block


def _sound(block: Tensor | Block) -> NDArray[Any]:
    if isinstance(block, Tensor):
        return block.numpy()
    for failure in block.failed.values():
        reason = f"{failure.name} can no longer be read: {failure.why}"
        raise UserError(reason, then="repair or remove it, then engram resume")
    return block.stored


def _as_it_is(batch: Any) -> Any:
    return batch
