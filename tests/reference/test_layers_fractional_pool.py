"""Fractional pooling: the paper's cuts, maxima against loops and torch's pooling, random where it should be."""

import itertools
from collections import Counter
from math import ceil

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engram.errors import UserError
from engram.layers.fractional_pool import FractionalMaxPool, pool_between, pseudorandom_cuts, random_cuts

SIZES = [(10, 7), (25, 17), (36, 25), (8, 4), (9, 8), (7, 2), (5, 5), (47, 33)]


@pytest.mark.parametrize(("length", "count"), SIZES)
@pytest.mark.parametrize("u", [0.0, 0.1, 0.5, 0.77, 0.9, 0.999])
def test_pseudorandom_cuts_are_the_papers(length: int, count: int, u: float) -> None:
    """a_i = ceil(alpha (i + u)), up to a shift, from one end to the other, by steps of two sizes."""
    cuts = pseudorandom_cuts(length, count, u)
    alpha = length / count
    # a millionth is taken off, so that a product that is whole up to rounding is that number
    sequence = [ceil(alpha * (i + u) - 1e-6) for i in range(count + 1)]
    assert cuts == [place - sequence[0] for place in sequence]
    assert (cuts[0], cuts[-1], len(cuts)) == (0, length, count + 1)
    steps = {after - before for before, after in itertools.pairwise(cuts)}
    assert steps <= {length // count, ceil(length / count)}


@pytest.mark.parametrize(("length", "count"), SIZES)
def test_random_cuts_are_every_order_of_the_steps(length: int, count: int) -> None:
    torch.manual_seed(0)
    cuts = random_cuts(length, count, torch.randperm(count))
    steps = Counter(after - before for before, after in itertools.pairwise(cuts))
    assert (cuts[0], cuts[-1]) == (0, length)
    longer = length % count
    assert steps == Counter({length // count: count - longer, length // count + 1: longer}) - Counter()


def by_hand(x: Tensor, rows: list[int], columns: list[int], reach: int) -> Tensor:
    maxima = [
        [x[..., a : b + reach, c : d + reach].amax((-1, -2)) for c, d in itertools.pairwise(columns)]
        for a, b in itertools.pairwise(rows)
    ]
    return torch.stack([torch.stack(row, -1) for row in maxima], -2)


@pytest.mark.parametrize("overlapping", [True, False])
def test_it_is_the_maximum_over_each_region(overlapping: bool) -> None:
    x = torch.randn(2, 3, 10, 13)
    rows, columns = [0, 2, 3, 5, 6, 8, 10], [0, 1, 3, 5, 6, 8, 10, 11, 13]
    y = pool_between(pool_between(x, rows, 2, overlapping=overlapping), columns, 3, overlapping=overlapping)
    assert torch.equal(y, by_hand(x, rows, columns, reach=int(overlapping)))


@pytest.mark.parametrize("regions", ["random", "pseudorandom"])
def test_by_a_factor_of_two_it_is_max_pooling(regions: str) -> None:
    x = torch.randn(2, 3, 8, 6)
    plain = FractionalMaxPool(2.0, regions=regions, overlapping=False)
    assert torch.equal(plain(x), F.max_pool2d(x, 2))
    shared = FractionalMaxPool(2.0, regions=regions)
    assert torch.equal(shared(x), F.max_pool2d(x, 3, 2, ceil_mode=True))  # windows hang over the end
    assert torch.equal(plain(x[:, :, 0]), F.max_pool1d(x[:, :, 0], 2))
    volume = torch.randn(1, 2, 4, 4, 4)
    assert torch.equal(plain(volume), F.max_pool3d(volume, 2))


def cuts_seen(pool: FractionalMaxPool, length: int) -> tuple[int, ...]:
    """Where the regions end, read off a rising ramp."""
    return tuple(pool(torch.arange(float(length))[None, None]).int().flatten().tolist())


def test_random_regions_are_every_order_alike() -> None:
    """Of 5 pixels in 3 regions: steps 2, 2 and 1 in any of 3 orders."""
    torch.manual_seed(0)
    pool = FractionalMaxPool(5 / 3, regions="random", overlapping=False)
    seen = Counter(cuts_seen(pool, 5) for _ in range(1_500))
    assert set(seen) == {(1, 3, 4), (1, 2, 4), (0, 2, 4)}
    assert all(abs(count / 1_500 - 1 / 3) < 5 * (2 / 9 / 1_500) ** 0.5 for count in seen.values())


def test_pseudorandom_regions_begin_anywhere_alike() -> None:
    """Of 5 pixels in 3 regions the place of the single step is decided by u, a third of them each."""
    torch.manual_seed(0)
    pool = FractionalMaxPool(5 / 3, overlapping=False)
    seen = Counter(cuts_seen(pool, 5) for _ in range(1_500))
    expected = Counter(tuple(cut - 1 for cut in pseudorandom_cuts(5, 3, (k + 0.5) / 3000)[1:]) for k in range(3000))
    assert set(seen) == set(expected)
    for cuts, count in seen.items():
        chance = expected[cuts] / 3000
        assert abs(count / 1_500 - chance) < 5 * (chance * (1 - chance) / 1_500) ** 0.5 + 1e-3


def test_all_channels_and_examples_are_cut_alike_and_the_axes_apart() -> None:
    torch.manual_seed(0)
    pool = FractionalMaxPool(regions="random", overlapping=False)
    ramp = torch.arange(20.0)
    differs = 0
    for _ in range(20):
        columns = pool(ramp.expand(2, 3, 20, 20))
        assert torch.equal(columns, columns[:1, :1, :1].expand_as(columns))
        both = pool((100 * ramp[:, None] + ramp).expand(1, 1, 20, 20))[0, 0]
        differs += not torch.equal(both[:, 0] // 100, both[0] % 100)
    assert differs > 15


def test_judging_is_the_same_every_time() -> None:
    x = torch.randn(1, 2, 25, 25)
    for regions in ("random", "pseudorandom"):
        pool = FractionalMaxPool(regions=regions).eval()
        cuts = pseudorandom_cuts(25, 17, 0.5)
        assert torch.equal(pool(x), pool(x))
        assert torch.equal(pool(x), by_hand(x, cuts, cuts, reach=1))
    torch.manual_seed(0)
    assert len({tuple(pool.train()(x).flatten().tolist()) for _ in range(10)}) > 5


def test_the_papers_sizes() -> None:
    """From 94 pixels by the cube root of 2, layer after layer; sqrt(2) halves in two."""
    x = torch.zeros(1, 1, 36, 36)
    assert FractionalMaxPool(2**0.5)(x).shape[2:] == (25, 25)
    assert FractionalMaxPool(2 ** (1 / 3))(x).shape[2:] == (28, 28)


def test_the_gradient_goes_to_the_maximum() -> None:
    x = torch.tensor([[[1.0, 5.0, 2.0, 3.0]]], requires_grad=True)
    FractionalMaxPool(2.0, overlapping=True).eval()(x).backward(torch.tensor([[[10.0, 1.0]]]))
    assert x.grad is not None
    assert x.grad.tolist() == [[[0.0, 10.0, 0.0, 1.0]]]


def test_refuses() -> None:
    for ratio in (1.0, 0.5, float("nan")):
        with pytest.raises(UserError, match="shrinks nothing"):
            FractionalMaxPool(ratio)
    with pytest.raises(UserError, match="'rndom' is not known"):
        FractionalMaxPool(regions="rndom")
    with pytest.raises(UserError, match="leaves nothing of an axis of 1"):
        FractionalMaxPool()(torch.zeros(1, 1, 8, 1))
