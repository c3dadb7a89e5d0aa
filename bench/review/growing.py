"""Data that come while training goes on, all of them kept: a trained network is taught more, a data set grows.

    python bench/review/growing.py all fine-tuning --data DIR     tune and decide; also one of them alone
    python bench/review/growing.py explain cifar10 --data DIR     what of InfoBatch's weights it is that gains
    python bench/review/growing.py table                          the results as Markdown

tune: four trials of every method on a held-out part of the training split, 2 seeds. ideas: the tuned `auto` where what
has come may take all of a round, on the same held-out part. explain: InfoBatch with other weights and without knowledge
of the examples, and other methods at the rate that its weights amount to, on the same held-out part, 6 seeds. decide:
the tuned methods and their controls on the test split, 5 other seeds, the accuracy at the end. paced: what `explain`
gave at InfoBatch's rate, with InfoBatch itself, on the test split and the seeds of `decide`. Every run goes to
bench/results/review_growing.json when it is done, so that what was stopped goes on. DIR holds `mnist/` and `cifar10/`;
one thread.

One ReviewLoader feeds the whole run and the data set grows under it. Every arm makes the same number of visits, and a
phase ends with the round that ends nearest to its share of them; the learning rate falls to 0 in a straight line over
the whole run. `no replay` shuffles what came last and nothing else. A run's initial weights and the order in which
examples come are those of its seed, the same for all arms.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from stream_workloads import HELD_OUT, SPLIT_SEED, arrays
from stream_workloads import WORKLOADS as NETWORKS
from streams import commit
from torch import Tensor

import engram
from engram.review import selection
from engram.review.methods import forgetting_curve
from engram.study.statistics import describe, holm, paired
from engram.training.device import describe_processor

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results" / "review_growing.json"
TUNING_SEEDS, SEEDS, EXPLAINING_SEEDS = (100, 101), (0, 1, 2, 3, 4), (300, 301, 302, 303, 304, 305)
BATCH = 50

CURVE = {"method": "forgetting_curve"}
AUTO = {**CURVE, "save": "auto"}
TRIALS: dict[str, tuple[dict[str, Any], ...]] = {
    "no replay": ({}, {"rate": 2}, {"rate": 0.5}, {"rate": 0.25}),
    "shuffle": ({}, {"rate": 2}, {"rate": 0.5}, {"rate": 3}),
    "infobatch": ({}, {"rate": 2}, {"drop": 0.8}, {"drop": 0.8, "rescale": "normalised"}),
    "forgetting_curve": ({}, {"rate": 2}, {"save": 0.7}, {"save": 0.7, "rate": 2}),
    "auto": ({}, {"rate": 2}, {"retention": 0.95}, {"retention": 0.8}),
}
"""Published settings first; `rate` multiplies the scenario's learning rate. `auto` is the curve saving by itself."""

BASE: dict[str, dict[str, Any]] = {"no replay": {"method": "shuffle"}, "auto": AUTO}
CONTROLS: dict[str, dict[str, Any]] = {"permuted": {"permuted": True}, "no forgetting": {"forgetting": False}}
"""Laid over the tuned `auto`: as many visits without knowledge of the examples; strength without decay."""


EXPLAINED: dict[str, dict[str, Any]] = {
    "shuffle": {},
    "infobatch": {},
    "infobatch rescale=normalised": {"rescale": "normalised"},
    "infobatch rescale=none": {"rescale": "none"},
    "infobatch permuted": {"permuted": True},
    "shuffle rate=1.4": {"rate": 1.4},
    "shuffle at InfoBatch's rate": {"paced": True},
    "forgetting_curve at InfoBatch's rate": {"paced": True},
    "auto at InfoBatch's rate": {"paced": True},
}
"""The method is the first word. `paced`: the rate times the mean weight that InfoBatch's run of this seed has then."""


@dataclass(frozen=True)
class Scenario:
    """`phases` are the classes that come, or None for an even part of all; `passes` over all that is there, in each."""

    name: str
    about: str
    network: str
    lr: float
    phases: tuple[tuple[int, ...] | None, ...]
    passes: tuple[float, ...]


