"""Measure Engram and its peers side by side on one machine.

    python bench/train/run.py speed resnet20-cifar10 --data DIR        images a second, interleaved
    python bench/train/run.py accuracy resnet20-cifar10 --data DIR     whole trainings, test accuracy
    python bench/train/run.py table                                    what bench/results/ holds, as Markdown

`speed` starts every program first and then lets them take turns, in a random order each round, so that whatever else
the machine does meets all of them alike; the ratios are taken within a round. It measures two things: with one thread
by CPU time, workers included, and with all threads by wall time. Both commands add to bench/results/train_WORKLOAD.json
and may be stopped and started again; a round counts when all programs have had their turn.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tables
from workloads import WORKLOADS, Workload, load

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "bench" / "results"


@dataclass(frozen=True)
class Program:
    """A row of the table: a program in one of its forms. `workers` are the numbers of DataLoader workers to try."""

    name: str
    script: str
    mode: str
    workers: tuple[int, ...] = (0,)

    @property
    def row(self) -> str:
        return f"{self.name}, {self.mode}"


PROGRAMS = (
    Program("Engram", "engram_peer.py", "as it comes"),
    Program("Engram", "engram_peer.py", "float32"),
    Program("PyTorch", "torch_peer.py", "documented"),
    Program("PyTorch", "torch_peer.py", "fast", (0, 2)),
    Program("Lightning", "lightning_peer.py", "documented"),
    Program("Lightning", "lightning_peer.py", "fast", (0, 2)),
    Program("fastai", "fastai_peer.py", "documented"),
    Program("fastai", "fastai_peer.py", "fast", (0, 2)),
    Program("Keras", "keras_peer.py", "documented"),
    Program("Keras", "keras_peer.py", "fast"),
)


class Worker:
    """A running program, waiting at its gate."""

    def __init__(self, script: str, words: list[str], threads: int, log: Path) -> None:
        self.log = log
        command = [sys.executable, str(HERE / script), *words, "--threads", str(threads)]
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment(threads),
            )
        self.facts = self.answer()

    def answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            last = self.log.read_text(errors="replace").strip().splitlines()[-5:]
            raise SystemExit(f"{self.log.stem} ended; its last words ({self.log}):\n" + "\n".join(last))
        return json.loads(line)

    def run(self, steps: int, warm: int) -> dict[str, Any]:
        self.process.stdin.write(f"run {steps} {warm}\n")
        self.process.stdin.flush()
        return self.answer()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.write("quit\n")
            self.process.stdin.flush()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def environment(threads: int) -> dict[str, str]:
    """The caller's environment with the thread count of every library, and this checkout's Engram."""
    counts = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return {**os.environ, **counts, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "ignore"}


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Cores, processor and memory."""
    processor, memory = platform.processor() or platform.machine(), None
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
        memory = round(int(Path("/proc/meminfo").read_text().split()[1]) / 2**20, 1)
    return {"cores": cores(), "processor": processor, "memory_gib": memory, "system": platform.platform()}


def commit() -> str:
    """The commit that is checked out, marked where src/ or bench/train/ differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--", "src", "bench/train")
    return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")


def read(workload: Workload, *, anywhere: bool = False) -> dict[str, Any]:
    """The results so far.

    Args:
        anywhere: those of another machine do as well, where what is added says its own.
    """
    path = RESULTS / f"train_{workload.name}.json"
    here = machine()
    if path.exists():
        results = json.loads(path.read_text(encoding="utf-8"))
        if anywhere or results["machine"] == here:
            return results
        raise SystemExit(f"{path} holds results of another machine; move it away to measure this one")
    facts = {name: getattr(workload, name) for name in ("name", "parameters", "macs", "epochs", "lr")}
    return {"workload": facts, "machine": here, "commands": [], "versions": {}, "speed": {}, "accuracy": []}


def write(results: dict[str, Any]) -> None:
    """Replace the file in one step, so that stopping at any moment leaves whole results."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"train_{results['workload']['name']}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)


