"""Image files as arrays: every common form brought to 8 bits of grey or RGB, and nothing trusted on the way.

What a file may hold and what becomes of it:

- grey (1, 8 or 16 bits, with or without alpha) gives one channel; everything else gives RGB.
- 16-bit grey is scaled by 255/65535, never stretched to its own range, so that two files stay comparable.
- alpha, and a colour declared transparent, is composited over white: the paper that most cut-outs were made for.
- CMYK, YCbCr, LAB and palettes are converted to RGB. Colour profiles are not applied.
- the EXIF orientation is applied: the picture is turned as a viewer would show it.
- of an animation the first frame is read.
- a name says nothing: a PNG called `.jpg` is read, a text called `.jpg` is refused.
"""

import io
import os
import struct
import threading
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engram.data.examples import Unreadable
from engram.errors import UserError

MAX_PIXELS = 2**27
"""Largest image that is decoded, in pixels (134 million: 400 MB as RGB). The largest that cameras in use write are 108
million; a file that unfolds to more is a mistake or a decompression bomb, and a few of them at once end the process."""

SUFFIXES = frozenset(
    f".{kind}"
    for kinds in ("jpg jpeg jpe jfif", "png apng gif bmp dib webp avif", "tif tiff tga", "ppm pgm pbm pnm", "jp2 j2k")
    for kind in kinds.split()
)
"""Names that are taken for images when a folder is searched; what a file is, its content decides."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "JPEG2000", "TGA", "AVIF")
"""What Pillow is asked to open. Left out on purpose: EPS starts Ghostscript; others stub out to further programs."""

WHITE = 255

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation (tag 0x0112, EXIF 2.32 section 4.6.4) to the turn that undoes it."""

_SIGNS = (
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"%!PS", "PostScript"),
    (b"8BPS", "a Photoshop file; export it as PNG"),
    (b"\x89HDF", "HDF5 data"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"RIFF", "a RIFF file"),
)


def is_image_name(name: str) -> bool:
    """Whether a file of that name is taken for an image when a folder is searched.

    >>> is_image_name("cat.JPG"), is_image_name("notes.txt")
    (True, False)
    """
    return os.path.splitext(name)[1].lower() in SUFFIXES


def read_image(path: str | Path, name: str | None = None, *, at_least: int | None = None) -> NDArray[np.uint8]:
    """The image in a file, as `decode` gives it; `name` is what errors call it, the path unless given.

    Raises:
        Unreadable: there is no such file, it may not be read, or `decode` refuses it.
    """
    name = str(path) if name is None else name
    try:
        with open(path, "rb") as file:
            return decode(file, name, at_least=at_least)
    except OSError as error:
        raise Unreadable(name, error.strerror or str(error)) from None


def decode(data: bytes | IO[bytes], name: str, *, at_least: int | None = None) -> NDArray[np.uint8]:
    """An encoded image as (C, H, W) uint8, C 1 for a grey mode and 3 otherwise; memory order is (H, W, C).

    Args:
        data: the encoded bytes or an open binary file.
        name: what an error calls the image.
        at_least: pixels of the shorter side that the caller needs. A JPEG may then be decoded at 1/2, 1/4 or 1/8
            of its size, several times faster, as long as its shorter side keeps twice that many: the factor of two
            leaves the aliasing of the coarse decoder to the antialiased `fit` that follows.

    Raises:
        Unreadable: empty, truncated, damaged, not an image, or more than `MAX_PIXELS`.

    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (7, 5)).save(file, "PNG")
    >>> decode(file.getvalue(), "black.png").shape
    (3, 5, 7)
    """
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    head = file.read(512)
    if not head:
        raise Unreadable(name, "the file is empty (0 bytes)")
    try:
        with _quiet:
            return _decode(file, name, at_least)
    except Unreadable:
        raise
    except Image.UnidentifiedImageError:
        raise Unreadable(name, f"not an image: {_looks_like(head)}") from None
    except Image.DecompressionBombError:
        raise Unreadable(name, f"a decompression bomb: more than {MAX_PIXELS:,} pixels") from None
    except MemoryError:
        raise Unreadable(name, "does not fit in memory when decoded") from None
    except Exception as error:  # a damaged file makes Pillow raise almost anything: struct, zlib, Index, Syntax ...
        reason = str(error).partition("\n")[0] or type(error).__name__
        if "truncated" in reason.lower() or isinstance(error, EOFError | struct.error | IndexError):
            reason = "truncated: the file ends before the image does"
        raise Unreadable(name, reason) from None


