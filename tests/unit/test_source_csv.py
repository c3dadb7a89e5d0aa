"""Tables of paths and labels: headers and none, splits, and lines that do not work out."""

import os

import pytest
from PIL import Image

from engram.data.open import open_source
from engram.data.sources.csv import csv
from engram.errors import UserError

IMAGES = ("cats/1.png", "cats/2.png", "dogs/1.png", "dogs/2.png")


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    for name in IMAGES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 2), sum(name.encode()) % 256).save(folder / name)
    return folder


def table(home, text, name="labels.csv"):
    (home / name).write_text(text, encoding="utf-8", newline="")
    return home / name


def listing(examples):
    return [(examples.name(i), int(label)) for i, label in enumerate(examples.labels)]


ROWS = "cats/1.png,cat\ndogs/1.png,dog\n"


@pytest.mark.parametrize(
    "text",
    [
        ROWS,
        "path,label\n" + ROWS,
        "\ufeffpath,label\r\n" + ROWS.replace("\n", "\r\n"),
        "Image Path,Class Name\n" + ROWS,
        "file_name;label\n" + ROWS.replace(",", ";"),
        "filename\tlabel\n" + ROWS.replace(",", "\t"),
        "width,label,image\n3,cat,cats/1.png\n3,dog,dogs/1.png\n",
        '"path","label"\n"cats/1.png","cat"\n\n"dogs/1.png" , dog\n',
        "./" + ROWS.replace("\ndogs", "\n./dogs"),
    ],
)
def test_headers_marks_and_none(home, text):
    source = open_source(table(home, text))
    assert source.kind == "csv"
    assert source.classes == ("cat", "dog")
    names = [name.removeprefix("./") for name, _ in listing(source.train)]
    assert names == ["cats/1.png", "dogs/1.png"]
    assert source.train.labels.tolist() == [0, 1]
    assert (source.train.read(1) == sum(b"dogs/1.png") % 256).all()


def test_a_folder_with_one_table(home):
    table(home, "path,label\n" + ROWS)
    source = open_source(home)
    assert source.kind == "csv"  # before the class folders, which would have four images
    assert len(source.train) == 2
    assert source.notes == ("read from labels.csv",)


def test_a_table_of_something_else_leaves_the_folders(home):
    for header in ("time,price", "time,label", "path,price"):
        table(home, f"{header}\n1,2\n")
        assert open_source(home).kind == "folder"


@pytest.mark.parametrize("header", ["path,label,split\n", ""])
def test_a_column_of_splits(home, header):
    text = header + "cats/1.png,cat,train\ndogs/1.png,dog,Train\ncats/2.png,cat,val\ndogs/2.png,dog,test\n"
    source = open_source(table(home, text))
    assert listing(source.train) == [("cats/1.png", 0), ("dogs/1.png", 1)]
    assert listing(source.validation) == [("cats/2.png", 0)]
    assert listing(source.test) == [("dogs/2.png", 1)]


def test_one_table_a_split(home):
    table(home, "path,label\n" + ROWS, "train.csv")
    table(home, "path,label\ndogs/2.png,dog\n", "val.csv")
    table(home, "path,label\ncats/2.png,cat\n", "test.csv")
    table(home, "path,label\ncats/2.png,cat\n", "sample_submission.csv")
    source = open_source(home)
    assert listing(source.train) == [("cats/1.png", 0), ("dogs/1.png", 1)]
    assert listing(source.validation) == [("dogs/2.png", 1)]
    assert listing(source.test) == [("cats/2.png", 0)]
    assert source.notes[0] == "left out: sample_submission.csv"


def test_several_tables_without_splits(home):
    table(home, "path,label\n" + ROWS, "a.csv")
    table(home, "path,label\n" + ROWS, "b.csv")
    with pytest.raises(UserError, match=r"holds several tables: a\.csv, b\.csv"):
        open_source(home)


def test_labels_that_are_numbers(home):
    source = open_source(table(home, "cats/1.png,1\ndogs/1.png,2\ncats/2.png,10\n".replace("10", "1")))
    assert (source.classes, source.train.labels.tolist()) == (("1", "2"), [0, 1, 0])
    source = open_source(table(home, "cats/1.png,10\ndogs/1.png,x2\ncats/2.png,x10\n"))
    assert source.classes == ("10", "x2", "x10")


