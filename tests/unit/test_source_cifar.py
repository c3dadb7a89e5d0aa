"""CIFAR in both forms of both sets, written here; a pickle with code in it never runs it."""

import os
import pickle
import struct

import numpy as np
import pytest

from engram.data.open import open_source
from engram.data.sources.cifar import CLASSES_10, CLASSES_100, cifar
from engram.errors import UserError


def images(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def batch(seed, count=4, classes=10):
    return images(count, seed), np.random.default_rng(seed + 100).integers(0, classes, count)


def python2_pickle(content):
    """Protocol 2 as Python 2 wrote it, opcode by opcode: the form the original batches have."""

    def string(data):
        return (b"U" + bytes([len(data)]) if len(data) < 256 else b"T" + struct.pack("<i", len(data))) + data

    def number(value):
        return b"K" + bytes([value])

    out = b"\x80\x02}("
    for key, value in content.items():
        out += string(key)
        if isinstance(value, np.ndarray):
            shape = b"".join(b"M" + struct.pack("<H", side) for side in value.shape)
            out += b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
            out += b"(" + shape + b"t"
            out += (
                b"cnumpy\ndtype\n"
                + string(b"u1")
                + b"K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
            )
            out += b"\x89" + string(value.tobytes()) + b"tb"
        elif isinstance(value, list):
            out += b"](" + b"".join(number(one) if isinstance(one, int) else string(one) for one in value) + b"e"
        else:
            out += string(value)
    return out + b"u."


def pickled_10(folder, dump=None, batches=(1, 2, 3, 4, 5)):
    folder.mkdir(parents=True, exist_ok=True)
    dump = dump or python2_pickle
    for number in (*batches, 6):
        pixels, labels = batch(number)
        name = "test_batch" if number == 6 else f"data_batch_{number}"
        content = {b"batch_label": b"batch", b"labels": labels.tolist(), b"data": pixels.reshape(4, 3072)}
        (folder / name).write_bytes(dump(content))
    (folder / "batches.meta").write_bytes(python2_pickle({b"label_names": [name.encode() for name in CLASSES_10]}))
    return folder


def binary_10(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 7):
        pixels, labels = batch(number)
        name = "test_batch.bin" if number == 6 else f"data_batch_{number}.bin"
        rows = np.concatenate([labels[:, None].astype(np.uint8), pixels.reshape(4, 3072)], axis=1)
        (folder / name).write_bytes(rows.tobytes())
    return folder


def check_10(source):
    assert source.kind == "cifar"
    assert source.classes == CLASSES_10
    assert np.array_equal(source.train.array(), np.concatenate([batch(number)[0] for number in range(1, 6)]))
    assert source.train.labels.tolist() == np.concatenate([batch(number)[1] for number in range(1, 6)]).tolist()
    assert np.array_equal(source.test.read(2), batch(6)[0][2])
    assert source.test.labels.tolist() == batch(6)[1].tolist()
    assert source.train.labels.dtype == np.int64
    assert source.notes == ()


def python3_dump(protocol):
    return lambda content: pickle.dumps({key.decode(): value for key, value in content.items()}, protocol)


@pytest.mark.parametrize("protocol", [None, 0, 2, 3, 4, 5])
def test_cifar_10_pickled(tmp_path, protocol):
    """As the home ships it, and as Python 3 and today's NumPy would write it again."""
    folder = pickled_10(tmp_path / "cifar-10-batches-py", None if protocol is None else python3_dump(protocol))
    source = open_source(folder)
    check_10(source)
    assert source.train.name(5) == "data_batch_2[1]"
    check_10(open_source(tmp_path))  # the folder around it


def test_cifar_10_binary(tmp_path):
    source = open_source(binary_10(tmp_path))
    check_10(source)
    assert source.train.name(19) == "data_batch_5.bin[3]"


def test_both_forms_side_by_side_are_one_set(tmp_path):
    check_10(open_source(pickled_10(binary_10(tmp_path))))


def test_cifar_100_pickled(tmp_path):
    for name, seed in (("train", 1), ("test", 2)):
        pixels, fine = batch(seed, 6, 100)
        content = {b"fine_labels": fine.tolist(), b"coarse_labels": [0] * 6, b"data": pixels.reshape(6, 3072)}
        (tmp_path / name).write_bytes(python2_pickle(content))
    names = [f"name{number}".encode() for number in range(100)]
    (tmp_path / "meta").write_bytes(python2_pickle({b"fine_label_names": names, b"coarse_label_names": [b"x"]}))
    source = open_source(tmp_path)
    assert source.classes[99] == "name99"
    assert np.array_equal(source.train.array(), batch(1, 6)[0])
    assert source.test.labels.tolist() == batch(2, 6, 100)[1].tolist()


def test_cifar_100_binary(tmp_path):
    for name, seed in (("train.bin", 1), ("test.bin", 2)):
        pixels, fine = batch(seed, 6, 100)
        rows = np.concatenate([np.zeros((6, 1), np.uint8), fine[:, None].astype(np.uint8), pixels.reshape(6, 3072)], 1)
        (tmp_path / name).write_bytes(rows.tobytes())
    source = open_source(tmp_path)
    assert source.classes == CLASSES_100
    assert source.train.labels.tolist() == batch(1, 6, 100)[1].tolist()
    assert np.array_equal(source.test.array(), batch(2, 6)[0])
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"name{number}" for number in range(100)) + "\n")
    assert open_source(tmp_path).classes[7] == "name7"


