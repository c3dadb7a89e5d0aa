"""The clinic in a run: it looks on while the network is trained, and what it finds is said, written and shown.

Findings are rows of metrics.jsonl as they are found, and together `findings.json`, causes before their consequences;
what was measured is `probes/clinic.npz`. Nothing of this changes a weight, and nothing that goes wrong in it ends a
run: it is said once, and the run goes on unwatched.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch

from engram.clinic import arrays, moments
from engram.clinic.clinic import Clinic
from engram.clinic.finding import Finding
from engram.clinic.measured import Moment, Setup
from engram.clinic.probe import UNIT_SAMPLES
from engram.clinic.probe_data import spread
from engram.data.pool import Names
from engram.errors import UserError
from engram.training.assembled import Assembled
from engram.training.events import Epoch, Step
from engram.training.run import RunFolder

Say = Callable[[dict[str, Any]], None]

SHORT = 1000
"""Steps below which `auto` is the quick level: the first measurements come close together, and weigh more there."""

PROBED_BATCHES = 8
"""Batches that the probe may be as large as: it is run forward, and a step costs three times that."""

LARGE = 100_000
"""Bytes of an example from which the probe is no larger than a batch: layers of 64 large pictures are gigabytes."""

FILE, MEASURED = "findings.json", "probes/clinic.npz"


class Watch:
    """The clinic of one run, from its first step, or its last saved state, to its end.

    Args:
        say: gets rows for metrics.jsonl and every sink: findings, and a notice where the clinic fails.
    """

    def __init__(self, assembled: Assembled, folder: RunFolder, say: Say) -> None:
        self.assembled, self.folder, self.say = assembled, folder, say
        self.clinic: Clinic | None = None
        self.failed = False  # and looks no further; what was found before stays

    @property
    def findings(self) -> list[Finding]:
        """Everything found so far, to be read from the top."""
        return [] if self.clinic is None else self.clinic.findings

    def open(self, *, resumed: bool) -> None:
        """Look at the network before its first step, or take up what was found before it was stopped."""
        level = self.assembled.recipe.training.clinic
        if level == "none":
            return
        self._safely(lambda: self._begin(level, resumed=resumed))

    def step(self, event: Step) -> None:
        """One update was made."""
        self._ask(lambda clinic: clinic.step(event.loss, lr=event.lr))

    def epoch(self, event: Epoch) -> None:
        """A pass has ended, and was measured."""
        train, validation = event.train, event.validation or {}
        self._ask(
            lambda clinic: clinic.judged(
                event.epoch,
                train["loss"],
                train.get("accuracy"),
                validation.get("loss"),
                validation.get("accuracy"),
            )
        )
        self._safely(self.write)

    def broken(self) -> None:
        """Something is not finite: where does it begin?"""
        self._ask(lambda clinic: clinic.look())

    def close(self, *, finished: bool) -> None:
        """The last look, where training has come to its end, and the files."""
        if finished:
            self._ask(lambda clinic: clinic.finish())
        self._safely(self.write)
        if self.clinic is not None:
            self.clinic.close()

    def write(self) -> None:
        """`findings.json`, and `probes/clinic.npz`."""
        if self.clinic is not None and not self.failed:
            self._write_findings(self.clinic)
            arrays.write(self.folder.path / MEASURED, self.clinic.history)

    def _write_findings(self, clinic: Clinic) -> None:
        self.folder.write_json(FILE, [one.to_dict() for one in clinic.findings])

    def _begin(self, level: str, *, resumed: bool) -> None:
        assembled, state = self.assembled, self.assembled.state
        if level == "auto":
            level = "quick" if state.reviewer.total_steps < SHORT else "standard"
        pool = assembled.prepared.train
        count = _probed(assembled)
        stored, y = next(iter(pool.batches([spread(len(pool), count)])))
        self.clinic = Clinic(
            state.net,
            state.optimizer,
            probe=(assembled.views(stored, torch.float32)[0], y),
            level=level,
            autocast=assembled.machine.autocast,
            **assembled.examined(),
            setup=setup_of(assembled, self._card()),
            facts={"ledger": state.reviewer.ledger, "names": Names(pool)},
        )
        if resumed:
            self.clinic.take_up(self._found_before(), self.folder.rows(), self._measured_before())
            self.clinic.steps = state.step
        else:
            self._tell(self.clinic, self.clinic.examine())
            self.write()

    def _found_before(self) -> list[Finding]:
        """What the run's file says was found up to the step that it goes on from."""
        try:
            rows = json.loads((self.folder.path / FILE).read_text(encoding="utf-8"))
            return [one for one in map(Finding.from_dict, rows) if one.step <= self.assembled.state.step]
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return []

    def _measured_before(self) -> list[Moment]:
        try:
            kept = arrays.read(self.folder.path / MEASURED)
        except (UserError, OSError):
            return []
        found = [*moments.layered(kept), *moments.weighed(kept)]
        return [one for one in found if one.step <= self.assembled.state.step]

    def _card(self) -> dict[str, Any]:
        try:
            card = json.loads((self.folder.path / "card.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            card = {}
        return card if isinstance(card, dict) else {}

    def _ask(self, question: Callable[[Clinic], list[Finding]]) -> None:
        clinic = self.clinic
        if clinic is not None and not self.failed:
            self._safely(lambda: self._tell(clinic, question(clinic)))

    def _tell(self, clinic: Clinic, found: list[Finding]) -> None:
        for one in found:
            self.say({"event": "finding", "step": one.step, "finding": one.to_dict()})
        if found:
            self._write_findings(clinic)

    def _safely(self, do: Callable[[], None]) -> None:
        """Whatever fails here is said, and the run goes on without the clinic."""
        try:
            do()
        except OSError:
            raise  # a full disk is the run's affair
        except Exception as error:
            said = error.given if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self.say({"event": "notice", "text": f"the clinic looks no further: {said}"})
            self.failed = True
            if self.clinic is not None:
                self.clinic.close()


def setup_of(assembled: Assembled, card: Mapping[str, Any]) -> Setup:
    """What a diagnosis may know of a run beside what is measured.

    Args:
        card: what is known of the data, as `card.json` has it.
    """
    prepared, reviewer, groups = assembled.prepared, assembled.state.reviewer, assembled.state.optimizer.param_groups
    unreadable = tuple(f"{one.name}: {one.why}" for one in prepared.unreadable)
    return Setup(
        total_steps=reviewer.total_steps,
        steps_per_pass=reviewer.steps_per_pass,
        examples=len(prepared.train),
        batch_size=reviewer.batch_size,
        optimizer=type(assembled.state.optimizer).__name__,
        lr=max(float(group.get("initial_lr", group["lr"])) for group in groups),
        weight_decay=max(float(group.get("weight_decay") or 0.0) for group in groups),
        data={**card, "unreadable": unreadable},
    )


def _probed(assembled: Assembled) -> int:
    """How many examples the probe has: what the machine can hold is known from the batch, and from nothing else."""
    step = -(-assembled.state.reviewer.batch_size // assembled.parts.accumulate)
    size = 4 * torch.Size(assembled.prepared.shape).numel()
    return max(2, step if size > LARGE else min(UNIT_SAMPLES, PROBED_BATCHES * step))
