"""From a source and a recipe to the pools a run uses: which examples, of what size, in memory or streamed."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from engram.data import pool, split
from engram.data.examples import Examples, Source, Unreadable
from engram.data.pool import Form, Pool, ResidentPool, StreamedPool
from engram.decision import Decision
from engram.errors import UserError
from engram.recipe import Data

LARGEST_OWN = 256  # pixels; pictures that all share a size up to this are seen as they are
LOOKED_AT = 2000  # examples whose sizes decide, spread over the set
ROOM = 8 / 7  # a larger picture is stored this much larger than it is seen, as 256 is to 224: room for crops
DEFAULT_SIDE = 128  # pixels, for pictures of mixed sizes and a network that names no size of its own

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prepared:
    """Everything about the data that a run needs.

    Args:
        shape: (C, *S) that the network sees.
        stored_shape: (C, *S) of the pools, from which crops are cut.
        mean: (C,) of the training pool, in the units in which it is stored.
        std: (C,) likewise.
        sizes: (M, dims) sizes as found, of the examples that were looked at.
    """

    classes: tuple[str, ...]
    train: Pool
    validation: Pool | None
    test: Pool | None
    shape: tuple[int, ...]
    stored_shape: tuple[int, ...]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    sizes: NDArray[np.int64]
    decisions: list[Decision] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    notes: tuple[str, ...] = ()


def prepare(
    source: Source,
    recipe: Data,
    *,
    seed: int,
    device: torch.device,
    model_shape: Sequence[int] | None = None,
    progress: Progress = lambda done, total: None,
) -> Prepared:
    """Choose the examples and their size, and read them.

    Args:
        model_shape: (C, *S) the network was made for, which decides the size where pictures are of many sizes.
        progress: told how many examples have been read, of how many.

    Raises:
        UserError: data that cannot be trained on: shapes that differ, values that are not numbers, more than half
            unreadable, a class without examples.
    """
    decisions: list[Decision] = []
    rows = _rows(source, recipe, seed, decisions)
    first, sizes, pictures = _look(source.train, rows["train"])
    stored, seen = _shapes(first, sizes, pictures, recipe, model_shape, decisions)
    form = Form(stored, pictures=pictures)
    number = sum(len(chosen) for chosen in rows.values())
    nbytes = number * int(np.prod(stored)) * (1 if pictures else 4)
    allowed = pool.budget(recipe.memory, device)
    resident = nbytes <= allowed
    comparison = f"{nbytes / 2**20:,.0f} MiB of at most {allowed / 2**20:,.0f}"
    decisions.append(Decision("data.pool", "resident" if resident else "streamed", comparison))
    pools: dict[str, Pool] = {}
    unreadable: list[Unreadable] = []
    done = 0

    def tell(count: int, _: int) -> None:
        progress(done + count, number)

    for name, chosen in rows.items():
        examples = getattr(source, "train" if name in ("train", "held out") else name)
        if resident:
            pools[name], failed = pool.fill(examples, chosen, form, device, tell)
        else:
            kept, failed = pool.readable(examples, chosen, form, tell)
            pools[name] = StreamedPool(examples, kept, form, device, _workers(recipe))
        _refuse_broken(source, name, len(chosen), failed)
        unreadable += failed
        done += len(chosen)
    train = pools["train"]
    _refuse_lost_classes(source, train)
    mean, std = moments(train, seed)
    return Prepared(
        classes=source.classes,
        train=train,
        validation=pools.get("validation", pools.get("held out")),
        test=pools.get("test"),
        shape=seen,
        stored_shape=stored,
        mean=mean,
        std=std,
        sizes=sizes,
        decisions=decisions,
        unreadable=unreadable,
        notes=source.notes,
    )


def pool_of(
    examples: Examples, stored_shape: Sequence[int], *, device: torch.device, memory: float | None = None
) -> tuple[Pool, list[Unreadable]]:
    """A pool of all of `examples` in the form that a trained network was given; and what could not be decoded.

    Raises:
        UserError: none can be read.
    """
    rows = np.arange(len(examples))
    first, _, pictures = _look(examples, rows)
    if not pictures and first != tuple(stored_shape):
        raise UserError(f"these examples are of shape {_text(first)}; the network takes {_text(stored_shape)}")
    form = Form(stored_shape, pictures=pictures)
    nbytes = len(rows) * int(np.prod(form.shape)) * (1 if pictures else 4)
    if nbytes <= pool.budget(memory, device):
        return pool.fill(examples, rows, form, device)
    kept, failed = pool.readable(examples, rows, form)
    return StreamedPool(examples, kept, form, device, _workers(Data())), failed


def moments(pool_: Pool, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel: of the whole resident pool, of a sample of a streamed one.

    Summed in float64, a batch at a time. A channel that never changes gets a deviation of 1, so that it can be
    divided by.
    """
    if isinstance(pool_, ResidentPool):
        chosen = torch.arange(len(pool_))
    else:
        chosen = torch.randperm(len(pool_), generator=torch.Generator().manual_seed(seed))[:LOOKED_AT]
    total = torch.zeros(pool_.shape[0], dtype=torch.float64)
    squares = torch.zeros_like(total)
    count = 0
    for x, _ in pool_.batches(chosen.split(256)):
        values = x.movedim(1, -1).reshape(-1, x.shape[1])
        if values.dtype == torch.uint8:  # exact in integers, and several times faster
            whole = values.to(torch.int32)
            total += whole.sum(0).cpu()
            squares += (whole * whole).sum(0, dtype=torch.int64).cpu()
        else:
            exact = values.cpu().double()  # not every device has float64
            total += exact.sum(0)
            squares += exact.square().sum(0)
        count += len(values)
    mean = total / count
    std = (squares / count - mean * mean).clamp_min(0).sqrt()
    std[std < 1e-8 * (1 + mean.abs())] = 1.0
    return mean.numpy(), std.numpy()


