"""Brightness, contrast, saturation and PCA noise, against Pillow's ImageEnhance and NumPy."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy import stats

from engram.augment.color import (
    brightness,
    brightness_by,
    color,
    contrast,
    contrast_by,
    draw_factors,
    saturation,
    saturation_by,
)
from engram.augment.pca_noise import draw_shifts, imagenet_palette, palette_of, pca_noise, shift_color
from engram.errors import UserError

FACTORS = [0.0, 0.4, 1.0, 1.3, 2.0]


def pictures(batch, channels, height=6, width=7, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (batch, height, width, channels), dtype=np.uint8)
    return values, torch.from_numpy(values).float().div(255).movedim(-1, 1)


@pytest.mark.parametrize(
    ("ours", "pillows", "channels"),
    [
        (brightness_by, ImageEnhance.Brightness, 1),
        (brightness_by, ImageEnhance.Brightness, 3),
        (contrast_by, ImageEnhance.Contrast, 1),
        (contrast_by, ImageEnhance.Contrast, 3),
        (saturation_by, ImageEnhance.Color, 3),
    ],
)
def test_formulas_are_pillows(ours, pillows, channels):
    values, x = pictures(len(FACTORS), channels)
    changed = ours(x, torch.tensor(FACTORS))
    assert changed.movedim(1, -1).is_contiguous()
    for index, factor in enumerate(FACTORS):
        picture = Image.fromarray(values[index] if channels == 3 else values[index, ..., 0])
        expected = np.asarray(pillows(picture).enhance(factor)).reshape(6, 7, channels)
        found = changed[index].movedim(0, -1).numpy() * 255
        # Pillow cuts off to whole levels, and rounds the greys it blends with: each up to a level, times 1 - factor.
        assert np.abs(found - expected).max() < 1 + abs(1 - factor)


def test_formulas_exactly():
    values, x = pictures(3, 3)
    factors = np.array([0.7, 1.2, 1.6])[:, None, None, None]
    picture = values / 255
    grey = (picture @ [0.299, 0.587, 0.114])[..., None]
    mean = grey.mean((1, 2), keepdims=True)
    given = torch.from_numpy(factors.reshape(-1)).float()
    for changed, poorer in ((brightness_by, 0 * grey), (contrast_by, mean), (saturation_by, grey)):
        expected = (factors * picture + (1 - factors) * poorer).clip(0, 1)
        np.testing.assert_allclose(changed(x, given).movedim(1, -1).numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("change", [brightness_by, contrast_by, saturation_by])
def test_one_changes_nothing_and_the_given_pictures_are_left_alone(change):
    _, x = pictures(4, 3)
    before = x.clone()
    torch.testing.assert_close(change(x, torch.ones(4)), x, atol=1e-6, rtol=0)
    change(x, torch.full((4,), 0.3))
    assert torch.equal(x, before)


def test_factors_are_uniform():
    factors = draw_factors(3000, 0.3, torch.Generator().manual_seed(0))
    assert stats.kstest(factors.numpy(), stats.uniform(0.7, 0.6).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("word", "change"), [(brightness, brightness_by), (contrast, contrast_by), (saturation, saturation_by)]
)
def test_words_use_the_drawn_factors(word, change):
    _, x = pictures(5, 3)
    factors = draw_factors(5, 0.4, torch.Generator().manual_seed(9))
    assert torch.equal(word(0.4)(x, torch.Generator().manual_seed(9)), change(x, factors))


def test_color_is_the_three_in_order_with_factors_of_their_own():
    _, x = pictures(5, 3)
    rng = torch.Generator().manual_seed(9)
    first, second, third = (draw_factors(5, 0.4, rng) for _ in range(3))
    assert not torch.equal(first, second)
    expected = saturation_by(contrast_by(brightness_by(x, first), second), third)
    assert torch.equal(color(0.4)(x, torch.Generator().manual_seed(9)), expected)


def test_color_of_grey_pictures_is_brightness_and_contrast():
    _, x = pictures(5, 1)
    rng = torch.Generator().manual_seed(9)
    first, second = (draw_factors(5, 0.4, rng) for _ in range(2))
    assert torch.equal(color(0.4)(x, torch.Generator().manual_seed(9)), contrast_by(brightness_by(x, first), second))
    with pytest.raises(UserError, match="saturation"):
        saturation_by(x, torch.ones(5))


def test_pca_noise_has_the_covariance_of_the_paper():
    """P diag(deviation^2 l^2) P^T from 40,000 draws; an entry's sampling error is under 1.5 % of the largest."""
    vectors = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(5)))[0]
    values = torch.tensor([0.9, 0.4, 0.1])
    shifts = draw_shifts(40_000, 0.2, (values, vectors), torch.Generator().manual_seed(0))
    basis = vectors.numpy()
    expected = basis @ np.diag(0.2**2 * values.numpy() ** 2) @ basis.T
    found = np.cov(shifts.numpy().T)
    assert np.abs(found - expected).max() < 0.03 * expected.max()
    assert shifts.mean(0).abs().max() < 0.005
    assert stats.kstest((shifts[:4000] @ vectors / (0.2 * values))[:, 0].numpy(), "norm").pvalue > 1e-3


def test_pca_noise_adds_one_colour_to_a_whole_picture():
    _, x = pictures(4, 3)
    palette = (torch.tensor([0.5, 0.2, 0.1]), torch.eye(3))
    shifts = draw_shifts(4, 0.1, palette, torch.Generator().manual_seed(3))
    noisy = pca_noise(0.1, palette=palette)(x, torch.Generator().manual_seed(3))
    np.testing.assert_allclose(noisy.numpy(), x.numpy() + shifts.numpy()[:, :, None, None], atol=1e-6)
    assert torch.equal(noisy, shift_color(x, shifts))
    assert noisy.movedim(1, -1).is_contiguous()
    assert torch.equal(pca_noise(0)(x, torch.Generator()), x)


def test_without_a_palette_it_is_imagenets():
    _, x = pictures(4, 3)
    values, vectors = imagenet_palette()
    assert values.tolist() == pytest.approx([0.2175, 0.0188, 0.0045])
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(3), atol=2e-3, rtol=0)
    assert (vectors[:, 0] < -0.56).all()  # lighter and darker comes first
    given = pca_noise(0.1, palette=(values, vectors))(x, torch.Generator().manual_seed(3))
    assert torch.equal(pca_noise()(x, torch.Generator().manual_seed(3)), given)


def test_palette_is_the_eigenvectors_of_the_pixels():
    levels = np.random.default_rng(0).normal(0, 20, (8, 5, 6, 3)) @ [[2, 1, 0.5], [0, 1, 0.2], [0, 0, 0.3]] + 128
    stored = torch.from_numpy(levels.clip(0, 255).astype(np.uint8)).movedim(-1, 1)
    values, vectors = palette_of(stored)
    expected = np.cov(stored.movedim(1, -1).reshape(-1, 3).numpy().T / 255)
    np.testing.assert_allclose((vectors * values @ vectors.T).numpy(), expected, atol=1e-5)
    assert values[0] > values[1] > values[2] > 0
    torch.testing.assert_close(palette_of(stored.float() / 255)[0], values)
    with pytest.raises(UserError, match="1 channels"):
        palette_of(stored[:, :1])


@pytest.mark.parametrize("word", [brightness, contrast, saturation, color])
def test_settings_out_of_range(word):
    with pytest.raises(UserError, match=f"{word.__name__}: strength cannot be 1.5"):
        word(1.5)
    with pytest.raises(UserError, match="pca_noise: deviation cannot be -1"):
        pca_noise(-1)
