"""The process that runs runs: torch is imported once, then one task a line comes in and what happens goes out.

    python -m engram.study.worker        tasks and answers are JSON objects, one a line, on standard input and output

It ends when its input ends, so that it never outlives the study: a run that it is in then is saved first.
"""

import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
import tomllib
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from engram import recipe as recipes
from engram.errors import UserError
from engram.recipe import Recipe

PATIENCE = 60.0  # seconds that the process of a killed study may still hold a run for

Say = Callable[[Mapping[str, Any]], None]


def serve(tasks: TextIO, say: Say) -> None:
    """Do every task that comes until the input ends."""
    waiting: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=_read, args=(tasks, waiting, busy), daemon=True).start()
    while (task := waiting.get()) is not None:
        busy.set()
        say(_answer(task, say))
        busy.clear()


def _read(tasks: TextIO, waiting: "queue.SimpleQueue[dict[str, Any] | None]", busy: threading.Event) -> None:
    for line in tasks:
        waiting.put(json.loads(line))
    waiting.put(None)
    if busy.is_set():  # nobody is there to hear of this run any more: it saves its state and ends
        os.kill(os.getpid(), signal.SIGTERM)


def _answer(task: Mapping[str, Any], say: Say) -> dict[str, Any]:
    try:
        recipe = recipes.build(tomllib.loads(task["recipe"]))
        if task["kind"] == "inspect":
            from engram.study.pilot import inspect

            return {"event": "done", **inspect(recipe, timed=task["timed"])}
        return _run(recipe, task, say)
    except UserError as error:
        hints = {"allowed": error.allowed, "nearest": error.nearest, "then": error.then}
        return {"event": "refused", "message": error.given, **hints}
    except Exception as error:
        traceback.print_exc()
        return {"event": "failed", "message": f"{type(error).__name__}: {error}"}


def _run(recipe: Recipe, task: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Train the run, or go on with what an earlier process left of it."""
    from engram.study.session import StudySession
    from engram.training.train import resume, train

    def tell(row: Mapping[str, Any]) -> None:
        if row["event"] == "epoch":
            say({"event": "epoch", "epoch": row["epoch"]})

    path = Path(recipe.output)
    session = partial(StudySession, judged=task["judged"], test=task["test"])
    deadline = time.monotonic() + PATIENCE
    while (path / "recipe.toml").is_file():
        try:
            run = resume(path, sinks=[tell], session=session)
            return {"event": "done", "reason": run.reason}
        except UserError as error:
            if "is in use" in error.given and time.monotonic() < deadline:
                time.sleep(0.5)
                continue
            if "is in use" in error.given or "no space" in error.given:
                raise
        break  # stopped before it had a state, or its state is damaged: it is begun again
    if path.exists():
        shutil.rmtree(path)
    run = train(recipe, sinks=[tell], session=session)
    return {"event": "done", "reason": run.reason}


def main() -> None:
    """Answer on what was standard output; whatever else is printed goes to standard error.

    Tasks are read from a copy of standard input, which itself is closed: a process that is forked to decode pictures
    closes its standard input, and would wait for ever for the thread that was reading it.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    tasks = os.fdopen(os.dup(0), encoding="utf-8")
    sys.stdin.close()
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 (held open)

    def say(row: Mapping[str, Any]) -> None:
        print(json.dumps(dict(row)), file=answers, flush=True)

    import torch  # noqa: F401 (now, so that no run waits for it)

    serve(tasks, say)


if __name__ == "__main__":
    main()
