"""Whitening: against NumPy's closed forms, as a thing that can be undone, and of the training split alone."""

import numpy as np
import pytest
import torch
from torch import nn

from engram.augment.normalize import normalize
from engram.data.open import open_source
from engram.data.prepare import prepare
from engram.data.whitening import Whitening, normalize_contrast
from engram.errors import UserError
from engram.recipe import Data

SHAPES = [(2, 9), (3, 4, 5), (1, 2, 3, 4)]
TURNING = ["pca", "zca"]


def examples(number, shape, seed=0, offset=0.0):
    """Correlated values with quite different spreads."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    mixing = rng.normal(size=(size, size)) * np.geomspace(1, 0.05, size)
    return torch.from_numpy(rng.normal(size=(number, size)) @ mixing.T + offset).view(number, *shape)


def rows_of(x, over):
    return (x.movedim(1, -1).reshape(-1, x.shape[1]) if over == "channels" else x.flatten(1)).numpy()


def fitted(x, method="zca", **settings):
    return Whitening(x.shape[1:], method, **settings).double().fit(x.split(37))


@pytest.mark.parametrize("over", ["picture", "channels"])
@pytest.mark.parametrize("shape", SHAPES)
def test_mean_and_standard_are_numpys(shape, over):
    x = examples(200, shape)
    rows = rows_of(x, over)
    for method, expected in (("mean", rows - rows.mean(0)), ("standard", (rows - rows.mean(0)) / rows.std(0))):
        result = fitted(x, method, over=over, eps=0)(x)
        assert result.shape == x.shape
        np.testing.assert_allclose(rows_of(result, over), expected, atol=1e-10)


def test_standard_adds_eps_to_the_variance_and_spares_what_never_varies():
    x = examples(100, (1, 4))
    x[:, 0, 2] = 7.0
    rows = x.flatten(1).numpy()
    result = fitted(x, "standard", eps=0.3)(x).flatten(1).numpy()
    np.testing.assert_allclose(result, (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 0.3), atol=1e-10)
    assert np.abs(fitted(x, "standard", eps=0)(x).flatten(1).numpy()[:, 2]).max() < 1e-10


def test_standard_over_channels_is_the_normalisation_of_every_run():
    x = torch.randint(0, 256, (40, 3, 6, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whitening = Whitening((3, 6, 7), "standard", over="channels", eps=0).fit([x])
    unit = x.double() / 255
    mean, std = unit.mean((0, 2, 3)), unit.std((0, 2, 3), correction=0)
    torch.testing.assert_close(whitening(x), normalize(x, mean, std).contiguous(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("over", ["picture", "channels"])
@pytest.mark.parametrize("shape", SHAPES)
def test_pca_and_zca_are_the_closed_form(shape, over, eps):
    x = examples(300, shape)
    rows = rows_of(x, over)
    centred = rows - rows.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(rows))
    values, vectors = values[::-1], vectors[:, ::-1]
    turned = centred @ vectors / np.sqrt(values + eps)
    pca, zca = fitted(x, "pca", over=over, eps=eps)(x), fitted(x, "zca", over=over, eps=eps)(x)
    assert pca.shape == (x.shape if over == "channels" else (300, rows.shape[1]))
    assert zca.shape == x.shape
    np.testing.assert_allclose(np.abs(rows_of(pca, over)), np.abs(turned), atol=1e-8)  # signs are free
    np.testing.assert_allclose(rows_of(zca, over), turned @ vectors.T, atol=1e-8)


@pytest.mark.parametrize("over", ["picture", "channels"])
@pytest.mark.parametrize("method", TURNING)
def test_the_covariance_becomes_the_identity(method, over):
    x = examples(500, (3, 2, 3), offset=5.0)
    rows = rows_of(fitted(x, method, over=over, eps=0)(x), over)
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(rows.T @ rows / len(rows), np.eye(rows.shape[1]), atol=1e-9)


def test_zca_is_the_nearest_of_all_whitenings():
    """Any other turn of white data is further from the centred original, PCA among them."""
    x = examples(400, (1, 3, 3))
    centred = x - x.mean(0)
    zca = fitted(x, "zca", eps=0)(x)
    pca = fitted(x, "pca", eps=0)(x).view_as(x)
    distance = (zca - centred).square().sum()
    assert distance < (pca - centred).square().sum()
    above = torch.triu(torch.ones(9, 9, dtype=torch.float64), 1)
    turned = (zca.flatten(1) @ torch.matrix_exp(0.01 * (above - above.T))).view_as(x)  # by a small rotation
    assert distance < (turned - centred).square().sum()


def test_components_come_in_order_of_their_variance_with_fixed_signs():
    x = examples(300, (1, 8))
    whitening = fitted(x, "pca", eps=0)
    assert (whitening.deviation.diff() <= 0).all()
    largest = whitening.vectors.gather(0, whitening.vectors.abs().argmax(0, keepdim=True))
    assert (largest > 0).all()
    again = fitted(x.flip(0), "pca", eps=0)
    torch.testing.assert_close(again(x), whitening(x), atol=1e-8, rtol=0)


@pytest.mark.parametrize("over", ["picture", "channels"])
@pytest.mark.parametrize("method", ["mean", "standard", "pca", "zca"])
@pytest.mark.parametrize("shape", SHAPES)
def test_undone_it_gives_the_examples_back(shape, method, over):
    x = examples(200, shape, offset=3.0)
    whitening = fitted(x, method, over=over)
    other = examples(20, shape, seed=9)  # examples it was not fitted to
    torch.testing.assert_close(whitening.inverse(whitening(other)), other, atol=1e-9, rtol=0)
    single = Whitening(shape, method, over=over).fit([x.float()])
    torch.testing.assert_close(single.inverse(single(x.float())), x.float(), atol=2e-3, rtol=0)


@pytest.mark.parametrize("method", TURNING)
def test_fewer_components_give_back_the_nearest_in_their_span(method):
    x = examples(300, (1, 3, 3))
    whitening = fitted(x, method, components=4, eps=0)
    assert whitening(x).shape == ((300, 4) if method == "pca" else x.shape)
    centred = (x - x.mean(0)).flatten(1).numpy()
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    nearest = (left[:, :4] * values[:4]) @ right[:4]
    back = whitening.inverse(whitening(x)).flatten(1).numpy() - x.mean(0).flatten().numpy()
    np.testing.assert_allclose(back, nearest, atol=1e-9)


@pytest.mark.parametrize("method", ["standard", "zca"])
def test_batches_of_any_size_give_the_same_as_all_at_once(method):
    x = examples(211, (2, 3), offset=1e6)  # far from zero: sums of squares in float32 would have no digit left
    whole = Whitening((2, 3), method).double().fit([x])
    for sizes in (1, 50, 210):
        parts = Whitening((2, 3), method).double().fit((part, torch.zeros(len(part))) for part in x.split(sizes))
        torch.testing.assert_close(parts.deviation, whole.deviation, atol=1e-7, rtol=0)
        torch.testing.assert_close(parts.mean, whole.mean, atol=0, rtol=1e-14)
    rows = x.flatten(1).numpy()
    spread = np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1] if method == "zca" else rows.var(0)
    np.testing.assert_allclose(whole.deviation, np.sqrt(spread + 1e-5), rtol=1e-6)
    assert int(whole.count) == 211


def test_statistics_of_float32_examples_are_of_double_precision():
    x = (examples(100, (2, 3)) + 1e4).float()
    whitening = Whitening((2, 3), "mean").double().fit(x.split(30))
    torch.testing.assert_close(whitening.mean, x.double().mean(0).flatten(), rtol=1e-14, atol=0)


def test_directions_without_variance_stay_finite():
    """Rounding makes some of their eigenvalues negative, by less than 1e-14."""
    x = examples(50, (1, 2)).repeat(1, 1, 6)
    assert fitted(x, "zca", eps=1e-25)(x).isfinite().all()


def test_pictures_of_bytes_are_taken_in_units_of_one():
    x = torch.randint(0, 256, (60, 1, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whitening = Whitening((1, 3, 3), "zca").fit([x])
    floats = Whitening((1, 3, 3), "zca").fit([x.float() / 255])
    torch.testing.assert_close(whitening(x), floats(x.float() / 255), atol=1e-4, rtol=0)
    torch.testing.assert_close(whitening.inverse(whitening(x)), x.float() / 255, atol=1e-5, rtol=0)


def test_over_channels_other_sides_may_come():
    x = examples(50, (3, 4, 4))
    whitening = fitted(x, "zca", over="channels")
    torch.testing.assert_close(whitening(x[:, :, :2, 1:3]), whitening(x)[:, :, :2, 1:3])


def test_it_is_saved_and_loaded_with_a_network():
    x = examples(50, (1, 2, 2)).float()
    net = nn.Sequential(Whitening((1, 2, 2), "pca", components=3).fit([x]), nn.Linear(3, 2))
    other = nn.Sequential(Whitening((1, 2, 2), "pca", components=3), nn.Linear(3, 2))
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), net(x))
    assert not [name for name, _ in net[0].named_parameters()]


def test_statistics_are_of_the_training_split_alone():
    prepared = prepare(open_source("digits"), Data(), seed=0, device=torch.device("cpu"), model_shape=None)
    pools = {"train": prepared.train, "validation": prepared.validation, "test": prepared.test}
    whitening = Whitening(prepared.shape, "mean").fit(
        prepared.train.batches(torch.arange(len(prepared.train)).split(99))
    )
    everything = {
        name: torch.from_numpy(pool.pictures(range(len(pool)))).double() / 255 for name, pool in pools.items() if pool
    }
    assert len(everything) > 1
    expected = everything["train"].mean(0).flatten()
    torch.testing.assert_close(whitening.mean.double(), expected, atol=1e-6, rtol=0)
    assert (torch.cat(list(everything.values())).mean(0).flatten() - expected).abs().max() > 1e-4
    assert int(whitening.count) == len(prepared.train)


def test_centred_data_are_moved_less_by_a_change_of_slope():
    """The lecture's line through a cloud: scores change by spread and distance, centred by spread alone."""
    x = examples(400, (1, 5), offset=20.0)
    change = examples(1, (1, 5), seed=4)
    centred = fitted(x, "mean")(x)
    moved = {name: (rows * change).sum((1, 2)).square().mean().sqrt() for name, rows in (("far", x), ("near", centred))}
    covariance = np.cov(x.flatten(1).T.numpy(), bias=True)
    direction, middle = change.flatten().numpy(), x.mean(0).flatten().numpy()
    spread = direction @ covariance @ direction
    assert moved["near"].item() == pytest.approx(spread**0.5)
    assert moved["far"].item() == pytest.approx((spread + (direction @ middle) ** 2) ** 0.5)
    assert moved["far"] > 2 * moved["near"]