def _rows(source: Source, recipe: Data, seed: int, decisions: list[Decision]) -> dict[str, NDArray[np.int64]]:
    """The examples of each split; `held out` comes from the training split where the data brings no validation."""
    labels = source.train.labels
    train = np.arange(len(labels), dtype=np.int64)
    if recipe.limit is not None:
        train = split.limited(labels, recipe.limit, seed)
    rows = {"train": train}
    if source.validation is not None:
        rows["validation"] = np.arange(len(source.validation), dtype=np.int64)
        decisions.append(Decision("data.validation", f"{len(source.validation):,} examples", "the data brings them"))
    elif recipe.validation > 0:
        kept, held = split.stratified(labels[train], recipe.validation, seed)
        if len(held):
            rows = {"train": train[kept], "held out": train[held]}
            reason = f"{recipe.validation:.0%} of each class of the training split, by seed {seed}"
            decisions.append(Decision("data.validation", f"{len(held):,} examples", reason))
        else:
            decisions.append(Decision("data.validation", "none", "too few examples to hold any out"))
    if source.test is not None:
        rows["test"] = np.arange(len(source.test), dtype=np.int64)
    return rows


def _look(examples: Examples, rows: NDArray[np.int64]) -> tuple[tuple[int, ...], NDArray[np.int64], bool]:
    """(the common shape, sizes as found, whether they are pictures) from a look at some of the examples.

    The channels of the common shape are 1 only if every one that was looked at is grey.

    Raises:
        UserError: none of those looked at can be read.
    """
    whole = examples.array()
    if whole is not None and whole.dtype != np.uint8:
        shape = tuple(int(side) for side in whole.shape[1:])
        return shape, np.array([shape[1:]]), False
    shapes: list[tuple[int, ...]] = []
    pictures = True
    failed: list[Unreadable] = []
    for index in rows[np.unique(np.linspace(0, len(rows) - 1, min(LOOKED_AT, len(rows))).astype(int))]:
        try:
            example = examples.read(int(index))
        except Unreadable as error:
            failed.append(error)
            continue
        pictures = example.dtype == np.uint8 and example.ndim == 3 and example.shape[0] in (1, 3)
        shapes.append(example.shape)
    if not shapes:
        raise UserError(f"none of {len(failed):,} examples that were tried can be read: {failed[0]}")
    if not pictures:
        return shapes[0], np.array(sorted({shape[1:] for shape in shapes})), False
    return (max(shape[0] for shape in shapes), *shapes[0][1:]), np.array([shape[1:] for shape in shapes]), True


def _shapes(
    first: tuple[int, ...],
    sizes: NDArray[np.int64],
    pictures: bool,
    recipe: Data,
    model_shape: Sequence[int] | None,
    decisions: list[Decision],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(stored, seen) shapes."""
    if not pictures:
        if recipe.image_size is not None:
            raise UserError("data.image_size is for pictures; these examples keep their shape", allowed="none")
        return first, first
    channels = first[0]
    one_size = len(np.unique(sizes, axis=0)) == 1
    own = tuple(int(side) for side in sizes[0])
    smallest, largest = int(sizes.min()), int(sizes.max())
    if recipe.image_size is not None:
        seen, reason = (recipe.image_size,) * 2, "asked for"
    elif one_size and max(own) <= LARGEST_OWN:
        seen, reason = own, "all pictures have this size"
    elif model_shape is not None and len(model_shape) == 3:
        seen, reason = (int(model_shape[-1]),) * 2, f"the network's own; pictures are {smallest} to {largest} pixels"
    else:
        seen, reason = (DEFAULT_SIDE,) * 2, f"pictures are {smallest} to {largest} pixels"
    decisions.append(Decision("data.image_size", "x".join(map(str, seen)), reason))
    if recipe.stored_size is not None:
        stored, why = (recipe.stored_size,) * 2, "asked for"
        if min(stored) < max(seen):
            raise UserError(
                f"data.stored_size {recipe.stored_size} is below the size the network sees, {max(seen)}",
                allowed=f"{max(seen)} or more",
            )
    elif one_size and own == seen:
        stored, why = seen, "as they are"
    else:
        stored, why = (round(max(seen) * ROOM),) * 2, f"{ROOM:.2f} of what the network sees: room for crops"
    decisions.append(Decision("data.stored_size", "x".join(map(str, stored)), why))
    return (channels, *stored), (channels, *seen)


def _refuse_broken(source: Source, name: str, number: int, failed: list[Unreadable]) -> None:
    if not failed:
        return
    first = failed[0]
    if any("not a number" in one.why for one in failed):
        bad = next(one for one in failed if "not a number" in one.why)
        raise UserError(f"{source.path}: {bad.name}: {bad.why} ({len(failed):,} such examples in {name})")
    if 2 * len(failed) > number:
        raise UserError(f"{len(failed):,} of {number:,} {name} examples of {source.path} cannot be read; first {first}")


def _refuse_lost_classes(source: Source, train: Pool) -> None:
    counts = torch.bincount(train.labels.cpu(), minlength=len(source.classes)).numpy()
    had = np.bincount(source.train.labels, minlength=len(source.classes))
    for index in np.flatnonzero((counts == 0) & (had > 0)):
        name = source.classes[index]
        raise UserError(f"no training example of class {name!r} can be read", then=f"engram data {source.path}")


def _workers(recipe: Data) -> int:
    if recipe.workers is not None:
        return recipe.workers
    return min(8, os.cpu_count() or 1)


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
