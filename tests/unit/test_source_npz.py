"""NumPy arrays: which array is what, which axis is which, what the numbers become, and what is refused."""

import gc
import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from engram.data.open import open_source
from engram.data.sources import _npy, _stores
from engram.data.sources.npz import npz
from engram.errors import UserError

Y = np.array([0, 1, 0, 1, 2, 2])


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ENGRAM_CACHE", str(folder))
    return folder


def numbers(*shape, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, 256, shape).astype(dtype)


def save(tmp_path, name="data.npz", **arrays):
    np.savez(tmp_path / name, **arrays)
    return tmp_path / name


def both_ways(examples):
    """All inputs, read one by one, after checking that `array` gives the same."""
    single = np.stack([examples.read(i) for i in range(len(examples))])
    whole = examples.array()
    if whole is not None:
        assert np.array_equal(whole, single)
        assert whole.dtype == single.dtype
    return single


# ---------------------------------------------------------------------------------------------- which array is which


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ("x", "y"), ("X", "Y"), ("images", "labels"), ("data", "target"), ("x_train", "y_train"),
        ("X_train", "y_train"),
        ("train_images", "train_labels"), ("train_x", "train_y"), ("inputs", "targets"), ("trainData", "trainLabels"),
        ("training_images", "training_labels"), ("image", "label"), ("features", "target"),
    ],
)  # fmt: skip
def test_usual_names(tmp_path, x, y):
    images = numbers(6, 5, 4)
    source = open_source(save(tmp_path, **{x: images, y: Y}))
    assert source.kind == "npz"
    assert source.classes == ("0", "1", "2")
    assert np.array_equal(both_ways(source.train), images[:, None])
    assert source.train.labels.tolist() == Y.tolist()
    assert source.train.labels.dtype == np.int64
    assert source.train.name(4) == f"{x}[4]"


@pytest.mark.parametrize(("validation", "test"), [("val", "test"), ("valid", "test"), ("validation", "testing")])
def test_splits(tmp_path, validation, test):
    parts = {name: numbers(6, 5, 4, seed=seed) for seed, name in enumerate(("train", validation, test))}
    arrays = {f"{name}_images": value for name, value in parts.items()} | {f"{name}_labels": Y for name in parts}
    source = open_source(save(tmp_path, **arrays))
    for split, name in (("train", "train"), ("validation", validation), ("test", test)):
        assert np.array_equal(both_ways(getattr(source, split)), parts[name][:, None])


def test_two_arrays_need_no_names(tmp_path):
    np.savez(tmp_path / "a.npz", numbers(6, 5, 4), Y)
    assert open_source(tmp_path / "a.npz").train.labels.tolist() == Y.tolist()


def test_medmnist_names_and_column_labels(tmp_path):
    arrays = {}
    for name in ("train", "val", "test"):
        arrays |= {f"{name}_images": numbers(6, 28, 28, 3), f"{name}_labels": Y[:, None].astype(np.uint8)}
    source = open_source(save(tmp_path, **arrays))
    assert source.test.read(0).shape == (3, 28, 28)
    assert source.validation.labels.tolist() == Y.tolist()


def test_what_is_not_used_is_told(tmp_path):
    source = open_source(save(tmp_path, x=numbers(6, 5, 4), y=Y, coordinates=numbers(6, 2), x_test=numbers(3, 5, 4)))
    assert source.test is None
    assert set(source.notes) == {"left out x_test: it has no labels", "left out: coordinates, x_test"}


def test_two_arrays_for_one_role(tmp_path):
    with pytest.raises(UserError) as error:
        open_source(save(tmp_path, data=numbers(6, 20), images=numbers(6, 5, 4), target=Y))
    assert "data and images could both be the inputs of the train split" in error.value.given
    assert "x_train, y_train" in error.value.allowed


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": numbers(6, 5, 4)}, "which arrays are the labels cannot be told from x uint8 (6, 5, 4)"),
        ({"y": Y}, "which arrays are the inputs cannot be told from y int64 (6,)"),
        ({"a": numbers(6, 5, 4), "b": numbers(6, 5, 4)}, "which arrays are the inputs and labels"),
        ({"a": numbers(6, 5, 4), "b": Y, "c": Y}, "which arrays are the inputs and labels"),
        ({"x": numbers(6, 5, 4), "b": Y}, "which arrays are the labels"),
        ({}, "cannot be told from nothing"),
    ],
)
def test_arrays_that_cannot_be_told_apart(tmp_path, arrays, said):
    with pytest.raises(UserError) as error:
        open_source(save(tmp_path, **arrays))
    assert said in error.value.given
    assert "x_train=" in error.value.then


