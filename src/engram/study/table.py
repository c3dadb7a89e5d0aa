"""What came out, as tidy tables: one row a run, and one row a run and pass. Read from the run folders, without torch.

table.parquet table.csv    arm, the settings that differ, seed, status, measures, visits, steps, the work that they
                           were paid for as, seconds, what the initial weights are told by and whether they are the
                           baseline's, what the examples it is judged on are told by, folder
curves.parquet             arm, seed, epoch, visits, seconds, and what was measured after it
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engram import atomic
from engram.report import run_folder
from engram.report.run_folder import finite
from engram.study import measures
from engram.study.arms import Arm
from engram.study.plan import Plan, differing

Row = dict[str, Any]

ENDED = {"finished": "finished", "early_stopping": "finished", "not_finite": "failed"}
"""How a run ended -> what it counts as; whatever else can be gone on with."""
FAILURES = "failed.json"
"""Messages of runs that failed without leaving a folder that says so; by folder."""


@dataclass(frozen=True)
class Tables:
    """The rows of both tables, runs in the order of arms and seeds."""

    runs: list[Row]
    curves: list[Row]


def run_path(study: Path, arm: Arm, seed: int) -> Path:
    """Where a run of a study lies."""
    return study / "runs" / f"{arm.folder}-seed{seed}"


def collect(plan: Plan, study: Path) -> Tables:
    """Read every run of a study, whatever state it is in."""
    settings = differing({arm.name: plan.recipe(arm, 0) for arm in plan.arms})
    failures = read_failures(study)
    runs: list[Row] = []
    curves: list[Row] = []
    for arm in plan.arms:
        differs = {name: values[arm.name] for name, values in settings.items()}
        for seed in plan.seeds:
            path = run_path(study, arm, seed)
            found, passes = read_run(plan, path, failures.get(path.name))
            folder = path.relative_to(study).as_posix()
            runs.append({"arm": arm.name, **differs, "seed": seed, **found, "folder": folder})
            curves += [{"arm": arm.name, "seed": seed, **one} for one in passes]
    first = {row["seed"]: row.get("initial") for row in runs if row["arm"] == plan.baseline}
    for row in runs:
        both = row.get("initial"), first.get(row["seed"])
        row["begins_as_baseline"] = both[0] == both[1] if all(both) else None
    return Tables(_same_columns(runs), curves)


def status(plan: Plan, path: Path) -> str:
    """`finished`, `failed` (and would fail again), `begun` or `missing`."""
    if not (path / "metrics.jsonl").is_file():
        return "missing"
    end = run_folder.read(path, alive=False).end
    state = ENDED.get(str(end.get("reason")), "begun") if end else "begun"
    unjudged = (
        plan.measure.split != "train" and not measures.evaluation(path, plan.measure.split, plan.judged).is_file()
    )
    return "begun" if state == "finished" and unjudged else state  # killed between the last step and the evaluation


def read_failures(study: Path) -> dict[str, str]:
    """What is known of runs that failed, by the name of their folder."""
    try:
        return dict(json.loads((study / FAILURES).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def write(study: Path, tables: Tables) -> None:
    """Write the tables, each in one step.

    Raises:
        OSError: they cannot be written.
    """
    import pyarrow.parquet

    for name, rows in (("table", tables.runs), ("curves", tables.curves)):
        made = arrow(rows)
        atomic.write(study / f"{name}.parquet", lambda file, made=made: pyarrow.parquet.write_table(made, file))
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(tables.runs[0]))
    writer.writeheader()
    writer.writerows(tables.runs)
    atomic.write(study / "table.csv", text.getvalue())


def arrow(rows: Sequence[Row]) -> Any:
    """The rows as a `pyarrow.Table`; columns of mixed kinds are text.

    >>> arrow([{"a": 1, "b": "x"}, {"a": 2, "b": 3}]).to_pydict()
    {'a': [1, 2], 'b': ['x', '3']}
    """
    import pyarrow

    columns = {}
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        try:
            columns[name] = pyarrow.array(values)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
            columns[name] = pyarrow.array([None if value is None else str(value) for value in values])
    return pyarrow.table(columns)


def read_run(plan: Plan, path: Path, failure: str | None) -> tuple[Row, list[Row]]:
    """What one run came to, and its passes.

    Args:
        failure: what is known of its failing beside its folder.
    """
    state = status(plan, path)
    if failure is not None and state != "finished":
        state = "failed"
    row: Row = {"status": state, "message": failure or ""}
    if not (path / "metrics.jsonl").is_file():
        return row, []
    run = run_folder.read(path, alive=False)
    if state == "failed" and run.end is not None:
        row["message"] = failure or str(run.end.get("message") or run.end.get("reason"))
    passes = _passes(run)
    if state == "finished":
        row |= measures.figures(path, plan.judged, run.epochs)
    size = finite(run.begin.get("batch_size")) or 0
    origin, visits = _origin(path), int(run.step * size)
    charge = finite(origin.get("charge"))
    row |= {
        "visits": visits,
        "steps": run.step,
        "work": None if charge is None else round(visits * charge, 3),
        "seconds": run.seconds,
        "initial": origin.get("initial"),
        "judged_on": (origin.get("examples") or {}).get(plan.measure.split),
    }
    if plan.target is not None:
        reached = next((one for one in passes if (one["validation.accuracy"] or 0) >= plan.target), None)
        row |= {f"{unit}_to_target": reached[unit] if reached else None for unit in ("visits", "seconds")}
    return row, passes


def _passes(run: run_folder.Run) -> list[Row]:
    size = finite(run.begin.get("batch_size")) or 0
    return [
        {
            "epoch": int(event["epoch"]),
            "step": int(event["step"]),
            "visits": int(event["step"] * size),
            "seconds": finite(event.get("seconds")),
            "lr": finite(event.get("lr")),
            **{
                f"{split}.{figure}": finite((event.get(split) or {}).get(figure))
                for split in ("train", "validation")
                for figure in ("loss", "accuracy")
            },
            "best": bool(event.get("best")),
        }
        for event in run.epochs
    ]


def _origin(path: Path) -> Mapping[str, Any]:
    """What the run wrote before its first step; nothing where it did not come so far."""
    try:
        return dict(json.loads((path / "origin.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _same_columns(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Every row with every column, empty where it has none; the folder last."""
    every = dict.fromkeys(name for row in rows for name in row if name != "folder")
    return [{name: row.get(name) for name in (*every, "folder")} for row in rows]
