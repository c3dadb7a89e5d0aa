"""Retention tables by hand, and curves found again in data that were made from them."""

import json
from math import log

import pytest
import torch
from torch import Tensor

from engram.review.calibration import wilson
from engram.review.memory import Record
from engram.review.retention import SHAPES, compare_curves, retention_table

TRUTHS = {
    "constant": [0.7],
    "exponential": [0.95, 20.0],
    "logarithmic": [0.7, 0.08],
    "power": [0.9, 0.5, 0.3],
    "savings": [0.97, 0.5, 2.0],
}


def drawn(name: str, count: int = 20_000, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Delays over more than three decades and outcomes from one of the curves."""
    rng = torch.Generator().manual_seed(seed)
    delays = 10 ** (torch.rand(count, generator=rng, dtype=torch.float64) * 3.5 - 1)
    return delays, torch.rand(count, generator=rng) < SHAPES[name].curve(TRUTHS[name], delays)


def test_a_table_counts_by_delay_and_streak():
    delay = torch.tensor([0.1, 0.3, 1.0, 0.2, 9.0, 9.0, 100.0])
    streak = torch.tensor([0, 0, 0, 1, 2, 3, 200], dtype=torch.uint8)
    grade = torch.tensor([1.0, 0.0, 0.5, 1.0, 0.0, 1.0, 0.2])
    rows = retention_table(Record(delay, torch.ones(7), torch.ones(7), streak, grade), (1.0, 10.0))
    assert [(row.streak, row.least, row.most, row.count, row.recalled) for row in rows] == [
        ("0", 0.0, 1.0, 3, 2),
        ("1-2", 0.0, 1.0, 1, 1),
        ("1-2", 1.0, 10.0, 1, 0),
        ("3+", 1.0, 10.0, 1, 1),
        ("3+", 10.0, float("inf"), 1, 0),
    ]
    assert rows[0].delay == pytest.approx(1.4 / 3)
    assert (rows[0].share, rows[0].low, rows[0].high) == pytest.approx((2 / 3, *wilson(2, 3)))
    assert rows[0].to_dict()["share"] == rows[0].share


def test_nothing_observed_is_an_empty_table():
    assert retention_table(Record.joined([])) == []


@pytest.mark.parametrize("name", TRUTHS)
def test_the_curve_that_made_the_data_is_found(name):
    fits = compare_curves(*drawn(name), folds=3)
    assert fits[0].name == name
    delays = torch.tensor([0.2, 1.0, 5.0, 30.0, 200.0]).double()
    expected = SHAPES[name].curve(TRUTHS[name], delays).clamp(1e-3, 1 - 1e-3)
    assert fits[0].recall(delays).tolist() == pytest.approx(expected.tolist(), abs=0.02)
    assert [fit.bic for fit in fits] == sorted(fit.bic for fit in fits)
    assert {fit.name for fit in fits} == set(SHAPES)


def test_the_figures_are_what_they_say():
    delays, recalled = drawn("exponential", 2000)
    for fit in compare_curves(delays, recalled, folds=2):
        p, happened = fit.recall(delays), recalled.double()
        total = float((happened * p.log() + (1 - happened) * (1 - p).log()).sum())
        size = len(fit.parameters)
        assert fit.log_likelihood == pytest.approx(total, rel=1e-9)
        assert fit.aic == pytest.approx(2 * size - 2 * total)
        assert fit.bic == pytest.approx(size * log(2000) - 2 * total)
        assert fit.held_out == pytest.approx(-total / 2000, rel=0.02)
        assert fit.count == 2000
        assert json.loads(json.dumps(fit.to_dict()))["name"] == fit.name


def test_held_out_visits_are_not_fitted_to():
    """Outcomes that alternate with the folds: a constant from the other fold predicts the wrong one."""
    recalled = torch.arange(40) % 2 == 0
    fits = {fit.name: fit for fit in compare_curves(torch.linspace(1, 9, 40), recalled, folds=2)}
    assert fits["constant"].parameters["level"] == pytest.approx(0.5, abs=1e-3)
    assert fits["constant"].held_out == pytest.approx(-log(1e-3), rel=0.02)


def test_a_constant_s_level_is_the_rate():
    delays, recalled = drawn("constant", 1000)
    fits = {fit.name: fit for fit in compare_curves(delays, recalled)}
    assert fits["constant"].parameters["level"] == pytest.approx(recalled.double().mean().item(), rel=1e-4)


def test_ebbinghaus_s_own_figures_are_his_own_curve():
    """Fitted to his seven averages, 1,000 trials each, savings and power law leave the exponential far behind."""
    minutes = torch.tensor([19.0, 63.0, 525.0, 1440.0, 2880.0, 8640.0, 44640.0]).repeat_interleave(1000)
    saved = torch.tensor([582, 442, 358, 337, 278, 254, 211])
    recalled = torch.cat([torch.arange(1000) < count for count in saved])
    fits = {fit.name: fit for fit in compare_curves(minutes, recalled)}
    assert min(fits["savings"].bic, fits["power"].bic) < fits["exponential"].bic - 100
    assert fits["savings"].recall(torch.tensor([19.0, 44640.0])).tolist() == pytest.approx([0.57, 0.21], abs=0.03)


def test_delays_of_0_count_as_the_shortest_above():
    delays, recalled = drawn("logarithmic", 500)
    zeros = torch.cat([delays, torch.zeros(5).double()])
    least = torch.cat([delays, torch.full((5,), float(delays.min())).double()])
    outcomes = torch.cat([recalled, torch.ones(5, dtype=torch.bool)])
    one, other = compare_curves(zeros, outcomes, folds=2), compare_curves(least, outcomes, folds=2)
    assert [fit.name for fit in one] == [fit.name for fit in other]
    assert [fit.bic for fit in one] == pytest.approx([fit.bic for fit in other], rel=1e-9)


def test_too_little_to_compare_is_a_mistake_of_the_caller():
    for delays, recalled in (
        (torch.ones(9), torch.ones(9)),
        (torch.ones(20), torch.ones(19)),
        (torch.zeros(20), torch.ones(20)),
        (torch.ones(20, 2), torch.ones(20, 2)),
    ):
        with pytest.raises(ValueError, match="delays"):
            compare_curves(delays, recalled)
