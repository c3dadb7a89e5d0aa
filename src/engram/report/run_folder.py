"""A run folder as plain data, read without torch, whatever is missing, half written or older than this version.

Training may be writing while this reads: the last line of `metrics.jsonl` can be half a line, and any other file can
be absent. What cannot be read becomes a note on the page, never an exception.
"""

import json
import math
import re
import time
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram.clinic import arrays
from engram.errors import UserError
from engram.report import captions_file, cells_file, ledger, seen_files, surface_file, time_file

SPLITS = ("validation", "test")
SEVERITIES = ("critical", "warning", "information")
"""Of findings, the worst first."""
SILENCE = 600.0
"""Seconds without a line in `metrics.jsonl` after which a run without an end is taken for dead."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Evaluation:
    """What the best weights do on one split: `metrics.summary` and the pictures of its worst and sample rows.

    `pictures` maps the index of an example to its pixels, uint8 (H, W, C).
    """

    split: str
    summary: Mapping[str, Any]
    pictures: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        return [text(name) for name in self.summary.get("classes") or []]

    @property
    def examples(self) -> int:
        return int(self.summary.get("examples") or 0)

    @property
    def majority(self) -> float | None:
        """Accuracy of always answering the most frequent class, None where the counts are not known."""
        counts = [int(row.get("examples") or 0) for row in self.summary.get("per_class") or []]
        return max(counts) / sum(counts) if sum(counts) else None


@dataclass(frozen=True)
class Run:
    """Everything a run folder says; `notes` lists what was there but could not be read.

    `review` is what the training examples showed when they came again, `reviewed` the pictures of those it names,
    `ledger` what is remembered of each of them, as `engram.report.ledger` reads it.
    `findings` are what the clinic found, causes before their consequences and otherwise the worst first, each as
    `engram.clinic.finding.Finding.to_dict` writes it.
    `probes` are the clinic's measurements, as `engram.clinic.arrays` describes them, `surface` is the loss
    around the path of training, as `engram.report.surface_file` does; empty where there are none.
    `filters`, `activations` and `saliency` are pictures of what the network sees, as `engram.report.seen_files` has
    them.
    Of a recurrent network, `cells` are what its cells follow, `past` how far back its gradient reaches, as
    `engram.report.cells_file` and `time_file` have them; `written` is what one that writes wrote, oldest first, and
    `captions` what one that captions said and where it looked, as `captions_file` has them.
    """

    folder: Path
    recipe: Mapping[str, Any] = field(default_factory=dict)
    recipe_text: str = ""
    command: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    begin: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Mapping[str, Any], ...] = ()
    epochs: tuple[Mapping[str, Any], ...] = ()
    threads: tuple[Mapping[str, Any], ...] = ()
    resumed: tuple[Mapping[str, Any], ...] = ()
    end: Mapping[str, Any] | None = None
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    samples: bytes = b""
    review: Mapping[str, Any] = field(default_factory=dict)
    reviewed: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    ledger: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    findings: tuple[Mapping[str, Any], ...] = ()
    probes: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    surface: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    filters: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    activations: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    saliency: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    cells: Mapping[str, Any] = field(default_factory=dict)
    past: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    written: tuple[Mapping[str, Any], ...] = ()
    captions: Mapping[str, Any] = field(default_factory=dict)
    heard: float | None = None
    alive: bool = False
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return text(self.folder.resolve().name)

    @property
    def state(self) -> str:
        """`training`, `silent` (no end, and nobody writes any more), or the reason that the end event gives."""
        if self.end is not None:
            return str(self.end.get("reason") or "finished")
        return "training" if self.alive else "silent"

    @property
    def model(self) -> str:
        model = self.environment.get("model") or self.recipe.get("model") or {}
        return text(model.get("name") or "the network")

    @property
    def data(self) -> str:
        path = text((self.recipe.get("data") or {}).get("path") or "the data").rstrip("/\\")
        return re.split(r"[/\\]", path)[-1] or path

    @property
    def evaluation(self) -> Evaluation | None:
        """The split that the page explains: validation, or test where there is no other."""
        return next((self.evaluations[split] for split in SPLITS if split in self.evaluations), None)

    @property
    def task(self) -> str:
        """classify, write, caption or label."""
        return text(self.recipe.get("task") or "classify")

    @property
    def foresees(self) -> bool:
        """Whether its figure is how well it foresees words, and not how often it is right."""
        return self.task in ("write", "caption")

    @property
    def unit(self) -> str:
        """What its rate counts."""
        return "tokens" if self.task == "write" else "examples"

    @property
    def rates(self) -> list[float]:
        """How many of its unit it trained on a second, from the slowest measurement to the fastest."""
        keys = ("images_per_second", "tokens_per_second")
        return sorted(rate for row in self.steps for key in keys if (rate := finite(row.get(key))) is not None)

    @property
    def classes(self) -> list[str]:
        return self.evaluation.classes if self.evaluation else [text(name) for name in self.card.get("classes") or []]

    @property
    def step(self) -> int:
        events = [*self.steps[-1:], *self.epochs[-1:], *([self.end] if self.end else [])]
        return max((int(event.get("step") or 0) for event in events), default=0)

    @property
    def total_steps(self) -> int:
        return int(self.begin.get("total_steps") or 0)

    @property
    def seconds(self) -> float | None:
        events = [*self.steps[-1:], *self.epochs[-1:], *([self.end] if self.end else [])]
        known = [seconds for event in events if (seconds := finite(event.get("seconds"))) is not None]
        return max(known, default=None)

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The last epoch that was the best so far."""
        return next((epoch for epoch in reversed(self.epochs) if epoch.get("best")), None)

    def epoch_of(self, event: Mapping[str, Any]) -> float | None:
        """Passes over the data at an event, counted by its step so that all curves share one axis."""
        per_epoch = finite(self.begin.get("steps_per_epoch"))
        step = finite(event.get("step"))
        if per_epoch and step is not None:
            return step / per_epoch
        return finite(event.get("epoch"))


