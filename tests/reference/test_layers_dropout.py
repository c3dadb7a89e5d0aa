"""Dropout's two numbers and two conventions, against torch and as distributions; Gaussian noise in its place."""

import pytest
import torch
import torch.nn.functional as F

from engram.errors import UserError
from engram.layers.dropout import GaussianDropout, drop_of, dropout
from engram.layers.noise import GaussianNoise

MANY = 200_000


@pytest.mark.parametrize("given", [{"drop": 0.3}, {"keep": 0.7}])
def test_inverted_is_torch_s_for_the_share_that_is_dropped(given: dict[str, float]) -> None:
    x = torch.randn(500)
    torch.manual_seed(0)
    ours = dropout(x, **given)
    torch.manual_seed(0)
    torch.testing.assert_close(ours, F.dropout(x, 0.3))
    assert torch.equal(dropout(x, **given, training=False), x)


@pytest.mark.parametrize("scaling", ["inverted", "vanilla"])
def test_both_conventions_keep_the_mean_of_judging(scaling: str) -> None:
    torch.manual_seed(0)
    x = torch.full((MANY,), 2.0)
    y = dropout(x, keep=0.8, scaling=scaling)
    judged = dropout(x, keep=0.8, scaling=scaling, training=False)
    assert set(y.tolist()) == ({0.0, 2.5} if scaling == "inverted" else {0.0, 2.0})
    assert judged.unique().tolist() == pytest.approx([2.0 if scaling == "inverted" else 1.6])
    assert abs((y == 0).float().mean() - 0.2) < 5 * (0.16 / MANY) ** 0.5
    assert y.mean().item() == pytest.approx(judged.mean().item(), rel=0.01)


def test_masks_are_drawn_for_every_value() -> None:
    torch.manual_seed(0)
    y = dropout(torch.ones(1000, 100), drop=0.5, scaling="vanilla")
    both = (y[:, 1:] * y[:, :-1]).mean()
    assert abs(both - 0.25) < 5 * (0.1875 / 99_000) ** 0.5


def test_gaussian_dropout_has_dropouts_mean_and_variance() -> None:
    torch.manual_seed(0)
    x = torch.full((MANY,), 3.0)
    y = GaussianDropout(0.2)(x)
    expected = dropout(x, drop=0.2)
    assert y.mean() == pytest.approx(3.0, rel=0.01)
    assert y.std() == pytest.approx(expected.std().item(), rel=0.01)
    assert y.std() == pytest.approx(3 * (0.2 / 0.8) ** 0.5, rel=0.01)
    assert ((y / 3 - 1).pow(4).mean() / 0.25**2) == pytest.approx(3, rel=0.05)
    assert GaussianDropout(0.2).eval()(x) is x
    assert GaussianDropout(0.0)(x) is x


def test_noise_is_added_or_in_proportion() -> None:
    torch.manual_seed(0)
    x = torch.full((MANY,), -4.0)
    added, scaled = GaussianNoise(0.5)(x) + 4, GaussianNoise(0.5, proportional=True)(x) + 4
    assert (added.std(), scaled.std()) == (pytest.approx(0.5, rel=0.01), pytest.approx(2.0, rel=0.01))
    assert abs(added.mean()) < 5 * 0.5 / MANY**0.5
    assert abs(scaled.mean()) < 5 * 2 / MANY**0.5
    assert GaussianNoise(0.5).eval()(x) is x
    assert GaussianNoise(0.0)(x) is x
    assert not GaussianNoise(1.0, proportional=True)(torch.zeros(9)).any()
    with pytest.raises(UserError, match="deviation cannot be -1"):
        GaussianNoise(-1)


def test_refuses() -> None:
    assert (drop_of(drop=0), drop_of(keep=1)) == (0, 0)
    for given in ({}, {"drop": 0.5, "keep": 0.5}):
        with pytest.raises(UserError, match="one of them"):
            drop_of(**given)
    for given in ({"drop": 1}, {"drop": -0.1}, {"keep": 0}, {"keep": 1.1}):
        with pytest.raises(UserError, match="cannot be"):
            drop_of(**given)
    with pytest.raises(UserError, match="'upside' is not known"):
        dropout(torch.ones(1), drop=0.5, scaling="upside")
    with pytest.raises(UserError, match="drop cannot be 1"):
        GaussianDropout(1.0)
