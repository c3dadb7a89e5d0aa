"""A run goes on with the data it was begun with, or not at all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engram import recipe as recipes
from engram.data.examples import Examples
from engram.data.open import open_source
from engram.data.prepare import prepare
from engram.errors import UserError
from engram.recipe import Data
from engram.training import fingerprint
from engram.training.assemble import assemble
from engram.training.fingerprint import differences, of_pools
from quiet import DEVICE, resume, train

CPU = torch.device("cpu")
SHORT: dict[str, Any] = {"model": "mlp", "epochs": 1, "batch_size": 32}


def arrays(path: Path, seed: int = 0, examples: int = 120) -> Path:
    rng = np.random.default_rng(seed)
    np.savez(path, x=rng.integers(0, 255, (examples, 6, 6), dtype=np.uint8), y=rng.integers(0, 3, examples))
    return path


def of(path: Path, **settings: Any) -> fingerprint.Fingerprint:
    prepared = prepare(open_source(path), Data(**settings), seed=0, device=CPU)
    return of_pools(
        prepared.classes, {"train": prepared.train, "validation": prepared.validation, "test": prepared.test}
    )


def pictures(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
        for index in range(6):
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / name / f"{index}.png")
    return folder


def test_a_run_is_not_resumed_on_other_data(tmp_path):
    """Other pixels and labels in a file of the same name and size: the case that nothing else notices."""
    path = arrays(tmp_path / "chg.npz")
    run = train("classify", path, tmp_path / "run", stop=2, **SHORT)
    assert run.reason == "interrupted"
    state = (run.folder / "state" / "last.pt").read_bytes()
    arrays(path, seed=1)
    with pytest.raises(UserError) as told:
        resume(run.folder)
    text = str(told.value)
    assert f"{run.folder} was trained on other data than {path} is now" in text
    assert "train has other" in text
    assert "labels" in text
    assert f"engram train --recipe {run.folder}/recipe.toml" in text
    assert len(text.splitlines()) <= 5
    assert (run.folder / "state" / "last.pt").read_bytes() == state
    arrays(path)
    assert resume(run.folder).reason == "finished"  # put back, it goes on


def test_a_run_of_before_fingerprints_goes_on_and_has_one_then(tmp_path):
    run = train("classify", arrays(tmp_path / "chg.npz"), tmp_path / "run", stop=2, **SHORT)
    path = run.folder / "state" / "last.pt"
    content = torch.load(path, weights_only=True)
    kept = content["more"].pop("data")
    torch.save(content, path)
    assert resume(run.folder).reason == "finished"
    assert torch.load(path, weights_only=True)["more"]["data"] == kept


def test_one_pixel_or_one_label_of_an_array_is_noticed(tmp_path):
    before = of(arrays(tmp_path / "a.npz"))
    held = dict(np.load(tmp_path / "a.npz"))
    assert differences(before, of(arrays(tmp_path / "a.npz"))) == []
    assert differences(before, of(arrays(tmp_path / "a.npz", examples=100)))[0] == "train has 90 examples, not 108"
    changed = {**held, "x": held["x"].copy()}
    changed["x"][:, 3, 3] += 1
    np.savez(tmp_path / "a.npz", **changed)
    assert differences(before, of(tmp_path / "a.npz")) == ["train has other content", "validation has other content"]
    swapped = {**held, "y": (held["y"] + 1) % 3}
    np.savez(tmp_path / "a.npz", **swapped)
    assert any("other" in one and "labels" in one for one in differences(before, of(tmp_path / "a.npz")))


def test_a_folder_is_known_by_names_labels_and_sizes_and_its_pictures_are_not_read(tmp_path, monkeypatch):
    folder = pictures(tmp_path / "animals")
    before = of(folder)
    assert of(folder, memory=0) == before  # streamed or resident, which depends on what is free
    prepared = prepare(open_source(folder), Data(), seed=0, device=CPU)
    with monkeypatch.context() as closed:
        closed.setattr(type(prepared.train.examples), "read", lambda *_: pytest.fail("a picture was read"))
        assert of_pools(prepared.classes, {"train": prepared.train})["train"] == before["train"]
    (folder / "cats" / "0.png").rename(folder / "cats" / "00.png")
    assert any("other names" in one for one in differences(before, of(folder)))
    (folder / "cats" / "00.png").rename(folder / "cats" / "0.png")
    assert of(folder) == before
    for index in range(6):
        Image.fromarray(np.full((8, 8, 3), 10 * index, np.uint8)).save(folder / "cats" / f"{index}.png")
    assert "train has other content" in differences(before, of(folder))
    (folder / "dogs").rename(folder / "wolves")
    assert "classes has other names" in differences(before, of(folder))


def test_what_is_large_is_sampled_evenly_to_its_ends(monkeypatch):
    monkeypatch.setattr(fingerprint, "MOST_BYTES", 40)
    x, y = np.zeros((100, 4), np.uint8), np.zeros(100, np.int64)
    before = fingerprint.of_arrays(x, y)
    for place in (0, 99):
        other = x.copy()
        other[place] = 1
        assert fingerprint.of_arrays(other, y) != before
    assert fingerprint.of_arrays(x.astype(np.int8), y) != before


class Drawn(Examples):
    """A source of one's own, which can say neither its array nor its sizes."""

    def __init__(self, value: int) -> None:
        self.value, self.labels = value, np.arange(50) % 2

    def name(self, index: int) -> str:
        return str(index)

    def read(self, index: int, at_least: int | None = None) -> np.ndarray:
        return np.full((1, 4, 4), self.value + index, np.uint8)


