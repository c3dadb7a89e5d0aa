"""A second process that rewrites `report.html` while training runs, so that an open page is a live page.

    python -m engram.report.live RUNFOLDER PARENT_PID

It has the lowest priority and takes at most a twentieth of a core. It ends with the training process, or after the end
event; the last page, with the evaluation, is written by training itself. Whatever goes wrong here is said on standard
error and never reaches the run.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from engram import atomic
from engram.report import page, run_folder, zoom

PAUSE = 5.0
"""Seconds between two pages, at least."""
SHARE = 20
"""Times its own rendering time that it waits at least."""
LAST_WORD = 600.0
"""Seconds after the end event that it waits for training to write the last page, before it does so itself."""


class Live:
    """The process that `start` started. `stop` ends it and returns when it is gone, so that no late page comes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def stop(self) -> None:
        """End it; doing so twice does no harm."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


def start(folder: str | Path) -> Live:
    """Rewrite the report of a run folder from now on, in a process of its own that ends with this one."""
    command = [sys.executable, "-m", "engram.report.live", str(folder), str(os.getpid())]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    return Live(
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **threads},
            start_new_session=True,  # Ctrl-C is for the training process, which then stops this one
        )
    )


def follow(folder: Path, parent: int, *, pause: float = PAUSE) -> None:
    """Rewrite the report whenever `metrics.jsonl` has changed, until the run ends or the process `parent` is gone."""
    seen: object = "never"
    complaints: set[str] = set()
    while True:
        began = time.monotonic()
        gone = not exists(parent)
        stamp = _stamp(folder / "metrics.jsonl")
        if gone or stamp != seen:
            seen = stamp
            try:
                if not rewrite(folder, alive=not gone):
                    return _leave_the_last_word(folder, parent, pause)
                zoom.bundle()  # made here once, so that the last page need not wait for it
            except Exception as error:
                complaint = f"engram: the live report: {type(error).__name__}: {error}"
                if complaint not in complaints:  # once, or a lasting fault would fill the console
                    complaints.add(complaint)
                    print(complaint, file=sys.stderr, flush=True)
        if gone:
            return None
        time.sleep(max(pause, SHARE * (time.monotonic() - began)))


def rewrite(folder: Path, *, alive: bool) -> bool:
    """Write the page of a run that goes on, or was killed. False: the run has ended, and nothing is written."""
    run = run_folder.read(folder, alive=alive)
    if run.end is None:
        drawn = page.render(run)
        if not run_folder.has_ended(folder):  # it may have while this was drawn, and the last page is not ours
            atomic.write(folder / "report.html", drawn)
            return True
    return False


def exists(process: int) -> bool:
    """Whether a process of that number runs."""
    if process == os.getppid() or sys.platform == "win32":  # Windows has no question there that does no harm
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _leave_the_last_word(folder: Path, parent: int, pause: float) -> None:
    """Training writes the last page itself, once it has evaluated; if it dies before, the page is written here."""
    ended = _stamp(folder / "metrics.jsonl") or (0, 0)
    until = time.monotonic() + LAST_WORD
    while exists(parent) and time.monotonic() < until:
        if (_stamp(folder / "report.html") or (0, 0)) >= ended:
            return
        time.sleep(pause)
    page.write(folder)


def _stamp(path: Path) -> tuple[int, int] | None:
    """When a file was last changed and how long it is, None where it is not there yet."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def main(folder: str, parent: str) -> None:
    """Run until there is nothing more to do, out of the way of everything else."""
    signal.signal(signal.SIGTERM, _end)
    if hasattr(os, "nice"):
        os.nice(19)
    follow(Path(folder), int(parent))


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)  # an exception, so that a file half written is cleared away


if __name__ == "__main__":
    main(*sys.argv[1:3])
