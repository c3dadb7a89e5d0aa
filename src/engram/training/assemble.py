"""From a recipe to everything a run needs: data, network, optimiser, schedule, device. Nothing is trained here."""

import copy
import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engram import (
    __version__,
    accounting,
    augment,
    initializers,
    models,
    optimizers,
    registry,
    regularizers,
    schedules,
)
from engram.augment.pca_noise import palette_of
from engram.averaging import WeightAverage
from engram.data.examples import Source
from engram.data.open import open_source
from engram.data.prepare import Prepared, prepare
from engram.decision import Decision
from engram.errors import UserError
from engram.grammar import parse
from engram.layers import auxiliary
from engram.recipe import Choice, Recipe
from engram.review import methods, recall
from engram.review.reviewer import Reviewer
from engram.training import device, loop, pretrained, threads
from engram.training.device import Machine
from engram.training.evaluate import Views, figures, probabilities
from engram.training.weights import Description

Progress = Callable[[str, int, int], None]  # what is going on, done, of how many


def silent(what: str, done: int, total: int) -> None:
    """The progress callback that shows nothing."""


@dataclass
class Assembled:
    """A recipe with everything built from it."""

    recipe: Recipe
    source: Source
    prepared: Prepared
    machine: Machine
    parts: loop.Parts
    state: loop.State
    views: Views
    description: Description
    account: accounting.Account
    decisions: list[Decision] = field(default_factory=list)
    step_seconds: dict[int, float] = field(default_factory=dict)  # by thread count, where it was timed
    peak_gflops: float | None = None  # of large matrix products in the machine's precision

    def timed_step(self, parts: loop.Parts | None = None) -> Callable[[], object]:
        """One training step (forward and backward) on a copy of the network: timing it changes nothing."""
        parts = parts or self.parts
        net = copy.deepcopy(self.state.net)
        rng = torch.Generator(device=self.machine.device).manual_seed(0)
        count = self.state.reviewer.batch_size
        x, y = next(iter(parts.pool.batches([torch.arange(count)])))
        unweighted = Reviewer(count, methods.build("shuffle"), batch_size=count, epochs=1)
        spare = loop.State(net, torch.optim.SGD(net.parameters(), lr=0.0), unweighted, rng)
        spare.totals = torch.zeros(3, device=self.machine.device)

        def step() -> None:
            with torch.random.fork_rng(devices=[], enabled=True):
                net.train()
                loop.update(parts, spare, x, y)

        return step

    def time_step(self) -> float:
        """Seconds one such step takes with the present threads: the second, because the first chooses kernels."""
        step = self.timed_step()
        step()
        begin = time.perf_counter()
        step()
        if self.machine.device.type == "cuda":
            torch.cuda.synchronize(self.machine.device)
        return time.perf_counter() - begin

    def optimizer_slots(self) -> int:
        """Values the optimiser keeps for every weight: 1 for momentum, 2 for Adam."""
        spare = torch.nn.Parameter(torch.zeros(2))
        entry = registry.find("optimizer", self.recipe.optimizer.name)
        optimizer = entry.build([spare], **self.recipe.optimizer.settings)
        spare.grad = torch.ones_like(spare)
        optimizer.step(lambda: (spare - 1).square().sum())
        return sum(value.shape == spare.shape for value in optimizer.state[spare].values() if torch.is_tensor(value))

    def calibrate_threads(self, why: str) -> Decision | None:
        """Choose the thread count by timing, unless the recipe names it; returns what was decided."""
        if self.machine.threads is not None:
            torch.set_num_threads(self.machine.threads)
            return None
        self.step_seconds = threads.calibrate(self.timed_step(), threads.available_cores())
        best = min(self.step_seconds, key=lambda count: self.step_seconds[count])
        torch.set_num_threads(best)
        timed = ", ".join(f"{count}: {1000 * seconds:.0f} ms" for count, seconds in self.step_seconds.items())
        return Decision("device.threads", str(best), f"{why}; a step at {timed}")

    def calibrate_precision(self) -> Decision | None:
        """Small networks may be faster in float32 on several threads than in bfloat16: timed, after the threads."""
        bfloat16 = self.machine.device.type == "cpu" and self.machine.dtype == torch.bfloat16
        if not self.step_seconds or not bfloat16 or self.recipe.device.precision != "auto":
            return None
        before = min(self.step_seconds.values())
        if before > SMALL_STEP:
            return None
        exact = replace(self.parts, machine=replace(self.machine, dtype=torch.float32))
        seconds = threads.calibrate(self.timed_step(exact), threads.available_cores())
        best = min(seconds, key=lambda count: seconds[count])
        if seconds[best] > WORTH * before:
            return None
        self.set_precision(torch.float32)
        self.step_seconds = seconds
        self.decisions = [one for one in self.decisions if one.setting != "device.precision"]
        torch.set_num_threads(best)
        reason = f"a step takes {1000 * seconds[best]:.1f} ms on {best} threads, {1000 * before:.1f} ms in bfloat16"
        return Decision("device.precision", "float32", reason)

    def set_precision(self, dtype: torch.dtype) -> None:
        """Compute in `dtype` from now on."""
        self.machine = replace(self.machine, dtype=dtype)
        self.parts = replace(self.parts, machine=replace(self.parts.machine, dtype=dtype))