def test_npy_side_by_side(tmp_path):
    images = numbers(6, 5, 4)
    np.save(tmp_path / "x.npy", images)
    np.save(tmp_path / "y.npy", Y)
    for path in (tmp_path, tmp_path / "x.npy"):
        train = open_source(path).train
        assert np.array_equal(both_ways(train), images[:, None])
        assert not isinstance(train.array(), np.memmap)  # small arrays are read
    (tmp_path / "y.npy").unlink()
    with pytest.raises(UserError, match="which arrays are the labels"):
        open_source(tmp_path / "x.npy")


def test_one_npz_a_split(tmp_path):
    save(tmp_path, "my_train.npz", x=numbers(6, 5, 4), y=Y, classes=["a", "b", "c"])
    save(tmp_path, "my_test.npz", x=numbers(3, 5, 4, seed=1), y=Y[:3])
    source = open_source(tmp_path)
    assert source.classes == ("a", "b", "c")
    assert len(source.test) == 3
    assert len(open_source(tmp_path / "my_test.npz").train) == 3
    save(tmp_path, "other.npz", x=numbers(6, 5, 4), y=Y)
    with pytest.raises(UserError, match=r"holds several sets: my_test\.npz, my_train\.npz, other\.npz"):
        open_source(tmp_path)


# ------------------------------------------------------------------------------------------ which axis is which


@pytest.mark.parametrize(
    ("shape", "dtype", "layout", "axes"),
    [
        ((6, 5, 4), np.uint8, None, "NHW"),
        ((6, 5, 4, 3), np.uint8, None, "NHWC"),
        ((6, 3, 5, 4), np.uint8, None, "NCHW"),
        ((6, 5, 4, 1), np.uint8, None, "NHWC"),
        ((6, 1, 5, 4), np.uint8, None, "NCHW"),
        ((6, 3, 4, 4), np.uint8, None, "NCHW"),  # 4 is alpha only where neither is 1 or 3
        ((6, 3, 5, 3), np.uint8, "NHWC", "NHWC"),
        ((6, 3, 5, 3), np.uint8, "nchw", "NCHW"),
        ((6, 9, 8, 7), np.uint8, None, "NDHW"),
        ((6, 50), np.float32, None, "NT"),
        ((6, 2, 50), np.float32, None, "NCT"),
        ((6, 50, 2), np.float32, "NTC", "NTC"),
        ((6, 5, 4), np.float32, "NHW", "NHW"),
        ((6, 3, 5, 4), np.float32, None, "NCHW"),
        ((6, 5, 4, 2), np.float32, "NHWC", "NHWC"),
        ((6, 9, 8, 7), np.float32, "NDHW", "NDHW"),
        ((6, 2, 9, 8, 7), np.float32, None, "NCDHW"),
        ((6, 1, 9, 8, 3), np.uint8, None, "NCDHW"),
        ((6, 9, 8, 7, 3), np.float32, None, "NDHWC"),
        ((6, 50), np.uint8, None, "NT"),
        ((6, 5, 4, 2), np.uint8, "NHWC", "NHWC"),
    ],
)
def test_layouts(tmp_path, shape, dtype, layout, axes):
    stored = numbers(*shape, dtype=dtype)
    said = {} if layout is None else {"layout": layout}
    source = open_source(save(tmp_path, x=stored, y=Y, **said))
    ours = both_ways(source.train)
    expected = stored[:, None] if "C" not in axes else np.moveaxis(stored, axes.index("C"), 1)
    assert ours.shape == expected.shape
    assert np.array_equal(ours, expected.astype(ours.dtype))
    is_image = "H" in axes and "D" not in axes and dtype == np.uint8 and shape[-1] != 2  # nobody's picture
    assert ours.dtype == (np.uint8 if is_image else np.float32)


