"""Sampling: what is kept, with which probability it is drawn, and that the generator decides alone."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram.errors import UserError
from engram.text import sampling

ROW = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=12).map(lambda row: torch.tensor([row]))


def kept(scores):
    return [[place for place, score in enumerate(row) if score > -math.inf] for row in scores.tolist()]


@given(ROW, st.integers(1, 15))
def test_top_k_keeps_the_k_largest_and_of_equal_ones_the_first(row, k):
    order = sorted(range(row.shape[1]), key=lambda place: (-row[0, place].item(), place))
    ours = sampling.keep_top_k(row, k)
    assert kept(ours)[0] == sorted(order[:k])
    assert torch.equal(ours[ours > -math.inf], row[0, kept(ours)[0]])


@given(ROW, st.floats(0.01, 0.99))
def test_top_p_keeps_the_fewest_that_reach_p(row, p):
    chances = [math.exp(score) for score in row[0].tolist()]
    chances = [chance / math.fsum(chances) for chance in chances]
    inside = kept(sampling.keep_top_p(row, p))[0]
    mass = math.fsum(chances[place] for place in inside)
    assert mass >= p - 1e-9
    assert mass - min(chances[place] for place in inside) < p + 1e-9  # one fewer would not reach it
    assert min(chances[place] for place in inside) >= max(
        (chance for place, chance in enumerate(chances) if place not in inside), default=0.0
    )


@given(ROW)
def test_all_of_p_or_of_k_leaves_everything(row):
    assert torch.equal(sampling.keep_top_p(row, 1.0), row)
    assert torch.equal(sampling.keep_top_k(row, row.shape[1]), row)


def test_rows_are_cut_each_by_itself():
    scores = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]]).log()
    assert kept(sampling.keep_top_p(scores, 0.65)) == [[0], [2, 3]]
    assert kept(sampling.keep_top_k(scores, 2)) == [[0, 1], [2, 3]]
    assert kept(sampling.keep_greedy(scores)) == [[0], [3]]


def test_settings_come_in_the_order_temperature_k_p():
    scores = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    # squared and cut at two: 0.64 and 0.36; without the temperature first 0.571 and 0.429
    assert kept(sampling.adjust(scores, temperature=0.5, top_k=2, top_p=0.6)) == [[0]]
    assert kept(sampling.adjust(scores, top_k=2, top_p=0.6)) == [[0, 1]]
    assert kept(sampling.adjust(scores, top_p=0.5)) == [[0, 1]]
    assert kept(sampling.adjust(scores, top_k=2, top_p=0.5)) == [[0]]  # after top-k the rest is all there is
    assert kept(sampling.adjust(scores, greedy=True, temperature=9.0)) == [[0]]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_as_often_as_their_probability_says(temperature):
    chances = torch.tensor([0.5, 0.25, 0.15, 0.1])
    scores = sampling.temper(chances.log(), temperature).expand(40_000, 4)
    drawn = sampling.draw(scores, torch.Generator().manual_seed(3)).bincount(minlength=4)
    expected = chances ** (1 / temperature) / (chances ** (1 / temperature)).sum() * 40_000
    # chi-square of 3 degrees of freedom: above 21.1 once in 10,000 seeds
    assert ((drawn - expected) ** 2 / expected).sum() < 21.1


def test_what_was_left_out_is_never_drawn_and_the_rest_keeps_its_proportions():
    chances = torch.tensor([[0.4, 0.3, 0.2, 0.1]])
    scores = sampling.keep_top_k(chances.log(), 2).expand(40_000, 4)
    drawn = sampling.draw(scores, torch.Generator().manual_seed(4)).bincount(minlength=4)
    assert drawn[2:].sum() == 0
    # binomial(40,000, 4/7): sd 99; beyond 4 sd once in 16,000 seeds
    assert abs(drawn[0].item() - 40_000 * 4 / 7) < 4 * 99


def test_rows_are_drawn_independently():
    scores = torch.zeros(20_000, 2)
    drawn = sampling.draw(scores, torch.Generator().manual_seed(5))
    same = int((drawn[::2] == drawn[1::2]).sum())
    assert abs(same - 5_000) < 4 * 50  # binomial(10,000, 1/2): sd 50


def test_the_generator_decides_and_nothing_else():
    scores = torch.randn(50, 30, generator=torch.Generator().manual_seed(0))
    rng = torch.Generator().manual_seed(7)
    first, second = sampling.draw(scores, rng), sampling.draw(scores, rng)
    torch.manual_seed(99)
    assert torch.equal(first, sampling.draw(scores, torch.Generator().manual_seed(7)))
    assert not torch.equal(first, second)


def test_scores_are_left_as_they_were():
    scores = torch.randn(3, 9)
    before = scores.clone()
    sampling.draw(sampling.adjust(scores, temperature=0.7, top_k=5, top_p=0.9), torch.Generator())
    assert torch.equal(scores, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature 0.0 is out of range"),
        ({"temperature": math.inf}, "temperature inf"),
        ({"temperature": math.nan}, "temperature nan"),
        ({"top_k": 0}, "top-k 0"),
        ({"top_p": 0.0}, "top-p 0.0"),
        ({"top_p": 1.1}, "top-p 1.1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        sampling.adjust(torch.zeros(1, 3), **settings)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_row_that_has_nothing_to_draw_is_named(bad):
    scores = torch.zeros(3, 4)
    scores[1] = bad
    with pytest.raises(UserError, match="row 1 of the scores"):
        sampling.draw(scores, torch.Generator())
