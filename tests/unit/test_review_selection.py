"""Exactly so many are drawn, each with its own probability."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram.review import selection


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=40),
    st.floats(0, 1),
    st.floats(0, 0.5),
)
def test_probabilities_add_up_to_the_quota_and_keep_their_order(scores, share, floor):
    scores = torch.tensor(scores)
    quota = round(share * len(scores))
    chances = selection.inclusion(scores, quota, floor=floor)
    assert float(chances.sum()) == pytest.approx(quota, abs=1e-6)
    assert float(chances.min()) >= 0
    assert float(chances.max()) <= 1
    if quota:
        assert bool((chances >= min(floor, quota / len(scores)) - 1e-9).all())
    order = torch.argsort(scores)
    assert bool((torch.diff(chances[order]) >= -1e-9).all())


def test_probabilities_are_proportional_where_nothing_is_clipped():
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0])
    chances = selection.inclusion(scores, 2, floor=0.0)
    assert chances.tolist() == pytest.approx((scores / 10).tolist())
    chances = selection.inclusion(scores, 2, floor=0.2)
    assert chances[0] == pytest.approx(0.2)
    assert float(chances[3] / chances[2]) == pytest.approx(4 / 3)


def test_where_too_few_score_the_others_share_what_is_left():
    chances = selection.inclusion(torch.tensor([0.0, 0.0, 5.0, 0.0, 0.0]), 3)
    assert chances.tolist() == pytest.approx([0.5, 0.5, 1.0, 0.5, 0.5])
    assert selection.inclusion(torch.zeros(4), 2).tolist() == pytest.approx([0.5] * 4)
    assert selection.inclusion(torch.zeros(4), 9).tolist() == [1.0] * 4
    assert chances.dtype == torch.float64


def test_a_sum_need_not_be_whole():
    chances = selection.inclusion_of_sum(torch.tensor([1.0, 1.0, 2.0, 8.0]), 2.5)
    assert float(chances.sum()) == pytest.approx(2.5)
    assert float(selection.inclusion_of_sum(torch.ones(3), 2.0).sum()) == pytest.approx(2.0)


def test_every_draw_has_the_quota_and_every_example_its_frequency():
    chances = torch.tensor([0.1, 0.9, 0.5, 1.0, 0.0, 0.25, 0.25], dtype=torch.float64)
    generator, counts, pairs, draws = rng(), torch.zeros(7), 0, 4000
    for _ in range(draws):
        drawn = selection.systematic(chances, generator)
        assert len(drawn) == len(set(drawn.tolist())) == 3
        counts[drawn] += 1
        pairs += {5, 6} <= set(drawn.tolist())
    bound = 4 * (chances * (1 - chances) / draws).sqrt() + 1e-9  # four standard deviations
    assert bool(((counts / draws - chances).abs() <= bound).all())
    assert pairs > 0  # in a fixed order, 5 and 6 could never come together


def test_a_large_draw_is_exact():
    chances = selection.inclusion(torch.rand(200_000, generator=rng()), 77_777, floor=0.1)
    drawn = selection.systematic(chances, rng(1))
    assert len(drawn) == len(torch.unique(drawn)) == 77_777
    everything = selection.systematic(torch.ones(50_000), rng(2))
    assert torch.equal(everything.sort().values, torch.arange(50_000))
    assert not torch.equal(everything, torch.arange(50_000))


@pytest.mark.parametrize(
    "chances",
    [[1.0] * 9 + [0.6], [1.0] * 30 + [0.02] * 30, [1.0] * 4 + [0.55] + [1.0] * 4 + [0.0] * 5],
    ids=["all", "many", "some that never come"],
)
def test_no_example_is_drawn_twice_where_the_sum_is_rounded_up(chances):
    """Brought to the rounded sum, certain examples are wider than the step between two points, and both may hit one."""
    expected = torch.tensor(chances, dtype=torch.float64)
    generator = rng()
    for _ in range(200):
        drawn = selection.systematic(expected, generator)
        assert len(drawn) == len(set(drawn.tolist())) == round(sum(chances))


def test_the_same_seed_draws_the_same():
    chances = torch.full((100,), 0.3)
    assert torch.equal(selection.systematic(chances, rng(5)), selection.systematic(chances, rng(5)))
    assert not torch.equal(selection.systematic(chances, rng(5)), selection.systematic(chances, rng(6)))


def test_weights_undo_the_probabilities_on_average():
    """Horvitz and Thompson: the weighted sum over the drawn estimates the sum over all."""
    values = torch.arange(1.0, 9.0, dtype=torch.float64)
    chances = selection.inclusion(values, 4)
    generator, total, draws = rng(), 0.0, 20000
    for _ in range(draws):
        drawn = selection.systematic(chances, generator)
        total += float((torch.ones(8, dtype=torch.float64)[drawn] / chances[drawn]).sum())
    assert total / draws == pytest.approx(8, rel=0.02)
    drawn = torch.tensor([0.5, 0.25, 1.0])
    assert selection.weights(drawn, 0.0).tolist() == [1.0, 1.0, 1.0]
    assert selection.weights(drawn, 1.0).tolist() == pytest.approx([6 / 7, 12 / 7, 3 / 7])
    assert float(selection.weights(drawn, 0.5).mean()) == pytest.approx(1)
