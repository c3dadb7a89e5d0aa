"""Test-time averaging: which views there are, in which order, and what they show."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

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
    check(build("ten_crop")(x), ten)
    check(build("ten_crop,flip")(x), ten)
    assert build("ten_crop").count == 10


def test_ten_crop_of_a_picture_with_a_margin():
    x = pictures(height=8, width=7)
    for view, other in zip(build("ten_crop:2")(x), build("crops:10:2")(x), strict=True):
        assert torch.equal(view, other)


def test_a_grid_spreads_windows_from_corner_to_corner():
    x = pictures(height=12, width=13)  # room for 4 and 6 pixels
    views = [x[:, :, top : top + 8, left : left + 7] for top in (0, 2, 4) for left in (0, 3, 6)]
    check(build("grid:3")(x), views)
    assert build("grid,flip").count == 50
    assert build("scales:1:1.1:1.2,grid:5,flip").count == 150  # VGG's
    check(build("grid:2")(x), build_corners(x))
    with_margin = build("grid:3:1")(pictures(height=8, width=7))
    assert len(with_margin) == 9
    check(with_margin[4:5], [pictures(height=8, width=7)])


def build_corners(x):
    return [x[:, :, :8, :7], x[:, :, :8, -7:], x[:, :, -8:, :7], x[:, :, -8:, -7:]]


def test_dense_shows_whole_pictures_at_the_sizes_of_the_paper():
    x = torch.zeros(1, 3, 256, 256, dtype=torch.uint8)
    dense = augment.views("dense", size=(224, 224), mean=MEAN, std=STD)
    assert [view.shape[2] for view in dense(x)] == [224, 256, 384, 480, 640]
    assert dense.count == 5
    assert build("dense:1:1.5,flip").count == 4


def test_dense_resizes_as_pillow_does_and_keeps_proportions():
    x = pictures(1, 20, 16)
    views = build("dense:1:2,flip", size=(8, 8))(x)
    picture = Image.fromarray(x[0].movedim(0, -1).numpy())
    for view, (height, width) in zip(views[::2], [(10, 8), (20, 16)], strict=True):
        resized = np.array(picture.resize((width, height), Image.Resampling.BILINEAR))
        expected = normalize(torch.from_numpy(resized).movedim(-1, 0)[None], MEAN, STD)
        assert view.shape == expected.shape
        assert (view - expected).abs().max() < 1.01 / 255 / 0.24
    for view, mirrored in zip(views[::2], views[1::2], strict=True):
        assert torch.equal(view.flip(-1), mirrored)


def test_a_mean_over_positions_is_the_fully_convolutional_average():
    """He et al. 2016: the head at every position and the mean of its scores, against the network as it stands."""
    torch.manual_seed(0)
    features, head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
    for view in build("dense:1:1.7")(pictures()):
        maps = features(view)
        everywhere = torch.einsum("bchw,kc->bkhw", maps, head.weight) + head.bias[:, None, None]
        torch.testing.assert_close(everywhere.mean((2, 3)), head(maps.mean((2, 3))), atol=1e-5, rtol=0)


def test_dense_is_refused_for_networks_of_one_size_and_leaves_the_others_alone():
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 7, 2))
    free = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    free[0].eval()
    before = {name: value.clone() for name, value in free.state_dict().items()}
    build("dense").check_network(free, (3, 12, 10))
    assert all(torch.equal(value, before[name]) for name, value in free.state_dict().items())
    assert [module.training for module in free] == [False, True, True, True, True]
    build("grid:3").check_network(fixed, (3, 12, 10))
    with pytest.raises(UserError, match="takes 8x7 only"):
        build("dense").check_network(fixed, (3, 12, 10))
    assert fixed.training


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
        ("ten_crop:-1", "ten_crop: padding cannot be -1"),
        ("ten_crop:1:2", "more settings"),
        ("grid:1", "grid: across cannot be 1"),
        ("grid:2.5", "grid: across cannot be 2.5"),
        ("grid:2:-1", "grid: padding cannot be -1"),
        ("dense:0", "dense: a scale cannot be 0"),
        ("dense:side=2", "'dense:side=2' names no scales"),
        ("dense,scales:1:2", "dense has scales of its own"),
        ("crops:5,ten_crop", "'crops' and 'ten_crop' each say what is seen"),
        ("flip,dense,grid", "'dense' and 'grid' each say what is seen"),
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
    with pytest.raises(UserError, match="grid:3 of pictures stored as 8x7 are all the same"):
        build("grid:3")(x)
    build("crops:5").check_stored((9, 7))
    build("crops:5:1").check_stored((8, 7))
    for words in ("crops:5", "ten_crop", "grid:3", "dense", "scales:1:2"):
        with pytest.raises(UserError, match="no meaning for 1-D data"):
            augment.views(words, size=(16,), mean=torch.zeros(3), std=torch.ones(3))
