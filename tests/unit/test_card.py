"""The data card: what is counted is right, what is planted is found, and what is sound is left alone."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from engram.augment import compose
from engram.data import card, duplicates
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


def reencoded(picture, quality=80):
    file = io.BytesIO()
    Image.fromarray(picture.transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file)).transpose(2, 0, 1)


def brighter(picture):
    image = ImageEnhance.Brightness(Image.fromarray(picture.transpose(1, 2, 0))).enhance(0.8)
    return np.array(image).transpose(2, 0, 1)


def resized(picture):
    image = Image.fromarray(picture.transpose(1, 2, 0)).resize((24, 24)).resize((32, 32))
    return np.array(image).transpose(2, 0, 1)


@pytest.mark.parametrize("change", [reencoded, brighter, resized])
def test_the_same_picture_stored_anew_is_a_near_duplicate(change):
    originals = [photo(index) for index in range(40)]
    changed = [change(picture) for picture in originals]
    stack = torch.from_numpy(np.stack([*originals, *changed]))
    pairs = duplicates.near(*duplicates.descriptors(stack))
    found = {(i, j) for i, j, _ in pairs}
    assert len(found & {(index, index + 40) for index in range(40)}) >= 36
    assert not found - {(index, index + 40) for index in range(40)}  # and no other


def test_different_digits_are_no_duplicates():
    source = open_source("digits")
    prepared = prepare(source, Data(), seed=0, device=CPU)
    found = card.make_card(prepared, source)
    assert found.duplicates.exact_count == 0
    assert found.duplicates.near_count <= 2  # of 1.6 million pairs


def test_flat_pictures_are_not_all_alike():
    stack = torch.zeros(30, 3, 16, 16, dtype=torch.uint8) + torch.arange(30, dtype=torch.uint8)[:, None, None, None]
    assert duplicates.near(*duplicates.descriptors(stack)) == []


def test_proposals_find_every_pair_within_three_bits():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 300, np.uint64)
    planted = [(index, index + 150) for index in range(150)]
    for i, j in planted:
        flips = rng.choice(64, rng.integers(0, 4), replace=False)
        hashes[j] = hashes[i] ^ np.bitwise_or.reduce(np.uint64(1) << flips.astype(np.uint64), initial=np.uint64(0))
    same = np.ones((300, 64), np.float32) / 8
    assert {(i, j) for i, j, _ in duplicates.near(hashes, same)} >= set(planted)


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
