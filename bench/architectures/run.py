"""Train every network for small images with one common budget, and draw accuracy against cost.

    python bench/architectures/run.py accuracy --data DIR              every network, seed 0
    python bench/architectures/run.py accuracy --data DIR --strongest 10 --seeds 0 1 2
    python bench/architectures/run.py speed --data DIR                 images/s, in rounds, one thread
    python bench/architectures/run.py table                            bench/results/networks_cifar10.json as Markdown
    python bench/architectures/run.py draw FILE.svg                    the same as a picture

Which networks: all that are registered for inputs of at most 32 pixels and cost at most 80 M multiply-adds, so that a
new one joins by being there. The budget, alike for all: one pass over 22,500 images of CIFAR-10 (2,500 others are kept
for validation), batch 64, crops and flips, `nesterov` at its default rate with `one_cycle`, one thread. That is short:
it ranks what learns fast, not what ends best, and no network has its own paper's settings. The strongest are chosen by
validation accuracy; accuracy is that of the final weights on the 10,000 test images. DIR holds `cifar10/`. A run that
is in the results already is not repeated, so what was stopped goes on.
"""

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

import engram
from engram import accounting, models, registry
from engram.data.open import open_source
from engram.training.device import describe_processor

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results" / "networks_cifar10.json"
SHAPE, CLASSES = (3, 32, 32), 10
MOST_MACS = 80_000_000
EPOCHS, IMAGES, BATCH = 1, 22_500, 64
LIMIT = 25_000  # of which a tenth is kept for validation
ROUNDS, STEPS = 3, 2
REFERENCE = "resnet20"


def names() -> list[str]:
    """Networks for small images that train in minutes, cheapest first."""
    entries = [registry.find("model", name) for name in registry.names("model")]
    small = [one for one in entries if one.facts["input"][1] <= 32 and one.facts["macs"] <= MOST_MACS]
    return [one.name for one in sorted(small, key=lambda one: one.facts["macs"])]


def read() -> dict[str, Any]:
    if RESULTS.exists():
        return json.loads(RESULTS.read_text(encoding="utf-8"))
    budget = {"epochs": EPOCHS, "training_images": IMAGES, "batch_size": BATCH, "augment": "crop:4,flip"}
    return {"budget": budget, "commands": [], "networks": {}, "runs": [], "speed": {}}


def write(results: dict[str, Any]) -> None:
    part = RESULTS.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    os.replace(part, RESULTS)


def accuracy(chosen: argparse.Namespace) -> None:
    """Train what is not in the results yet."""
    results = read()
    wanted = chosen.only or names()
    if chosen.strongest:
        wanted = strongest(results, chosen.strongest)
        print("the strongest on validation data:", ", ".join(wanted))
    note(results)
    write(results)
    data = stored(Path(chosen.data), Path(chosen.cache))
    done = {(row["network"], row["seed"]) for row in results["runs"]}
    tasks = [(name, seed) for seed in chosen.seeds for name in wanted if (name, seed) not in done]

    def run(task: tuple[str, int]) -> dict[str, Any]:
        command = [sys.executable, __file__, "one", task[0], str(task[1]), "--data", str(data)]
        found = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        if found.returncode:
            return {"network": task[0], "seed": task[1], "failed": found.stderr.strip().splitlines()[-1]}
        return json.loads(found.stdout.splitlines()[-1])

    with ThreadPoolExecutor(chosen.jobs) as pool:
        for row in pool.map(run, tasks):
            told = row.get("failed") or f"{row['test']:.4f} test, {row['cpu']:.0f} CPU s"
            print(f"{row['network']:24} seed {row['seed']}  {told}", flush=True)
            if "failed" not in row:
                facts = row.pop("facts")
                results = read()
                results["networks"][row["network"]] = facts
                results["runs"].append(row)
                write(results)


