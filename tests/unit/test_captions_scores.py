"""Where attention lies, by hand numbers; the places of words in sentences that a network wrote; the scores at once."""

import numpy as np
import pytest

from engram.data.captions.attention_score import attention_of_sentences, attention_score, joined
from engram.data.captions.naming_places import names_in, places_of
from engram.data.captions.score_captions import score_captions
from engram.data.scenes.scene import make_scenes
from engram.errors import UserError
from engram.text.scores.bleu import bleu
from engram.text.scores.cider import cider_d
from engram.text.scores.rouge import rouge_l


def test_mass_by_hand():
    # a grid of 2 x 2 over 8 x 8 pixels; the box covers 2 of 4 columns and 3 of 4 rows of the upper right cell,
    # and the same columns and 1 of 4 rows of the lower right one
    found = attention_score([[[0.1, 0.4], [0.2, 0.3]]], [(4, 1, 6, 5)], (8, 8))
    assert found.mass == pytest.approx([0.4 * 6 / 16 + 0.3 * 2 / 16])
    assert found.area == pytest.approx([8 / 64])
    assert found.pointed.tolist() == [0.0]  # the middle of the cell, (6, 2), is the first pixel outside
    assert found.pointed_by_chance.tolist() == [0.0]


def test_axes_and_sides_are_not_swapped():
    maps = np.zeros((1, 2, 4))  # 2 rows of 4 cells over 6 rows of 12 pixels: cells of 3 x 3
    maps[0, 1, 0] = 1
    assert attention_score(maps, [(0, 3, 3, 6)], (6, 12)).means() == {
        "words": 1,
        "mass": 1.0,
        "area": 9 / 72,
        "pointed": 1.0,
        "pointed_by_chance": 1 / 8,
    }
    assert attention_score(maps, [(3, 0, 12, 3)], (6, 12)).means()["mass"] == 0.0
    assert attention_score(maps, [(3, 0, 12, 3)], (6, 12)).pointed_by_chance.tolist() == [3 / 8]


def test_an_even_gaze_has_the_mass_of_chance():
    rng = np.random.Generator(np.random.PCG64(0))
    for _ in range(50):
        x, y = np.sort(rng.choice(49, 2, replace=False)), np.sort(rng.choice(33, 2, replace=False))
        box = (int(x[0]), int(y[0]), int(x[1]), int(y[1]))
        found = attention_score(np.full((1, *rng.integers(1, 9, 2)), 0.3), [box], (32, 48))
        assert found.mass == pytest.approx(found.area)
        assert found.pointed == pytest.approx(found.pointed_by_chance)  # all as large: their mean


def test_mass_is_what_pixels_add_up_to():
    rng = np.random.Generator(np.random.PCG64(1))
    maps = rng.random((4, 3, 5))
    boxes = [(2, 0, 9, 4), None, (0, 3, 15, 9), (14, 8, 15, 9)]
    found = attention_score(maps, boxes, (9, 15))
    assert found.word.tolist() == [0, 2, 3]
    for word, mass, area in zip(found.word, found.mass, found.area, strict=True):
        x0, y0, x1, y1 = boxes[word]
        pixels = np.repeat(np.repeat(maps[word], 3, 0), 3, 1) / (9 * maps[word].sum())
        assert mass == pytest.approx(pixels[y0:y1, x0:x1].sum())
        assert area == (x1 - x0) * (y1 - y0) / 135


def test_the_largest_of_several_counts_by_halves():
    assert attention_score([[[2, 2, 1]]], [(0, 0, 1, 1)], (1, 3)).pointed.tolist() == [0.5]


def test_joined_and_empty():
    one = attention_score([[[1, 0]], [[0, 1]]], [None, (0, 0, 1, 1)], (1, 2))
    two = attention_score([[[1, 0]]], [(0, 0, 1, 1)], (1, 2))
    assert joined([one, two]).mass.tolist() == [0.0, 1.0]
    assert joined([one, two]).word.tolist() == [1, 0]
    assert joined([]).means() == {"words": 0}
    assert attention_score(np.ones((1, 2, 2)), [None], (4, 4)).means() == {"words": 0}


