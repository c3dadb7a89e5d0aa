"""The process that rewrites the report: in time, out of the way, and never in the way of the last page."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engram.report import live, page, run_folder

Make = Callable[..., Path]
END = {"event": "end", "reason": "finished", "step": 276, "seconds": 60.0, "message": ""}


def append(folder: Path, event: dict) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n")


def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def running(tmp_path: Path, make_run: Make) -> Path:
    return make_run(tmp_path / "run", end=None, epochs=2, total_epochs=12)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without charts, and no pauses to speak of."""
    monkeypatch.setattr(live, "SHARE", 0)
    monkeypatch.setattr(page, "render", lambda run: f"{run.state}: {run.step}")


def in_thread(folder: Path, parent: int) -> threading.Thread:
    thread = threading.Thread(target=live.follow, args=(folder, parent), kwargs={"pause": 0.01}, daemon=True)
    thread.start()
    return thread


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_process_writes_a_live_page_and_is_gone_when_stopped(running: Path) -> None:
    report = running / "report.html"
    handle = live.start(running)
    try:
        until(report.exists, 60)
        assert os.getpriority(os.PRIO_PROCESS, handle.process.pid) == 19
        assert os.getsid(handle.process.pid) != os.getsid(0)  # Ctrl-C does not reach it
        assert 'http-equiv="refresh"' in report.read_text()
    finally:
        handle.stop()
        handle.stop()
    assert handle.process.returncode is not None
    assert not list(running.glob(".*.tmp"))


def test_it_ends_with_a_parent_that_is_gone_and_says_that_the_run_was_killed(running: Path) -> None:
    command = [sys.executable, "-m", "engram.report.live", str(running), str(dead_process())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (running / "report.html").read_text()
    assert "No news" in text
    assert 'http-equiv="refresh"' not in text


@pytest.mark.usefixtures("quick")
def test_every_change_is_a_new_page_and_nothing_else_is(running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(page, "render", lambda run: drawn.append(run.step) or f"{run.step}")
    report = running / "report.html"
    thread = in_thread(running, os.getpid())
    until(lambda: report.exists() and report.read_text() == "46")
    time.sleep(0.2)
    append(running, {"event": "step", "step": 47, "loss": 1.0})
    until(lambda: report.read_text() == "47")
    assert drawn == [46, 47]
    append(running, END)
    report.write_text("the last page, by training")
    thread.join(10)
    assert not thread.is_alive()
    assert report.read_text() == "the last page, by training"


@pytest.mark.usefixtures("quick")
def test_a_run_that_ends_while_its_page_is_drawn_keeps_its_last_page(
    running: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (running / "report.html").write_text("the last page")
    monkeypatch.setattr(page, "render", lambda run: append(running, END) or "late")
    assert live.rewrite(running, alive=True) is False
    assert (running / "report.html").read_text() == "the last page"


@pytest.mark.usefixtures("quick")
def test_where_training_died_after_its_end_the_last_page_is_written_here(running: Path) -> None:
    append(running, END)
    live.follow(running, dead_process(), pause=0.01)
    assert (running / "report.html").read_text() == "finished: 276"


@pytest.mark.usefixtures("quick")
def test_a_fault_is_said_once_and_it_goes_on(
    running: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def render(run: run_folder.Run) -> str:
        seen.append(run.step)
        if run.step < 49:
            raise ValueError("no page today")
        return "again"

    monkeypatch.setattr(page, "render", render)
    thread = in_thread(running, os.getpid())
    for step in (47, 48, 49):
        append(running, {"event": "step", "step": step})
        until(lambda step=step: seen[-1:] == [step])
    until((running / "report.html").exists)
    assert (running / "report.html").read_text() == "again"
    append(running, END)
    (running / "report.html").write_text("the last page, by training")
    thread.join(10)
    assert not thread.is_alive()
    assert capfd.readouterr().err == "engram: the live report: ValueError: no page today\n"


@pytest.mark.parametrize(("cost", "pause"), [(0.1, 5.0), (0.25, 5.0), (2.0, 40.0)])
def test_it_takes_at_most_a_twentieth_of_a_core(
    running: Path, monkeypatch: pytest.MonkeyPatch, cost: float, pause: float
) -> None:
    now = [100.0]
    paused: list[float] = []

    def render(run: run_folder.Run) -> str:
        now[0] += cost
        return ""

    def sleep(seconds: float) -> None:
        paused.append(seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "render", render)
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(live.time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        live.follow(running, os.getpid())
    assert paused == [pytest.approx(pause)]


def test_a_process_that_runs_exists_and_one_that_ended_does_not() -> None:
    assert live.exists(os.getpid())
    assert live.exists(os.getppid())
    assert live.exists(1)
    assert not live.exists(dead_process())
