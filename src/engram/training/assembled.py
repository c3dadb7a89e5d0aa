"""A recipe with everything built from it, and what is timed on it before training: threads and precision."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engram import __version__, accounting, optimizers, registry, regularizers, schedules
from engram.augment.compose import Batch
from engram.averaging import WeightAverage
from engram.decision import Decision
from engram.recipe import Recipe
from engram.review import methods
from engram.review.reviewer import Reviewer
from engram.tasks.task import Task
from engram.training import device, loop, threads
from engram.training.device import Machine
from engram.training.events import Epoch
from engram.training.fingerprint import Fingerprint
from engram.training.run import RunFolder
from engram.training.weights import Description

Progress = Callable[[str, int, int], None]  # what is going on, done, of how many
Say = Callable[[dict[str, Any]], None]


def silent(what: str, done: int, total: int) -> None:
    """The progress callback that shows nothing."""


@dataclass
class Assembled:
    """A recipe with everything built from it; what differs between tasks is in `classifying`, `writing`, `captioning`.

    Args:
        source: where the data came from, as the task opens it.
        prepared: its `train`, `validation` and `test` pools, and what the task knows of them.
        views: from stored examples to what the network sees.
    """

    recipe: Recipe
    source: Any
    prepared: Any
    machine: Machine
    parts: loop.Parts
    state: loop.State
    views: Any
    description: Description
    account: accounting.Account
    decisions: list[Decision] = field(default_factory=list)
    step_seconds: dict[int, float] = field(default_factory=dict)  # by thread count, where it was timed
    peak_gflops: float | None = None  # of large matrix products in the machine's precision

    unit = "images"
    """What the rate counts: images or tokens."""

    units = 1
    """How many of them an example is."""

    next_command = "engram predict {} IMAGE"
    """What to do with the run's folder."""

    pictured = True
    """Whether the report has pictures of its filters, its loss surface and the like."""

    def describe_data(self, folder: RunFolder, say: Say) -> None:
        """Write what the data are (`card.json`, samples), and say what is wrong with them."""
        raise NotImplementedError

    def judge(self, net: nn.Module, path: Path, split: str, pool: Any) -> dict[str, Any]:
        """Measure a network on a split, write it under `evaluation/` and give the figures; the net is on its device."""
        raise NotImplementedError

    def examined(self) -> dict[str, Any]:
        """How the clinic calls the network, and reads what it gives; `engram.clinic.clinic.Clinic` takes them."""
        return {}

    def grouped(self) -> tuple[torch.Tensor, tuple[str, ...]]:
        """Groups of the training examples by which a review is told: (N,) integers, and the groups' names."""
        return torch.zeros(len(self.prepared.train), dtype=torch.int64), ("all",)

    def fingerprint(self) -> Fingerprint:
        """What tells the data from other data: a resumed run has to find the same."""
        raise NotImplementedError

    def told_data(self) -> str:
        """What the examples are, behind how many there are."""
        raise NotImplementedError

    def told_result(self, evaluations: Mapping[str, Mapping[str, Any]]) -> str:
        """The figures of each split, for the closing lines."""
        raise NotImplementedError

    def told_best(self, figures: Mapping[str, float]) -> str:
        """The figures of the best pass so far."""
        return f"accuracy {100 * figures['accuracy']:.2f} %"

    def after_pass(self, folder: RunFolder, event: Epoch) -> None:
        """Anything to be shown after a pass."""

    def after_run(self, folder: RunFolder, net: nn.Module) -> None:
        """Anything to be shown of the best network after a run that was carried to its end."""

    def describe_network(self, folder: RunFolder) -> None:
        """`network.json`: where the network's parameters, work and memory lie, layer by layer."""
        net, shape, slots = self.state.net, self.description.shape, self.optimizer_slots()
        batch = -(-self.state.reviewer.batch_size // self.parts.accumulate)
        costs = accounting.table(net, shape, batches=(batch,))
        needed = accounting.memory(net, shape, slots=slots).total(batch)
        step = {"batch": batch, "optimizer": self.recipe.optimizer.name, "slots": slots, "bytes": needed}
        folder.write_json("network.json", {**costs, "step": step})

    work_of = "an example"
    """What the account's multiply-adds are of."""

    def memory(self) -> accounting.Memory:
        """What training takes, by example."""
        return accounting.memory(
            self.state.net, self.prepared.shape, slots=self.optimizer_slots(), dtype=self.machine.dtype
        )

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
                loop.update(parts, spare, x, y, torch.arange(count))

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


def set_up(net: nn.Module, recipe: Recipe, reviewer: Reviewer, *, dimensions: int) -> tuple[Machine, loop.State]:
    """The network on its device, with its optimiser and all else that changes while it is trained.

    Args:
        dimensions: axes of an example, beside its channels.
    """
    machine = device.choose(recipe.device, dimensions=dimensions, total_steps=reviewer.total_steps)
    net.to(machine.device)
    if machine.memory_format is not torch.contiguous_format:
        net.to(memory_format=machine.memory_format)  # type: ignore[call-overload]
    optimizer = optimizers.build(recipe.optimizer.name, net, recipe.optimizer.settings)
    average = None if recipe.training.average is None else WeightAverage(net, recipe.training.average)
    state = loop.build_state(net, optimizer, reviewer, machine, average=average)
    state.rng.manual_seed(recipe.seed)
    return machine, state


def parts_of(
    recipe: Recipe,
    regularization: regularizers.Regularization,
    machine: Machine,
    *,
    pool: Any,
    augment: Callable[[torch.Tensor, torch.Generator, torch.dtype], Batch],
    task: Task,
    validate: Callable[[nn.Module], dict[str, float] | None],
) -> loop.Parts:
    """What the loop works with: what a task brings, and what every recipe says alike."""
    return loop.Parts(
        pool=pool,
        augment=augment,
        factor=schedules.build(recipe.schedule.name, recipe.schedule.settings),
        machine=machine,
        validate=validate,
        accumulate=recipe.training.accumulate,
        task=task,
        clip_norm=recipe.training.clip_norm,
        clip_value=recipe.training.clip_value,
        patience=recipe.training.patience,
        regularize=regularization.regularize if recipe.regularizer else None,
        constrain=regularization.constrain if recipe.regularizer else None,
    )


SMALL_STEP = 0.03  # seconds; where a step takes longer, bfloat16 has been the faster one
WORTH = 0.95  # share of the time below which float32 is taken


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
