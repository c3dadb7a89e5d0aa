"""Ink on a canvas: shapes and digits as how much of each pixel they cover, and the box of what was covered."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from engram.data.scenes.things import Box

FINE = 4  # samples a pixel and axis from which a shape's cover is counted
FAINT = 0.15
"""Cover below which a pixel is left as it was: what is drawn is seen, and its box holds no pixel that is not."""


@cache  # nobody writes into it
def shape(name: str, side: int) -> NDArray[np.float64]:
    """A square, a circle or a triangle that fills a square of `side` pixels: (side, side) cover, 0 to 1.

    >>> [round(float(shape(name, 12).mean()), 2) for name in ("square", "circle", "triangle")]
    [1.0, 0.78, 0.5]
    """
    middle = (np.arange(side * FINE) + 0.5) / (side * FINE)  # 0 to 1, from above and from the left
    y, x = middle[:, None], middle[None, :]
    inside = {
        "square": np.ones((side * FINE, side * FINE), bool),
        "circle": (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.25,
        "triangle": abs(x - 0.5) < y / 2,  # the tip above
    }[name]
    return inside.reshape(side, FINE, side, FINE).mean((1, 3))


def digit(image: NDArray[np.uint8], side: int) -> NDArray[np.float64]:
    """A grey picture enlarged to (side, side) between its pixels, as cover from 0 to 1.

    >>> digit(np.array([[0, 255]] * 2, np.uint8), 4)[0].tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    return _enlarge(len(image), side) @ (image / 255) @ _enlarge(image.shape[1], side).T


@cache
def _enlarge(length: int, side: int) -> NDArray[np.float64]:
    """(side, length) weights of linear interpolation between the middles of pixels; the border goes on."""
    places = np.clip((np.arange(side) + 0.5) * length / side - 0.5, 0, length - 1)
    return np.maximum(0, 1 - abs(places[:, None] - np.arange(length)))


def draw(canvas: NDArray[np.uint8], cover: NDArray[np.float64], color: NDArray[np.int64], x: int, y: int) -> Box:
    """Put ink on a canvas.

    Args:
        canvas: (3, H, W), changed in place.
        cover: (h, w), 0 to 1, the share of each pixel that becomes the colour.
        color: (3,) 8-bit red, green, blue.
        x, y: pixels, where the upper left corner of `cover` comes to lie.

    Returns:
        the box of all pixels that were changed.
    """
    cover = np.where(cover < FAINT, 0.0, cover)
    under = canvas[:, y : y + cover.shape[0], x : x + cover.shape[1]]
    under[...] = np.rint(under * (1 - cover) + color[:, None, None] * cover)
    rows, columns = np.flatnonzero(cover.any(1)), np.flatnonzero(cover.any(0))
    return x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1
