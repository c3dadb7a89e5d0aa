"""What the examples of a split are told by: the same content agrees wherever it lies, other content does not."""

import numpy as np
import pytest

from engram import recipe as recipes
from engram.data.open import open_source
from engram.study.examples import fingerprints
from engram.training.assemble import assemble


def told(**settings):
    return fingerprints(assemble(recipes.build({"model": "mlp", "device.threads": 1, **settings})))


def write(path, *, classes=10, change=None, copies=1):
    """The digits as an npz, with or without a change of their arrays."""
    source = open_source("digits")
    assert source.test is not None
    arrays = {}
    for split, examples in (("train", source.train), ("test", source.test)):
        chosen = np.flatnonzero(examples.labels < classes)[::copies]
        arrays[f"x_{split}"] = np.stack([examples.read(int(row)) for row in chosen])
        arrays[f"y_{split}"] = examples.labels[chosen].copy()
    if change is not None:
        change(arrays)
    np.savez(path, **arrays)
    return str(path)


def test_every_split_has_its_own_letters():
    own = told(data="digits")
    assert set(own) == {"train", "validation", "test"}
    assert len(set(own.values())) == 3
    assert own == told(data="digits", epochs=3, **{"optimizer.name": "adam"})


def test_a_copy_agrees_and_a_change_of_the_test_split_does_not(tmp_path):
    own = told(data=write(tmp_path / "one.npz"))
    assert own == told(data=write(tmp_path / "copy.npz"))

    def wrong_label(arrays):
        arrays["y_test"][3] = (arrays["y_test"][3] + 1) % 10

    def darker(arrays):
        arrays["x_test"] = arrays["x_test"] // 2

    for number, change in enumerate((wrong_label, darker)):
        other = told(data=write(tmp_path / f"{number}.npz", change=change))
        assert other["test"] != own["test"]
        assert other["train"] == own["train"]
    assert told(data=write(tmp_path / "two.npz", classes=2))["test"] != own["test"]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"data.validation": 0.5}, {"test"}),
        ({"data.limit": 100}, {"test"}),
        ({"seed": 1}, {"test"}),
        ({"data.image_size": 16}, {"train", "validation", "test"}),
        ({"data.memory": 0.0, "data.workers": 0}, {"train", "validation", "test"}),
    ],
)
def test_settings_change_the_letters_of_the_splits_that_they_change(change, same):
    own, other = told(data="digits"), told(data="digits", **change)
    assert {split for split in own if own[split] == other[split]} == same


def test_text_is_the_same_in_whatever_units_it_is_read(tmp_path):
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 200)
    common = {"task": "write", "data": str(tmp_path / "text.txt"), "model": "char_rnn"}
    own = told(**common)
    assert set(own) == {"train", "validation", "test"}
    assert own == told(**common, **{"text.unit": "byte", "text.chunk": 16})
    other = told(**common, **{"text.test": 0.2})
    assert other["test"] != own["test"]


def test_captions_and_labels_of_every_step(tmp_path):
    scenes = {"task": "caption", "data": "scenes:60", "model": "captioner_lstm"}
    assert told(**scenes) == told(**scenes, **{"text.least": 2})
    other = told(**{**scenes, "data": "scenes:80"})
    assert not {split for split, letters in told(**scenes).items() if other[split] == letters}
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 1, 8)).astype(np.float32), rng.integers(0, 2, (20, 8))
    np.savez(tmp_path / "steps.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    np.savez(tmp_path / "other.npz", x_train=x, y_train=y, x_test=x, y_test=1 - y)
    steps, other = (
        told(task="label", data=str(tmp_path / f"{name}.npz"), model="rnn", **{"model.read": "every"})
        for name in ("steps", "other")
    )
    assert steps["train"] == other["train"]
    assert steps["test"] != other["test"]
