"""Where a captioner looked: in words for each ninth of the picture, and as pictures whose dark is where it did not."""

import io

import numpy as np
import pytest
from PIL import Image

from engram.text.describe import Description
from engram.text.looks import GAP, LINE, place_of, sharpness, strip

NINTHS = [
    ["top left", "top", "top right"],
    ["left", "middle", "right"],
    ["bottom left", "bottom", "bottom right"],
]


def alone(size: tuple[int, int], place: tuple[int, int]) -> np.ndarray:
    attention = np.zeros(size, np.float32)
    attention[place] = 0.2  # any scale
    return attention


def test_every_ninth_has_its_name() -> None:
    found = [[place_of(alone((3, 3), (down, across))) for across in range(3)] for down in range(3)]
    assert found == NINTHS


@pytest.mark.parametrize(
    ("size", "place", "name"),
    [((6, 12), (5, 3), "bottom left"), ((6, 12), (3, 4), "middle"), ((12, 6), (4, 5), "right"), ((1, 1), (0, 0), "")],
)
def test_axes_are_not_swapped_and_any_grid_will_do(size: tuple[int, int], place: tuple[int, int], name: str) -> None:
    assert place_of(alone(size, place)) == (name or "middle")


def test_it_is_the_middle_of_the_mass() -> None:
    attention = alone((3, 3), (0, 0)) + alone((3, 3), (0, 2))
    assert place_of(attention) == "top"
    assert place_of(np.array([[8.0, 0.0, 1.0]])) == "left"
    assert place_of(np.array([[1.0, 0.0, 1.0]])) == "middle"


def test_sharpness_by_hand() -> None:
    assert sharpness(np.full((4, 5), 0.3)) == pytest.approx(0.1)  # 2 of 20 places
    assert sharpness(np.arange(20.0).reshape(4, 5)) == pytest.approx((19 + 18) / 190)
    assert sharpness(alone((7, 7), (3, 3))) == pytest.approx(1.0)
    assert sharpness(np.array([[1.0, 3.0, 4.0]])) == pytest.approx(0.5)  # at least one place
    assert sharpness(np.arange(25.0).reshape(5, 5)) == pytest.approx((24 + 23) / 300)  # 2.5 is 2 places
    assert sharpness(np.arange(100.0).reshape(10, 10)) == pytest.approx(sum(range(90, 100)) / 4950)


def drawn(pixels: np.ndarray, words: tuple[str, ...], attention: np.ndarray | None, side: int = 48) -> np.ndarray:
    said = Description(" ".join(words), words, attention, -1.0)
    with Image.open(io.BytesIO(strip(pixels, said, side=side))) as image:
        assert image.format == "PNG"
        return np.asarray(image)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_strip_has_the_picture_and_a_tile_a_word(channels: int) -> None:
    pixels = np.full((channels, 12, 16), 200, np.uint8)
    pixels[:, :6] = 80
    attention = np.zeros((2, 2, 2), np.float32)
    attention[0, 1, 0], attention[1, 0, 1] = 0.7, 0.01
    sheet = drawn(pixels, ("low", "high"), attention)
    high, wide = 36, 48  # three times 12 and 16
    assert sheet.shape == (high + LINE + 2 * GAP, GAP + 3 * (wide + GAP), 3)
    tiles = [sheet[GAP : GAP + high, GAP + n * (wide + GAP) :][:, :wide].astype(int) for n in range(3)]
    expected = np.moveaxis(np.repeat(np.repeat(pixels, 3, 1), 3, 2), 0, -1).repeat(4 - channels, 2)
    assert np.array_equal(tiles[0], expected)
    low, upper = tiles[1], tiles[2]
    assert low[-1, 0, 0] == 200  # where it looked the picture is as it is
    assert abs(low[-1, -1, 0] - 0.15 * 200) <= 2  # and dark elsewhere
    assert abs(low[0, 0, 0] - 0.15 * 80) <= 2
    assert upper[0, -1, 0] == 80  # each on a scale of its own
    assert abs(upper[-1, 0, 0] - 0.15 * 200) <= 2
    words = [sheet[GAP + high :, GAP + n * (wide + GAP) :][:, :wide] for n in range(3)]
    assert (words[0] == 255).all()
    assert all((one < 128).any() for one in words[1:])


def test_without_attention_there_is_the_picture_alone() -> None:
    sheet = drawn(np.zeros((3, 10, 10), np.uint8), ("a", "b"), None, side=10)
    assert sheet.shape == (10 + LINE + 2 * GAP, 10 + 2 * GAP, 3)


def test_large_pictures_are_not_enlarged() -> None:
    assert drawn(np.zeros((3, 300, 200), np.uint8), (), None).shape == (300 + LINE + 2 * GAP, 200 + 2 * GAP, 3)