def test_channels_last_images_are_not_copied(tmp_path):
    whole = open_source(save(tmp_path, x=numbers(6, 5, 4, 3), y=Y)).train.array()
    assert whole.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((6, 3, 5, 3), np.uint8), ((6, 1, 5, 1), np.uint8), ((6, 2, 50, 50), np.uint8), ((6, 9, 8, 7), np.float32)],
)
def test_ambiguous_axes_say_how_to_name_them(tmp_path, shape, dtype):
    with pytest.raises(UserError) as error:
        open_source(save(tmp_path, x=numbers(*shape, dtype=dtype), y=Y))
    assert error.value.given == f"x has shape {shape}: which axis is the channel cannot be told"
    assert 'layout="NCHW"' in error.value.then


@pytest.mark.parametrize(("word", "said"), [("HWC", "is not known"), ("NCT", "has 3 axes but x has shape")])
def test_a_layout_that_does_not_fit(tmp_path, word, said):
    with pytest.raises(UserError, match=said):
        open_source(save(tmp_path, x=numbers(6, 3, 5, 3), y=Y, layout=word))


@pytest.mark.parametrize(
    ("shape", "said"), [((6,), "no inputs"), ((6, 0, 4), "no inputs"), ((6, 1, 1, 1, 1, 1), "6 axes")]
)
def test_shapes_that_are_no_inputs(tmp_path, shape, said):
    with pytest.raises(UserError, match=rf"x has shape \(6,.*: {said}"):
        open_source(save(tmp_path, x=np.zeros(shape, np.uint8), y=Y))


def test_splits_of_different_shape(tmp_path):
    with pytest.raises(UserError, match=r"x_train is uint8 \(6, 5, 4\) but x_test is uint8 \(6, 4, 5\)"):
        open_source(save(tmp_path, x_train=numbers(6, 5, 4), y_train=Y, x_test=numbers(6, 4, 5), y_test=Y))


# ----------------------------------------------------------------------------------------- what the numbers become


def test_floats_from_0_to_1_are_images(tmp_path):
    images = numbers(6, 5, 4, 3)
    source = open_source(save(tmp_path, x=images.astype(np.float32) / 255, y=Y))
    assert np.array_equal(both_ways(source.train), images.transpose(0, 3, 1, 2))
    assert source.notes == ("x: floats from 0 to 1, read as images of 0 to 255",)


def test_whole_floats_up_to_255_are_images(tmp_path):
    images = numbers(6, 5, 4, 3)
    source = open_source(save(tmp_path, x=images.astype(np.float64), y=Y))
    assert np.array_equal(both_ways(source.train), images.transpose(0, 3, 1, 2))


def test_one_range_for_all_splits(tmp_path):
    dark = np.zeros((6, 5, 4, 1), np.float32)
    bright = np.full((6, 5, 4, 1), 200, np.float32)
    source = open_source(save(tmp_path, x_train=dark + 1, y_train=Y, x_test=bright, y_test=Y))
    assert source.train.read(0).max() == 1  # not 255: the other split shows that 1 is nearly black
    assert source.test.read(0).max() == 200


def test_other_floats_stay_as_they_are(tmp_path):
    fields = numbers(6, 3, 5, 4, dtype=np.float32)
    source = open_source(save(tmp_path, x=fields, y=Y))
    assert np.array_equal(both_ways(source.train), fields)


def test_four_float_channels_are_no_alpha(tmp_path):
    fields = np.full((6, 4, 5, 5), 0.5, np.float32)
    assert np.array_equal(both_ways(open_source(save(tmp_path, x=fields, y=Y)).train), fields)


def test_signals_are_never_scaled(tmp_path):
    signals = np.abs(numbers(6, 1, 30, dtype=np.float64)) / 10
    ours = both_ways(open_source(save(tmp_path, x=signals, y=Y)).train)
    assert np.array_equal(ours, signals.astype(np.float32))


