"""Labels that look wrong are those of the costlier of two groups of losses, and none where there is one group."""

import pytest
import torch

from engram.review.ledger import Ledger
from engram.review.suspects import APART, suspects, two_groups


def seen(losses, visits=3):
    ledger = Ledger(len(losses))
    ledger.smoothed[:], ledger.visits[:] = losses, visits
    return ledger


def two(right=600, wrong=400, apart=2.5):
    rng = torch.Generator().manual_seed(0)
    low = 0.6 + 0.3 * torch.randn(right, generator=rng)
    return torch.cat([low, 0.6 + apart + 0.3 * torch.randn(wrong, generator=rng)]).clamp_min(0)


def by_hand(losses):
    """The best cut among all values, in plain Python."""
    values = sorted(losses.tolist())
    mean = sum(values) / len(values)
    best, at = -1.0, 0.0
    for place in range(1, len(values)):
        low, high = values[:place], values[place:]
        share = place / len(values)
        between = share * (1 - share) * (sum(low) / len(low) - sum(high) / len(high)) ** 2
        if between > best:
            best, at = between, (low[-1] + high[0]) / 2
    return at, best / (sum((value - mean) ** 2 for value in values) / len(values))


@pytest.mark.parametrize("losses", [two(), two(wrong=100), two(apart=1.0), torch.linspace(0, 4, 500) ** 2])
def test_the_cut_is_the_best_of_all_to_within_a_bin(losses):
    cut, apart = two_groups(losses)
    exact, exactly = by_hand(losses)
    bin_ = float(losses.max() - losses.min()) / 64
    low, high = sorted((cut, exact))
    assert apart == pytest.approx(exactly, abs=0.02)
    # anywhere in a gap between the groups is as good
    assert high - low <= 1.5 * bin_ or not ((losses > low + bin_) & (losses < high - bin_)).any()


def test_two_groups_are_told_apart_and_one_is_left_alone():
    found = suspects(seen(two()))
    assert found[600:].float().mean() > 0.99
    assert not found[:600].any()
    rng = torch.Generator().manual_seed(0)
    for one in (torch.rand(1000, generator=rng), torch.randn(1000, generator=rng) + 4, torch.ones(1000)):
        assert two_groups(one)[1] < APART
        assert not suspects(seen(one)).any()
    learned = torch.rand(1000, generator=rng).pow(8) * 4  # nearly all known, a long tail of hard ones
    assert not suspects(seen(learned)).any()


def test_one_loss_beyond_all_others_does_not_hide_the_groups():
    losses = torch.cat([two(), torch.tensor([1e4])])
    assert suspects(seen(losses)).sum() >= 1
    losses[-1] = 30.0
    assert suspects(seen(losses))[600:].float().mean() > 0.99


def test_a_class_that_is_not_learned_yet_is_not_suspected():
    """A rare class costs much for long, and a network that leaves it out would never learn it."""
    ledger = seen(two(right=950, wrong=50, apart=6.0))
    rare = torch.zeros(1000, dtype=torch.int64)
    rare[950:] = 1
    spread = torch.arange(1000) % 2
    assert suspects(ledger, spread)[950:].float().mean() > 0.95
    assert not suspects(ledger, rare).any()
    rare[:50] = 1  # half of the class is known
    assert suspects(ledger, rare)[950:].float().mean() > 0.95


def test_who_was_ever_recalled_or_came_seldom_is_no_suspect():
    ledger = seen(two())
    ledger.streak[600], ledger.lapses[601], ledger.visits[602] = 1, 1, 2
    assert suspects(ledger)[600:604].tolist() == [False, False, False, True]
    assert not suspects(seen(two(), visits=2)).any()
    assert not suspects(Ledger(5)).any()
