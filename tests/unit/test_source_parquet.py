"""Parquet in the Hugging Face image layout, written here in every shape it comes in."""

import gc
import io
import json
import pickle
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet as writer

from engram.data.examples import Unreadable
from engram.data.open import open_source
from engram.data.sources import parquet as module
from engram.data.sources.parquet import parquet
from engram.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ENGRAM_CACHE", str(folder))
    return folder


def png(shade):
    file = io.BytesIO()
    Image.new("L", (3, 2), shade).save(file, "PNG")
    return file.getvalue()


def features(image="image", label="label", names=("cat", "dog")):
    columns = {image: {"_type": "Image"}, label: {"_type": "ClassLabel", "names": list(names)}}
    return {"huggingface": json.dumps({"info": {"features": columns}})}


def table(shades, labels, *, image="image", label="label", metadata=None, label_type=None):
    rows = [
        None if one is None else {"bytes": png(one) if isinstance(one, int) else one, "path": "../../etc/passwd"}
        for one in shades
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    made = pa.table({image: pa.array(rows, kind), label: pa.array(labels, label_type)})
    return made.replace_schema_metadata(metadata)


def put(path, *arguments, group=2, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.write_table(table(*arguments, **options), path, row_group_size=group)
    return path


def shades(examples):
    return [int(examples.read(i)[0, 0, 0]) for i in range(len(examples))]


def test_one_file_with_class_names(tmp_path, cache):
    put(tmp_path / "train-00000-of-00001.parquet", [1, 2, 3, 4, 5], [0, 1, 1, 0, 1], metadata=features())
    source = open_source(tmp_path / "train-00000-of-00001.parquet")
    assert source.kind == "parquet"
    assert source.classes == ("cat", "dog")
    assert shades(source.train) == [1, 2, 3, 4, 5]
    assert source.train.labels.tolist() == [0, 1, 1, 0, 1]
    assert source.train.labels.dtype == np.int64
    assert source.train.name(3) == "train-00000-of-00001.parquet[3]"
    assert source.train.read(0).shape == (1, 2, 3)
    assert list(cache.iterdir()) == []  # small sets are not copied


@pytest.mark.parametrize("below", ["", "data", "plain_text"])
def test_shards_and_splits(tmp_path, below):
    home = tmp_path / below
    for number, (values, labels) in enumerate([([1, 2, 3], [0, 1, 0]), ([], []), ([4], [1])]):
        put(home / f"train-0000{number}-of-00003.parquet", values, labels, label_type=pa.int64(), metadata=features())
    put(home / "validation-00000-of-00001.parquet", [5], [0], metadata=features())
    put(home / "test-00000-of-00001.parquet", [6, 7], [1, 1], metadata=features())
    (tmp_path / "README.md").write_text("about")
    source = open_source(tmp_path)
    assert shades(source.train) == [1, 2, 3, 4]
    assert source.train.name(3).endswith("train-00002-of-00003.parquet[0]")
    assert (shades(source.validation), source.validation.labels.tolist()) == ([5], [0])
    assert (shades(source.test), source.test.labels.tolist()) == ([6, 7], [1, 1])


def test_batches_that_cut_across_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS", 3)
    values = list(range(1, 24))
    put(tmp_path / "a.parquet", values, [0, 1] * 11 + [1], group=5)
    assert shades(open_source(tmp_path).train) == values
    assert open_source(tmp_path).train.labels.tolist() == [0, 1] * 11 + [1]


def test_data_goes_before_other_folders(tmp_path):
    put(tmp_path / "data" / "train.parquet", [1, 2], [0, 1])
    put(tmp_path / "other" / "train.parquet", [3, 4], [0, 1])
    assert open_source(tmp_path).train.name(0) == "data/train.parquet[0]"


def test_a_single_file_is_what_was_asked_for(tmp_path):
    put(tmp_path / "test-00000-of-00001.parquet", [1, 2], [0, 1])
    assert shades(open_source(tmp_path / "test-00000-of-00001.parquet").train) == [1, 2]


def test_one_folder_a_split(tmp_path):
    put(tmp_path / "train" / "0000.parquet", [1, 2], [0, 1])
    put(tmp_path / "test" / "0000.parquet", [3], [1])
    source = open_source(tmp_path)
    assert shades(source.train) == [1, 2]
    assert source.test.name(0) == "test/0000.parquet[0]"


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_shard_is_named(tmp_path, split):
    put(tmp_path / "train-00000-of-00001.parquet", [1, 2], [0, 1])
    (tmp_path / "train-00000-of-00001.parquet").rename(tmp_path / "train-x.parquet")
    put(tmp_path / f"{split}-00000-of-00003.parquet", [1, 2], [0, 1])
    put(tmp_path / f"{split}-00002-of-00003.parquet", [1, 2], [0, 1])
    with pytest.raises(UserError, match=f"{split} has 2 of 3 shards; missing: 00001"):
        open_source(tmp_path)


def test_files_that_name_no_split_are_all_train_or_left_out(tmp_path):
    put(tmp_path / "part1.parquet", [1], [0])
    put(tmp_path / "part2.parquet", [2], [1])
    assert shades(open_source(tmp_path).train) == [1, 2]
    put(tmp_path / "train.parquet", [3, 4], [0, 1])
    source = open_source(tmp_path)
    assert shades(source.train) == [3, 4]
    assert source.notes == ("left out, as they name no split: part1.parquet, part2.parquet",)


def test_no_training_split(tmp_path):
    put(tmp_path / "test-0.parquet", [1, 2], [0, 1])
    put(tmp_path / "validation-0.parquet", [1, 2], [0, 1])
    with pytest.raises(UserError, match=r"no training split: test-0\.parquet, validation-0\.parquet"):
        parquet(tmp_path)


def test_columns_by_other_names(tmp_path):
    put(tmp_path / "a.parquet", [1, 2], [0, 1], image="img", label="fine_label")
    assert shades(open_source(tmp_path).train) == [1, 2]
    put(
        tmp_path / "a.parquet",
        [1, 2],
        [0, 1],
        image="anything",
        label="species",
        metadata=features("anything", "species"),
    )
    source = open_source(tmp_path)
    assert source.classes == ("cat", "dog")
    put(tmp_path / "a.parquet", [1, 2], [0, 1], image="the_only_struct")
    assert shades(open_source(tmp_path).train) == [1, 2]


def test_plain_binary_column(tmp_path):
    for kind in (pa.binary(), pa.large_binary()):
        made = pa.table({"image": pa.array([png(1), png(2)], kind), "label": pa.array(["x", "y"])})
        writer.write_table(made, tmp_path / "a.parquet")
        source = open_source(tmp_path)
        assert (shades(source.train), source.classes) == ([1, 2], ("x", "y"))


def test_class_names_from_the_values(tmp_path):
    put(tmp_path / "a.parquet", [1, 2, 3], ["dog", "ant", "dog"])
    source = open_source(tmp_path)
    assert (source.classes, source.train.labels.tolist()) == (("ant", "dog"), [1, 0, 1])
    put(tmp_path / "a.parquet", [1, 2, 3], [1, 0, 1])
    assert open_source(tmp_path).classes == ("0", "1")


def test_damaged_metadata_is_ignored(tmp_path):
    for metadata in ({"huggingface": "{"}, {"huggingface": "[1]"}, {"huggingface": '{"info": {"features": 3}}'}):
        put(tmp_path / "a.parquet", [1, 2], [0, 1], metadata=metadata)
        assert open_source(tmp_path).classes == ("0", "1")


def test_no_image_column_lists_the_columns(tmp_path):
    writer.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / "a.parquet")
    with pytest.raises(
        UserError, match=r"a\.parquet has no image column; its columns: text \(string\), label \(int64\)"
    ):
        open_source(tmp_path)


@pytest.mark.parametrize("image", [{"path": "a.png"}, {"bytes": "text", "path": "a.png"}, "text", 3])
def test_columns_that_hold_no_images(tmp_path, image):
    writer.write_table(pa.table({"image": [image], "label": [0]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet has no image column"):
        open_source(tmp_path)


def test_two_image_columns(tmp_path):
    made = table([1, 2], [0, 1]).append_column("img", pa.array([png(1), png(2)]))
    writer.write_table(made, tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet has more than one image column"):
        open_source(tmp_path)


def test_labels_that_are_lists(tmp_path):
    writer.write_table(pa.table({"image": [png(1), png(2)], "label": [[0], [1]]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: column 'label' holds \w+ values"):
        open_source(tmp_path)


def test_no_label_column(tmp_path):
    made = table([1, 2], [0, 1]).rename_columns(["image", "caption"])
    writer.write_table(made, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="has no label column"):
        open_source(tmp_path)


@pytest.mark.parametrize(("bad", "said"), [(2, "out of range for 2 class names"), (-3, "cannot be negative")])
def test_labels_out_of_range_name_the_row(tmp_path, bad, said):
    put(tmp_path / "train-0.parquet", [1, 2, 3, 4, 5], [0, 1, 0, bad, 1], metadata=features())
    with pytest.raises(UserError, match=rf"train-0\.parquet\[3\] is {bad}: .*{said}"):
        open_source(tmp_path)


def test_a_row_of_a_later_shard_is_named(tmp_path):
    put(tmp_path / "train-00000-of-00002.parquet", [1, 2, 3], [0, 1, 0], metadata=features())
    put(tmp_path / "train-00001-of-00002.parquet", [1, 2, 3], [0, 7, 0], metadata=features())
    with pytest.raises(UserError, match=r"train-00001-of-00002\.parquet\[1\] is 7"):
        open_source(tmp_path)


def test_missing_labels_name_the_row(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS", 2)
    put(tmp_path / "a.parquet", [1, 2, 3], [0, 1, None], group=1)
    with pytest.raises(UserError, match=r"a\.parquet\[2\] has no label \(label is null\)"):
        open_source(tmp_path)


def test_missing_images_name_the_row(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS", 2)
    put(tmp_path / "a.parquet", [1, 2, None, 4], [0, 1, 0, 1], group=3)
    with pytest.raises(UserError, match=r"a\.parquet\[2\] has no image"):
        open_source(tmp_path)


def test_paths_are_never_followed(tmp_path):
    image = tmp_path / "real.png"
    image.write_bytes(png(9))
    rows = [{"bytes": png(1), "path": "x"}, {"bytes": None, "path": str(image)}]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    writer.write_table(pa.table({"image": pa.array(rows, kind), "label": [0, 1]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet\[1\] has no image: its bytes are null"):
        open_source(tmp_path / "a.parquet")


def test_damaged_images_are_refused_by_row_when_read(tmp_path):
    put(tmp_path / "a.parquet", [1, b"", b"no image", png(3)[:30]], [0, 1, 0, 1])
    train = open_source(tmp_path).train
    said = []
    for index in range(4):
        try:
            train.read(index)
        except Unreadable as error:
            said.append(str(error))
    assert said[0] == "a.parquet[1]: the file is empty (0 bytes)"
    assert said[1] == "a.parquet[2]: not an image: it is text"
    assert said[2].startswith("a.parquet[3]: ")
    assert len(said) == 3


def test_withheld_test_labels_leave_the_split_out(tmp_path):
    put(tmp_path / "train-0.parquet", [1, 2], [0, 1], metadata=features())
    put(tmp_path / "test-0.parquet", [1, 2], [-1, -1], metadata=features())
    source = open_source(tmp_path)
    assert source.test is None
    assert source.notes == ("left out test: its labels are withheld (-1)",)


def test_damaged_files(tmp_path):
    path = put(tmp_path / "a.parquet", list(range(50)), [0, 1] * 25)
    whole = path.read_bytes()
    for content in (b"", b"PAR1", whole[: len(whole) // 2], b"x" * 500):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.parquet cannot be read as Parquet"):
            open_source(path)


def test_shards_must_have_the_same_columns(tmp_path):
    put(tmp_path / "train-00000-of-00002.parquet", [1, 2], [0, 1])
    put(tmp_path / "train-00001-of-00002.parquet", [1, 2], [0, 1], label="other")
    with pytest.raises(UserError, match="lacks the column 'label'"):
        open_source(tmp_path)


def test_one_class_only(tmp_path):
    put(tmp_path / "a.parquet", [1, 2], [0, 0], metadata=features())
    with pytest.raises(UserError, match="one class only: cat"):
        open_source(tmp_path)


def large(tmp_path, monkeypatch, count=300):
    """A set that is copied to the cache, of images that cannot be compressed away."""
    monkeypatch.setattr(module, "IN_MEMORY", 1000)
    images = []
    for number in range(count):
        file = io.BytesIO()
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 20), dtype=np.uint8)).save(file, "PNG")
        images.append(file.getvalue())
    half = count // 2
    put(tmp_path / "train-00000-of-00002.parquet", images[:half], [0, 1] * (half // 2), group=64)
    put(tmp_path / "train-00001-of-00002.parquet", images[half:], [0, 1] * (half // 2), group=64)
    return tmp_path


def expected(number):
    return np.random.default_rng(number).integers(0, 256, (20, 20), dtype=np.uint8)[None]


def test_large_sets_are_copied_once_and_read_piece_by_piece(tmp_path, monkeypatch, cache):
    large(tmp_path, monkeypatch)
    told = []
    source = open_source(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == sum(file.stat().st_size for file in cache.rglob("images"))
    assert all(done <= total for done, total in told)
    for number in (299, 0, 150, 149, 7):
        assert np.array_equal(source.train.read(number), expected(number))
    assert len(list(cache.glob("copies/*"))) == 1
    monkeypatch.setattr(module._Table, "_copy", None)  # a second copy would fail
    assert np.array_equal(open_source(tmp_path).train.read(42), expected(42))


def test_a_worker_gets_no_pixels(tmp_path, monkeypatch):
    source = open_source(large(tmp_path, monkeypatch))
    source.train.read(0)
    data = pickle.dumps(source.train)
    assert len(data) < 300 * 16 + 2000  # offsets and labels
    assert np.array_equal(pickle.loads(data).read(299), expected(299))


def test_memory_does_not_grow_with_the_set(tmp_path, monkeypatch):
    peaks = []
    for count in (40, 200, 1400):  # the first warms caches and imports up
        root = large(tmp_path / str(count), monkeypatch, count)
        gc.collect()
        tracemalloc.start()
        train = open_source(root).train
        for index in range(0, count, 10):
            train.read(index)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 1200 * 100  # an offset, a label and what sorting them takes; an image has 500 bytes


def test_a_changed_file_is_copied_anew_and_the_old_copy_goes(tmp_path, monkeypatch, cache):
    monkeypatch.setattr(module, "IN_MEMORY", 1)
    put(tmp_path / "a.parquet", [1, 2], [0, 1])
    assert shades(open_source(tmp_path).train) == [1, 2]
    put(tmp_path / "a.parquet", [8, 9, 10], [0, 1, 0])
    assert shades(open_source(tmp_path).train) == [8, 9, 10]
    assert len(list((cache / "copies").iterdir())) == 1


def test_an_interrupted_copy_leaves_nothing(tmp_path, monkeypatch, cache):
    monkeypatch.setattr(module, "IN_MEMORY", 1)
    put(tmp_path / "a.parquet", [1, 2, None], [0, 1, 0])
    with pytest.raises(UserError, match="has no image"):
        open_source(tmp_path)
    assert list((cache / "copies").iterdir()) == []


def test_no_room_for_the_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "IN_MEMORY", 1)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    put(tmp_path / "a.parquet", [1, 2], [0, 1])
    with pytest.raises(UserError, match=r"cannot be copied to the cache .*it has 10 bytes left") as error:
        open_source(tmp_path)
    assert "ENGRAM_CACHE" in error.value.then


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "IN_MEMORY", 1)
    (tmp_path / "file").touch()
    monkeypatch.setenv("ENGRAM_CACHE", str(tmp_path / "file"))
    put(tmp_path / "set" / "a.parquet", [1, 2], [0, 1])
    with pytest.raises(UserError, match="cannot be copied to the cache"):
        open_source(tmp_path / "set")


def test_a_copy_that_is_cut_short_in_use_is_refused_by_row(tmp_path, monkeypatch, cache):
    monkeypatch.setattr(module, "IN_MEMORY", 1)
    put(tmp_path / "a.parquet", [1, 2, 3], [0, 1, 0])
    train = open_source(tmp_path).train
    [copy] = cache.rglob("images")
    copy.write_bytes(copy.read_bytes()[:-5])
    assert train.read(0).shape == (1, 2, 3)
    with pytest.raises(Unreadable, match=r"a\.parquet\[2\]: .*cut short"):
        train.read(2)
    copy.unlink()
    with pytest.raises(Unreadable, match=r"a\.parquet\[0\]: .*No such file"):
        pickle.loads(pickle.dumps(train)).read(0)
