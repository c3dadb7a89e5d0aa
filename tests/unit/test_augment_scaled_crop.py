"""Scaled crops: sizes, places, and what is seen."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from engram.augment.crop import resample_at
from engram.augment.scaled_crop import draw_windows, scaled_crop
from engram.errors import UserError


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_window_is_the_networks_size_of_the_resized_picture():
    """ResNet: shorter side 256 to 480, window 224, from pictures of 300 x 400."""
    boxes = draw_windows(3000, (300, 400), (224, 224), 256 / 224, 480 / 224, rng()).double()
    top, left, tall, wide = boxes.unbind(1)
    torch.testing.assert_close(tall, wide)  # proportions stay
    shorter_side = 300 * 224 / tall  # of the picture when the window is 224
    assert stats.kstest(shorter_side.numpy(), stats.uniform(256, 224).cdf).pvalue > 1e-3
    for start, length, side in ((top, tall, 300), (left, wide, 400)):
        assert (start >= 0).all()
        assert (start + length <= side + 1e-3).all()
        assert stats.kstest((start / (side - length)).numpy(), stats.uniform(0, 1).cdf).pvalue > 1e-3


def test_pictures_and_windows_of_other_proportions_are_covered():
    boxes = draw_windows(100, (60, 90), (20, 40), 1.0, 1.0, rng())
    torch.testing.assert_close(boxes[:, 2:], torch.tensor([45.0, 90.0]).expand(100, 2))


def test_twice_the_size_shows_a_quarter_as_pillow_does():
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 24, 24, 3), dtype=np.uint8)).movedim(-1, 1)
    seen = scaled_crop(2, 2, size=(24, 24))(x, rng(5))
    boxes = draw_windows(4, (24, 24), (24, 24), 2, 2, rng(5))
    assert torch.equal(seen, resample_at(x, boxes, (24, 24)))
    for picture, box, result in zip(x, boxes, seen, strict=True):
        edges = torch.cat([box[:2], box[:2] + box[2:]]).round().int().tolist()
        part = Image.fromarray(picture.movedim(0, -1).numpy()).crop((edges[1], edges[0], edges[3], edges[2]))
        expected = np.asarray(part.resize((24, 24), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(result.movedim(0, -1).numpy().astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("settings", "message"), [((0.9, 2), "smallest cannot be 0.9"), ((2, 1.5), "largest cannot")])
def test_settings_out_of_range(settings, message):
    with pytest.raises(UserError, match=message):
        scaled_crop(*settings)
