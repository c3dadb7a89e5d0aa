"""One step uphill: as far as Fisher scoring says, never downhill, never out of bounds."""

from math import exp, log

import numpy as np
import pytest
import torch
from torch import Tensor

from engram.review.memory.likelihood import LONGEST, climb, log_likelihood

T = torch.linspace(0.5, 20, 40).double()
TRIALS = torch.full((40,), 200.0).double()


def decaying(values: list[float]) -> Tensor:
    return torch.exp(-values[0] * T)


def powers(values: list[float]) -> Tensor:
    return values[0] * (1 + T) ** -values[1]


def test_a_step_is_fisher_s():
    """For p = e^(-v t): dp/d ln v = -v t p, so score and information can be written down."""
    v, truth = 0.05, 0.055
    recalled = TRIALS * torch.exp(-truth * T)
    t, n = T.numpy(), TRIALS.numpy()
    p = np.exp(-v * t)
    slope, k = -v * t * p, n * np.exp(-truth * t)
    score, information = (slope * (k - n * p) / (p * (1 - p))).sum(), (n * slope**2 / (p * (1 - p))).sum()
    for rate, prior in ((1.0, 0.0), (0.3, 0.0), (1.0, 1000.0)):
        moved = climb(decaying, [v], [(1e-3, 10)], recalled, TRIALS, rate=rate, prior=prior)
        assert log(moved[0] / v) == pytest.approx(rate * score / (information + prior), rel=1e-4)


def test_steps_lead_to_the_most_likely():
    recalled = TRIALS * powers([0.9, 0.3])
    values = [0.6, 0.9]
    for _ in range(60):
        values = climb(powers, values, [(0.1, 1.0), (0.01, 3.0)], recalled, TRIALS)
    assert values == pytest.approx([0.9, 0.3], rel=5e-3)


def test_a_step_at_most_doubles_or_halves():
    recalled = TRIALS * torch.exp(-0.9 * T)
    assert climb(decaying, [0.01], [(1e-3, 10)], recalled, TRIALS)[0] <= 0.01 * exp(LONGEST) * 1.0001
    assert climb(decaying, [0.01], [(1e-3, 10)], recalled, TRIALS, rate=0.5)[0] <= 0.01 * exp(LONGEST / 2) * 1.0001


def test_a_single_trial_a_row_is_the_default():
    recalled = (T < 8).double()
    one = climb(decaying, [0.2], [(1e-3, 10)], recalled)
    assert one == climb(decaying, [0.2], [(1e-3, 10)], recalled, torch.ones_like(recalled))


def test_few_rows_move_little():
    few = climb(lambda v: decaying(v)[:2], [0.2], [(1e-3, 10)], torch.zeros(2).double())[0]
    many = climb(decaying, [0.2], [(1e-3, 10)], torch.zeros(40).double())[0]
    assert 0.2 < few < 0.32 < many


def test_a_parameter_at_its_bound_is_held_and_the_others_move():
    """All recalled more often than the level allows: it stays at 1, and forgetting slows down."""
    recalled = TRIALS * 0.97
    moved = climb(powers, [1.0, 0.3], [(0.1, 1.0), (0.01, 3.0)], recalled, TRIALS)
    assert moved[0] == 1.0
    assert moved[1] < 0.3
    assert climb(decaying, [0.001], [(1e-3, 10)], TRIALS, TRIALS) == [0.001]
    assert climb(decaying, [0.5], [(1e-3, 0.5)], 0 * TRIALS, TRIALS) == [0.5]


def test_values_outside_come_back_inside():
    assert climb(decaying, [20.0], [(1e-3, 10)], 0 * TRIALS, TRIALS) == [10]


def test_a_step_that_would_lower_the_likelihood_is_not_taken():
    """A curve with a cliff just ahead: no halving of the step stays before it."""

    def cliff(values: list[float]) -> Tensor:
        p = torch.exp(-values[0] * T)
        return torch.where(torch.tensor(values[0] > 0.2 * exp(0.0011)), 0.5, p)

    recalled = TRIALS * torch.exp(-0.4 * T)
    assert climb(cliff, [0.2], [(1e-3, 10)], recalled, TRIALS) == [0.2]


def test_a_step_too_long_is_halved():
    def narrow(values: list[float]) -> Tensor:
        p = torch.exp(-values[0] * T)
        return torch.where(torch.tensor(values[0] > 0.26), 0.5, p)

    recalled = TRIALS * torch.exp(-0.4 * T)
    moved = climb(narrow, [0.2], [(1e-3, 10)], recalled, TRIALS)[0]
    assert 0.2 < moved <= 0.26


def test_the_log_likelihood_bounds_every_surprise():
    assert log_likelihood(torch.tensor([0.8, 0.3]), torch.tensor([1.0, 0.0])) == pytest.approx(log(0.8) + log(0.7))
    assert log_likelihood(torch.tensor([1.0]), torch.tensor([0.0])) == pytest.approx(log(1e-3), rel=1e-4)
    some = log_likelihood(torch.tensor([0.25]).double(), torch.tensor([3.0]).double(), torch.tensor([4.0]).double())
    assert some == pytest.approx(3 * log(0.25) + log(0.75))
