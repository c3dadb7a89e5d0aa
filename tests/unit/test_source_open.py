"""How a path or a name finds its source, and what is said where it finds none."""

import os

import numpy as np
import pytest
from PIL import Image

from engram import registry
from engram.data.examples import Source
from engram.data.open import checked, open_source
from engram.data.sources._layouts import Layout
from engram.data.sources._stores import Arrays, Names, Rows
from engram.errors import UserError


def put(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 2)).save(root / name)
    return root


def arrays(labels, dtype=np.int64):
    labels = np.array(labels, dtype)
    images = np.zeros((len(labels), 2, 2), np.uint8)
    return Arrays(images, Layout("NHW", "same"), labels, Rows(("here",), (len(labels),)))


def test_a_bare_name_is_the_data_set_and_a_path_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "digits", "a/1.png", "b/1.png")
    source = open_source("digits")
    assert source.kind == "digits"
    assert source.notes == ("there is also a folder digits here: ./digits opens it",)
    for path in ("./digits", "digits/", tmp_path / "digits"):
        assert open_source(path).kind == "folder"


def test_the_kind_of_a_format_is_no_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no file or folder parquet"):
        open_source("parquet")
    put(tmp_path / "folder", "a/1.png", "b/1.png")
    assert open_source("folder").kind == "folder"


def test_home_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path / "photos", "a/1.png", "b/1.png")
    assert open_source("~/photos").kind == "folder"


@pytest.mark.parametrize(
    ("word", "near"),
    [("digts", "digits"), ("fashionmnist", "fashion_mnist"), ("cifar-10", "cifar10"), ("fotos", "photos")],
)
def test_near_matches(tmp_path, monkeypatch, word, near):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError) as error:
        open_source(word)
    assert error.value.given == f"there is no file or folder {word}"
    assert error.value.nearest == near
    assert "digits" in error.value.allowed


def test_a_neighbour_of_a_mistyped_path(tmp_path):
    put(tmp_path / "flowers", "a/1.png")
    with pytest.raises(UserError) as error:
        open_source(tmp_path / "flwers")
    assert error.value.nearest == str(tmp_path / "flowers")


def test_what_was_found_and_what_would_be_accepted(tmp_path):
    for name in ("a.txt", "b.txt", "c.docx", "LICENSE"):
        (tmp_path / name).write_text("words")
    (tmp_path / "cats").mkdir()
    (tmp_path / "dogs").mkdir()
    with pytest.raises(UserError) as error:
        open_source(tmp_path)
    assert error.value.given == (
        f"{tmp_path} holds no data that is known: 2 .txt, 1 .docx, 1 without suffix, "
        "2 folders (cats, dogs) without images"
    )
    for word in ("subfolder of images a class", "Parquet", ".npz", "IDX", "CIFAR", "CSV"):
        assert word in error.value.allowed


def test_a_file_of_no_known_form(tmp_path):
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(UserError, match=r"a\.txt is a file of 5 bytes that is none of the known forms"):
        open_source(tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar.gz"])
def test_archives_are_to_be_unpacked(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(UserError) as error:
            open_source(path)
        assert error.value.then == f"unpack {tmp_path / name} first"


def test_a_data_set_deeper_in_is_found(tmp_path):
    for name, value in (("x", np.zeros((4, 5, 5), np.uint8)), ("y", np.array([0, 1, 0, 1]))):
        (tmp_path / "one" / "two" / "three").mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "one" / "two" / "three" / f"{name}.npy", value)
    (tmp_path / "README.md").write_text("about")
    assert open_source(tmp_path).kind == "npz"


def test_several_data_sets_are_listed(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "data.npz", x=np.zeros((2, 5, 5), np.uint8), y=[0, 1])
    with pytest.raises(UserError) as error:
        open_source(tmp_path)
    assert error.value.given == f"{tmp_path} holds several data sets: {tmp_path}/first (npz), {tmp_path}/second (npz)"
    assert error.value.then == f"name one of them: {tmp_path}/first"


def test_a_function_of_ones_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "from engram.data.examples import Examples, Source\n"
        "class Shapes(Examples):\n"
        "    def __init__(self, labels): self.labels = np.array(labels)\n"
        "    def name(self, index): return f'shape {index}'\n"
        "    def read(self, index): return np.full((1, 4, 4), index, np.uint8)\n"
        "def shapes(count=4): return Source('mine', 'shapes', ('a', 'b'), Shapes([0, 1] * (count // 2)))\n"
        "def wrong(): return 3\n"
        "def out_of_range(): return Source('mine', 'shapes', ('a', 'b'), Shapes([0, 2]))\n"
    )
    assert len(open_source(f"{file}:shapes").train) == 4
    assert len(open_source(f"{file}:shapes", count=8).train) == 8
    with pytest.raises(UserError, match="returned a int"):
        open_source(f"{file}:wrong")
    with pytest.raises(UserError, match="shape 1 has label 2: out of range"):
        open_source(f"{file}:out_of_range")


