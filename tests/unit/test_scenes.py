"""Made scenes: what is said is true of the pixels, boxes hold their own thing and no other, words are balanced."""

import re
from collections import Counter
from functools import cache
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engram.data.scenes.looking import contact_sheet, picture
from engram.data.scenes.scene import SIDE, make_scene, make_scenes
from engram.data.scenes.things import Thing
from engram.data.sources.digits import digits
from engram.errors import UserError
from engram.text.words import of_sentence

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
NAMED = re.compile(r"\b(an?) ((?:red|green|blue|yellow) (?:square|circle|triangle)|" + "|".join(DIGITS) + r")\b")
WHERE = "(left of|right of|above|below)"
ASIDE = "(on its left|on its right|above it|below it)"
FORMS = {  # what each form says, as (one, where it is, of which)
    rf"# {WHERE} #(?: {WHERE} #)?": ((0, 1), (1, 2)),
    rf"# with # {ASIDE}(?: and # {ASIDE})?": ((1, 0), (2, 0)),
    rf"there is # and {WHERE} it is #(?: and {WHERE} that is #)?": ((1, 0), (2, 1)),
}


@pytest.fixture(scope="module")
def scenes():
    return [scene for split in ("train", "validation", "test") for scene in make_scenes(150, split=split, seed=1)]


def drawn(scene):
    """(48, 48) which pixels are not background."""
    colors = scene.image.astype(int).transpose(1, 2, 0) @ (65536, 256, 1)
    shades, counts = np.unique(colors, return_counts=True)
    return colors != shades[counts.argmax()]


def inside(box):
    x0, y0, x1, y1 = box
    return slice(y0, y1), slice(x0, x1)


def stated(sentence):
    """What a sentence says: (what, where, of what), names as they stand there."""
    names = [name for _, name in NAMED.findall(sentence)]
    bare = NAMED.sub("#", sentence)
    (pairs, match) = next((pairs, match) for form, pairs in FORMS.items() if (match := re.fullmatch(form, bare)))
    said = [where for where in match.groups() if where]
    assert len(said) == len(names) - 1
    return [(names[one], where, names[other]) for where, (one, other) in zip(said, pairs, strict=False)]


def is_true(one, where, other):
    """By the middles and the edges of two boxes."""
    (dx, dy) = (one[axis] + one[axis + 2] - other[axis] - other[axis + 2] for axis in (0, 1))
    if "left" in where or "right" in where:
        apart = one[2] <= other[0] if "left" in where else one[0] >= other[2]
        return apart and abs(dx) > abs(dy)
    return (one[3] <= other[1] if "above" in where else one[1] >= other[3]) and abs(dy) > abs(dx)


def test_every_sentence_is_true_of_the_boxes(scenes):
    for scene in scenes:
        boxes = {" ".join(thing.words): thing.box for thing in scene.things}
        assert len(boxes) == len(scene.things)  # nothing is there twice
        for caption in scene.captions:
            assert {name for fact in stated(str(caption)) for name in fact[::2]} == set(boxes)
            assert all(is_true(boxes[one], where, boxes[other]) for one, where, other in stated(str(caption)))


def test_the_five_sentences_differ_and_are_words_already(scenes):
    for scene in scenes:
        said = [str(caption) for caption in scene.captions]
        assert len(set(said)) == 5
        for caption, sentence in zip(scene.captions, said, strict=True):
            assert of_sentence(sentence) == list(caption.words)
            assert all((article == "an") == (name == "eight") for article, name in NAMED.findall(sentence))


def test_words_that_name_a_thing_have_its_box_and_no_others_have_one(scenes):
    for scene in scenes:
        boxes = {" ".join(thing.words): thing.box for thing in scene.things}
        for caption in scene.captions:
            expected = [None] * len(caption.words)
            for match in NAMED.finditer(str(caption)):
                first = len(str(caption)[: match.start(2)].split())
                for place in range(first, first + len(match[2].split())):
                    expected[place] = boxes[match[2]]
            assert list(caption.boxes) == expected


def test_boxes_hold_the_pixels_of_one_thing_each_and_are_tight(scenes):
    for scene in scenes:
        ink = drawn(scene)
        left = ink.copy()
        for thing in scene.things:
            own = ink[inside(thing.box)]
            assert own.shape == (thing.box[3] - thing.box[1], thing.box[2] - thing.box[0])
            for edge in (own[0], own[-1], own[:, 0], own[:, -1]):
                assert edge.any()
            left[inside(thing.box)] = False
        assert not left.any()
        for one, other in combinations([thing.box for thing in scene.things], 2):
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_what_a_box_shows_is_what_its_words_say(scenes):
    for scene in scenes:
        ink = drawn(scene)
        for thing in scene.things:
            pixels = scene.image[:, *inside(thing.box)]
            if thing.digit is not None:
                assert shows_digit(scene, thing)
                continue
            red, green, blue = (int(value) for value in pixels.reshape(3, -1).max(1))  # where it covers all
            strongest = {"red": red, "green": green, "blue": blue}
            seen = "yellow" if min(red, green) > 100 else max(strongest, key=lambda name: strongest[name])
            covered = ink[inside(thing.box)].mean()
            form = "square" if covered == 1 else "circle" if covered > 0.75 else "triangle"
            assert thing.words == (seen, form)
            # of an upright triangle the lower half is the fuller one
            rows = ink[inside(thing.box)].sum(1)
            assert (rows[-1] > 3 * rows[0]) == (form == "triangle")


