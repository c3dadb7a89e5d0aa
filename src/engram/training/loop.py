"""The training loop: read it from top to bottom.

It yields an event after every update and after every pass, and does nothing else: no printing, no files. Between two
events everything the rest depends on lies in `State`, so that whoever reads the events may save it at any of them,
and a run that goes on from there computes the very same weights.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from engram.augment.compose import Batch
from engram.averaging import WeightAverage
from engram.data.pool import Pool
from engram.optimizers import set_lr
from engram.regularizers import clip_norm
from engram.review.reviewer import Reviewer
from engram.tasks.classify import Classify
from engram.tasks.task import Measured, Task
from engram.training.device import Machine
from engram.training.draws import global_generators, restore_global_generators
from engram.training.events import Ended, Epoch, Event, NotFinite, Step

LOOK_EVERY = 20  # steps between two looks at the loss on an accelerator, where each look waits for the device


@dataclass(frozen=True)
class Parts:
    """What stays as it is while the weights change.

    `validate` judges a network: {"loss": ..., "accuracy": ...} on the validation split, or None without one.
    """

    pool: Pool
    augment: Callable[[Tensor, torch.Generator, torch.dtype], Batch]
    factor: Callable[[int, int], float]
    machine: Machine
    validate: Callable[[nn.Module], dict[str, float] | None]
    accumulate: int = 1
    task: Task = field(default_factory=Classify)
    clip_norm: float | None = None
    clip_value: float | None = None
    patience: int | None = None
    regularize: Callable[[nn.Module], None] | None = None  # adds to the gradients, before they are clipped
    constrain: Callable[[nn.Module, float], None] | None = None  # moves the weights after a step of that rate


@dataclass
class State:
    """All that changes, and so all that a saved state holds."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    reviewer: Reviewer  # which examples come next, and what is remembered of each
    rng: torch.Generator  # augmentation; on the device
    average: WeightAverage | None = None
    step: int = 0
    judged: int = 0  # the step at which the last pass was measured
    best: dict[str, float] | None = None  # validation figures of the best weights, with their epoch
    stopped: bool = False  # early stopping has ended the run
    carried: Any = None  # what the task hands from one batch to the next
    totals: Tensor = field(default_factory=lambda: torch.zeros(3))  # this pass: loss, correct, examples

    def judged_net(self) -> AbstractContextManager[nn.Module]:
        """The network that is evaluated and kept: inside the context it holds the averaged weights, where there are."""
        return nullcontext(self.net) if self.average is None else self.average.applied()


