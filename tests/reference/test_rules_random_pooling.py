"""Regions and draws: adaptive pooling against torch, stochastic and fractional pooling and RReLU as distributions."""

from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engram import rules
from engram.errors import UserError
from engram.rules.fractional_pool import pseudorandom_cuts, random_cuts
from engram.rules.function import function

LIBRARIES: dict[str, Callable[[np.ndarray], Any]] = {"numpy": np.asarray, "torch": torch.from_numpy}
SHAPES = [((2, 3, 7), 3), ((2, 2, 7, 5), (3, 2)), ((1, 2, 5, 6), 6), ((1, 2, 3, 3), (5, 4)), ((1, 1, 4, 5, 6), 2)]


def distinct(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    count = int(np.prod(shape))
    return ((np.random.default_rng(seed).permutation(count) + 0.5) / count * 6 - 3).reshape(shape)


@pytest.mark.parametrize(("shape", "out"), SHAPES)
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_adaptive_pooling_is_torchs(kind: str, shape: tuple[int, ...], out: Any) -> None:
    forward, backward = (getattr(rules, f"adaptive_{kind}_pool_{way}") for way in ("forward", "backward"))
    x = torch.from_numpy(distinct(shape)).requires_grad_()
    theirs = getattr(F, f"adaptive_{kind}_pool{len(shape) - 2}d")(x, out)
    upstream = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(theirs, x, upstream)
    for array in LIBRARIES.values():
        ours, cache = forward(array(x.detach().numpy()), out)
        np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-12)
        np.testing.assert_allclose(backward(array(upstream.numpy()), cache), gradient, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda x: function(forward, backward)(x, out), x)


# -- stochastic pooling


def as_torch_would(x: Tensor, side: int, stride: int) -> Tensor:
    """The mean of a draw, windows along both axes."""
    a = x.clamp_min(0).unfold(2, side, stride).unfold(3, side, stride).flatten(4)
    total = a.sum(-1)
    return a.square().sum(-1) / torch.where(total > 0, total, 1)


