"""How the runner drives a program: a line in, a line of JSON out.

    run STEPS WARM    train WARM steps unmeasured, then STEPS measured ones, and answer
                      {"steps": ..., "images": ..., "wall": seconds, "cpu": seconds, "loss": ...}
    quit              end

A program trains in its own ordinary loop, for ever; after every step it calls `Gate.step`, which returns at once while
steps are left and otherwise answers and waits for the next line. So all programs can be started first and then take
turns in any order, and none is measured while it warms up. With DataLoader workers, the unmeasured steps use up what
the workers had fetched while the program waited.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from workloads import WORKLOADS

TICKS = os.sysconf("SC_CLK_TCK")


def arguments(modes: Sequence[str]) -> argparse.Namespace:
    """The options that every program understands."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["speed", "accuracy"])
    parser.add_argument("--workload", required=True, choices=list(WORKLOADS))
    parser.add_argument("--mode", required=True, choices=list(modes))
    parser.add_argument("--data", required=True, help="folder with cifar10/ and mnist/ as Parquet, or one of the two")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="DataLoader workers, where the mode leaves them open")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="train on so many images, to try a program out")
    chosen = parser.parse_args()
    chosen.workload = WORKLOADS[chosen.workload]
    chosen.epochs = chosen.epochs or chosen.workload.epochs
    return chosen


def cpu_seconds() -> float:
    """CPU time of this process and of all its descendants, living and ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + _living_children()


def _living_children() -> float:
    """CPU seconds of the living descendants, from /proc; 0 on systems that have none."""
    children: dict[int, list[tuple[int, float]]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = file.read_text().partition(" (")
        except OSError:  # it ended meanwhile
            continue
        words = rest.rpartition(") ")[2].split()
        ticks = sum(int(word) for word in words[11:15])  # user and system time, its own and its ended children's
        children.setdefault(int(words[1]), []).append((int(pid), ticks / TICKS))
    total, ahead = 0.0, [os.getpid()]
    while ahead:
        for pid, seconds in children.get(ahead.pop(), []):
            total += seconds
            ahead.append(pid)
    return total


def claim_stdout() -> Callable[[dict[str, Any]], None]:
    """A function that writes one JSON line to the runner; whatever else prints now goes to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(row: dict[str, Any]) -> None:
        out.write(json.dumps(row) + "\n")
        out.flush()

    return say


class Gate:
    """Stands between two training steps and lets through as many as the runner asks for."""

    def __init__(self, say: Callable[[dict[str, Any]], None], facts: dict[str, Any]) -> None:
        self._say, self._facts = say, facts
        self._warm = self._steps = self._done = self._images = 0
        self._began = (0.0, 0.0)
        self._open = False

    def begin(self) -> None:
        """Say that everything is built, and wait for the first order. Later calls do nothing."""
        if not self._open:
            self._open = True
            self._say({"ready": True, **self._facts})
            self._wait()

    def step(self, images: int, loss: Callable[[], float] | None = None) -> None:
        """One training step on so many images has been made; `loss` is asked once a run, outside the measurement."""
        if self._warm:
            self._warm -= 1
            if not self._warm:
                self._mark()
            return
        self._done += 1
        self._images += images
        if self._done < self._steps:
            return
        wall, cpu = time.perf_counter() - self._began[0], cpu_seconds() - self._began[1]
        row = {"steps": self._done, "images": self._images, "wall": wall, "cpu": cpu}
        self._say({**row, "loss": None if loss is None else float(loss())})
        self._wait()

    def _wait(self) -> None:
        order = sys.stdin.readline().split()
        if not order or order[0] == "quit":
            raise SystemExit(0)
        self._steps, self._warm = int(order[1]), int(order[2])
        self._done = self._images = 0
        if not self._warm:
            self._mark()

    def _mark(self) -> None:
        self._began = (time.perf_counter(), cpu_seconds())


class Watch:
    """Measures a whole training for the task `accuracy`: what of it is loading data is left out."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), cpu_seconds()

    def row(self, accuracy: float, **facts: Any) -> dict[str, Any]:
        """The answer of the task `accuracy`."""
        wall, cpu = time.perf_counter() - self.wall, cpu_seconds() - self.cpu
        return {"accuracy": accuracy, "wall": wall, "cpu": cpu, **facts}
