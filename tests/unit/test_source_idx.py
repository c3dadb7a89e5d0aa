"""IDX files: every name they go by, plain and gzipped, and what their headers promise."""

import gzip
import struct

import numpy as np
import pytest

from engram.data.open import open_source
from engram.data.sources.idx import FASHION, read_idx
from engram.errors import UserError

CODES = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}


def packed(values, kind="u1"):
    """The format written by hand, from its description."""
    values = np.asarray(values)
    header = bytes([0, 0, CODES[kind], values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(kind).tobytes()


def pictures(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 5, 4))


LABELS = np.array([3, 0, 1, 2, 1, 0])


def put(folder, name, content, zipped=False):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (name + ".gz" if zipped else name)).write_bytes(gzip.compress(content) if zipped else content)


def mnist_like(folder, zipped=False, style="{}-{}-idx{}-ubyte", prefix=""):
    for split, seed, count in (("train", 0, 6), ("t10k", 1, 4)):
        put(folder, prefix + style.format(split, "images", 3), packed(pictures(count, seed)), zipped)
        put(folder, prefix + style.format(split, "labels", 1), packed(LABELS[:count]), zipped)
    return folder


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("style", ["{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte", "{}_{}.idx{}.ubyte"])
def test_as_mnist_ships(tmp_path, zipped, style):
    source = open_source(mnist_like(tmp_path, zipped, style))
    assert source.kind == "idx"
    assert source.classes == ("0", "1", "2", "3")
    assert source.train.labels.tolist() == LABELS.tolist()
    assert np.array_equal(source.train.array(), pictures(6)[:, None])
    assert np.array_equal(source.test.array(), pictures(4, 1)[:, None])
    assert source.train.array().dtype == np.uint8
    assert source.test.read(3).shape == (1, 5, 4)
    suffix = ".gz" if zipped else ""
    assert source.test.name(3) == style.format("t10k", "images", 3) + suffix + "[3]"
    assert source.validation is None


@pytest.mark.parametrize("below", ["raw", "MNIST/raw"])
def test_found_where_torchvision_puts_it(tmp_path, below):
    mnist_like(tmp_path / below)
    (tmp_path / "processed").mkdir()
    assert len(open_source(tmp_path).train) == 6


def test_a_file_stands_for_its_set(tmp_path):
    mnist_like(tmp_path, prefix="emnist-letters-")
    mnist_like(tmp_path, prefix="emnist-digits-")
    with pytest.raises(UserError, match="several sets: emnist-digits-, emnist-letters-") as error:
        open_source(tmp_path)
    file = tmp_path / "emnist-letters-train-images-idx3-ubyte"
    assert str(tmp_path / "emnist-letters-") in error.value.then
    assert open_source(file).train.name(0) == "emnist-letters-train-images-idx3-ubyte[0]"


def test_plain_goes_before_gzipped(tmp_path):
    mnist_like(tmp_path)
    put(tmp_path, "train-images-idx3-ubyte", packed(pictures(6, 9)), zipped=True)
    assert np.array_equal(open_source(tmp_path).train.array(), pictures(6)[:, None])


def test_fashion_names_where_the_path_says_so(tmp_path):
    home = tmp_path / "Fashion-MNIST"
    put(home, "train-images-idx3-ubyte", packed(pictures(10)))
    put(home, "train-labels-idx1-ubyte", packed(np.arange(10)))
    assert open_source(home).classes == FASHION


def test_labels_from_one_as_in_emnist(tmp_path):
    put(tmp_path, "train-images-idx3-ubyte", packed(pictures(3)))
    put(tmp_path, "train-labels-idx1-ubyte", packed([1, 3, 2]))
    source = open_source(tmp_path)
    assert (source.classes, source.train.labels.tolist()) == (("1", "2", "3"), [0, 2, 1])


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 3, 4), (2, 1, 3, 2)])
def test_every_type_and_number_of_axes(tmp_path, kind, shape):
    values = np.random.default_rng(0).integers(0, 100, shape)
    (tmp_path / "a").write_bytes(packed(values, kind))
    read = read_idx(tmp_path / "a")
    assert read.dtype == np.dtype(kind)
    assert np.array_equal(read, values)


