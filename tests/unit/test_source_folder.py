"""Folders of images: splits, classes, what is skipped, and the ways in which a folder is not what it should be."""

import os
import pickle

import numpy as np
import pytest
from PIL import Image

from engram.data.examples import Unreadable
from engram.data.open import open_source
from engram.data.sources.folder import folder
from engram.errors import UserError


def put(root, *names, size=(6, 4)):
    """Images of one grey each, which tells them apart."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, sum(name.encode()) % 256).save(path)
    return root


def listing(examples):
    return [(examples.name(i), int(label)) for i, label in enumerate(examples.labels)]


def test_one_subfolder_a_class(tmp_path):
    source = open_source(put(tmp_path, "dogs/b.png", "cats/2.png", "cats/1.jpg"))
    assert source.kind == "folder"
    assert source.classes == ("cats", "dogs")
    assert source.validation is None
    assert source.test is None
    assert listing(source.train) == [("cats/1.jpg", 0), ("cats/2.png", 0), ("dogs/b.png", 1)]
    assert source.train.labels.dtype == np.int64
    assert source.train.array() is None
    assert source.notes == ()


def test_each_example_is_its_own_file(tmp_path):
    names = ["cats/1.png", "cats/2.png", "dogs/1.png"]
    source = folder(put(tmp_path, *names))
    for index, name in enumerate(names):
        image = source.train.read(index)
        assert image.shape == (1, 4, 6)
        assert (image == sum(name.encode()) % 256).all()


def test_classes_are_in_natural_order(tmp_path):
    source = folder(put(tmp_path, *(f"{name}/1.png" for name in ("c10", "c2", "C1", "b"))))
    assert source.classes == ("b", "C1", "c2", "c10")


@pytest.mark.parametrize("word", ["val", "valid", "validation", "Val"])
def test_splits(tmp_path, word):
    put(
        tmp_path, "train/a/1.png", "train/b/1.png", f"{word}/a/2.png", f"{word}/b/2.png", "test/b/3.png", "test/a/3.png"
    )
    source = open_source(tmp_path)
    assert source.classes == ("a", "b")
    assert listing(source.train) == [("train/a/1.png", 0), ("train/b/1.png", 1)]
    assert listing(source.validation) == [(f"{word}/a/2.png", 0), (f"{word}/b/2.png", 1)]
    assert listing(source.test) == [("test/a/3.png", 0), ("test/b/3.png", 1)]
    assert (source.test.read(0) == sum(b"test/a/3.png") % 256).all()
    assert source.notes == ()


def test_a_folder_beside_the_splits_is_left_out_and_told(tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/2.png", "extra/3.png")
    source = folder(tmp_path)
    assert "left out, beside train/: extra/" in source.notes
    assert "test/ has no images of b" in source.notes


def test_train_may_be_a_class_among_others(tmp_path):
    source = folder(put(tmp_path, "bus/1.png", "car/1.png", "train/1.png", "truck/deep/1.png"))
    assert source.classes == ("bus", "car", "train", "truck")


def test_test_may_be_a_class_among_others(tmp_path):
    assert folder(put(tmp_path, "cats/1.png", "test/x/1.png")).classes == ("cats", "test")


def test_train_with_classes_in_it_is_the_split_whatever_lies_beside(tmp_path):
    source = folder(put(tmp_path, "train/a/1.png", "train/b/1.png", "extra/3.png"))
    assert source.classes == ("a", "b")
    assert source.notes == ("left out, beside train/: extra/",)


def test_train_without_classes_is_no_class_beside_a_folder_without_images(tmp_path):
    put(tmp_path, "train/1.png")
    (tmp_path / "documents").mkdir()
    with pytest.raises(UserError, match="train has 1 image but no class folders"):
        folder(tmp_path)


def test_images_may_lie_deeper_within_a_class(tmp_path):
    source = folder(put(tmp_path, "a/x/1.png", "a/y/z/2.png", "a/3.png", "b/1.png"))
    assert [name for name, _ in listing(source.train)] == ["a/3.png", "a/x/1.png", "a/y/z/2.png", "b/1.png"]
    assert source.train.labels.tolist() == [0, 0, 0, 1]


def test_what_is_skipped_is_counted(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png", "a/.hidden.png", ".cache/1.png", "stray.png", "__MACOSX/a/1.png", ".h.png")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "b" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "b" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "README.md").write_text("about")
    source = folder(tmp_path)
    assert len(source.train) == 2
    assert set(source.notes) == {
        "skipped 5 hidden files",
        "skipped 2 files not named as images (.txt, .db)",
        "skipped 1 image beside the class folders",
    }


def test_links_are_followed_once_and_never_back_up(tmp_path):
    root = put(tmp_path / "photos", "a/1.png", "b/1.png")
    elsewhere = put(tmp_path / "elsewhere", "x.png")
    os.symlink(elsewhere, root / "a" / "more")
    os.symlink(elsewhere / "x.png", root / "b" / "linked.png")
    os.symlink(root / "a", root / "a" / "self")
    os.symlink(root, root / "b" / "up")
    os.symlink(tmp_path / "gone.png", root / "b" / "broken.png")
    source = folder(root)
    assert [name for name, _ in listing(source.train)] == ["a/1.png", "a/more/x.png", "b/1.png", "b/linked.png"]
    assert set(source.notes) == {
        "skipped 2 links to a folder already read",
        "skipped 1 link leading nowhere",
    }


def test_a_linked_class_is_a_class(tmp_path):
    elsewhere = put(tmp_path / "elsewhere", "x.png")
    root = put(tmp_path / "photos", "a/1.png")
    os.symlink(elsewhere, root / "b")
    assert listing(folder(root).train) == [("a/1.png", 0), ("b/x.png", 1)]


def test_images_without_class_folders(tmp_path):
    with pytest.raises(UserError) as error:
        open_source(put(tmp_path, "1.png", "2.png"))
    assert str(error.value).splitlines() == [
        f"{tmp_path} has 2 images but no class folders",
        f"  allowed: one subfolder a class, such as {tmp_path}/cats and {tmp_path}/dogs",
        "  next: sort the images into one folder a class, or list them in a CSV with the columns path,label",
    ]


def test_a_training_split_without_class_folders(tmp_path):
    with pytest.raises(UserError, match="train has 2 images but no class folders"):
        open_source(put(tmp_path, "train/1.png", "train/2.png", "test/3.png"))


def test_an_empty_training_split(tmp_path):
    put(tmp_path, "test/a/1.png", "test/b/1.png")
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="train has no class folders and no images") as error:
        open_source(tmp_path)
    assert str(tmp_path) in error.value.then


def test_one_class_only(tmp_path):
    with pytest.raises(UserError) as error:
        open_source(put(tmp_path, "cats/1.png", "cats/2.png"))
    assert error.value.given == f"{tmp_path} has one class only: cats"
    assert "another class" in error.value.then
    assert error.value.nearest is None


def test_one_folder_around_the_classes_is_pointed_at(tmp_path):
    with pytest.raises(UserError) as error:
        open_source(put(tmp_path, "flowers/rose/1.png", "flowers/tulip/1.png"))
    assert error.value.nearest == str(tmp_path / "flowers")


def test_empty_classes_are_named_with_what_they_hold(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match=r"has a class without images: c\n"):
        folder(tmp_path)
    (tmp_path / "c" / "1.heic").write_bytes(b"x")
    (tmp_path / "c" / "2.HEIC").write_bytes(b"x")
    with pytest.raises(UserError, match=r"has a class without images: c \(it holds 2 \.heic\)"):
        folder(tmp_path)


def test_no_training_split(tmp_path):
    with pytest.raises(UserError, match=r"has validation/, test/ but no train/|has test/, .* but no train/") as error:
        folder(put(tmp_path, "test/a/1.png", "test/b/1.png", "validation/a/1.png"))
    assert str(tmp_path / "train") in error.value.then


def test_classes_that_only_another_split_has_are_named(tmp_path):
    put(tmp_path, "train/cats/1.png", "train/dogs/1.png", "test/cat/1.png", "test/dogs/1.png")
    with pytest.raises(UserError) as error:
        open_source(tmp_path)
    assert error.value.given == f"{tmp_path}/test has a class that train/ lacks: cat"
    assert error.value.nearest == "cats"


def test_two_folders_for_one_split(tmp_path):
    with pytest.raises(UserError, match=r"both val/ and valid/|both valid/ and val/"):
        folder(put(tmp_path, "train/a/1.png", "val/a/1.png", "valid/a/1.png"))


def test_an_unlabelled_test_split_is_left_out_and_told(tmp_path):
    source = folder(put(tmp_path, "train/a/1.png", "train/b/1.png", "test/1.png", "test/2.png"))
    assert source.test is None
    assert source.notes == ("left out test/: 2 images without class folders",)


def test_an_empty_test_split_is_left_out_and_told(tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/1.png")
    (tmp_path / "test" / "a").mkdir(parents=True)
    assert folder(tmp_path).notes == ("left out test/: no images in it",)


def test_empty_folder(tmp_path):
    with pytest.raises(UserError, match="holds no data that is known: it is empty"):
        open_source(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match=r"1 folder \(train\) without images"):
        open_source(tmp_path)


def test_faulty_files_are_refused_by_name_when_read(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a" / "empty.jpg").touch()
    (tmp_path / "a" / "text.jpg").write_text("not a picture")
    (tmp_path / "b" / "cut.png").write_bytes((tmp_path / "b" / "1.png").read_bytes()[:40])
    train = open_source(tmp_path).train
    said = {}
    for index in range(len(train)):
        try:
            train.read(index)
        except Unreadable as error:
            said[error.name] = error.why
    assert said["a/empty.jpg"] == "the file is empty (0 bytes)"
    assert said["a/text.jpg"] == "not an image: it is text"
    assert set(said) == {"a/empty.jpg", "a/text.jpg", "b/cut.png"}


def test_a_file_that_vanished_is_refused_by_name(tmp_path):
    source = folder(put(tmp_path, "a/1.png", "b/1.png"))
    (tmp_path / "a" / "1.png").unlink()
    with pytest.raises(Unreadable, match=r"a/1\.png: No such file"):
        source.train.read(0)


def test_jpegs_can_be_read_smaller(tmp_path):
    put(tmp_path, "a/1.jpg", "b/1.jpg", size=(640, 480))
    train = folder(tmp_path).train
    assert train.read(0).shape == (1, 480, 640)
    assert train.read(0, at_least=50).shape == (1, 120, 160)


def test_names_that_are_no_text(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png")
    strange = os.fsencode(tmp_path) + b"/a/caf\xe9.png"
    try:
        os.rename(os.fsencode(tmp_path / "a" / "1.png"), strange)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    train = folder(tmp_path).train
    assert train.read(0).shape == (1, 4, 6)
    assert train.name(0) == "a/caf\\xe9.png"


def test_light_and_picklable(tmp_path):
    source = folder(put(tmp_path, *(f"{name}/{i}.png" for name in "ab" for i in range(50))))
    data = pickle.dumps(source.train)
    assert len(data) < 100 * (len("a/10.png") + 16) + 500
    again = pickle.loads(data)
    assert listing(again) == listing(source.train)
    assert np.array_equal(again.read(70), source.train.read(70))


def test_relative_paths(tmp_path, monkeypatch):
    put(tmp_path / "photos", "a/1.png", "b/1.png")
    monkeypatch.chdir(tmp_path)
    source = open_source("photos")
    assert source.path == "photos"
    assert source.train.read(1).shape == (1, 4, 6)