@cache
def enlarged(split, side):
    """What each digit is, and all (N, side, side) enlarged by torch, 0 to 1, without what is faint."""
    examples = digits().test if split == "test" else digits().train
    assert examples is not None
    small = np.stack([examples.read(index) for index in range(len(examples))]) / 255
    large = F.interpolate(torch.from_numpy(small), (side, side), mode="bilinear")[:, 0].numpy()
    return examples.labels, np.where(large < 0.15, 0, large)


def shows_digit(scene, thing):
    """Whether the box holds that very digit, and the digit is what it is called."""
    split = scene.name.split("/")[0].replace("validation", "train")
    seen = scene.image[:, *inside(thing.box)].mean(0)
    for side in range(13, 17):
        labels, all_of_them = enlarged(split, side)
        large = all_of_them[thing.digit]
        rows, columns = (np.flatnonzero(large.any(axis)) for axis in (1, 0))
        cut = large[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        if cut.shape == seen.shape and np.corrcoef(cut.ravel(), seen.ravel())[0, 1] > 0.9999:
            return DIGITS[labels[thing.digit]] == thing.words[0]
    return False


def test_words_and_places_are_balanced(scenes):
    things = [thing for scene in scenes for thing in scene.things]
    digit = Counter(thing.words[0] for thing in things if thing.digit is not None)
    shape = Counter(thing.words for thing in things if thing.digit is None)
    where = Counter(where for scene in scenes for _, where, _ in stated(str(scene.captions[0])))
    # chi-square above these bounds once in 10,000 seeds, for independent draws; draws without repetition vary less
    for counts, kinds, bound in ((digit, 10, 33.7), (shape, 12, 37.4), (where, 4, 21.1)):
        expected = counts.total() / kinds
        assert len(counts) == kinds
        assert sum((count - expected) ** 2 / expected for count in counts.values()) < bound
    number, middles = len(things), Counter((scene.things[1].row, scene.things[1].column) for scene in scenes)
    assert abs(digit.total() - number / 2) < 4 * (number / 4) ** 0.5  # binomial
    assert abs(number / len(scenes) - 2.5) < 4 * 0.5 / len(scenes) ** 0.5
    assert sum((middles[place] - len(scenes) / 9) ** 2 / (len(scenes) / 9) for place in middles) < 31.8
    assert len(middles) == 9


def test_a_scene_is_decided_by_its_index_its_split_and_the_seed_alone():
    many = make_scenes(12, seed=3)
    again = make_scene(7, seed=3)
    assert np.array_equal(many[7].image, again.image)
    assert many[7].things == again.things
    assert many[7].captions == again.captions
    others = [make_scene(7, seed=4), make_scene(8, seed=3), make_scene(7, split="test", seed=3)]
    assert not any(np.array_equal(again.image, other.image) for other in others)


def test_splits_share_no_handwriting():
    used = {
        split: {thing.digit for scene in make_scenes(120, split=split) for thing in scene.things} - {None}
        for split in ("train", "validation", "test")
    }
    assert max(used["train"]) < 1150 <= min(used["validation"])  # four fifths of 1,438
    assert max(used["validation"]) < 1438
    assert max(used["test"]) < 359


def test_what_is_no_split_is_told():
    with pytest.raises(UserError, match="split of scenes 'trian' is not known") as told:
        make_scene(0, split="trian")
    assert told.value.nearest == "train"
    with pytest.raises(UserError, match="0 scenes"):
        make_scenes(0)


def test_a_picture_frames_each_thing_and_shows_the_scene(scenes):
    scene = next(scene for scene in scenes if len(scene.things) == 3)
    pixels = np.asarray(picture(scene, 2, zoom=6))
    shown = pixels[8 + 3 : 8 + 3 + 6 * SIDE : 6, 8 + 3 : 8 + 3 + 6 * SIDE : 6]  # the middle of each enlarged pixel
    assert np.array_equal(shown.transpose(2, 0, 1), scene.image)
    colors = {"#ff8a3d": (255, 138, 61), "#3ddcff": (61, 220, 255), "#ff5fd2": (255, 95, 210)}
    for thing, color in zip(scene.things, colors.values(), strict=True):
        x0, y0, x1, y1 = (8 + 6 * edge for edge in thing.box)
        assert (pixels[y0 - 1, x0 - 1 : x1 + 1] == color).all()
        assert (pixels[y0 - 1 : y1 + 1, x1] == color).all()
        text = pixels[8 + 6 * SIDE :]
        assert (text == color).all(2).any()  # its words, in the colour of its frame


def test_a_sheet_holds_all_pictures(scenes):
    one = picture(scenes[0], zoom=2).size
    assert contact_sheet(scenes[:5], columns=3, zoom=2).size == (3 * one[0], 2 * one[1])


def test_things_can_be_compared():
    assert Thing(("eight",), (0, 0, 1, 1), 0, 0).article == "an"
    assert Thing(("red", "square"), (0, 0, 1, 1), 0, 0).article == "a"
