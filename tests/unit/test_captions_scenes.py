"""Photographs in scenes: the right ones at the right place, none in two splits, names that a sentence can bear."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from engram.data.captions.scenes_source import scenes
from engram.data.examples import Examples, Source, Unreadable
from engram.data.images import fit, to_channels
from engram.data.scenes.pictures import pictures_of
from engram.data.scenes.scene import make_scene, make_scenes
from engram.data.scenes.things import Thing
from engram.errors import UserError

CLASSES = ("airplane", "maple_tree", "cat")


class Noise(Examples):
    def __init__(self, count, classes=3, channels=3, kind=np.uint8, broken=False):
        self.labels = np.arange(count, dtype=np.int64) % classes
        self.shape, self.kind, self.broken = (channels, 20, 24), kind, broken

    def name(self, index):
        return f"{index}.png"

    def read(self, index, at_least=None):
        if self.broken and index:
            raise Unreadable(self.name(index), "truncated")
        return np.random.default_rng(index).integers(0, 256, self.shape).astype(self.kind)


def source(count=60, classes=CLASSES, **splits):
    return Source("here", "made", classes, Noise(count), **splits)


def photographs(made):
    return [(scene, thing) for scene in made for thing in scene.things if thing.picture is not None]


def test_a_photograph_lies_whole_in_its_box_and_is_of_its_class():
    given = source()
    found = photographs(make_scenes(60, pictures=pictures_of(given)))
    for scene, thing in found:
        x0, y0, x1, y1 = thing.box
        assert x1 - x0 == y1 - y0
        assert 15 <= x1 - x0 <= 16
        assert (x0 // 16, y0 // 16) == ((x1 - 1) // 16, (y1 - 1) // 16) == (thing.column, thing.row)
        assert np.array_equal(scene.image[:, y0:y1, x0:x1], fit(given.train.read(thing.picture), x1 - x0))
        assert " ".join(thing.words) == CLASSES[given.train.labels[thing.picture]].replace("_", " ")
        assert any(" ".join(thing.words) in str(caption) for caption in scene.captions)
    assert {thing.words for _, thing in found} == {("airplane",), ("maple", "tree"), ("cat",)}


def test_a_third_of_the_things_are_photographs():
    many = tuple(f"thing {letter}" for letter in "abcdefgh")
    given = Source("here", "made", many, Noise(80, 8))
    made = make_scenes(400, pictures=pictures_of(given))
    counts = Counter(
        "photograph" if thing.picture is not None else "digit" if thing.digit is not None else "shape"
        for scene in made
        for thing in scene.things
    )
    for number in counts.values():  # about 1000 things: five deviations of 15
        assert abs(number - counts.total() / 3) < 75
    assert all(len({thing.words for thing in scene.things}) == len(scene.things) for scene in made)


def test_without_photographs_a_scene_is_what_it_was():
    assert [str(make_scene(index).captions[0]) for index in range(2)] == ["a nine below a two", "a one below a five"]


@pytest.mark.parametrize("brought", [(), ("test",), ("validation",), ("test", "validation")])
def test_no_photograph_is_in_two_splits(brought):
    given = source(**{split: Noise(9) for split in brought})
    pictures = pictures_of(given)
    seen = {}
    for split in ("train", "validation", "test"):
        own = [row for rows in pictures.rows[split] for row in rows.tolist()]
        assert all(
            (pictures.examples[split].labels[rows] == kind).all() for kind, rows in enumerate(pictures.rows[split])
        )
        assert (pictures.examples[split] is not given.train) == (split in brought)
        seen[split] = own
        found = photographs(make_scenes(80, split=split, pictures=pictures))
        assert {thing.picture for _, thing in found} <= set(own)
    cut = [row for split, own in seen.items() if split not in brought for row in own]
    assert sorted(cut) == list(range(60))  # all of training, each once
    if not brought:
        assert [len(seen[split]) for split in ("train", "validation", "test")] == [39, 9, 12]


def test_what_cannot_be_in_a_scene_is_refused():
    for classes, part in (
        (("cat", "seven", "dog"), "'seven'"),
        (("cat", "red_square", "dog"), "'red_square'"),
        (("cat", "?", "dog"), "'?'"),
        (("cat", "Cat", "dog"), "'Cat'"),
    ):
        with pytest.raises(UserError) as caught:
            pictures_of(source(classes=classes))
        assert part in str(caught.value)
    with pytest.raises(UserError, match="'airplane' of here has 4 pictures"):
        pictures_of(source(12))
    for examples in (Noise(60, kind=np.float32), Noise(60, channels=1)):
        given = Source("here", "made", CLASSES, examples)
        if examples.kind is np.float32:
            with pytest.raises(UserError, match="no pictures"):
                pictures_of(given)
        else:  # grey is no less a photograph
            scene, thing = photographs(make_scenes(20, pictures=pictures_of(given)))[0]
            x0, y0, x1, y1 = thing.box
            whole = to_channels(given.train.read(thing.picture), 3)
            assert np.array_equal(scene.image[:, y0:y1, x0:x1], fit(whole, x1 - x0))
    with pytest.raises(UserError, match="cannot be read"):
        make_scenes(20, pictures=pictures_of(Source("here", "made", CLASSES, Noise(60, broken=True))))


def test_articles():
    words = ("airplane", "cat", "eight", "one", "ankle", "zero")
    assert [Thing((word,), (0, 0, 1, 1), 0, 0).article for word in words] == ["an", "a", "an", "a", "an", "a"]


def test_a_set_of_pictures_by_its_path(tmp_path):
    for kind in ("cats", "dogs"):
        (tmp_path / kind).mkdir()
        for number in range(5):
            Image.new("RGB", (20, 20), (200, 40 * number, 99)).save(tmp_path / kind / f"{number}.png")
    found = scenes(f"scenes:30:{tmp_path}")
    assert len(found.train) == 30
    words = {word for own in found.train.sentences for one in own for word in one.split()}
    assert {"cats", "dogs", "seven"} <= words
    assert len(scenes(f"scenes:10:{tmp_path}").test) == 1
    with pytest.raises(UserError, match="there is no file or folder"):
        scenes("scenes:10:/nowhere")