def one(chosen: argparse.Namespace) -> None:
    """A single run, its figures as a line of JSON on the last line."""
    from functools import partial

    from engram.study.session import StudySession

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = engram.train(
            model=chosen.network,
            seed=chosen.seed,
            output=f"{folder}/run",
            data=chosen.data,
            epochs=EPOCHS,
            batch_size=BATCH,
            augment=["crop:4", "flip"],
            device={"threads": 1},
            **{"data.limit": LIMIT},
            save_every=1e9,
            session=partial(StudySession, judged="final", test=True),
        )
    usage = resource.getrusage(resource.RUSAGE_SELF)
    costs = accounting.account(models.build(chosen.network, shape=SHAPE, num_classes=CLASSES), SHAPE)
    facts = {"parameters": costs.parameters, "macs": costs.macs, "year": registry.find("model", chosen.network).year}
    row = {
        "network": chosen.network,
        "seed": chosen.seed,
        "reason": run.reason,
        "validation": run.evaluations["final_validation"]["accuracy"],
        "test": run.evaluations["final_test"]["accuracy"],
        "seconds": run.rows[-1]["seconds"],
        "cpu": usage.ru_utime + usage.ru_stime,
        "commit": commit(),
        "facts": facts,
    }
    print(json.dumps(row))


def speed(chosen: argparse.Namespace) -> None:
    """Training steps in rounds: every network takes its turn in each, and the median over the rounds is kept."""
    from engram import recipe
    from engram.training.assemble import assemble

    results = read()
    note(results)
    data = stored(Path(chosen.data), Path(chosen.cache))
    torch.set_num_threads(1)
    wanted = chosen.only or list(results["networks"])
    steps = {}
    for name in wanted:
        settings = {
            "model": name,
            "data": str(data),
            "data.limit": 2000,
            "batch_size": BATCH,
            "augment": ["crop:4", "flip"],
        }
        made = assemble(recipe.build({**settings, "device.threads": "1"}))
        steps[name] = made.timed_step()
        steps[name]()  # chooses kernels
        steps[name]()
    seconds: dict[str, list[float]] = {name: [] for name in wanted}
    for _ in range(ROUNDS):
        for name in wanted:
            begin = time.perf_counter()
            for _ in range(STEPS):
                steps[name]()
            seconds[name].append((time.perf_counter() - begin) / STEPS)
    for name in wanted:
        ratios = [own / reference for own, reference in zip(seconds[name], seconds[REFERENCE], strict=True)]
        results["speed"][name] = {
            "images_per_second": BATCH / statistics.median(seconds[name]),
            "times_resnet20": statistics.median(ratios),
        }
        print(f"{name:24} {BATCH / statistics.median(seconds[name]):8,.0f} images/s")
    write(results)


def strongest(results: dict[str, Any], count: int) -> list[str]:
    """By validation accuracy with the first seed."""
    first = [row for row in results["runs"] if row["seed"] == 0]
    return [row["network"] for row in sorted(first, key=lambda row: -row["validation"])[:count]]


def rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a network, the most accurate first."""
    found = []
    for name, facts in results["networks"].items():
        own = [row for row in results["runs"] if row["network"] == name]
        values = [100 * row["test"] for row in own]
        found.append(
            {
                "network": name,
                **facts,
                "accuracy": statistics.fmean(values),
                "spread": statistics.stdev(values) if len(values) > 1 else None,
                "seeds": len(values),
                "cpu": statistics.median(row["cpu"] for row in own),
                **results["speed"].get(name, {}),
            }
        )
    return sorted(found, key=lambda row: -row["accuracy"])


def table(chosen: argparse.Namespace) -> None:
    """The results as Markdown."""
    print("| network | year | parameters | multiply-adds | images/s | test accuracy, % | seeds |")
    print("|---|---|---|---|---|---|---|")
    for row in rows(read()):
        spread = f" ± {row['spread']:.2f}" if row["spread"] is not None else ""
        rate = f"{row['images_per_second']:,.0f}" if "images_per_second" in row else ""
        print(
            f"| `{row['network']}` | {row['year']} | {row['parameters']:,} | {row['macs'] / 1e6:,.1f} M | {rate} "
            f"| {row['accuracy']:.2f}{spread} | {row['seeds']} |"
        )


def draw(chosen: argparse.Namespace) -> None:
    """Accuracy against the cost of one image, a point a network."""
    import altair as alt
    import vl_convert as vlc

    found = rows(read())
    values = [{**row, "mmacs": row["macs"] / 1e6, "side": int(_crowded(row, found))} for row in found]
    base = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X(
            "mmacs:Q",
            scale=alt.Scale(domain=[0, 85], nice=False),
            axis=alt.Axis(title="multiply-adds an image, millions"),
        ),
        y=alt.Y("accuracy:Q", scale=alt.Scale(zero=False), title="test accuracy after one pass, %"),
    )
    points = base.mark_circle(size=60, opacity=0.85)
    words = [
        base.transform_filter(f"datum.side == {side}")
        .mark_text(align=align, dx=dx, fontSize=10)
        .encode(text="network:N")
        for side, align, dx in ((0, "left", 7), (1, "right", -7))
    ]
    chart = alt.layer(points, *words).properties(width=760, height=560, background="white")
    Path(chosen.file).write_text(vlc.vegalite_to_svg(chart.to_dict()), encoding="utf-8")


def _crowded(row: dict[str, Any], others: list[dict[str, Any]]) -> bool:
    """Whether the name would run into a point on its right: then it stands on the left."""
    right = [one for one in others if 0 < one["macs"] - row["macs"] < 16e6]
    return any(abs(one["accuracy"] - row["accuracy"]) < 0.7 for one in right)


def stored(data: Path, cache: Path) -> Path:
    """CIFAR-10 as arrays, its pictures decoded once for all runs."""
    cache.mkdir(parents=True, exist_ok=True)
    to = cache / "cifar10.npz"
    if not to.exists():
        source = open_source(str(data / "cifar10"))
        parts = {}
        for split in ("train", "test"):
            examples = getattr(source, split)
            pixels = np.stack([examples.read(index) for index in range(len(examples))])  # (N, C, H, W)
            parts[f"x_{split}"], parts[f"y_{split}"] = np.moveaxis(pixels, 1, -1), np.asarray(examples.labels)
        np.savez(to, **parts)
    return to


def note(results: dict[str, Any]) -> None:
    """The command and the machine."""
    words, hidden = sys.argv[1:], {"--data": "DIR", "--cache": "CACHE"}
    told = [hidden.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    results["machine"] = {
        "processor": describe_processor(),
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
    }
    command = shlex.join(["python", "bench/architectures/run.py", *told])
    results["commands"].append({"command": command, "commit": commit(), "at": at})


def commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain", "--", "src") else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="task", required=True)
    for name in ("accuracy", "speed"):
        verb = verbs.add_parser(name)
        verb.add_argument("--data", default="data", help="the folder that holds cifar10/")
        verb.add_argument("--cache", default="build/architectures", help="where the decoded pictures are kept")
        verb.add_argument("--only", nargs="+", choices=registry.names("model"))
        if name == "accuracy":
            verb.add_argument("--seeds", type=int, nargs="+", default=[0])
            verb.add_argument("--strongest", type=int, help="only so many, the best on validation data with seed 0")
            verb.add_argument("--jobs", type=int, default=2)
    single = verbs.add_parser("one")
    single.add_argument("network")
    single.add_argument("seed", type=int)
    single.add_argument("--data", required=True)
    verbs.add_parser("table")
    verbs.add_parser("draw").add_argument("file")
    chosen = parser.parse_args()
    {"accuracy": accuracy, "speed": speed, "one": one, "table": table, "draw": draw}[chosen.task](chosen)


if __name__ == "__main__":
    main()
