"""Splits keep every class's proportion, by seed, and never leave a class unlearnt."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.data import split
from engram.errors import UserError

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=300).map(lambda labels: np.array(labels, np.int64))


@given(LABELS, st.floats(0, 0.9), st.integers(0, 100))
def test_kept_and_held_out_are_the_whole_and_every_class_stays_in_training(labels, share, seed):
    kept, held = split.stratified(labels, share, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(labels)))
    assert set(labels[kept]) == set(labels)
    counts = np.bincount(labels)
    held_counts = np.bincount(labels[held], minlength=len(counts))
    assert (np.abs(held_counts - counts * share) < 1 + 1e-9).all() or (held_counts == counts - 1).any()


def test_the_total_is_right_where_no_class_is_whole():
    labels = np.repeat(np.arange(10), 15)  # a tenth of each is 1.5
    kept, held = split.stratified(labels, 0.1, seed=0)
    assert len(held) == 15
    assert set(np.bincount(labels[held])) == {1, 2}
    assert len(kept) == 135


def test_the_seed_decides_and_nothing_else():
    labels = np.arange(200) % 4
    first, again, other = (split.stratified(labels, 0.2, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.tolist() == KNOWN  # the same on every platform, in every release


KNOWN = [
    4, 7, 8, 9, 18, 20, 21, 22, 24, 29, 31, 44, 47, 59, 61, 63, 66, 70, 79, 81, 86, 88, 90, 94, 103, 106, 109,
    112, 113, 119, 121, 123, 138, 139, 144, 153, 156, 170, 176, 181,
]  # fmt: skip


def test_every_example_is_as_likely_to_be_held_out():
    labels = np.arange(40) % 2
    times = np.zeros(40)
    for seed in range(600):
        times[split.stratified(labels, 0.25, seed)[1]] += 1
    # binomial(600, 1/4): sd 10.6; 40 of them stay within 4.5 sd with probability 0.9997
    assert np.abs(times - 150).max() < 48


@given(LABELS, st.integers(1, 300))
def test_a_limit_keeps_every_class_and_is_never_exceeded(labels, limit):
    classes = len(set(labels))
    if limit < classes:
        with pytest.raises(UserError, match="less than one example for each class"):
            split.limited(labels, limit, seed=0)
        return
    chosen = split.limited(labels, limit, seed=0)
    assert set(labels[chosen]) == set(labels)
    assert len(np.unique(chosen)) == len(chosen) == min(limit, len(labels))


def test_rare_classes_are_paid_for_by_the_common_ones():
    labels = np.repeat(np.arange(5), [400, 300, 1, 1, 2])
    np.testing.assert_array_equal(np.bincount(labels[split.limited(labels, 20, seed=0)]), [10, 7, 1, 1, 1])


@pytest.mark.parametrize("limit", [10, 50, 99])
def test_a_limit_keeps_the_proportions(limit):
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
    counts = np.bincount(labels[split.limited(labels, limit, seed=3)])
    np.testing.assert_allclose(counts, np.array([0.6, 0.3, 0.1]) * limit, atol=1)
    assert counts.sum() == limit
