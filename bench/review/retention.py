"""Does a network forget like Ebbinghaus's subjects? What is still right of what is never shown again.

    python bench/review/retention.py cifar10-16 --data DIR [--seeds 0 1 2]

A network is trained on everything for a while. Then a tenth of the training examples is shown once more and never
again, while training goes on with the rest at a constant learning rate (three of them) or one that falls to 0; at
delays that double, all of the tenth are asked, unaugmented and in evaluation mode. Delays are epochs: visits to the
others divided by their number. Retention is the share still right of those that were right when they were last seen,
by how often in a row they had been right in training before (strength), and by thirds of their mean loss in training
until then (difficulty). A second tenth stays in training: what the network makes of it at the same moments is the
control, for a network that goes on learning gets better at everything.

Curves are fitted to single answers at delays above 0 by maximum likelihood and ranked by BIC
(`engram.review.retention`). Results go to bench/results/review_retention_WORKLOAD.json.
"""

import argparse
import json
import math
import os
from dataclasses import asdict
from typing import Any

import torch
from run import RESULTS, base, commit
from torch import Tensor
from workloads import WORKLOADS

from engram import recipe
from engram.optimizers import set_lr
from engram.review.retention import compare_curves
from engram.review.reviewer import generator
from engram.training.assemble import assemble
from engram.training.assembled import Assembled
from engram.training.device import describe_processor
from engram.training.evaluate import probabilities
from engram.training.loop import update

FIRST = {
    "mnist": 2.0,
    "cifar10-lenet": 4.0,
    "cifar10-lenet-tail": 12.0,
    "cifar10-10k-vgg": 12.0,
    "cifar10-16": 4.0,
    "digits": 4.0,
}
"""Epochs before the tenth is put aside."""
LONGEST = 8.0  # epochs it is watched
DELAYS = [0.0, *(LONGEST / 2**power for power in range(9, -1, -1))]
RATES = {"rate 1": 1.0, "rate 1/4": 0.25, "rate 1/16": 0.0625, "falling to 0": None}
EBBINGHAUS = {19 / 60: 58.2, 63 / 60: 44.2, 8.75: 35.8, 24: 33.7, 48: 27.8, 144: 25.4, 744: 21.1}
"""Hours -> savings in per cent: his own figures of 1885, chapter 7."""


