"""A run without its page, that can be stopped after a step: what is trained and measured is all there."""

import contextlib
import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import engram
from engram.training.session import Run, Session

DEVICE = {"threads": 1, "precision": "float32"}


class Quiet(Session):
    """Draws no pages.

    Args:
        stop: the step after which it is interrupted, as by Ctrl-C.
        breaks: the step after which the process dies, as by a power cut.
        last_pass: the pass after which it dies, told but not yet saved.
    """

    def __init__(
        self, *given: Any, stop: int | None = None, breaks: int | None = None, last_pass: int | None = None
    ) -> None:
        super().__init__(*given)
        self.stop, self.breaks, self.last_pass = stop, breaks, last_pass

    def say(self, row: dict[str, Any], *, keep: bool = True) -> None:
        super().say(row, keep=keep)
        if row["event"] == "step" and row["step"] == self.stop:
            self.interrupted = True
        if row["event"] == "step" and row["step"] == self.breaks:
            raise PowerCut
        if row["event"] == "epoch" and row["epoch"] == self.last_pass:
            raise PowerCut

    def write_report(self) -> None:
        """`engram report` draws it."""

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        yield


class PowerCut(Exception):
    """Nothing after this is done."""


def train(task: str, data: str | Path, output: Path, *, stop: int | None = None, **settings: Any) -> Run:
    """A short run of a task without the clinic, unless asked for."""
    given = {"task": task, "data": str(data), "output": str(output), "device": DEVICE, "clinic": "none", **settings}
    ends = {name: given.pop(name, None) for name in ("breaks", "last_pass")}
    return engram.train(session=functools.partial(Quiet, stop=stop, **ends), **given)


def resume(folder: Path, **settings: Any) -> Run:
    return engram.resume(folder, session=Quiet, **settings)


def rows(folder: Path, event: str) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl of a kind."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["event"] == event]
