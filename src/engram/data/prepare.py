"""From a source and a recipe to the pools a run uses: which examples, of what size, in memory or streamed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from engram.data import memory, pool, sizes, split
from engram.data.decoding import available_cores
from engram.data.examples import Examples, Source, Unreadable
from engram.data.form import Form, NotFinite
from engram.data.pool import Pool, ResidentPool
from engram.data.pool_streamed import StreamedPool
from engram.data.sources._names import listed
from engram.decision import Decision
from engram.errors import UserError
from engram.recipe import Data

MOMENTS = 2000  # examples of a streamed pool from which mean and deviation are taken

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
    notes = list(source.notes)
    rows = _rows(source, recipe, seed, decisions, notes)
    number = sum(len(chosen) for chosen in rows.values())
    progress(0, number)
    first, found, pictures = sizes.look(source.train, rows["train"])
    stored, seen = sizes.choose(first, found, pictures, recipe, model_shape, decisions)
    form = Form(stored, pictures=pictures)
    resident = _resident(rows, form, recipe, device, decisions)
    pools: dict[str, Pool] = {}
    unreadable: list[Unreadable] = []
    done = 0

    def tell(count: int, _: int) -> None:
        progress(done + count, number)

    for name, chosen in rows.items():
        examples = getattr(source, "train" if name in ("train", "held out") else name)
        if name in resident:
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
        sizes=found,
        decisions=decisions,
        unreadable=unreadable,
        notes=tuple(notes),
    )


def pool_of(
    examples: Examples, stored_shape: Sequence[int], *, device: torch.device, allowed: float | None = None
) -> tuple[Pool, list[Unreadable]]:
    """A pool of all of `examples` in the form that a trained network was given; and what could not be decoded.

    Args:
        allowed: GiB that they may take in memory; half of what is free unless given.

    Raises:
        UserError: none can be read.
    """
    rows = np.arange(len(examples))
    first, _, pictures = sizes.look(examples, rows)
    if not pictures and first != tuple(stored_shape):
        raise UserError(
            f"these examples are of shape {sizes.text(first)}; the network takes {sizes.text(stored_shape)}"
        )
    form = Form(stored_shape, pictures=pictures)
    if len(rows) * form.nbytes <= memory.budget(allowed, device):
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
        chosen = torch.randperm(len(pool_), generator=torch.Generator().manual_seed(seed))[:MOMENTS]
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


def _rows(
    source: Source, recipe: Data, seed: int, decisions: list[Decision], notes: list[str]
) -> dict[str, NDArray[np.int64]]:
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
            left_out = np.setdiff1d(labels[train], labels[train[held]])
            if len(left_out):
                named = listed([source.classes[index] for index in left_out])
                notes.append(f"too few examples to hold any out for validation: {named}")
        else:
            decisions.append(Decision("data.validation", "none", "too few examples to hold any out"))
    if source.test is not None:
        rows["test"] = np.arange(len(source.test), dtype=np.int64)
    return rows


def _resident(
    rows: dict[str, NDArray[np.int64]], form: Form, recipe: Data, device: torch.device, decisions: list[Decision]
) -> set[str]:
    """The splits that stay in memory: as many as there is room for, the smallest first."""
    allowed = memory.budget(recipe.memory, device)
    needed = sum(len(chosen) for chosen in rows.values()) * form.nbytes
    resident: set[str] = set()
    taken = 0
    for name, chosen in sorted(rows.items(), key=lambda one: len(one[1])):
        taken += len(chosen) * form.nbytes
        if taken <= allowed:
            resident.add(name)
    streamed = [name for name in rows if name not in resident]
    value = f"streamed: {', '.join(streamed)}" if resident and streamed else "streamed" if streamed else "resident"
    decisions.append(Decision("data.pool", value, f"{needed / 2**20:,.0f} MiB of at most {allowed / 2**20:,.0f}"))
    return resident


def _refuse_broken(source: Source, name: str, number: int, failed: list[Unreadable]) -> None:
    if not failed:
        return
    first = failed[0]
    bad = [one for one in failed if isinstance(one, NotFinite)]
    if bad:
        more = f" ({len(bad):,} such examples in {name})" if len(bad) > 1 else ""
        raise UserError(f"{source.path}: {bad[0].name}: {bad[0].why}{more}", then="repair or remove them")
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
    return min(8, available_cores())
