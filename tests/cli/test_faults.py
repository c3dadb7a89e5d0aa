"""Faults a run must meet: each says what was wrong and what to do, and nothing that was saved is lost."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from cli.commands import ENVIRONMENT, SHORT, engram, refused, start


def test_unknown_settings_and_names_offer_the_nearest(tmp_path):
    assert "did you mean: epochs" in refused("train", "--epocs", "3", cwd=tmp_path)
    assert "did you mean: resnet20" in refused("train", "--model", "resnet21", cwd=tmp_path)
    assert "did you mean: adam" in refused("train", "--optimizer", "adm", cwd=tmp_path)
    assert "did you mean: weight_decay" in refused("train", "--optimizer.weight_decai", "3", cwd=tmp_path)
    assert "did you mean: flip" in refused("train", "--augment", "crop:4,flop", cwd=tmp_path)
    assert 'Did you mean "train"?' in refused("trian", cwd=tmp_path)
    assert "clip_norm does not go with lbfgs" in refused(
        "train", "--optimizer", "lbfgs", "--clip_norm", 1, cwd=tmp_path
    )
    assert not (tmp_path / "runs").exists()  # a typo leaves no run behind


@pytest.mark.parametrize(("verb", "words"), [("train", ()), ("resume", ("runs/any",))])
def test_mistyped_options_offer_the_nearest_and_the_verb_s_own_help(tmp_path, verb, words):
    message = refused(verb, *words, "--tensorbord", "there", cwd=tmp_path)
    assert f"engram {verb}: there is no setting 'tensorbord'" in message
    assert "did you mean: tensorboard" in message
    assert f"next: engram {verb} --help lists them" in message


def test_a_recipe_with_an_unknown_key_or_a_wrong_type(tmp_path):
    (tmp_path / "mine.toml").write_text("[training]\nepochs = 'many'\n")
    assert "training.epochs is a number, not 'many'" in refused("train", "--recipe", "mine.toml", cwd=tmp_path)
    (tmp_path / "mine.toml").write_text("[trainin]\nepochs = 3\n")
    assert "did you mean" in refused("train", "--recipe", "mine.toml", cwd=tmp_path)


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").write_text("precious")
    message = refused("train", *SHORT, "--output", "run", cwd=tmp_path)
    assert "already holds a run" in message
    assert "engram resume run" in message
    assert (tmp_path / "run" / "recipe.toml").read_text() == "precious"


def test_two_runs_in_one_folder(tmp_path):
    command = [sys.executable, "-m", "engram", "train", *SHORT, "--epochs", "500", "--output", "run"]
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    try:
        while not (tmp_path / "run" / "state" / "last.pt").exists():
            time.sleep(0.05)
            assert process.poll() is None
        message = refused("resume", "run", cwd=tmp_path)
        assert f"in use by another run (process {process.pid})" in message
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "cannot be written" in refused("train", *SHORT, "--output", "locked/run", cwd=tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "file/run cannot be used" in refused("train", *SHORT, "--output", "file/run", cwd=tmp_path)


def test_no_space_left(tmp_path):
    """Files of this process may grow to 100 kB only: the system refuses what goes beyond, as a full disk does."""
    program = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from engram.cli.app import main\n"
        "main(sys.argv[1:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "train", *SHORT, "--output", "run"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "no space left for run" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [name for name in os.listdir(tmp_path / "run" / "weights") if name.endswith(".tmp")]


def test_a_loss_that_becomes_nan_keeps_the_last_good_weights(tmp_path):
    from safetensors.numpy import load_file

    words = ("--optimizer", "sgd", "--optimizer.lr", "1e30", "--save_every", "0", "--output", "run")
    done = engram("train", *SHORT, *words, cwd=tmp_path)
    assert done.returncode == 1
    assert "at step" in done.stdout
    assert "--optimizer.lr 1e+29" in done.stdout
    assert "engram resume run" in done.stdout
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["reason"] == "not_finite"
    kept = load_file(tmp_path / "run" / "weights" / "last.safetensors")
    assert all(np.isfinite(values).all() for values in kept.values())


def test_nan_in_inputs_is_found_before_training(tmp_path):
    x = np.zeros((40, 2, 16), np.float32)
    x[7, 0, 3] = np.nan
    np.savez(tmp_path / "signals.npz", x=x, y=np.arange(40) % 2)
    assert "7" in refused("train", "--data", "signals.npz", "--model", "mlp", cwd=tmp_path)


def test_labels_out_of_range_and_one_class_only(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8), np.uint8)
    np.savez(tmp_path / "negative.npz", x=images, y=np.arange(40) % 3 - 1)
    assert "-1" in refused("train", "--data", "negative.npz", cwd=tmp_path)
    np.savez(tmp_path / "one.npz", x=images, y=np.zeros(40, np.int64))
    assert "one class" in refused("train", "--data", "one.npz", cwd=tmp_path)


def test_data_that_is_not_there_or_holds_no_classes(tmp_path):
    assert "absent" in refused("train", "--data", "absent", cwd=tmp_path)
    (tmp_path / "empty").mkdir()
    refused("train", "--data", "empty", cwd=tmp_path)
    (tmp_path / "flat").mkdir()
    from PIL import Image

    for index in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / "flat" / f"{index}.png")
    assert "subfolder" in refused("train", "--data", "flat", cwd=tmp_path)


def test_unreadable_files_are_named_and_left_out(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(12):
            pixels = rng.integers(0, 255, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    (tmp_path / "photos" / "cats" / "empty.jpg").touch()
    (tmp_path / "photos" / "dogs" / "text.png").write_text("no image at all")
    whole = (tmp_path / "photos" / "dogs" / "3.png").read_bytes()
    (tmp_path / "photos" / "dogs" / "half.png").write_bytes(whole[: len(whole) // 2])
    done = engram("train", "--data", "photos", *SHORT, "--output", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "run" / "card.json").read_text()
    for name in ("empty.jpg", "text.png", "half.png"):
        assert name in card
    shown = engram("data", "photos", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    for name in ("empty.jpg", "text.png", "half.png"):
        assert name in shown.stdout


def test_a_device_that_is_not_there(tmp_path):
    assert "cuda:7" in refused("train", "--device.name", "cuda:7", cwd=tmp_path)
    assert "did you mean: cuda" in refused("train", "--device.name", "cudda", cwd=tmp_path)


def test_debug_shows_the_traceback(tmp_path):
    done = start("train", "--model", "resnet21", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr
