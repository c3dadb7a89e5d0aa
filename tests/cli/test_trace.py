"""`engram trace` as a person runs it."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from cli.commands import ENVIRONMENT
from engram import models
from engram.cli import app, trace
from engram.training import weights

CIRCUIT = ("(x*y + max(z, w)) * 2", "--x", "3", "--y", "-4", "--z", "2", "--w", "-1")
RUN = """
import sys
from engram.cli import app, trace
if "trace" not in app.app:
    app.app.command(trace.trace)
app.main()
"""


class Engram:
    """`engram trace WORDS` in a folder, in this process: what it printed, or said of an error."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.capsys = capsys
        monkeypatch.chdir(folder)
        if "trace" not in app.app:
            app.app.command(trace.trace)

    def __call__(self, *words: object, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            app.main(["trace", *map(str, words)])
        printed = self.capsys.readouterr()
        assert (ended.value.code or 0) == code, printed
        return printed.err if code else printed.out

    def refused(self, *words: object) -> str:
        message = self(*words, code=2)
        assert message.startswith("error: ")
        assert len(message.strip().splitlines()) <= 5
        return message


@pytest.fixture
def engram(capsys, monkeypatch, tmp_path) -> Engram:
    return Engram(capsys, monkeypatch, tmp_path)


def test_as_a_process(tmp_path):
    command = [sys.executable, "-c", RUN, "trace", *CIRCUIT]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("multiply (2)    -20  gradient 1")


def test_the_lectures_circuit(engram, tmp_path):
    told = engram(*CIRCUIT, "--svg", "out/circuit.svg")
    assert told.startswith("multiply (2)    -20  gradient 1")
    for line in ("x        3  gradient -8", "y       -4  gradient 6", "w       -1  gradient 0"):
        assert line in told
    ElementTree.fromstring((tmp_path / "out" / "circuit.svg").read_text(encoding="utf-8"))


def test_names_get_numbers_and_small_tensors_are_written_out(engram):
    told = engram("max_pool2d(x, 2)", "--seed", "1")
    assert "routes each window's gradient to the winner" in told
    assert "1x1x4x4" in told
    assert "nothing comes back" in engram("softmax(x)")


def test_as_json(engram):
    content = json.loads(engram(*CIRCUIT, "--json"))
    nodes = {node["name"]: node for node in content["nodes"] if node["kind"] == "input"}
    assert [nodes[name]["gradients"][0]["values"] for name in "xyzw"] == [-8, 6, 2, 0]


def test_without_anything_it_lists_the_operations(engram):
    assert "max_pool2d" in engram()


def test_help_waits_for_nothing(engram):
    program = "import sys, engram.cli.trace; print([name for name in ('torch', 'numpy', 'PIL') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert "--image" in engram("--help")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rleu(x)"], "did you mean: relu"),
        (["x.grad"], "an expression cannot have 'x.grad'"),
        (["relu(x)", "--y", "3"], "has no 'y'"),
        (["relu(x)", "--x", "red"], "--x red is no value"),
        (["relu(x)", "--gradient", "one"], "did you mean: ones"),
        (["relu(x)", "--seed", "red"], "seed"),
        (["relu(x)", "--svg", "/dev/null/x.svg"], "cannot be written"),
        (["nowhere", "--image", "photo.jpg"], "nowhere"),
    ],
)
def test_messages(words, said, engram):
    assert said in engram.refused(*words)


@pytest.fixture
def trained(tmp_path) -> Path:
    """A run's folder with the weights of an untrained LeNet-5."""
    torch.manual_seed(0)
    description = weights.Description(
        model="lenet5",
        settings={},
        classes=tuple(f"class {number}" for number in range(10)),
        shape=(1, 28, 28),
        stored_shape=(1, 28, 28),
        mean=(0.5,),
        std=(0.25,),
    )
    net = models.build("lenet5", shape=(1, 28, 28), num_classes=10)
    (tmp_path / "run" / "weights").mkdir(parents=True)
    weights.save(net, description, tmp_path / "run" / "weights" / "best.safetensors")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path


def test_a_trained_network(engram, trained):
    told = engram("run", "--image", "photo.png", "--class", "class 3")
    assert "the loss of class 3" in told
    assert "gradient enters" in told
    page = (trained / "run" / "trace.html").read_text(encoding="utf-8")
    assert "Who received it in the poolings" in page
    assert "data:image/png;base64," in page
    content = json.loads(engram("run", "--image", "photo.png", "--json", "--to", "here.html"))
    assert content["facts"]["image"] == "photo.png"
    assert content["parts"][0]["entering"] > 0
    assert (trained / "here.html").exists()


def test_a_network_of_ones_own(engram, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\nnet = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))\n"
        "rnn = nn.RNN(3, 2, batch_first=True)\n"
    )
    told = engram("mine.py:net", "--x", "1,2", "--class", "0", "--svg", "net.svg")
    assert told.startswith("cross_entropy ")
    assert "2.weight" in told
    assert "gradient of  the loss of class 0" in told
    assert told.rstrip().endswith("net.svg\n\ntrace.html")
    ElementTree.fromstring((tmp_path / "net.svg").read_text(encoding="utf-8"))
    assert "<h1>The gradient&#39;s way through mine.py:net</h1>" in (tmp_path / "trace.html").read_text()
    content = json.loads(engram("mine.py:rnn", "--json", "--to", "rnn.html"))
    assert len(content["steps"][0]["gradients"]) == 9
    assert content["facts"]["gradient of"] == "the sum of what it gives"
    assert "--y is not known for a network" in engram.refused("mine.py:net", "--y", "3")
    assert "did you mean: net" in engram.refused("mine.py:nett")
    assert "30 for a diagram" in engram.refused("resnet20", "--svg", "x.svg")


def test_a_network_by_its_name(engram, trained):
    told = engram("lenet5", "--image", "photo.png")
    assert "lenet5, not trained" in told
    assert "photo.png, 1x1x28x28" in told
    assert "max_pool2d  14x14" in told
    (trained / "lenet5").mkdir()  # a folder is a run
    assert "--image photo.jpg" in engram.refused("lenet5")


def test_messages_of_a_trained_network(engram, trained):
    assert "did you mean: class 3" in engram.refused("run", "--image", "photo.png", "--class", "klass 3")
    assert "--image photo.jpg" in engram.refused("run")
    assert "cannot be read" in engram.refused("run", "--image", "none.png")
    (trained / "bad.png").write_text("no image")
    assert "bad.png" in engram.refused("run", "--image", "bad.png")
    assert "--x is not known" in engram.refused("run", "--image", "photo.png", "--x", "3")
