"""Compare review methods at equal visits: tune each on validation data, then decide once on test data.

    python bench/review/run.py tune mnist --data DIR              four trials of every method, 2 seeds, half the visits
    python bench/review/run.py ablate mnist --data DIR            one change at a time to ours, 3 seeds, validation data
    python bench/review/run.py decide mnist --data DIR            the tuned methods and their controls, 5 seeds
    python bench/review/run.py table                              what bench/results/ holds, as Markdown

Every budget (25, 50, 75, 100 % of the full run's visits) is its own run with its own complete schedule. Each pair of
workload and budget is a study (`engram compare` shows it), kept in the cache folder, so that a run that was stopped
goes on; the figures go to bench/results/review_WORKLOAD.json after every study. DIR holds `cifar10/` and `mnist/`.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import arms
import torch
from workloads import WORKLOADS, Workload, margin

import engram
from engram.errors import UserError
from engram.study.study import begin
from engram.training.device import describe_processor

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "bench" / "results"
BUDGETS = (0.5, 0.25, 1.0, 0.75)
CONTROLS = ["permuted", "no forgetting"]
TUNED_AT = 0.5
TUNING_SEEDS = (100, 101)  # not among those that decide
EARLIER_SEED = 900  # of the runs that pruning rests on


def commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain", "--", "src") else "")


def read(workload: Workload) -> dict[str, Any]:
    path = RESULTS / f"review_{workload.name}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    facts = {"name": workload.name, "about": workload.about, "saturated": workload.saturated, "epochs": workload.epochs}
    return {"workload": facts, "commands": [], "trials": {}, "tuned": {}, "budgets": {}}


def write(workload: Workload, results: dict[str, Any]) -> None:
    path = RESULTS / f"review_{workload.name}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)


def base(workload: Workload, chosen: argparse.Namespace) -> dict[str, Any]:
    """What all runs of a workload have in common; they learn from the whole training split and are judged by test."""
    return {**alike(workload, chosen, workload.make), "data.validation": 0.0}


def trials(workload: Workload, chosen: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """What all trials of a workload have in common, and the split that judges them; never test data."""
    if workload.tuned_on is not None:  # its test split is training images that nobody trains on
        return {**alike(workload, chosen, workload.tuned_on), "data.validation": 0.0}, "test"
    return {**alike(workload, chosen, workload.make), "data.validation": 0.1}, "validation"


def alike(workload: Workload, chosen: argparse.Namespace, make: Callable[[Path, Path], Path]) -> dict[str, Any]:
    """The data that `make` builds, and the workload's own settings."""
    cache = Path(chosen.cache)
    cache.mkdir(parents=True, exist_ok=True)
    data = make(Path(chosen.data), cache)
    return {"data": str(data), "schedule": "one_cycle", "save_every": 1e9, **workload.settings}


def run_study(path: Path, compared: dict[str, dict[str, Any]], seeds: tuple[int, ...], **settings: Any) -> Any:
    """The study of these arms, begun or gone on with."""
    told = {"done": 0}

    def say(row: Any) -> None:
        if row.get("event") == "run":
            told["done"] += 1
            print(f"  {told['done']:4} {row.get('arm')} seed {row.get('seed')}: {row.get('status')}", flush=True)

    from engram.study.study import study

    if (path / "study.toml").exists():
        from engram.study import plan

        return begin(plan.load(path / "study.toml"), path, jobs=settings.get("jobs"), sinks=[say])
    path.parent.mkdir(parents=True, exist_ok=True)
    return study(arms=compared, seeds=seeds, equal="none", output=str(path), sinks=[say], **settings)


def with_ledgers(compared: dict[str, dict[str, Any]], common: dict[str, Any], workload: Workload, cache: Path) -> Any:
    """The arms, those that prune by an earlier run given its ledger; it is made here once, of the same examples."""
    result = {}
    for name, arm in compared.items():
        share = arms.EARLIER.get(arm["review"])
        result[name] = arm if share is None else {**arm, "review.scores": str(earlier(share, common, workload, cache))}
    return result


def earlier(share: float, common: dict[str, Any], workload: Workload, cache: Path) -> Path:
    """The ledger of a shuffled run of this part of the full run, on the whole training split."""
    folder = cache / f"earlier-{Path(common['data']).stem}-{round(100 * share)}"
    ledger = folder / "ledger.parquet"
    if not ledger.exists():
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
        own = {**common, **arms.settings("shuffle", {}, workload.lr), "epochs": share * workload.epochs}
        own["data.validation"] = 0.0  # so that it has all examples that any seed will train on
        engram.train(**own, seed=EARLIER_SEED, output=str(folder), clinic="none")
    return ledger.resolve()


