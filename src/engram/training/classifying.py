"""Naming what an image shows: a recipe with everything built from it, and what such a run tells of itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engram import accounting, atomic, augment, initializers, models, registry, regularizers
from engram.augment.pca_noise import palette_of
from engram.data import card
from engram.data.open import open_source
from engram.data.pool import Pool
from engram.data.prepare import Prepared, prepare
from engram.decision import Decision
from engram.grammar import parse
from engram.layers import auxiliary
from engram.recipe import Recipe
from engram.review import recall
from engram.tasks.classify import Classify
from engram.training import device, evaluate, pretrained
from engram.training.assembled import Assembled, Progress, Say, parts_of, set_up, silent
from engram.training.evaluate import Views, figures, probabilities
from engram.training.fingerprint import Fingerprint, of_pools
from engram.training.run import RunFolder
from engram.training.settle import build_reviewer, check_names, laid_out, own_removed, suited
from engram.training.weights import Description

EVALUATION_BATCH = 256
MEASURED = 256  # training examples whose signal an initializer measures
PALETTE_SAMPLE = 1000  # training pictures whose colours give the palette of pca_noise


class Classifying(Assembled):
    """A run that learns to name what images show."""

    def describe_data(self, folder: RunFolder, say: Say) -> None:
        """The data card and the sheet of samples as the network sees them."""
        made = card.make_card(self.prepared, self.source)
        folder.write_json("card.json", made.to_dict())
        for warning in made.warnings[:3]:
            say({"event": "notice", "text": str(warning)})
        sheet = card.sheet_as_seen(self.prepared, self.parts.augment, seed=self.recipe.seed)
        if sheet is not None:
            atomic.write(folder.path / "pictures" / "samples.png", sheet)

    def judge(self, net: nn.Module, path: Path, split: str, pool: Pool) -> dict[str, Any]:
        """See `Assembled`."""
        probability = probabilities(net, pool, self.views, self.machine, batch_size=EVALUATION_BATCH)
        return evaluate.write(path, split, pool, probability, self.description.classes)

    def grouped(self) -> tuple[torch.Tensor, tuple[str, ...]]:
        """By class."""
        return self.prepared.train.labels, self.prepared.classes

    def fingerprint(self) -> Fingerprint:
        """See `Assembled`."""
        splits = {name: getattr(self.prepared, name) for name in ("train", "validation", "test")}
        return of_pools(self.prepared.classes, splits)

    def told_data(self) -> str:
        shape = "x".join(str(side) for side in self.description.shape)
        return f"examples of {len(self.prepared.classes)} classes, {shape}"

    def told_result(self, evaluations: Mapping[str, Mapping[str, Any]]) -> str:
        return ", ".join(f"{split} accuracy {100 * one['accuracy']:.2f} %" for split, one in evaluations.items())


def assemble_classifying(recipe: Recipe, progress: Progress = silent, *, resuming: bool = False) -> Classifying:
    """Build everything, in the order in which mistakes are cheapest to find: names first, then data, then memory.

    Args:
        resuming: a saved state follows, so nothing is asked for that only the first weights need.

    Raises:
        UserError: something in the recipe cannot be had.
    """
    full_batch = registry.find("optimizer", recipe.optimizer.name).facts.get("full_batch", False)
    recipe, decisions = suited(recipe, full_batch=full_batch)
    check_names(recipe)
    recipe, more = laid_out(recipe)
    decisions += more
    target, _ = device.find_device(recipe.device.name)
    source = open_source(recipe.data.path, progress=lambda done, total: progress("fetching", done, total))
    facts = registry.find("model", recipe.model.name).facts
    prepared = prepare(
        source,
        recipe.data,
        seed=recipe.seed,
        device=target,
        model_shape=facts.get("input"),
        progress=lambda done, total: progress("reading", done, total),
    )
    torch.manual_seed(recipe.seed)
    net = models.build(
        recipe.model.name,
        shape=prepared.shape,
        num_classes=len(prepared.classes),
        settings=recipe.model.settings,
    )
    decisions += prepared.decisions
    size = prepared.shape[1:]
    unit = 255.0 if prepared.train.dtype == torch.uint8 else 1.0  # pictures are normalised on the scale 0..1
    mean, std = (torch.as_tensor(values, dtype=torch.float32) / unit for values in (prepared.mean, prepared.std))
    views = augment.views(recipe.views, size=size, mean=mean, std=std)
    views.check_stored(prepared.stored_shape[1:])
    views.check_network(net, prepared.stored_shape)
    if not resuming:
        decisions += first_weights(net, recipe, prepared, views)
    account = accounting.account(net, prepared.shape)  # of the network proper, without heads that only training has
    auxiliary.with_auxiliary_heads(
        net, recipe.auxiliary.at, shape=prepared.shape, weight=recipe.auxiliary.weight, head=recipe.auxiliary.head
    )
    regularization = regularizers.build(recipe.regularizer, net)
    decisions += [Decision("regularizer", line, "asked for") for line in regularization.changes]
    batch_size = len(prepared.train) if full_batch else min(recipe.training.batch_size, len(prepared.train))
    reviewer = build_reviewer(
        recipe,
        prepared.train,
        batch_size,
        floor=recall.smoothing_floor(recipe.training.label_smoothing, len(prepared.classes)),
    )
    machine, state = set_up(net, recipe, reviewer, dimensions=len(prepared.shape) - 1)
    words = augment.resolve(recipe.augment, kind=source.kind, shape=prepared.shape, classes=prepared.classes)
    palette = None  # of the data's own colours, where colours are shifted along it
    if any(registry.find("augmentation", parse(word).name).name == "pca_noise" for word in words):
        sample = torch.arange(len(prepared.train))[:PALETTE_SAMPLE]
        palette = palette_of(next(prepared.train.batches([sample]))[0])

    def validate(judged: nn.Module) -> dict[str, float] | None:
        if prepared.validation is None:
            return None
        probability = probabilities(judged, prepared.validation, views, machine, batch_size=EVALUATION_BATCH)
        return figures(probability, prepared.validation.labels.cpu().numpy())

    if machine.compile:
        net.compile()
    parts = parts_of(
        recipe,
        regularization,
        machine,
        pool=prepared.train,
        augment=augment.compose(words, size=size, mean=mean, std=std, palette=palette),
        task=Classify(recipe.training.label_smoothing),
        validate=validate,
    )
    description = Description(
        model=recipe.model.name,
        settings=dict(recipe.model.settings),
        classes=tuple(prepared.classes),
        shape=tuple(prepared.shape),
        stored_shape=tuple(prepared.stored_shape),
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        views=tuple(recipe.views),
        data=str(Path(recipe.data.path).name),
    )
    decided = {one.setting for one in decisions}
    decisions += [one for one in machine.decisions if one.setting not in decided]
    if "auto" in recipe.augment:
        decisions.append(Decision("augment", ",".join(words) or "none", "suits this kind of data"))
    if full_batch:
        decisions.append(Decision("batch_size", str(batch_size), f"{recipe.optimizer.name} takes all examples at once"))
    return Classifying(recipe, source, prepared, machine, parts, state, views, description, account, decisions)


def first_weights(net: nn.Module, recipe: Recipe, prepared: Prepared, views: Views) -> list[Decision]:
    """Give the network the weights the recipe begins with, in place: someone else's, or by the initializer's words."""
    if recipe.weights is not None:
        taken = pretrained.load(net, recipe.weights, recipe.model.name)
        return [Decision("weights", str(taken), "asked for")]
    words = own_removed(recipe.initializer)
    batch = None
    if initializers.needs_batch(words):
        sample = torch.arange(len(prepared.train))[:MEASURED]
        batch = views(next(prepared.train.batches([sample]))[0].cpu(), torch.float32)[0]
    return [Decision("initializer", line, "asked for") for line in initializers.apply(net, words, batch=batch)]
