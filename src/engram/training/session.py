"""One process's part of a run: follow the loop's events, save, evaluate, report, and end well however it ends."""

import contextlib
import errno
import functools
import shlex
import signal
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from engram.clinic.finding import Finding
from engram.data.pool import Names
from engram.errors import UserError
from engram.report import live, page
from engram.review import export, summary
from engram.training import evaluate, peak, state, telling, weights
from engram.training.assembled import Assembled, Progress, environment
from engram.training.events import Ended, Epoch, NotFinite, Step, to_json
from engram.training.fingerprint import Fingerprint, differences
from engram.training.loop import train as events_of
from engram.training.picturing import Picturing
from engram.training.run import RunFolder, unwritable
from engram.training.threads import StepTimeWatch
from engram.training.watch import Watch

Sink = Callable[[Mapping[str, Any]], None]
"""Gets every row that goes into metrics.jsonl, and rows of its own: header, notice, closing."""

LOG_SECONDS = 1.0  # between two step rows: each reads the loss from the device
LOGGED = 60  # step rows that even a short run has


@dataclass
class Run:
    """What a run leaves: its folder, its network with the best weights, and what was measured."""

    folder: Path
    reason: str
    net: nn.Module
    classes: tuple[str, ...]
    rows: list[dict[str, Any]] = field(default_factory=list)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def report(self) -> Path:
        return self.folder / "report.html"