def test_float_images_are_scaled(tmp_path):
    put(tmp_path, "train-images-idx4-ubyte", packed(pictures(6)[:, None] / 255, ">f4"))
    put(tmp_path, "train-labels-idx1-ubyte", packed(LABELS))
    assert np.array_equal(open_source(tmp_path).train.array(), pictures(6)[:, None])


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: b"", r"is empty \(0 bytes\)"),
        (lambda file: b"\x00", "is no IDX file: it begins with 00"),
        (lambda file: b"\0\0\x08", "is no IDX file: it begins with 00 00 08"),
        (lambda file: b"\0\x01" + file[2:], "is no IDX file: it begins with 00 01 08 03"),
        (lambda file: b"\x89PNG" + file, "is no IDX file: it begins with 89 50 4e 47"),
        (lambda file: b"\0\0\x07\x03" + file[4:], "is no IDX file: it begins with 00 00 07 03"),
        (lambda file: b"\0\0\x08\x00" + file[4:], "is no IDX file"),
        (lambda file: file[:10], "truncated inside its header"),
        (lambda file: file[:-1], "announces 6 x 5 x 4 values, 120 bytes, but 119 follow"),
        (lambda file: file[:16], "120 bytes, but 0 follow"),
        (lambda file: file + b"\0", "120 bytes, but more follow"),
        (lambda file: file[:4] + b"\xff" * 12 + file[16:], "but 120 follow"),
    ],
)
def test_damaged_files(tmp_path, zipped, change, said):
    mnist_like(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    put(tmp_path, "train-images-idx3-ubyte", change(packed(pictures(6))), zipped)
    with pytest.raises(UserError, match=rf"train-images-idx3-ubyte(\.gz)? {said}|train-images.*{said}") as error:
        open_source(tmp_path)
    assert error.value.then is None or "get train-images-idx3-ubyte" in error.value.then


@pytest.mark.parametrize(("keep", "said"), [(0.5, "its compressed data ends early"), (1.0, "is damaged")])
def test_damaged_compression(tmp_path, keep, said):
    mnist_like(tmp_path, zipped=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    if keep == 1.0:
        content[-6] ^= 0xFF  # the check sum
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(UserError, match=said):
        open_source(tmp_path)


def test_missing_partners(tmp_path):
    mnist_like(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match="t10k-images-idx3-ubyte has no labels beside it"):
        open_source(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    assert open_source(tmp_path).test is None
    (tmp_path / "train-images-idx3-ubyte").unlink()
    with pytest.raises(UserError, match="train-labels-idx1-ubyte has no images beside it"):
        open_source(tmp_path)


def test_no_training_split(tmp_path):
    mnist_like(tmp_path)
    for role in ("images-idx3", "labels-idx1"):
        (tmp_path / f"train-{role}-ubyte").unlink()
    with pytest.raises(UserError, match="has no training split"):
        open_source(tmp_path)


def test_more_labels_than_images(tmp_path):
    mnist_like(tmp_path)
    put(tmp_path, "train-labels-idx1-ubyte", packed(LABELS[:5]))
    with pytest.raises(
        UserError, match="train-images-idx3-ubyte has 6 examples but train-labels-idx1-ubyte has 5 labels"
    ):
        open_source(tmp_path)


def test_labels_out_of_range(tmp_path):
    mnist_like(tmp_path)
    put(tmp_path, "t10k-labels-idx1-ubyte", packed([0, 1, 9, 1]))
    with pytest.raises(
        UserError, match=r"t10k-labels-idx1-ubyte\[2\] is 9, a class that train-labels-idx1-ubyte lacks"
    ):
        open_source(tmp_path)
    put(tmp_path, "train-labels-idx1-ubyte", packed([3, 0, 1, 2, 200, 0]))
    with pytest.raises(UserError, match=r"go up to 200 \(train-labels-idx1-ubyte\[4\]\)"):
        open_source(tmp_path)
