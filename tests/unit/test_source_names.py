"""Data sets by name: the digits in the installation, the others through the cache."""

import gzip
import hashlib
import importlib.util
import io
import pickle
import struct
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from engram.data import download
from engram.data.open import open_source
from engram.data.sources import cifar_named, mnist
from engram.errors import UserError
from engram.registry import find

NAMES = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100")

UNPACKS = pytest.mark.skipif(
    not hasattr(tarfile, "data_filter"), reason="Python 3.11.0 to 3.11.3 does not unpack; another test sees to that"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGRAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def offline(monkeypatch):
    """No server answers: what a machine without a network sees."""

    def refuse(request, **_):
        raise download.urllib.error.URLError(OSError(-2, "Name or service not known"))

    monkeypatch.setattr(download.urllib.request, "urlopen", refuse)


def test_digits_are_scikit_learns():
    source = open_source("digits")
    theirs = load_digits()
    assert (source.path, source.kind, source.classes) == ("digits", "digits", tuple("0123456789"))
    seen = []
    for examples in (source.train, source.test):
        for index in range(len(examples)):
            row = int(examples.name(index).removeprefix("digits[").removesuffix("]"))
            seen.append(row)
            assert examples.labels[index] == theirs.target[row]
            assert np.array_equal(examples.read(index)[0], np.rint(theirs.images[row] * 255 / 16))
    assert sorted(seen) == list(range(1797))
    assert source.train.array().shape == (1438, 1, 8, 8)
    assert source.train.array().dtype == np.uint8
    assert source.train.array().max() == 255


def test_the_test_digits_are_the_last_fifth_of_each_class():
    source = open_source("digits")
    target = load_digits().target
    for number in range(10):
        rows = [int(source.test.name(i)[7:-1]) for i in np.flatnonzero(source.test.labels == number)]
        own = np.flatnonzero(target == number)
        assert rows == own[len(own) - len(rows) :].tolist()
        assert abs(len(rows) - 0.2 * len(own)) <= 0.5
    assert source.validation is None


def test_digits_without_the_file_come_from_scikit_learn(monkeypatch):
    before = open_source("digits")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert np.array_equal(open_source("digits").test.array(), before.test.array())


def test_every_name_is_a_source_with_a_summary_and_a_paper():
    for name in NAMES:
        entry = find("source", name)
        assert entry.facts["named"]
        assert entry.summary
        assert entry.paper
        assert "recognizes" not in entry.facts


def packed(values):
    values = np.asarray(values, np.uint8)
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def pictures(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def idx_files():
    return {
        "train-images-idx3-ubyte.gz": gzip.compress(packed(pictures(20, 0))),
        "train-labels-idx1-ubyte.gz": gzip.compress(packed(np.arange(20) % 10)),
        "t10k-images-idx3-ubyte.gz": gzip.compress(packed(pictures(10, 1))),
        "t10k-labels-idx1-ubyte.gz": gzip.compress(packed(np.arange(10))),
    }


def put_mnist(monkeypatch, folder, name):
    """Small stand-ins under the real names, with their own digests."""
    files = idx_files()
    listed = tuple((file, len(content), hashlib.sha256(content).hexdigest()) for file, content in files.items())
    monkeypatch.setattr(mnist, "MNIST" if name == "mnist" else "FASHION_MNIST", listed)
    folder.mkdir(parents=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)


@pytest.mark.parametrize(("name", "classes"), [("mnist", tuple("0123456789")), ("fashion_mnist", mnist.FASHION)])
def test_mnist_from_the_cache(monkeypatch, cache, name, classes, offline):
    put_mnist(monkeypatch, cache / name, name)
    source = open_source(name)
    assert (source.path, source.kind, source.classes) == (name, name, classes)
    assert np.array_equal(source.train.array(), pictures(20, 0)[:, None])
    assert np.array_equal(source.test.array(), pictures(10, 1)[:, None])


def test_a_cached_file_that_is_another_one_is_refused(monkeypatch, cache, offline):
    put_mnist(monkeypatch, cache / "mnist", "mnist")
    (cache / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"something else")
    with pytest.raises(
        UserError, match=r"t10k-labels-idx1-ubyte\.gz is not t10k-labels-idx1-ubyte\.gz: its SHA-256"
    ) as e:
        open_source("mnist")
    assert e.value.then.startswith(f"delete {cache / 'mnist' / 't10k-labels-idx1-ubyte.gz'}")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "train-images-idx3-ubyte.gz"),
        ("fashion_mnist", "train-images-idx3-ubyte.gz"),
        ("cifar10", "cifar-10-python.tar.gz"),
        ("cifar100", "cifar-100-python.tar.gz"),
    ],
)
def test_offline_says_so_and_where_to_put_the_file(cache, offline, name, file):
    with pytest.raises(UserError) as error:
        open_source(name)
    message = str(error.value)
    assert f"{file} could not be downloaded: https://" in message
    assert "Name or service not known" in message
    assert f"put it at {cache / name / file}" in message
    assert len(message.splitlines()) <= 5


def cifar_archive(inside, names, label_key):
    pixels = np.random.default_rng(3).integers(0, 256, (12, 3072), dtype=np.uint8)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name in names:
            content = pickle.dumps({label_key: [*range(10), 3, 4], b"data": pixels}, 2)
            info = tarfile.TarInfo(f"{inside}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue(), pixels.reshape(12, 3, 32, 32)


@UNPACKS
@pytest.mark.parametrize(
    ("name", "constant", "inside", "batches", "key"),
    [
        (
            "cifar10",
            "CIFAR10",
            "cifar-10-batches-py",
            [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"],
            b"labels",
        ),
        ("cifar100", "CIFAR100", "cifar-100-python", ["train", "test"], b"fine_labels"),
    ],
)
def test_cifar_archives_are_unpacked_once(monkeypatch, cache, name, constant, inside, batches, key, offline):
    content, pixels = cifar_archive(inside, batches, key)
    remote = getattr(cifar_named, constant)
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(cifar_named, constant, replace(remote, sha256=digest, size=len(content)))
    (cache / name).mkdir(parents=True)
    (cache / name / remote.name).write_bytes(content)
    source = open_source(name)
    assert (source.path, source.kind, len(source.classes)) == (name, name, 10 if name == "cifar10" else 100)
    assert np.array_equal(source.test.array(), pixels)
    assert len(source.train) == 12 * (len(batches) - 1)
    (cache / name / remote.name).unlink()
    assert np.array_equal(open_source(name).test.array(), pixels)  # the unpacked batches are enough


@UNPACKS
def test_batches_that_a_person_put_there_are_used(monkeypatch, cache, offline):
    content, pixels = cifar_archive("cifar-100-python", ["train", "test"], b"fine_labels")
    (cache / "cifar100").mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(cache / "cifar100", filter="data")
    assert np.array_equal(open_source("cifar100").test.array(), pixels)


def test_digests_are_digests():
    for remote in (cifar_named.CIFAR10, cifar_named.CIFAR100):
        assert len(bytes.fromhex(remote.sha256)) == 32
    for files in (mnist.MNIST, mnist.FASHION_MNIST):
        assert [name for name, _, _ in files] == list(idx_files())
        assert len({digest for _, _, digest in files}) == 4
        assert all(len(bytes.fromhex(digest)) == 32 for _, _, digest in files)