def test_mixed_kinds_across_splits_are_text(home):
    text = "path,label,split\ncats/1.png,1,train\ndogs/1.png,b,train\ncats/2.png,1,test\n"
    source = open_source(table(home, text))
    assert (source.classes, source.test.labels.tolist()) == (("1", "b"), [0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cats/1.png,0\ndogs/1.png,5\ncats/2.png,1\n", r"go up to 5 \(labels\.csv line 2\)"),
        ("cats/1.png,0\ndogs/1.png,-1\n", r"labels\.csv line 2 is -1: a label cannot be negative"),
        ("cats/1.png,cat\ndogs/1.png,\n", r"labels\.csv line 2 has no label"),
        ("cats/1.png,cat\n\ndogs/1.png\n", r"labels\.csv line 3 has 1 column: dogs/1\.png"),
        ("path,label\ncats/1.png,cat\n,dog\n", r"labels\.csv line 3 names no image"),
        ("path,label,split\ncats/1.png,cat,trian\n", r"labels\.csv line 2: split 'trian' is not known"),
        ("path,label,split\ncats/1.png,cat,test\n", r"has no training rows, only test"),
        ("cats/1.png,cat\ncats/2.png,cat\n", r"has one class only: cat"),
        ("path,label\n", r"has no training rows, only nothing"),
        ("", r"labels\.csv is empty"),
        ("\n\n", r"labels\.csv is empty"),
        ("path,size\ncats/1.png,3\n", r"has no label column: path, size"),
        ("cats/1.png\ndogs/1.png\n", r"has one column: 'cats/1\.png'"),
        ("alpha,beta\ncats/1.png,cat\n", r"which columns are the path and the label cannot be told from alpha, beta"),
        ('cats/1.png,"cat\n', r"one class only"),
        ("path,label,split\ncats/1.png,a,train\ndogs/1.png,b,train\ncats/2.png,c,test\n", r"line 4 is 'c', a class"),
    ],
)
def test_lines_that_do_not_work_out(home, text, said):
    with pytest.raises(UserError, match=said):
        open_source(table(home, text))


def test_a_mistyped_split_gets_the_nearest(home):
    with pytest.raises(UserError) as error:
        csv(table(home, "path,label,split\ncats/1.png,cat,trian\n"))
    assert error.value.nearest == "train"


def test_missing_images_are_named(home):
    text = ROWS + "".join(f"dogs/gone{number}.png,dog\n" for number in range(5))
    with pytest.raises(UserError) as error:
        open_source(table(home, text))
    assert error.value.given == (
        "5 images of 7 do not exist: dogs/gone0.png (labels.csv line 3), dogs/gone1.png (labels.csv line 4), "
        "dogs/gone2.png (labels.csv line 5) and 2 more"
    )
    assert str(home) in error.value.then


def test_paths_that_leave_the_folder_are_used_where_they_exist_and_told(home, tmp_path):
    Image.new("L", (3, 2), 99).save(tmp_path / "outside.png")
    text = f"cats/1.png,cat\n../outside.png,dog\n{tmp_path / 'outside.png'},dog\ncats/../dogs/1.png,dog\n"
    source = open_source(table(home, text))
    assert (source.train.read(1) == 99).all()
    assert (source.train.read(2) == 99).all()
    assert source.notes == (f"2 images outside {home}",)
    with pytest.raises(UserError, match=r"1 image of 2 do not exist: \.\./gone\.png"):
        open_source(table(home, "cats/1.png,cat\n../gone.png,dog\n"))


def test_names_without_folder_or_suffix(home):
    (home / "train").mkdir()
    for name in ("a", "b"):
        os.rename(home / "cats" / f"{ {'a': 1, 'b': 2}[name] }.png", home / "train" / f"{name}.png")
    source = open_source(table(home, "id,breed\na,pug\nb,mops\n"))
    assert listing(source.train) == [("train/a.png", 1), ("train/b.png", 0)]
    assert source.notes == ("paths are taken as train/....png",)


def test_names_in_a_folder_of_images(home):
    os.rename(home / "cats", home / "images")
    source = open_source(table(home, "image,label\n1.png,a\n2.png,b\n"))
    assert listing(source.train) == [("images/1.png", 0), ("images/2.png", 1)]
    assert source.notes == ("paths are taken as images/...",)


def test_files_without_suffix_need_no_header(home):
    for name in ("1", "2"):
        os.rename(home / "cats" / f"{name}.png", home / name)
    assert listing(open_source(table(home, "1,cat\n2,dog\n")).train) == [("1", 0), ("2", 1)]


def test_a_cell_without_end(home):
    with pytest.raises(UserError, match="is not a sound CSV: field larger than field limit"):
        open_source(table(home, 'cats/1.png,"' + "x" * 200_000))


def test_backslashes_of_windows(home):
    if os.sep == "/":
        assert len(open_source(table(home, "cats\\1.png,cat\ndogs\\1.png,dog\n")).train) == 2


def test_text_that_is_not_utf8(home):
    (home / "labels.csv").write_bytes("cats/1.png,café\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"is not UTF-8 text: .* at byte 14"):
        open_source(home / "labels.csv")


def test_a_binary_file_called_csv(home):
    (home / "labels.csv").write_bytes(b"a,b\n" + b"\0" * 100)
    with pytest.raises(UserError, match=r"labels\.csv"):
        open_source(home / "labels.csv")


def test_an_unlabelled_test_table_is_left_out_and_told(home):
    table(home, "path,label\n" + ROWS, "train.csv")
    table(home, "path\ncats/2.png\n", "test.csv")
    source = open_source(home)
    assert source.test is None
    assert source.notes == ("left out: test.csv", "read from train.csv")