def test_what_is_neither_file_nor_folder(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is neither a file nor a folder"):
        open_source(tmp_path / "pipe")


def test_what_may_not_be_read(tmp_path, monkeypatch):
    put(tmp_path, "a/1.png", "b/1.png")

    def refuse(*_):
        raise PermissionError(13, "Permission denied", "secret")

    monkeypatch.setattr("engram.data.sources.folder._walk", refuse)
    with pytest.raises(UserError, match="secret cannot be read: Permission denied"):
        open_source(tmp_path)


def test_settings_that_a_source_does_not_take(tmp_path):
    with pytest.raises(UserError, match="source 'digits' has no setting 'size'"):
        open_source("digits", size=3)


def test_a_new_source_is_one_registration(tmp_path, monkeypatch):
    registry.names("source")
    monkeypatch.setitem(registry._entries, "source", dict(registry._entries["source"]))

    @registry.register("source", order=1, accepts="my own form", recognizes=lambda path: path.suffix == ".mine")
    def mine(path):
        """My own form."""
        return Source(str(path), "mine", ("a", "b"), arrays([0, 1]))

    (tmp_path / "data.mine").touch()
    assert open_source(tmp_path / "data.mine").kind == "mine"
    (tmp_path / "a.txt").touch()
    with pytest.raises(UserError) as error:
        open_source(tmp_path / "a.txt")
    assert "my own form" in error.value.allowed


def test_every_source_says_how_it_is_found():
    orders = []
    for name in registry.names("source"):
        entry = registry.find("source", name)
        assert entry.summary, name
        if not entry.facts.get("named"):
            assert entry.facts["accepts"]
            orders.append(entry.facts["order"])
    assert len(set(orders)) == len(orders) == 6  # no two fight over a path


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (Source("p", "k", ("a", "b"), arrays([])), "p has no training examples"),
        (Source("p", "k", ("a", "b"), arrays([1, 1])), "p has one class only: b"),
        (Source("p", "k", ("a",), arrays([0, 0])), "p has one class only: a"),
        (Source("p", "k", ("a", "b"), arrays([0, 1, 2])), r"p: here\[2\] has label 2: out of range"),
        (
            Source("p", "k", ("a", "b"), arrays([0, 1]), test=arrays([0, -1])),
            r"p: here\[1\] has label -1: out of range",
        ),
        (Source("p", "k", ("a", "b"), arrays([0, 1], np.int32)), "labels of train are int32"),
    ],
)
def test_what_cannot_be_learnt_from(source, said):
    with pytest.raises(UserError, match=said):
        checked(source)


def test_empty_splits_are_left_out_and_told():
    source = checked(Source("p", "k", ("a", "b"), arrays([0, 1]), validation=arrays([]), test=arrays([])))
    assert source.validation is None
    assert source.test is None
    assert source.notes == ("left out validation: no examples", "left out test: no examples")


def test_classes_without_training_examples_are_told():
    assert checked(Source("p", "k", ("a", "b", "c"), arrays([0, 1]))).notes == ("no training examples of c",)


def test_names_are_kept_as_they_were():
    words = ["cats/1.jpg", "", "dogs/naïve 2.jpg", "c" * 300]
    names = Names(words)
    assert [names[i] for i in range(4)] == words
    assert [names.shown(i) for i in range(4)] == words
    with pytest.raises(IndexError):
        names[4]


def test_rows_are_named_by_file():
    rows = Rows(("a", "b", "c"), (2, 0, 3))
    assert [rows[i] for i in range(5)] == ["a[0]", "a[1]", "c[0]", "c[1]", "c[2]"]
    with pytest.raises(IndexError):
        rows[5]
