"""IDX files, plain or gzipped, as MNIST and Fashion-MNIST ship.

    train-images-idx3-ubyte.gz  train-labels-idx1-ubyte.gz  t10k-images-idx3-ubyte.gz  t10k-labels-idx1-ubyte.gz

also written with dots (`train-images.idx3-ubyte`), with another word for a split, or with a prefix (`emnist-letters-`).
A file begins with two zero bytes, a type code, the number of axes and each axis's length as big-endian 32-bit
integers; the values follow, big-endian (Y. LeCun, C. Cortes and C. Burges, the MNIST page, "File formats").
"""

import gzip
import re
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from engram.data.examples import Examples, Source
from engram.data.sources._labels import check_lengths, class_indices
from engram.data.sources._layouts import common_layout
from engram.data.sources._names import SPLITS, listed, visible
from engram.data.sources._stores import Arrays, Rows
from engram.errors import UserError
from engram.registry import register

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

FASHION = ("t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
"""What the ten numbers of Fashion-MNIST mean (Xiao, Rasul, Vollgraf 2017, table 2)."""

_NAME = re.compile(
    rf"(?P<prefix>.*?)(?P<split>{'|'.join(sorted(SPLITS, key=len, reverse=True))})[-_.]"
    r"(?P<role>images|labels)[-_.]idx\d[-_.]u?byte(?P<gz>\.gz)?",
    re.IGNORECASE,
)


def recognizes(path: Path) -> bool:
    """An IDX file by name, or a folder with some."""
    names = [path.name] if path.is_file() else visible(path)[1] if path.is_dir() else []
    return any(_NAME.fullmatch(name) for name in names)


@register("source", recognizes=recognizes, order=20, accepts="IDX files as MNIST ships")
def idx(path: str | Path, classes: tuple[str, ...] | None = None) -> Source:
    """Images and labels in IDX files; Fashion-MNIST's class names are used where the path says fashion.

    Raises:
        UserError: a file is missing, truncated, longer than it says, or no IDX file; labels that do not fit.
    """
    root = Path(path)
    files = _files(root)
    if classes is None and "fashion" in str(root.absolute()).lower():
        classes = FASHION
    images: dict[str, NDArray[np.generic]] = {}
    raw: dict[str, NDArray[np.generic]] = {}
    for split in (one for one in ("train", "validation", "test") if one in files):
        image_file, label_file = files[split]
        images[image_file.name], raw[label_file.name] = read_idx(image_file), read_idx(label_file)
    names, labels = class_indices(raw, classes)
    check_lengths({name: len(rows) for name, rows in images.items()}, {name: len(one) for name, one in labels.items()})
    notes: list[str] = []
    layout = common_layout(dict(images), None, notes)
    examples: dict[str, Examples] = {}
    for split, (image_file, label_file) in files.items():
        rows = images[image_file.name]
        examples[split] = Arrays(rows, layout, labels[label_file.name], Rows((image_file.name,), (len(rows),)))
    return Source(str(path), "idx", names, **examples, notes=tuple(notes))


def read_idx(path: Path) -> NDArray[np.generic]:
    """The array in an IDX file, plain or gzipped by its content.

    Raises:
        UserError: no IDX header, fewer or more values than the header says, or damaged compression.
    """
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else open(path, "rb") as file:
            return _read(file, path)
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged: {error}", then=f"get {path.name} again") from None
    except EOFError:
        raise UserError(f"{path} is truncated: its compressed data ends early", then=f"get {path.name} again") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


def _read(file: IO[bytes] | gzip.GzipFile, path: Path) -> NDArray[np.generic]:
    head = file.read(4)
    if not head:
        raise UserError(f"{path} is empty (0 bytes)", then=f"get {path.name} again")
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES or not 1 <= head[3] <= 5:
        raise UserError(
            f"{path} is no IDX file: it begins with {head.hex(' ')}",
            allowed="00 00, a type code from 08 to 0e, and the number of axes",
        )
    lengths = file.read(4 * head[3])
    if len(lengths) < 4 * head[3]:
        raise UserError(f"{path} is truncated inside its header", then=f"get {path.name} again")
    shape = tuple(int(one) for one in np.frombuffer(lengths, ">u4"))
    dtype = np.dtype(TYPES[head[2]])
    size = dtype.itemsize
    for side in shape:
        size *= side  # whole numbers of Python, which do not overflow
    data = bytearray()
    while len(data) <= size and (piece := file.read(min(size + 1 - len(data), 1 << 24))):
        data += piece
    if len(data) != size:
        found = f"{len(data):,}" if len(data) < size else "more"
        raise UserError(
            f"{path} announces {' x '.join(map(str, shape))} values, {size:,} bytes, but {found} follow",
            then=f"get {path.name} again",
        )
    return np.frombuffer(data, dtype).reshape(shape)


def _files(root: Path) -> dict[str, tuple[Path, Path]]:
    """The image and label file of each split; plain ones are preferred to gzipped."""
    folder = root if root.is_dir() else root.parent
    matches = [match for name in visible(folder)[1] if (match := _NAME.fullmatch(name))]
    if root.is_file() and (own := _NAME.fullmatch(root.name)):
        matches = [match for match in matches if match["prefix"] == own["prefix"]]
    prefixes = sorted({match["prefix"] for match in matches})
    if len(prefixes) > 1:
        some = next(match.string for match in matches if match["prefix"] == prefixes[-1])
        raise UserError(
            f"{folder} holds several sets: {listed([prefix or 'train-, t10k-' for prefix in prefixes])}",
            then=f"name a file of one of them: {folder / some}",
        )
    found: dict[tuple[str, str], Path] = {}
    for match in sorted(matches, key=lambda match: match["gz"] is None):  # plain files come last and stay
        found[SPLITS[match["split"].lower()], match["role"].lower()] = folder / match.string
    for split, role in found:
        other = "labels" if role == "images" else "images"
        if (split, other) not in found:
            file = found[split, role]
            raise UserError(f"{file.name} has no {other} beside it", then=f"put the file of {other} into {folder}")
    if ("train", "images") not in found:
        raise UserError(f"{folder} has no training split", allowed="train-images-idx3-ubyte, train-labels-idx1-ubyte")
    return {split: (found[split, "images"], found[split, "labels"]) for split, role in found if role == "images"}