def read(folder: str | Path, *, alive: bool | None = None) -> Run:
    """Read a run folder.

    Args:
        alive: whether the training process still runs, where the caller knows; otherwise a run without an end is
            taken for alive while its `metrics.jsonl` is younger than `SILENCE`.

    Raises:
        UserError: there is no such folder, or it holds neither a recipe nor metrics.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "metrics.jsonl").write_text('{"event": "step", "step": 7, "loss": 2.1}\\n{"event": "st')
    >>> read(folder).step
    7
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no run folder {folder}", then="ls runs/")
    if not any((folder / name).is_file() for name in ("metrics.jsonl", "recipe.toml")):
        raise UserError(f"{folder} is not a run folder: it holds neither recipe.toml nor metrics.jsonl")
    notes: list[str] = []
    recipe_text = _text(folder / "recipe.toml", notes)
    metrics = folder / "metrics.jsonl"
    try:
        heard = metrics.stat().st_mtime
    except OSError:
        heard = None
    return Run(
        folder=folder,
        recipe=_toml(recipe_text, notes),
        recipe_text=recipe_text,
        command=_text(folder / "command.txt", notes).strip(),
        environment=_json(folder / "environment.json", notes),
        card=_json(folder / "card.json", notes),
        network=_json(folder / "network.json", notes),
        evaluations=_evaluations(folder / "evaluation", notes),
        samples=_bytes(folder / "pictures" / "samples.png", notes),
        review=_review(folder / "review.json", notes),
        reviewed=_pictures(folder / "pictures" / "review.npz", notes),
        ledger=_measured(ledger.read, folder / "ledger.parquet", notes),
        findings=_findings(folder / "findings.json", notes),
        probes=_measured(arrays.read, folder / "probes" / "clinic.npz", notes),
        surface=_measured(surface_file.read, folder / "probes" / "surface.npz", notes),
        filters=_measured(seen_files.filters, folder / "pictures" / "filters.npz", notes),
        activations=_measured(seen_files.activations, folder / "pictures" / "activations.npz", notes),
        saliency=_measured(seen_files.saliency, folder / "pictures" / "saliency.npz", notes),
        cells=_measured(cells_file.read, folder / "probes" / "cells.npz", notes),
        past=_measured(time_file.read, folder / "probes" / "time.npz", notes),
        written=_written(folder / "samples.json", notes),
        captions=_measured(captions_file.read, folder / "captions.npz", notes),
        heard=heard,
        alive=alive if alive is not None else heard is not None and time.time() - heard < SILENCE,
        **_history(_events(metrics, notes)),
        notes=tuple(notes),
    )


def has_ended(folder: Path) -> bool:
    """Whether a run says that it has ended and has not been resumed since."""
    return _history(_events(folder / "metrics.jsonl", []))["end"] is not None


def finite(value: Any) -> float | None:
    """The value as a float where it is a finite number, else None.

    >>> [finite(value) for value in (3, float("nan"), "7", None, True)]
    [3.0, None, None, None, None]
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value) if math.isfinite(value) else None
        except OverflowError:
            return None
    return None


