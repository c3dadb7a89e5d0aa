"""Flip and rotation, against NumPy's and SciPy's own, one picture at a time."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats

from engram.augment.flip import draw_flips, flip, flip_where
from engram.augment.rotation import draw_angles, rotate_by, rotation
from engram.errors import UserError


def pictures(*shape, seed=0, dtype=torch.uint8):
    batch, channels, *lengths = shape
    values = np.random.default_rng(seed).integers(0, 256, (batch, *lengths, channels))
    return torch.from_numpy(values).to(dtype).movedim(-1, 1)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(7,), (4, 5), (3, 4, 5)])
def test_flip_reverses_the_last_axis_of_the_chosen(shape, channels, dtype):
    x = pictures(6, channels, *shape, dtype=dtype)
    chosen = torch.tensor([True, False, False, True, True, False])
    flipped = flip_where(x, chosen)
    for picture, yes, result in zip(x.numpy(), chosen, flipped.numpy(), strict=True):
        np.testing.assert_array_equal(result, picture[..., ::-1] if yes else picture)
    assert flipped.movedim(1, -1).is_contiguous()
    assert flipped.dtype == dtype


@pytest.mark.parametrize("probability", [0.5, 0.2])
def test_flip_probability(probability):
    """4,000 pictures: within 4.5 deviations of the expected number."""
    x = torch.tensor([[[0.0, 1.0]]]).expand(4000, 1, 2)
    flipped = flip(probability)(x, torch.Generator().manual_seed(0))[:, 0, 0].sum().item()
    assert abs(flipped - 4000 * probability) < 4.5 * (4000 * probability * (1 - probability)) ** 0.5


def test_flip_never_and_always():
    x = pictures(8, 3, 4, 5)
    assert torch.equal(flip(0)(x, torch.Generator()), x)
    assert torch.equal(flip(1)(x, torch.Generator()), x.flip(-1))
    assert torch.equal(flip()(x, torch.Generator().manual_seed(2)),
                       flip_where(x, draw_flips(8, 0.5, torch.Generator().manual_seed(2))))  # fmt: skip


def test_rotation_by_right_angles_is_exact():
    x = pictures(5, 3, 6, 6)
    turned = rotate_by(x, torch.tensor([0.0, 90.0, 180.0, -90.0, 360.0]))
    for picture, quarters, result in zip(x.numpy(), (0, 1, 2, 3, 0), turned.numpy(), strict=True):
        np.testing.assert_array_equal(result, np.rot90(picture, quarters, axes=(1, 2)))


@pytest.mark.parametrize("shape", [(9, 9), (8, 13), (3, 8, 13)])
@pytest.mark.parametrize("fill", ["mean", "edge"])
def test_rotation_is_bilinear_about_the_centre(shape, fill):
    """SciPy turns one plane at a time with order-1 splines; grid-constant mixes the border with the colour outside."""
    x = pictures(4, 2, *shape, dtype=torch.float32)
    angles = torch.tensor([10.0, -33.0, 71.0, 180.0])
    mean = torch.tensor([100.0, 30.0])
    turned = rotate_by(x, angles, fill, mean)
    assert turned.movedim(1, -1).is_contiguous()
    center = (np.array(shape[-2:]) - 1) / 2
    for index, degrees in enumerate(angles.tolist()):
        angle = np.deg2rad(degrees)
        matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # (row, column)
        outside = {"mode": "grid-constant"} if fill == "mean" else {"mode": "nearest"}
        for channel in range(2):
            planes = x[index, channel].reshape(-1, *shape[-2:]).numpy()
            results = turned[index, channel].reshape(-1, *shape[-2:]).numpy()
            for plane, result in zip(planes, results, strict=True):
                expected = ndimage.affine_transform(
                    plane, matrix, center - matrix @ center, order=1, cval=mean[channel].item(), **outside
                )
                np.testing.assert_allclose(result, expected, atol=2e-2)


def test_rotation_turns_as_pillow_does():
    y, x = np.mgrid[:24, :24]
    picture = np.stack([10 * x, 5 * y, 3 * x + 4 * y], axis=-1).astype(np.uint8)
    batch = torch.from_numpy(picture)[None].movedim(-1, 1)
    turned = rotate_by(batch, torch.tensor([25.0]))[0].movedim(0, -1).numpy().astype(int)
    expected = np.asarray(Image.fromarray(picture).rotate(25, Image.Resampling.BILINEAR)).astype(int)
    inside = np.hypot(x - 11.5, y - 11.5) < 10
    assert np.abs(turned - expected)[inside].max() <= 1


def test_corners_show_the_mean_colour_or_the_mirrored_picture():
    x = torch.full((1, 3, 9, 9), 200, dtype=torch.uint8)
    turned = rotate_by(x, torch.tensor([45.0]), mean=torch.tensor([0.2, 0.4, 0.6]))
    assert turned[0, :, 0, 0].tolist() == [51, 102, 153]
    assert turned[0, :, 4, 4].tolist() == [200, 200, 200]
    assert torch.equal(rotate_by(x, torch.tensor([45.0]), "reflect"), x)


def test_angles_are_uniform_and_the_drawn_ones_are_used():
    angles = draw_angles(3000, 20, torch.Generator().manual_seed(0))
    assert stats.kstest(angles.numpy(), stats.uniform(-20, 40).cdf).pvalue > 1e-3
    x = pictures(4, 3, 8, 8)
    turned = rotation(20, "edge")(x, torch.Generator().manual_seed(4))
    assert torch.equal(turned, rotate_by(x, draw_angles(4, 20, torch.Generator().manual_seed(4)), "edge"))
    assert torch.equal(rotation(0)(x, torch.Generator()), x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: flip(1.5), "flip: probability cannot be 1.5"),
        (lambda: rotation(-1), "rotation: degrees cannot be -1"),
        (lambda: rotation(181), "rotation: degrees cannot be 181"),
        (lambda: rotation(5, "white"), "rotation: fill cannot be 'white'"),
    ],
)
def test_settings_out_of_range(build, message):
    with pytest.raises(UserError, match=message):
        build()
