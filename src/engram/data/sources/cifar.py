"""CIFAR-10 and CIFAR-100 as their home ships them: pickled batches or binary ones, one folder.

    cifar-10-batches-py   data_batch_1 ... data_batch_5  test_batch  batches.meta
    cifar-10-batches-bin  data_batch_1.bin ... data_batch_5.bin  test_batch.bin  batches.meta.txt
    cifar-100-python      train  test  meta
    cifar-100-binary      train.bin  test.bin  fine_label_names.txt

An image is 3072 bytes: 1024 red, 1024 green, 1024 blue, row by row. In a binary file each follows its label, one byte
(CIFAR-100: the coarse label, then the fine one, which is used). (A. Krizhevsky, "Learning Multiple Layers of Features
from Tiny Images", 2009; layouts from the page of the data sets.)

A pickle can run any code when it is read, so these are read by a machine that knows nothing but bytes, numbers, text,
lists and dictionaries, and turns the four names that NumPy writes into plain records. Anything else in the file is
refused before it could be called.
"""

import io
import pickle
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram.data.examples import Examples, Source
from engram.data.sources._labels import class_indices
from engram.data.sources._layouts import Layout
from engram.data.sources._names import listed, visible
from engram.data.sources._stores import Arrays, Rows
from engram.errors import UserError
from engram.registry import register

PIXELS = 3 * 32 * 32

CLASSES_10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_HUNDRED = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""
CLASSES_100 = tuple(_HUNDRED.split())
"""Names by number; a names file beside the batches goes before them."""

_TRAIN = re.compile(r"data_batch_\d+(\.bin)?")
_META = {"batches.meta": 10, "batches.meta.txt": 10, "meta": 100, "fine_label_names.txt": 100}


def recognizes(path: Path) -> bool:
    """A folder of batches, or a single one of its files."""
    if path.is_file():
        return _is_batch(path)
    return path.is_dir() and any(_is_batch(path / name) for name in visible(path)[1])


@register("source", recognizes=recognizes, order=10, accepts="CIFAR batches")
def cifar(path: str | Path) -> Source:
    """CIFAR-10 or CIFAR-100 in its original batches; a batch that is missing is noted, not an error.

    Raises:
        UserError: truncated or damaged, no batch at all, labels out of range, or a pickle that would run code.
    """
    root = Path(path)
    files = [root] if root.is_file() else [root / name for name in visible(root)[1] if _is_batch(root / name)]
    if len({file.suffix for file in files}) > 1:
        files = [file for file in files if not file.suffix]  # both forms of the same images
    test = [file for file in files if file.stem in ("test", "test_batch")]
    train = [file for file in files if file not in test]
    if not train and root.is_dir():
        raise UserError(f"{root} has no training batch, only {test[0].name}", allowed="data_batch_1 ... or train")
    train = train or test  # a single file is what was asked for
    hundred = train[0].stem in ("train", "test")
    classes = _class_names(root if root.is_dir() else root.parent, CLASSES_100 if hundred else CLASSES_10)
    notes = []
    lost = [f"data_batch_{n}" for n in range(1, 6) if not hundred and f"data_batch_{n}" not in [f.stem for f in files]]
    if root.is_dir() and lost and train is not test:
        notes.append(f"missing: {listed(lost)}")
    examples: dict[str, Examples] = {}
    for split, batches in (("train", train), ("test", test if test is not train else [])):
        if batches:
            examples[split] = _split(batches, classes, hundred)
    return Source(str(path), "cifar", classes, **examples, notes=tuple(notes))


def _split(files: Sequence[Path], classes: tuple[str, ...], hundred: bool) -> Arrays:
    pieces = [_binary(file, hundred) if file.suffix == ".bin" else _pickled(file) for file in files]
    raw = {file.name: labels for file, (_, labels) in zip(files, pieces, strict=True)}
    _, labels = class_indices(raw, classes)
    pixels = pieces[0][0] if len(pieces) == 1 else np.concatenate([pixels for pixels, _ in pieces])
    rows = Rows(tuple(raw), tuple(len(one) for one in labels.values()))
    images = pixels.reshape(-1, 3, 32, 32)
    return Arrays(images, Layout("NCHW", "same"), np.concatenate([labels[name] for name in raw]), rows)


def _is_batch(file: Path) -> bool:
    name = file.name
    if name in ("train.bin", "test.bin", "test_batch.bin", "test_batch") or _TRAIN.fullmatch(name):
        return file.is_file()
    if name in ("train", "test") and file.is_file():  # words that name other things too
        with open(file, "rb") as stream:
            return stream.read(1) in (b"\x80", b"(")  # a pickle of protocol 2 or later, or of 0
    return False