def text(value: Any, *, limit: int = 120) -> str:
    """A name as a page can show it: control and direction characters made visible, and no longer than `limit`.

    >>> text("cat\\x00\\u202egod")
    'cat��god'
    """
    shown = _CONTROL.sub("\ufffd", str(value))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _events(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    lines = _text(path, notes).split("\n")
    events: list[dict[str, Any]] = []
    broken = 0
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line) if line.strip() else {}
        except ValueError:
            broken += number < len(lines)  # the last one may still be on its way
            continue
        if isinstance(event, dict) and event:
            events.append(event)
    if broken:
        notes.append(f"{path.name}: {broken} line{'s' if broken > 1 else ''} could not be read")
    return events


def _history(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Events by kind. A resumed run repeats the steps after its saved state, and its clock may start at zero again."""
    begin: dict[str, Any] = {}
    end: dict[str, Any] | None = None
    kinds: dict[str, list[dict[str, Any]]] = {"step": [], "epoch": [], "threads": [], "resumed": []}
    before = offset = 0.0
    for event in events:
        kind = event.get("event")
        if kind == "start":
            begin = event
        elif kind == "resumed":
            from_step = finite(event.get("step")) or 0.0
            for name in ("step", "epoch"):
                kinds[name] = [one for one in kinds[name] if (finite(one.get("step")) or 0.0) <= from_step]
            before = max(
                (finite(one.get("seconds")) or 0.0 for name in ("step", "epoch") for one in kinds[name]), default=0.0
            )
            offset, end = 0.0, None
            begin = {**begin, **event}  # it may have been lengthened
        if (seconds := finite(event.get("seconds"))) is not None:
            if seconds + offset < before and kinds["resumed"]:
                offset = before
            event["seconds"] = seconds + offset
        if kind == "end":
            end = event
        elif kind in kinds:
            kinds[kind].append(event)
            end = None if kind in ("step", "epoch") else end
    return {
        "begin": begin,
        "steps": tuple(kinds["step"]),
        "epochs": tuple(kinds["epoch"]),
        "threads": tuple(kinds["threads"]),
        "resumed": tuple(kinds["resumed"]),
        "end": end,
    }


def _evaluations(folder: Path, notes: list[str]) -> dict[str, Evaluation]:
    found = {}
    for split in SPLITS:
        summary = _json(folder / f"{split}.json", notes)
        if summary and not _square(summary):
            notes.append(f"{split}.json could not be read: its confusion matrix does not belong to its classes")
        elif summary:
            found[split] = Evaluation(split, summary, _pictures(folder / f"{split}_pictures.npz", notes))
    return found


def _review(path: Path, notes: list[str]) -> dict[str, Any]:
    review = _json(path, notes)
    lists = [review.get(name, []) for name in ("rounds", "retention", "coverage", "absence")]
    named = [review.get(name, {}) for name in ("never_learned", "forgotten", "hardest")]
    lists += [one.get("examples", []) if isinstance(one, dict) else None for one in named]
    if all(isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in lists):
        return review
    notes.append(f"{path.name} could not be read: its rows are of another form")
    return {}


def _measured(read: Callable[[Path], dict[str, Any]], path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        return read(path)
    except FileNotFoundError:
        return {}
    except UserError as error:
        notes.append(text(error, limit=300))
        return {}


def _written(path: Path, notes: list[str]) -> tuple[Mapping[str, Any], ...]:
    """Samples of a network that writes: each a `text`, and where they are known a `step`, `prompt`, `temperature`."""
    content = _text(path, notes)
    try:
        rows = json.loads(content) if content else []
    except ValueError as error:
        notes.append(f"{path.name} could not be read: {error}")
        return ()
    whole = isinstance(rows, list) and all(isinstance(row, dict) and isinstance(row.get("text"), str) for row in rows)
    if not whole:
        notes.append(f"{path.name} could not be read: it is no list of samples")
    return tuple(rows) if whole else ()


FINDING = {
    "diagnosis": str, "severity": str, "step": int, "where": list, "says": str, "seen": dict, "means": str,
    "remedy": dict, "refuted_by": str, "confidence": int | float, "consequence_of": list,
}  # fmt: skip
"""What a finding holds, by name; its remedy holds a text and a change."""


def _findings(path: Path, notes: list[str]) -> tuple[Mapping[str, Any], ...]:
    content = _text(path, notes)
    try:
        rows = json.loads(content) if content else []
    except ValueError as error:
        notes.append(f"{path.name} could not be read: {error}")
        return ()
    if not isinstance(rows, list):
        notes.append(f"{path.name} could not be read: it holds a {type(rows).__name__}, not a list")
        return ()
    whole = [row for row in rows if _is_finding(row)]
    if len(whole) < len(rows):
        left = len(rows) - len(whole)
        notes.append(f"{path.name}: {left} finding{'s are' if left > 1 else ' is'} of another form and left out")
    return tuple(whole)


def _is_finding(row: Any) -> bool:
    if not isinstance(row, dict) or not all(isinstance(row.get(name), kind) for name, kind in FINDING.items()):
        return False
    remedy = row["remedy"]
    if row["severity"] not in SEVERITIES:
        return False
    words = all(isinstance(one, str) for one in (*row["where"], *row["consequence_of"]))
    return words and isinstance(remedy.get("says"), str) and isinstance(remedy.get("change"), dict)


def _square(summary: Mapping[str, Any]) -> bool:
    """Whether there is a row and a column of whole numbers for every class, or no matrix at all."""
    rows, classes = summary.get("confusion") or [], len(summary.get("classes") or [])
    whole = all(isinstance(row, list) and len(row) == classes and all(type(n) is int for n in row) for row in rows)
    return not rows or (len(rows) == classes and whole)


def _pictures(path: Path, notes: list[str]) -> dict[int, NDArray[np.uint8]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            index, pixels = arrays["index"], arrays["pixels"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        notes.append(f"{path.name} could not be read: {error}")
        return {}
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or len(index) != len(pixels):
        notes.append(f"{path.name} holds no pictures: {pixels.dtype} of shape {pixels.shape}")
        return {}
    return {int(one): pixels[row] for row, one in enumerate(index)}


def _bytes(path: Path, notes: list[str]) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        notes.append(f"{path.name} could not be read: {error.strerror}")
        return b""


def _text(path: Path, notes: list[str]) -> str:
    return _bytes(path, notes).decode(errors="replace")


def _json(path: Path, notes: list[str]) -> dict[str, Any]:
    content = _text(path, notes)
    try:
        value = json.loads(content) if content else {}
    except ValueError as error:
        notes.append(f"{path.name} could not be read: {error}")
        return {}
    if isinstance(value, dict):
        return value
    notes.append(f"{path.name} could not be read: it holds a {type(value).__name__}, not an object")
    return {}


def _toml(content: str, notes: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        notes.append(f"recipe.toml could not be read: {error}")
        return {}