def test_every_step_makes_the_bowl_of_a_linear_fit_rounder():
    """Condition number of its Hessian X^T X / N, with a column of ones for the bias: whitened it is 1."""
    x = examples(400, (1, 6), offset=3.0)

    def condition(rows):
        rows = torch.cat([rows.flatten(1), torch.ones(len(rows), 1, dtype=rows.dtype)], dim=1)
        return torch.linalg.cond(rows.T @ rows / len(rows)).item()

    methods = ("mean", "standard", "pca", "zca")
    raw = condition(x)
    mean, standard, pca, zca = (condition(fitted(x, method, eps=0)(x)) for method in methods)
    assert raw > mean > standard > 1.5
    assert pca == pytest.approx(1)
    assert zca == pytest.approx(1)


@pytest.mark.parametrize("bias", [0.0, 0.2])
@pytest.mark.parametrize("shape", SHAPES)
def test_contrast_is_every_examples_own(shape, bias):
    x = examples(20, shape, offset=2.0)
    rows = x.flatten(1).numpy()
    expected = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + bias)
    np.testing.assert_allclose(normalize_contrast(x, bias=bias).flatten(1), expected, atol=1e-12)
    whole = torch.randint(0, 256, (4, 3, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(normalize_contrast(whole, bias=bias), normalize_contrast(whole.float() / 255, bias=bias))
    assert not normalize_contrast(torch.full((1, *shape), 0.3)).abs().gt(10).any()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Whitening((1, 2), "zac"), "method cannot be 'zac'"),
        (lambda: Whitening((1, 2), over="pixel"), "over cannot be 'pixel'"),
        (lambda: Whitening((1, 2), eps=-1), "eps cannot be -1"),
        (lambda: Whitening((1, 2), components=3), "number cannot be 3"),
        (lambda: Whitening((1, 2), "standard", components=1), "standard has no components"),
        (lambda: Whitening((3, 224, 224)), "150,528 values needs a covariance of 169 GiB"),
        (lambda: Whitening((1, 2))(torch.zeros(1, 1, 2)), "nothing was fitted"),
        (lambda: Whitening((1, 2)).inverse(torch.zeros(1, 1, 2)), "nothing was fitted"),
        (lambda: Whitening((1, 2)).fit([torch.zeros(1, 1, 2)]), "nothing varies among 1 values"),
        (lambda: Whitening((1, 2)).fit([]), "nothing varies among 0 values"),
        (lambda: Whitening((1, 2)).fit([torch.zeros(4, 1, 3)]), r"examples of shape \(1, 3\)"),
        (
            lambda: Whitening((3, 2, 2), over="channels").fit([torch.zeros(4, 1, 2, 2)]),
            r"examples of shape \(1, 2, 2\)",
        ),
        (lambda: Whitening((1, 4), eps=0).fit([torch.eye(3).repeat(1, 2)[:, None, :4]]), "vary in 2 directions, and 4"),
    ],
)
def test_refusals(build, message):
    with pytest.raises(UserError, match=message):
        build()
