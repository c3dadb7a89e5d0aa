"""`engram examine RUN --cells`: what it prints, what it writes, and what it refuses."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engram import recipe as recipes
from engram.cli import app, cells
from engram.errors import UserError
from engram.models.char_rnn import char_lstm
from engram.report import run_folder
from engram.text.vocabulary import Characters
from engram.training import weights

WORDS = ["yes", "but not now", "or", "never", "if ever there was one", "so be it"]
DRAWN = np.random.default_rng(0).choice(WORDS, (120, 3))
TEXT = "".join(f"ANNA:\nNo, {one} {two} (or {three}).\n\n" for one, two, three in DRAWN)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of task write as training leaves it, untrained; told on a screen wide enough for the whole table."""
    monkeypatch.setenv("COLUMNS", "140")
    text = tmp_path / "play.txt"
    text.write_text(TEXT, encoding="utf-8")
    letters = Characters.of(TEXT)
    torch.manual_seed(0)
    folder = tmp_path / "run"
    (folder / "weights").mkdir(parents=True)
    description = weights.Description(
        model="char_lstm", settings={"hidden_size": 6, "depth": 2}, classes=(), shape=(), stored_shape=(), mean=(),
        std=(), task="write", vocabulary=letters.to_dict(),
    )  # fmt: skip
    net = char_lstm(len(letters), hidden_size=6, depth=2)
    weights.save(net, description, folder / "weights" / "best.safetensors")
    recipe = recipes.of_task("write")
    recipe = replace(recipe, data=replace(recipe.data, path=str(text), validation=0.5))
    (folder / "recipe.toml").write_text(recipes.dumps(recipe), encoding="utf-8")
    (folder / "metrics.jsonl").write_text('{"event": "step", "step": 40}\n')
    return folder


def test_cells_are_ranked_and_the_passage_is_marked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.dispatch(["examine", str(run), "--cells"]) == 0
    said = capsys.readouterr().out
    assert "LSTM, 2 layers of 6 units; read" in said
    assert "the held-out part of play.txt" in said
    assert re.search(r"\d+ of 12 cells follow none of these measurably", said)
    assert re.search(r"^after a newline +layer \d, cell \d", said, re.MULTILINE)
    lines = said.splitlines()
    at = next(place for place, line in enumerate(lines) if line.endswith(").↵"))
    assert set(lines[at + 1].strip()) <= set(cells.MARKS)
    assert len(lines[at + 1]) == len(lines[at])
    told = json.loads((run / "probes" / "cells.json").read_text(encoding="utf-8"))
    assert told["step"] == 40
    assert said.count("follows ") >= len(told["shown"])
    page = run_folder.read(run)
    assert page.cells["told"] == told
    assert page.notes == ()


def test_another_text_is_read_where_it_is_given(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = run.parent / "other.txt"
    other.write_text(TEXT.replace("ANNA", "NANA")[:2000], encoding="utf-8")
    assert app.dispatch(["examine", str(run), "--cells", "--data", str(other), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "NANA" in "".join(told["passage"])
    assert told["read"] < 2000


def test_what_has_no_cells_is_refused(run: Path) -> None:
    with pytest.raises(UserError, match="run's folder"):
        cells.show(run.parent, None)
    path = run / "weights" / "best.safetensors"
    net, description = weights.load(path)
    weights.save(net, replace(description, task="classify"), path)
    with pytest.raises(UserError):
        cells.show(run, None)


@pytest.mark.parametrize(("text", "message"), [("zebra {}", "lacks"), ("No", "too short"), ("", "empty")])
def test_a_text_that_cannot_be_read_is_refused(run: Path, text: str, message: str) -> None:
    other = run.parent / "other.txt"
    other.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        cells.show(run, str(other))
    (run.parent / "play.txt").unlink()
    with pytest.raises(UserError, match="--data FILE"):
        cells.show(run, None)


def test_a_terminal_gets_colours() -> None:
    shown = cells._coloured("ab↵", [1.0, 0.0, -1.0])
    assert shown.plain == "  ab↵"
    assert [(span.start, span.style) for span in shown.spans] == [(2, cells.COLOURS[4]), (4, cells.COLOURS[0])]
