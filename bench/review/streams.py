"""Ordered streams: review along the forgetting curve against none, recent and uniform replay.

    python bench/review/streams.py all mnist --data DIR       tune, ideas and decide; also one of them alone
    python bench/review/streams.py table                      the tables of docs/review_results.md
    python bench/review/streams.py table --all                every method, the tuned settings and the ideas as well

tune: four trials of every method on a held-out part of the training split, 2 seeds, one capacity. ideas: what else was
tried, on the same held-out part. decide: the tuned methods and their controls on the test split, 5 other seeds, every
capacity, the accuracy at the end of the stream. Every run goes to bench/results/review_streams.json when it is done, so
that what was stopped goes on. DIR holds `mnist/` and `cifar10/`; one thread.

A step has as many new as reviewed examples, every arm the same number of visits; `none` makes two steps on every new
batch. A run's initial weights and the order in which examples come are those of its seed, the same for all arms.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from stream_ideas import IDEAS, Interference, NotComing
from stream_workloads import WORKLOADS, Tasks, Workload, tasks
from torch import nn

import engram
from engram.review import stream_metrics as metrics
from engram.review.stream import ReviewStream
from engram.study.statistics import Paired, describe, holm, paired

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results" / "review_streams.json"
TUNING_SEEDS, SEEDS = (100, 101), (0, 1, 2, 3, 4)
IDEA_CAPACITIES = (200, 1000)

TRIALS: dict[str, tuple[dict[str, Any], ...]] = {
    "none": ({}, {"rate": 2}, {"rate": 0.5}, {"rate": 0.25}),
    "recent": ({}, {"rate": 2}, {"rate": 0.5}, {"rate": 0.25}),
    "uniform": ({}, {"rate": 2}, {"balanced": True}, {"rate": 2, "balanced": True}),
    "forgetting_curve": tuple({"rate": rate, "coming": coming} for coming in (0.0, 1.0) for rate in (1, 2)),
    "due": ({}, {"rate": 2}, {"memory": "power_law"}, {"rate": 2, "memory": "power_law"}),
    "loss": ({}, {"rate": 2}, {"balanced": True}, {"rate": 2, "balanced": True}),
    "not_coming": ({}, {"rate": 2}, {"balanced": True}, {"rate": 2, "balanced": True}),
}
"""`rate` multiplies the workload's learning rate. `not_coming` is a control: uniform over classes that do not come."""

CONTROLS: dict[str, dict[str, Any]] = {"permuted": {"permuted": True}, "no forgetting": {"forgetting": False}}
"""Laid over the tuned forgetting curve: as many visits without knowledge of the examples; grades without decay."""


def train(workload: Workload, data: Tasks, arm: dict[str, Any], capacity: int | None, seed: int) -> dict[str, Any]:
    """One pass over the stream; what the network knows of every task after each."""
    arm = dict(arm)
    lr = workload.lr * arm.pop("rate", 1)
    torch.manual_seed(seed)
    net = workload.net()
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    rng = torch.Generator().manual_seed(1000 + seed)
    method = arm.pop("method")
    if method == "interference":
        method = Interference(net, lr)
    elif not isinstance(method, str):
        method = method()
    if method == "recent":
        arm |= {"store": "ring", "balanced": False}
    elif capacity is None:
        arm |= {"store": "all"}
    stream = ReviewStream(capacity, method=method, seed=seed, **arm)
    if isinstance(method, Interference):
        method.stream = stream
    untrained, matrix, visits, begun = accuracies(net, data), [], 0, time.process_time()
    for x, y in data.train:
        for batch in torch.randperm(len(x), generator=rng).split(workload.new):
            for _ in range(2 if method == "none" else 1):
                if isinstance(method, Interference):
                    method.new = x[batch], y[batch]
                mixed, labels = stream.mix(x[batch], y[batch])
                loss = stream.grade(F.cross_entropy(net(mixed), labels, reduction="none"))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                visits += len(labels)
        matrix.append(accuracies(net, data))
    return {
        "accuracy": metrics.average_accuracy(matrix),
        "learned": metrics.learned(matrix),
        "forgetting": metrics.forgetting(matrix),
        "backward": metrics.backward_transfer(matrix),
        "forward": metrics.forward_transfer(matrix, untrained),
        "at the end": [round(value, 4) for value in matrix[-1]],
        "visits": visits,
        "seconds": round(time.process_time() - begun, 2),
    }


