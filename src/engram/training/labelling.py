"""Naming every step of a signal: a recipe with everything built from it, and what such a run tells of itself."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engram import accounting, atomic, augment, models, registry, regularizers
from engram.data.step_labels import StepPool, hold_out, open_step_labels
from engram.data.text_pool import IGNORED
from engram.decision import Decision
from engram.errors import UserError
from engram.recipe import Recipe
from engram.tasks import write as task
from engram.tasks.label import Label
from engram.training import device
from engram.training.assembled import Assembled, Progress, Say, parts_of, set_up, silent
from engram.training.device import Machine
from engram.training.fingerprint import Fingerprint, of_arrays, of_texts
from engram.training.run import RunFolder
from engram.training.settle import build_reviewer, check_names, laid_out, refuse_of_pictures, suited
from engram.training.weights import Description
from engram.training.writing import first_weights

EVALUATION_BATCH = 256
FOR_EVERY_STEP = ("rnn", "gru", "lstm", "tcn")


@dataclass(frozen=True)
class PreparedSteps:
    """Signals ready to be taken a batch at a time, by split."""

    train: StepPool
    validation: StepPool | None
    test: StepPool | None
    classes: tuple[str, ...]
    mean: Tensor  # (C,) of the training signals
    std: Tensor
    unreadable: tuple[Any, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.train.shape


class Labelling(Assembled):
    """A run that learns to name every step."""

    pictured = False
    next_command = "engram evaluate {}"

    def describe_data(self, folder: RunFolder, say: Say) -> None:
        """How many signals, of what length, and how often each class is named."""
        prepared = self.prepared
        pools = {"train": prepared.train, "validation": prepared.validation, "test": prepared.test}
        there = {name: pool for name, pool in pools.items() if pool is not None}
        counts = {
            name: torch.bincount(pool.steps[pool.steps != IGNORED], minlength=len(prepared.classes)).tolist()
            for name, pool in there.items()
        }
        card = {
            "task": "label",
            "path": self.source.path,
            "kind": self.source.kind,
            "classes": list(prepared.classes),
            "counts": counts,
            "signals": {name: len(pool) for name, pool in there.items()},
            "shape": list(prepared.shape),
        }
        folder.write_json("card.json", card)

    def describe_network(self, folder: RunFolder) -> None:
        """Parameters and multiply-adds are in `environment.json`."""

    def judge(self, net: nn.Module, path: Path, split: str, pool: StepPool) -> dict[str, Any]:
        """See `Assembled`."""
        found = figures(net, pool, self.views, self.machine)
        (path / "evaluation").mkdir(exist_ok=True)
        atomic.write(path / "evaluation" / f"{split}.json", json.dumps(found))
        return found

    def fingerprint(self) -> Fingerprint:
        """See `Assembled`."""
        found: Fingerprint = {"classes": {"examples": len(self.source.classes), "names": of_texts(self.source.classes)}}
        signals, labels = self.source.signals, self.source.labels
        return found | {name: of_arrays(signals[name], labels[name]) for name in signals}

    def told_data(self) -> str:
        channels, length = self.prepared.shape
        return f"signals of {length} steps and {channels} channels, {len(self.prepared.classes)} classes at every step"

    def told_result(self, evaluations: Mapping[str, Mapping[str, Any]]) -> str:
        return ", ".join(f"{split} {100 * one['accuracy']:.2f} % of the steps" for split, one in evaluations.items())


def assemble_labelling(recipe: Recipe, progress: Progress = silent, *, resuming: bool = False) -> Labelling:
    """Build a run that names every step, in the order in which mistakes are cheapest to find.

    Raises:
        UserError: something in the recipe cannot be had.
    """
    full_batch = registry.find("optimizer", recipe.optimizer.name).facts.get("full_batch", False)
    recipe, decisions = suited(recipe, full_batch=full_batch)
    check_names(recipe)
    refuse_of_pictures(recipe)
    recipe, more = laid_out(recipe)
    decisions += more
    target, _ = device.find_device(recipe.device.name)
    found = hold_out(open_step_labels(recipe.data.path), recipe.data.validation, recipe.seed)
    pools = {name: StepPool(name, found.signals[name], found.labels[name], target) for name in found.signals}
    signals = found.signals["train"].astype(np.float64)
    mean, std = (torch.from_numpy(one).float() for one in (signals.mean((0, 2)), signals.std((0, 2))))
    std = torch.where(std > 1e-8 * (1 + mean.abs()), std, 1.0)
    train = pools["train"]
    prepared = PreparedSteps(train, pools.get("validation"), pools.get("test"), found.classes, mean, std)
    torch.manual_seed(recipe.seed)
    net = models.build(
        recipe.model.name, shape=prepared.shape, num_classes=len(found.classes), settings=recipe.model.settings
    )
    refuse_one_answer(net, recipe, prepared)
    if not resuming:
        decisions += first_weights(net, recipe)
    account = accounting.account(net, prepared.shape)
    regularization = regularizers.build(recipe.regularizer, net)
    decisions += [Decision("regularizer", line, "asked for") for line in regularization.changes]
    batch_size = len(train) if full_batch else min(recipe.training.batch_size, len(train))
    reviewer = build_reviewer(recipe, train, batch_size)
    machine, state = set_up(net, recipe, reviewer, dimensions=1)
    length = prepared.shape[1:]
    views = augment.views((), size=length, mean=mean, std=std)

    def validate(judged: nn.Module) -> dict[str, float] | None:
        return None if prepared.validation is None else measure(judged, prepared.validation, views, machine)

    parts = parts_of(
        recipe,
        regularization,
        machine,
        pool=train,
        augment=augment.compose((), size=length, mean=mean, std=std),
        task=Label(recipe.training.label_smoothing),
        validate=validate,
    )
    description = Description(
        model=recipe.model.name,
        settings=dict(recipe.model.settings),
        classes=found.classes,
        shape=prepared.shape,
        stored_shape=prepared.shape,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        data=str(Path(recipe.data.path).name),
        task="label",
    )
    decisions += machine.decisions
    return Labelling(recipe, found, prepared, machine, parts, state, views, description, account, decisions)


@torch.no_grad()
def refuse_one_answer(net: nn.Module, recipe: Recipe, prepared: PreparedSteps) -> None:
    """Refuse a network that does not give scores (B, T, K).

    Raises:
        UserError: it gives one answer for the whole signal, or one of another length.
    """
    before = net.training
    given = net.eval()(torch.zeros(2, *prepared.shape))
    net.train(before)
    shape, wanted = tuple(given.shape), (2, prepared.shape[1], len(prepared.classes))
    if shape != wanted:
        raise UserError(
            f"{recipe.model.name} gives {shape} for 2 signals of {prepared.shape[1]} steps",
            allowed=f"scores for every step, {wanted}",
            then=f"--model {recipe.model.name if recipe.model.name in FOR_EVERY_STEP else 'lstm'} --model.read every",
        )


def figures(net: nn.Module, pool: StepPool, views: Any, machine: Machine) -> dict[str, Any]:
    """Everything that is measured on a split; `examples` are the steps that count."""
    steps = int((pool.steps != IGNORED).sum())
    return {"task": "label", "signals": len(pool), "examples": steps, **measure(net, pool, views, machine)}


@torch.inference_mode()
def measure(net: nn.Module, pool: StepPool, views: Any, machine: Machine) -> dict[str, float]:
    """Mean loss of the steps that count, nats, and the share of them that are named right."""
    net.eval()
    total, right, steps = 0.0, 0, 0
    for x, y in pool.batches(torch.arange(len(pool)).split(EVALUATION_BATCH)):
        with machine.autocast():
            scores = net(views(x, machine.dtype)[0])
        counted = (y != IGNORED).sum(1)
        total += float((task.losses(scores, y).double() * counted).sum())
        right += int((scores.argmax(2) == y).sum())
        steps += int(counted.sum())
    return {"loss": total / max(1, steps), "accuracy": right / max(1, steps)}