SMALL_STEP = 0.03  # seconds; where a step takes longer, bfloat16 has been the faster one
WORTH = 0.95  # share of the time below which float32 is taken


def assemble(recipe: Recipe, progress: Progress = silent, *, resuming: bool = False) -> Assembled:
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
    reviewer = build_reviewer(recipe, prepared, batch_size)
    dimensions = len(prepared.shape) - 1
    machine = device.choose(recipe.device, dimensions=dimensions, total_steps=reviewer.total_steps)
    net.to(machine.device)
    if machine.memory_format is not torch.contiguous_format:
        net.to(memory_format=machine.memory_format)  # type: ignore[call-overload]
    optimizer = optimizers.build(recipe.optimizer.name, net, recipe.optimizer.settings)
    average = None if recipe.training.average is None else WeightAverage(net, recipe.training.average)
    state = loop.build_state(net, optimizer, reviewer, machine, average=average)
    state.rng.manual_seed(recipe.seed)
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
    parts = loop.Parts(
        pool=prepared.train,
        augment=augment.compose(words, size=size, mean=mean, std=std, palette=palette),
        factor=schedules.build(recipe.schedule.name, recipe.schedule.settings),
        machine=machine,
        validate=validate,
        accumulate=recipe.training.accumulate,
        label_smoothing=recipe.training.label_smoothing,
        clip_norm=recipe.training.clip_norm,
        patience=recipe.training.patience,
        regularize=regularization.regularize if recipe.regularizer else None,
        constrain=regularization.constrain if recipe.regularizer else None,
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
    return Assembled(recipe, source, prepared, machine, parts, state, views, description, account, decisions)


def laid_out(recipe: Recipe) -> tuple[Recipe, list[Decision]]:
    """The recipe with what the regularizer's words set elsewhere in it, and without a decay that would come twice.

    Raises:
        UserError: a word says otherwise than the setting it stands for.
    """
    decisions = []
    for key, value in regularizers.settings(recipe.regularizer).items():
        if key == "augment":
            recipe = replace(recipe, augment=(*recipe.augment, *value))
            continue
        name = key.removeprefix("training.")
        given = getattr(recipe.training, name)
        if given not in (value, getattr(Recipe().training, name)):
            raise UserError(f"{name} is {given} by its setting and {value} by a regularizer's word", then="one of them")
        recipe = replace(recipe, training=replace(recipe.training, **{name: value}))
    entry = registry.find("optimizer", recipe.optimizer.name)
    decay = inspect.signature(entry.build).parameters.get("weight_decay")
    doubled = regularizers.replaces_decay(recipe.regularizer)
    if doubled and decay is not None and decay.default:
        given = recipe.optimizer.settings.get("weight_decay", 0.0)
        if given:
            raise UserError(
                f"regularizer {doubled[0]} and optimizer.weight_decay {given} are the same pull, and would add up",
                then="one of them",
            )
        settings = {**recipe.optimizer.settings, "weight_decay": 0.0}
        recipe = replace(recipe, optimizer=Choice(recipe.optimizer.name, settings))
        decisions.append(Decision("optimizer.weight_decay", "0", f"{doubled[0]} is the decay"))
    return recipe, decisions


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


def own_removed(words: Sequence[str]) -> tuple[str, ...]:
    """The initializer's words without `own`, which is the network's own rule and changes nothing."""
    return tuple(word for word in words if word != "own")


def suited(recipe: Recipe, *, full_batch: bool) -> tuple[Recipe, list[Decision]]:
    """The recipe with what `auto` leaves open for its kind of optimiser: the schedule, and float32 for a line search.

    A method that takes all examples at once finds its own step's length, in one function that must be computed alike
    each time: a warm-up shortens steps that were right, and bfloat16 rounds away the differences it goes by.
    """
    decisions = []
    if recipe.schedule.name == "auto":
        kind = "takes all examples at once" if full_batch else "goes by batches"
        name = "constant" if full_batch else "one_cycle"
        recipe = replace(recipe, schedule=Choice(name, recipe.schedule.settings))
        decisions.append(Decision("schedule", name, f"{recipe.optimizer.name} {kind}"))
    if full_batch and recipe.device.precision == "auto":
        recipe = replace(recipe, device=replace(recipe.device, precision="float32"))
        decisions.append(Decision("device.precision", "float32", f"{recipe.optimizer.name} goes by small differences"))
    return recipe, decisions


def build_reviewer(recipe: Recipe, prepared: Prepared, batch_size: int) -> Reviewer:
    """Which training examples come when, by the recipe's review method."""
    course, settings = _course(recipe)
    return Reviewer(
        len(prepared.train),
        methods.build(recipe.review.name, settings),
        batch_size=batch_size,
        epochs=recipe.training.epochs,
        seed=recipe.seed,
        labels=prepared.train.labels.cpu(),
        floor=recall.smoothing_floor(recipe.training.label_smoothing, len(prepared.classes)),
        **course,
    )


COURSE = ("clock", "measure", "permuted")
"""Settings of `review` that go with every method: those of the Reviewer."""


def _course(recipe: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of `review` that are the Reviewer's, and those that are the method's."""
    settings = recipe.review.settings
    course = {key: value for key, value in settings.items() if key in COURSE}
    return course, {key: value for key, value in settings.items() if key not in COURSE}


EVALUATION_BATCH = 256
MEASURED = 256  # training examples whose signal an initializer measures
PALETTE_SAMPLE = 1000  # training pictures whose colours give the palette of pca_noise


def check_names(recipe: Recipe) -> None:
    """Refuse an unknown model, optimiser, schedule or augmentation before any data is read."""
    methods.build(recipe.review.name, _course(recipe)[1])
    for kind, choice in (("model", recipe.model), ("optimizer", recipe.optimizer), ("schedule", recipe.schedule)):
        registry.check_settings(
            registry.find(kind, choice.name),
            choice.settings,
            reserved=(*models.FILLED_IN, "parameters"),
        )
    if recipe.training.clip_norm is not None and registry.find("optimizer", recipe.optimizer.name).facts.get("closure"):
        raise UserError(
            f"clip_norm does not go with {recipe.optimizer.name}: its line search needs gradients as they are",
            then="--clip_norm none, or another optimizer",
        )
    initializers.check(own_removed(recipe.initializer))
    regularizers.check(recipe.regularizer, optimizer=recipe.optimizer.name)
    auxiliary.check(recipe.auxiliary.at)
    if recipe.weights is not None and own_removed(recipe.initializer):
        raise UserError(
            f"initializer {','.join(recipe.initializer)} would be lost: all weights come from {recipe.weights}",
            then="give one of --initializer and --weights",
        )
    augment.check([word for word in recipe.augment if word != "auto"])
    augment.check_views(recipe.views)


def environment(assembled: Assembled) -> dict[str, Any]:
    """The facts of environment.json: versions, machine, every choice and its reason."""
    import platform

    description = assembled.description
    return {
        "engram": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "processor": device.describe_processor(),
        "cores": threads.available_cores(),
        "device": str(assembled.machine.device),
        "choices": [{"setting": one.setting, "value": one.value, "reason": one.reason} for one in assembled.decisions],
        "model": {
            "name": description.model,
            "parameters": assembled.account.parameters,
            "macs": assembled.account.macs,
            "input": list(description.shape),
        },
        "model_gflop_per_image": 6 * assembled.account.macs / 1e9,  # forward, and twice that backward; 2 a MAC
    }