def to_channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """(C, H, W) with the wanted number of channels: grey is repeated, RGB is weighed by ITU-R 601 luma.

    Raises:
        UserError: `channels` is neither the image's own, nor 1, nor 3.

    >>> to_channels(np.full((1, 2, 2), 7, np.uint8), 3).shape
    (3, 2, 2)
    """
    own = image.shape[0]
    if own == channels:
        return image
    if (own, channels) == (1, 3):
        return np.repeat(image.transpose(1, 2, 0), 3, axis=2).transpose(2, 0, 1)
    if (own, channels) == (3, 1):
        red, green, blue = image.astype(np.uint32)
        # 16-bit fixed point of 0.299, 0.587, 0.114: the weights sum to 65536, so white stays white
        return ((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16).astype(np.uint8)[None]
    raise UserError(f"an image with {own} channels cannot be given {channels}", allowed="1 (grey) or 3 (RGB)")


def fit(image: NDArray[np.uint8], size: int | Sequence[int]) -> NDArray[np.uint8]:
    """The picture a network sees: scaled (bicubic, antialiased) until it just covers `size`, and its middle cut out.

    An image already of that size is returned as it is, and one that only sticks out on one axis is only cut.

    Args:
        image: (C, H, W).
        size: side of a square, or (height, width); pixels.

    >>> fit(np.zeros((3, 60, 90), np.uint8), 32).shape, fit(np.zeros((3, 60, 90), np.uint8), (20, 40)).shape
    ((3, 32, 32), (3, 20, 40))
    """
    tall, wide = (size, size) if isinstance(size, int) else size
    height, width = image.shape[1:]
    if (height, width) == (tall, wide):
        return image
    scale = max(tall / height, wide / width)  # of the axis that has least to spare
    if scale == 1:
        top, left = (height - tall) // 2, (width - wide) // 2
        return image[:, top : top + tall, left : left + wide]
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
    picture = Image.fromarray(pixels[:, :, 0] if len(image) == 1 else pixels)
    left, top = max(0.0, (width - wide / scale) / 2), max(0.0, (height - tall / scale) / 2)  # 0 but for rounding
    # the box is cut in source pixels, so that a long panorama costs no more than its middle
    box = (left, top, width - left, height - top)
    return _channels_first(np.array(picture.resize((wide, tall), Image.Resampling.BICUBIC, box=box)))


def over_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(..., C+1) with alpha last, composited over white to (..., C).

    >>> over_white(np.array([[10, 0], [10, 255]], np.uint8)).tolist()
    [[255], [10]]
    """
    alpha = pixels[..., -1:].astype(np.uint16)
    mixed = pixels[..., :-1] * alpha + WHITE * (WHITE - alpha)  # at most 255 * 255: fits 16 bits
    return ((mixed + WHITE // 2) // WHITE).astype(np.uint8)


def _decode(file: IO[bytes], name: str, at_least: int | None) -> NDArray[np.uint8]:
    image = Image.open(file, formats=_formats())
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Unreadable(name, f"a decompression bomb: {width}x{height} pixels, the limit is {MAX_PIXELS:,}")
    if at_least is not None:
        image.draft(image.mode, (2 * at_least, 2 * at_least))
    image.load()
    turned = image if (turn := _TURNS.get(_orientation(image))) is None else image.transpose(turn)
    return _channels_first(_pixels(turned, name))


def _pixels(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) in 8 bits, whatever the mode."""
    if image.mode.startswith("I") or image.mode == "F":
        return _deep(np.asarray(image), name)
    if image.mode == "1":
        image = image.convert("L")
    if image.has_transparency_data:
        grey = image.mode in ("L", "LA", "La")
        opaque = over_white(np.asarray(image.convert("LA" if grey else "RGBA")))
        return opaque[..., 0] if grey else opaque
    if image.mode != "L" and image.mode != "RGB":
        image = image.convert("RGB")
    return np.array(image)  # a copy that may be written to: torch warns about a read-only array


def _deep(pixels: NDArray[np.generic], name: str) -> NDArray[np.uint8]:
    """Grey of more than 8 bits brought to 0..255: integers as 16-bit, floats as 0..1."""
    top = 1.0 if pixels.dtype.kind == "f" else 65535.0
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= top):  # NaN fails both
        kind = "float" if top == 1.0 else "integer"
        raise Unreadable(name, f"{kind} pixels from {low:g} to {high:g}; only 0 to {top:g} can be read")
    return np.rint(pixels.astype(np.float32) * (255.0 / top)).astype(np.uint8)


def _channels_first(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF: the pixels are sound, so the image is shown as stored
        return 1


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(one for one in FORMATS if one in Image.OPEN)  # Pillow may be built without some of them


def _looks_like(head: bytes) -> str:
    for sign, what in _SIGNS:
        if head.startswith(sign):
            return f"it is {what}"
    if head[4:8] == b"ftyp":
        return "it is HEIC or a video; convert it to JPEG"
    if not any(head):
        return "it is all zero bytes"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:5].lower() in (b"<!doc", b"<html"):
        return "it is a web page"
    if text[:4] in (b"<svg", b"<?xm"):
        return "it is SVG or XML"
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(text) - 4:  # a character cut at the end of the head is still text
            return "no known format"
    return "no known format" if b"\0" in text else "it is text"


class _Quiet:
    """Silences Pillow while at least one thread decodes.

    `warnings.catch_warnings` alone restores the wrong filters when threads leave in another order than they came;
    counting the threads inside and restoring only when the last one leaves does not.
    """

    def __init__(self) -> None:
        self._reset()
        if hasattr(os, "register_at_fork"):  # a child forked while another thread decodes must not wait for it
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock, self._inside, self._saved = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._saved.__exit__(kind, error, traceback)


_quiet = _Quiet()
