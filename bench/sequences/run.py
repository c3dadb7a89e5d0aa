"""Tokens a second of training, Engram beside plain PyTorch and Keras 3, on the CPU of one machine.

    python bench/sequences/run.py --data FILE        a text in UTF-8
    python bench/sequences/run.py --table            what bench/results/sequences_speed.json holds

For every model and number of threads all programs are started, and then take turns of a second or two in a random
order each round, so that whatever else the machine does meets all alike; ratios are taken within a round. One thread is
measured in CPU time, which hardly depends on what else runs, two in wall time, which wants a quiet machine. Rounds are
added to the file as they are made: stop and start again, and it goes on until there are `--rounds` of each.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workload import MODELS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "bench" / "results" / "sequences_speed.json"
PROGRAMS = {
    "Engram": ("engram_loop.py", "as it comes"),
    "PyTorch, documented": ("torch_loop.py", "documented"),
    "PyTorch, fast": ("torch_loop.py", "fast"),
    "PyTorch, fast, memory kept": ("torch_loop.py", "kept"),
    "Keras": ("keras_loop.py", "documented"),
}
KEPT = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_TOP_PAD_": str(2**26)}
"""glibc's own variables for what `engram.training.allocator` asks for in the process."""

CLOCKS = {1: "cpu", 2: "wall"}


class Worker:
    """A program that waits for its turn."""

    def __init__(self, name: str, chosen: argparse.Namespace, model: str, threads: int, log: Path) -> None:
        script, mode = PROGRAMS[name]
        words = [sys.executable, str(HERE / script), "--data", chosen.data, "--model", model]
        counts = {word: str(threads) for word in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        self.name, self.log = name, log
        self.process = subprocess.Popen(
            [*words, "--mode", mode, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("wb"),
            text=True,
            env={**os.environ, **counts, **(KEPT if mode == "kept" else {}), "PYTHONPATH": str(ROOT / "src")},
        )

    def answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
            raise SystemExit(f"{self.name} ended; its last words ({self.log}):\n{last}")
        return json.loads(line)

    def run(self, steps: int, warm: int) -> dict[str, Any]:
        self.process.stdin.write(f"{steps} {warm}\n")
        self.process.stdin.flush()
        return self.answer()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def started(names: list[str], chosen: argparse.Namespace, model: str, threads: int) -> Iterator[list[Worker]]:
    """All programs, imported and built at the same time, ended when the context is left."""
    logs = Path(tempfile.mkdtemp(prefix="engram-bench-logs-"))
    workers = [Worker(name, chosen, model, threads, logs / f"{name}.log") for name in names]
    try:
        for worker in workers:
            chosen.versions |= worker.answer()["versions"]
        yield workers
    finally:
        for worker in workers:
            worker.stop()


def measure(results: dict[str, Any], chosen: argparse.Namespace, model: str, threads: int) -> None:
    """Rounds of turns until there are enough."""
    rounds = results["rounds"].setdefault(model, {}).setdefault(str(threads), [])
    if len(rounds) >= chosen.rounds:
        return
    order = random.Random(len(rounds))
    with started(list(PROGRAMS), chosen, model, threads) as workers:
        steps = {}
        for worker in workers:
            worker.run(1, 1)
            steps[worker.name] = max(2, round(chosen.seconds / worker.run(2, 0)["wall"] * 2))
        while len(rounds) < chosen.rounds:
            row: dict[str, Any] = {"load": os.getloadavg()[0], "commit": results["commands"][-1]["commit"], "turns": {}}
            for worker in order.sample(workers, len(workers)):
                row["turns"][worker.name] = worker.run(steps[worker.name], 1)
            rounds.append(row)
            results["versions"] |= chosen.versions
            results["summary"] = summarise(results["rounds"])
            write(results)
            rates = {name: turn["tokens"] / turn[CLOCKS[threads]] for name, turn in row["turns"].items()}
            told = ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
            print(f"{model}, {threads} threads, round {len(rounds)}: {told}", flush=True)


def summarise(rounds: dict[str, Any]) -> list[dict[str, Any]]:
    """By model and threads: medians of tokens a second, and of Engram's over each other's in the same round."""
    rows = []
    for model, by_threads in rounds.items():
        for threads, made in by_threads.items():
            if not made:
                continue
            rates = [
                {name: turn["tokens"] / turn[CLOCKS[int(threads)]] for name, turn in row["turns"].items()}
                for row in made
            ]
            medians = {name: statistics.median(one[name] for one in rates) for name in PROGRAMS}
            ratios = {name: statistics.median(one["Engram"] / one[name] for one in rates) for name in PROGRAMS}
            # what a user of the others gets by their documentation: glibc's variables are no setting of theirs
            rivals = [name for name in PROGRAMS if name not in ("Engram", "PyTorch, fast, memory kept")]
            rows.append(
                {
                    "model": model,
                    "threads": int(threads),
                    "clock": CLOCKS[int(threads)],
                    "rounds": len(made),
                    "tokens_per_second": {name: round(rate) for name, rate in medians.items()},
                    "engram_over": {name: round(ratio, 3) for name, ratio in ratios.items() if name != "Engram"},
                    "engram_over_fastest": round(min(ratios[name] for name in rivals), 3),
                }
            )
    return rows


def table(results: dict[str, Any]) -> str:
    """The summary as Markdown."""
    lines = ["| model | threads | " + " | ".join(PROGRAMS) + " | ratio |", "|---" * (len(PROGRAMS) + 3) + "|"]
    for row in results["summary"]:
        rates = " | ".join(f"{row['tokens_per_second'][name]:,}" for name in PROGRAMS)
        lines.append(f"| `{row['model']}` | {row['threads']} | {rates} | **{row['engram_over_fastest']:.2f}** |")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Cores and processor."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {"cores": len(os.sched_getaffinity(0)), "processor": processor, "system": platform.system()}


def commit() -> str:
    """The commit that is checked out, marked where what is measured differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()

    parts = ("layers/recurrent", "models/char_rnn.py", "optimizers", "text/chunks.py", "training/allocator.py")
    changed = git("status", "--porcelain", "--", "bench/sequences", *(f"src/engram/{part}" for part in parts))
    return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")


def write(results: dict[str, Any]) -> None:
    """Replace the file in one step."""
    part = RESULTS.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    os.replace(part, RESULTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a text in UTF-8")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--threads", nargs="+", type=int, choices=list(CLOCKS), default=list(CLOCKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of a turn; at least two steps")
    chosen = parser.parse_args()
    empty = {"machine": machine(), "commands": [], "versions": {}, "summary": [], "rounds": {}}
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else empty
    if not chosen.table:
        if not chosen.data:
            parser.error("--data is needed")
        if results["machine"] != machine():
            raise SystemExit(f"{RESULTS} holds results of another machine; move it away to measure this one")
        words = [os.path.relpath(chosen.data, ROOT) if word == chosen.data else word for word in sys.argv[1:]]
        command = shlex.join(["python", "bench/sequences/run.py", *words])
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        results["commands"].append({"command": command, "commit": commit(), "at": at})
        chosen.versions = {}
        for threads in chosen.threads:
            for model in chosen.models:
                measure(results, chosen, model, threads)
    print(table(results))


if __name__ == "__main__":
    main()
