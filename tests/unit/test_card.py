"""The data card: what is counted is right, what is planted is found, and what is sound is left alone."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from engram.augment import compose
from engram.data import card, comparison
from engram.data.examples import Examples, Source, Unreadable
from engram.data.open import open_source
from engram.data.prepare import prepare
from engram.recipe import Data

CPU = torch.device("cpu")


class Given(Examples):
    """Pictures given as a list; None cannot be read."""

    def __init__(self, pictures, labels, prefix):
        self.pictures, self.labels, self.prefix = pictures, np.array(labels, np.int64), prefix

    def name(self, index):
        return f"{self.prefix}{index}"

    def read(self, index, at_least=None):
        if self.pictures[index] is None:
            raise Unreadable(self.name(index), "truncated")
        return self.pictures[index]


def photo(seed, size=32):
    """A smooth random picture: as different from the next as photographs are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.array(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


def made(train, labels, test=None, test_labels=()):
    source = Source("here", "made", ("a", "b"), Given(train, labels, "t"), test=test and Given(test, test_labels, "s"))
    prepared = prepare(source, Data(validation=0.0), seed=0, device=CPU)
    return card.make_card(prepared, source), prepared


def test_counts_imbalance_and_sizes():
    found, _ = made([photo(index) for index in range(44)], [0] * 40 + [1] * 4)
    assert found.counts == {"train": [40, 4]}
    assert found.imbalance == 10.0
    share = np.array([40, 4]) / 44
    assert found.effective_classes == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert found.sizes["commonest"] == [{"size": [32, 32], "count": 44}]
    said = " ".join(str(one) for one in found.warnings)
    assert "10 times the examples" in said
    assert "fewer than 20 training examples of b" in said
    json.dumps(found.to_dict())


def test_what_is_planted_is_found_worst_first():
    train = [photo(index) for index in range(60)]
    train[10] = train[3]  # a copy, same label
    train[21] = train[4]  # a copy with the other label
    train[30] = np.full((3, 32, 32), 9, np.uint8)
    test = [photo(1000), train[6]]
    labels = [index % 2 for index in range(60)]
    labels[10] = labels[3]
    labels[21] = 1 - labels[4]
    train[50] = None
    found, _ = made(train, labels, test, [0, 0])
    assert found.duplicates.exact == [["t3", "t10"], ["t4", "t21"]]
    assert found.duplicates.across == [["train: t6", "test: s1"]]
    assert found.duplicates.conflicting_count == 1
    assert found.duplicates.conflicting[0][0].endswith("t4")
    assert found.constant == ["t30"]
    assert found.unreadable == [{"name": "t50", "why": "truncated"}]
    texts = [one.text for one in found.warnings]
    assert "more than one split" in texts[0]
    assert "two different labels" in texts[1]
    assert "t50 first" in texts[2]


def darker(picture):
    return (picture * 0.8).astype(np.uint8)


def test_near_copies_across_splits_and_under_two_labels_are_told():
    train = [photo(index) for index in range(60)]
    train[20] = darker(train[8])
    labels = [index % 2 for index in range(60)]
    labels[20] = 1 - labels[8]
    test = [photo(1000), darker(train[6]), train[7], darker(train[7])]
    found, _ = made(train, labels, test, [0, labels[6], labels[7], labels[7]])
    told = found.duplicates
    assert (told.compared, told.of) == (64, 64)
    assert told.across == [
        ["train: t7", "test: s2"],  # copies first
        ["train: t6", "test: s1"],
        ["train: t7", "test: s2", "test: s3"],  # a copy goes where its original goes
    ]
    assert (told.across_count, told.across_near_count) == (3, 2)
    assert told.near == [["t8", "t20"]]
    assert told.conflicting == [[f"{'ab'[labels[8]]}: t8", f"{'ab'[labels[20]]}: t20"]]
    assert (told.conflicting_count, told.conflicting_near_count) == (1, 1)
    assert str(found.warnings[0]).startswith(
        "3 examples stand in more than one split, 2 of them as nearly the same picture: train: t7 = test: s2; take them"
    )
    json.dumps(found.to_dict())


def test_names_show_both_splits_first():
    train = [photo(index) for index in range(30)]
    train[5] = train[9] = train[2]
    found, _ = made(train, [0, 1] * 15, [train[2]], [0])
    assert found.duplicates.across == [["train: t2", "test: s0", "train: t5", "train: t9"]]
    assert found.duplicates.across_count == 1


def test_pictures_of_one_colour_are_told_and_pair_with_nothing():
    train = [photo(index) for index in range(30)]
    train[3] = np.broadcast_to(np.array([200, 0, 0], np.uint8)[:, None, None], (3, 32, 32)).copy()
    train[4] = np.full((3, 32, 32), 90, np.uint8)
    train[5] = np.full((3, 32, 32), 90, np.uint8)
    train[5][0, 0, 0] = 93  # not of one colour, and yet nothing to see
    found, _ = made(train, [0, 1] * 15)
    assert found.constant == ["t3", "t4"]
    assert found.duplicates.near_count == 0
    assert "2 examples are one single value" in " ".join(str(one) for one in found.warnings)


def test_of_a_streamed_set_a_sample_is_compared_and_the_card_says_so(monkeypatch):
    monkeypatch.setattr(comparison, "SAMPLE", 20)
    train = [photo(index) for index in range(50)]
    source = Source("here", "made", ("a", "b"), Given(train, [0, 1] * 25, "t"))
    prepared = prepare(source, Data(validation=0.0, memory=0.0, workers=0), seed=0, device=CPU)
    found = card.make_card(prepared, source).duplicates
    assert (found.compared, found.of) == (20, 50)


def test_different_digits_are_no_duplicates():
    source = open_source("digits")
    prepared = prepare(source, Data(), seed=0, device=CPU)
    found = card.make_card(prepared, source)
    assert found.duplicates.exact_count == 0
    assert found.duplicates.near_count == 0  # of 1.6 million pairs


def test_the_sheet_shows_what_the_network_sees():
    pictures = [photo(index) for index in range(40)]
    _, prepared = made(pictures, [index % 2 for index in range(40)])
    mean, std = torch.tensor(prepared.mean).float() / 255, torch.tensor(prepared.std).float() / 255
    plain = compose((), size=(32, 32), mean=mean, std=std)
    page = np.array(Image.open(io.BytesIO(card.sheet_as_seen(prepared, plain, seed=0))))
    first = page[4 : 4 + 64 : 2, 4 : 4 + 64 : 2]  # enlarged twice
    distance = min(np.abs(first.astype(int) - picture.transpose(1, 2, 0)).max() for picture in pictures)
    assert distance <= 1  # one of them, but for rounding
    assert Image.open(io.BytesIO(card.sheet_of_classes(prepared))).size == (8 * 68 + 4, 2 * 68 + 4)


def test_signals_have_a_card_and_no_sheet(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "signals.npz", x=rng.normal(size=(60, 2, 32)).astype(np.float32), y=np.arange(60) % 3)
    source = open_source(tmp_path / "signals.npz")
    prepared = prepare(source, Data(), seed=0, device=CPU)
    found = card.make_card(prepared, source)
    assert found.dtype == "float32"
    assert found.duplicates.near_count == 0
    assert card.sheet_of_classes(prepared) is None