def tune(chosen: argparse.Namespace) -> None:
    """Four trials of every method on validation data, at half of the visits; the best mean is kept.

    With `--further`, two trials more beside the four that were made of the workload of `--tuned`.
    """
    workload = WORKLOADS[chosen.workload]
    results = read(workload)
    if chosen.further:
        results["trials"] |= read(WORKLOADS[chosen.tuned])["trials"]
    common, split = trials(workload, chosen)
    common["epochs"] = TUNED_AT * workload.epochs
    made = arms.OWN.get(workload.name) or (arms.FURTHER if chosen.further else arms.TRIALS)
    names = chosen.only or list(made)
    compared = {
        f"{name}: {arms.label(trial)}": arms.settings(name, trial, workload.lr)
        for name in names
        for trial in made[name]
    }
    compared = with_ledgers(compared, common, workload, Path(chosen.cache))
    some = "-".join(["", *(["further"] if chosen.further else []), *(chosen.only or [])])
    path = Path(chosen.cache) / "studies" / f"tune-{workload.name}{some}"
    seeds = TUNING_SEEDS[: chosen.seeds]
    done = run_study(path, compared, seeds, measure=f"{split}.accuracy", jobs=chosen.jobs, **common)
    rows = done.tables.runs
    for label in compared:
        values = [row[f"{split}.accuracy"] for row in rows if row["arm"] == label]
        failed = None in values  # a trial that diverges with any seed is none to choose
        results["trials"][label] = {"mean": None if failed else statistics.fmean(values), "n": len(values)}
    for name in names:
        known = made[name] if workload.name in arms.OWN else arms.TRIALS[name] + arms.FURTHER.get(name, ())
        tried = {f"{name}: {arms.label(trial)}": trial for trial in known}
        means = {label: results["trials"].get(label, {}).get("mean") for label in tried}
        best = max(tried, key=lambda label: float("-inf") if means[label] is None else means[label])
        results["tuned"][name] = tried[best]
        print(f"{name:28} {arms.label(tried[best]):32} {means[best] or 0:.4f}")
    note(results, chosen)
    write(workload, results)


def ablate(chosen: argparse.Namespace) -> None:
    """One change at a time to the tuned forgetting curve, at half of the visits or as told, on validation data."""
    workload = WORKLOADS[chosen.workload]
    results = read(workload)
    common, split = trials(workload, chosen)
    common["epochs"] = chosen.at * workload.epochs
    ours = arms.settings("forgetting_curve", results["tuned"]["forgetting_curve"], workload.lr)
    compared = {}
    changes = chosen.changes or list(arms.ABLATIONS)
    for name in dict.fromkeys(["as tuned", *changes]):
        change = arms.ABLATIONS[name]
        if "review" in change:  # another method, as it was tuned but for the rest of the change
            own = {**results["tuned"][change["review"]], **change}
            one = arms.settings(own.pop("review"), own, workload.lr)
        else:
            one = arms.changed(ours, change, workload.lr)
        if one not in compared.values():  # what was tuned may be one of the changes
            compared[name] = one
    some = f"-{len(compared)}-changes-{chosen.seeds}-seeds" if chosen.changes else ""
    some += f"-{round(100 * chosen.at)}" if chosen.at != TUNED_AT else ""
    path = Path(chosen.cache) / "studies" / f"ablate-{workload.name}{some}"
    seeds = tuple(range(200, 200 + chosen.seeds))
    done = run_study(path, compared, seeds, measure=f"{split}.accuracy", jobs=chosen.jobs, **common)
    note(results, chosen)
    figures = ("accuracy", "loss", "ece")
    kept = ("arm", "seed", "status", "visits")
    found = [
        {**{key: row.get(key) for key in kept}, **{f"validation.{key}": row.get(f"{split}.{key}") for key in figures}}
        for row in done.tables.runs
    ]
    if chosen.changes:  # some changes stand by themselves: pairs are of one study, on one machine
        more = {"machine": results["machine"], "runs": found} | ({"at": chosen.at} if chosen.at != TUNED_AT else {})
        others = [one for one in results.get("ablations_again", []) if told(one) != told(more)]
        results["ablations_again"] = [*others, more]
    else:
        results["ablations"] = found
    write(workload, results)
    for name in compared:
        rows = [row for row in found if row["arm"] == name]
        print(f"{name:26} {statistics.fmean(row['validation.accuracy'] or 0 for row in rows):.4f}")


def told(ablations: dict[str, Any]) -> list[Any]:
    """Which arms, seeds and part of the visits these are."""
    return [ablations.get("at", TUNED_AT), *sorted((row["arm"], row["seed"]) for row in ablations["runs"])]