@pytest.mark.parametrize(
    ("maps", "boxes"),
    [
        (np.ones((2, 2, 2)), [(0, 0, 1, 1)]),
        (np.ones((2, 2)), [(0, 0, 1, 1)] * 2),
        (np.zeros((1, 2, 2)), [(0, 0, 1, 1)]),
        (-np.ones((1, 2, 2)), [(0, 0, 1, 1)]),
        (np.full((1, 2, 2), np.nan), [(0, 0, 1, 1)]),
        (np.full((1, 2, 2), np.inf), [(0, 0, 1, 1)]),
        (np.ones((1, 2, 2)), [(0, 0, 9, 1)]),
        (np.ones((1, 2, 2)), [(0, 0, 1, 9)]),
        (np.ones((1, 2, 2)), [(-1, 0, 1, 1)]),
        (np.ones((1, 2, 2)), [(1, 0, 1, 1)]),
    ],
)
def test_what_is_no_attention_is_refused(maps, boxes):
    with pytest.raises(UserError):
        attention_score(maps, boxes, (8, 8))


def test_the_places_of_a_scenes_own_sentences_are_found_again():
    for scene in make_scenes(60):
        first, *others = scene.captions
        names = names_in([str(first)], [first.boxes])
        assert names == {thing.words: thing.box for thing in scene.things}
        for caption in others:  # told from the first sentence alone
            assert places_of(caption.words, names) == caption.boxes


def test_a_name_is_whole_or_none():
    names = {("red", "square"): (0, 0, 4, 4), ("red",): (5, 5, 6, 6), ("one",): (7, 7, 8, 8)}
    assert places_of(("red", "red", "square", "one", "red"), names) == (
        (5, 5, 6, 6),
        (0, 0, 4, 4),
        (0, 0, 4, 4),
        (7, 7, 8, 8),
        (5, 5, 6, 6),
    )
    assert places_of(("red", "circle"), {("red", "square"): (0, 0, 4, 4)}) == (None, None)
    assert places_of((), names) == ()
    assert places_of(("a",), {}) == (None,)


def test_attention_of_whole_sentences_about_scenes():
    made = make_scenes(5)
    references = [[str(caption) for caption in scene.captions] for scene in made]
    places = [[caption.boxes for caption in scene.captions] for scene in made]
    written, maps = [], []
    for scene in made:  # all attention on the first thing, at every word of the second sentence and its end
        x0, y0, x1, y1 = scene.things[0].box
        gaze = np.zeros((48, 48))
        gaze[y0:y1, x0:x1] = 1
        written.append(scene.captions[1].words)
        maps.append(np.stack([gaze] * (len(written[-1]) + 1)))
    found = attention_of_sentences(written, maps, references, places, (48, 48))
    own = [float(box == scene.things[0].box) for scene in made for box in scene.captions[1].boxes if box is not None]
    assert found.mass == pytest.approx(own)
    assert found.pointed == pytest.approx(own)
    with pytest.raises(UserError, match="for 3 words"):
        attention_of_sentences([("a", "b", "c")], [np.ones((2, 4, 4))], [["a"]], [[(None,)]], (48, 48))


def test_all_scores_at_once():
    said = ["a dog runs on the grass", "two red birds sit on a fence"]
    wrote = [["A dog runs on grass.", "the dog runs"], ["Two birds are sitting on a fence."]]
    found = score_captions(said, wrote)
    assert [found[f"bleu{order}"] for order in (1, 2, 3, 4)] == list(bleu(said, wrote))
    assert found["rouge_l"] == rouge_l(said, wrote)
    assert found["cider"] == cider_d(said, wrote)
    assert "cider" not in score_captions(said[:1], wrote[:1])  # undefined for one picture
