"""A run that is killed goes on as if nothing had happened: the weights are the same to the last bit."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from cli.commands import ENVIRONMENT, SHORT, engram, refused, start

pytestmark = pytest.mark.slow  # some seconds each

EVERYTHING = (
    *("--model", "mlp", "--model.drop", "0.3", "--model.batch_norm", "true", "--epochs", "4"),
    *("--augment", "crop:1,mixup:0.2", "--average", "0.9", "--accumulate", "2", "--save_every", "0"),
    *("--optimizer", "adamw", "--clip_norm", "1", "--label_smoothing", "0.1", "--device.threads", "1"),
)
"""Everything that draws at random or carries something from step to step."""


def test_killed_at_any_moment_and_resumed_gives_the_same_weights(tmp_path):
    assert start("train", *EVERYTHING, "--output", "whole", cwd=tmp_path).returncode == 0
    command = [sys.executable, "-m", "engram", "train", *EVERYTHING, "--output", "killed"]
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    state = tmp_path / "killed" / "state" / "last.pt"
    seen = set()
    kills = 0
    while kills < 3:  # at the start, somewhere, somewhere later: wherever it happens to be
        deadline = time.monotonic() + 60
        while len(seen) < (3, 12, 20)[kills] and process.poll() is None and time.monotonic() < deadline:
            if state.exists():
                seen.add(state.stat().st_mtime_ns)
            time.sleep(0.001)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        command = [sys.executable, "-m", "engram", "resume", "killed"]
        if kills < 3:
            process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    assert kills >= 1, "it was never killed"
    done = start("resume", "killed", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for which in ("last", "best"):
        whole, killed = (load_file(tmp_path / run / "weights" / f"{which}.safetensors") for run in ("whole", "killed"))
        assert whole.keys() == killed.keys()
        for name in whole:
            np.testing.assert_array_equal(whole[name], killed[name], err_msg=f"{which} {name}")
    rows = [json.loads(line) for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    epochs = [row["epoch"] for row in rows if row["event"] == "epoch"]
    assert epochs == [1, 2, 3, 4]  # each said once, however often it was computed
    own = ("last.pt", "trajectory.safetensors")
    assert not [name for name in os.listdir(tmp_path / "killed" / "state") if name not in own and "tmp" not in name]


def test_a_signal_saves_and_says_how_to_go_on(tmp_path):
    command = [sys.executable, "-m", "engram", "train", *SHORT, "--epochs", "500", "--output", "run"]
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and '"step"' in metrics.read_text()):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "engram resume run" in printed
    assert "report.html" in printed
    assert (tmp_path / "run" / "report.html").is_file()
    last = json.loads(metrics.read_text().splitlines()[-1])
    assert last["reason"] == "interrupted"
    resumed = engram("resume", "run", "--epochs", "1", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr


def test_a_finished_run_can_be_made_longer(tmp_path):
    assert engram("train", *SHORT, "--epochs", "1", "--output", "run", cwd=tmp_path).returncode == 0
    done = engram("resume", "run", "--epochs", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on at step" in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if row["event"] == "epoch"] == [1, 2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    assert engram("train", *SHORT, "--output", "run", cwd=folder).returncode == 0
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of a finished run, to be damaged."""
    import shutil

    shutil.copytree(finished / "run", tmp_path / "run")
    return tmp_path


def contents(folder):
    return {path.name: path.read_bytes() for path in (folder / "run" / "weights").iterdir()}


def test_what_it_is_trained_on_cannot_change(run):
    message = refused("resume", "run", "--data", "mnist", cwd=run)
    assert "data cannot change when a run is resumed" in message


def test_no_run_there(run):
    assert "absent is not a run folder" in refused("resume", "absent", cwd=run)


def test_a_state_cut_in_half(run):
    before = contents(run)
    state = run / "run" / "state" / "last.pt"
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    assert "last.pt is damaged or cut short" in refused("resume", "run", cwd=run)
    assert contents(run) == before
    assert engram("evaluate", "run", cwd=run).returncode == 0  # the weights still serve


def test_a_hostile_state_never_runs(run):
    import pickle
    import zipfile

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {run}/owned",)

    state = run / "run" / "state" / "last.pt"
    for as_zip in (False, True):
        if as_zip:
            with zipfile.ZipFile(state, "w") as archive:
                archive.writestr("last/data.pkl", pickle.dumps({"version": 1, "net": Hostile()}))
                archive.writestr("last/version", "3")
                archive.writestr("last/byteorder", "little")
        else:
            state.write_bytes(pickle.dumps(Hostile()))
        message = refused("resume", "run", cwd=run)
        assert "it was not run" in message
        assert not (run / "owned").exists()


def test_a_state_of_another_network(run):
    recipe = run / "run" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('name = "mlp"', 'name = "mlp"\nwidths = [7]'))
    assert "is not a state of this network" in refused("resume", "run", cwd=run)


def test_weights_of_another_network_or_damaged(run):
    weights = run / "run" / "weights" / "best.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    assert "is damaged or no safetensors file" in refused("evaluate", "run", cwd=run)
    weights.write_bytes(content.replace(b"mlp", b"mlx"))
    assert "did you mean: mlp" in refused("predict", "run", "any.png", cwd=run)