def test_float_images_that_look_like_signals_are_told(tmp_path):
    source = open_source(save(tmp_path, x=np.full((6, 28, 28), 0.5, np.float32), y=Y))
    assert source.notes == ('x: read as 28 channels of 28 samples; for grey images store uint8, or layout="NHW"',)


def test_volumes_without_channels_are_told(tmp_path):
    source = open_source(save(tmp_path, x=numbers(6, 9, 8, 7), y=Y))
    assert source.notes == ("x: read as volumes of 9 x 8 x 7 with one channel",)


def test_sixteen_bits_are_scaled(tmp_path):
    deep = np.zeros((6, 5, 4), np.uint16)
    deep[0, 0] = [0, 257, 12850, 65535]
    source = open_source(save(tmp_path, x=deep, y=Y))
    assert both_ways(source.train)[0, 0, 0].tolist() == [0, 1, 50, 255]
    assert source.notes == ("x: 16-bit images, scaled to 8 bits",)


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, np.int8])
def test_small_integers_are_images(tmp_path, dtype):
    images = numbers(6, 5, 4) % 100
    assert np.array_equal(both_ways(open_source(save(tmp_path, x=images.astype(dtype), y=Y)).train), images[:, None])


def test_truth_values_are_black_and_white(tmp_path):
    mask = numbers(6, 5, 4) > 100
    assert np.array_equal(both_ways(open_source(save(tmp_path, x=mask, y=Y)).train), mask[:, None] * 255)


