"""What the clinic costs: CPU time of a training step without it, with it, and of the steps at which it measures.

    python bench/clinic/cost.py measure [--rounds 30] [--only NAME]   into bench/results/clinic_cost.json
    python bench/clinic/cost.py table                                 the same as Markdown

One step in ten, fifty or five hundred measures, so the mean of a few hundred steps would drown in a shared machine's
noise. Instead four kinds of step take turns, each after one that is not timed, in a new order each round: without the
clinic; with it, when nothing is due; when weights are due; when layers and weights are. Each is the median over rounds
of CPU time; a level's cost is what the kinds cost by how often each comes, after the first steps (in which it measures
at 1, 2, 4, 8 and so on). Pre-flight is timed once a round on a fresh clinic, and told in steps. Random images: the time
does not depend on them.
"""

import argparse
import json
import random
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from engram import models
from engram.clinic.clinic import LEVELS, Clinic
from engram.training.device import describe_processor

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results" / "clinic_cost.json"
CASES = {"resnet20": ((3, 32, 32), 128), "lenet5": ((1, 28, 28), 128), "vgg_small": ((3, 32, 32), 64)}
KINDS = ("without", "idle", "weights", "layers")
SETTLED = 100_000  # a step far from the first ones; a multiple of every rate


class Bench:
    """One network, its optimiser, and a clinic at the standard level."""

    def __init__(self, name: str, shape: tuple[int, ...], batch: int) -> None:
        torch.manual_seed(0)
        self.net = models.build(name, shape=shape, num_classes=10).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=1e-3, momentum=0.9, nesterov=True, fused=True)
        probe = torch.randn(1024, *shape)
        self.data = probe, torch.arange(1024) % 10
        self.x, self.y = self.data[0][:batch].to(memory_format=torch.channels_last), self.data[1][:batch]
        self.levels: dict[str, Clinic] = {}

    def clinic(self, level: str) -> Clinic:
        return Clinic(self.net, self.optimizer, probe=self.data, level=level)

    def step(self, clinic: Clinic | None) -> float:
        """CPU seconds of one step."""
        begin = time.process_time()
        self.optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(self.net(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        if clinic is not None:
            clinic.step(loss, lr=1e-3)
        return time.process_time() - begin

    def kind(self, kind: str, level: str) -> float:
        """CPU seconds of one step of a kind, in a clinic that has settled."""
        clinic = self.clinic(level)
        if kind == "without":
            clinic.close()
        self.step(None)  # building the clinic has emptied the caches
        if kind == "without":
            return self.step(None)
        rates = clinic.rates
        clinic.steps = {"idle": SETTLED, "weights": SETTLED + rates.weights - 1, "layers": SETTLED - 1}[kind]
        try:
            return self.step(clinic)
        finally:
            clinic.close()

    def preflight(self, level: str) -> float:
        clinic = self.clinic(level)
        begin = time.process_time()
        clinic.examine()
        seconds = time.process_time() - begin
        clinic.close()
        return seconds


def measure(rounds: int, only: str | None) -> None:
    """Every case anew, or one and the others as they were; each says when it was measured."""
    torch.set_num_threads(1)
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if only else {"cases": {}}
    when = {
        "command": f"python {shlex.join(sys.argv)}",
        "commit": subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip(),
        "machine": {"processor": describe_processor(), "threads": 1, "torch": torch.__version__},
        "rounds": rounds,
    }
    order = random.Random(0)
    for name, (shape, batch) in CASES.items():
        if only not in (None, name):
            continue
        bench = Bench(name, shape, batch)
        bench.step(None)
        seconds: dict[str, list[float]] = {}
        for _ in range(rounds):
            turns = [(kind, level) for kind in KINDS[1:] for level in LEVELS] + [("without", "standard")]
            for kind, level in order.sample(turns, len(turns)):
                seconds.setdefault(f"{kind} {level}", []).append(bench.kind(kind, level))
        for level in LEVELS:
            seconds[f"preflight {level}"] = [bench.preflight(level) for _ in range(3)]
        medians = {one: statistics.median(times) for one, times in seconds.items()}
        results["cases"][name] = {**when, "batch": batch, "seconds": medians, "levels": costs(medians)}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(name, json.dumps(results["cases"][name]["levels"], indent=1), flush=True)


def costs(medians: dict[str, float]) -> dict[str, dict[str, float]]:
    """By level: what it adds to a step, as a share of it, and pre-flight in steps."""
    step = medians["without standard"]
    told = {}
    for level, rates in LEVELS.items():
        idle, weights, layers = (medians[f"{kind} {level}"] - step for kind in KINDS[1:])
        a_step = (
            max(idle, 0.0) + (weights - idle) * (1 / rates.weights - 1 / rates.layers) + (layers - idle) / rates.layers
        )
        told[level] = {
            "added_to_a_step": a_step / step,
            "a_weights_step": medians[f"weights {level}"] / step,
            "a_layers_step": medians[f"layers {level}"] / step,
            "preflight_in_steps": medians[f"preflight {level}"] / step,
        }
    return told


def table() -> None:
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    print("| network, batch | level | added to a step | a step with weights | with layers | pre-flight, in steps |")
    print("|---|---|---:|---:|---:|---:|")
    for name, case in results["cases"].items():
        for level, one in case["levels"].items():
            print(
                f"| `{name}`, {case['batch']} | {level} | {100 * one['added_to_a_step']:.1f} % | "
                f"{one['a_weights_step']:.2f} | {one['a_layers_step']:.2f} | {one['preflight_in_steps']:.1f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("measure", "table"))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", choices=CASES)
    given = parser.parse_args()
    measure(given.rounds, given.only) if given.what == "measure" else table()


if __name__ == "__main__":
    main()