LOW, HIGH = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)
PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
SCENARIOS = {
    one.name: one
    for one in (
        Scenario("fine-tuning", "5 classes known, 5 more come, a pass over all", "mnist", 0.3, (LOW, HIGH), (2, 1)),
        Scenario("fine-tuning-short", "the same, half a pass over all", "mnist", 0.3, (LOW, HIGH), (2, 0.5)),
        Scenario("classes", "2 classes come five times, each time a pass over all", "mnist", 0.3, PAIRS, (1,) * 5),
        Scenario("examples", "a fifth of all comes five times, a pass each", "mnist", 0.3, (None,) * 5, (1,) * 5),
        Scenario("cifar10", "5 classes known, 5 more come, two passes over all", "cifar10", 0.2, (LOW, HIGH), (4, 2)),
    )
}  # fmt: skip


class Arriving(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Examples in the order they come, of which `count` are there, from place `first` on."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y, self.first, self.count = x, y, 0, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[self.first + index], self.y[self.first + index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        rows = self.first + torch.tensor(indices)
        return self.x[rows], self.y[rows]


def train(scenario: Scenario, data: tuple[Tensor, ...], arm: dict[str, Any], seed: int) -> dict[str, Any]:
    """One run; what the network knows at the end of everything, of what came before the last phase, and of that."""
    x, y, test_x, test_y = data
    arm = dict(arm)
    lr, replays, begun = scenario.lr * arm.pop("rate", 1), arm.pop("replays", True), time.process_time()
    pace, factor = dict(arm.pop("pace", ())), 1.0  # by step, from which on the rate is so many times as high
    parts = arrival(scenario, y, seed)
    ends = torch.tensor([len(part) for part in parts]).cumsum(0).tolist()
    order = torch.cat(parts)
    until = torch.tensor([round(n * (end // BATCH)) for n, end in zip(scenario.passes, ends, strict=True)])
    until = until.cumsum(0).tolist()  # in steps
    coming = Arriving(x[order], y[order])
    torch.manual_seed(seed)
    net = NETWORKS[scenario.network].net()
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    own = {name: arm.pop(name) for name in ("method", "permuted", "unit") if name in arm}

    def loader_of(steps: int) -> engram.ReviewLoader:
        return engram.ReviewLoader(
            coming, batch_size=BATCH, epochs=steps / (coming.count // BATCH), seed=seed, optimizer=optimizer,
            drop_last=True, collate_fn=lambda batch: batch, settings=arm, **own,
        )  # fmt: skip

    coming.count, step, loader, weights = ends[0], 0, None, []
    for phase, end in enumerate(ends):
        coming.count = end
        if not replays:
            coming.first, coming.count = (ends[phase - 1] if phase else 0), len(parts[phase])
            loader = loader_of(until[phase] - step)
        elif loader is None:
            loader = loader_of(until[-1])
        last_round = 0
        while not loader.finished and (end == ends[-1] or until[phase] - step > last_round / 2):
            last_round = len(loader)
            weights.append((step, mean_weight(loader)))
            for a, b in loader:
                factor = pace.get(step, factor)
                optimizer.param_groups[0]["lr"] = factor * lr * (1 - step / until[-1])
                loss = loader.grade(F.cross_entropy(net(a), b, reduction="none"))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1
    with torch.no_grad():
        right = (net(test_x).argmax(1) == test_y).double()
    last = scenario.phases[-1]
    of_last = torch.isin(test_y, torch.tensor(last)) if last else torch.ones_like(test_y, dtype=torch.bool)
    return {
        "accuracy": float(right.mean()),
        "before": float(right[~of_last].mean()) if last else None,
        "last": float(right[of_last].mean()) if last else None,
        "visits": step * BATCH,
        **({"weights": weights} if any(mean != 1 for _, mean in weights) else {}),
        "seconds": round(time.process_time() - begun, 2),
    }


def mean_weight(loader: engram.ReviewLoader) -> float:
    """Of the round that comes."""
    weights = loader.sampler.reviewer.weights
    return 1.0 if weights is None else round(float(weights.mean()), 4)


def arrival(scenario: Scenario, y: Tensor, seed: int) -> list[Tensor]:
    """The indices that come in each phase, in random order."""
    rng = torch.Generator().manual_seed(1000 + seed)
    order = torch.randperm(len(y), generator=rng)
    if scenario.phases[0] is None:
        return list(order.tensor_split(len(scenario.phases)))
    return [order[torch.isin(y[order], torch.tensor(classes))] for classes in scenario.phases]


class Book:
    """The results of one scenario, written after every run."""

    def __init__(self, scenario: Scenario, chosen: argparse.Namespace, path: Path, command: str) -> None:
        self.scenario, self.chosen, self.path = scenario, chosen, path
        empty = {"about": scenario.about, "commands": [], "trials": {}, "tuned": {}, "runs": {}}
        self.results = read(path).get(scenario.name) or empty
        self.results["commands"].append(
            {
                "command": f"python bench/review/{command} --data DIR",
                "commit": commit(),
                "torch": torch.__version__,
                "engram": engram.__version__,
                "machine": describe_processor(),
                "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
        )

    @cache  # noqa: B019
    def data(self, validation: bool) -> tuple[Tensor, ...]:
        """x, y of the training split, and of what is asked: a held-out tenth of it, or the test split."""
        network = NETWORKS[self.scenario.network]
        x, y, test_x, test_y = arrays(network, Path(self.chosen.data), Path(self.chosen.cache))
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(SPLIT_SEED))
        order = order[: network.limit]
        if validation:
            held, order = order.tensor_split([round(HELD_OUT * len(order))])
            test_x, test_y = x[held], y[held]
        x, y = x[order], y[order]
        mean, sd = x.mean(), x.std()
        return (x - mean) / sd, y, (test_x - mean) / sd, test_y

    def run(self, part: str, name: str, arm: dict[str, Any], seed: int) -> dict[str, Any]:
        key = f"{name} | {seed}"
        rows = self.results.setdefault(part, {})
        if key not in rows:
            rows[key] = train(self.scenario, self.data(part not in ("runs", "paced")), arm, seed)
            self.write()
            print(f"  {part} {key}: {rows[key]['accuracy']:.4f} in {rows[key]['seconds']} s", flush=True)
        return rows[key]

    def write(self) -> None:
        part = self.path.with_suffix(".part")
        told = read(self.path) | {self.scenario.name: self.results}
        part.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        os.replace(part, self.path)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def settings(name: str, trial: dict[str, Any]) -> dict[str, Any]:
    return {**BASE.get(name, {"method": name}), "replays": name != "no replay", **trial}


def tune(book: Book, compared: dict[str, tuple[dict[str, Any], ...]]) -> None:
    for name, trials in compared.items():
        means = []
        for trial in trials:
            label = " ".join([name, *(f"{key}={value}" for key, value in trial.items())])
            rows = [book.run("trials", label, settings(name, trial), seed) for seed in TUNING_SEEDS]
            means.append(statistics.fmean(row["accuracy"] for row in rows))
        book.results["tuned"][name] = trials[means.index(max(means))]
        print(f"{name:20} {book.results['tuned'][name]} {max(means):.4f}", flush=True)
    book.write()


def ideas(book: Book) -> None:
    """Half of a round for what has come, or all that it takes."""
    arm = settings("auto", book.results["tuned"]["auto"])
    for name, share in {"half of a round": forgetting_curve.with_new, "all it takes": all_it_takes}.items():
        with patch.object(forgetting_curve, "with_new", share):
            rows = [book.run("ideas", name, arm, seed) for seed in TUNING_SEEDS]
        told = ", ".join(
            f"{part} {100 * statistics.fmean(row[part] for row in rows):.2f}"
            for part in ("accuracy", "before", "last")
            if rows[0][part] is not None
        )
        print(f"{name}: {told}")


def all_it_takes(scores: Tensor, seen: Tensor, quota: int, *, floor: float) -> Tensor:
    """What has come counts as forgotten, and so goes before everything that is known."""
    return selection.inclusion(torch.where(seen, scores, 1.0), quota, floor=floor)


def explain(book: Book) -> None:
    compare(book, "explained", EXPLAINED, EXPLAINING_SEEDS)


def paced(book: Book) -> None:
    chosen = {name: more for name, more in EXPLAINED.items() if not more or "paced" in more}
    compare(book, "paced", chosen, SEEDS)


def compare(book: Book, part: str, compared: dict[str, dict[str, Any]], seeds: tuple[int, ...]) -> None:
    """Means, and differences to shuffling and to InfoBatch by pairs."""
    found: dict[str, list[float]] = {name: [] for name in compared}
    for seed in seeds:
        for name, more in compared.items():
            arm = {**settings(name.partition(" ")[0], {}), **more}
            if arm.pop("paced", False):
                arm["pace"] = book.run(part, "infobatch", settings("infobatch", {}), seed)["weights"]
            found[name].append(100 * book.run(part, name, arm, seed)["accuracy"])
    for name, values in found.items():
        told = [f"{name:38} {statistics.fmean(values):.2f}"]
        for other in ("shuffle", "infobatch"):
            if name != other:
                two = paired([one - before for one, before in zip(values, found[other], strict=True)])
                told.append(f"- {other}: {two.mean:+.2f} ({two.low:+.2f} to {two.high:+.2f}), p = {two.p:.3f}")
        print("  ".join(told))


def decide(book: Book, names: Iterable[str], ours: str, controls: dict[str, dict[str, Any]]) -> None:
    """`controls` are laid over the tuned settings of `ours`."""
    tuned = book.results["tuned"]
    compared = {name: settings(name, tuned[name]) for name in names}
    compared |= {name: {**compared[ours], **more} for name, more in controls.items()}
    for seed in SEEDS:
        for name, arm in compared.items():
            book.run("runs", name, arm, seed)
    show(book.scenario, book.results, ours, controls)


def show(scenario: Scenario, results: dict[str, Any], ours: str, controls: Iterable[str]) -> None:
    """One scenario as Markdown: accuracy, and the difference to shuffling by pairs."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for key, row in results["runs"].items():
        arm, seed = key.split(" | ")
        found.setdefault(arm, {})[int(seed)] = row
    if len(found.get("shuffle", {})) < 2:
        return  # not done yet

    def against(arm: str, other: str) -> Any:
        seeds = sorted(found[arm].keys() & found[other].keys())
        return paired([100 * (found[arm][seed]["accuracy"] - found[other][seed]["accuracy"]) for seed in seeds])

    compared = {arm: against(arm, "shuffle") for arm in found if arm != "shuffle"}
    corrected = dict(zip(compared, holm([one.p for one in compared.values()]), strict=True))
    network = NETWORKS[scenario.network].about.rpartition(", ")[2]
    print(f"\n{scenario.name} ({scenario.about}), {network}\n")
    print("| method | tuned to | test accuracy, % | classes known before | classes that came last ", end="")
    print("| against shuffle (95 % interval), points | p (Holm) |\n|---|---|---:|---:|---:|---:|---:|")
    for arm, rows in found.items():
        trial = results["tuned"].get(arm)
        told = f"as {ours}" if trial is None else " ".join(f"{k}={v}" for k, v in trial.items()) or "published"
        one = describe([100 * row["accuracy"] for row in rows.values()])
        parts = [[100 * row[part] for row in rows.values() if row[part] is not None] for part in ("before", "last")]
        means = " | ".join(f"{statistics.fmean(part):.2f}" if part else "" for part in parts)
        more = " | "
        if arm in compared:
            two, p = compared[arm], corrected[arm]
            more = f"{two.mean:+.2f} ({two.low:+.2f} to {two.high:+.2f}) | " + ("< 0.001" if p < 0.001 else f"{p:.3f}")
        print(f"| {arm} | {told} | {one.mean:.2f} ± {one.sd:.2f} | {means} | {more} |")
    print()
    for control in controls:
        if control in found:
            two = against(ours, control)
            print(f"{ours} - {control}: {two.mean:+.2f} ({two.low:+.2f} to {two.high:+.2f}), p = {two.p:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="task", required=True)
    for name in ("all", "tune", "ideas", "explain", "decide", "paced"):
        verb = verbs.add_parser(name)
        verb.add_argument("scenario", choices=list(SCENARIOS))
        verb.add_argument("--data", default="data", help="the folder that holds mnist/ and cifar10/")
        verb.add_argument("--cache", default="build/review", help="where made data are kept")
    verbs.add_parser("table")
    chosen = parser.parse_args()
    if chosen.task == "table":
        for name, results in read(RESULTS).items():
            show(SCENARIOS[name], results, "auto", CONTROLS)
        return
    torch.set_num_threads(1)
    book = Book(SCENARIOS[chosen.scenario], chosen, RESULTS, f"growing.py {chosen.task} {chosen.scenario}")
    if chosen.task in ("all", "tune"):
        tune(book, TRIALS)
    if chosen.task in ("all", "ideas"):
        ideas(book)
    if chosen.task == "explain":
        explain(book)
    if chosen.task in ("all", "decide"):
        decide(book, TRIALS, "auto", CONTROLS)
    if chosen.task == "paced":
        paced(book)


if __name__ == "__main__":
    main()
