"""Captions made ready: pictures once, sentences each; no picture on both sides; what is unknown or too long."""

import numpy as np
import pytest
import torch

from engram.data.captions.caption_card import caption_card, text_of
from engram.data.captions.caption_pool import CaptionPool
from engram.data.captions.numbered import numbered, vocabulary_of
from engram.data.captions.prepare_captions import prepare_captions
from engram.data.captions.scenes_source import scenes
from engram.data.captions.source import Captioned, CaptionSource
from engram.data.examples import Examples, Unreadable
from engram.data.form import Form
from engram.data.pool import Pool, fill
from engram.data.pool_streamed import StreamedPool
from engram.errors import UserError
from engram.recipe import Data

CPU = torch.device("cpu")


class Shades(Examples):
    """Picture n is of one colour, n and twice n and 7; some cannot be read."""

    def __init__(self, count, side=5, broken=()):
        self.labels = np.zeros(count, np.int64)
        self.side, self.broken, self.reads = side, broken, []

    def name(self, index):
        return f"{index}.jpg"

    def read(self, index, at_least=None):
        self.reads.append(index)
        if index in self.broken:
            raise Unreadable(self.name(index), "truncated")
        return np.broadcast_to(np.array([index, 2 * index, 7], np.uint8)[:, None, None], (3, self.side, self.side + 1))


def sentences(count):
    """Picture n has n % 3 + 1 sentences, told apart by their length."""
    return tuple(tuple("x" + " y" * order + f" w{index}" for order in range(index % 3 + 1)) for index in range(count))


def source(count=30, **changes):
    made = {"train": Captioned(Shades(count), sentences(count)), **changes}
    return CaptionSource("here", "made", **made)


def prepared(given=None, recipe=None, **settings):
    return prepare_captions(given or source(), recipe or Data(), seed=0, device=CPU, **settings)


def streamed(given, rows=None):
    rows = np.arange(len(given)) if rows is None else rows
    return StreamedPool(given, rows, Form((3, 5, 6), pictures=True), CPU, workers=0)


def written(pool, vocabulary, indices):
    return [vocabulary.decode(row) for row in pool.sentences(torch.tensor(indices)).tolist()]


def test_a_batch_has_the_picture_of_each_sentence():
    found = prepared()
    pool: Pool = found.train  # all that training asks of a pool
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(1))
    for chosen, (x, y) in zip(order.split(8), pool.batches(order.split(8)), strict=True):
        assert x.shape == (len(chosen), 3, 5, 6)
        assert x.dtype == torch.uint8
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert y.dtype == torch.int64
        assert y[:, 0].eq(1).all()
        assert not y[:, -1].eq(0).all()  # no longer than its longest
        for index, picture, row in zip(chosen.tolist(), x, y.tolist(), strict=True):
            name, number = pool.name(index).split(".jpg#")
            assert picture[:, 0, 0].tolist() == [int(name), 2 * int(name), 7]
            words = sentences(30)[int(name)][int(number)]
            assert found.vocabulary.decode(row) == words
            assert row[: len(words.split()) + 2].count(2) == 1
            assert not any(row[len(words.split()) + 2 :])
            assert pool.labels[index] == int(number)
    assert pool.pictures([0, 1]).shape == (2, 3, 5, 6)


def test_pictures_are_kept_once_and_not_for_each_sentence():
    given = source(6)
    found = prepared(given, Data(validation=0.0))
    assert len(found.train) == 12
    assert len(found.train.images) == 6
    assert found.train.images.nbytes == 6 * 3 * 5 * 6
    assert found.train.nbytes == found.train.images.nbytes + found.train.tokens.nbytes


def test_streamed_pictures_are_decoded_once_a_batch_and_give_the_same():
    given = Shades(9)
    said = numbered(sentences(9), vocabulary_of([one for own in sentences(9) for one in own], 1))
    resident = CaptionPool(fill(given, np.arange(9), Form((3, 5, 6), pictures=True), CPU)[0], said)
    pool = CaptionPool(streamed(given), said)
    parts = [torch.tensor([5, 4, 3, 5]), torch.tensor([17, 0]), torch.tensor([1])]
    given.reads.clear()
    for (x, y), (same_x, same_y) in zip(pool.batches(parts), resident.batches(parts), strict=True):
        assert torch.equal(x, same_x)
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(y, same_y)
    assert sorted(given.reads) == [0, 1, 2, 8]
    assert list(pool.batches([])) == []


def test_a_set_larger_than_memory_streams():
    found = prepared(source(), Data(memory=1e-9, workers=0))
    assert isinstance(found.train.images, StreamedPool)
    x, _ = next(found.train.batches([torch.arange(4)]))
    assert x[:, 0, 0, 0].tolist() == [int(found.train.name(index).split(".")[0]) for index in range(4)]


def names(pool):
    return {pool.name(index).split("#")[0] for index in range(len(pool))}


def test_validation_is_held_out_by_picture():
    found = prepared(source(60), Data(validation=0.25))
    train, held = names(found.train), names(found.validation)
    assert len(held) == 15
    assert not train & held
    assert len(train | held) == 60
    for split, pool in found.pools().items():
        assert [len(own) for own in found.references[split]] == torch.bincount(pool.picture).tolist()
    again = prepared(source(60), Data(validation=0.25))
    assert names(again.validation) == held
    other = prepare_captions(source(60), Data(validation=0.25), seed=1, device=CPU)
    assert names(other.validation) != held
    assert any("15 pictures with all of their sentences" in one.value for one in found.decisions)


def test_splits_that_the_data_brings_stay():
    found = prepared(source(validation=Captioned(Shades(2), sentences(2)), test=Captioned(Shades(3), sentences(3))))
    assert [len(pool.images) for pool in found.pools().values()] == [30, 2, 3]
    assert found.references["test"] == sentences(3)
    assert prepared(recipe=Data(validation=0.0)).validation is None
    assert prepared(recipe=Data(validation=0.0)).places is None