def test_the_hundred_names():
    assert len(CLASSES_100) == len(set(CLASSES_100)) == 100
    assert list(CLASSES_100) == sorted(CLASSES_100)  # their numbers are alphabetical


def test_one_batch_alone(tmp_path):
    source = cifar(binary_10(tmp_path) / "data_batch_3.bin")
    assert np.array_equal(source.train.array(), batch(3)[0])
    assert source.test is None
    assert source.notes == ()


def test_missing_batches_are_told(tmp_path):
    source = open_source(pickled_10(tmp_path, batches=(1, 4)))
    assert len(source.train) == 8
    assert "missing: data_batch_2, data_batch_3, data_batch_5" in source.notes


def test_no_training_batch(tmp_path):
    pickled_10(tmp_path, batches=())
    with pytest.raises(UserError, match="has no training batch, only test_batch"):
        open_source(tmp_path)
    assert len(open_source(tmp_path / "test_batch").train) == 4


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("where", ["batch", "labels", "names"])
def test_a_hostile_pickle_is_refused_and_never_run(tmp_path, protocol, where):
    pickled_10(tmp_path)
    trace = tmp_path / "executed"
    for attack in (Attack(os.mkdir, str(trace)), Attack(eval, f"open({str(trace)!r}, 'w')")):
        content = attack if where == "batch" else {"labels": attack, "label_names": attack, "data": b""}
        file = tmp_path / ("batches.meta" if where == "names" else "data_batch_1")
        file.write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(UserError) as error:
            open_source(tmp_path)
        assert f"{file} would run code when read (" in error.value.given
        assert not trace.exists()


