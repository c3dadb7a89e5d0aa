"""`engram examine` as a person runs it: what it says of a network, of a run, and of what cannot be examined."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cli.commands import start as process
from engram.cli import app
from engram.clinic.finding import Finding, Remedy
from engram.training.train import train

MINE = '''
import torch
from torch import nn

def small(num_classes=10, in_channels=1, width=8):
    """A small one."""
    layers = nn.Conv2d(in_channels, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4 * width, num_classes))

class Small(nn.Module):
    def __init__(self, num_classes, in_channels, width=8):
        super().__init__()
        self.net = small(num_classes, in_channels, width)

    def forward(self, x):
        return self.net(x)

class Table(Small):
    def forward(self, x):
        return {"scores": self.net(x)}

class Broken(Small):
    def forward(self, x):
        raise RuntimeError("the moon is full\\nand bright")

def nan():
    net = small()
    for parameter in net.parameters():
        nn.init.constant_(parameter, float("nan"))
    return net

def fails():
    return {}["absent"]

def softened():
    return nn.Sequential(small(), nn.Softmax(1))

def empty():
    return nn.Sequential(nn.Flatten(), nn.ReLU())

def maps():
    return nn.Conv2d(1, 10, 3)

def nothing():
    return None

def two():
    return small(2)

def needs(other):
    return small()

net = small()
'''

DATA = """
import numpy as np
from engram.data.examples import Examples, Source, Unreadable

class Half(Examples):
    def __init__(self, error):
        self.labels, self.error = np.arange(60) % 2, error

    def name(self, index):
        return f"number {index}"

    def read(self, index, at_least=None):
        if index % 3 == 2:
            raise self.error(self.name(index), "the file ends too early")
        return np.random.default_rng(index).normal(size=(1, 8, 8)).astype(np.float32)

def half():
    return Source("half", "own", ("one", "two"), Half(Unreadable))

def broken():
    return Source("half", "own", ("one", "two"), Half(lambda name, why: OSError(f"{name}: {why}")))
"""


class Engram:
    """`engram examine WORDS` in a folder, in this process: what it printed, or said of an error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: object, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            app.main(["examine", *map(str, words)])
        printed = self.capsys.readouterr()
        assert (ended.value.code or 0) == code, printed
        return printed.err if code else printed.out

    def found(self, *words: object) -> list[dict]:
        return [json.loads(line) for line in self(*words, "--json").splitlines()]

    def refused(self, *words: object) -> str:
        message = self(*words, code=2)
        assert message.startswith("error: ")
        assert len(message.strip().splitlines()) <= 5
        return message


@pytest.fixture
def engram(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engram:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "data.py").write_text(DATA, encoding="utf-8")
    return Engram(capsys)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of an MLP on the embedded digits."""
    folder = tmp_path_factory.mktemp("trained")
    settings = {"device": {"threads": 1, "precision": "float32"}, "output": str(folder / "run")}
    assert train(model="mlp", epochs=2, **settings).reason == "finished"
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run to do with as one likes."""
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "findings.json").unlink(missing_ok=True)
    return tmp_path / "run"


def said(name: str, severity: str, step: int = 7) -> dict:
    words = Remedy("a tenth of the rate", {"optimizer.lr": 0.01})
    return Finding(name, severity, f"{name} was seen", "it matters", words, "another look", 0.5, step).to_dict()


def test_as_a_process(trained: Path) -> None:
    done = process("examine", "run", "--level", "quick", cwd=trained.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^run: .*; 5 layers measured on 1,024 examples, level quick$", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout


def test_a_name_and_a_network_of_ones_own(engram: Engram) -> None:
    assert engram("mlp").startswith("mlp: nothing found; ")
    for name in ("small", "Small", "net"):  # a function, a class, a network
        assert engram(f"mine.py:{name}", "--level", "quick").startswith(f"mine.py:{name}: nothing found; 4 layers")


def test_findings_stand_above_a_summary(engram: Engram) -> None:
    told = engram("mine.py:softened", "--level", "quick")
    assert told.startswith("critical: softmax twice\n  seen: ")
    assert "try: remove the softmax at the end" in told
    assert told.splitlines()[-1].startswith("mine.py:softened: 1 critical; 5 layers")
    (found,) = engram.found("mine.py:softened", "--level", "quick")
    assert (found["diagnosis"], found["severity"], found["where"]) == ("softmax_twice", "critical", ["1"])


def test_colours_on_a_terminal(engram: Engram, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm-256color"), ("COLUMNS", "60")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    told = engram("mine.py:softened", "--level", "quick")
    assert told.startswith("\x1b[1;31mcritical\x1b[0m: ")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", told)
    assert max(map(len, plain.splitlines()[:-1])) <= 60
    assert re.search(r"^  means +the loss cannot go below 1\.461, and[^\n]*\n {11,}\w", plain, re.MULTILINE)
    monkeypatch.setenv("NO_COLOR", "1")
    told = engram("mine.py:softened", "--level", "quick")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", told)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent"], "model 'absent' is not known"),
        (["lenet55"], "did you mean: lenet5"),
        (["runs/absent"], "no run folder runs/absent"),
        (["."], "no run's folder: it holds no recipe.toml"),
        (["absent.safetensors"], "no run's folder"),
        (["absent.py:net"], "there is no file absent.py"),
        (["mine.py:nett"], "did you mean: net"),
        (["lenet5", "--level", "quik"], "did you mean: quick"),
        (["lenet5", "--data", "absent"], "absent"),
        (["mine.py:empty"], "has no weights to train"),
        (["mine.py:maps"], r"gives \(2, 10, 6, 6\) for 2 inputs, which is no score for each class"),
        (["mine.py:Table"], "gives a dict for 2 inputs"),
        (["mine.py:two"], "labels go from 0 to 9, and the network gives 2 scores"),
        (["mine.py:Broken"], "cannot be run on the data: RuntimeError: the moon is full\n  next: .*--debug"),
        (["mine.py:fails"], "cannot be run on the data: KeyError: 'absent'"),
        (["mine.py:nothing"], "gave a NoneType"),
        (["mine.py:needs"], "missing 1 required positional argument: 'other'"),
        (["mine.py:small", "--data", "data.py:broken"], r"OSError: number \d+: the file ends too early"),
    ],
)
def test_what_cannot_be_examined_is_said(engram: Engram, words: list[str], message: str) -> None:
    assert re.search(message, engram.refused(*words))


