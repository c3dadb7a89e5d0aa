"""The loss around the path that training took, and around where it ended: two planes of weights."""

import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from engram.report.charts import figure
from engram.report.charts_surface import surface
from engram.report.markup import Markup, facts, join, tag
from engram.report.run_folder import Run
from engram.report.words import count, number, percent

ORDER = 19
TITLE = "The loss surface"

NORMS = (
    None,
    "batch norm takes the statistics of these examples at every point",
    "batch norm takes its running statistics, which belong to the end alone: elsewhere the loss is too high",
)
"""What is said of batch norm, as `batch_norm` numbers it."""


def section(run: Run) -> Markup | None:
    measured = run.surface
    if not measured:
        return _later(run)
    charts = [_path(measured)] + ([_random(measured)] if "random_losses" in measured else [])
    return join([tag("p", _lead(measured)), tag("div", *charts, class_="charts"), facts(_facts(measured))])


def _later(run: Run) -> Markup | None:
    """How to have it, of a run that has the snapshots and had not the time."""
    kept = (run.folder / "state" / "trajectory.safetensors").is_file()
    if not kept or run.state not in ("finished", "early_stopping"):
        return None
    command = f"engram report {shlex.quote(run.folder.as_posix())} --surface 120"
    told = "Measuring it would have taken more than the few percent of the training time that a run gives it. "
    return tag("p", told, tag("code", command), " does it now, in at most so many seconds.")


def points(measured: Mapping[str, Any]) -> list[dict[str, float]]:
    """The snapshots from the first to the last: where they lie, their losses, and how far off the plane they are."""
    columns = (*measured["path"].T, *(measured[name] for name in ("steps", "true", "drawn", "off_plane")))
    names = ("a", "b", "step", "true", "drawn", "off")
    return [dict(zip(names, map(float, row), strict=True)) for row in zip(*columns, strict=True)]


def apart(measured: Mapping[str, Any]) -> tuple[int, float]:
    """Of which snapshot the plane tells the loss worst, and how far it is off, as a share of the true one."""
    true, drawn = (measured[name].astype(float) for name in ("true", "drawn"))
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.nan_to_num(np.abs(drawn - true) / np.abs(true), nan=0.0, posinf=np.inf)
    worst = int(np.argmax(off))
    return worst, float(off[worst])


def _lead(measured: Mapping[str, Any]) -> str:
    true = [number(float(measured["true"][place])) for place in (0, -1)]
    first, last = (count(int(measured["steps"][place])) for place in (0, -1))
    return (
        f"From step {first} to step {last} the loss went from {true[0]} to {true[1]}. The weights have many dimensions "
        "and a picture has two, so each picture is a slice, and each hides what the other shows."
    )


def _path(measured: Mapping[str, Any]) -> Markup:
    first, second = (percent(float(share)) for share in measured["explained"])
    spec = surface(
        measured["a"],
        measured["b"],
        measured["losses"],
        points(measured),
        x=f"along the first component ({first} of the path)",
        y=f"along the second component ({second})",
    )
    shown = (
        "It shows the valley that training went down; each dot has the colour of a snapshot's true loss, and where "
        "that is not the colour of the ground around it, the plane does not tell the loss. It cannot show what lies "
        "off the plane."
    )
    return figure(spec, "The path on its principal plane", shown + _lost(measured["losses"]))


def _random(measured: Mapping[str, Any]) -> Markup:
    spec = surface(
        measured["random_a"],
        measured["random_b"],
        measured["random_losses"],
        points(measured)[-1:],
        x="along one random direction, in lengths of each filter",
        y="along another",
    )
    shown = (
        "It shows how soon the loss rises when every filter changes by the same share of its length; training ended at "
        "0. It cannot show the path, of which a random plane holds next to nothing."
    )
    return figure(spec, "A random plane through the end", shown + _lost(measured["random_losses"]))


def _lost(losses: Any) -> str:
    return "" if np.isfinite(losses).all() else " Where nothing is drawn the loss is infinite or not a number."


def _facts(measured: Mapping[str, Any]) -> list[tuple[str, object]]:
    explained = float(measured["explained"].sum())
    place, share = apart(measured)
    step = count(int(measured["steps"][place]))
    true, drawn = (number(float(measured[name][place])) for name in ("true", "drawn"))
    sides = " × ".join(str(len(measured[name])) for name in ("a", "b"))
    norm = NORMS[int(measured["batch_norm"])]
    return [
        ("explained by the plane", f"{percent(explained)} of the squared distances from the end"),
        ("off the plane at the start", f"{percent(float(measured['off_plane'][0]))} of its distance from the end"),
        ("drawn against true loss", f"at most {percent(share, 0)} off, at step {step}: drawn {drawn}, true {true}"),
        ("loss", f"of {count(int(measured['examples']))} training examples, the same at every point, without dropout"),
        ("batch norm", norm and norm.removeprefix("batch norm ")),
        ("measured at", f"{sides} points a plane, and {count(len(measured['steps']))} snapshots"),
    ]
