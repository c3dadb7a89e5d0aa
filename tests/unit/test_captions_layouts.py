"""Layouts of captions as they are handed out: what is found, what is left out by which rule, and what is refused."""

import json

import numpy as np
import pytest
from PIL import Image

from engram.data.captions import coco as coco_layout
from engram.data.captions import flickr8k, karpathy, picture_folder, tables
from engram.data.captions.coco import LARGEST, load_json
from engram.data.captions.open_captions import open_captions
from engram.data.captions.source import Captioned, CaptionSource
from engram.errors import UserError


def pictures(folder, *names, suffix=".jpg"):
    """Small pictures, each of its own shade of grey."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", (6, 4), (10 * number,) * 3).save(folder / f"{name}{suffix}", "PNG")


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())


def said(split):
    """Sentences by the name of the picture."""
    return {split.examples.name(index): list(own) for index, own in enumerate(split.sentences)}


def refused(path):
    with pytest.raises(UserError) as caught:
        open_captions(path)
    return str(caught.value)


def has_note(source, *parts):
    return any(all(part in note for part in parts) for note in source.notes)


@pytest.fixture
def flickr(tmp_path):
    """Flickr8k as its two archives unpack, with the wrong name that its own sentences have."""
    lines = [f"{name}.jpg#{order}\tA {name} , number {order} .\n" for name in "abcdef" for order in range(2)]
    lines.append("a.jpg.1#0\tA picture that never was .\n")
    write(tmp_path / "Flickr8k_text/Flickr8k.token.txt", "".join(lines))
    write(tmp_path / "Flickr8k_text/Flickr8k.lemma.token.txt", "a.jpg#0\ta be number\n")
    for split, names in (("train", "abc"), ("dev", "d"), ("test", "e")):
        write(tmp_path / f"Flickr8k_text/Flickr_8k.{split}Images.txt", "".join(f"{name}.jpg\r\n" for name in names))
    pictures(tmp_path / "Flickr8k_Dataset/Flicker8k_Dataset", *"abcdef")
    return tmp_path


def test_flickr8k(flickr):
    source = open_captions(flickr)
    assert source.kind == "flickr8k"
    assert said(source.train) == {f"{one}.jpg": [f"A {one} , number {n} ." for n in range(2)] for one in "abc"}
    assert list(said(source.validation)) == ["d.jpg"]
    assert list(said(source.test)) == ["e.jpg"]
    assert source.train.examples.read(2).shape == (3, 4, 6)
    assert source.train.examples.read(2).max() == 20  # c.jpg, and no other
    assert source.train.examples.labels.tolist() == [0, 0, 0]
    assert source.notes == ("left out 2 pictures in no split's list: f.jpg, a.jpg.1",)


@pytest.mark.parametrize("part", ["Flickr8k_text", "Flickr8k_text/Flickr8k.token.txt"])
def test_flickr8k_by_its_text_alone(flickr, part):
    assert len(open_captions(flickr / part).train) == 3


def test_a_set_in_a_folder_of_its_own_is_found(flickr):
    inner = flickr / "archive" / "flickr"
    inner.mkdir(parents=True)
    for folder in ("Flickr8k_text", "Flickr8k_Dataset"):
        (flickr / folder).rename(inner / folder)
    assert len(open_captions(flickr).train) == 3


def test_flickr30k_without_lists_is_all_for_training(tmp_path):
    write(tmp_path / "results_20130124.token", "1.jpg#0\tA man .\n1.jpg#1\tSomeone .\n2.jpg#0\tA dog .\n")
    pictures(tmp_path / "flickr30k-images", "1", "2")
    source = open_captions(tmp_path)
    assert said(source.train) == {"1.jpg": ["A man .", "Someone ."], "2.jpg": ["A dog ."]}
    assert source.validation is source.test is None


def test_sentences_without_pictures_and_pictures_without_sentences_are_counted_and_named(tmp_path):
    write(tmp_path / "captions.txt", "image,caption\na.jpg,A dog\nb.jpg,A cat\nb.jpg,Two cats\nc.jpg,...\n")
    pictures(tmp_path / "Images", "a", "c", "d")
    source = open_captions(tmp_path)
    assert said(source.train) == {"a.jpg": ["A dog"]}
    assert has_note(source, "left out 2 sentences of 1 picture not there: b.jpg")
    assert has_note(source, "left out 2 pictures without a caption: c.jpg, d.jpg")
    assert has_note(source, "left out 1 sentence without a word: c.jpg")


def test_nothing_left_names_a_picture_and_where_it_was_looked_for(tmp_path):
    write(tmp_path / "captions.csv", "image,caption\nlost.jpg,A dog\n")
    pictures(tmp_path / "Images", "other")
    message = refused(tmp_path)
    assert "lost.jpg" in message
    assert str(tmp_path / "Images") in message


def test_bytes_that_are_no_utf8_name_file_and_line(flickr):
    write(flickr / "Flickr8k_text/Flickr8k.token.txt", b"a.jpg#0\tA dog\nb.jpg#0\tA caf\xe9\n")
    assert "Flickr8k.token.txt is not UTF-8: byte 0xe9" in refused(flickr)
    assert "(line 2)" in refused(flickr)
    write(flickr / "t/captions.csv", b"image,caption\na.jpg,x\nb.jpg,\xff\n")
    assert "(line 3)" in refused(flickr / "t")


def test_lines_without_the_form_are_left_out_and_most_of_them_are_an_error(flickr):
    file = flickr / "Flickr8k_text/Flickr8k.token.txt"
    good = file.read_text()
    write(file, good + "a.jpg A dog without a tab\nb.jpg\tno number\n\n")
    source = open_captions(flickr)
    assert has_note(source, "left out 2 lines that are no captions", "Flickr8k.token.txt line 14")
    assert source.train.number_of_sentences == 6
    write(file, "a.jpg#0\tA dog\n" + "nonsense\n" * 2)
    assert "2 of 3 lines are no captions; first Flickr8k.token.txt line 2" in refused(flickr)


def test_a_picture_in_two_lists_is_only_judged_by(flickr):
    write(flickr / "Flickr8k_text/Flickr_8k.testImages.txt", "e.jpg\na.jpg\n")
    source = open_captions(flickr)
    assert list(said(source.train)) == ["b.jpg", "c.jpg"]
    assert sorted(said(source.test)) == ["a.jpg", "e.jpg"]
    assert has_note(source, "1 picture in several lists", "a.jpg")


def test_lists_without_training_are_refused(flickr):
    (flickr / "Flickr8k_text/Flickr_8k.trainImages.txt").unlink()
    assert "no list of training pictures" in refused(flickr)


def test_a_split_of_which_no_picture_is_there_is_left_out(flickr):
    write(flickr / "Flickr8k_text/Flickr8k.token.txt", "a.jpg#0\tA dog\nz.jpg#0\tA cat\n")
    write(flickr / "Flickr8k_text/Flickr_8k.testImages.txt", "z.jpg\n")
    source = open_captions(flickr)
    assert source.test is None
    assert has_note(source, "left out test: none of its 1 picture is there")


def test_kaggles_table_with_commas_quoted_or_not(tmp_path):
    write(tmp_path / "captions.txt", 'image,caption\na.jpg,A dog , and a cat\na.jpg,"A ""big"" dog, a cat"\n')
    pictures(tmp_path / "Images", "a")
    assert said(open_captions(tmp_path).train) == {"a.jpg": ["A dog , and a cat", 'A "big" dog, a cat']}


def test_kaggles_flickr30k_with_its_broken_line(tmp_path):
    rows = [
        "image_name| comment_number| comment",
        "1.jpg| 0| A man ; a hat .",
        "1.jpg| 1| Someone .",
        "1.jpg| 4   A dog",
    ]
    write(tmp_path / "results.csv", "\n".join(rows))
    pictures(tmp_path / "flickr30k_images", "1")
    source = open_captions(tmp_path)
    assert said(source.train) == {"1.jpg": ["A man ; a hat .", "Someone ."]}
    assert has_note(source, "left out 1 line that is no caption: results.csv line 4")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.tsv", 'caption\tsplit\timage\nA "dog\ttrain\tp/a.jpg\nA cat\tval\tp/b.jpg\nA bird\ttest\tp/c.jpg\n'),
        ("captions.csv", 'split,image,caption\n,p/a.jpg,"A ""dog"\ndev,p/b.jpg,A cat\ntest,p/c.jpg,A bird\n'),
        (
            "metadata.jsonl",
            '{"file_name": "p/a.jpg", "text": "A \\"dog"}\n\n'
            '{"image": "p/b.jpg", "captions": ["A cat"], "split": "val"}\n'
            '{"image": "p/c.jpg", "caption": "A bird", "split": "test"}\n',
        ),
    ],
)
def test_tables(tmp_path, name, text):
    write(tmp_path / name, text)
    pictures(tmp_path / "p", "a", "b", "c")
    source = open_captions(tmp_path)
    assert source.kind == "table"
    assert said(source.train) == {"p/a.jpg": ['A "dog']}
    assert said(source.validation) == {"p/b.jpg": ["A cat"]}
    assert said(source.test) == {"p/c.jpg": ["A bird"]}


def test_a_table_a_split_and_a_table_without_a_header(tmp_path):
    write(tmp_path / "captions_train.csv", "a.jpg,A dog; it is old, too\n")
    write(tmp_path / "captions_val.csv", "b.jpg;A cat\n")
    pictures(tmp_path, "a", "b")
    source = open_captions(tmp_path)
    assert said(source.train) == {"a.jpg": ["A dog; it is old, too"]}
    assert said(source.validation) == {"b.jpg": ["A cat"]}
    write(tmp_path / "captions_training.csv", "a.jpg,A dog\n")
    assert "several tables" in refused(tmp_path)


def test_what_is_wrong_with_a_table_is_told(tmp_path):
    pictures(tmp_path, "a", "b")
    write(tmp_path / "captions.csv", "image,label\na.jpg,dog\n")
    assert "image, label" in refused(tmp_path)
    write(tmp_path / "captions.csv", "image,caption,split\na.jpg,dog,trian\n")
    assert "line 2: split 'trian'" in refused(tmp_path)
    write(tmp_path / "captions.csv", 'image,caption\na.jpg,"' + "x " * 100_000)
    assert "line 2 is no sound table" in refused(tmp_path)
    write(tmp_path / "captions.csv", "")
    assert "captions.csv is empty" in refused(tmp_path)
    write(tmp_path / "captions.csv", "image,caption\n")
    assert "holds no captions" in refused(tmp_path)
    (tmp_path / "captions.csv").unlink()
    rows = ['{"image": "a.jpg", "caption": "x"}', '{"image": 7, "caption": "x"}', '{"image": "a.jpg", "caption": "y"}']
    write(tmp_path / "captions.jsonl", "\n".join(rows))
    assert has_note(open_captions(tmp_path), "captions.jsonl line 2 (no image and caption)")
    write(tmp_path / "captions.jsonl", "[" * 100_000 + "\n" + "9" * 5000)
    assert "2 of 2 lines are no captions" in refused(tmp_path)


def test_something_must_be_for_training(tmp_path):
    write(tmp_path / "captions.csv", "image,caption,split\na.jpg,A dog,test\n")
    pictures(tmp_path, "a")
    assert "no captions to train on" in refused(tmp_path)


def test_a_picture_whose_lines_name_several_splits_is_only_judged_by(tmp_path):
    rows = ["a.jpg,train,A dog", "a.jpg,test,One dog", "b.jpg,val,A cat", "b.jpg,train,One cat", "c.jpg,train,A bird"]
    write(tmp_path / "captions.csv", "\n".join(["image,split,caption", *rows, "d.jpg,test,A cow", "d.jpg,val,A cow"]))
    pictures(tmp_path, *"abcd")
    source = open_captions(tmp_path)
    assert said(source.train) == {"c.jpg": ["A bird"]}
    assert said(source.validation) == {"b.jpg": ["A cat"]}
    assert said(source.test) == {"a.jpg": ["One dog"], "d.jpg": ["A cow"]}
    assert has_note(source, "3 pictures in several splits", "d.jpg, a.jpg, b.jpg")


@pytest.mark.parametrize("opened", [coco_layout.coco, flickr8k.flickr8k, karpathy.karpathy, tables.table])
def test_a_layout_that_is_not_there_is_refused(tmp_path, opened):
    with pytest.raises(UserError, match="holds no"):
        opened(tmp_path)


def test_texts_that_cannot_be_written_are_made_so(tmp_path):
    write(
        tmp_path / "captions.jsonl",
        '{"image": "a.jpg", "caption": "A \\ud800 dog"}\n{"image": "\\udce9", "caption": "x"}',
    )
    pictures(tmp_path, "a")
    source = open_captions(tmp_path)
    assert said(source.train) == {"a.jpg": ["A ? dog"]}
    "".join(source.notes).encode()


def annotations(*names, start=0, **more):
    """A COCO file in which picture n has the sentences `n one` and `n two`."""
    images = [{"id": start + n, "file_name": f"{name}.jpg", "height": 4, "width": 6} for n, name in enumerate(names)]
    said = [
        {"id": 9 * n + order, "image_id": start + n, "caption": f"{name} {word}\n"}
        for order, word in enumerate(("one", "two"))
        for n, name in enumerate(names)
    ]
    return {"info": {}, "licenses": [], "images": images, "annotations": said, **more}


@pytest.fixture
def coco(tmp_path):
    write(tmp_path / "annotations/captions_train2017.json", json.dumps(annotations("a", "b", "c")))
    write(tmp_path / "annotations/captions_val2017.json", json.dumps(annotations("d", start=7)))
    pictures(tmp_path / "train2017", "a", "b", "c")
    pictures(tmp_path / "val2017", "d")
    return tmp_path


def test_coco(coco):
    source = open_captions(coco)
    assert source.kind == "coco"
    assert said(source.train) == {f"{one}.jpg": [f"{one} one", f"{one} two"] for one in "abc"}
    assert said(source.validation) == {"d.jpg": ["d one", "d two"]}
    assert source.test is None
    assert source.notes == ()
    assert source.validation.examples.read(0).shape == (3, 4, 6)


def test_coco_below_images_by_its_file_or_its_annotations(coco):
    (coco / "images").mkdir()
    (coco / "train2017").rename(coco / "images/train2017")
    (coco / "val2017").rename(coco / "images/val2017")
    for path in (coco, coco / "annotations"):
        assert len(open_captions(path).validation) == 1
    alone = open_captions(coco / "annotations/captions_val2017.json")
    assert said(alone.train) == {"d.jpg": ["d one", "d two"]}
    assert has_note(alone, "captions_val2017.json", "is trained on")


def test_of_several_years_the_one_with_pictures(coco):
    write(coco / "annotations/captions_train2014.json", json.dumps(annotations("COCO_train2014_1")))
    pictures(coco / "train2014", "COCO_train2014_1")
    assert len(open_captions(coco).train) == 3
    assert has_note(open_captions(coco), "of the years 2017, 2014 2017 was taken")
    for one in "abc":
        (coco / f"train2017/{one}.jpg").unlink()
    assert list(said(open_captions(coco).train)) == ["COCO_train2014_1.jpg"]


def test_cocos_strangers_are_left_out(coco):
    found = annotations("a", "b", "c", "gone")
    found["images"].append({"id": 99, "file_name": "silent.jpg"})
    found["annotations"].append({"image_id": 12345, "caption": "of nothing"})
    write(coco / "annotations/captions_train2017.json", json.dumps(found))
    pictures(coco / "train2017", "silent")
    source = open_captions(coco)
    assert list(said(source.train)) == ["a.jpg", "b.jpg", "c.jpg"]
    assert has_note(source, "left out 1 sentence of pictures", "12345")
    assert has_note(source, "left out 2 sentences of 1 picture not there: gone.jpg")
    assert has_note(source, "left out 1 picture without a caption: silent.jpg")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"images": [', "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ('{"images": [], "annotations": [' + "9" * 5000 + "]}", "is no JSON"),
        ("[]", "images is missing"),
        ('{"images": {}}', "images is {}"),
        ('{"images": [{"id": 1}], "annotations": []}', "images[0].file_name is missing"),
        ('{"images": [{"id": true, "file_name": "a.jpg"}]}', "images[0].id is True"),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]}',
            "images[1] has the id 1 of a.jpg",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": 5}]}',
            "caption is 5",
        ),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [7]}', "annotations[0].image_id is missing"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}', "holds no captions"),
    ],
)
def test_what_is_wrong_with_cocos_file_is_told(coco, text, part):
    (coco / "annotations/captions_val2017.json").unlink()
    write(coco / "annotations/captions_train2017.json", text)
    message = refused(coco)
    assert part in message
    assert len(message.splitlines()) <= 5


def test_a_file_too_large_to_parse_is_refused(tmp_path):
    with open(tmp_path / "big.json", "wb") as file:
        file.truncate(LARGEST + 1)  # no disk is used
    with pytest.raises(UserError, match=r"1,073,741,825 bytes"):
        load_json(tmp_path / "big.json")


def test_karpathys_splits(coco):
    images = [
        {
            "filename": f"{name}.jpg",
            "filepath": folder,
            "split": split,
            "sentences": [{"raw": f"A {name}.", "tokens": ["a", name]}],
        }
        for name, folder, split in (
            ("a", "train2017", "train"),
            ("d", "val2017", "restval"),
            ("b", "train2017", "val"),
            ("c", "train2017", "test"),
        )
    ]
    write(coco / "dataset_coco.json", json.dumps({"images": images, "dataset": "coco"}))
    source = open_captions(coco)
    assert source.kind == "karpathy"
    assert said(source.train) == {"train2017/a.jpg": ["A a."], "val2017/d.jpg": ["A d."]}
    assert said(source.validation) == {"train2017/b.jpg": ["A b."]}
    assert said(source.test) == {"train2017/c.jpg": ["A c."]}
    assert source.notes == ()
    images[2]["split"] = "trial"
    write(coco / "dataset_coco.json", json.dumps({"images": images}))
    assert "images[2].split 'trial'" in refused(coco)


def test_what_holds_no_captions_is_told(tmp_path):
    assert "there is no file or folder" in refused(tmp_path / "nowhere")
    assert "did you mean: scenes" in refused("scene")
    (tmp_path / "empty").mkdir()
    assert "it is empty" in refused(tmp_path / "empty")
    pictures(tmp_path / "classes/cats", "1")
    message = refused(tmp_path / "classes")
    assert "holds no captions" in message
    assert "captions.csv" in message
    write(tmp_path / "notes.md", "hello")
    assert "is no file of captions" in refused(tmp_path / "notes.md")


def test_two_sets_beside_each_other_must_be_named(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name / "captions.csv", "image,caption\na.jpg,A dog\n")
        pictures(tmp_path / name, "a")
    assert f"name one: {tmp_path / 'one'}" in refused(tmp_path)


def test_a_function_of_ones_own(tmp_path):
    write(
        tmp_path / "mine.py",
        "from engram.data.captions.scenes_source import scenes\n"
        "def few(): return scenes('scenes:10')\n"
        "def none(): return 7\n",
    )
    assert len(open_captions(f"{tmp_path}/mine.py:few").train) == 10
    assert "returned a int" in refused(f"{tmp_path}/mine.py:none")


def test_scenes_have_places_and_share_nothing_between_splits():
    source = open_captions("scenes:20")
    assert isinstance(source, CaptionSource)
    assert [len(split) for _, split in source.splits()] == [20, 2, 2]
    for _, split in source.splits():
        for sentences, places in zip(split.sentences, split.places, strict=True):
            assert [len(one.split()) for one in sentences] == [len(one) for one in places]
    assert source.train.examples.name(3) == "train/3"
    few = open_captions("scenes:10").train
    assert few.sentences == source.train.sentences[:10]
    assert np.array_equal(few.examples.read(9), source.train.examples.read(9))
    for word in ("scenes:x", "scenes:9", "scenes:-5", "scenes:10000000", "scenes:" + "9" * 5000):
        assert "names no scenes" in refused(word)


def test_as_many_sentences_as_pictures():
    train = open_captions("scenes:10").train
    with pytest.raises(ValueError, match="10 pictures"):
        Captioned(train.examples, train.sentences[:9])
    with pytest.raises(ValueError, match="places"):
        Captioned(train.examples, train.sentences, (((),),) * 10)


def test_names_that_the_folder_spells_otherwise_are_files_all_the_same(tmp_path):
    pictures(tmp_path / "p", "a", "b", "c")
    there, others = picture_folder.present(tmp_path, ["p//a.jpg", "./p/b.jpg", "p/\0.jpg", "q/a.jpg"])
    assert there == {"p//a.jpg", "./p/b.jpg"}
    assert "p/c.jpg" in others or "./p/c.jpg" in others