def test_alpha_is_composited_over_white(tmp_path):
    pixels = np.zeros((6, 5, 7, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[0, 0, 0] = [10, 20, 30, 0]
    for stored in (pixels, pixels.transpose(0, 3, 1, 2)):
        image = both_ways(open_source(save(tmp_path, x=stored, y=Y)).train)
        assert image.shape == (6, 3, 5, 7)
        assert image[0, :, 0, 0].tolist() == [255, 255, 255]
        assert image[0, :, 1, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("low", "high"), [(-1, 100), (0, 256)])
def test_integers_out_of_range(tmp_path, low, high):
    images = np.zeros((6, 5, 4), np.int32)
    images[0, 0, :2] = low, high
    with pytest.raises(UserError, match=f"x holds int32 images with values from {low} to {high}"):
        open_source(save(tmp_path, x=images, y=Y))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("split", ["train", "test"])
def test_nan_and_infinity_are_named(tmp_path, monkeypatch, value, split):
    monkeypatch.setattr(_stores, "CHUNK", 1)
    arrays = {name: numbers(6, 2, 30, dtype=np.float32) for name in ("x_train", "x_test")}
    for place in ((2, 1, 7), (4, 0, 0), (5, 0, 1), (5, 1, 29)):
        arrays[f"x_{split}"][place] = value
    with pytest.raises(UserError) as error:
        open_source(save(tmp_path, **arrays, y_train=Y, y_test=Y))
    assert error.value.given == (
        f"x_{split} has 4 values that cannot be used: [2, 1, 7] is {value}, [4, 0, 0] is {value}, [5, 0, 1] is {value}"
    )
    assert "nan_to_num" in error.value.then


def test_numbers_that_float32_does_not_hold(tmp_path):
    signals = np.full((6, 1, 5), 1e39)
    with pytest.raises(UserError, match=r"x has values up to 1e\+39, more than float32 holds"):
        open_source(save(tmp_path, x=signals, y=Y))


@pytest.mark.parametrize("values", [np.zeros((6, 5), complex), np.full((6, 5), "a"), np.zeros((6, 5), "M8[s]")])
def test_values_that_are_no_numbers(tmp_path, values):
    with pytest.raises(UserError, match=r"x holds .* values"):
        open_source(save(tmp_path, x=values, y=Y))


# -------------------------------------------------------------------------------------------------- labels


def labelled(tmp_path, y, **more):
    return open_source(save(tmp_path, x=numbers(len(y), 5, 4), y=np.array(y), **more))


def test_text_labels(tmp_path):
    source = labelled(tmp_path, ["dog10", "dog2", "ant", "dog2"])
    assert source.classes == ("ant", "dog2", "dog10")
    assert source.train.labels.tolist() == [2, 1, 0, 1]
    assert labelled(tmp_path, [b"b", b"a"]).classes == ("a", "b")


def test_class_names_beside_the_numbers(tmp_path):
    source = labelled(tmp_path, [1, 0, 1], class_names=["cat", "dog", "eel"])
    assert source.classes == ("cat", "dog", "eel")
    assert source.notes == ("no training examples of eel",)


def test_classes_and_layout_that_are_no_words_are_not_used(tmp_path):
    source = labelled(tmp_path, [1, 0, 1], classes=np.array([5, 6]), layout=np.array(3))
    assert source.classes == ("0", "1")
    assert labelled(tmp_path, [1, 0, 1], classes=np.array([["a"], ["b"]])).classes == ("0", "1")


def test_one_hot_labels(tmp_path):
    assert labelled(tmp_path, np.eye(3)[[2, 0, 1]]).train.labels.tolist() == [2, 0, 1]
    with pytest.raises(UserError, match=r"y is 3 x 3, but row 1 is not one-hot"):
        labelled(tmp_path, [[1, 0, 0], [1, 1, 0], [0, 0, 1]])
    with pytest.raises(UserError, match=r"row 2 is not one-hot"):
        labelled(tmp_path, [[1, 0, 0], [0, 1, 0], [0, 0.3, 0.7]])


def test_labels_counted_from_one(tmp_path):
    source = labelled(tmp_path, [1, 2, 3, 1])
    assert (source.classes, source.train.labels.tolist()) == (("1", "2", "3"), [0, 1, 2, 0])


def test_whole_float_labels(tmp_path):
    assert labelled(tmp_path, [0.0, 1.0, 1.0]).train.labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("y", "said"),
    [
        ([0, 1, -1, 1], r"y\[2\] is -1: a label cannot be negative"),
        ([0, 1, 0.5, 1], r"y\[2\] is 0\.5, not a whole number"),
        ([0, 1, np.nan, 1], r"y\[2\] is nan, not a whole number"),
        ([0, 1, 255, 1], r"labels in y go up to 255 \(y\[2\]\), but 2, 3, 4, 5, 6 and 248 more never occur"),
        ([3, 7, 7, 3], r"labels in y go up to 7 \(y\[1\]\), but 0, 1, 2, 4, 5 and 1 more never occur"),
        ([0.0, 1e300], r"y\[1\] is 1e\+300: out of range"),
        (["a", "", "b"], r"y\[1\] has no label"),
        ([0, 0, 0, 0], r"has one class only: 0"),
        (np.zeros((4, 2, 2)), r"y has shape \(4, 2, 2\)"),
        (np.zeros(4, complex), r"y holds complex128 labels"),
    ],
)
def test_labels_that_cannot_be_used(tmp_path, y, said):
    with pytest.raises(UserError, match=said):
        labelled(tmp_path, y)


def test_labels_beyond_the_class_names(tmp_path):
    with pytest.raises(UserError, match=r"y\[2\] is 2: out of range for 2 class names") as error:
        labelled(tmp_path, [0, 1, 2], classes=["cat", "dog"])
    assert error.value.allowed == "0 (cat) to 1 (dog)"
    with pytest.raises(UserError, match=r"y\[1\] is 'dgo', a class that the class names lacks?") as error:
        labelled(tmp_path, ["cat", "dgo"], classes=["cat", "dog"])
    assert error.value.nearest == "dog"


@pytest.mark.parametrize(("y_test", "said"), [([0, 3], r"y_test\[1\] is 3, a class that y_train lacks")])
def test_classes_that_only_the_test_split_has(tmp_path, y_test, said):
    arrays = {"x_train": numbers(6, 5, 4), "y_train": Y, "x_test": numbers(2, 5, 4), "y_test": np.array(y_test)}
    with pytest.raises(UserError, match=said):
        open_source(save(tmp_path, **arrays))
    text = arrays | {"y_train": np.array(list("abcabc")), "y_test": np.array(["a", "z"])}
    with pytest.raises(UserError, match=r"y_test\[1\] is 'z', a class that y_train lacks"):
        open_source(save(tmp_path, **text))
    with pytest.raises(UserError, match="labels are of different kinds: y_train text, y_test numbers"):
        open_source(save(tmp_path, **arrays | {"y_train": np.array(list("abcabc"))}))


def test_labels_of_the_wrong_length(tmp_path):
    with pytest.raises(UserError, match="x has 5 examples but y has 6 labels"):
        open_source(save(tmp_path, x=numbers(5, 5, 4), y=Y))


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.uint8])
def test_an_empty_split_is_left_out_and_told(tmp_path, dtype):
    source = open_source(
        save(tmp_path, x_train=numbers(6, 5, 4), y_train=Y, x_test=numbers(0, 5, 4), y_test=np.zeros(0, dtype))
    )
    assert source.test is None
    assert source.notes == ("left out test: no examples",)


