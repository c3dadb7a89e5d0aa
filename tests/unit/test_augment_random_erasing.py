"""Random erasing: boxes against loops over pictures, their sizes and places as distributions."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from engram.augment.random_erasing import draw_erased, draw_noise, erase_at, random_erasing
from engram.errors import UserError


def inputs(batch, channels, *shape, seed=0, dtype=torch.float32):
    values = np.random.default_rng(seed).normal(size=(batch, *shape, channels))
    return torch.from_numpy(values).to(dtype).movedim(-1, 1)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("shape", [(12,), (9, 12), (5, 7, 6)])
def test_a_box_is_overwritten_and_nothing_else(shape, noisy, dtype):
    x = inputs(8, 3, *shape, dtype=dtype)
    before = x.clone()
    starts, lengths = draw_erased(8, shape, 0.8, 0.05, 0.4, 2.0, rng(1))
    noise = draw_noise(x, rng(2)) if noisy else None
    erased = erase_at(x, starts, lengths, noise)
    assert erased.dtype == dtype
    for index in range(8):
        expected = x[index].clone()
        box = [
            slice(start, start + length)
            for start, length in zip(starts[index].tolist(), lengths[index].tolist(), strict=True)
        ]
        expected[:, *box] = noise[index][:, *box] if noise is not None else 0
        assert torch.equal(erased[index], expected)
    assert erased.movedim(1, -1).is_contiguous()
    assert torch.equal(x, before)


def test_areas_aspects_and_places_are_distributed_as_said():
    """3,000 large pictures; the mean of uniform shares within 4.5 standard errors, whole pixels blur the rest."""
    starts, lengths = draw_erased(3000, (400, 400), 1.0, 0.02, 0.4, 10 / 3, rng(0))
    tall, wide = lengths.double().unbind(1)
    share = tall * wide / 400**2
    assert stats.kstest(share.numpy(), stats.uniform(0.02, 0.38).cdf).pvalue > 1e-3
    small = share < 0.25  # larger boxes cannot have every aspect
    aspect = (wide / tall).log()[small].numpy()
    limit = math.log(10 / 3)
    assert stats.kstest(aspect, stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-3
    for axis in (0, 1):
        room = 400 - lengths[:, axis]
        assert (starts[:, axis] >= 0).all()
        assert (starts[:, axis] <= room).all()
        place = (starts[:, axis] / room)[room > 100].numpy()
        assert stats.kstest(place, stats.uniform(0, 1).cdf).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(500,), (60, 70, 80)])
def test_signals_lose_a_stretch_and_volumes_a_box_of_their_proportions(shape):
    starts, lengths = draw_erased(3000, shape, 1.0, 0.1, 0.3, 3.0, rng(0))
    share = lengths.double().prod(1) / math.prod(shape)
    assert abs(share.mean() - 0.2) < 4.5 * 0.2 / math.sqrt(12) / math.sqrt(3000) + 1e-3
    parts = lengths / torch.tensor(shape)
    assert (parts - parts[:, :1]).abs().max() < 1 / 60 + 1e-6  # a pixel
    assert (starts >= 0).all()
    assert (starts + lengths <= torch.tensor(shape)).all()


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_probability(probability):
    x = torch.zeros(4000, 1, 4, 4)
    erased = (random_erasing(probability)(x, rng(0)).flatten(1) != 0).any(1).sum().item()
    assert abs(erased - 4000 * probability) <= 4.5 * math.sqrt(4000 * probability * (1 - probability))


def test_noise_is_normal_and_every_value_has_its_own():
    x = torch.zeros(20, 3, 16, 16)
    values = random_erasing(1, 0.9, 1, 1.0)(x, rng(0))
    values = values[values != 0]
    assert stats.kstest(values.numpy(), stats.norm.cdf).pvalue > 1e-3
    assert len(values.unique()) > 0.99 * len(values)
    assert not random_erasing(1, 0.9, 1, 1.0, "mean")(x + 1, rng(0)).ne(0).all(dim=1).flatten(1).all(1).any()


def test_the_drawn_boxes_are_used():
    x = inputs(6, 3, 8, 8)
    shared = rng(2)
    starts, lengths = draw_erased(6, (8, 8), 0.5, 0.02, 0.4, 10 / 3, shared)
    assert torch.equal(random_erasing()(x, rng(2)), erase_at(x, starts, lengths, draw_noise(x, shared)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((1.5,), "probability cannot be 1.5"),
        ((0.5, 0), "smallest cannot be 0"),
        ((0.5, 0.3, 0.2), "largest cannot be 0.2"),
        ((0.5, 0.1, 0.2, 0.5), "aspect cannot be 0.5"),
        ((0.5, 0.1, 0.2, 2, "white"), "fill cannot be 'white'"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(UserError, match=f"random_erasing: {message}"):
        random_erasing(*settings)
