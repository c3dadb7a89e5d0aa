"""How the runner drives a program: a line "STEPS WARM" in, a line of JSON out, as long as lines come.

The program trains in its own loop and calls `Turns.step` after every step; that returns at once while steps are left,
otherwise answers and waits. So all programs can be started first and then take turns, and none is measured while it
starts or warms up.
"""

import json
import os
import sys
import time
from typing import Any


class Turns:
    """Lets through as many steps as the runner asks for. What else is printed goes to stderr."""

    def __init__(self, tokens: int, facts: dict[str, Any]) -> None:
        self.tokens, self.out = tokens, os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._say({"ready": True, **facts})
        self._wait()

    def step(self, loss: float) -> None:
        """One step has been made."""
        if self.warm:
            self.warm -= 1
            if not self.warm:
                self.began = (time.perf_counter(), time.process_time())
            return
        self.left -= 1
        if self.left:
            return
        wall, cpu = time.perf_counter() - self.began[0], time.process_time() - self.began[1]
        self._say({"tokens": self.steps * self.tokens, "wall": wall, "cpu": cpu, "loss": loss})
        self._wait()

    def _wait(self) -> None:
        words = sys.stdin.readline().split()
        if not words:
            raise SystemExit(0)
        self.steps, self.warm = int(words[0]), int(words[1])
        self.left = self.steps
        self.began = (time.perf_counter(), time.process_time())

    def _say(self, row: dict[str, Any]) -> None:
        self.out.write(json.dumps(row) + "\n")
        self.out.flush()