def test_a_source_of_ones_own_is_known_by_some_of_its_examples():
    def content(value):
        return fingerprint._digest(fingerprint._content(Drawn(value), np.arange(50)))

    assert content(3) == content(3) != content(4)


def test_texts_and_labels_of_steps_have_one_too(tmp_path):
    book = tmp_path / "book.txt"
    rng = np.random.default_rng(0)
    for words in (("cat", "owl"), ("cow", "owl")):
        book.write_text(" ".join(rng.choice(words, 800)), encoding="utf-8")
        texts = assembled(task="write", data=str(book), model={"name": "char_rnn", "hidden_size": 4})
        assert set(texts.fingerprint()) == {"train", "validation", "test"}
        if words[0] == "cat":
            before = texts.fingerprint()
            assert differences(before, texts.fingerprint()) == []
    assert "train has other content" in differences(before, texts.fingerprint())
    x, y = rng.normal(size=(40, 8)).astype(np.float32), rng.integers(0, 2, (40, 8))
    prints = []
    for labels in (y, 1 - y):
        np.savez(tmp_path / "steps.npz", x_train=x, y_train=labels)
        model = {"name": "rnn", "hidden_size": 4, "read": "every"}
        prints.append(assembled(task="label", data=str(tmp_path / "steps.npz"), model=model).fingerprint())
    assert differences(*prints) == ["train has other labels", "validation has other labels"]


def assembled(**settings: Any):
    return assemble(recipes.build({"device": DEVICE, **settings}))


def test_captions_have_one_too(tmp_path):
    folder = pictures(tmp_path / "animals") / "cats"
    names = [f"{index}.png" for index in range(6)]

    def found(last: str) -> fingerprint.Fingerprint:
        rows = [f"{name},A {'red' if index % 2 else 'blue'} cat." for index, name in enumerate(names[:-1])]
        (folder / "captions.csv").write_text("\n".join(["image,caption", *rows, f"{names[-1]},A {last} cat."]) + "\n")
        settings = {"model": {"name": "captioner_rnn", "hidden_size": 4, "embedding_size": 4, "encoder_halvings": 1}}
        return assembled(task="caption", data=str(folder), **settings, **{"data.validation": 0.4}).fingerprint()

    before = found("red")
    assert differences(before, found("red")) == []
    assert any("other labels" in one for one in differences(before, found("blue")))
