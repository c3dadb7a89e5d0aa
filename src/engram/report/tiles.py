"""Many small pictures of one size as one image: fewer bytes than one each, and they stay side by side."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engram.report.markup import Markup, tag
from engram.report.pictures import uri

SMALL = 12
"""Side below which a tile is enlarged before it is put beside the others, so that the gap is not as wide as a tile."""
GAP = 1
"""Pixels between tiles, before the sheet is enlarged on the page."""

DARK, BRIGHT = np.array([176.0, 28.0, 72.0]), np.array([255.0, 214.0, 64.0])
"""Colours of an overlay where it is weak and where it is strong."""


def sheet(tiles: NDArray[np.uint8], alt: str, *, columns: int, side: int) -> Markup:
    """An `img` of tiles uint8 (N, H, W, 1 or 3), row by row, a gap between them through which the page shows.

    Args:
        side: about how many pixels on the page the longer side of a tile gets.

    >>> sheet(np.zeros((4, 2, 2, 1), np.uint8), "four", columns=2, side=24)[:68]
    Markup('<img class="tiled" alt="four" width="50" height="50" src="data:image')
    """
    longest = max(tiles.shape[1:3])
    more = -(-SMALL // longest) if longest < SMALL else 1
    tiles = tiles.repeat(more, 1).repeat(more, 2)
    count, height, width, channels = tiles.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    whole = np.zeros((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels + 1), np.uint8)
    for place, tile in enumerate(tiles):
        top, left = place // columns * (height + GAP), place % columns * (width + GAP)
        whole[top : top + height, left : left + width, :-1] = tile
        whole[top : top + height, left : left + width, -1] = 255
    return image(whole, alt, scale=max(1, side // max(height, width)))


def image(pixels: NDArray[np.uint8], alt: str, *, scale: int = 1) -> Markup:
    """An `img` of pixels uint8 (H, W, channels) as PNG: grey, grey with alpha, RGB or RGBA by how many there are."""
    height, width, channels = pixels.shape
    made = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if channels == 1 else pixels))
    written = io.BytesIO()
    made.save(written, "PNG", optimize=True)
    return tag("img", class_="tiled", alt=alt, width=width * scale, height=height * scale, src=uri(written.getvalue()))


def heat(pixels: NDArray[np.uint8], strength: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (H, W, 1 or 3) in grey with a map (H, W) laid over it: from none over red to yellow.

    >>> heat(np.full((1, 2, 1), 100, np.uint8), np.array([[0, 255]], np.uint8)).tolist()
    [[[100, 100, 100], [224, 191, 71]]]
    """
    grey = pixels.mean(2, keepdims=True).repeat(3, 2)
    share = strength[..., None] / 255
    return np.rint(grey * (1 - 0.8 * share) + 0.8 * share * (DARK + share * (BRIGHT - DARK))).astype(np.uint8)