def train(parts: Parts, state: State) -> Iterator[Event]:
    """Update the weights until the last step, yielding every event. Starts wherever `state` stands."""
    reviewer = state.reviewer
    per_epoch, total = reviewer.steps_per_pass, reviewer.total_steps
    while not state.stopped:
        if broken(state):
            yield NotFinite(state.step, "loss")
            return
        at_boundary = state.step % per_epoch == 0 or state.step == total
        if at_boundary and state.judged < state.step:
            yield judge(parts, state, epoch=-(-state.step // per_epoch))
            continue
        if state.step >= total:
            yield Ended(state.step, "finished")
            return
        left = reviewer.batches()[: min(per_epoch - state.step % per_epoch, total - state.step)]
        state.net.train()
        begin = time.perf_counter()
        for indices, (x, y) in zip(left, parts.pool.batches(left), strict=True):
            lr = set_lr(state.optimizer, parts.factor(state.step, total))
            seen = update(parts, state, x, y, indices)
            if looked_at(state, parts.machine) and broken(state):
                yield NotFinite(state.step + 1, "loss")
                return
            rows = None if seen.places is None else indices[seen.places.cpu()]
            reviewer.observe(seen.losses, correct=seen.correct, lr=lr, rows=rows)
            state.step += 1
            now = time.perf_counter()
            yield Step(state.step, state.step / per_epoch, seen.loss, lr, len(y), now - begin)
            begin = time.perf_counter()
    reviewer.fold()
    yield Ended(state.step, "early_stopping")


@dataclass(frozen=True)
class Seen:
    """What a step showed. `places`: (B,) whose losses these are, as places in the batch; none for its own order."""

    loss: Tensor
    losses: Tensor
    correct: Tensor
    places: Tensor | None = None


def update(parts: Parts, state: State, x: Tensor, y: Tensor, indices: Tensor | None = None) -> Seen:
    """One step on one batch: augment, forward, loss per example, backward, update.

    A loss that is not finite leaves the weights as they were (on an accelerator it is noticed within `LOOK_EVERY`
    steps, and then the saved state is what is kept).
    """
    batch = parts.augment(x, state.rng, parts.machine.dtype)
    micro = -(-len(y) // parts.accumulate)

    def share(part: slice) -> tuple[Tensor, Tensor]:  # of the mean loss of the batch, with its graph; and the scores
        found = parts.task.measure(
            state.net,
            batch,
            y,
            part,
            autocast=parts.machine.autocast,
            indices=indices,
            carried=state.carried,
            done=state.step / state.reviewer.total_steps,
        )
        measured.append(found)
        return weigh(found.objective, part).sum() / len(y), found.scores

    def gradient() -> Any:  # a tensor: optimisers with a closure take it for the number they name
        state.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=y.device)
        for start in range(0, len(y), micro):
            mean, _ = share(slice(start, start + micro))
            mean.backward()
            total += mean.detach()
        if parts.regularize is not None:
            parts.regularize(state.net)
        if parts.clip_value is not None:
            nn.utils.clip_grad_value_(state.net.parameters(), parts.clip_value)
        if parts.clip_norm is not None:
            clip_norm(state.net.parameters(), parts.clip_norm)
        return total

    measured: list[Measured] = []
    stepped = True
    searches = evaluates_itself(state.optimizer)
    weigh = decided_once(state.reviewer.weigh) if searches else state.reviewer.weigh
    if searches:  # as often as it wants; the first evaluation counts
        whole = getattr(state.optimizer, "needs_loss", False)
        with same_draws(y.device) as again:
            loss = torch.as_tensor(state.optimizer.step(again((lambda: share(slice(None))) if whole else gradient)))
        measured = measured[: 1 if whole else -(-len(y) // micro)]
    else:
        loss = gradient()
        stepped = parts.machine.device.type != "cpu" or bool(torch.isfinite(loss))
        if stepped:
            state.optimizer.step()
        else:
            state.totals[0] += loss  # an auxiliary head's may be infinite where the last head's is not
    if stepped and parts.constrain is not None:
        parts.constrain(state.net, state.optimizer.param_groups[0]["lr"])
    correct = torch.cat([one.correct for one in measured])
    remembered = torch.cat([one.remembered for one in measured])
    summed = torch.cat([one.losses for one in measured]).sum()
    state.carried = parts.task.join([one.carried for one in measured])
    state.totals[0] += summed
    state.totals[1] += correct.sum()
    state.totals[2] += len(y)
    if state.average is not None:
        state.average.update()
    places = None
    if batch.weight is not None and batch.partner is not None:  # what is remembered of a mixed picture is of its larger
        places = torch.where(batch.weight >= 0.5, torch.arange(len(y), device=y.device), batch.partner)
    return Seen(summed / len(y), remembered, correct > 0.5, places)


def broken(state: State) -> bool:
    """Whether a loss of this pass was infinite or not a number."""
    return not torch.isfinite(state.totals[0]).item()


def judge(parts: Parts, state: State, *, epoch: int) -> Epoch:
    """Measure the pass that just ended, remember whether it was the best, and decide on early stopping."""
    loss, correct, examples = state.totals.tolist()
    train_figures = {"loss": loss / examples, "accuracy": correct / examples}
    state.totals.zero_()
    state.judged = state.step
    with state.judged_net() as net:
        validation = parts.validate(net)
    better = validation is None or state.best is None or parts.task.rank(validation) > parts.task.rank(state.best)
    if better:
        state.best = {"epoch": epoch, "step": state.step, **(validation or train_figures)}
    elif parts.patience is not None and state.best is not None:
        state.stopped = epoch - state.best["epoch"] >= parts.patience
    return Epoch(epoch, state.step, state.optimizer.param_groups[0]["lr"], train_figures, validation, better)


def evaluates_itself(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step evaluates the loss several times by itself: with gradients, or with the graph to differentiate."""
    asks = ("needs_closure", "needs_loss")
    return isinstance(optimizer, torch.optim.LBFGS) or any(getattr(optimizer, word, False) for word in asks)


@contextmanager
def same_draws(device: torch.device) -> Iterator[Callable[[Callable[[], Any]], Callable[[], Any]]]:
    """Within a step, every evaluation draws the same dropout masks: a search needs one function, not a new one a call.

    Gives a function that makes such an evaluation of any; after the step the generators stand where one call left them.
    """
    before = global_generators(device)
    after: list[dict[str, Tensor]] = []

    def again(evaluate: Callable[[], Any]) -> Callable[[], Any]:
        def evaluation() -> Any:
            restore_global_generators(before, device)
            value = evaluate()
            after[:] = [global_generators(device)]
            return value

        return evaluation

    yield again
    if after:
        restore_global_generators(after[0], device)


def decided_once(weigh: Callable[[Tensor, slice], Tensor]) -> Callable[[Tensor, slice], Tensor]:
    """Within a step, every evaluation weighs the examples as the first one did, for the same reason.

    A method that decides inside a batch would draw another part of it at every call, and count its losses again.
    """
    weights: dict[int | None, Tensor] = {}  # by where the part of the batch begins

    def weighed(losses: Tensor, part: slice) -> Tensor:
        if part.start not in weights:
            with torch.enable_grad():  # what is given back is linear in the losses: its slope is what they weigh
                given = losses.detach().requires_grad_()
                (weights[part.start],) = torch.autograd.grad(weigh(given, part).sum(), given)
        return losses * weights[part.start]

    return weighed


def looked_at(state: State, machine: Machine) -> bool:
    """Whether this step's loss is looked at: always on the CPU, now and then where a look costs a wait."""
    return machine.device.type == "cpu" or state.step % LOOK_EVERY == 0


def build_state(
    net: nn.Module, optimizer: torch.optim.Optimizer, reviewer: Reviewer, machine: Machine, **more: Any
) -> State:
    """A state at step 0 whose generator and sums lie on the machine's device."""
    rng = torch.Generator(device=machine.device)
    return State(
        net=net,
        optimizer=optimizer,
        reviewer=reviewer,
        rng=rng,
        totals=torch.zeros(3, device=machine.device),
        **more,
    )
