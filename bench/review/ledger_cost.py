"""What keeping the ledger costs: seconds a step beside a ResNet-20 step, at 50 thousand to 10 million examples.

    python bench/review/ledger_cost.py [--examples 1000000 ...] [--to bench/results/review_ledger_cost.json]

Interleaved on one thread, by CPU time: a ResNet-20 step on a batch of 128 in the machine's own precision; what a step
adds with a review (grading, and its share of folding and choosing a round: both are done once a round and divided by
the round's steps). Medians over rounds. The forgetting curve's rounds are half of the examples.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from engram import models, optimizers
from engram.recipe import Device
from engram.review import methods
from engram.review.reviewer import Reviewer
from engram.training import device

BATCH = 128
ROUNDS = 5


def resnet20_step(machine: device.Machine):
    """One training step of ResNet-20 on random pictures of CIFAR-10's size."""
    net = models.build("resnet20", shape=(3, 32, 32), num_classes=10, settings={}).to(
        memory_format=machine.memory_format
    )
    optimizer = optimizers.build("nesterov", net, {})
    x = torch.randn(BATCH, 3, 32, 32).to(machine.dtype).contiguous(memory_format=machine.memory_format)
    y = torch.randint(10, (BATCH,))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with machine.autocast():
            logits = net(x)
        torch.nn.functional.cross_entropy(logits.float(), y).backward()
        optimizer.step()

    return step


def seconds(work, times: int = 1) -> float:
    begin = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begin) / times


def measure(examples: int, step, log) -> dict[str, float]:
    """Seconds of a step, and of what the review adds to it."""
    reviewer = Reviewer(examples, methods.build("forgetting_curve"), batch_size=BATCH, epochs=1000)
    losses = torch.rand(BATCH)
    reviewer.batches()
    reviewer.skip()
    rows: dict[str, list[float]] = {"step": [], "grade": [], "round": []}
    for number in range(ROUNDS):
        rows["step"].append(seconds(step, 10))
        rows["grade"].append(seconds(lambda: reviewer.observe(losses, lr=0.1), 200))
        # the rest of the round as if its batches had been graded one by one
        waiting = reviewer.order[reviewer.position * BATCH :]
        whole = -(-len(reviewer.order) // BATCH)
        reviewer.pending.append((waiting, torch.rand(len(waiting)), torch.rand(len(waiting)), reviewer.clock, 0))
        reviewer.steps += whole - reviewer.position
        reviewer.position = whole
        reviewer.clock += len(waiting) / examples
        rows["round"].append(seconds(reviewer.fold) + seconds(reviewer.batches))
        log(f"  round {number + 1} of {ROUNDS}: {', '.join(f'{key} {value[-1]:.4g} s' for key, value in rows.items())}")
    in_round = len(reviewer.order) / BATCH
    middle = {key: statistics.median(value) for key, value in rows.items()}
    added = middle["grade"] + middle["round"] / in_round
    return {
        "examples": examples,
        "bytes_an_example": reviewer.ledger.nbytes / examples,
        "step_seconds": middle["step"],
        "grade_seconds": middle["grade"],
        "round_seconds": middle["round"],
        "steps_a_round": in_round,
        "added_seconds_a_step": added,
        "added_share": added / middle["step"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, nargs="+", default=[50_000, 1_000_000, 10_000_000])
    parser.add_argument("--to", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    machine = device.choose(Device(name="cpu", threads="1"))
    step = resnet20_step(machine)
    step()
    results = []
    for examples in chosen.examples:
        print(f"{examples:,} examples")
        results.append(measure(examples, step, print))
        row = results[-1]
        print(f"  adds {100 * row['added_share']:.2f} % to a step of {1000 * row['step_seconds']:.1f} ms")
    if chosen.to:
        facts = {"torch": torch.__version__, "processor": device.describe_processor(), "threads": 1}
        chosen.to.write_text(json.dumps({"machine": facts, "results": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
