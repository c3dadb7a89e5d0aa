"""`engram write`: what it prints, that it is printed as it is written, and what it and its training refuse."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cli import commands
from cli.inside import done, refused
from engram.models.char_rnn import char_lstm
from engram.text.vocabulary import Characters
from engram.text.writing import write, write_by_beam
from engram.training import weights

LETTERS = Characters.of("\n !.abcdeANOR:")
TINY = (
    *("--task", "write", "--model.hidden_size", 8, "--model.depth", 1, "--text.chunk", 16, "--batch_size", 4),
    *("--device.threads", 1, "--device.precision", "float32", "--clinic", "none"),
)


def described(task: str = "write", **more: Any) -> weights.Description:
    given = {"settings": {"hidden_size": 8, "depth": 1}, "vocabulary": LETTERS.to_dict(), "shape": (), **more}
    return weights.Description(
        model="char_lstm", classes=(), stored_shape=given["shape"], mean=(), std=(), task=task, **given
    )


def net_of() -> torch.nn.Module:
    torch.manual_seed(3)
    net = char_lstm(len(LETTERS), hidden_size=8, depth=1)
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(3)
    return net.eval()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a run that writes, untrained."""
    folder = tmp_path_factory.mktemp("write") / "run"
    (folder / "weights").mkdir(parents=True)
    weights.save(net_of(), described(), folder / "weights" / "best.safetensors")
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is written elsewhere, also where a refusal fails."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def text_of(**settings: Any) -> str:
    seed = settings.pop("seed", 0)
    given = {"prompt": "", "length": 40, "temperature": 0.8, **settings}
    return "".join(write(net_of(), LETTERS, rng=torch.Generator().manual_seed(seed), **given))


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ((), {}),
        (("--temperature", 1.5), {"temperature": 1.5}),
        (("--top-k", 2), {"top_k": 2}),
        (("--top-p", 0.5), {"top_p": 0.5}),
        (("--greedy",), {"greedy": True}),
        (("--seed", 7), {"seed": 7}),
        (("--temperature", 1.5, "--top-k", 3, "--top-p", 0.9), {"temperature": 1.5, "top_k": 3, "top_p": 0.9}),
    ],
)
def test_it_writes_what_the_settings_say(
    run: Path, capsys: pytest.CaptureFixture[str], words: tuple[object, ...], settings: dict[str, Any]
) -> None:
    printed = done(capsys, "write", run, "--prompt", "ROAd:", "--length", 40, *words)
    assert printed == f"ROAd:{text_of(prompt='ROAd:', **settings)}\n"
    assert not settings or printed != done(capsys, "write", run, "--prompt", "ROAd:", "--length", 40)
    assert printed == done(capsys, "write", run, "--prompt", "ROAd:", "--length", 40, *words)


def test_without_anything_it_writes_500_characters_from_the_beginning_of_a_line(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = done(capsys, "write", run / "weights" / "best.safetensors")  # a weights file will do
    assert printed == text_of(prompt="", length=500) + "\n"
    assert len(printed) == 501


def test_the_most_probable_text_of_a_beam(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = done(capsys, "write", run, "--prompt", "a", "--length", 6, "--beam", 4)
    assert printed == "a" + write_by_beam(net_of(), LETTERS, prompt="a", length=6, width=4) + "\n"


def test_for_machines(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(done(capsys, "write", run, "--prompt", "ab", "--length", 9, "--top-k", 3, "--seed", 4, "--json"))
    assert told == {
        "prompt": "ab", "text": text_of(prompt="ab", length=9, top_k=3, seed=4), "length": 9, "seed": 4,
        "temperature": 0.8, "top_k": 3, "top_p": 1.0, "greedy": False, "beam": None,
    }  # fmt: skip
    told = json.loads(done(capsys, "write", run, "--prompt", "ab", "--length", 3, "--beam", 2, "--json"))
    assert (told["beam"], len(told["text"])) == (2, 3)


class Pipe(io.StringIO):
    """Standard output that keeps what had been flushed when."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def flush(self) -> None:
        self.seen.append(self.getvalue())


def test_it_is_printed_as_it_is_written(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engram.cli.write import write as command

    pipe = Pipe()
    monkeypatch.setattr(sys, "stdout", pipe)
    assert command(run, prompt="ab", length=5) == 0
    text = pipe.getvalue()
    assert pipe.seen[:6] == [text[: 2 + written] for written in range(6)]


# as a shell has it, where what is printed waits in a buffer
BUFFERED = {name: value for name, value in commands.ENVIRONMENT.items() if name != "PYTHONUNBUFFERED"}


@pytest.mark.slow
def test_a_reader_that_has_had_enough_ends_it(run: Path) -> None:
    command = [sys.executable, "-m", "engram", "write", str(run), "--length", "1000000"]
    process = subprocess.Popen(command, env=BUFFERED, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    first = process.stdout.read(30)  # long before the last is written
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert first == text_of(prompt="", length=30)
    assert process.stderr.read() == ""
    process.stderr.close()


def test_what_a_reader_left_unread_is_not_written_as_the_process_ends() -> None:
    program = """
from engram.cli import app

def dispatch(words):
    print("left in the buffer")
    raise BrokenPipeError

app.dispatch = dispatch
input()
app.main([])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=BUFFERED, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.communicate("go on\n", timeout=60)[1] == ""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--prompt", "Zoë"), "the vocabulary of 14 characters lacks 'Z', 'o', 'ë'"),
        (("--prompt", "B"), "did you mean: 'b' for 'B'"),
        (("--length", 0), "length 0 is out of range"),
        (("--length", "many"), "many"),
        (("--temperature", 0), "temperature 0.0 is out of range"),
        (("--top-k", 0), "top-k 0 is out of range"),
        (("--top-p", 1.2), "top-p 1.2 is out of range"),
        (("--greedy", "--beam", 3), "--greedy and --beam are two ways to choose"),
        (("--beam", 0), "width 0 is out of range"),
        (("--lenght", 3), "--length"),
    ],
)
def test_what_cannot_be_written_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], words: tuple[object, ...], told: str
) -> None:
    assert told in refused(capsys, "write", run, *words)


