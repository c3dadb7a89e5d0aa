"""Test-time averaging: which views there are, in which order, and what they show."""

import numpy as np
import pytest
import torch
from PIL import Image

from engram import augment
from engram.augment.normalize import normalize
from engram.errors import UserError

MEAN, STD = torch.tensor([0.49, 0.48, 0.44]), torch.tensor([0.24, 0.25, 0.26])


def pictures(batch=2, height=12, width=10):
    values = np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
    return torch.from_numpy(values).movedim(-1, 1)


def build(words, size=(8, 7)):
    return augment.views(words, size=size, mean=MEAN, std=STD)


def check(views, expected):
    assert len(views) == len(expected)
    for view, stored in zip(views, expected, strict=True):
        assert view.movedim(1, -1).is_contiguous()
        torch.testing.assert_close(view, normalize(stored, MEAN, STD))


def test_no_word_is_the_middle():
    x = pictures()
    check(build(())(x), [x[:, :, 2:10, 1:8]])
    assert build("none").count == 1


def test_flip_and_ten_crops():
    x = pictures()
    middle = x[:, :, 2:10, 1:8]
    check(build("flip")(x), [middle, middle.flip(-1)])
    five = [x[:, :, :8, :7], x[:, :, :8, 3:], x[:, :, 4:, :7], x[:, :, 4:, 3:], middle]
    check(build("crops:5")(x), five)
    ten = [version for crop in five for version in (crop, crop.flip(-1))]
    check(build("crops:10")(x), ten)
    check(build("crops:5,flip")(x), ten)
    check(build("crops:10,flip")(x), ten)


def test_crops_of_a_picture_with_a_margin():
    x = pictures(height=8, width=7)
    corner = build("crops:5:2")(x)[0]
    torch.testing.assert_close(corner[:, :, 2:, 2:], normalize(x[:, :, :6, :5], MEAN, STD))
    assert corner[:, :, :2].abs().max() < 0.01
    check(build("crops:5:2")(x)[4:], [x])


def test_scales_resize_first():
    x = pictures(1, 20, 16)
    smaller, same, larger = build("scales:0.25:1:1.5", size=(8, 8))(x)
    picture = Image.fromarray(x[0].movedim(0, -1).numpy())

    def resized(height, width):
        return torch.from_numpy(np.array(picture.resize((width, height), Image.Resampling.BILINEAR))).movedim(-1, 0)[
            None
        ]

    level = 1.01 / 255 / 0.24
    assert (same - normalize(x[:, :, 6:14, 4:12], MEAN, STD)).abs().max() < 1e-6
    assert (larger - normalize(resized(30, 24)[:, :, 11:19, 8:16], MEAN, STD)).abs().max() < level
    assert (smaller[:, :, 1:6, 2:6] - normalize(resized(5, 4), MEAN, STD)).abs().max() < level
    assert smaller[:, :, 0].abs().max() < 0.01


def test_words_multiply():
    assert build("crops").count == 5
    assert build("crops:1").count == 1
    views = build("scales:1:1.2,crops:5,flip")
    assert views.count == 20
    assert len(views(pictures())) == 20


def test_dtype_and_other_dimensions():
    assert build("flip")(pictures(), torch.bfloat16)[1].dtype == torch.bfloat16
    signal = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0))
    views = augment.views("flip", size=(16,), mean=torch.zeros(3), std=torch.ones(3))(signal)
    torch.testing.assert_close(views[0], signal[:, :, 2:18])
    torch.testing.assert_close(views[1], signal[:, :, 2:18].flip(-1))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("flop", "view 'flop' is not known"),
        ("crops:7", "crops: count cannot be 7"),
        ("crops:5:-1", "crops: padding cannot be -1"),
        ("crops:5:1:1", "more settings"),
        ("flip:0.5", "more settings"),
        ("scales", "names no scales"),
        ("scales:0", "scales: a scale cannot be 0"),
        ("scales:1:10.5", "scales: a scale cannot be 10.5"),
        ("flip,flip", "'flip' is given twice"),
    ],
)
def test_refusals(words, message):
    with pytest.raises(UserError) as told:
        augment.check_views(words)
    assert message in str(told.value)


def test_the_nearest_view_is_named():
    with pytest.raises(UserError) as told:
        augment.check_views("crop:5")
    assert told.value.nearest == "crops"


def test_crops_need_room_and_pictures():
    x = pictures(height=8, width=7)
    with pytest.raises(UserError, match="all the same"):
        build("crops:5")(x)
    build("crops:5").check_stored((9, 7))
    build("crops:5:1").check_stored((8, 7))
    with pytest.raises(UserError, match="no meaning for 1-D data"):
        augment.views("crops:5", size=(16,), mean=torch.zeros(3), std=torch.ones(3))
