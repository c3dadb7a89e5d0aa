"""Padded random crop, centre crop and margins, against slices of NumPy arrays one picture at a time."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from engram.augment.crop import (
    center_crop,
    crop,
    crop_at,
    crop_center,
    draw_boxes,
    draw_corners,
    margins,
    resample_at,
    resized_crop,
    window_at,
)
from engram.augment.padding import FILLS, color_of, pad
from engram.errors import UserError

SHAPES = [(11,), (7, 11), (5, 6, 7)]


def pictures(*shape, seed=0, dtype=torch.uint8):
    """(B, C, *S), channels-last, every value different from its neighbours."""
    batch, channels, *lengths = shape
    values = np.random.default_rng(seed).integers(0, 256, (batch, *lengths, channels))
    return torch.from_numpy(values).to(dtype).movedim(-1, 1)


def smooth(batch, height, width, seed=0):
    """uint8 (B, 3, H, W), channels-last, changing by a few levels a pixel and differently along the two axes."""
    draws = np.random.default_rng(seed).uniform(0.5, 1.5, (3, batch, 1, 1, 3))
    y, x = np.arange(height)[:, None, None] / height, np.arange(width)[None, :, None] / width
    values = 127 + 80 * np.sin(draws[0] + 2 * draws[1] * x) + 40 * np.cos(5 * draws[2] * y)
    return torch.from_numpy(values.round().astype(np.uint8)).movedim(-1, 1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_crop_at_is_a_slice_of_each_picture(shape, channels, dtype):
    x = pictures(6, channels, *shape, dtype=dtype)
    window = tuple(length - 2 - axis for axis, length in enumerate(shape))
    corners = draw_corners(6, shape, window, torch.Generator().manual_seed(1))
    cropped = crop_at(x, corners, window)
    for picture, corner, result in zip(x.numpy(), corners.tolist(), cropped.numpy(), strict=True):
        inside = tuple(slice(start, start + length) for start, length in zip(corner, window, strict=True))
        np.testing.assert_array_equal(result, picture[:, *inside])
    assert cropped.movedim(1, -1).is_contiguous()
    assert cropped.dtype == dtype


def test_crop_at_reads_the_right_pictures_of_a_slice_and_of_planes():
    x = pictures(6, 3, 7, 8)
    corners = torch.tensor([[0, 1], [2, 0], [1, 2]])
    expected = crop_at(x[3:].clone(), corners, (5, 6))
    assert torch.equal(crop_at(x[3:], corners, (5, 6)), expected)  # rows that do not start the memory
    assert torch.equal(crop_at(x[3:].contiguous(memory_format=torch.contiguous_format), corners, (5, 6)), expected)


def test_crop_at_never_leaves_the_picture():
    x = pictures(2, 1, 4, 5)
    outside = crop_at(x, torch.tensor([[-3, 9], [9, -3]]), (2, 2))
    assert torch.equal(outside, torch.stack([x[0, :, :2, 3:], x[1, :, 2:, :2]]))
    with pytest.raises(UserError, match="does not fit"):
        crop_at(x, torch.zeros(2, 2, dtype=torch.long), (5, 5))


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("shape", SHAPES)
def test_pad_is_numpy_pad(shape, fill):
    x = pictures(3, 3, *shape)
    amounts = [(2, 1), (0, 3), (9, 0)][: len(shape)]
    mean = torch.tensor([0.1, 0.5, 0.7])
    padded = pad(x, amounts, fill, mean)
    assert padded.movedim(1, -1).is_contiguous()
    for channel, level in enumerate((26, 128, 178)):  # 0.1, 0.5, 0.7 of 255, rounded
        how = {"mean": {"mode": "constant", "constant_values": level}, "reflect": {"mode": "reflect"}}
        expected = np.pad(x[:, channel].numpy(), [(0, 0), *amounts], **how.get(fill, {"mode": "edge"}))
        np.testing.assert_array_equal(padded[:, channel].numpy(), expected)


def test_pad_of_a_single_pixel_reflects_itself():
    assert pad(torch.ones(1, 1, 1), [(2, 2)], "reflect").tolist() == [[[1.0] * 5]]


def test_pad_of_nothing_copies_nothing():
    x = pictures(2, 3, 4, 4)
    assert pad(x, [(0, 0), (0, 0)]) is x


def test_the_margin_is_zero_after_normalisation():
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2470, 0.2435, 0.2616])
    color = color_of(mean, pictures(1, 3, 2, 2))
    assert ((color / 255 - mean) / std).abs().max() < 0.5 / 255 / 0.24
    assert torch.equal(color_of(mean, pictures(1, 3, 2, 2, dtype=torch.float32)), mean)
    assert color_of(None, pictures(1, 3, 2, 2)).tolist() == [0, 0, 0]


def test_margins_centre_what_is_missing():
    assert margins((28,), (33,)) == [(2, 3)]
    assert margins((28, 40), (32, 32), 4) == [(4, 4), (4, 4)]
    assert margins((20, 40), (32, 32), 4) == [(6, 6), (4, 4)]


def test_crop_is_the_drawn_window_of_the_padded_picture():
    x = pictures(5, 3, 8, 10)
    mean = torch.tensor([0.2, 0.4, 0.6])
    result = crop(3, "mean", size=(8, 10), mean=mean)(x, torch.Generator().manual_seed(7))
    corners = draw_corners(5, (14, 16), (8, 10), torch.Generator().manual_seed(7)).tolist()
    for picture, (top, left), cropped in zip(x.numpy(), corners, result.numpy(), strict=True):
        for channel, level in enumerate((51, 102, 153)):
            padded = np.pad(picture[channel], 3, constant_values=level)
            np.testing.assert_array_equal(cropped[channel], padded[top : top + 8, left : left + 10])


def test_crop_offsets_are_uniform_over_all_places():
    """A margin of 2 on 3 x 5: 25 shifts. Chi-square with 24 degrees of freedom, bound at one in 10,000."""
    count = 10_000
    x = torch.zeros(count, 1, 3, 5, dtype=torch.uint8)
    x[:, :, 1, 2] = 255
    seen = crop(2)(x, torch.Generator().manual_seed(0))
    top, left = [], []
    for axis, found in ((2, top), (3, left)):
        found.append(seen.amax(dim=5 - axis).squeeze(1).argmax(1))
    inside = seen.amax((1, 2, 3)) > 0
    # The bright pixel leaves the picture on shifts of 2 rows; count those that stay, then all corners as drawn.
    assert abs(int(inside.sum()) - count * 15 / 25) < 5 * (count * 0.6 * 0.4) ** 0.5
    corners = draw_corners(count, (7, 9), (3, 5), torch.Generator().manual_seed(0))
    cells = torch.bincount(corners[:, 0] * 5 + corners[:, 1], minlength=25)
    assert len(cells) == 25
    assert stats.chisquare(cells.numpy()).pvalue > 1e-4
    shift = (1 + 2 - corners[:, 0], 2 + 2 - corners[:, 1])  # where the bright pixel must stand
    assert torch.equal(top[0][inside], shift[0][inside])
    assert torch.equal(left[0][inside], shift[1][inside])


def test_without_a_margin_a_larger_picture_is_cut_and_an_equal_one_stays():
    x = pictures(4, 3, 9, 9)
    assert torch.equal(crop(0)(x, torch.Generator()), x)
    assert crop(0, size=(6, 7))(x, torch.Generator()).shape == (4, 3, 6, 7)
    assert crop(4, size=(20, 9))(x, torch.Generator()).shape == (4, 3, 20, 9)


@pytest.mark.parametrize("shape", SHAPES)
def test_center_crop(shape):
    x = pictures(2, 3, *shape)
    window = tuple(length - 3 for length in shape)
    inside = tuple(slice(1, 1 + length) for length in window)
    assert torch.equal(crop_center(x, window), x[:, :, *inside])
    larger = crop_center(x, tuple(length + 3 for length in shape), torch.tensor([0.2, 0.2, 0.2]))
    expected = np.pad(x.numpy(), [(0, 0), (0, 0), *[(1, 2)] * len(shape)], constant_values=51)
    np.testing.assert_array_equal(larger.numpy(), expected)


def test_window_at():
    x = pictures(2, 1, 6, 7)
    assert torch.equal(window_at(x, (1, 3), (2, 4)), x[:, :, 1:3, 3:7])


# Random resized crop


def test_boxes_have_uniform_area_and_log_uniform_aspect():
    """Szegedy et al. 2015: area evenly between 8 and 100 %, aspect in [3/4, 4/3]. Kolmogorov-Smirnov at 1 in 1,000."""
    height, width = 60, 50
    top, left, tall, wide = draw_boxes(4000, (height, width), 0.08, 1, 4 / 3, torch.Generator().manual_seed(3)).T
    area, aspect = (tall * wide).numpy() / (height * width), (wide / tall).log().numpy()
    limit = np.log(4 / 3)
    assert (aspect > -limit - 1e-5).all()
    assert (aspect < limit + 1e-5).all()
    assert stats.kstest(area, stats.uniform(0.08, 0.92).cdf).pvalue > 1e-3
    free = area * height * width * 4 / 3 < min(height, width) ** 2  # every aspect fits
    assert free.sum() > 1000
    assert stats.kstest(aspect[free], stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-3
    for start, length, full in ((top, tall, height), (left, wide, width)):
        assert (start >= 0).all()
        assert (start + length <= full + 1e-3).all()
        loose = (full - length) > 1
        place = (start[loose] / (full - length[loose])).numpy()
        assert stats.kstest(place, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(top.numpy(), left.numpy() * 1.0)[0, 1]) < 0.5  # the two places are drawn apart
    assert abs(np.corrcoef((top / (height - tall + 1e-3)).numpy(), (left / (width - wide + 1e-3)).numpy())[0, 1]) < 0.06


def test_boxes_of_long_pictures_stay_inside_and_within_the_aspect():
    _, _, tall, wide = draw_boxes(500, (10, 100), 0.08, 1, 4 / 3, torch.Generator().manual_seed(3)).T
    assert (tall <= 10).all()
    assert ((wide / tall) <= 4 / 3 + 1e-5).all()
    assert abs((tall * wide).max() - 10 * 10 * 4 / 3) < 1


def test_the_whole_picture_is_a_box_too():
    boxes = draw_boxes(5, (7, 9), 1, 1, 9 / 7, torch.Generator().manual_seed(3))
    torch.testing.assert_close(boxes, torch.tensor([[0.0, 0.0, 7.0, 9.0]]).expand(5, 4), atol=1e-4, rtol=0)
    x = pictures(5, 3, 7, 9)
    assert torch.equal(resample_at(x, boxes, (7, 9)), x)
    floats = pictures(5, 3, 7, 9, dtype=torch.float32)
    torch.testing.assert_close(resample_at(floats, boxes, (7, 9)), floats, atol=1e-2, rtol=0)


@pytest.mark.parametrize("size", [(12, 20), (40, 30), (24, 16)])
def test_resampling_is_pillows_of_the_box(size):
    x = smooth(4, 32, 40)
    boxes = torch.tensor([[0, 0, 32, 40], [3, 10, 20, 25], [8, 1, 24, 12], [0, 20, 15, 20]])
    resized = resample_at(x, boxes.float(), size)
    at_once = resample_at(x.float(), boxes.float(), size)  # as on other devices, and for floats
    assert resized.movedim(1, -1).is_contiguous()
    assert at_once.movedim(1, -1).is_contiguous()
    for index, (top, left, tall, wide) in enumerate(boxes.tolist()):
        picture = Image.fromarray(x[index].movedim(0, -1).numpy())
        part = picture.crop((left, top, left + wide, top + tall)).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        expected = torch.from_numpy(np.array(part)).movedim(-1, 0)
        assert (resized[index].int() - expected.int()).abs().max() <= 1
        assert (at_once[index] - expected).abs().max() <= 4  # reads half a pixel beyond the box, and no wide filter
        assert (at_once[index] - expected).abs().mean() <= 0.7


def test_a_much_larger_picture_does_not_alias():
    """Stripes of one pixel shrunk to a third are grey, as in Pillow; reading single places gives black or white."""
    stripes = torch.zeros(1, 1, 36, 36)
    stripes[..., ::2] = 200
    boxes = torch.tensor([[0.0, 0.0, 36.0, 36.0]])
    assert (resample_at(stripes, boxes, (12, 12)) - 100).abs().max() < 40
    assert (resample_at(stripes.to(torch.uint8), boxes, (12, 12)).int() - 100).abs().max() < 40


def test_resized_crop_shows_the_drawn_boxes():
    x = smooth(6, 30, 24)
    shown = resized_crop(0.3, 0.6, 1.2, size=(16, 20))(x, torch.Generator().manual_seed(5))
    boxes = draw_boxes(6, (30, 24), 0.3, 0.6, 1.2, torch.Generator().manual_seed(5))
    assert torch.equal(shown, resample_at(x, boxes, (16, 20)))
    share = boxes[:, 2] * boxes[:, 3] / (30 * 24)
    assert (share >= 0.3 - 1e-4).all()
    assert (share <= 0.6 + 1e-4).all()


def test_without_a_size_it_stays_the_pictures_own():
    x = pictures(2, 3, 6, 9)
    assert resized_crop()(x, torch.Generator()).shape == x.shape
    assert torch.equal(center_crop()(x, torch.Generator()), x)


def test_a_box_smaller_than_a_pixel_shows_that_pixel():
    x = pictures(2, 3, 5, 5)
    shown = resample_at(x, torch.tensor([[4.9, 4.9, 0.1, 0.1], [1.1, 2.1, 0.2, 0.2]]), (2, 2))
    assert torch.equal(shown, torch.stack([x[0, :, 4:, 4:], x[1, :, 1:2, 2:3]]).expand(2, 3, 2, 2))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: crop(-1), "crop: padding cannot be -1"),
        (lambda: crop(1.5), "crop: padding cannot be 1.5"),
        (lambda: crop(5, size=(9, 5)), "crop: padding cannot be 5"),
        (lambda: crop(4, "black"), "crop: fill cannot be 'black'"),
        (lambda: resized_crop(0), "resized_crop: smallest cannot be 0"),
        (lambda: resized_crop(1.5), "resized_crop: smallest cannot be 1.5"),
        (lambda: resized_crop(0.5, 0.4), "resized_crop: largest cannot be 0.4"),
        (lambda: resized_crop(0.5, 1.1), "resized_crop: largest cannot be 1.1"),
        (lambda: resized_crop(aspect=0.5), "resized_crop: aspect cannot be 0.5"),
    ],
)
def test_settings_out_of_range(build, message):
    with pytest.raises(UserError) as told:
        build()
    assert message in str(told.value)
    assert told.value.allowed
