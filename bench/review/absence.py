"""What absence costs on the tasks of the comparison, as `save="auto"` measures it while it feeds a network.

    python bench/review/absence.py measure mnist --data DIR [--seeds 300 301 302]
    python bench/review/absence.py table

The full run of each task with its tuned `auto`, a tenth held out. Every trial of `engram.review.absence`
goes to bench/results/review_absence.json: its cost, the standard error and the epoch in which it was over.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import arms
import torch
from run import RESULTS, base, commit, read
from workloads import WORKLOADS

import engram
from engram.review.absence import costs
from engram.training.device import describe_processor

PATH = RESULTS / "review_absence.json"


def measure(chosen: argparse.Namespace) -> None:
    workload = WORKLOADS[chosen.workload]
    tuned = read(WORKLOADS[chosen.tuned or chosen.workload])["tuned"]["auto"]
    tuned = tuned | ({"rate": chosen.rate} if chosen.rate else {})
    common = base(workload, chosen) | {"data.validation": 0.1, "epochs": workload.epochs}
    for seed in chosen.seeds:
        with tempfile.TemporaryDirectory() as folder:
            own = {**common, **arms.settings("auto", tuned, workload.lr)}
            engram.train(**own, seed=seed, output=folder, clinic="none", sinks=[])
            told = json.loads((Path(folder) / "review.json").read_text(encoding="utf-8"))
        row = {"task": workload.name, "tuned": tuned, "seed": seed, "trials": told["absence"], "commit": commit()}
        row["machine"] = {"processor": describe_processor(), "torch": torch.__version__}
        keep(row)
        print(workload.name, arms.label(tuned), seed, [round(one["cost"], 4) for one in told["absence"]], flush=True)


def keep(row: dict[str, Any]) -> None:
    """The results with this run in them, in place of one like it."""
    before = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else []
    others = [one for one in before if any(one[key] != row[key] for key in ("task", "tuned", "seed"))]
    part = PATH.with_suffix(".part")
    rows = sorted([*others, row], key=lambda one: (one["task"], arms.label(one["tuned"]), one["seed"]))
    part.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    os.replace(part, PATH)


def table() -> None:
    print("| task | tuned to | runs | trials | cost, mean (lowest to highest) | standard error | learned by heart |")
    print("|---|---|---:|---:|---:|---:|---:|")
    rows = json.loads(PATH.read_text(encoding="utf-8"))
    for task, label in dict.fromkeys((row["task"], arms.label(row["tuned"])) for row in rows):
        runs = [row for row in rows if (row["task"], arms.label(row["tuned"])) == (task, label)]
        trials = [one for row in runs for one in row["trials"]]
        found = [one["cost"] for one in trials]
        if not found:
            print(f"| {task} | {label} | {len(runs)} | 0 |  |  |  |")
            continue
        cost = f"{statistics.fmean(found):+.3f} ({min(found):+.3f} to {max(found):+.3f})"
        error = statistics.fmean(one["error"] for one in trials)
        print(f"| {task} | {label} | {len(runs)} | {len(trials)} | {cost} | {error:.3f} | {sum(map(costs, trials))} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("measure")
    verb.add_argument("workload", choices=list(WORKLOADS))
    verb.add_argument("--tuned", choices=list(WORKLOADS), help="with what was tuned on another workload")
    verb.add_argument("--rate", type=float, help="this times the workload's learning rate, instead of the tuned one")
    verb.add_argument("--data", default="data", help="the folder that holds mnist/ and cifar10/")
    verb.add_argument("--cache", default="build/review", help="where made data are kept")
    verb.add_argument("--seeds", type=int, nargs="+", default=[300, 301, 302])
    verbs.add_parser("table")
    chosen = parser.parse_args()
    if chosen.verb == "table":
        table()
    else:
        measure(chosen)


if __name__ == "__main__":
    main()
