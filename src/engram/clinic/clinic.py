"""The clinic around a training loop: it measures at three rates, asks every diagnosis, and says what is new.

    clinic = engram.Clinic(net, optimizer, probe=(x, y))
    ...
        optimizer.step()
        for finding in clinic.step(loss): print(finding)

Every step costs the keeping of the loss. Every few steps the norms of all gradients, weights and updates are taken by
fused kernels, and brought over together with the losses waiting since then in one transfer. Now and then the probe
batch is run (`probe.py`). All three come often in the first steps, when most goes wrong. Which step is measured depends
on its number alone, so that two runs of one recipe say the same.

It hears the optimiser's step by its hooks: gradients are those the optimiser sees, after unscaling, accumulation and
the exchange between processes. Nothing that it does changes a weight, a buffer or a random draw.
"""

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from engram import registry
from engram.clinic import probe as probing
from engram.clinic.admission import inner, listed
from engram.clinic.finding import SEVERITIES, Finding, Remedy, arranged
from engram.clinic.findings import Findings
from engram.clinic.measured import Figures, History, Moment, Setup
from engram.clinic.probe_data import Data, Drawn, draw
from engram.clinic.subject import Call, Loss, Outputs, Subject, called, cross_entropy, foreseen, mean_of
from engram.clinic.untouched import untouched
from engram.clinic.updates import Updates, norms_of
from engram.errors import UserError, unknown


@dataclass(frozen=True)
class Rates:
    """Steps between two measurements: of weights, of layers. Earlier, they come at steps 1, 2, 4, 8 and so on."""

    weights: int
    layers: int

    def due(self, every: int, step: int) -> bool:
        """Whether this step is measured.

        >>> [step for step in range(1, 41) if Rates(10, 100).due(10, step)]
        [1, 2, 4, 8, 10, 20, 30, 40]
        """
        return step % every == 0 or (step < every and step & (step - 1) == 0)


LEVELS = {"quick": Rates(50, 500), "standard": Rates(10, 100), "full": Rates(1, 20)}
"""A probe costs about as much as a step of 128, the norms a hundredth of one (ResNet-20 on a CPU)."""

KEPT_LOSSES, KEPT_MEASURED = 500, 150
"""Moments that hold a loss and nothing else, and moments at which weights or layers were measured: from twice as many
on, every other of the older ones is thinned out, or a long run would fill the memory and every look take longer."""