def test_no_examples(tmp_path):
    with pytest.raises(UserError, match="y holds no labels"):
        open_source(save(tmp_path, x=numbers(0, 5, 4), y=np.zeros(0, int)))


# ------------------------------------------------------------------------------------------------- files


class Hostile:
    def __reduce__(self):
        return print, ("this code must never run",)


@pytest.mark.parametrize("which", ["x", "y"])
def test_pickled_objects_are_never_loaded(tmp_path, which, capsys):
    arrays = {"x": numbers(6, 5, 4), "y": Y} | {which: np.array([Hostile()] * 6, dtype=object)}
    for path in (save(tmp_path, **arrays),):
        with pytest.raises(UserError, match=f"{which} holds pickled Python objects, which are never loaded"):
            open_source(path)
    np.save(tmp_path / "x.npy", arrays["x"])
    np.save(tmp_path / "y.npy", arrays["y"])
    with pytest.raises(UserError, match=f"{which}.npy holds pickled Python objects"):
        open_source(tmp_path / "x.npy")
    assert capsys.readouterr().out == ""


def test_damaged_files(tmp_path):
    path = save(tmp_path, x=numbers(6, 50, 40), y=Y)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[2000] ^= 0xFF
    for content in (b"", b"not a zip", whole[:300], bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"data\.npz"):
            open_source(path)


def test_truncated_npy(tmp_path):
    np.save(tmp_path / "x.npy", numbers(6, 50, 40))
    np.save(tmp_path / "y.npy", Y)
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"x\.npy is truncated: 12,000 bytes are announced and 11,999 are there"):
        open_source(tmp_path)
    for content in (b"", whole[:50], b"x" * 300):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(UserError, match=r"x\.npy is not a sound array"):
            open_source(tmp_path)


def test_a_member_that_announces_more_than_it_holds(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 10**9)})
    path = save(tmp_path, y=Y)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(UserError, match="x is truncated: 1,000,000,000,000,000,000 bytes are announced"):
        open_source(path)


@pytest.mark.filterwarnings("ignore:Stored array in format:UserWarning")
def test_records_and_empty_text_are_refused(tmp_path):
    for version in ("a", "中"):  # names that are not Latin need version 3 of the format
        with pytest.raises(UserError, match=r"x holds|x is not a sound array"):
            open_source(save(tmp_path, x=np.zeros((6, 3), [(version, "u1")]), y=Y))
    np.save(tmp_path / "x.npy", numbers(6, 5, 4))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<U0", "fortran_order": False, "shape": (6,)})
    (tmp_path / "y.npy").write_bytes(header.getvalue())
    with pytest.raises(UserError, match=r"y\[0\] has no label"):
        open_source(tmp_path / "x.npy")