def test_debug_shows_where_ones_own_code_failed(engram: Engram) -> None:
    with pytest.raises(Exception, match="the moon is full") as raised:
        app.main(["examine", "mine.py:Broken", "--debug"])
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_weights_that_are_no_numbers_are_said_and_nothing_is_made_of_them(engram: Engram) -> None:
    first, *others = engram.found("mine.py:nan")
    assert (first["diagnosis"], first["severity"], first["seen"]["cause"]) == ("not_finite", "critical", "drawn")
    assert first["where"] == ["0"]
    assert all("not_finite" in one["consequence_of"] for one in others)


def test_data_that_can_be_read_in_part(engram: Engram, tmp_path: Path) -> None:
    found = {one["diagnosis"]: one for one in engram.found("mine.py:small", "--data", "data.py:half")}
    assert found["unreadable_examples"]["seen"]["unreadable"] > 10
    assert "number 2: the file ends too early" in str(found) or "number" in found["unreadable_examples"]["says"]
    rng = np.random.default_rng(0)
    for name, count in (("cats", 40), ("dogs", 2)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 255, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    (tmp_path / "photos" / "cats" / "text.png").write_text("no image at all")
    found = {one["diagnosis"]: one for one in engram.found("mine.py:small", "--data", "photos", "--level", "quick")}
    assert "text.png" in found["unreadable_examples"]["says"]
    assert "cats has" in found["class_imbalance"]["says"]


def test_what_training_found_is_told_once(engram: Engram, run: Path) -> None:
    assert engram("run", "--level", "quick").startswith("run: nothing found")
    rows = [said("dead_relus", "warning"), said("lr_too_high", "information")]
    (run / "findings.json").write_text(json.dumps(rows))
    found = engram.found("run", "--level", "quick")
    assert [one["diagnosis"] for one in found] == ["lr_too_high", "dead_relus"]  # causes come first
    assert found[1]["consequence_of"] == ["lr_too_high"]
    assert "warning: dead relus, step 7" in engram("run", "--level", "quick")
    assert len(engram.found("run/weights/best.safetensors", "--level", "quick")) == 2
    (run / "findings.json").write_text("{")  # half written, or of another form
    assert engram("run", "--level", "quick").startswith("run: nothing found")


def broken_weights(path: Path, change: Callable[[torch.Tensor], object]) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    for tensor in tensors.values():
        change(tensor)
    save_file(tensors, path, metadata=metadata)


def test_a_run_whose_weights_are_no_numbers(engram: Engram, run: Path) -> None:
    broken_weights(run / "weights" / "best.safetensors", lambda tensor: tensor.fill_(float("nan")))
    (run / "findings.json").write_text(json.dumps([said("not_finite", "critical", 3)]))
    found = engram.found("run")
    assert [one["diagnosis"] for one in found if one["severity"] == "critical"] == ["not_finite"]
    assert found[0]["says"] != "not_finite was seen"  # what is there now, and as bad, is what is told


def test_a_run_that_lacks_something(engram: Engram, run: Path) -> None:
    (run / "weights" / "best.safetensors").write_bytes(b"no weights")
    assert "damaged" in engram.refused("run")
    shutil.rmtree(run / "weights")
    assert "holds no weights" in engram.refused("run")
    (run / "recipe.toml").write_text("[[[")
    engram.refused("run")


@pytest.mark.parametrize(
    ("task", "data", "model"),
    [("write", "book.txt", {"name": "char_rnn", "hidden_size": 8}), ("caption", "scenes:12", {"hidden_size": 8})],
)
def test_a_run_that_foresees_words_is_examined(tmp_path, capsys, monkeypatch, task, data, model):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text("to be or not to be\n" * 60)
    training = {"epochs": 1, "batch_size": 4, "clinic": "none"}
    train(task=task, data=data, model=model, training=training, device={"threads": 1}, output="run")
    assert app.dispatch(["examine", "run", "--level", "quick"]) == 0
    told = capsys.readouterr().out
    assert "measured on" in told
    assert "class imbalance" not in told