class Clinic:
    """Watches a network while it is trained, in anyone's loop.

    Args:
        net: any module; one inside DataParallel, DistributedDataParallel or `torch.compile` is found there.
        optimizer: the optimiser, or several; without one, updates cannot be measured.
        probe: (x, y), a dataset or a loader: some of it, always the same, is what layers are measured on. Without it,
            only weights and losses are.
        level: quick, standard or full: how often and how much is measured.
        loss: mean loss of the network's output and labels; unless it is given, the mean cross-entropy of `outputs`.
        outputs: the (N, K) scores and (N,) labels that its output and the labels stand for. Unless given, of scores
            (B, K) one an example, and of scores (B, T, K) with labels (B, T) one a place, except where the label is
            -100; of several outputs, as a state besides, the first.
        call: how it is called on inputs and labels; `net(x)` unless given. Of one that captions pictures,
            `lambda net, x, y: net(x, y[:, :-1])`: it reads the words before the one that it foresees.
        autocast: makes the context of mixed precision in which the network is trained.
        setup: what is known of the run; what is not given is found out where it can be.
        facts: what single diagnoses can use besides: `ledger`, the review's memory of every example, and their `names`.

    Raises:
        UserError: no network, one without parameters, an unknown level, or probe data that it cannot take.

    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> x = torch.randn(64, 4); y = (x[:, 0] > 0).long()
    >>> clinic = Clinic(net, optimizer, probe=(x, y))
    >>> for _ in range(20):
    ...     loss = nn.functional.cross_entropy(net(x), y)
    ...     optimizer.zero_grad(); loss.backward(); optimizer.step()
    ...     for finding in clinic.step(loss): print(finding)
    >>> clinic.findings
    []
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
        *,
        probe: Data | None = None,
        level: str = "standard",
        loss: Loss | None = None,
        outputs: Outputs = foreseen,
        call: Call = called,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        setup: Setup | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        if level not in LEVELS:
            raise unknown("level", level, LEVELS)
        self.net, self.level, self.rates = inner(net), level, LEVELS[level]
        self.loss = loss or (cross_entropy if outputs is foreseen else lambda output, y: mean_of(*outputs(output, y)))
        self.outputs, self.call = outputs, call
        self.autocast, self.facts = autocast, dict(facts or {})
        self.optimizers = listed(optimizer)
        self.steps = 0
        self.listens = not (torch.distributed.is_available() and torch.distributed.is_initialized()) or (
            torch.distributed.get_rank() == 0
        )
        self._moments: list[Moment] = []
        self._losses: list[tuple[int, float | Tensor, float | None]] = []  # not brought over yet
        self._found: dict[str, list[Finding]] = {}
        self._failed: set[str] = set()
        self._trained = False
        self._failures: list[Finding] = []  # not told yet
        self._of_scores: Loss = loss or mean_of
        self.data = None if probe is None else draw(probe, self.net, loss or cross_entropy, call=call, outputs=outputs)
        self.setup = _completed(setup or Setup(), self.optimizers, self.data)
        weakly = weakref.proxy(self)  # or it would hold itself, and the data that it looks at, until a collection
        self._updates = Updates(
            self.net,
            self.optimizers,
            lambda: weakly.listens and weakly.rates.due(weakly.rates.weights, weakly.steps + 1),
        )

    @property
    def history(self) -> History:
        """All that was measured so far."""
        self._bring({})
        return History(tuple(self._moments), self.setup)

    @property
    def findings(self) -> Findings:
        """Everything found so far: causes before their consequences, otherwise the worst first."""
        return Findings(arranged([one for found in self._found.values() for one in found], causes_of))

    def examine(self, *, trained: bool = False) -> list[Finding]:
        """Look at the network before its first step: the pre-flight checks; what is found.

        Args:
            trained: leave out the checks that only untrained weights can pass.
        """
        if not self.listens:
            return []
        self._trained = trained
        self._bring({})
        self._moments.append(self._measure(step=self.steps, parameters=True, when="before"))
        return self._ask("before")

    def take_up(
        self, findings: Iterable[Finding], rows: Iterable[Mapping[str, Any]], measured: Iterable[Moment] = ()
    ) -> None:
        """Go on where an earlier process stopped watching: what it found is not said again unless it gets worse.

        Args:
            rows: lines of its metrics.jsonl.
            measured: what it measured, as far as it was kept.
        """
        for one in findings:
            self._found.setdefault(one.diagnosis, []).append(one)
        for row in rows:
            self._note(row)
        self._bring({})
        self._moments = sorted([*measured, *self._moments], key=lambda one: one.step)

    def recall(self, rows: Iterable[Mapping[str, Any]]) -> list[Finding]:
        """Take in the lines of a run's metrics.jsonl, as if it had been watched; what is found in them."""
        found: list[Finding] = []
        for row in rows:
            self._note(row)
            if row.get("event") == "epoch":
                found += self._ask("during")
        return found

    def _note(self, row: Mapping[str, Any]) -> None:
        """Take in one line of metrics.jsonl."""
        if row.get("event") == "step":
            self.steps = row["step"]
            self._losses.append((row["step"], row["loss"], row["lr"]))
        elif row.get("event") == "epoch":
            self.steps, train, validation = row["step"], row["train"], row["validation"] or {}
            figures = train["loss"], train.get("accuracy"), validation.get("loss"), validation.get("accuracy")
            self._bring({})
            self._moments.append(Moment(self.steps, figures=Figures(row["epoch"], *figures)))

    def step(self, loss: float | Tensor | None = None, *, lr: float | None = None) -> list[Finding]:
        """To be called once a step, after the optimiser's; of a step in parts it may be called with every part.

        Args:
            loss: of the training batch; a tensor stays where it is until the next measurement.
            lr: the learning rate of this step; without it, that of the optimiser.

        Returns:
            What was found now and not before.
        """
        if not self.listens:
            return []
        if self._updates.listens and not self._updates.steps:
            return []  # a part of a step, or one that was left out because a gradient was not finite
        self._updates.steps = 0
        self.steps += 1
        if lr is None and self.optimizers:
            lr = float(self.optimizers[0].param_groups[0]["lr"])
        if loss is not None:
            self._losses.append((self.steps, loss.detach() if isinstance(loss, Tensor) else float(loss), lr))
        layers = self.rates.due(self.rates.layers, self.steps) and self.data is not None
        return self._look(layers=layers) if layers or self.rates.due(self.rates.weights, self.steps) else []

    def judged(
        self,
        epoch: float,
        train_loss: float,
        train_accuracy: float | None = None,
        validation_loss: float | None = None,
        validation_accuracy: float | None = None,
    ) -> list[Finding]:
        """To be called at the end of a pass with what was measured of it; what was found now and not before."""
        if not self.listens:
            return []
        self._bring({})
        figures = Figures(epoch, train_loss, train_accuracy, validation_loss, validation_accuracy)
        self._moments.append(Moment(self.steps, figures=figures))
        return self._ask("during")

    def look(self) -> list[Finding]:
        """Measure the layers now, whatever the step's number, as when something went wrong; what was found anew."""
        return self._look(layers=self.data is not None) if self.listens else []

    def finish(self) -> list[Finding]:
        """To be called when training has ended; what was found now and not before."""
        if not self.listens:
            return []
        self._bring({})
        if self.data is not None:
            self._moments.append(self._measure(step=self.steps, when="after"))
        found = self._ask("during") if self._moments else []
        found += self._ask("after") if self._moments else []
        self.close()
        return found

    def close(self) -> None:
        """Let the optimiser go."""
        self._updates.close()

    def __enter__(self) -> "Clinic":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look(self, *, layers: bool) -> list[Finding]:
        more: dict[str, Any] = {}
        if layers:
            moment = self._measure(step=self.steps, when="during")
            more = {"layers": moment.layers, "probe": moment.probe, "own": moment.own}
        self._bring(more)
        return self._ask("during") if self._moments else []

    def _bring(self, more: Mapping[str, Any]) -> None:
        """Bring over what waits on the device, in one transfer, and add the moments it makes."""
        waiting = [loss for _, loss, _ in self._losses if isinstance(loss, Tensor)]
        kinds = self._updates.take()
        if kinds:
            with torch.no_grad():
                kinds["norms"] = norms_of([(name, one.detach()) for name, one in self.net.named_parameters()])
        read = iter(probing.read([*waiting, *(norm for norms in kinds.values() for norm in norms.values())]))
        losses = [Moment(step, next(read) if isinstance(loss, Tensor) else loss, lr) for step, loss, lr in self._losses]
        told = {kind: {name: next(read) for name in norms} for kind, norms in kinds.items()}
        self._losses = []
        if told:
            gradients = told.get("gradients", {})
            more = {
                **more,
                "gradient": sum(one * one for one in gradients.values()) ** 0.5 if gradients else None,
                "weights": probing.weights_of(
                    self.net,
                    optimized=self._updates.optimized,
                    gradients=gradients,
                    updates=told.get("updates", {}),
                    norms=told["norms"],
                ),
            }
        if more and losses and losses[-1].step == self.steps:
            losses[-1] = replace(losses[-1], **more)
        elif more:
            losses.append(Moment(self.steps, **more))
        self._moments += losses
        self._thin()

    def _thin(self) -> None:
        """Leave out every other of the older moments, of those with a loss alone and of those with measurements."""
        gone: set[int] = set()
        for kept, of_kind in (
            (KEPT_LOSSES, lambda one: not (one.weights or one.layers or one.figures)),
            (KEPT_MEASURED, lambda one: one.weights and not (one.layers or one.figures)),
            (KEPT_MEASURED, lambda one: one.layers and not one.figures),
        ):
            places = [place for place, one in enumerate(self._moments) if of_kind(one)]
            gone |= set(places[1:-kept:2]) if len(places) > 2 * kept else set()
        if gone:
            self._moments = [one for place, one in enumerate(self._moments) if place not in gone]

    def _measure(self, *, step: int, when: str, parameters: bool = False) -> Moment:
        """Run the probe, and let the diagnoses that measure for themselves do so."""
        if self.data is None:
            return Moment(step)
        moment = Moment(step)
        x, y, classes = self.data.x, self.data.y, self.data.num_classes
        with self._forgiven("probe", step):
            probed = probing.run_probe(
                self.net,
                x,
                y,
                loss=self.loss,
                num_classes=classes,
                call=self.call,
                outputs=self.outputs,
                autocast=self.autocast,
                parameters=parameters,
            )
            moment = replace(moment, layers=probed.layers, probe=probed.probe)
            if parameters:
                with torch.no_grad():
                    norms = norms_of([(name, one.detach()) for name, one in self.net.named_parameters()])
                read = dict(zip(norms, probing.read(list(norms.values())), strict=True))
                weights = probing.weights_of(
                    self.net, optimized=self._updates.optimized, gradients=probed.gradients, updates={}, norms=read
                )
                moment = replace(moment, weights=weights)
        of_scores = self._of_scores if self.data.takes_scores else _unknown
        subject = Subject(
            self.net, x, y, self.loss, classes, self._updates.optimized, self.facts, self.call, self.outputs, of_scores
        )
        own: dict[str, Mapping[str, Any]] = {}
        for entry in self._entries(when):
            measure = entry.facts.get("measure")
            if measure is None or f"measure {entry.name}" in self._failed:
                continue
            with self._forgiven(f"measure {entry.name}", step), untouched(self.net), torch.enable_grad():
                result = measure(subject)
                if result is not None:
                    own[entry.name] = result
        return replace(moment, own=own)

    def _entries(self, when: str) -> list[registry.Entry]:
        levels = list(LEVELS)
        return [
            entry
            for entry in (registry.find("diagnosis", name) for name in registry.names("diagnosis"))
            if when in _times(entry)
            and not (self._trained and when == "before" and not entry.facts.get("of_trained"))
            and levels.index(entry.facts.get("level", "standard")) <= levels.index(self.level)
        ]

    def _ask(self, when: str) -> list[Finding]:
        """Ask every diagnosis whose turn it is; what it says that is worse than what it said before."""
        history = History(tuple(self._moments), self.setup)
        new: list[Finding] = []
        for entry in self._entries(when):
            found: list[Finding] = []
            with self._forgiven(entry.name, self.steps):
                found = list(entry.build(history))
            if not found:
                continue
            before = self._found.get(entry.name)
            if before is None or _worst(found) < _worst(before):
                self._found[entry.name] = found
                new += found
        new += self._failures
        self._failures = []
        return arranged(new, causes_of)

    @contextmanager
    def _forgiven(self, what: str, step: int) -> Iterator[None]:
        """A measurement or diagnosis that fails becomes a finding, once: the run that it watches goes on."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if what in self._failed:
                return
            self._failed.add(what)
            name = what.removeprefix("measure ")
            found = Finding(
                name,
                "information",
                f"it could not be measured: {str(error).strip().partition(chr(10))[0] or type(error).__name__}",
                means="this check says nothing of this network; training is not affected",
                remedy=Remedy("look at the message: it is the network's own where it refuses the probe batch"),
                refuted_by="the network running on this batch alone, in eval mode",
                confidence=1.0,
                step=step,
            )
            self._found.setdefault(name, [found])
            self._failures.append(found)


def _unknown(scores: Tensor, labels: Tensor) -> Tensor:
    """What scores would cost under a loss that takes the network's own output alone."""
    return torch.tensor(math.nan)