@pytest.mark.parametrize("limit", [2**28, 1])
def test_fortran_order(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(_npy, "IN_MEMORY", limit)
    images = numbers(6, 5, 4)
    np.save(tmp_path / "x.npy", np.asfortranarray(images))
    np.save(tmp_path / "y.npy", Y)
    assert np.array_equal(both_ways(open_source(tmp_path / "x.npy").train), images[:, None])
    assert np.array_equal(
        both_ways(open_source(save(tmp_path, x=np.asfortranarray(images), y=Y)).train), images[:, None]
    )


def test_big_endian(tmp_path):
    signals = numbers(6, 2, 30, dtype=np.float32)
    ours = both_ways(open_source(save(tmp_path, x=signals.astype(">f4"), y=Y.astype(">i4"))).train)
    assert np.array_equal(ours, signals)
    assert ours.dtype.isnative


# ------------------------------------------------------------------------------------------ large arrays


@pytest.mark.parametrize("form", ["npy", "stored", "compressed"])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((6, 20, 20, 3), np.uint8), ((6, 3, 50), np.float32), ((6, 3, 50), np.float64), ((6, 9, 8), ">i2")],
)
def test_large_arrays_stay_in_their_file(tmp_path, monkeypatch, form, shape, dtype, cache):
    monkeypatch.setattr(_npy, "IN_MEMORY", 300)
    inputs = numbers(*shape, dtype=dtype)
    if form == "npy":
        np.save(tmp_path / "x.npy", inputs)
        np.save(tmp_path / "y.npy", Y)
        path = tmp_path
    else:
        path = tmp_path / "data.npz"
        (np.savez if form == "stored" else np.savez_compressed)(path, x=inputs, y=Y)
    train = npz(path).train
    ours = both_ways(train)
    expected = {4: lambda: inputs.transpose(0, 3, 1, 2), 3: lambda: inputs if dtype != ">i2" else inputs[:, None]}
    assert np.array_equal(ours, expected[inputs.ndim]().astype(ours.dtype))
    assert ours.dtype.isnative
    assert train.read(0).flags.writeable
    data = pickle.dumps(train)
    assert len(data) < 2500
    assert np.array_equal(pickle.loads(data).read(5), ours[5])
    mapped = train.array()
    assert (mapped is None) == (dtype in (np.float64, ">i2"))
    assert len(list(cache.glob("copies/*"))) == (form == "compressed")


@pytest.mark.parametrize("pread", [True, False])
def test_one_handle_a_process_closed_with_the_examples(tmp_path, monkeypatch, pread):
    if not pread:
        monkeypatch.delattr(os, "pread", raising=False)  # as on Windows
    monkeypatch.setattr(_npy, "IN_MEMORY", 300)
    signals = numbers(6, 1, 100, dtype=np.float32)
    np.save(tmp_path / "x.npy", signals)
    np.save(tmp_path / "y.npy", Y)
    opened, closed = [], []
    real_open, real_close = os.open, os.close
    monkeypatch.setattr(os, "open", lambda *given: opened.append(real_open(*given)) or opened[-1])
    monkeypatch.setattr(os, "close", lambda handle: closed.append(handle) or real_close(handle))
    train = open_source(tmp_path).train
    opened.clear()
    again = pickle.loads(pickle.dumps(train))
    for index in (5, 0, 3):
        assert np.array_equal(again.read(index), signals[index])
    assert len(opened) == 1
    del again
    gc.collect()
    assert closed == opened


def test_large_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(_npy, "IN_MEMORY", 1)
    np.save(tmp_path / "x.npy", numbers(6, 5, 4))
    np.save(tmp_path / "y.npy", np.array(list("abcabc")))
    source = open_source(tmp_path)
    assert (source.classes, source.train.labels.tolist()) == (("a", "b", "c"), [0, 1, 2, 0, 1, 2])


def test_nan_in_a_large_array(tmp_path, monkeypatch):
    monkeypatch.setattr(_npy, "IN_MEMORY", 300)
    signals = numbers(6, 1, 100, dtype=np.float32)
    signals[4, 0, 50] = np.nan
    with pytest.raises(UserError, match=r"x has 1 value that cannot be used: \[4, 0, 50\] is nan"):
        open_source(save(tmp_path, x=signals, y=Y))