class Session:
    """One process's part of a run: from its start, or its last saved state, to its end."""

    def __init__(self, assembled: Assembled, folder: RunFolder, sinks: Sequence[Sink], progress: Progress) -> None:
        self.assembled, self.folder, self.sinks, self.progress = assembled, folder, sinks, progress
        self.seconds_before = 0.0  # training time of earlier processes of this run
        self.started = time.perf_counter()
        self.saved_at = time.perf_counter()
        self.saved_step: int | None = None
        self.resumed = False
        self.interrupted = False
        self.evaluations: dict[str, dict[str, Any]] = {}
        # they speak through the session and do not hold it: its data go when the run is over, without a collection
        weakly = weakref.proxy(self)
        self.watch = Watch(assembled, folder, lambda row: weakly.say(row))
        self.picturing = Picturing(assembled, folder, lambda row: weakly.say(row))

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    def restore(self) -> None:
        """Take the last saved state up, and the thread count it was computed with.

        Raises:
            UserError: it is damaged, or of a run on other data; nothing of the run was changed.
        """
        more = state.restore(self.assembled.state, self.path / "state" / "last.pt", check=self.refuse_other_data)
        self.seconds_before = float(more["seconds"])
        self.saved_step = self.assembled.state.step
        if self.assembled.machine.threads is None:  # sums depend on how they are split over threads
            self.assembled.machine = replace(self.assembled.machine, threads=int(more["threads"]))
        if self.assembled.recipe.device.precision == "auto":  # it may have been timed, and the weights depend on it
            self.assembled.set_precision(getattr(torch, str(more["precision"])))
        self.resumed = True

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """What tells the data from other data, found once."""
        return self.assembled.fingerprint()

    def refuse_other_data(self, more: Mapping[str, Any]) -> None:
        """Refuse to go on with a state that was saved on other data; states of before that was kept go on.

        Raises:
            UserError: it was, with what differs.
        """
        other = differences(more.get("data") or self.fingerprint, self.fingerprint)
        if other:
            run = shlex.quote(str(self.path))
            raise UserError(
                f"{self.path} was trained on other data than {self.assembled.recipe.data.path} is now: "
                f"{'; '.join(other)}",
                allowed="the data it was begun with",
                then=f"put them back, or a new run: engram train --recipe {run}/recipe.toml --output runs/again "
                f"--weights {run}/weights/last.safetensors",
            )

    def run(self) -> Run:
        """Follow the events to the end; whatever ends it, what was saved stays, and the closing rows are said."""
        try:
            self.open()
            with self.signals():
                with self.reporting():
                    reason, message = self.follow()
                self.close(reason, message)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise unwritable(self.path, error) from None
            kept = (
                "nothing was saved yet" if self.saved_step is None else f"the state of step {self.saved_step} is kept"
            )
            raise UserError(
                f"no space left for {self.path}; {kept}", then=f"free some space, then engram resume {self.path}"
            ) from None
        rows, classes = self.folder.rows(), self.assembled.description.classes
        return Run(self.path, reason, self.best_net(), classes, rows, self.evaluations, self.watch.findings)

    def open(self) -> None:
        """Everything that is written and said before the first step."""
        assembled = self.assembled
        for decision in (
            assembled.calibrate_threads("the fastest of those timed"),
            None if self.resumed else assembled.calibrate_precision(),
        ):
            if decision is not None:
                assembled.decisions.append(decision)
        assembled.peak_gflops = peak.matmul_gflops(assembled.machine)
        facts = {**environment(assembled), "peak_gflops": assembled.peak_gflops}
        self.folder.write_json("environment.json", facts)
        self.describe_data()
        self.describe_network()
        self.say({"event": "header", "lines": telling.header(assembled, self.path)}, keep=False)
        if self.resumed:
            self.folder.rewind(assembled.state.step, assembled.state.judged)
            self.say({"event": "resumed", "step": assembled.state.step, **self.lengths()})
        else:
            self.say({"event": "start", **self.lengths()})
            self.save()  # so that a run that fails at once has a state to tell from, and a full disk shows now
        self.look_on()
        self.started = time.perf_counter()

    def look_on(self) -> None:
        """Let the clinic watch from here on, and pictures be taken."""
        self.watch.open(resumed=self.resumed)
        if self.assembled.pictured:
            self.picturing.open(resumed=self.resumed)

    def lengths(self) -> dict[str, Any]:
        """How long the run is, for the rows that open it."""
        reviewer, prepared = self.assembled.state.reviewer, self.assembled.prepared
        return {
            "time": time.time(),
            "steps_per_epoch": reviewer.steps_per_pass,
            "total_steps": reviewer.total_steps,
            "epochs": reviewer.epochs,
            "batch_size": reviewer.batch_size,
            "train_examples": len(prepared.train),
            "validation_examples": 0 if prepared.validation is None else len(prepared.validation),
            "threads": torch.get_num_threads(),
        }

    def describe_data(self) -> None:
        """The data card and the sheet of samples as the network sees them; not again when resuming."""
        if (self.path / "card.json").exists():
            return
        self.assembled.describe_data(self.folder, lambda row: self.say(row, keep=False))

    def describe_network(self) -> None:
        """Where the network's parameters, work and memory lie, layer by layer; not again when resuming."""
        if (self.path / "network.json").exists():
            return
        self.assembled.describe_network(self.folder)

    def follow(self) -> tuple[str, str]:
        """Read the loop's events: log, save, watch the step time. Returns why it ended, and a message."""
        assembled = self.assembled
        watch = StepTimeWatch()
        sparse = max(1, assembled.state.reviewer.total_steps // LOGGED)
        logged, examples, computing = time.perf_counter(), 0, 0.0
        epoch_examples, epoch_seconds = 0, 0.0
        for event in events_of(assembled.parts, assembled.state):
            now = time.perf_counter()
            match event:
                case Step():
                    self.watch.step(event)
                    self.picturing.step(event.step)
                    examples += event.examples
                    computing += event.seconds
                    epoch_examples += event.examples
                    epoch_seconds += event.seconds
                    if now - logged >= LOG_SECONDS or event.step % sparse == 1 % sparse:
                        self.say(
                            {
                                **to_json(event),
                                f"{assembled.unit}_per_second": examples * assembled.units / computing,
                                "seconds": self.seconds,
                            }
                        )
                        logged, examples, computing = now, 0, 0.0
                    if now - self.saved_at >= assembled.recipe.training.save_every:
                        broken = self.save()
                        if broken is not None:
                            return self.not_finite(NotFinite(event.step, broken))
                    if assembled.machine.threads is None and watch.jumped(event.seconds, now):
                        self.recalibrate(event.step)
                case Epoch():
                    rate = epoch_examples * assembled.units / epoch_seconds if epoch_seconds else None
                    row = {**to_json(event), f"{assembled.unit}_per_second": rate, "seconds": self.seconds}
                    broken = state.first_not_finite(assembled.state)
                    if broken is not None:
                        return self.not_finite(NotFinite(event.step, broken))
                    if event.best:
                        self.save_weights("best")
                    self.describe_review()
                    assembled.after_pass(self.folder, event)
                    self.say(row)
                    self.watch.epoch(event)
                    self.save()
                    epoch_examples, epoch_seconds = 0, 0.0
                case NotFinite():
                    return self.not_finite(event)
                case Ended():
                    self.save()
                    return event.reason, self.why_ended(event.reason)
            if self.interrupted:
                self.save()
                return "interrupted", f"stopped by a signal at step {assembled.state.step}; its state is saved"
        raise RuntimeError("the loop ended without saying so")

    def why_ended(self, reason: str) -> str:
        best = self.assembled.state.best
        if reason != "early_stopping" or best is None:
            return ""
        return f"no better validation result in {self.assembled.parts.patience} epochs after epoch {best['epoch']}"

    def save(self) -> str | None:
        """Write the last weights and the state, unless a weight is not finite: then its name is returned."""
        broken = state.first_not_finite(self.assembled.state)
        if broken is not None:
            return broken
        self.save_weights("last")
        precision = str(self.assembled.machine.dtype).removeprefix("torch.")
        more = {"threads": torch.get_num_threads(), "precision": precision, "seconds": self.seconds}
        self.picturing.save()
        state.save(self.assembled.state, self.path / "state" / "last.pt", data=self.fingerprint, **more)
        self.saved_at, self.saved_step = time.perf_counter(), self.assembled.state.step
        return None

    def save_ledger(self) -> None:
        """What is remembered of every example, for the report and for other programs."""
        pool, reviewer = self.assembled.prepared.train, self.assembled.state.reviewer
        path, labels = self.path / "ledger.parquet", self.assembled.grouped()[0]
        export.write(reviewer.ledger, path, due=reviewer.due, names=Names(pool), labels=labels)

    def describe_review(self) -> list[int]:
        """What the review shows so far, for the report; returns the examples whose pictures it wants."""
        prepared, recipe = self.assembled.prepared, self.assembled.recipe
        labels, classes = self.assembled.grouped()
        told = summary.summarise(
            self.assembled.state.reviewer,
            labels=labels,
            classes=classes,
            name=prepared.train.name,
            method=recipe.review.name,
        )
        self.folder.write_json("review.json", told)
        return summary.notable(told)

    def save_pictures(self, shown: list[int]) -> None:
        """The training pictures that the report speaks of."""
        pool = self.assembled.prepared.train
        if shown and len(pool.shape) == 3 and pool.shape[0] in (1, 3):
            evaluate.write_pictures(self.path / "pictures" / "review.npz", pool, shown)

    def save_weights(self, which: str) -> None:
        with self.assembled.state.judged_net() as net:
            weights.save(net, self.assembled.description, self.path / "weights" / f"{which}.safetensors")

    def recalibrate(self, step: int) -> None:
        """Steps have become much slower: ask again how many threads are best, and record a change."""
        before = torch.get_num_threads()
        decision = self.assembled.calibrate_threads("steps had become much slower")
        if decision is not None and torch.get_num_threads() != before:
            self.say({"event": "threads", "step": step, "threads": torch.get_num_threads(), "why": decision.reason})

    def not_finite(self, event: NotFinite) -> tuple[str, str]:
        self.watch.broken()
        rate = self.assembled.state.optimizer.param_groups[0]["initial_lr"]
        message = (
            f"the {event.what} became infinite or not a number at step {event.step}; the weights of step "
            f"{self.saved_step} are kept. Try --optimizer.lr {rate / 10:g} or --clip_norm 1"
        )
        return "not_finite", message

    def close(self, reason: str, message: str) -> None:
        """Evaluate the best weights, say what came out, and write the report."""
        self.folder.append(
            row := {
                "event": "end",
                "reason": reason,
                "step": self.assembled.state.step,
                "seconds": self.seconds,
                "message": message,
            }
        )
        self.save_ledger()
        self.save_pictures(self.describe_review())
        finished = reason in ("finished", "early_stopping")
        self.watch.close(finished=finished)
        if finished:
            self.picturing.close(seconds=row["seconds"])
        if (self.path / "weights" / "best.safetensors").exists() and reason != "interrupted":
            self.evaluate()
            self.assembled.after_run(self.folder, self.best_net())
        self.write_report()
        self.tell(row)
        lines = telling.closing(
            self.assembled,
            self.path,
            self.folder.rows(),
            self.evaluations,
            self.watch.findings,
            reason=reason,
            message=message,
        )
        self.tell({"event": "closing", "lines": lines})

    def evaluate(self) -> None:
        """Judge the best weights on the validation split and, for the first time, on the test split."""
        net = self.best_net().to(self.assembled.machine.device)
        if self.assembled.machine.memory_format is not torch.contiguous_format:
            net.to(memory_format=self.assembled.machine.memory_format)  # type: ignore[call-overload]
        prepared = self.assembled.prepared
        for split, pool in (("validation", prepared.validation), ("test", prepared.test)):
            if pool is None:
                continue
            self.evaluations[split] = self.assembled.judge(net, self.path, split, pool)

    def best_net(self) -> nn.Module:
        """The network with the best weights; the last ones where none were judged yet."""
        best = self.path / "weights" / "best.safetensors"
        net, _ = weights.load(best if best.exists() else self.path / "weights" / "last.safetensors")
        return net

    def write_report(self) -> None:
        """Write report.html; a page that cannot be drawn is said and never costs the run."""
        try:
            page.write(self.path)
        except Exception as error:
            self.tell({"event": "notice", "text": f"the report could not be written: {error}"})

    def say(self, row: dict[str, Any], *, keep: bool = True) -> None:
        """Hand a row to metrics.jsonl and to every sink."""
        if keep:
            self.folder.append(row)
        self.tell(row)

    def tell(self, row: Mapping[str, Any]) -> None:
        for sink in self.sinks:
            sink(row)

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """report.html is rewritten by a process of low priority while this one trains."""
        writer = live.start(self.path)
        try:
            yield
        finally:
            writer.stop()

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """The first Ctrl-C, or a request to terminate, ends the run after the step it is in; the second ends it now."""

        def stop(number: int, frame: FrameType | None) -> None:
            if self.interrupted and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.interrupted = True
            self.tell({"event": "notice", "text": "stopping after this step; Ctrl-C again stops at once"})

        try:
            before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # signals reach the main thread only; elsewhere the caller handles them
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