def causes_of(name: str) -> Iterable[str]:
    """The diagnoses that a registered one may be the cause of; none of an unregistered one."""
    known = registry.names("diagnosis", name)
    return registry.find("diagnosis", name).facts.get("causes", ()) if known else ()


def _completed(setup: Setup, optimizers: list[torch.optim.Optimizer], data: Drawn | None) -> Setup:
    """The setup with what optimiser and data say, where nothing was given."""
    known: dict[str, Any] = {}
    if optimizers:
        groups = optimizers[0].param_groups
        known["optimizer"] = type(optimizers[0]).__name__
        known["lr"] = max(float(group.get("initial_lr", group.get("lr", 0.0))) for group in groups)
        known["weight_decay"] = max(float(group.get("weight_decay") or 0.0) for group in groups)
    if data is not None:
        known |= {"num_classes": data.num_classes, "examples": data.examples, "entropy": data.entropy}
        known["sequences"] = data.num_classes is not None and data.y.ndim > 1
        setup = replace(setup, data={"unreadable": data.unreadable, **setup.data})
    return replace(setup, **{name: one for name, one in known.items() if getattr(setup, name) is None})


def _times(entry: registry.Entry) -> tuple[str, ...]:
    when = entry.facts.get("when", "during")
    return (when,) if isinstance(when, str) else tuple(when)


def _worst(findings: list[Finding]) -> int:
    return min(SEVERITIES.index(one.severity) for one in findings)
