"""The run folder: where everything about one run lies, so that it can be told, shown, resumed and repeated.

    recipe.toml command.txt environment.json card.json network.json metrics.jsonl findings.json
    weights/{best,last}.safetensors state/last.pt evaluation/ pictures/ probes/ report.html

Files are replaced in one step or appended a line at a time, so that a killed run leaves a folder that can go on.
"""

import contextlib
import errno
import json
import os
import shlex
import sys
import time
import weakref
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from engram import atomic, recipe
from engram.errors import UserError
from engram.recipe import Recipe

try:
    import fcntl
except ImportError:  # Windows has no advisory locks; there, two runs in one folder are not noticed
    fcntl = None  # type: ignore[assignment]


class RunFolder:
    """A run folder held by this process. Use it as a context: leaving it releases the folder.

    Raises:
        UserError: the folder cannot be written, is held by another process, or already holds a run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made: list[Path] = []  # parents that were not there before
        self._lock: int | None = None
        self._metrics: Any = None

    @classmethod
    def create(cls, path: Path, settings: Recipe) -> "RunFolder":
        """A new run: the folder with its recipe and command, before anything else is done."""
        if (path / "recipe.toml").exists():
            raise UserError(
                f"{path} already holds a run",
                allowed="a new or empty folder",
                then=f"engram resume {shlex.quote(str(path))}",
            )
        if path.is_dir() and any(path.iterdir()):
            raise UserError(f"{path} is not empty and holds no run", allowed="a new or empty folder")
        folder = cls(path)
        folder._made = [parent for parent in path.parents if not parent.exists()]
        try:
            for part in ("weights", "state", "pictures", "evaluation"):
                (path / part).mkdir(parents=True, exist_ok=True)
            folder.lock()
            atomic.write(path / "recipe.toml", recipe.dumps(settings))
            atomic.write(path / "command.txt", shlex.join(sys.argv) + "\n")
        except OSError as error:
            raise unwritable(path, error) from None
        return folder

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """An existing run, to go on with."""
        if not (path / "recipe.toml").is_file():
            raise UserError(f"{path} is not a run folder: it holds no recipe.toml", then="ls runs/")
        folder = cls(path)
        try:
            folder.lock()
        except OSError as error:
            raise unwritable(path, error) from None
        return folder

    def go_on(self, settings: Recipe) -> None:
        """Keep the recipe with which an existing run goes on, and add the command to those that made it."""
        try:
            atomic.write(self.path / "recipe.toml", recipe.dumps(settings))
            with open(self.path / "command.txt", "a", encoding="utf-8") as file:
                file.write(shlex.join(sys.argv) + "\n")
        except OSError as error:
            raise unwritable(self.path, error) from None

    def lock(self) -> None:
        """Hold the folder until the process ends; the lock goes with the process, however it ends."""
        self._lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        if fcntl is None:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._lock, 32).decode(errors="replace").strip() or "unknown"
            self.release()
            raise UserError(
                f"{self.path} is in use by another run (process {holder})",
                then="wait for it, or give another folder with --output",
            ) from None
        os.ftruncate(self._lock, 0)
        os.write(self._lock, str(os.getpid()).encode())
        _held.add(self)

    def discard(self) -> None:
        """Take back what `create` made, when nothing could be assembled from the recipe."""
        for part in ("weights", "state", "pictures", "evaluation"):
            (self.path / part).rmdir()
        for name in ("recipe.toml", "command.txt", ".lock"):
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody may have put something there meanwhile
            self.path.rmdir()
            for parent in self._made:
                parent.rmdir()

    def release(self) -> None:
        """Let the folder go."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def append(self, row: dict[str, Any]) -> None:
        """One more line of metrics.jsonl, on disk for every reader at once."""
        if self._metrics is None:
            self._metrics = open(self.path / "metrics.jsonl", "a", encoding="utf-8")  # noqa: SIM115 (held open)
        self._metrics.write(json.dumps(row, allow_nan=True) + "\n")
        self._metrics.flush()

    def rows(self) -> list[dict[str, Any]]:
        """Every whole line of metrics.jsonl; a last line cut by a kill is left out."""
        try:
            lines = (self.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        rows = []
        for line in lines:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return rows

    def rewind(self, step: int, judged: int | None = None) -> None:
        """Drop what metrics.jsonl says of steps after `step` and of an earlier end: they will be said again.

        Args:
            judged: the step at which a pass was measured last, where that is not known to be `step`.
        """
        last = {"end": -1, "epoch": step if judged is None else judged}
        kept = [row for row in self.rows() if row.get("step", 0) <= last.get(row.get("event", ""), step)]
        atomic.write(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept))

    def write_json(self, name: str, content: Any) -> None:
        """A JSON file of the folder, replaced in one step."""
        atomic.write(self.path / name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def default_path(settings: Recipe, root: Path = Path("runs")) -> Path:
    """`runs/<date>-<model>-<data>`, with a number behind it when that is taken."""
    stamp = datetime.fromtimestamp(time.time()).strftime("%Y-%m-%d_%H-%M-%S")
    model = Path(settings.model.name.replace(":", "-")).name.replace(".py", "")
    data = Path(settings.data.path).resolve().name if os.sep in settings.data.path else settings.data.path
    base = root / f"{stamp}-{model}-{data or 'data'}"
    path, number = base, 2
    while path.exists():
        path, number = Path(f"{base}-{number}"), number + 1
    return path


def unwritable(path: Path, error: OSError) -> UserError:
    """The error for a folder that cannot be written, in words."""
    if error.errno == errno.ENOSPC:
        return UserError(f"no space left for {path}", then="free some space, or give another disk with --output")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return UserError(f"{path} cannot be written: {error.strerror}", then="give another folder with --output")
    return UserError(f"{path} cannot be used: {error.strerror or error}", then="give another folder with --output")


_held: "weakref.WeakSet[RunFolder]" = weakref.WeakSet()


def _let_go() -> None:
    """In a forked process: a data worker that outlives a killed run would hold its folder for seconds more."""
    for folder in list(_held):
        if folder._lock is not None:
            os.close(folder._lock)
            folder._lock = None


if fcntl is not None:
    os.register_at_fork(after_in_child=_let_go)
