"""Cutout and mixup: against loops over pictures, and as distributions."""

import numpy as np
import pytest
import torch
from scipy import stats

from engram.augment.cutout import cutout, cutout_at, draw_centers
from engram.augment.mixup import draw_weights, mixup, mixup_with
from engram.errors import UserError


def inputs(batch, channels, *shape, seed=0, dtype=torch.float32):
    values = np.random.default_rng(seed).normal(size=(batch, *shape, channels))
    return torch.from_numpy(values).to(dtype).movedim(-1, 1)


@pytest.mark.parametrize("side", [1, 4, 5, 30])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(12,), (9, 12), (5, 7, 6)])
def test_cutout_is_a_clipped_square_of_zeros(shape, channels, side):
    x = inputs(8, channels, *shape)
    before = x.clone()
    centers = draw_centers(8, shape, torch.Generator().manual_seed(1))
    cut = cutout_at(x, centers, side)
    for picture, center, result in zip(x.numpy(), centers.tolist(), cut.numpy(), strict=True):
        expected = picture.copy()
        square = [
            slice(max(0, place - side // 2), min(length, place - side // 2 + side))
            for place, length in zip(center, shape, strict=True)
        ]
        expected[:, *square] = 0
        np.testing.assert_array_equal(result, expected)
    assert cut.movedim(1, -1).is_contiguous()
    assert torch.equal(x, before)


def test_cutout_at_the_corner_keeps_what_the_paper_keeps():
    """DeVries and Taylor: rows max(0, y - 2) to y + 2 for a side of 4, so a corner loses 2 x 2."""
    cut = cutout_at(torch.ones(1, 1, 6, 6), torch.tensor([[0, 5]]), 4)
    assert (cut[0, 0] == 0).nonzero().tolist() == [[0, 3], [0, 4], [0, 5], [1, 3], [1, 4], [1, 5]]


def test_cutout_centres_are_uniform_over_all_pixels():
    centers = draw_centers(10_000, (4, 6), torch.Generator().manual_seed(0))
    cells = torch.bincount(centers[:, 0] * 6 + centers[:, 1], minlength=24)
    assert len(cells) == 24
    assert stats.chisquare(cells.numpy()).pvalue > 1e-4
    x = inputs(6, 3, 8, 8)
    centers = draw_centers(6, (8, 8), torch.Generator().manual_seed(2))
    assert torch.equal(cutout(4)(x, torch.Generator().manual_seed(2)), cutout_at(x, centers, 4))


@pytest.mark.parametrize("strength", [0.05, 0.2, 1.0, 3.0])
def test_mixup_weights_are_beta(strength):
    """Moments within 4.5 standard errors, and Kolmogorov-Smirnov at one in 1,000, of 10,000 draws."""
    weights = draw_weights(10_000, strength, torch.Generator().manual_seed(0)).double().numpy()
    beta = stats.beta(strength, strength)
    _, variance, _, kurtosis = beta.stats("mvsk")
    assert ((weights >= 0) & (weights <= 1)).all()
    assert abs(weights.mean() - 0.5) < 4.5 * (variance / 10_000) ** 0.5
    assert abs(weights.var() - variance) < 4.5 * variance * ((kurtosis + 2) / 10_000) ** 0.5
    if strength >= 0.2:  # below, float32 holds most draws as exactly 0 or 1
        assert stats.kstest(weights, beta.cdf).pvalue > 1e-3


@pytest.mark.parametrize("strength", [1e-3, 1e3])
def test_extreme_strengths_stay_finite(strength):
    weights = draw_weights(2000, strength, torch.Generator().manual_seed(0))
    assert weights.isfinite().all()
    near = (weights - 0.5).abs()
    assert (near > 0.49).float().mean() > 0.97 if strength < 1 else near.max() < 0.1


@pytest.mark.parametrize("shape", [(12,), (5, 6), (3, 4, 5)])
def test_mixup_blends_each_with_its_partner(shape):
    x = inputs(7, 2, *shape)
    mixed, partner, weight = mixup(0.5)(x, torch.Generator().manual_seed(3))
    assert sorted(partner.tolist()) == list(range(7))
    assert partner.tolist() != list(range(7))
    assert partner.dtype == torch.int64
    assert weight.dtype == torch.float32
    assert len(weight.unique()) == 7
    for index in range(7):
        own, other = x[index].numpy(), x[partner[index]].numpy()
        expected = weight[index].item() * own + (1 - weight[index].item()) * other
        np.testing.assert_allclose(mixed[index].numpy(), expected, atol=1e-6)
    assert mixed.movedim(1, -1).is_contiguous()


def test_mixup_in_bfloat16_shares_labels_as_it_shares_pictures():
    x = torch.zeros(64, 1, 2, dtype=torch.bfloat16)
    x[:32] = 1
    mixed, partner, weight = mixup(1)(x, torch.Generator().manual_seed(3))
    assert mixed.dtype == torch.bfloat16
    apart = (torch.arange(64) < 32) & (partner >= 32)
    assert apart.sum() > 5
    assert torch.equal(mixed[apart, 0, 0].float(), weight[apart])  # 1 mixed with 0 shows the weight itself


def test_whole_weights_change_nothing():
    x = inputs(3, 1, 4, 4)
    assert torch.equal(mixup_with(x, torch.tensor([2, 0, 1]), torch.ones(3)), x)
    assert torch.equal(mixup_with(x, torch.tensor([2, 0, 1]), torch.zeros(3)), x[[2, 0, 1]])


def test_partners_are_uniform():
    """Over 3,000 batches of three, every permutation comes as often: chi-square, 5 degrees of freedom."""
    rng = torch.Generator().manual_seed(0)
    x = torch.zeros(3, 1, 1)
    seen = [mixup()(x, rng)[1].tolist() for _ in range(3000)]
    counts = [seen.count(list(order)) for order in ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0])]
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: cutout(0), "cutout: side cannot be 0"),
        (lambda: cutout(2.5), "cutout: side cannot be 2.5"),
        (lambda: mixup(0), "mixup: strength cannot be 0"),
        (lambda: mixup("a"), "mixup: strength cannot be 'a'"),
    ],
)
def test_settings_out_of_range(build, message):
    with pytest.raises(UserError, match=message):
        build()
