"""Many examples brought to stored form as fast as the machine allows: one after the other, in threads or in processes.

Decoders release the interpreter while they work, so large pictures are decoded in threads. Of a picture of 32 pixels
the decoder's part is so short that threads only wait for the interpreter, and are slower than none; those are decoded
in forked processes. Which it is, the first block tells by the time it takes; what comes out is the same.
"""

import multiprocessing
import os
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engram.data.examples import Examples
from engram.data.form import Block, Form
from engram.errors import UserError

BLOCK = 2**20  # bytes of stored examples that are decoded together, about
SHORT = 0.5  # seconds of work for which nobody else is called
SMALL = 1e-3  # seconds an example takes below which threads only wait for one another


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def blocks(
    examples: Examples, rows: NDArray[np.int64], form: Form, *, keep: bool = True, way: str | None = None
) -> Iterator[Block]:
    """The examples of these rows in order, in blocks that follow one another.

    Args:
        keep: whether what was decoded is wanted, or only which could be.
        way: "alone", "threads" or "processes" instead of what the first block tells.
    """
    size = max(16, min(512, BLOCK // form.nbytes))
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    whole = examples.array()
    if whole is not None and form.fits(whole):
        for part in parts:
            yield form.slice(whole, examples, part)
        return
    if not parts:
        return
    begin = time.perf_counter()
    yield form.block(examples, parts[0])
    each = (time.perf_counter() - begin) / len(parts[0])
    way = way or _way(each, len(rows) - len(parts[0]))
    if way == "processes":
        yield from _in_processes(examples, parts[1:], form, keep)
    elif way == "threads":
        yield from _in_threads(examples, parts[1:], form)
    else:
        yield from (form.block(examples, part) for part in parts[1:])


def _way(each: float, left: int) -> str:
    if available_cores() == 1 or each * left < SHORT:
        return "alone"
    if each < SMALL:  # where there is no fork, starting a process costs more than it saves
        return "processes" if "fork" in multiprocessing.get_all_start_methods() and _is_linux() else "alone"
    return "threads"


def _is_linux() -> bool:
    return os.path.isdir("/proc/self")  # macOS forks too, but its libraries do not bear it


def _in_threads(examples: Examples, parts: Iterable[NDArray[np.int64]], form: Form) -> Iterator[Block]:
    """A few blocks ahead of the one that is asked for, so that what is decoded does not pile up."""
    number = min(16, available_cores())
    ahead: deque[Future[Block]] = deque()
    with ThreadPoolExecutor(number) as executor:
        try:
            for part in parts:
                ahead.append(executor.submit(form.block, examples, part))
                if len(ahead) > 2 * number:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _in_processes(examples: Examples, parts: list[NDArray[np.int64]], form: Form, keep: bool) -> Iterator[Block]:
    loader = torch.utils.data.DataLoader(
        _Blocks(examples, parts, form, keep),
        batch_size=None,
        num_workers=min(16, available_cores()),
        multiprocessing_context="fork",
    )
    yield from watched(forked(loader))


def forked(loader: Iterable[Any]) -> Iterator[Any]:
    """The loader's iterator, its processes started without the warning that Python 3.12 gives of forking beside
    threads: these processes decode and take no lock of the parent's."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        return iter(loader)


def watched(batches: Iterator[Any]) -> Iterator[Any]:
    """The same, where a worker process that dies is an error with a remedy."""
    try:
        yield from batches
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = "a process that reads the data was ended by the system, most likely for want of memory"
        raise UserError(reason, then="give fewer: --data.workers 1, or smaller pictures: --data.stored_size") from error


class _Blocks(torch.utils.data.Dataset[Block]):
    def __init__(self, examples: Examples, parts: list[NDArray[np.int64]], form: Form, keep: bool) -> None:
        self.examples, self.parts, self.form, self.keep = examples, parts, form, keep

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> Block:
        block = self.form.block(self.examples, self.parts[index])
        if not self.keep:
            block.stored = block.stored[:0]
        return block