def _class_names(folder: Path, known: tuple[str, ...]) -> tuple[str, ...]:
    for name, number in _META.items():
        file = folder / name
        if number != len(known) or not file.is_file():
            continue
        if file.suffix == ".txt":
            words = file.read_text(encoding="utf-8", errors="replace").split()
        else:
            content = _load(file)
            words = [_text(one) for one in content.get("label_names") or content.get("fine_label_names") or []]
        if len(words) == number:
            return tuple(words)
    return known


def _binary(file: Path, hundred: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pixels (N, 3072) and labels (N,)."""
    data = np.fromfile(file, np.uint8)
    width = PIXELS + (2 if hundred else 1)
    if not len(data):
        raise UserError(f"{file} is empty (0 bytes)")
    if len(data) % width:
        raise UserError(
            f"{file} has {len(data):,} bytes, which is no whole number of images of {width:,} bytes",
            then=f"it is truncated or not CIFAR-{100 if hundred else 10}: get {file.name} again",
        )
    rows = data.reshape(-1, width)
    return rows[:, -PIXELS:], rows[:, -PIXELS - 1]


def _pickled(file: Path) -> tuple[NDArray[np.uint8], NDArray[np.generic]]:
    """Pixels (N, 3072) and labels (N,)."""
    content = _load(file)
    labels = content.get("labels", content.get("fine_labels"))
    pixels = content.get("data")
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or labels is None:
        raise UserError(
            f"{file} is no CIFAR batch: it holds {listed([str(key) for key in content]) or 'nothing'}",
            allowed="data (uint8) and labels or fine_labels",
        )
    if pixels.size != len(labels) * PIXELS:
        raise UserError(f"{file} has {pixels.size // PIXELS:,} images of 3072 bytes but {len(labels):,} labels")
    return pixels.reshape(-1, PIXELS), np.asarray(labels)


def _load(file: Path) -> dict[str, Any]:
    """The dictionary in a pickle, with text keys, by a machine that cannot call anything."""
    try:
        content = _Reader(io.BytesIO(file.read_bytes()), encoding="bytes").load()
        if isinstance(content, dict):
            return {_text(key): one.array() if isinstance(one, _Array) else one for key, one in content.items()}
    except UserError as error:
        raise UserError(
            f"{file} {error.given}", then="do not open it with pickle; get the file from its home"
        ) from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    except Exception as error:  # whatever a damaged pickle leads to
        reason = "empty (0 bytes)" if not file.stat().st_size else f"truncated or damaged: {error or 'ends early'}"
        raise UserError(f"{file} is {reason}", then=f"get {file.name} again") from None
    raise UserError(f"{file} is no CIFAR batch: it holds a {type(content).__name__}")


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


class _Reader(pickle.Unpickler):
    """Reads pickles of plain data; every other name is an error before it is looked up."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        known = _KNOWN.get((module_name.removeprefix("numpy.").removeprefix("_"), global_name))
        if known is None:
            raise UserError(f"would run code when read ({module_name}.{global_name}), and was not read")
        return known


class _Type:
    """What a pickle says of an array's type."""

    def __init__(self, code: bytes | str, *_: object) -> None:
        self.code = _text(code)
        self.order = ""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = _text(state[1])

    def dtype(self) -> np.dtype:
        if not re.fullmatch(r"[biuf][1248]", self.code):
            raise ValueError(f"an array of type {self.code!r}")
        return np.dtype((self.order if self.order in "<>" else "") + self.code)


class _Array:
    """What a pickle says of an array."""

    def __init__(self, *_: object) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, data = state
        self.state = shape, kind, fortran, data

    def array(self) -> NDArray[np.generic]:
        shape, kind, fortran, data = self.state
        dtype = kind.dtype()
        if not isinstance(data, bytes | bytearray):
            raise ValueError("an array without bytes")
        return np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if fortran else "C")


def _from_buffer(data: bytes, kind: _Type, shape: tuple[int, ...], order: str) -> _Array:
    made = _Array()
    made.state = shape, kind, order == "F", data
    return made


def _latin(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes; other codecs could unpack bombs."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"codec {encoding!r}")
    return text.encode("latin-1")


_KNOWN: dict[tuple[str, str], Callable[..., Any] | type] = {
    ("core.multiarray", "_reconstruct"): _Array,
    ("core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("codecs", "encode"): _latin,
}
