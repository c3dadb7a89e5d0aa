"""The processes that run a study's runs side by side, each with the same number of threads.

Together they have no more threads than there are cores, so that no arm is slowed by another. They are started anew, not
forked, and kept over runs. In a session of their own, they do not hear Ctrl-C: the study asks them to stop, each saves
the state of its run, and the study can be gone on with.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import IO, Any

Message = dict[str, Any]
GRACE = 30.0  # seconds in which a run must have saved its state


class Worker:
    """One process, and the task that it is at."""

    def __init__(self, threads: int, answers: "queue.SimpleQueue[tuple[Worker, Message]]") -> None:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
        self.complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engram.study.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            env={**os.environ, **dict.fromkeys(names, str(threads))},
            start_new_session=True,
            text=True,
        )
        self.task: int | None = None
        self.reader = threading.Thread(target=self._read, args=(answers,), daemon=True)
        self.reader.start()

    def give(self, number: int, task: Mapping[str, Any]) -> None:
        self.task = number
        with contextlib.suppress(OSError):  # it may be gone; its reader says so
            _pipe(self.process.stdin).write(json.dumps(dict(task)) + "\n")
            _pipe(self.process.stdin).flush()

    def stop(self) -> None:
        """Ask it to save its run and end; without a run it ends by itself."""
        if self.process.poll() is None and self.task is not None:
            self.process.send_signal(signal.SIGTERM)

    def close(self, deadline: float) -> None:
        """End it, by force after the deadline."""
        with contextlib.suppress(OSError):  # it may be gone
            _pipe(self.process.stdin).close()
        try:
            self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        _pipe(self.process.stdout).close()
        self.complaints.close()

    def last_words(self) -> str:
        """How it ended, and the last line that it complained with."""
        code = self.process.wait()
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        self.complaints.seek(0)
        lines = self.complaints.read().decode(errors="replace").strip().splitlines()
        memory = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"the process of this run {ended}{memory}" + (f": {lines[-1]}" if lines else "")

    def _read(self, answers: "queue.SimpleQueue[tuple[Worker, Message]]") -> None:
        for line in _pipe(self.process.stdout):
            answers.put((self, json.loads(line)))
        answers.put((self, {"event": "gone"}))


class Workers:
    """As many processes as there are jobs, started when there are tasks for them."""

    def __init__(self, jobs: int, threads: int) -> None:
        self.jobs, self.threads = jobs, threads
        self.answers: queue.SimpleQueue[tuple[Worker, Message]] = queue.SimpleQueue()
        self.there: list[Worker] = []

    def do(self, tasks: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Message]]:
        """Every message of every task as it comes, with the task's number; the last of each is no `epoch`.

        A process that dies fails its task, and another takes its place.
        """
        left = list(enumerate(tasks))[::-1]
        for worker in self.there:
            if left:
                worker.give(*left.pop())
        while len(self.there) < self.jobs and left:
            self._start(*left.pop())
        while any(worker.task is not None for worker in self.there):
            worker, message = self.answers.get()
            if worker not in self.there:
                continue
            number = worker.task
            if message["event"] == "gone":
                self.there.remove(worker)
                message = {"event": "failed", "message": worker.last_words()}
                worker.close(time.monotonic())
                if left:
                    self._start(*left.pop())
            elif message["event"] != "epoch":
                worker.task = None
                if left:
                    worker.give(*left.pop())
            if number is not None:
                yield number, message

    def stop(self) -> None:
        """Ask every run to save its state and end."""
        for worker in self.there:
            worker.stop()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        deadline = time.monotonic() + GRACE
        self.stop()
        for worker in self.there:
            worker.close(deadline)

    def _start(self, number: int, task: Mapping[str, Any]) -> None:
        worker = Worker(self.threads, self.answers)
        self.there.append(worker)
        worker.give(number, task)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise ValueError("the process has no such pipe")
    return pipe
