"""The verbs as a person uses them: each on a real run, what it says and what it leaves."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from cli.commands import SHORT, engram, refused

pytestmark = pytest.mark.slow  # some seconds each


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a set of photos, and a run that was trained on it."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    for index, name in enumerate(("blue", "green", "red")):
        for split, count in (("train", 40), ("test", 9)):
            (folder / "photos" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 120, (12, 12, 3), np.uint8)
                pixels[..., 2 - index] += 130
                Image.fromarray(pixels).save(folder / "photos" / split / name / f"{number}.png")
    done = engram("train", "--data", "photos", *SHORT, "--epochs", "4", "--output", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "printed.txt").write_text(done.stdout)
    return folder


def test_what_training_prints(place):
    printed = (place / "printed.txt").read_text()
    for words in ("engram", "data", "model", "optimizer", "device", "folder", "train loss", "result", "report", "next"):
        assert words in printed
    assert "engram predict run IMAGE" in printed
    assert "\x1b" not in printed  # no colours where there is no terminal


def test_what_training_leaves(place):
    for name in (
        *("recipe.toml", "command.txt", "environment.json", "metrics.jsonl", "card.json", "report.html"),
        *("weights/best.safetensors", "weights/last.safetensors", "state/last.pt", "pictures/samples.png"),
        *("evaluation/validation.json", "evaluation/test.json", "evaluation/test.npz", "evaluation/test_pictures.npz"),
    ):
        assert (place / "run" / name).is_file(), name
    facts = json.loads((place / "run" / "environment.json").read_text())
    assert {choice["setting"] for choice in facts["choices"]} >= {"device.name", "device.precision", "augment"}
    assert all(choice["reason"] for choice in facts["choices"])


def test_the_same_seed_gives_the_same_weights_and_another_does_not(place, tmp_path):
    from safetensors.numpy import load_file

    words = ("--data", place / "photos", *SHORT, "--epochs", "4")
    for name, seed in (("again", 0), ("other", 1)):
        done = engram("train", *words, "--seed", seed, "--output", tmp_path / name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    runs = (place / "run", tmp_path / "again", tmp_path / "other")
    first, again, other = (load_file(run / "weights" / "last.safetensors") for run in runs)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not all(np.array_equal(first[name], other[name]) for name in first)


def test_a_run_s_recipe_repeats_it(place, tmp_path):
    from safetensors.numpy import load_file

    recipe = place / "run" / "recipe.toml"
    done = engram("train", "--recipe", recipe, "--data", place / "photos", "--output", tmp_path / "again", cwd=place)
    assert done.returncode == 0, done.stderr
    first, again = (load_file(run / "weights" / "last.safetensors") for run in (place / "run", tmp_path / "again"))
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_evaluate_says_what_training_said(place):
    trained = json.loads((place / "run" / "evaluation" / "test.json").read_text())
    done = engram("evaluate", "run", "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    judged = json.loads(done.stdout)
    assert judged["accuracy"] == trained["accuracy"]
    assert judged["confusion"] == trained["confusion"]
    shown = engram("evaluate", "run", "--data", "photos/test", cwd=place)
    assert "27 examples" in shown.stdout
    assert "red" in shown.stdout


def test_evaluate_matches_classes_by_name(place, tmp_path):
    shutil.copytree(place / "photos" / "test" / "red", tmp_path / "some" / "red")
    shutil.copytree(place / "photos" / "test" / "blue", tmp_path / "some" / "blue")
    done = engram("evaluate", place / "run", "--data", "some", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    judged = json.loads(done.stdout)
    assert judged["examples"] == 18
    assert [sum(row) for row in judged["confusion"]] == [9, 0, 9]
    (tmp_path / "some" / "red").rename(tmp_path / "some" / "rad")
    message = refused("evaluate", place / "run", "--data", "some", cwd=tmp_path)
    assert "never told of class 'rad'" in message
    assert "did you mean: red" in message
    assert "did you mean: test" in refused("evaluate", place / "run", "--split", "tset", cwd=tmp_path)


def test_predict_names_the_class(place, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    image = place / "photos" / "test" / "green" / "0.png"
    done = engram("predict", place / "run", image, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "green" in done.stdout.split("0.png")[1].split("%")[0]
    weights = place / "run" / "weights" / "best.safetensors"
    done = engram("predict", weights, "--json", "--top", 1, place / "photos" / "test" / "red", cwd=tmp_path)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 9
    assert all(len(row["answers"]) == 1 for row in rows)
    done = engram("predict", place / "run", "broken.png", image, cwd=tmp_path)
    assert done.returncode == 2
    assert "broken.png" in done.stderr
    assert "green" in done.stdout  # the readable one is answered all the same
    assert "no images were given" in refused("predict", place / "run", cwd=tmp_path)


def test_data_shows_the_card(place, tmp_path):
    done = engram("data", place / "photos", "--sheet", "sheet.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("108 train", "12 validation", "27 test", "12x12", "imbalance", "duplicates", "green"):
        assert words in done.stdout
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 200
    card = json.loads(engram("data", place / "photos", "--json", cwd=tmp_path).stdout)
    assert card["counts"]["train"] == [36, 36, 36]


def test_show(tmp_path):
    models = engram("show", "models", "*res*", cwd=tmp_path).stdout
    assert "resnet20" in models
    assert "269,722" in models
    assert "lenet5" not in models
    adam = engram("show", "optimizers", "adam", cwd=tmp_path).stdout
    assert "Kingma" in adam
    assert "--optimizer.lr" in adam
    lenet = engram("show", "models", "lenet5", cwd=tmp_path).stdout
    assert "61,706" in lenet
    assert "416,520" in lenet
    rows = engram("show", "models", "--json", cwd=tmp_path).stdout.splitlines()
    assert {json.loads(row)["name"] for row in rows} >= {"mlp", "lenet5", "resnet20", "plain34"}
    assert "did you mean: resnet20" in refused("show", "models", "resnet2o", cwd=tmp_path)
    assert "did you mean: models" in refused("show", "model_s", cwd=tmp_path)
    for kind in ("schedules", "augmentations", "sources", "memories"):
        assert engram("show", kind, cwd=tmp_path).returncode == 0


def test_a_plan_trains_nothing(place, tmp_path):
    done = engram("train", "--data", place / "photos", "--model", "mlp", "--plan", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("[optimizer]", "parameters", "multiply-adds", "memory", "time", "device.precision"):
        assert words in done.stdout
    assert not list(tmp_path.iterdir())


def test_json_is_one_object_a_line(tmp_path):
    done = engram("train", *SHORT, "--epochs", "1", "--output", "run", "--json", cwd=tmp_path)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["event"] for row in rows if row["event"] in ("start", "epoch", "end")] == ["start", "epoch", "end"]


def test_report_is_written_again_and_for_several_runs(place, tmp_path):
    shutil.copytree(place / "run", tmp_path / "one")
    (tmp_path / "one" / "report.html").unlink()
    assert engram("report", "one", cwd=tmp_path).returncode == 0
    assert (tmp_path / "one" / "report.html").is_file()
    assert engram("report", "one", place / "run", "--to", "both.html", cwd=tmp_path).returncode == 0
    assert "<svg" in (tmp_path / "both.html").read_text()
    assert "is not a run folder" in refused("report", "absent", cwd=tmp_path)


def test_a_loss_surface_is_measured_afterwards(place, tmp_path):
    run = tmp_path / "one"
    shutil.copytree(place / "run", run)
    measured = run / "probes" / "surface.npz"
    measured.unlink(missing_ok=True)
    assert "would take" in refused("report", run, "--surface", "0.001", cwd=place)
    assert engram("report", run, "--surface", "60", cwd=place).returncode == 0
    assert measured.is_file()
    assert "The loss surface" in (run / "report.html").read_text()
    (run / "state" / "trajectory.safetensors").unlink()
    assert "has kept no snapshots" in refused("report", run, "--surface", "60", cwd=place)


@pytest.mark.slow
def test_doctor_tries_a_training(tmp_path):
    done = engram("doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training       works" in done.stdout
