"""How many threads to compute with: timed, not guessed.

More threads are not always faster: on a busy machine, threads that wait for one another by spinning can be tens of
times slower than one. So a few steps are timed at each candidate count, interleaved, and the best is kept; and when
later steps become much slower than they were, it is asked again.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from statistics import median

import torch

WINDOW = 20  # steps whose median is compared
JUMP = 2.0  # how many times slower than the best window counts as a change of circumstances
MOST_STEPS = 10  # in one measurement
PAUSE = 60.0  # seconds between two calibrations, so that a busy machine is not asked all the time


def available_cores() -> int:
    """Cores this process may use: the affinity mask and, in a container, its CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return cores


def candidates(cores: int) -> list[int]:
    """Thread counts worth timing: one, half and all of the cores."""
    return sorted({1, max(1, cores // 2), cores})


def calibrate(
    step: Callable[[], object], cores: int, *, rounds: int = 3, budget: float = 6.0, least: float = 0.03
) -> dict[int, float]:
    """Seconds a step takes at each candidate thread count, the median over interleaved rounds.

    Args:
        step: one training step on a copy of the network, so that timing changes nothing.
        budget: seconds after which no further round is started.
        least: seconds that one measurement should take, of as many steps as that needs, at most `MOST_STEPS`.
    """
    timed: dict[int, list[float]] = {count: [] for count in candidates(cores)}
    before = torch.get_num_threads()
    started = time.perf_counter()
    try:
        steps = 1
        for count in timed:  # kernels are chosen and caches filled outside the measurement
            torch.set_num_threads(count)
            step()
            begin = time.perf_counter()
            step()
            steps = max(steps, min(MOST_STEPS, int(least / max(time.perf_counter() - begin, 1e-9))))
        for _ in range(rounds):
            for count, seconds in timed.items():
                torch.set_num_threads(count)
                begin = time.perf_counter()
                for _ in range(steps):
                    step()
                seconds.append((time.perf_counter() - begin) / steps)
            if time.perf_counter() - started > budget:
                break
    finally:
        torch.set_num_threads(before)
    return {count: median(seconds) for count, seconds in timed.items()}


class StepTimeWatch:
    """Notices when steps have become much slower than the best they were.

    >>> watch = StepTimeWatch(window=2, pause=0.0)
    >>> [watch.jumped(seconds, now) for now, seconds in enumerate([1.0, 1.0, 1.0, 3.0, 3.0])]
    [False, False, False, True, False]
    """

    def __init__(self, window: int = WINDOW, jump: float = JUMP, pause: float = PAUSE) -> None:
        self.jump, self.pause = jump, pause
        self.recent: deque[float] = deque(maxlen=window)
        self.best = float("inf")
        self.asked = float("-inf")

    def jumped(self, seconds: float, now: float) -> bool:
        """Whether the median of the last steps is `jump` times the best such median; at most once a `pause`."""
        self.recent.append(seconds)
        if len(self.recent) < (self.recent.maxlen or 0):
            return False
        level = median(self.recent)
        self.best = min(self.best, level)
        if level < self.jump * self.best or now - self.asked < self.pause:
            return False
        self.asked = now
        self.recent.clear()
        return True