def note_command(results: dict[str, Any], data: str) -> None:
    """Add the command as somebody else would give it: the data's place is told from the checkout."""
    words = [os.path.relpath(data, ROOT) if word == data else word for word in sys.argv[1:]]
    command = shlex.join(["python", "bench/train/run.py", *words])
    entry = {"command": command, "commit": commit(), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    results["commands"].append(entry)


SETTINGS = {"one thread": "cpu", "all threads": "wall"}


@contextlib.contextmanager
def workers(
    programs: list[Program], chosen: argparse.Namespace, threads: int
) -> Iterator[dict[Program, dict[int, Worker]]]:
    """Every program, started and waiting; with several numbers of DataLoader workers to try, one process for each."""
    logs = Path(tempfile.mkdtemp(prefix="engram-bench-logs-"))
    started: dict[Program, dict[int, Worker]] = {}
    try:
        for program in programs:
            for count in program.workers:
                words = ["speed", "--workload", chosen.workload, "--mode", program.mode, "--data", chosen.data]
                words += ["--seed", str(chosen.seed), "--workers", str(count)]
                log = logs / f"{program.row.replace(', ', '-').replace(' ', '-')}-{count}.log"
                print(f"  starting {program.row}" + (f", {count} workers" if len(program.workers) > 1 else ""))
                started.setdefault(program, {})[count] = Worker(program.script, words, threads, log)
        yield started
    finally:
        for group in started.values():
            for worker in group.values():
                worker.stop()


def speed(chosen: argparse.Namespace) -> None:
    """Rounds of turns, one thread by CPU time and all threads by wall time."""
    workload = WORKLOADS[chosen.workload]
    programs = select(chosen.only)
    load(workload, chosen.data, "train"), load(workload, chosen.data, "test")  # decoded once, before any clock runs
    results = read(workload)
    note_command(results, chosen.data)
    order = random.Random(chosen.seed + 1000 * len(results["commands"]))
    for setting in chosen.settings or SETTINGS:
        threads, clock = (1 if setting == "one thread" else cores()), SETTINGS[setting]
        print(f"{workload.name}, {setting}")
        peak_log = Path(tempfile.mkdtemp(prefix="engram-bench-logs-"), "peaks.log")
        with contextlib.ExitStack() as stack:
            peak = Worker("peaks.py", [], threads, peak_log)
            stack.callback(peak.stop)
            running = stack.enter_context(workers(programs, chosen, threads))
            turns = {program: pilot(program, group, clock, chosen) for program, group in running.items()}
            for program, (worker, _, count) in turns.items():
                results["versions"] |= worker.facts["versions"]
                results.setdefault("choices", {}).setdefault(setting, {})[program.row] = {
                    **worker.facts.get("choices", {}),
                    **({"workers": count} if len(program.workers) > 1 else {}),
                }
            for number in range(chosen.rounds):
                row: dict[str, Any] = {"seed": chosen.seed, "commit": commit(), "load": os.getloadavg()[0]}
                row |= {"peak": peak.run(10, 0), "programs": {}}
                for program in order.sample(programs, len(programs)):
                    worker, steps, _ = turns[program]
                    row["programs"][program.row] = worker.run(steps, max(1, steps // 20))
                results["speed"].setdefault(setting, []).append(row)
                write(results)
                print(f"  round {number + 1} of {chosen.rounds}: {tables.round_line(row, clock)}", flush=True)
    print(tables.table(results))


def pilot(
    program: Program, group: dict[int, Worker], clock: str, chosen: argparse.Namespace
) -> tuple[Worker, int, int]:
    """Warm up; keep the faster number of DataLoader workers; how many steps fill a turn of about `--seconds`."""
    rates = {}
    for count, worker in group.items():
        worker.run(1, 1)
        guess = worker.run(1, 1)["wall"]
        steps = max(2, round(chosen.seconds / 3 / guess))
        row = worker.run(steps, max(1, steps // 10))
        rates[count] = (row["images"] / row[clock], row["steps"] / row["wall"])
    best = max(rates, key=lambda count: rates[count][0])
    for count, worker in group.items():
        if count != best:
            worker.stop()
    return group[best], max(2, round(chosen.seconds * rates[best][1])), best


def accuracy(chosen: argparse.Namespace) -> None:
    """Whole trainings one after the other, a seed at a time over all programs; with all threads, or so many.

    One that is trained on another machine than the rest says so, and its times are left out of the table.
    """
    workload = WORKLOADS[chosen.workload]
    epochs = chosen.epochs or workload.epochs
    load(workload, chosen.data, "train"), load(workload, chosen.data, "test")
    results = read(workload, anywhere=True)
    elsewhere = {} if results["machine"] == machine() else {"machine": machine()}
    note_command(results, chosen.data)
    logs = Path(tempfile.mkdtemp(prefix="engram-bench-logs-"))
    for seed in chosen.seeds:
        for program in select(chosen.only):
            key = {"program": program.row, "seed": seed, "epochs": epochs}
            if any(key.items() <= row.items() for row in results["accuracy"]):
                continue
            words = ["accuracy", "--workload", workload.name, "--mode", program.mode, "--data", chosen.data]
            words += ["--seed", str(seed), "--epochs", str(epochs)]
            worker = Worker(
                program.script,
                words,
                chosen.threads or cores(),
                logs / f"{program.script}-{program.mode[:4]}-{seed}.log",
            )
            worker.stop()
            row = {**key, **worker.facts, "threads": chosen.threads or cores()}
            row |= {"commit": commit(), "load": os.getloadavg()[0], **elsewhere}
            results["accuracy"].append(row)
            write(results)
            print(f"  {program.row}, seed {seed}: {100 * row['accuracy']:.2f} % in {row['wall']:.0f} s", flush=True)
    print(tables.table(results))


def select(only: list[str] | None) -> list[Program]:
    """The programs whose row begins with one of the given words; all where none is given."""
    chosen = [one for one in PROGRAMS if not only or any(one.row.lower().startswith(word.lower()) for word in only)]
    if not chosen:
        raise SystemExit(f"no program begins with {only}; there are: {', '.join(one.row for one in PROGRAMS)}")
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    for name in ("speed", "accuracy"):
        task = tasks.add_parser(name)
        task.add_argument("workload", choices=list(WORKLOADS))
        task.add_argument("--data", required=True, help="folder with cifar10/ and mnist/ as Parquet, or one of the two")
        task.add_argument("--only", nargs="+", help="rows that begin so: Engram, PyTorch, 'Keras, fast', ...")
    tasks.choices["speed"].add_argument("--rounds", type=int, default=7)
    tasks.choices["speed"].add_argument("--seconds", type=float, default=4.0, help="of a turn; at least two steps")
    tasks.choices["speed"].add_argument("--settings", nargs="+", choices=list(SETTINGS))
    tasks.choices["speed"].add_argument("--seed", type=int, default=0)
    tasks.choices["accuracy"].add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    tasks.choices["accuracy"].add_argument("--threads", type=int, help="instead of all; on a busy machine, 1")
    tasks.choices["accuracy"].add_argument("--epochs", type=int, help="instead of the workload's own")
    tasks.add_parser("table").add_argument("workloads", nargs="*", default=list(WORKLOADS))
    chosen = parser.parse_args()
    if chosen.task == "table":
        for name in chosen.workloads:
            path = RESULTS / f"train_{name}.json"
            if path.exists():
                print(tables.table(json.loads(path.read_text(encoding="utf-8"))))
    else:
        {"speed": speed, "accuracy": accuracy}[chosen.task](chosen)


if __name__ == "__main__":
    main()