def test_the_limit_counts_pictures():
    found = prepared(source(60), Data(limit=20, validation=0.0))
    assert len(found.train.images) == 20
    assert len(found.references["train"]) == 20


def test_a_picture_that_cannot_be_read_takes_its_sentences_along():
    given = source(train=Captioned(Shades(30, broken=(4, 11)), sentences(30)))
    found = prepared(given, Data(validation=0.0))
    assert {one.name for one in found.unreadable} == {"4.jpg", "11.jpg"}
    assert names(found.train) == {f"{index}.jpg" for index in range(30)} - {"4.jpg", "11.jpg"}
    pool = found.train
    for index in range(len(pool)):
        number = int(pool.name(index).split(".")[0])
        assert written(pool, found.vocabulary, [index])[0].endswith(f"w{number}")
        assert found.references["train"][int(pool.picture[index])] == sentences(30)[number]
        assert pool.pictures([index])[0, 0, 0, 0] == number


def test_the_vocabulary_is_of_training_alone_and_unknown_words_are_counted():
    given = source(
        train=Captioned(Shades(2), (("a dog", "a cat"), ("a dog runs",))),
        validation=Captioned(Shades(1), (("a horse runs off",),)),
    )
    found = prepared(given, least=2)
    assert found.vocabulary.tokens == ("<padding>", "<start>", "<end>", "<unknown>", "a", "dog")
    assert found.validation.sentences(torch.tensor([0])).tolist() == [[1, 4, 3, 3, 3, 2]]
    assert found.numbered["validation"].unknown == 3
    assert "3 of 4 words in validation are <unknown> (75.0%)" in found.notes
    assert "2 of 7 words in train are <unknown> (28.6%)" in found.notes
    for least in (None, 0):
        assert len(prepared(given, least=least).vocabulary) == 8  # of so few sentences every word is kept


def test_sentences_that_are_too_long_are_left_out_whole_but_stay_references():
    found = prepared(source(6), Data(validation=0.0), longest=3)
    assert [found.train.name(index) for index in range(len(found.train))] == [
        f"{n}.jpg#{order}" for n in range(6) for order in range(min(n % 3 + 1, 2))
    ]
    assert "left out of train 2 sentences of more than 3 words: 2.jpg#2, 5.jpg#2" in found.notes
    assert found.references["train"] == sentences(6)
    assert int(found.train.lengths.max()) == 5  # with <start> and <end>
    with pytest.raises(UserError, match="more than 1 word"):
        prepared(source(6), longest=1)
    for settings in ({"least": -1}, {"longest": 0}):
        with pytest.raises(UserError, match="too small"):
            prepared(**settings)
    with pytest.raises(UserError, match="no word occurs 99 times"):
        prepared(least=99)


def test_a_split_without_a_sentence_left_is_none():
    found = prepared(source(test=Captioned(Shades(1), (("y " * 99,),))))
    assert found.test is None
    assert "test" not in found.references
    assert any("left out test" in note for note in found.notes)


def test_the_default_length_is_forty_words():
    found = numbered([["x " * 40, "x " * 41]], vocabulary_of(["x"], 1))
    assert found.lengths.tolist() == [42]
    assert found.too_long == ((0, 1),)


def test_sizes_are_chosen_as_for_classes():
    given = source(train=Captioned(Shades(8, side=40), sentences(8)))
    found = prepared(given, Data(image_size=16, validation=0.0))
    assert found.shape == (3, 16, 16)
    assert found.stored_shape == found.train.shape == (3, 18, 18)
    index = np.arange(8)
    assert found.mean == pytest.approx([index.mean(), 2 * index.mean(), 7])  # each picture once
    assert found.std == pytest.approx([index.std(), 2 * index.std(), 1])


def test_scenes_keep_the_places_of_their_words():
    given = scenes("scenes:20")
    found = prepared(given)
    assert found.places["train"] == given.train.places
    assert not any("unknown" in note for note in found.notes)
    assert [len(pool) for pool in found.pools().values()] == [100, 10, 10]


def test_progress_counts_pictures():
    told = []
    prepared(progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, 30)
    assert told[-1] == (30, 30)


def test_the_card_counts():
    train = Captioned(Shades(3), (("A dog.", "a cat"), ("a dog",), ("a dog runs " + "far " * 40,)))
    test = Captioned(Shades(1), (("A DOG", "a zebra"),))
    card = caption_card(prepared(source(train=train, test=test), Data(validation=0.0)))
    assert card["pictures"]["across"] == [["train: 0.jpg", "test: 0.jpg"]]
    assert card["pictures"]["constant_count"] == 4
    assert "1 picture to judge by" in card["warnings"][0]
    assert card["splits"]["train"] == {
        "pictures": 3,
        "sentences": 4,
        "left_out": 1,
        "mean_length": 12.25,
        "lengths": [0, 0, 3] + [0] * 40 + [1],
        "unknown": 0.0,
        "twice": 1,
    }
    assert card["splits"]["test"]["repeated"] == 1
    assert card["splits"]["test"]["unknown"] == 0.25
    assert card["words"][:3] == [["far", 40], ["a", 4], ["dog", 3]]
    assert card["vocabulary"] == 4 + 5
    assert card["different_words"] == 5
    assert card["once"] == 2
    assert any("25% of the words in test are unknown" in one for one in card["warnings"])
    text = text_of(card)
    assert "a 4 dog 3" in text
    assert "1 across splits, 4 of one single value (4 of 4 compared)" in text
    assert "left out of train 1 sentence of more than 40 words: 2.jpg#0" in text
