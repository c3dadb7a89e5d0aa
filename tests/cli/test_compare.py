"""`engram compare` as a person uses it: what is refused, what is left, and that whatever stops it, it goes on."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pyarrow.parquet
import pytest
from safetensors.numpy import load_file

from cli.commands import ENVIRONMENT, engram, refused, start
from engram import recipe as recipes
from engram.study.session import StudySession
from engram.study.study import go_on, study
from engram.training.train import train

pytestmark = pytest.mark.slow  # some seconds each

SMALL = ("--model", "mlp", "--data", "digits", "--epochs", "2", "--device.threads", "1")
TWO = ("--vary", "optimizer=sgd,adam", "--seeds", "2", *SMALL)


def rows(study: Path) -> list[dict[str, str]]:
    with open(study / "table.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(study: Path) -> dict[str, bytes]:
    return {run.name: (run / "weights" / "last.safetensors").read_bytes() for run in (study / "runs").iterdir()}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a study of two optimisers, two seeds and one arm that breaks down."""
    folder = tmp_path_factory.mktemp("place")
    broken = ("--arm", "broken: optimizer=sgd optimizer.lr=1e30")
    done = engram("compare", *TWO, *broken, "--target", "0.9", "--jobs", "2", "--output", "study", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "printed.txt").write_text(done.stdout)
    return folder


def test_what_a_study_prints(place):
    printed = (place / "printed.txt").read_text()
    for words in ("3 arms x 2 seeds: 6 runs, 6 to do", "baseline", "1/6", "6/6", "95 % interval", "study/table.csv"):
        assert words in printed
    assert "broken cannot be compared with sgd: 2 runs of broken failed." in printed
    assert "broken, seed 0 failed: the loss became infinite or not a number" in printed
    assert "adam" in printed.split("sd         time")[1]
    assert "\x1b" not in printed


def test_what_a_study_leaves(place):
    study = place / "study"
    found = rows(study)
    assert [(row["arm"], row["seed"], row["status"]) for row in found] == [
        *(("sgd", "0", "finished"), ("sgd", "1", "finished"), ("adam", "0", "finished"), ("adam", "1", "finished")),
        *(("broken", "0", "failed"), ("broken", "1", "failed")),
    ]
    assert {row["optimizer.lr"] for row in found} == {"", "1e+30"}
    assert all(row["begins_as_baseline"] == "True" for row in found)
    assert len({row["initial"] for row in found}) == 2  # one a seed
    assert float(found[0]["validation.accuracy"]) > 0.5
    assert not [name for name in found[0] if name.startswith("test.")]
    whole = pyarrow.parquet.read_table(study / "table.parquet")
    assert whole.num_rows == 6
    curves = pyarrow.parquet.read_table(study / "curves.parquet").to_pylist()
    assert [one["epoch"] for one in curves if one["arm"] == "adam"] == [1, 2, 1, 2]
    assert not list(study.glob("runs/*/evaluation/*test*"))  # nobody asked for it
    assert not list(study.glob("runs/*/report.html"))


def test_the_final_figures_are_those_of_the_last_pass(place):
    for row in rows(place / "study"):
        if row["status"] == "finished":
            events = metrics(place / "study" / row["folder"])
            last = [event for event in events if event["event"] == "epoch"][-1]
            assert float(row["validation.accuracy"]) == last["validation"]["accuracy"]
            assert float(row["validation.loss"]) == pytest.approx(last["validation"]["loss"], rel=1e-6)