@torch.no_grad()
def accuracies(net: nn.Module, data: Tasks) -> list[float]:
    return [float((net(x).argmax(1) == y).double().mean()) for x, y in data.test]


class Book:
    """The results of one workload, written after every run."""

    def __init__(self, workload: Workload, chosen: argparse.Namespace) -> None:
        self.workload, self.chosen = workload, chosen
        self.results = read().get(workload.name) or {
            "about": workload.about, "lr": workload.lr, "new": workload.new, "commands": [],
            "trials": {}, "tuned": {}, "ideas": {}, "runs": {},
        }  # fmt: skip
        self.results["commands"].append(
            {
                "command": f"python bench/review/streams.py {chosen.task} {workload.name} --data DIR",
                "commit": commit(),
                "torch": torch.__version__,
                "engram": engram.__version__,
                "machine": platform.machine(),
                "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
        )

    @cache  # noqa: B019
    def data(self, validation: bool) -> Tasks:
        return tasks(self.workload, Path(self.chosen.data), Path(self.chosen.cache), validation=validation)

    def run(self, part: str, name: str, arm: dict[str, Any], capacity: int | None, seed: int) -> dict[str, Any]:
        key = f"{name} | {capacity or 'all'} | {seed}"
        rows = self.results[part]
        if key not in rows:
            rows[key] = train(self.workload, self.data(part != "runs"), arm, capacity, seed)
            self.write()
            print(f"  {part} {key}: {rows[key]['accuracy']:.4f} in {rows[key]['seconds']} s", flush=True)
        return rows[key]

    def write(self) -> None:
        everything = read() | {self.workload.name: self.results}
        part = RESULTS.with_suffix(".part")
        part.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
        os.replace(part, RESULTS)


def read() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()

    own = git("status", "--porcelain", "--", "src/engram/review", "bench/review")
    return git("rev-parse", "--short=12", "HEAD") + ("+changes" if own else "")


def settings(name: str, trial: dict[str, Any]) -> dict[str, Any]:
    return {"method": NotComing if name == "not_coming" else name, **trial}


def tune(book: Book) -> None:
    capacity = book.workload.tuned_at
    for name, trials in TRIALS.items():
        means = []
        for trial in trials:
            label = " ".join([name, *(f"{key}={value}" for key, value in trial.items())])
            rows = [book.run("trials", label, settings(name, trial), capacity, seed) for seed in TUNING_SEEDS]
            means.append(statistics.fmean(row["accuracy"] for row in rows))
        book.results["tuned"][name] = trials[means.index(max(means))]
        print(f"{name:20} {book.results['tuned'][name]} {max(means):.4f}", flush=True)
    book.write()


def ideas(book: Book) -> None:
    for capacity in IDEA_CAPACITIES:
        for name, arm in [*IDEAS.items(), ("most interfered (217 % of the cost)", {"method": "interference"})]:
            arm = dict(arm) if isinstance(arm, dict) else {"method": arm}
            for seed in TUNING_SEEDS:
                book.run("ideas", name, arm, capacity, seed)


def decide(book: Book) -> None:
    if book.workload.tuned_on:
        book.results["tuned"] = read()[book.workload.tuned_on]["tuned"]
    tuned = book.results["tuned"]
    compared = {name: settings(name, tuned[name]) for name in TRIALS}
    compared |= {name: {**compared["forgetting_curve"], **more} for name, more in CONTROLS.items()}
    for capacity in book.workload.capacities:
        for seed in SEEDS:
            for name, arm in compared.items():
                if name == "none" and capacity != book.workload.capacities[0]:
                    continue  # it keeps nothing
                if capacity is None and name == "recent":
                    continue  # the newest of all are the newest of the last
                book.run("runs", name, arm, capacity, seed)
        show(book.workload.name, book.results, capacity)


Rows = dict[int, dict[str, Any]]
"""What was decided with one method and capacity, by seed."""


def arms(results: dict[str, Any], capacity: int | None) -> dict[str, Rows]:
    """What was decided with one capacity, by method."""
    found: dict[str, Rows] = {}
    for key, row in results["runs"].items():
        arm, held, seed = key.split(" | ")
        if held == str(capacity or "all"):
            found.setdefault(arm, {})[int(seed)] = row
    return found


def mean(rows: Rows, figure: str = "accuracy") -> float:
    return 100 * statistics.fmean(row[figure] for row in rows.values())


def less(ours: Rows, other: Rows, figure: str = "accuracy", task: int | None = None) -> Paired:
    """One method minus another over the seeds of both, in points; of one task where the figure is a list."""
    pairs = [(ours[seed][figure], other[seed][figure]) for seed in sorted(ours.keys() & other.keys())]
    return paired([100 * (a - b if task is None else a[task] - b[task]) for a, b in pairs])


def to_uniform(found: dict[str, Rows]) -> dict[str, tuple[Paired, float]]:
    """Every method against uniform replay, and its p corrected for all of them."""
    against = {arm: less(rows, found["uniform"]) for arm, rows in found.items() if arm != "uniform" and len(rows) > 1}
    corrected = holm([one.p for one in against.values()])
    return {arm: (one, p) for (arm, one), p in zip(against.items(), corrected, strict=True)}


def show(name: str, results: dict[str, Any], capacity: int | None) -> None:
    """One capacity as Markdown: accuracy, forgetting, and the difference to uniform by pairs."""
    found = arms(results, capacity)
    if len(found.get("uniform", {})) < 2:
        return  # not done yet
    against = to_uniform(found)
    print(f"\n{name}, capacity {capacity or 'all'} ({results['about']})\n")
    print("| method | accuracy % | forgetting | forward | - uniform, 95 % interval | p | Holm |\n" + "|---" * 7 + "|")
    for arm, rows in sorted(found.items(), key=lambda item: -mean(item[1])):
        one = describe([100 * row["accuracy"] for row in rows.values()])
        told = "| | |"
        if arm in against:
            two, p = against[arm]
            told = f"{two.mean:+.2f} [{two.low:+.2f}, {two.high:+.2f}] | {two.p:.4f} | {p:.4f} |"
        lost = f"{mean(rows, 'forgetting'):.2f} | {mean(rows, 'forward'):+.2f}"
        print(f"| {arm} | {one.mean:.2f} ± {one.sd:.2f} | {lost} | {told}")
    ours = found.get("forgetting_curve", {})
    for base, figure in (*((one, "accuracy") for one in (*CONTROLS, "not_coming")), ("uniform", "forward")):
        other = found.get(base, {})
        if len(ours.keys() & other.keys()) > 1:
            two = less(ours, other, figure)
            told = f"{two.mean:+.2f} [{two.low:+.2f}, {two.high:+.2f}], p = {two.p:.4f}"
            print(f"forgetting_curve - {base}, {figure}: {told}")


STREAMS = {
    "mnist": "MNIST, classes",
    "mnist-domains": "MNIST, domains",
    "cifar10": "CIFAR-10, classes",
    "cifar10-wrong20": "the same, 20 % wrong labels",
    "cifar10-wrong40": "the same, 40 % wrong labels",
    "cifar10-tail": "CIFAR-10, a long tail",
    "digits": "digits, classes",
}
"""In the order of the page, and what they are called there."""

COMPARED = {
    "none": "no review",
    "recent": "recent",
    "uniform": "uniform",
    "forgetting_curve": "curve",
    "permuted": "permuted",
}
"""The methods of the page, and what they are called there."""


def decided(name: str, results: dict[str, Any]) -> Iterator[tuple[str, dict[str, Rows]]]:
    """The capacities of a workload that have all seeds, the smallest first."""
    for capacity in sorted(WORKLOADS[name].capacities, key=lambda one: one or 10**9):
        found = arms(results, capacity)
        if len(found.get("permuted", {})) == len(SEEDS):
            yield f"{capacity:,}" if capacity else "all", found


def page() -> str:
    """The tables of docs/review_results.md: accuracy by pairs; forgetting and transfer; MNIST, task by task."""
    *four, permuted = COMPARED.values()
    accuracy = [
        row(
            "stream",
            "places",
            *four,
            "curve - uniform",
            "p (Holm)",
            "curve - permuted",
            "p",
            "curve - `not_coming`",
            "p",
        ),
        "|---|---:|---:|---:|---:|---:|---|---:|---|---:|---|---:|",
    ]
    lost = [
        row("stream", "places", *four, permuted, "backward, curve - uniform", "right after each task, curve - uniform"),
        "|---|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    results = read()
    for name, title in STREAMS.items():
        nothing = arms(results[name], WORKLOADS[name].capacities[0])["none"]  # it keeps nothing: the same for every one
        for places, found in decided(name, results[name]):
            ours, uniform = found["forgetting_curve"], found["uniform"]
            shown = [{"none": nothing, **found}.get(arm) for arm in COMPARED]
            against, p = to_uniform(found)["forgetting_curve"]
            told = [interval(against), short(p)]
            for control in ("permuted", "not_coming"):
                against = less(ours, found[control])
                told += [interval(against), short(against.p)]
            accuracy.append(row(title, places, *(f"{mean(rows):.2f}" if rows else "" for rows in shown[:-1]), *told))
            both = [f"{mean(one, 'forgetting'):.1f} / {mean(one, 'backward'):+.1f}" if one else "" for one in shown]
            told = [starred(less(ours, uniform, figure)) for figure in ("backward", "learned")]
            lost.append(row(title, places, *both, *told))
    return "\n\n".join("\n".join(one) for one in (accuracy, lost, by_task(results["mnist"])))


def by_task(results: dict[str, Any]) -> list[str]:
    """Accuracy of every task at the end of one stream."""
    lines = [row("places", "method", "0, 1", "2, 3", "4, 5", "6, 7", "8, 9"), "|---:|---|---:|---:|---:|---:|---:|"]
    for number, (places, found) in enumerate(decided("mnist", results)):
        for arm, called in COMPARED.items():
            whatever = arm in ("none", "recent")  # the places
            if not whatever or number == 0:
                ends = zip(*(one["at the end"] for one in found[arm].values()), strict=True)
                means = [f"{100 * statistics.fmean(end):.1f}" for end in ends]
                lines.append(row("any" if whatever else places, called, *means))
        ours, uniform = found["forgetting_curve"], found["uniform"]
        told = [starred(less(ours, uniform, "at the end", task)) for task in range(5)]
        lines.append(row(places, "curve - uniform", *told))
    return lines


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def interval(one: Paired) -> str:
    return f"{one.mean:+.2f} ({one.low:+.2f} to {one.high:+.2f})"


def starred(one: Paired) -> str:
    return interval(one) + " *" * (one.p < 0.05)


def short(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def table(*, everything: bool) -> None:
    print(page())
    if not everything:
        return
    found = [(name, places, one) for name, told in read().items() for places, one in decided(name, told)]
    p_values = [less(one["forgetting_curve"], one["permuted"]).p for *_, one in found]
    print("\nforgetting_curve - permuted, p corrected for all of these:")
    for (name, places, _), corrected in zip(found, holm(p_values), strict=True):
        print(f"{name}, {places}: {corrected:.4f}")
    for name, results in read().items():
        print(f"\n## {name}\n\ntuned: {results['tuned']}")
        for capacity in WORKLOADS[name].capacities:
            show(name, results, capacity)
        for held in IDEA_CAPACITIES if results["ideas"] else ():
            print(f"\nideas, capacity {held}, held-out part of the training split\n\n| idea | accuracy % |\n|---|---|")
            means: dict[str, list[float]] = {}
            for key, row in results["ideas"].items():
                idea, capacity, _ = key.split(" | ")
                if capacity == str(held):
                    means.setdefault(idea, []).append(100 * row["accuracy"])
            for idea, values in sorted(means.items(), key=lambda item: -statistics.fmean(item[1])):
                print(f"| {idea} | {statistics.fmean(values):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="task", required=True)
    for name in ("all", "tune", "ideas", "decide"):
        verb = verbs.add_parser(name)
        verb.add_argument("workload", choices=list(WORKLOADS))
        verb.add_argument("--data", default="data", help="the folder that holds mnist/ and cifar10/")
        verb.add_argument("--cache", default="build/review", help="where made data are kept")
    verb = verbs.add_parser("table")
    verb.add_argument("--all", action="store_true", help="every method, the tuned settings and the ideas as well")
    chosen = parser.parse_args()
    if chosen.task == "table":
        table(everything=chosen.all)
        return
    torch.set_num_threads(1)
    book = Book(WORKLOADS[chosen.workload], chosen)
    if chosen.task in ("all", "tune"):
        tune(book)
    if chosen.task == "ideas" or (chosen.task == "all" and chosen.workload == "mnist"):
        ideas(book)
    if chosen.task in ("all", "decide"):
        decide(book)


if __name__ == "__main__":
    main()