def watch(assembled: Assembled, rate: float | None, first: float, seed: int) -> dict[str, Any]:
    """One training: what was right of the tenth, and of the control, at every delay."""
    parts, state = assembled.parts, assembled.state
    number = len(parts.pool)
    batch = state.reviewer.batch_size
    order = torch.randperm(number, generator=generator(seed, 10**6))
    aside, control = order[: number // 10], order[number // 10 : number // 5]
    rest = order[number // 10 :]
    streak = torch.zeros(number, dtype=torch.int64)
    cost = torch.zeros(number, dtype=torch.float64)
    round_ = 0

    def show(indices: Tensor) -> None:
        state.net.train()
        batches = list(indices.split(batch))
        for shown, (x, y) in zip(batches, parts.pool.batches(batches), strict=True):
            seen = update(parts, state, x, y)
            streak[shown] = torch.where(seen.correct.cpu(), streak[shown] + 1, 0)
            cost[shown] += seen.losses.cpu().double()

    def ask(indices: Tensor) -> Tensor:
        pool = _Some(parts.pool, indices)
        given = torch.from_numpy(probabilities(state.net, pool, assembled.views, parts.machine, batch_size=512))
        return given.argmax(1) == pool.labels

    def shuffled(indices: Tensor) -> Tensor:
        nonlocal round_
        round_ += 1
        return indices[torch.randperm(len(indices), generator=generator(seed, round_))]

    warm = max(1, round(first * number / batch / 4))
    step = 0
    for _ in range(math.ceil(first)):
        for some in shuffled(torch.arange(number)).split(batch * 16):
            set_lr(state.optimizer, min(1.0, (step + 1) / warm))  # the rate rises for a quarter of the time
            show(some)
            step += 16
    set_lr(state.optimizer, 1.0 if rate is None else rate)
    show(shuffled(aside))
    answers, controls = [ask(aside)], [ask(control)]
    bucket = (streak[aside] > 0).long() + (streak[aside] > 2).long()
    third, third_control = thirds(cost[aside]), thirds(cost[control])  # visited equally often, so sums are as means
    seen, waiting = 0, shuffled(rest)
    for delay in DELAYS[1:]:
        until = round(delay * len(rest))
        while seen < until:
            take = min(until - seen, len(waiting), batch * 16)
            if rate is None:
                set_lr(state.optimizer, max(0.0, 1.0 - seen / (LONGEST * len(rest))))
            show(waiting[:take])
            seen += take
            waiting = waiting[take:] if take < len(waiting) else shuffled(rest)
        answers.append(ask(aside))
        controls.append(ask(control))
    places = {"bucket": bucket, "third": third, "third_control": third_control}
    return {"answers": torch.stack(answers), "controls": torch.stack(controls), **places}


def thirds(values: Tensor) -> Tensor:
    """(N,) 0 for the smallest third, 1, and 2 for the largest.

    >>> thirds(torch.tensor([5.0, 1.0, 3.0])).tolist()
    [2, 0, 1]
    """
    return torch.argsort(torch.argsort(values)) * 3 // len(values)


class _Some:
    """Some examples of a pool, as a pool."""

    def __init__(self, pool: Any, rows: Tensor) -> None:
        self.pool, self.rows = pool, rows
        self.labels = pool.labels.cpu()[rows]
        self.shape, self.dtype = pool.shape, pool.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, indices: Any) -> Any:
        return self.pool.batches(self.rows[one] for one in indices)


def summarise(watched: list[dict[str, Any]]) -> dict[str, Any]:
    """Retention by delay, over seeds, of what was right at delay 0; and which curve it follows."""
    answers = torch.cat([one["answers"] for one in watched], 1)  # (delays, examples of all seeds)
    controls = torch.cat([one["controls"] for one in watched], 1)
    bucket = torch.cat([one["bucket"] for one in watched])
    kept, kept_control = answers[0], controls[0]
    rows: dict[str, Any] = {
        "delays": DELAYS,
        "all": answers.double().mean(1).tolist(),
        "retained": answers[:, kept].double().mean(1).tolist(),
        "count": int(kept.sum()),
        "control_all": controls.double().mean(1).tolist(),
        "control_retained": controls[:, kept_control].double().mean(1).tolist(),
        "gained": answers[:, ~kept].double().mean(1).tolist() if bool((~kept).any()) else [],
        "by_streak": {},
        "by_difficulty": {},
    }
    for place, name in enumerate(("0", "1-2", "3+")):
        chosen = kept & (bucket == place)
        if int(chosen.sum()) >= 20:
            share = answers[:, chosen].double().mean(1).tolist()
            rows["by_streak"][name] = {"count": int(chosen.sum()), "retained": share}
    third, third_control = (torch.cat([one[name] for one in watched]) for name in ("third", "third_control"))
    for place, name in enumerate(("easy", "middle", "hard")):
        chosen, beside = kept & (third == place), kept_control & (third_control == place)
        if min(int(chosen.sum()), int(beside.sum())) >= 20:
            shares = {"retained": answers[:, chosen], "control": controls[:, beside]}
            row = {of: share.double().mean(1).tolist() for of, share in shares.items()}
            rows["by_difficulty"][name] = {"count": int(chosen.sum()), **row}
    delays = torch.tensor(DELAYS[1:]).repeat_interleave(int(kept.sum()))
    fits = compare_curves(delays, answers[1:, kept].reshape(-1))
    rows["fits"] = [asdict(fit) for fit in fits]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("workload", choices=list(WORKLOADS))
    parser.add_argument("--data", default="data")
    parser.add_argument("--cache", default="build/review")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    workload = WORKLOADS[chosen.workload]
    torch.set_num_threads(chosen.threads)
    results: dict[str, Any] = {
        "command": f"python bench/review/retention.py {workload.name} --data DIR",
        "commit": commit(),
        "seeds": chosen.seeds,
        "machine": {"processor": describe_processor(), "torch": torch.__version__},
        "ebbinghaus_1885": {"hours": list(EBBINGHAUS), "savings_percent": list(EBBINGHAUS.values())},
        "arms": {},
    }
    path = RESULTS / f"review_retention_{workload.name}.json"
    for name, rate in RATES.items():
        watched = []
        for seed in chosen.seeds:
            settings = base(workload, chosen) | {"epochs": 1, "seed": seed}
            settings |= {"optimizer.lr": workload.lr, "device": {"threads": str(chosen.threads)}}
            assembled = assemble(recipe.build(settings))
            watched.append(watch(assembled, rate, FIRST.get(workload.name, 4.0), seed))
            last = watched[-1]["answers"][:, watched[-1]["answers"][0]].double().mean(1)
            print(f"{name}, seed {seed}: {' '.join(f'{100 * share:.1f}' for share in last.tolist())}", flush=True)
        results["arms"][name] = summarise(watched)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        os.replace(part, path)
        best = results["arms"][name]["fits"]
        print("  " + ", ".join(f"{fit['name']} {fit['bic'] - best[0]['bic']:+.0f}" for fit in best))


if __name__ == "__main__":
    main()