@pytest.mark.parametrize(
    "names",
    [
        "numpy\nload\n",
        "numpy.core.multiarray\nfromfile\n",
        "builtins\ngetattr\n",
        "numpy.lib.npyio\nload\n",
        "copyreg\n_reconstructor\n",
        "numpy._core.multiarray\n_reconstruct.__globals__\n",
    ],
)
def test_no_other_name_is_looked_up(tmp_path, names):
    pickled_10(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02c" + names.encode() + b".")
    with pytest.raises(UserError, match="would run code when read"):
        open_source(tmp_path)


def test_other_codecs_and_types_are_refused(tmp_path):
    pickled_10(tmp_path)
    file = tmp_path / "data_batch_1"
    file.write_bytes(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00zlib\x86R.")
    with pytest.raises(UserError, match="codec 'zlib'"):
        open_source(tmp_path)
    objects = pickle.dumps({"data": np.array([None, 1], object), "labels": [0]}, 4)
    file.write_bytes(objects)
    with pytest.raises(UserError, match="data_batch_1 is truncated or damaged: an array of type 'O8'"):
        open_source(tmp_path)


def test_labels_may_be_an_array_of_any_byte_order(tmp_path):
    pickled_10(tmp_path, batches=(1,))
    pixels, labels = batch(1)
    for kind in (">i8", "<i4", "u1"):
        content = {"data": pixels.reshape(4, 3072), "labels": labels.astype(kind)}
        (tmp_path / "data_batch_1").write_bytes(pickle.dumps(content, 4))
        assert open_source(tmp_path).train.labels.tolist() == labels.tolist()


def test_arrays_in_fortran_order(tmp_path):
    pickled_10(tmp_path, batches=(1,))
    pixels, labels = batch(1)
    content = {"data": np.asfortranarray(pixels.reshape(4, 3072)), "labels": labels.tolist()}
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(content, 4))
    assert np.array_equal(open_source(tmp_path).train.array(), pixels)


def test_a_number_in_place_of_bytes_takes_no_memory(tmp_path):
    pickled_10(tmp_path)
    whole = (tmp_path / "data_batch_1").read_bytes()
    start, end = whole.index(b"\x89T") + 1, whole.index(b"tb", whole.index(b"\x89T") + 4 * 3072)
    (tmp_path / "data_batch_1").write_bytes(whole[:start] + b"J" + struct.pack("<i", 4 * 3072) + whole[end:])
    with pytest.raises(UserError, match="an array without bytes"):
        open_source(tmp_path)


def test_names_that_are_too_few_are_not_used(tmp_path):
    pickled_10(tmp_path)
    (tmp_path / "batches.meta").write_bytes(python2_pickle({b"label_names": [b"only", b"two"]}))
    assert open_source(tmp_path).classes == CLASSES_10


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_pickles(tmp_path, share):
    file = pickled_10(tmp_path) / "data_batch_2"
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with pytest.raises(UserError, match=r"data_batch_2 is (truncated or damaged|empty \(0 bytes\))"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"a": 1},
        [1, 2],
        {"data": 3, "labels": [1]},
        {"data": np.zeros(3072, np.uint8)},
        {"data": np.zeros(5, np.float32), "labels": [0]},
    ],
)
def test_pickles_of_something_else(tmp_path, content):
    pickled_10(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(content, 4))
    with pytest.raises(UserError, match="data_batch_1 is no CIFAR batch: it holds"):
        open_source(tmp_path)


def test_more_labels_than_images(tmp_path):
    pickled_10(tmp_path)
    content = {b"labels": [1, 2, 3], b"data": images(2).reshape(2, 3072)}
    (tmp_path / "data_batch_1").write_bytes(python2_pickle(content))
    with pytest.raises(UserError, match="has 2 images of 3072 bytes but 3 labels"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("size", "said"), [(3073 * 4 - 1, "no whole number of images of 3,073 bytes"), (0, "is empty")]
)
def test_truncated_binaries(tmp_path, size, said):
    file = binary_10(tmp_path) / "data_batch_2.bin"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(UserError, match=rf"data_batch_2\.bin .*{said}"):
        open_source(tmp_path)


@pytest.mark.parametrize("write", [pickled_10, binary_10])
def test_labels_out_of_range_name_batch_and_row(tmp_path, write):
    write(tmp_path)
    if write is binary_10:
        file = tmp_path / "data_batch_2.bin"
        content = bytearray(file.read_bytes())
        content[2 * 3073] = 10
        file.write_bytes(content)
    else:
        file = tmp_path / "data_batch_2"
        file.write_bytes(python2_pickle({b"labels": [0, 1, 10, 2], b"data": images(4).reshape(4, 3072)}))
    with pytest.raises(UserError, match=rf"{file.name}\[2\] is 10: out of range for 10 class names") as error:
        open_source(tmp_path)
    assert error.value.allowed == "0 (airplane) to 9 (truck)"


def test_a_class_folder_called_train_is_not_a_batch(tmp_path):
    (tmp_path / "train").write_text("words")
    (tmp_path / "test").mkdir()
    with pytest.raises(UserError, match="holds no data that is known"):
        open_source(tmp_path)
