"""A trained network on data it may never have seen: find its inputs' form, match the classes, measure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engram import augment
from engram import recipe as recipes
from engram.data.examples import Examples, Source
from engram.data.open import open_source
from engram.data.pool import Pool
from engram.data.prepare import pool_of, prepare
from engram.errors import UserError, nearest
from engram.recipe import Device
from engram.training import device, evaluate, metrics, weights

SPLITS = ("test", "validation", "train")


def judge(
    run: str | Path, *, data: str | None = None, split: str = "test", views: str | None = None
) -> tuple[dict[str, Any], str]:
    """(metrics as in `evaluation/*.json`, what they were measured on).

    Classes are matched by name: the data may have fewer of them or in another order, but none the network was never
    told of.

    Raises:
        UserError: no weights, no such data or split, or classes the network does not know.
    """
    if split not in SPLITS:
        raise UserError(f"there is no split {split!r}", allowed=", ".join(SPLITS), nearest=nearest(split, SPLITS))
    path = weights_of(run)
    net, description = weights.load(path)
    if description.task != "classify":
        from engram.training.judge_words import judge_words  # it stands on what captions are made of, which asks here

        return judge_words(net, description, Path(run), data=data, split=split)
    machine = device.choose(Device(), dimensions=len(description.shape) - 1)
    net.to(machine.device)
    if machine.memory_format is not torch.contiguous_format:
        net.to(memory_format=machine.memory_format)  # type: ignore[call-overload]
    pool, classes, where = (
        _own(Path(run), split, machine) if data is None else _other(data, split, description, machine)
    )
    seen = augment.views(
        description.views if views is None else views,
        size=description.shape[1:],
        mean=torch.tensor(description.mean),
        std=torch.tensor(description.std),
    )
    seen.check_network(net, pool.shape)
    probability = evaluate.probabilities(net, pool, seen, machine)
    labels = _relabelled(pool.labels.cpu().numpy(), classes, description.classes)
    names = [pool.name(index) for index in range(len(pool))]
    return metrics.summary(probability, labels, names, description.classes), where


def weights_of(run: str | Path) -> Path:
    """The weights file of a run's folder, the best where they were judged; a weights file is itself.

    Raises:
        UserError: neither.
    """
    path = Path(run)
    if not path.is_dir():
        return path
    for which in ("best", "last"):
        if (path / "weights" / f"{which}.safetensors").is_file():
            return path / "weights" / f"{which}.safetensors"
    raise UserError(f"{run} holds no weights", allowed="a run folder or a .safetensors file", then="ls runs/")


def _own(run: Path, split: str, machine: device.Machine) -> tuple[Pool, tuple[str, ...], str]:
    """The data that the run was trained on, split as it was."""
    if not (run / "recipe.toml").is_file():
        raise UserError(f"{run} does not say what it was trained on", then=f"engram evaluate {run} --data PATH")
    recipe = recipes.load(run / "recipe.toml")
    source = open_source(recipe.data.path)
    shape = weights.describe(weights_of(run)).shape
    prepared = prepare(source, recipe.data, seed=recipe.seed, device=machine.device, model_shape=shape)
    pool = getattr(prepared, split)
    if pool is None:
        held = [name for name in SPLITS if getattr(prepared, name) is not None]
        raise UserError(f"{source.path} has no {split} split", then=f"engram evaluate {run} --split {held[0]}")
    return pool, prepared.classes, f"{split} of {source.path}"


def _other(
    data: str, split: str, description: weights.Description, machine: device.Machine
) -> tuple[Pool, tuple[str, ...], str]:
    """A split of other data, or all of it where it has only one."""
    source = open_source(data)
    examples, where = _split_of(source, split)
    pool, unreadable = pool_of(examples, description.stored_shape, device=machine.device)
    if not len(pool):
        raise UserError(f"none of {len(unreadable):,} examples of {data} can be read: {unreadable[0]}")
    note = f", {len(unreadable):,} that could not be read left out" if unreadable else ""
    return pool, source.classes, f"{where} of {data}{note}"


def _split_of(source: Source, split: str) -> tuple[Examples, str]:
    found = getattr(source, split)
    if found is not None:
        return found, split
    if split == "test" and source.validation is None:
        return source.train, "all"
    raise UserError(
        f"{source.path} has no {split} split", allowed="train" + (", validation" if source.validation else "")
    )


def _relabelled(labels: np.ndarray, own: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """Labels by the network's classes instead of the data's."""
    if tuple(own) == tuple(known):
        return labels
    place = {name: index for index, name in enumerate(known)}
    missing = [name for name in own if name not in place]
    if missing:
        near = nearest(missing[0], known)
        raise UserError(
            f"the network was never told of class {missing[0]!r}", allowed=", ".join(known[:12]), nearest=near
        )
    return np.array([place[name] for name in own], np.int64)[labels]