@pytest.mark.parametrize(("task", "verb"), [("classify", "engram predict"), ("caption", "engram caption")])
def test_a_run_of_another_task_is_refused(here: Path, capsys: pytest.CaptureFixture[str], task: str, verb: str) -> None:
    file = here / "other.safetensors"
    weights.save(net_of(), described(task), file)
    message = refused(capsys, "write", file)
    assert f"has learned to {task}, not to write" in message
    assert verb in message


def test_no_run_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there are no weights absent" in refused(capsys, "write", "absent")
    (here / "empty").mkdir()
    assert "empty holds no weights" in refused(capsys, "write", "empty")
    (here / "book.txt").write_text("no weights")
    assert "is damaged or no safetensors file" in refused(capsys, "write", "book.txt")
    assert "engram write --help" in refused(capsys, "write")


def bad_data(folder: Path) -> None:
    (folder / "empty.txt").write_bytes(b"")
    (folder / "marked.txt").write_bytes(b"\xef\xbb\xbf")
    (folder / "latin.txt").write_bytes(b"one\ncaf\xe9 two\n" * 20)
    (folder / "short.txt").write_text("abcdefghijkl")
    (folder / "book.txt").write_text("the cat sees a dog.\n" * 30)
    (folder / "pictures").mkdir()
    for name in ("a", "b"):
        (folder / "pictures" / name).mkdir()
        for number in range(4):
            pixels = np.full((8, 8, 3), 50 * number, np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / name / f"{number}.png")
    (folder / "texts").mkdir()
    (folder / "texts" / "one.txt").write_text("fine\n" * 50)
    (folder / "texts" / "two.txt").write_bytes(b"\xff\xfe")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "no text was given to learn from"),
        (("--data", "absent.txt"), "there is no text absent.txt"),
        (("--data", "empty.txt"), "empty.txt is empty"),
        (("--data", "marked.txt"), "marked.txt is empty"),
        (("--data", "latin.txt"), "latin.txt is not UTF-8: byte 0xe9 at offset 7 (line 2)"),
        (("--data", "texts"), "two.txt is not UTF-8: byte 0xff at offset 0 (line 1)"),
        (("--data", "pictures"), "there is no .txt file in pictures"),
        (("--data", "short.txt"), "short.txt has 12 characters"),
        (("--data", "book.txt", "--data.validation", 0.999), "to train on"),
        (("--data", "book.txt", "--model", "char_lstn"), "did you mean: char_lstm"),
        (("--data", "book.txt", "--model", "resnet20"), "writer 'resnet20' is not known"),
        (("--data", "book.txt", "--text.chunck", 4), "did you mean: text.chunk"),
        (("--data", "book.txt", "--text.unit", "words"), "did you mean: word"),
        (("--data", "book.txt", "--text.overlap", 16), "text.overlap cannot be 16"),
        (("--data", "book.txt", "--augment", "flip"), "augment flip is for pictures"),
        (("--data", "book.txt", "--task", "wirte"), "did you mean: write"),
        (("--data", "book.txt", "--task", "classify", "--model", "mlp"), "book.txt"),
        (("--data", "book.txt", "--task", "caption", "--model", "captioner_rnn"), "book.txt"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_and_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], words: tuple[object, ...], told: str
) -> None:
    bad_data(here)
    given = () if "--task" in words else TINY
    assert told in refused(capsys, "train", *given, *words)
    assert not (here / "runs").exists()


def test_a_plan_is_printed_and_nothing_is_trained(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad_data(here)
    printed = done(capsys, "train", *TINY, "--data", "book.txt", "--plan")
    assert 'task = "write"' in printed
    assert "[text]\n" in printed
    assert not (here / "runs").exists()


@pytest.mark.slow
def test_from_a_text_to_a_text(tmp_path: Path) -> None:
    """In processes of their own, as a person does."""
    text = "".join(f"The {one} sees the {other}.\n" for one, other in [("cat", "dog"), ("owl", "hen")] * 60)
    (tmp_path / "book.txt").write_text(text)
    words = (*TINY, "--epochs", 3, "--clinic", "quick", "--optimizer.lr", 0.02)
    trained = commands.engram("train", "--data", "book.txt", *words, "--output", "run", cwd=tmp_path)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert trained.stderr == ""
    assert "engram write run" in trained.stdout
    assert "nats" in trained.stdout
    for name in ("report.html", "samples.json", "findings.json", "evaluation/test.json"):
        assert (tmp_path / "run" / name).is_file(), name
    assert "nats a character" in (tmp_path / "run" / "report.html").read_text()
    written = commands.engram("write", "run", "--prompt", "The ", "--length", 30, cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    assert written.stdout.startswith("The ")
    assert len(written.stdout) == 4 + 30 + 1
    assert set(written.stdout) <= set(text)
    resumed = commands.engram("resume", "run", "--epochs", 4, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "engram write run" in commands.refused("predict", "run", "photo.png", cwd=tmp_path)


def test_predict_sends_on_to_the_verb_of_the_task(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "predict", run, "photo.png")
    assert "has learned to write, not to classify images" in message
    assert f"engram write {run}" in message
