"""A network that writes, captions or names every step, on data it may never have seen, in its own words."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from engram import augment
from engram import recipe as recipes
from engram.data.captions.caption_pool import CaptionPool
from engram.data.captions.numbered import numbered
from engram.data.captions.open_captions import open_captions
from engram.data.captions.prepare_captions import prepare_captions
from engram.data.prepare import pool_of
from engram.data.step_labels import StepPool, hold_out, open_step_labels
from engram.data.texts import open_texts, split_off
from engram.errors import UserError
from engram.recipe import Device, Recipe
from engram.text.vocabulary import Words
from engram.training import captioning, device, labelling, writing
from engram.training.device import Machine
from engram.training.weights import Description


def judge_words(
    net: nn.Module, known: Description, run: Path, *, data: str | None, split: str
) -> tuple[dict[str, Any], str]:
    """(figures as in `evaluation/*.json`, what they were measured on).

    Args:
        known: what the network's weights say of themselves.
        run: the run's folder, or its weights.
        data: other data than the run's own; all of them where they have no such split.

    Raises:
        UserError: no such data or split, or a text with what the vocabulary lacks.
    """
    machine = device.choose(Device(), dimensions=max(1, len(known.shape) - 1))
    net.to(machine.device)
    judged = {"write": _text, "caption": _captions, "label": _steps}[known.task]
    return judged(net, known, None if data else _recipe_of(run), data, split, machine)


def _recipe_of(run: Path) -> Recipe:
    if not (run / "recipe.toml").is_file():
        raise UserError(f"{run} does not say what it was trained on", then=f"engram evaluate {run} --data PATH")
    return recipes.load(run / "recipe.toml")


def _text(
    net: nn.Module, known: Description, own: Recipe | None, data: str | None, split: str, machine: Machine
) -> tuple[dict[str, Any], str]:
    texts = open_texts(str(data) if own is None else own.data.path)
    if own is not None:
        texts = split_off(texts, validation=own.data.validation, test=own.text.test)
    text, where = getattr(texts, split), split
    if text is None:
        if own is not None or split != "test":
            raise UserError(f"{texts.path} has no {split} split", then="--split train")
        text, where = texts.train, "all"
    tokens = torch.tensor(known.words().encode(text), dtype=torch.int64)
    if len(tokens) < 2:
        raise UserError(f"{texts.path} is too short: nothing follows its first token", allowed="2 tokens or more")
    found = writing.measure(net, writing.to_judge(tokens, machine.device), machine)
    return writing.told(found, len(text) / len(tokens)), f"{where} of {texts.path}"


def _steps(
    net: nn.Module, known: Description, own: Recipe | None, data: str | None, split: str, machine: Machine
) -> tuple[dict[str, Any], str]:
    found = open_step_labels(str(data) if own is None else own.data.path)
    if own is not None:
        found = hold_out(found, own.data.validation, own.seed)
    where = split if split in found.labels or own is not None else "train"
    if where not in found.labels:
        raise UserError(f"{found.path} has no {split} split", allowed=", ".join(found.labels))
    if found.signals[where].shape[1] != known.shape[0]:
        raise UserError(f"{found.path} has {found.signals[where].shape[1]} channels, the network {known.shape[0]}")
    if len(found.classes) > len(known.classes):
        raise UserError(f"{found.path} has {len(found.classes)} classes, the network {len(known.classes)}")
    views = augment.views(
        (), size=found.signals[where].shape[2:], mean=torch.tensor(known.mean), std=torch.tensor(known.std)
    )
    pool = StepPool(where, found.signals[where], found.labels[where], machine.device)
    return labelling.figures(net, pool, views, machine), f"{where if where == split else 'all'} of {found.path}"


def _captions(
    net: nn.Module, known: Description, own: Recipe | None, data: str | None, split: str, machine: Machine
) -> tuple[dict[str, Any], str]:
    source = open_captions(str(data) if own is None else own.data.path)
    words = known.words()
    assert isinstance(words, Words)  # captions are read by the word
    views = augment.views((), size=known.shape[1:], mean=torch.tensor(known.mean), std=torch.tensor(known.std))
    if own is not None:
        prepared = prepare_captions(
            source,
            own.data,
            seed=own.seed,
            device=machine.device,
            least=own.text.least,
            longest=own.text.longest,
            model_shape=known.shape,
        )
        pool = getattr(prepared, split)
        if pool is None:
            raise UserError(f"{source.path} has no {split} split", then="--split train")
        places = None if prepared.places is None else prepared.places.get(split)
        found = captioning.figures(net, pool, prepared.references[split], places, views, machine, words)
        return found, f"{split} of {source.path}"
    captioned, where = getattr(source, split), split
    if captioned is None:
        captioned, where = source.train, "all"
    images, unreadable = pool_of(captioned.examples, known.stored_shape, device=machine.device)
    if unreadable:
        raise UserError(f"{source.path}: {unreadable[0]}", then="repair or remove it")
    pool = CaptionPool(images, numbered(captioned.sentences, words))
    if not len(pool):
        raise UserError(f"{source.path} has no sentence of at most 40 words")
    found = captioning.figures(net, pool, captioned.sentences, captioned.places, views, machine, words)
    return found, f"{where} of {source.path}"
