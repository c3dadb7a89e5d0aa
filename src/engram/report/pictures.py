"""Pixels as data URIs, small enough that a page of them stays small: PNG for small pictures, JPEG for photographs."""

import io
from base64 import b64encode

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engram.report.markup import Markup, tag

SMALL = 64
"""Longest side, in pixels, of a picture that is kept as it is and shown enlarged with hard edges."""
LARGE = 144
"""Longest side that larger pictures are shrunk to: twice the side they are shown at."""
SHEET_BYTES = 300_000
"""Bytes above which a sheet of samples is made smaller."""
CELLS = 500
"""Side of a heat-map above which neighbouring classes share a cell."""

HIT, MISS = (36, 99, 201), (208, 74, 32)


def uri(content: bytes, kind: str = "png") -> str:
    """The bytes of an image file as a data URI.

    >>> uri(b"abc")
    'data:image/png;base64,YWJj'
    """
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def picture(pixels: NDArray[np.uint8], alt: str) -> Markup:
    """An `img` of an example, uint8 (H, W, C); of other than 1 or 3 channels the first ones are shown.

    >>> picture(np.zeros((2, 3, 1), np.uint8), "a blank")[:59]
    Markup('<img class="pixels" alt="a blank" width="3" height="2" src=')
    """
    channels = pixels.shape[2]
    image = Image.fromarray(np.ascontiguousarray(pixels[:, :, :3] if channels >= 3 else pixels[:, :, 0]))
    small = max(image.size) <= SMALL
    if small:
        source = uri(_encode(image, "PNG"))
    else:
        image.thumbnail((LARGE, LARGE))
        source = uri(_encode(image, "JPEG"), "jpeg")
    return tag("img", class_="pixels" if small else None, alt=alt, width=image.width, height=image.height, src=source)


def sheet(content: bytes, alt: str) -> Markup:
    """An `img` of an image file, made smaller where it would weigh too much.

    Raises:
        OSError: it is no image, or a broken one.
    """
    image = Image.open(io.BytesIO(content))
    image.load()
    source, size = uri(content), image.size
    if len(content) > SHEET_BYTES:
        image = image.convert("RGB")
        image.thumbnail((1200, 1200))
        source = uri(_encode(image, "JPEG"), "jpeg")
    return tag("img", class_="sheet", alt=alt, width=size[0], height=size[1], src=source)


def heat_map(confusion: NDArray[np.int64], alt: str) -> Markup:
    """An `img` of a confusion matrix (K, K), rows the truth: hits blue, mistakes orange, on whatever lies behind.

    The strength is the share of the row; that of mistakes is its square root, so that rare ones show.
    """
    size = len(confusion)
    group = -(-size // CELLS)
    if group > 1:
        edges = np.arange(0, size, group)
        confusion = np.add.reduceat(np.add.reduceat(confusion, edges, axis=0), edges, axis=1)
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    levels = 1 + np.rint(np.sqrt(share) * 126).astype(np.uint8)
    diagonal = np.eye(len(share), dtype=bool)
    levels[diagonal] = 128 + np.rint(share[diagonal] * 127).astype(np.uint8)
    levels[share == 0] = 0
    image = Image.fromarray(levels, "L")
    image.putpalette([*MISS] * 128 + [*HIT] * 128)
    alpha = bytes([0, *(2 * level for level in range(1, 128)), *(2 * level + 1 for level in range(128))])
    source = uri(_encode(image, "PNG", transparency=alpha))
    return tag("img", class_="pixels map", alt=alt, width=image.width, height=image.height, src=source)


def _encode(image: Image.Image, kind: str, **settings: object) -> bytes:
    written = io.BytesIO()
    image.save(written, kind, optimize=True, **settings)
    return written.getvalue()