@pytest.mark.parametrize("library", LIBRARIES)
def test_stochastic_pooling_at_test_is_the_mean_of_its_draws(library: str) -> None:
    x = torch.from_numpy(distinct((2, 3, 7, 7))).requires_grad_()
    param = {"mode": "test", "kernel": 3, "stride": 2}
    theirs = as_torch_would(x, 3, 2)
    upstream = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(theirs, x, upstream)
    array = LIBRARIES[library]
    out, cache = rules.stochastic_pool_forward(array(x.detach().numpy()), param)
    np.testing.assert_allclose(out, theirs.detach(), rtol=1e-12)
    np.testing.assert_allclose(rules.stochastic_pool_backward(array(upstream.numpy()), cache), gradient, rtol=1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
def test_stochastic_pooling_draws_in_proportion(library: str) -> None:
    """4 sigma bounds over 20 000 windows with shares of 0.1, 0.2, 0.3 and 0.4; a negative value is never drawn."""
    count, array = 20_000, LIBRARIES[library]
    x = np.tile([1.0, -9.0, 2.0, 0.0, 3.0, 4.0], count)[None, None]
    param = {"mode": "train", "kernel": 6, "rng": np.random.default_rng(0)}
    out, cache = rules.stochastic_pool_forward(array(x), param)
    found = Counter(np.asarray(out).ravel().tolist())
    assert set(found) == {1.0, 2.0, 3.0, 4.0}
    for value, times in found.items():
        chance = value / 10
        assert abs(times / count - chance) < 4 * (chance * (1 - chance) / count) ** 0.5
    dx = np.asarray(rules.stochastic_pool_backward(out * 0 + 5, cache)).reshape(-1, 6)
    assert (dx.sum(1) == 5).all()
    assert (x.reshape(-1, 6)[dx > 0] == np.asarray(out).ravel()).all()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("mode", ["train", "test"])
def test_a_window_of_nothing_passes_nothing(mode: str, library: str) -> None:
    x = LIBRARIES[library](np.array([[[0.0, -1.0, 0.0, 0.0]]]))
    out, cache = rules.stochastic_pool_forward(x, {"mode": mode, "kernel": 2, "rng": np.random.default_rng(0)})
    assert out.tolist() == [[[0, 0]]]
    assert rules.stochastic_pool_backward(out + 1, cache).tolist() == [[[0, 0, 0, 0]]]


def test_stochastic_pooling_is_checked_numerically_with_its_draws_held() -> None:
    x = torch.from_numpy(np.abs(distinct((1, 2, 6, 6)))).requires_grad_()
    pool = function(rules.stochastic_pool_forward, rules.stochastic_pool_backward)
    for param in ({"mode": "train", "seed": 3}, {"mode": "test"}):
        assert torch.autograd.gradcheck(lambda x, param=param: pool(x, {"kernel": 3, "stride": 2, **param}), x)


# -- fractional pooling


@pytest.mark.parametrize("side", range(2, 40))
def test_steps_between_cuts_differ_by_one_at_most(side: int) -> None:
    rng = np.random.default_rng(side)
    for ratio, u in product((2**0.5, 2 ** (1 / 3), 1.9), (0.0, 0.25, 0.5, 0.999)):
        count = int(side / ratio)
        for cuts in (pseudorandom_cuts(side, count, u), random_cuts(side, count, rng)):
            assert (cuts[0], cuts[-1], len(cuts)) == (0, side, count + 1)
            assert set(np.diff(cuts)) <= {side // count, side // count + 1}


def test_random_cuts_place_long_steps_evenly() -> None:
    """Each of the C(5, 2) orders of 2 long among 5 steps comes up in a tenth of 5 000 draws, within 4 sigma."""
    rng = np.random.default_rng(0)
    found = Counter(tuple(random_cuts(7, 5, rng)) for _ in range(5000))
    assert len(found) == 10
    assert all(abs(times / 5000 - 0.1) < 4 * (0.09 / 5000) ** 0.5 for times in found.values())


def test_u_is_uniform() -> None:
    """An axis of 4 cut in 3: t = 4u/3 up to 1/3 has the long step last, to 2/3 second, to 1 first, above 1 last."""
    found = Counter()
    for seed in range(3000):
        rng = np.random.default_rng(seed)
        out, _ = rules.fractional_max_pool_forward(
            np.arange(4.0)[None, None], {"mode": "train", "ratio": 1.33, "overlapping": False, "rng": rng}
        )
        found[tuple(out.ravel().tolist())] += 1
    for largest, chance in (((1, 2, 3), 1 / 4), ((0, 2, 3), 1 / 4), ((0, 1, 3), 1 / 2)):
        assert abs(found[largest] / 3000 - chance) < 4 * (chance * (1 - chance) / 3000) ** 0.5


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("overlapping", [True, False])
@pytest.mark.parametrize("regions", ["pseudorandom", "random"])
def test_fractional_pooling_is_the_maximum_between_cuts(regions: str, overlapping: bool, library: str) -> None:
    x, array = distinct((2, 2, 9, 7)), LIBRARIES[library]
    param = {"mode": "train", "regions": regions, "overlapping": overlapping}
    out, cache = rules.fractional_max_pool_forward(array(x), {**param, "rng": np.random.default_rng(5)})
    rng = np.random.default_rng(5)
    if regions == "random":
        rows, columns = random_cuts(9, 6, rng), random_cuts(7, 4, rng)
    else:
        rows, columns = pseudorandom_cuts(9, 6, rng.random()), pseudorandom_cuts(7, 4, rng.random())
    more = int(overlapping)
    dx = np.zeros_like(x)
    upstream = np.random.default_rng(1).standard_normal(out.shape)
    for n, c, i, j in product(range(2), range(2), range(6), range(4)):
        region = x[n, c, rows[i] : rows[i + 1] + more, columns[j] : columns[j + 1] + more]
        assert out[n, c, i, j] == region.max()
        dx[n, c][x[n, c] == region.max()] += upstream[n, c, i, j]
    np.testing.assert_allclose(rules.fractional_max_pool_backward(array(upstream), cache), dx)


def test_fractional_pooling_at_test_is_one_function() -> None:
    x = torch.from_numpy(distinct((1, 1, 6, 5, 4))).requires_grad_()
    pool = function(rules.fractional_max_pool_forward, rules.fractional_max_pool_backward)
    once, again = pool(x, {"mode": "test"}), pool(x, {"mode": "test"})
    assert torch.equal(once, again)
    assert once.shape == (1, 1, 4, 3, 2)
    assert torch.autograd.gradcheck(lambda x: pool(x, {"mode": "test"}), x)


# -- RReLU


@pytest.mark.parametrize("library", LIBRARIES)
def test_rrelu_at_test_is_torchs(library: str) -> None:
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    for settings in ({}, {"lower": 0.1, "upper": 0.4}):
        theirs = F.rrelu(x, settings.get("lower", 1 / 8), settings.get("upper", 1 / 3))
        (gradient,) = torch.autograd.grad(theirs.sum(), x)
        out, cache = rules.rrelu_forward(LIBRARIES[library](x.detach().numpy()), {"mode": "test", **settings})
        np.testing.assert_allclose(out, theirs.detach(), rtol=1e-12)
        np.testing.assert_allclose(rules.rrelu_backward(out * 0 + 1, cache), gradient, rtol=1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
def test_rrelu_draws_a_slope_for_every_number(library: str) -> None:
    """Slopes of 20 000 units: uniform from 1/8 to 1/3 by their largest distance from that distribution (1.95 / √n)."""
    count = 20_000
    x = LIBRARIES[library](np.tile([-2.0, 3.0], count))
    out, cache = rules.rrelu_forward(x, {"mode": "train", "rng": np.random.default_rng(0)})
    slopes = np.asarray(out)[::2] / -2
    assert (np.asarray(out)[1::2] == 3).all()
    places = (np.sort(slopes) - 1 / 8) / (1 / 3 - 1 / 8)
    assert np.abs(places - np.arange(1, count + 1) / count).max() < 1.95 / count**0.5
    dx = np.asarray(rules.rrelu_backward(out * 0 + 1, cache))
    np.testing.assert_allclose(dx[::2], slopes)
    assert (dx[1::2] == 1).all()


def test_rrelu_is_checked_numerically_with_its_draws_held() -> None:
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    operation = function(rules.rrelu_forward, rules.rrelu_backward)
    assert torch.autograd.gradcheck(lambda x: operation(x, {"mode": "train", "seed": 1}), x)


MAPS = np.ones((1, 1, 4, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rules.rrelu_forward(MAPS, {"mode": "trian"}), "mode 'trian' is not known"),
        (lambda: rules.rrelu_forward(MAPS, {}), "mode 'None' is not known"),
        (lambda: rules.rrelu_forward(MAPS, {"mode": "test", "low": 0.1}), "rrelu_param 'low' is not known"),
        (lambda: rules.rrelu_forward(MAPS, {"mode": "test", "lower": 0.5}), r"slopes from 0\.5"),
        (lambda: rules.rrelu_forward(MAPS, {"mode": "train", "seed": 1, "rng": np.random}), "a seed and a generator"),
        (lambda: rules.stochastic_pool_forward(MAPS, {"mode": "test", "kernel": 5}), "does not fit"),
        (lambda: rules.stochastic_pool_forward(MAPS, {"mode": "test", "size": 2}), "pool_param 'size' is not known"),
        (lambda: rules.fractional_max_pool_forward(MAPS, {"mode": "test", "ratio": 1}), "shrinks nothing"),
        (lambda: rules.fractional_max_pool_forward(MAPS, {"mode": "test", "ratio": 5}), "leaves nothing"),
        (lambda: rules.fractional_max_pool_forward(MAPS, {"mode": "test", "regions": "any"}), "regions 'any'"),
        (lambda: rules.fractional_max_pool_forward(MAPS, {"mode": "test", "factor": 2}), "pool_param 'factor'"),
        (lambda: rules.adaptive_avg_pool_forward(MAPS, 0), "does not fit 2 dimensions"),
        (lambda: rules.adaptive_max_pool_forward(np.ones((1, 1, 0)), 1), "pooling maps of 0"),
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