def decide(chosen: argparse.Namespace) -> None:
    """The tuned methods and the controls at every budget, on the test split, final weights."""
    workload = WORKLOADS[chosen.workload]
    if chosen.again:
        workload = replace(workload, name=f"{workload.name}-{chosen.again}")
    results = read(workload)
    if chosen.tuned or chosen.again:
        results["tuned_on"] = chosen.tuned or chosen.workload
        results["tuned"] = read(WORKLOADS[results["tuned_on"]])["tuned"]
    names = [name for name in arms.TRIALS if name in results["tuned"]] if chosen.only is None else chosen.only
    named = chosen.controls is not None
    controls = chosen.controls if named else CONTROLS if "forgetting_curve" in names else []
    common = base(workload, chosen)
    note(results, chosen)
    for budget in chosen.budgets:
        compared = {name: arms.settings(name, results["tuned"][name], workload.lr) for name in names}
        if controls:
            ours = arms.settings("forgetting_curve", results["tuned"]["forgetting_curve"], workload.lr)
            compared |= {name: arms.changed(ours, arms.CONTROLS[name], workload.lr) for name in controls}
        compared = with_ledgers(compared, common, workload, Path(chosen.cache))
        asked = [*(chosen.only or []), *(controls if named else [])]
        some = "-" + "-".join(asked).replace(" ", "_") if asked else ""
        path = Path(chosen.cache) / "studies" / f"{workload.name}-{round(100 * budget)}{some}"
        begun = time.time()
        done = run_study(
            path,
            compared,
            tuple(range(chosen.first_seed, chosen.first_seed + chosen.seeds)),
            measure="test.accuracy",
            margin=margin(workload.name),
            epochs=budget * workload.epochs,
            jobs=chosen.jobs,
            **common,
        )
        rows = summary(done)["runs"]
        before = results["budgets"].get(str(budget), {"runs": []})["runs"]
        others = [row for row in before if row["arm"] not in compared]
        results["budgets"][str(budget)] = {"runs": [*others, *rows], "machine": results["machine"]}
        write(workload, results)
        print(f"{workload.name} at {budget:.0%}: {time.time() - begun:.0f} s")
        show(results, budget)


def summary(done: Any) -> dict[str, Any]:
    """Every run's figures."""
    kept = ("arm", "seed", "status", "message", "visits", "steps", "seconds", "train.accuracy")
    figures = tuple(f"test.{name}" for name in ("accuracy", "loss", "ece", "worst_class"))
    rows = [{key: row.get(key) for key in (*kept, *figures)} for row in done.tables.runs]
    for row, run in zip(rows, done.tables.runs, strict=True):
        row["test.by_class"] = by_class(done.path / run["folder"])
    return {"runs": rows}


def by_class(run: Path) -> list[float]:
    """The test accuracy of every class at the end of a run; none where it did not end."""
    path = run / "evaluation" / "final_test.json"
    told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"per_class": []}
    return [one["recall"] for one in told["per_class"]]


def show(results: dict[str, Any], budget: float) -> None:
    rows = results["budgets"][str(budget)]["runs"]
    for name in dict.fromkeys(row["arm"] for row in rows):
        values = [100 * row["test.accuracy"] for row in rows if row["arm"] == name and row["test.accuracy"] is not None]
        if not values:
            print(f"  {name:28} failed")
            continue
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"  {name:28} {statistics.fmean(values):.2f} ± {spread:.2f} (n = {len(values)})")


def note(results: dict[str, Any], chosen: argparse.Namespace) -> None:
    words = ["DIR" if word in (chosen.data, chosen.cache) else word for word in sys.argv[1:]]
    command = shlex.join(["python", "bench/review/run.py", *words])
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    results["machine"] = {"processor": describe_processor(), "cores": cores, "torch": torch.__version__}
    results["commands"].append({"command": command, "commit": commit(), "engram": engram.__version__, "at": at})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="task", required=True)
    for name in ("tune", "ablate", "decide"):
        verb = verbs.add_parser(name)
        verb.add_argument("workload", choices=list(WORKLOADS))
        verb.add_argument("--data", default="data", help="the folder that holds mnist/ and cifar10/")
        verb.add_argument("--cache", default="build/review", help="where made data and studies are kept")
        verb.add_argument("--tuned", choices=list(WORKLOADS), help="decide with what was tuned on another workload")
        verb.add_argument("--further", action="store_true", help="of tune: two trials more than those of --tuned")
        verb.add_argument("--changes", nargs="+", choices=list(arms.ABLATIONS), help="of ablate: only these")
        verb.add_argument("--only", nargs="*", choices=list(arms.TRIALS), help="these methods, or none but controls")
        verb.add_argument("--controls", nargs="*", choices=list(arms.CONTROLS), help="of decide: instead of its two")
        verb.add_argument("--jobs", type=int)
        verb.add_argument("--at", type=float, default=TUNED_AT, help="of ablate: this part of the full run's visits")
        verb.add_argument("--seeds", type=int, default=5)
        verb.add_argument("--first-seed", type=int, default=0, help="of decide: to see whether it comes out again")
        verb.add_argument("--again", help="of decide: into a file of its own, whose name ends so")
        verb.add_argument("--budgets", type=float, nargs="+", default=BUDGETS)
    verbs.add_parser("table")
    chosen = parser.parse_args()
    if chosen.task == "table":
        import glance
        import table

        glance.print_all(RESULTS)
        table.print_all(RESULTS)
        return
    try:
        if getattr(chosen, "further", False) and not chosen.tuned:
            raise UserError(
                "--further adds to trials that were made: say of which workload, as in --tuned cifar10-10k-vgg"
            )
        {"tune": tune, "ablate": ablate, "decide": decide}[chosen.task](chosen)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
