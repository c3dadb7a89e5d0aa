"""Where a captioner looked, for people: in words, and as a strip of pictures, one a word.

A map of attention has a share for each of h x w places. In words it is where its middle of mass lies, in ninths of the
picture, and how much of it lies on the tenth of the places that have most: near a tenth it looked everywhere, near
all of it at one thing.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from engram.text.describe import Description

DOWN, ACROSS = ("top", "middle", "bottom"), ("left", "middle", "right")
PAPER, INK = "#ffffff", "#16181d"
GAP, LINE = 8, 18  # pixels


def place_of(attention: NDArray[np.floating]) -> str:
    """Where the middle of a map's mass lies.

    Args:
        attention: (h, w), 0 or more, not all 0.

    >>> place_of(np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    'top right'
    >>> place_of(np.ones((3, 3)))
    'middle'
    """
    shares = attention / attention.sum()
    named = []
    for axis, words in ((0, DOWN), (1, ACROSS)):
        middles = (np.arange(shares.shape[axis]) + 0.5) / shares.shape[axis]
        named.append(words[min(2, int(3 * float(shares.sum(1 - axis) @ middles)))])
    told = [word for word in named if word != "middle"]
    return " ".join(told) or "middle"


def sharpness(attention: NDArray[np.floating]) -> float:
    """Share of a map on the tenth of its places that have most, at least one place.

    >>> sharpness(np.array([[3.0, 1.0]]))
    0.75
    """
    ordered = np.sort(attention, axis=None)[::-1]
    return float(ordered[: max(1, round(len(ordered) / 10))].sum() / ordered.sum())


def strip(pixels: NDArray[np.uint8], said: Description, *, side: int = 144) -> bytes:
    """A PNG: the picture, and once a word, dark where the network did not look.

    Args:
        pixels: (C, H, W).
        side: pixels that the longer side of a picture gets, about.
    """
    channels, height, width = pixels.shape
    zoom = max(1, round(side / max(height, width)))
    picture = Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels.repeat(4 - channels, 0)[:3], 0, -1)))
    size = (width * zoom, height * zoom)
    picture = picture.resize(size, Image.Resampling.NEAREST)
    tiles = [("", picture)]
    for word, own in zip(said.words, [] if said.attention is None else said.attention, strict=False):
        bright = np.rint(255 * (0.15 + 0.85 * own / own.max())).astype(np.uint8)
        mask = Image.fromarray(bright).resize(size, Image.Resampling.BILINEAR)
        tiles.append((word, Image.composite(picture, Image.new("RGB", size), mask)))
    sheet = Image.new("RGB", (GAP + len(tiles) * (size[0] + GAP), size[1] + LINE + 2 * GAP), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for place, (word, tile) in enumerate(tiles):
        left = GAP + place * (size[0] + GAP)
        sheet.paste(tile, (left, GAP))
        pen.text((left, size[1] + GAP + 2), word, INK, font)
    written = io.BytesIO()
    sheet.save(written, "PNG")
    return written.getvalue()
