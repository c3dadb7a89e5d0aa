"""The run folder: made first, held while it is used, and readable after any kind of end."""

import errno
import json
import os
from pathlib import Path

import pytest

from engram.errors import UserError
from engram.recipe import build, load
from engram.training.run import RunFolder, default_path


def test_the_recipe_is_there_first(tmp_path):
    recipe = build({"epochs": 3})
    with RunFolder.create(tmp_path / "run", recipe) as folder:
        assert load(folder.path / "recipe.toml") == recipe
        assert (folder.path / "command.txt").read_text().strip()
    assert (tmp_path / "run").is_dir()


def test_a_discarded_folder_leaves_nothing(tmp_path):
    with RunFolder.create(tmp_path / "run", build({})) as folder:
        folder.discard()
    assert not (tmp_path / "run").exists()


def test_a_folder_is_held_and_let_go(tmp_path):
    with RunFolder.create(tmp_path / "run", build({})), pytest.raises(UserError, match="in use by another run"):
        RunFolder.open(tmp_path / "run")
    RunFolder.open(tmp_path / "run").release()


def test_a_data_worker_that_outlives_its_run_does_not_hold_the_folder(tmp_path):
    folder = RunFolder.create(tmp_path / "run", build({}))
    begun, told = os.pipe()
    over, tell = os.pipe()
    worker = os.fork()
    if worker == 0:  # goes on after the run has ended, as a worker does that has not noticed yet
        os.close(tell)
        os.write(told, b"1")
        os.read(over, 1)
        os._exit(0)
    os.close(over)
    os.read(begun, 1)
    with pytest.raises(UserError, match="in use"):  # the fork has let go, the run has not
        RunFolder.open(tmp_path / "run")
    folder.release()
    RunFolder.open(tmp_path / "run").release()
    os.close(tell)
    os.waitpid(worker, 0)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EROFS, "cannot be written: Read-only file system"),
        (errno.EACCES, "cannot be written: Permission denied"),
        (errno.ENOSPC, "no space left for"),
        (errno.ENOTDIR, "cannot be used"),
    ],
)
def test_a_folder_that_cannot_be_written_says_why_and_what_to_do(tmp_path, monkeypatch, number, said):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=said) as caught:
        RunFolder.create(tmp_path / "run", build({}))
    assert "--output" in str(caught.value)


def test_a_longer_recipe_is_kept_for_the_next_time(tmp_path):
    with RunFolder.create(tmp_path / "run", build({"epochs": 1})) as folder:
        folder.go_on(build({"epochs": 2}))
    assert load(tmp_path / "run" / "recipe.toml").training.epochs == 2
    assert len((tmp_path / "run" / "command.txt").read_text().splitlines()) == 2


def test_what_is_not_a_run_is_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="not empty and holds no run"):
        RunFolder.create(tmp_path / "mine", build({}))
    with pytest.raises(UserError, match="is not a run folder"):
        RunFolder.open(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "precious"


def test_rows_survive_a_line_cut_by_a_kill_and_are_rewound_to_a_step(tmp_path):
    with RunFolder.create(tmp_path / "run", build({})) as folder:
        for row in ({"event": "start"}, *({"event": "step", "step": step} for step in (1, 2, 3))):
            folder.append(row)
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"event": "step", "st')
    with RunFolder.open(tmp_path / "run") as folder:
        assert [row.get("step") for row in folder.rows()] == [None, 1, 2, 3]
        folder.rewind(2)
        folder.append({"event": "resumed", "step": 2})
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["start", "step", "step", "resumed"]


def test_default_names_say_what_it_is_and_are_never_taken(tmp_path):
    recipe = build({"model": "mlp", "data": "some/photos/"})
    first = default_path(recipe, tmp_path)
    assert first.name.endswith("-mlp-photos")
    first.mkdir()
    second = default_path(recipe, tmp_path)
    assert second != first
    assert default_path(build({"model": "./mine.py:net"}), tmp_path).name.endswith("-mine-net-digits")
