"""Which memory model foresees best what a network recalls? Every model on the same visits, against the best constant.

    python bench/review/memories.py measure digits mnist cifar10-lenet --data DIR [--seeds 0 1 2]
    python bench/review/memories.py table

A network is trained once with plain shuffling and once with the forgetting curve, and every visit is written down. The
record is then gone through once for every memory model that there is, as `Reviewer` does it: before a round the model
predicts the recall of what comes again, alone and with the calibration link; then it is told, and model and link are
fitted. So all models are judged by the same visits, and none knows what it is asked. `check` makes sure that the model
that had fed the network comes out of the record as it stood in the run.

Two yardsticks. The best constant is the share that was recalled in each round, chosen afterwards: to beat it, a model
must tell examples of the same round apart. `last round` does without any curve, and in advance: of examples recalled
never, once or twice, or three times in a row it says what share of such examples was recalled in the round before. What
a model adds to it is what its curve knows.

Results go to bench/results/review_memories.json.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import arms
import torch
from run import RESULTS, base, commit
from torch import Tensor
from workloads import WORKLOADS

from engram import recipe, registry
from engram.review import memory as memories
from engram.review.calibration import KINDS, Calibration, Link
from engram.review.calibration import measure as calibrated
from engram.review.ledger import RECALLED, Ledger, Observed
from engram.review.memory import Memory
from engram.review.reviewer import Reviewer
from engram.training import loop
from engram.training.assemble import assemble
from engram.training.device import describe_processor

PATH = RESULTS / "review_memories.json"
EPOCHS = {"digits": 20.0, "mnist": 4.0, "cifar10-lenet": 6.0}
TASKS = {"digits": "digits, MLP", "mnist": "MNIST, LeNet-5", "cifar10-lenet": "CIFAR-10, LeNet-5"}
FED = {"shuffle": "shuffled", "forgetting_curve": "forgetting curve"}
LAST_ROUND = "last round"
LITTLE = 0.01
"""Log loss of the best constant below which next to nothing is forgotten, and there is nothing to foresee."""


@dataclass(frozen=True)
class Foreseen:
    """A round's visits to examples that had come before: recall predicted alone and with the link, and observed."""

    alone: Tensor
    linked: Tensor
    recalled: Tensor


def recording(reviewer: Reviewer) -> list[Observed]:
    """The list that every round's visits are put into from now on, before the reviewer takes them in."""
    log: list[Observed] = []
    fold = reviewer.fold

    def kept() -> None:
        if reviewer.pending:
            log.append(reviewer.observed())
        fold()

    reviewer.fold = kept
    return log


def replay(log: list[Observed], examples: int, memory: Memory | None) -> list[Foreseen]:
    """What a model says of every round before it is told; then it is fitted. Without one, `LAST_ROUND` says it."""
    ledger, link, rounds = Ledger(examples), Link(), []
    shares = [float((log[0].grades >= RECALLED).double().mean())] * len(KINDS)
    come = [False] * len(KINDS)
    for observed in log:
        record = ledger.record(observed, memory)
        if not len(record):
            continue
        recalled, kinds = record.grade >= RECALLED, (record.streak > 0).long() + (record.streak > 2).long()
        if memory is None:
            alone = torch.tensor(shares)[kinds]
        else:
            alone = memory.recall(record.delay, record.strength, record.difficulty)
        rounds.append(Foreseen(alone, link.apply(alone, record.streak), recalled))
        link.fit(record, alone)
        if memory is not None:
            memory.fit(record)
        for kind in range(len(KINDS)):
            if bool((kinds == kind).any()):
                shares[kind], come[kind] = float(recalled[kinds == kind].double().mean()), True
            elif not come[kind] and kind:  # none has been recalled so often yet: as those a little less often
                shares[kind] = shares[kind - 1]
    return rounds


