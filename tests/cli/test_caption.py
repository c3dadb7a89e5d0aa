"""`engram caption`: the sentence, where it looked for each word, and what it and its training refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cli import commands
from cli.inside import done, engram, refused
from engram.models import build_captioner
from engram.text.describe import describe
from engram.text.looks import place_of, sharpness
from engram.text.vocabulary import Words
from engram.training import weights

WORDS = Words.of(["a red square above a blue one", "nothing is here"])
SIDE = 16
SMALL = {"hidden_size": 8, "embedding_size": 6, "encoder_halvings": 2}
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
TINY = (
    *("--task", "caption", "--model.hidden_size", 8, "--model.embedding_size", 6, "--model.encoder_halvings", 2),
    *("--batch_size", 8, "--device.threads", 1, "--device.precision", "float32", "--clinic", "none"),
)


def net_of(kind: str = "captioner_soft_attention") -> torch.nn.Module:
    """With scores far enough apart that sentences differ, and an end that comes now and then."""
    torch.manual_seed(1)
    net = build_captioner(kind, vocabulary=len(WORDS), shape=(3, SIDE, SIDE), settings=SMALL)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if not name.startswith("encoder"):
                weight.mul_(3)
    return net.eval()


def saved(folder: Path, kind: str = "captioner_soft_attention", task: str = "caption") -> Path:
    """The weights of a run that captions, untrained."""
    (folder / "weights").mkdir(parents=True)
    shape = (3, SIDE, SIDE)
    description = weights.Description(
        model=kind, settings=SMALL, classes=(), shape=shape, stored_shape=shape, mean=MEAN, std=STD, task=task,
        vocabulary=WORDS.to_dict(),
    )  # fmt: skip
    weights.save(net_of(kind), description, folder / "weights" / "best.safetensors")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("caption") / "run")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three photos, and nothing is written elsewhere."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        pixels[:, : 4 + 4 * number] = 250 * (number % 2)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path


def said(files: list[Path], kind: str = "captioner_soft_attention", *, width: int = 3, longest: int = 20) -> list[Any]:
    images = np.stack([np.asarray(Image.open(file)) for file in files])
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    x = (torch.from_numpy(images).movedim(3, 1) / 255 - mean) / std
    return [describe(net_of(kind), one[None], WORDS, width=width, longest=longest)[0] for one in x]


def files_of(here: Path) -> list[Path]:
    return sorted((here / "photos").iterdir())


@pytest.mark.parametrize(
    ("words", "settings"),
    [((), {}), (("--beam", 1), {"width": 1}), (("--longest", 3), {"longest": 3}), (("--beam", 2), {"width": 2})],
)
def test_a_sentence_and_a_place_for_each_word(
    run: Path, here: Path, capsys: pytest.CaptureFixture[str], words: tuple[object, ...], settings: dict[str, int]
) -> None:
    lines = done(capsys, "caption", run, *words, "photos").splitlines()
    expected = said(files_of(here), **settings)
    for file, one in zip(files_of(here), expected, strict=True):
        ending = "" if one.ended else " …"
        assert lines.pop(0) == f"{file.relative_to(here)}   {one.sentence}{ending}"
        for word, attention in zip(one.words, one.attention, strict=True):
            line = lines.pop(0).split()
            assert line[0] == word
            place, share = place_of(attention), round(100 * sharpness(attention))
            assert line[1 : 1 + len(place.split())] == place.split()
            assert f"{share} % of the attention on a tenth of the picture" in " ".join(line)
    assert not lines
    assert len({one.sentence for one in expected}) > 1
    assert settings != {"longest": 3} or not all(one.ended for one in expected)


def test_for_machines(run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = [json.loads(line) for line in done(capsys, "caption", run, "photos", "--json").splitlines()]
    for file, one, found in zip(files_of(here), said(files_of(here)), told, strict=True):
        assert found["image"] == str(file.relative_to(here))
        assert found["sentence"] == one.sentence
        assert found["ended"] == one.ended
        assert found["log_probability"] == pytest.approx(one.log_probability, abs=1e-4)
        assert [word["word"] for word in found["words"]] == list(one.words)
        assert [word["looked"] for word in found["words"]] == [place_of(attention) for attention in one.attention]
        for word, attention in zip(found["words"], one.attention, strict=True):
            assert word["sharpness"] == pytest.approx(sharpness(attention), abs=2e-4)


def test_pictures_of_where_it_looked(run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done(capsys, "caption", run, "photos/0.png", "photos/2.png", "--maps", "maps/deep")
    expected = said(files_of(here))
    assert sorted(file.name for file in (here / "maps" / "deep").iterdir()) == ["0.png", "2.png"]
    for number in (0, 2):
        with Image.open(here / "maps" / "deep" / f"{number}.png") as sheet:
            assert sheet.width == 8 + (1 + len(expected[number].words)) * (9 * SIDE + 8)


def test_pictures_of_one_name_have_a_map_each(run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "others").mkdir()
    (here / "others" / "0.png").write_bytes((here / "photos" / "2.png").read_bytes())
    done(capsys, "caption", run, "photos", "others", "--maps", "maps")
    assert sorted(file.name for file in (here / "maps").iterdir()) == ["0-2.png", "0.png", "1.png", "2.png"]
    assert (here / "maps" / "0-2.png").read_bytes() == (here / "maps" / "2.png").read_bytes()
    assert (here / "maps" / "0-2.png").read_bytes() != (here / "maps" / "0.png").read_bytes()


def test_a_network_without_attention_says_the_sentence_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = saved(here / "plain", "captioner_lstm")
    lines = done(capsys, "caption", run, "photos", "--maps", "maps").splitlines()
    assert [line.split("   ")[1].removesuffix(" …") for line in lines] == [
        one.sentence for one in said(files_of(here), "captioner_lstm")
    ]
    told = json.loads(done(capsys, "caption", run, "photos/0.png", "--json"))
    assert told["words"] == []


def test_pictures_of_other_sizes_and_channels_are_made_to_fit(
    run: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.full((40, 23), 90, np.uint8)).save(here / "grey.jpg")
    assert done(capsys, "caption", run, "grey.jpg").startswith("grey.jpg   ")


def test_a_file_that_is_no_picture_is_named_and_the_others_are_told(
    run: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "photos" / "1.png").write_bytes(b"no picture")
    code, out, err = engram(capsys, "caption", run, "photos", "absent.png")
    assert code == 2
    assert [line.split()[0] for line in out.splitlines() if not line.startswith(" ")] == [
        "photos/0.png",
        "photos/2.png",
    ]
    first, second = err.strip().splitlines()
    assert "1.png" in first
    assert "absent.png" in second
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "no images were given"),
        (("empty",), "no images were given"),
        (("photos", "--beam", 0), "width"),
        (("photos", "--longest", 0), "longest"),
    ],
)
def test_what_cannot_be_said_is_refused(
    run: Path, here: Path, capsys: pytest.CaptureFixture[str], words: tuple[object, ...], told: str
) -> None:
    (here / "empty").mkdir()
    assert told in refused(capsys, "caption", run, *words)


def test_no_run_there_and_a_run_of_another_task(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there are no weights absent" in refused(capsys, "caption", "absent", "photos")
    for task, verb in (("write", "engram write"), ("classify", "engram predict")):
        run = saved(here / task, task=task)
        message = refused(capsys, "caption", run, "photos")
        assert f"has learned to {task}, not to caption" in message
        assert verb in message


def test_predict_sends_on_to_the_verb_of_the_task(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "predict", run, "photos")
    assert "has learned to caption, not to classify images" in message
    assert f"engram caption {run}" in message


def table(folder: Path, lines: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "captions.csv").write_text(lines)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--data", "absent"), "there is no file or folder absent"),
        (("--data", "scene"), "did you mean: scenes"),
        (("--data", "scenes:3"), "'scenes:3' names no scenes"),
        (("--data", "photos"), "photos holds no captions: 3 files"),
        (("--data", "lone"), "none of the pictures with captions is there: nowhere.png is not in lone"),
        (("--data", "book.txt"), "book.txt: which columns are the image and the caption cannot be told"),
        (("--data", "good", "--text.longest", 2), "every training sentence has more than 2 words"),
        (("--data", "good", "--augment", "flip"), "left would become right"),
        (("--data", "good", "--augment", "mixup:0.2"), "two pictures have no one caption"),
        (("--data", "good", "--label_smoothing", 0.1), "label_smoothing is for classes"),
        (("--data", "good", "--model", "captioner_sof_attention"), "did you mean: captioner_soft_attention"),
        (("--data", "good", "--text.unit", "character"), "captions are read by the word"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_and_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], words: tuple[object, ...], told: str
) -> None:
    table(here / "lone", "image,caption\nnowhere.png,A picture that never was.\n")
    (here / "photos").rename(here / "good")
    table(here / "good", "image,caption\n" + "".join(f"{n}.png,A picture number {n}.\n" for n in range(3)))
    (here / "photos").mkdir()
    for number in range(3):
        (here / "photos" / f"{number}.png").write_bytes((here / "good" / f"{number}.png").read_bytes())
    (here / "book.txt").write_text("the cat sees a dog.\n" * 30)
    assert told in refused(capsys, "train", *TINY, *words)
    assert not (here / "runs").exists()


def test_pictures_without_captions_are_left_out_and_counted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And captions without pictures: the rest is learned from, and the first of them is named."""
    lines = [f"{n}.png,A picture number {n} of some.\n" for n in range(2)]
    table(here / "photos", "image,caption\n" + "".join(lines) + "gone.png,It is no more.\n")
    code, out, err = engram(
        capsys, "train", *TINY, "--data", "photos", "--data.validation", 0, "--text.least", 1, "--epochs", 1,
        "--output", "run", "--batch_size", 2,
    )  # fmt: skip
    assert code == 0, out + err
    notes = json.dumps(json.loads((here / "run" / "card.json").read_text()))
    assert "gone.png" in notes
    assert "2.png" in notes
    rows = [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]
    assert next(row for row in rows if row["event"] == "start")["train_examples"] == 2


@pytest.mark.slow
def test_from_scenes_to_sentences(tmp_path: Path) -> None:
    """In processes of their own, as a person does."""
    words = (*TINY, "--data", "scenes:20", "--epochs", 2, "--clinic", "quick", "--output", "run")
    trained = commands.engram("train", *words, cwd=tmp_path)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert trained.stderr == ""
    assert "engram caption run IMAGE" in trained.stdout
    assert "BLEU-4" in trained.stdout
    for name in ("report.html", "captions.json", "captions.npz", "findings.json", "evaluation/test.json"):
        assert (tmp_path / "run" / name).is_file(), name
    told = commands.engram("caption", "run", "photos", "--json", "--longest", 4, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert len(told.stdout.splitlines()) == 3
    resumed = commands.engram("resume", "run", "--epochs", 3, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "engram caption" in commands.refused("write", "run", cwd=tmp_path)