def test_a_run_of_a_study_is_the_run_that_training_makes(place, tmp_path):
    recipe = place / "study" / "runs" / "adam-seed1" / "recipe.toml"
    done = engram("train", "--recipe", recipe, "--output", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    alone = load_file(tmp_path / "run" / "weights" / "last.safetensors")
    studied = load_file(recipe.parent / "weights" / "last.safetensors")
    assert all((alone[name] == studied[name]).all() for name in studied)


def test_the_page(place):
    page = (place / "study" / "study.html").read_text()
    for words in ("3 arms × 2 seeds", "Differences from sgd", "Learning curves", "2 runs of broken failed", "How soon"):
        assert words in page
    assert "engram compare study/study.toml" in page
    assert page.count("<svg viewBox") == 6
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_finished_study_is_shown_again_and_left_as_it_was(place, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(place / "study", study)
    before, page = weights(study), (study / "study.html").read_bytes()
    done = start("compare", "study", "--json", cwd=tmp_path)  # charts are numbered through in a process
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == ["begun", "verdict", "verdict", "ended"]
    assert (events[0]["left"], events[-1]["complete"]) == (0, True)
    assert events[1]["arm"] == "adam"
    assert events[1]["pairs"] == 2
    assert "p_within" not in events[1]  # not known, and no NaN, which is no JSON
    assert weights(study) == before
    assert (study / "study.html").read_bytes() == page


def test_runs_that_are_lost_or_half_done_are_done_again_to_the_last_bit(place, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(place / "study", study)
    before = weights(study)
    shutil.rmtree(study / "runs" / "sgd-seed1")
    (study / "runs" / "adam-seed0" / "state" / "last.pt").write_bytes(b"cut")
    (study / "runs" / "adam-seed0" / "evaluation" / "final_validation.json").unlink()
    (study / "runs" / "sgd-seed0" / "evaluation" / "final_validation.json").unlink()  # killed before it was judged
    (study / "table.csv").unlink()
    done = engram("compare", "study", "--jobs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "6 runs, 3 to do, one at a time" in done.stdout
    assert weights(study) == before
    assert [row["status"] for row in rows(study)] == ["finished"] * 4 + ["failed"] * 2


def test_killed_and_interrupted_studies_go_on(tmp_path):
    # four runs of 60 epochs: enough is left for the second signal, however late it comes
    words = ("--vary", "optimizer=sgd,adam", "--seeds", "2", *SMALL, "--epochs", "60")
    command = [sys.executable, "-m", "engram", "compare", *words, "--jobs", "1", "--output", "study"]
    study = tmp_path / "study"
    for stop in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        epochs = '"epoch": 4,' if stop == signal.SIGKILL else '"epoch": 9,'
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if any(epochs in one.read_text() for one in study.glob("runs/*/metrics.jsonl")):
                break
            time.sleep(0.01)
        process.send_signal(stop)
        printed = process.communicate(timeout=60)[0]
        assert process.returncode == (-signal.SIGKILL if stop == signal.SIGKILL else 130)
    assert "engram compare study" in printed  # how to go on
    assert (study / "table.csv").is_file()
    assert "still to come" in (study / "study.html").read_text()
    done = engram(*command[3:], cwd=tmp_path)  # the same command goes on too
    assert done.returncode == 0, done.stderr
    assert {row["status"] for row in rows(study)} == {"finished"}
    for run in (study / "runs").iterdir():
        again = tmp_path / "again" / run.name
        train(
            recipes.load(run / "recipe.toml"),
            output=str(again),
            session=partial(StudySession, judged="best", test=False),
        )
        assert (again / "weights/last.safetensors").read_bytes() == (run / "weights/last.safetensors").read_bytes()
        assert [one["epoch"] for one in metrics(run) if one["event"] == "epoch"] == list(range(1, 61))


def test_a_worker_that_dies_fails_its_run_alone_and_is_tried_again(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import os, pathlib\nfrom engram.models import mlp\n\n"
        "def net(num_classes, in_channels, image_size, once=0):\n"
        "    if once and pathlib.Path('study/study.toml').exists() and not pathlib.Path('died').exists():\n"
        "        pathlib.Path('died').touch()\n"
        "        os._exit(7)\n"
        "    return mlp(num_classes=num_classes, in_channels=in_channels, image_size=image_size)\n"
    )
    monkeypatch.chdir(tmp_path)
    arms = {"well": {"epochs": 1}, "dies": {"epochs": 1, "model": {"name": "mine.py:net", "once": 1}}}
    done = study(arms=arms, seeds=2, model="mine.py:net", output="study", jobs=1, device={"threads": 1})
    assert sorted(row["status"] for row in done.tables.runs) == ["failed", "finished", "finished", "finished"]
    assert "the process of this run ended with code 7" in done.report.read_text()
    assert [row["status"] for row in go_on("study").tables.runs] == ["finished"] * 4


def test_a_measure_on_the_test_split_and_the_best_weights(tmp_path):
    done = study(
        {"optimizer": ["sgd", "adam"]}, seeds=1, model="mlp", epochs=2, output=str(tmp_path / "study"), jobs=1,
        device={"threads": 1}, measure="test.worst_class", judged="best",
    )  # fmt: skip
    for row in done.tables.runs:
        summary = json.loads((done.path / row["folder"] / "evaluation" / "test.json").read_text())
        assert row["test.worst_class"] == min(one["recall"] for one in summary["per_class"])
        assert row["test.accuracy"] == summary["accuracy"]
        assert not list(done.path.glob("runs/*/evaluation/final*"))


def test_equal_seconds(tmp_path):
    done = study(
        {"model.widths": [[8], [1500, 1500]]}, seeds=1, model="mlp", epochs=60, output=str(tmp_path / "study"), jobs=1,
        device={"threads": 1}, equal="seconds",
    )  # fmt: skip
    small, large = done.tables.runs
    assert 0 < large["visits"] < small["visits"]
    assert small["training.epochs"] == 60
    assert "same expected time" in done.report.read_text()
    assert done.verdicts[0].sentence.startswith("One seed shows nothing")
    assert go_on(done.path).tables == done.tables


def test_the_plan_costs_nothing(tmp_path):
    done = engram("compare", *TWO, "--plan", "--jobs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("[[arms]]", "2 arms x 2 seeds: 4 runs, 1 side by side", "begins as sgd"):
        assert words in done.stdout
    assert os.listdir(tmp_path) == []


TWO_CLASSES = """
import numpy as np
from dataclasses import replace
from engram.data.open import open_source

def two():
    digits = open_source("digits")
    for split in (digits.train, digits.test):
        split.labels = np.minimum(split.labels, 1)
    return replace(digits, classes=("zero", "other"))
"""


def test_a_method_that_is_charged_makes_the_same_work_and_the_study_says_what_it_made(tmp_path):
    words = ("--vary", "review=shuffle,selective_backprop", "--seeds", "2", *SMALL, "--jobs", "2")
    planned = engram("compare", *words, "--plan", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    assert 'equal = "work"' in planned.stdout
    assert "Visits: shuffle 2,560 and selective_backprop 3,840." in planned.stdout
    done = engram("compare", *words, "--output", "study", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = "selective_backprop made 3,840 visits and shuffle 2,560."
    assert f"This is at the same work, not at the same number of visits: {made}" in done.stdout
    assert {(row["arm"], row["visits"], row["steps"]) for row in rows(tmp_path / "study")} == {
        ("shuffle", "2560", "20"),
        ("selective_backprop", "3840", "30"),
    }
    assert {float(row["work"]) for row in rows(tmp_path / "study")} == {2560.0}
    page = (tmp_path / "study" / "study.html").read_text()
    assert made in page
    assert "Every arm was given the same work: visits, a forward pass alone counted as a third of one" in page
    assert "same number of" not in page.replace("not at the same number of", "")


def test_arms_may_learn_from_different_examples_where_they_are_judged_on_the_same(tmp_path):
    words = ("--vary", "data.limit=200,400", "--seeds", "2", *SMALL, "--jobs", "2", "--measure", "test.accuracy")
    done = engram("compare", *words, "--output", "study", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = (
        "They did not make the same number of visits: limit=400 made 512 visits and limit=200 256, and the difference"
    )
    assert told in done.stdout
    assert "judged on different" not in done.stdout
    page = (tmp_path / "study" / "study.html").read_text()
    assert told in page
    assert "All arms are judged on the same examples." in page
    assert len({row["judged_on"] for row in rows(tmp_path / "study")}) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--vary", "optimizer=sgd,adm"), "arm 'adm': optimizer 'adm' is not known"),
        (("--vary", "data=digits,nowhere"), "arm 'nowhere'"),
        (("--vary", "optimizer=sgd"), "two arms or more"),
        (("--vary", "optimizer=sgd,sgd"), "is there twice"),
        (("--vary", "optimizer=sgd,adam", "--seeds", "0"), "0 seeds cannot be"),
        (("--vary", "optimizer=sgd,adam", "--seeds", "many"), "--seeds 'many' is no number"),
        (("--vary", "optimizer=sgd,adam", "--seeds", "20000"), "allowed: 1 to 10,000"),
        (("--vary", "optimizer=sgd,adam", "--baseline", "adamm"), "did you mean: adam"),
        (("--vary", "epochs=1,2", "--equal", "visits"), "do not get the same number of visits"),
        (("--vary", "review=shuffle,selective_backprop", "--equal", "steps"), "shuffle 100, selective_backprop 150"),
        (("--vary", "data=digits,mine.py:two"), "is judged on other validation examples than 'digits'"),
        (("--vary", "data.validation=0.1,0.5", "--equal", "none"), "--measure test.accuracy: the test examples are"),
        (("--vary", "epochs=1,2", "--widht", "3"), "there is no setting 'widht'"),
        (("nowhere",), "nowhere is not a study"),
        ((), "two arms or more"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_spent(tmp_path, words, message):
    (tmp_path / "mine.py").write_text(TWO_CLASSES)
    own = () if words == ("nowhere",) else SMALL[:4]
    assert message in refused("compare", *words, *own, cwd=tmp_path)
    assert not [name for name in os.listdir(tmp_path) if name not in ("mine.py", "__pycache__")]


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("--jobz", "2"), "jobs"),
        (("--job", "2"), "jobs"),
        (("--measur", "x"), "measure"),
        (("--targt", ".9"), "target"),
        (("--arms", "x: epochs=1"), "arm"),
        (("--plna",), "plan"),
        (("--data.imagesize", "3"), "data.image_size"),
    ],
)
def test_a_mistyped_option_is_told_of_the_options_as_of_the_settings(tmp_path, words, near):
    message = refused("compare", *TWO, *words, cwd=tmp_path)
    assert f"engram compare: there is no setting {words[0][2:]!r}\n" in message
    assert f"did you mean: {near}\n" in message
    assert "next: engram compare --help lists them" in message
    assert os.listdir(tmp_path) == []


def test_a_study_s_question_cannot_change(place):
    assert "was fixed when it began" in refused("compare", "study", "--epochs", "3", cwd=place)
    message = refused("compare", *TWO, "--output", "study", cwd=place)
    assert "holds something else" in message


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--seeds", "3"), "--seeds"),
        (("--measure", "test.accuracy", "--equal", "none", "--judged", "best"), "--equal, --measure and --judged"),
        (("--margin", "0.0", "--baseline", "adam"), "--baseline and --margin"),
        (("--vary", "optimizer=sgd,adam"), "--vary"),
        (("--epochs", "7", "--optimizer.lr", "0.1"), "--epochs and --optimizer.lr"),
    ],
)
def test_options_that_would_have_no_effect_are_refused_by_name(place, tmp_path, words, named):
    shutil.copy(place / "study" / "study.toml", tmp_path / "q.toml")
    shutil.copytree(place / "study", tmp_path / "study")
    before = (tmp_path / "study" / "study.html").read_bytes()
    begun = refused("compare", "study", *words, cwd=tmp_path)
    assert f"it cannot take {named}\n" in begun
    assert "allowed: --jobs, --plan, --json" in begun
    assert (tmp_path / "study" / "study.html").read_bytes() == before
    file = refused("compare", "q.toml", *words, "--plan", cwd=tmp_path)
    assert f"beside it the command cannot take {named}\n" in file
    assert "next: edit q.toml, then engram compare q.toml" in file


def test_a_begun_study_keeps_its_place_and_a_file_is_given_one(place, tmp_path):
    shutil.copy(place / "study" / "study.toml", tmp_path / "q.toml")
    shutil.copytree(place / "study", tmp_path / "study")
    assert "it cannot take --name and --output" in refused(
        "compare", "study", "--name", "other", "--output", "there", cwd=tmp_path
    )
    done = engram("compare", "q.toml", "--jobs", "2", "--output", "there", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "there")) == 6


def test_from_python(tmp_path):
    program = (
        "import engram\n"
        "study = engram.study({'optimizer': ['sgd', 'adam']}, arms={'short': {'epochs': 1}}, seeds=1, jobs=1,\n"
        "    model='mlp', epochs=2, output='study', device={'threads': 1})\n"
        "print(study.table.num_rows, study.curves.num_rows, len(study.verdicts), study.path, study.plan.equal)\n"
        "print(study.against('adam')[0].baseline, study.complete)\n"
    )
    command = [sys.executable, "-c", program]  # without a guard of __main__
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["3 5 2 study none", "adam True"], done.stderr