def judge(rounds: list[Foreseen]) -> dict[str, float]:
    """Log loss and calibration error over all rounds, and over their second half, as the report has it."""
    told: dict[str, float] = {}
    for part, some in (("", rounds), ("late_", rounds[len(rounds) // 2 :])):
        recalled = torch.cat([one.recalled for one in some]).double()
        each = torch.cat([one.recalled.double().mean().expand(len(one.recalled)) for one in some])
        constant = calibrated(each, recalled).log_loss
        once = calibrated(recalled.mean().expand(len(recalled)), recalled).log_loss
        told |= {f"{part}count": len(recalled), f"{part}base_rate": float(recalled.mean())}
        told |= {f"{part}constant": constant, f"{part}one_constant": once}
        for how in ("alone", "linked"):
            made: Calibration = calibrated(torch.cat([getattr(one, how) for one in some]), recalled)
            told[f"{part}{how}_log_loss"] = made.log_loss
            told[f"{part}{how}_calibration_error"] = made.expected_error
    return told


def check(rounds: list[Foreseen], history: list[dict[str, float]]) -> None:
    """Refuse a replay that does not say what the reviewer said itself while it trained."""
    ran = [(row["log_loss"], row["linked_log_loss"]) for row in history if "log_loss" in row]
    again = [tuple(calibrated(of, one.recalled).log_loss for of in (one.alone, one.linked)) for one in rounds]
    if ran != again:
        sys.exit("error: the replay of the run's own memory model differs from the run\n  next: compare replay()")


def train(name: str, fed: str, seed: int, chosen: argparse.Namespace) -> tuple[list[Observed], Reviewer]:
    """One training: its visits, and the reviewer at its end."""
    workload = WORKLOADS[name]
    settings = base(workload, chosen) | {"epochs": EPOCHS[name], "seed": seed}
    settings |= arms.settings(fed, {}, workload.lr) | {"device": {"threads": "1"}}
    assembled = assemble(recipe.build(settings))
    log = recording(assembled.state.reviewer)
    for _ in loop.train(assembled.parts, assembled.state):
        pass
    assembled.state.reviewer.fold()
    return log, assembled.state.reviewer


def measure(chosen: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    for name in chosen.tasks:
        for fed in FED:
            for seed in chosen.seeds:
                begun = time.process_time()
                log, reviewer = train(name, fed, seed, chosen)
                trained, rows = time.process_time() - begun, {}
                for model in (LAST_ROUND, *registry.names("memory")):
                    rounds = replay(log, len(reviewer), None if model == LAST_ROUND else memories.build(model))
                    if reviewer.method.memory is not None and model == reviewer.method.memory.name:
                        check(rounds, reviewer.history)
                    rows[model] = judge(rounds)
                keep({"task": name, "fed": fed, "seed": seed, "epochs": EPOCHS[name], "models": rows}, chosen)
                seconds = f"{trained:.0f} s of training, {time.process_time() - begun - trained:.0f} s of replay"
                best = min(rows, key=lambda model: rows[model]["linked_log_loss"])
                print(f"{name}, {fed}, seed {seed}: best {best} ({seconds})", flush=True)


def keep(run: dict[str, Any], chosen: argparse.Namespace) -> None:
    """The results with this run in them, in place of one like it."""
    before = json.loads(PATH.read_text(encoding="utf-8"))["runs"] if PATH.exists() else []
    order = [(task, fed) for task in TASKS for fed in FED]
    others = [one for one in before if any(one[key] != run[key] for key in ("task", "fed", "seed"))]
    rows = sorted(
        [*others, run | {"commit": commit()}], key=lambda one: (order.index((one["task"], one["fed"])), one["seed"])
    )
    results = {
        "command": f"python bench/review/memories.py measure {' '.join(chosen.tasks)} --data DIR",
        "seeds": chosen.seeds,
        "machine": {"processor": describe_processor(), "cores": os.cpu_count(), "torch": torch.__version__},
        "runs": rows,
    }
    part = PATH.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    os.replace(part, PATH)


def tables(path: Path) -> str:
    """The results as Markdown: log loss, calibration error and skill of every model, means over seeds."""
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    columns = list(dict.fromkeys((run["task"], run["fed"]) for run in runs))
    head = "| | " + " | ".join(f"{TASKS[task]}, {FED[fed]}" for task, fed in columns) + " |"
    head += "\n|---" + "|---:" * len(columns) + "|"
    models = list(runs[0]["models"])

    def row(name: str, model: str, cell: Callable[[dict[str, float]], str]) -> str:
        """A line of the table: what a cell says of the means over the seeds of each column."""
        cells = []
        for column in columns:
            of = [run["models"][model] for run in runs if (run["task"], run["fed"]) == column]
            cells.append(cell({key: statistics.fmean(one[key] for one in of) for key in of[0]}))
        return f"| {name} | " + " | ".join(cells) + " |"

    def loss(mean: dict[str, float]) -> str:
        return f"{mean['alone_log_loss']:.4f} / {mean['linked_log_loss']:.4f}"

    def error(mean: dict[str, float]) -> str:
        return f"{100 * mean['alone_calibration_error']:.2f} / {100 * mean['linked_calibration_error']:.2f}"

    def skill(mean: dict[str, float], of: str = "linked_log_loss") -> str:
        return " / ".join(f"{100 * (1 - mean[of] / mean[key]):+.1f}" for key in ("one_constant", "constant"))

    def late(mean: dict[str, float]) -> str:
        if mean["late_constant"] < LITTLE:
            return "-"
        return f"{100 * (1 - mean['late_linked_log_loss'] / mean['late_constant']):+.1f}"

    constants = {"best constant of the run": "one_constant", "best constant of each round": "constant"}
    losses = [row(name, models[0], lambda mean, key=key: f"{mean[key]:.4f}") for name, key in constants.items()]
    parts = {
        "Log loss, nats: the curve alone / with the link": [*losses, *(row(one, one, loss) for one in models)],
        "Calibration error, %: the curve alone / with the link": [row(one, one, error) for one in models],
        "Skill with the link, %: against the best constant of the run / of each round": [
            row(one, one, skill) for one in models
        ],
        "Skill with the link in the second half of the rounds, %: against the best constant of each": [
            row(one, one, late) for one in models
        ],
    }
    return "\n\n".join("\n".join([f"{title}:", "", head, *rows]) for title, rows in parts.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("measure")
    verb.add_argument("tasks", nargs="+", choices=list(EPOCHS))
    verb.add_argument("--data", default="data", help="the folder that holds mnist/ and cifar10/")
    verb.add_argument("--cache", default="build/review", help="where made data are kept")
    verb.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    verbs.add_parser("table")
    chosen = parser.parse_args()
    if chosen.verb == "table":
        print(tables(PATH))
    else:
        measure(chosen)


if __name__ == "__main__":
    main()
