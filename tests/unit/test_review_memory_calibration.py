"""Calibration against scikit-learn and by hand; the link against a plain optimiser and against what it is for."""

import json

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss
from torch import Tensor

from engram.errors import UserError
from engram.review.calibration import BINS, KINDS, Bin, Link, measure, merged, wilson
from engram.review.memory import Record


def some(count: int = 3000, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predictions that promise too much, and outcomes."""
    rng = torch.Generator().manual_seed(seed)
    predicted = torch.rand(count, generator=rng, dtype=torch.float64) * 0.98 + 0.01
    return predicted, torch.rand(count, generator=rng) < predicted**1.5


@pytest.mark.parametrize("seed", range(3))
def test_the_scores_are_scikit_learn_s(seed):
    predicted, recalled = some(seed=seed)
    measured = measure(predicted, recalled)
    assert measured.log_loss == pytest.approx(log_loss(recalled.numpy(), predicted.numpy()), rel=1e-12)
    assert measured.brier == pytest.approx(brier_score_loss(recalled.numpy(), predicted.numpy()), rel=1e-12)
    rate = recalled.double().mean().item()
    constant = log_loss(recalled.numpy(), np.full(len(recalled), rate))
    assert measured.skill == pytest.approx(1 - measured.log_loss / constant, rel=1e-9)
    assert (measured.count, measured.base_rate) == (3000, pytest.approx(rate))
    assert measured.mean_predicted == pytest.approx(predicted.mean().item())


@pytest.mark.parametrize("bins", [1, 4, 10])
def test_the_reliability_table_is_scikit_learn_s(bins):
    predicted, recalled = some()
    table = measure(predicted, recalled, bins=bins).bins
    theirs = calibration_curve(recalled.numpy(), predicted.numpy(), n_bins=bins, strategy="quantile")
    assert [one.observed for one in table] == pytest.approx(list(theirs[0]), rel=1e-12)
    assert [one.predicted for one in table] == pytest.approx(list(theirs[1]), rel=1e-12)
    assert [one.count for one in table] == [3000 // bins] * bins
    error = sum(abs(a - b) for a, b in zip(*theirs, strict=True)) / bins  # of equal counts
    assert measure(predicted, recalled, bins=bins).expected_error == pytest.approx(error)


def test_equal_predictions_share_a_bin():
    predicted = torch.tensor([0.2] * 6 + [0.8] * 2)
    table = measure(predicted, torch.tensor([1, 0, 0, 0, 0, 0, 1, 1]), bins=4).bins
    assert [(one.count, round(one.predicted, 6), round(one.observed, 6)) for one in table] == [
        (6, 0.2, round(1 / 6, 6)),
        (2, 0.8, 1.0),
    ]
    assert measure(predicted, torch.ones(8), bins=4).expected_error == pytest.approx((6 * 0.8 + 2 * 0.2) / 8)


def test_a_good_prediction_has_skill_and_a_constant_has_none():
    rng = torch.Generator().manual_seed(2)
    predicted = torch.rand(5000, generator=rng)
    recalled = torch.rand(5000, generator=rng) < predicted
    good = measure(predicted, recalled)
    assert good.skill is not None
    assert good.skill > 0.2
    assert good.expected_error < 0.03
    assert measure(torch.full((5000,), good.base_rate), recalled).skill == pytest.approx(0.0, abs=1e-6)
    assert (measure(1 - predicted, recalled).skill or 0) < -0.5
    assert measure(predicted, torch.ones(5000)).skill is None


def test_certainty_that_is_wrong_costs_much_and_not_everything():
    measured = measure(torch.tensor([1.0, 0.0]), torch.tensor([0, 1]))
    assert measured.log_loss == pytest.approx(-np.log(1e-6), rel=1e-6)


def test_nothing_to_measure_is_a_mistake_of_the_caller():
    for predicted, recalled in ((torch.zeros(0), torch.zeros(0)), (torch.zeros(2), torch.zeros(3))):
        with pytest.raises(ValueError, match="cannot be compared"):
            measure(predicted, recalled)
    with pytest.raises(ValueError, match="cannot be compared"):
        measure(torch.zeros(2, 2), torch.zeros(2, 2))


def test_arrays_are_taken_and_plain_numbers_come_out():
    predicted, recalled = some(50)
    measured = measure(predicted.numpy(), recalled.numpy(), bins=5)
    assert measured == measure(predicted, recalled, bins=5)
    plain = json.loads(json.dumps(measured.to_dict()))
    assert len(plain["bins"]) == 5
    assert set(plain["bins"][0]) == {"predicted", "observed", "low", "high", "count"}
    numbers = measured.to_dict_of_numbers()
    assert set(numbers) == set(plain) - {"bins"}
    assert "skill" not in measure(predicted, torch.ones(50)).to_dict_of_numbers()


@pytest.mark.parametrize(
    ("right", "count", "expected"),
    [(0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)), (50, 100, (0.4038, 0.5962)), (0, 0, (0.0, 1.0))],
)
def test_wilson_s_interval(right, count, expected):
    """Agresti and Coull 1998 and statistics tables."""
    assert wilson(right, count) == pytest.approx(expected, abs=1e-4)


def test_tables_of_rounds_make_one_table_of_all_their_visits():
    rounds = [some(1000 + 500 * seed, seed) for seed in range(4)]
    rows = [one for predicted, recalled in rounds for one in measure(predicted, recalled, bins=40).bins]
    one = merged(rows)
    whole = measure(*(torch.cat(column) for column in zip(*rounds, strict=True))).bins
    assert len(one) == len(whole) == BINS
    assert sum(row.count for row in one) == sum(len(predicted) for predicted, _ in rounds)
    for made, wanted in zip(one, whole, strict=True):
        assert made.count == pytest.approx(wanted.count, rel=0.1)
        assert (made.predicted, made.observed) == pytest.approx((wanted.predicted, wanted.observed), abs=0.02)
        assert (made.low, made.high) == wilson(made.observed * made.count, made.count)
    assert merged([]) == ()
    few = [Bin(0.2, 0.5, 0.0, 1.0, 4), Bin(0.1, 0.0, 0.0, 1.0, 4)]
    assert [(row.predicted, row.observed, row.count) for row in merged(few)] == [(0.1, 0.0, 4), (0.2, 0.5, 4)]


def visits(streak: int, truth, count: int = 4000, seed: int = 0) -> tuple[Record, Tensor]:
    """Visits of one streak, recalled with probability truth(predicted), and the predictions."""
    rng = torch.Generator().manual_seed(seed)
    predicted = torch.rand(count, generator=rng) * 0.6 + 0.35
    grade = (torch.rand(count, generator=rng) < truth(predicted)).float()
    return Record(*torch.ones(3, count), torch.full((count,), streak, dtype=torch.uint8), grade), predicted


def distorted(predicted: Tensor) -> Tensor:
    return torch.sigmoid(0.8 + 0.4 * torch.logit(predicted))


def test_a_new_link_changes_nothing():
    predicted = torch.tensor([0.0, 1e-3, 0.4, 0.97, 1.0])
    streak = torch.tensor([0, 1, 2, 3, 9])
    assert Link().apply(predicted, streak).tolist() == pytest.approx(predicted.tolist(), abs=2e-6)
    assert Link().apply(predicted, streak.byte()).dtype == torch.float32


def test_a_fit_is_the_most_likely_logistic_line():
    """Against the same objective brought down by another optimiser."""
    record, predicted = visits(1, distorted)
    link = Link()
    link.fit(record, predicted)
    weights = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    x = torch.logit(predicted.double())
    optimizer = torch.optim.LBFGS([weights], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            weights[0] + weights[1] * x, record.grade.double(), reduction="sum"
        )
        total = loss + 5 * weights[0] ** 2 + 5 * (weights[1] - 1) ** 2
        total.backward()
        return total

    optimizer.step(objective)
    assert [link.shift[1], link.slope[1]] == pytest.approx(weights.tolist(), abs=1e-5)
    assert [link.shift[1], link.slope[1]] == pytest.approx([0.8, 0.4], abs=0.12)


def test_each_kind_of_streak_has_its_own():
    link = Link()
    link.fit(*visits(2, distorted))
    assert link.slope[1] != 1.0
    assert (link.shift[0], link.slope[0], link.shift[2], link.slope[2]) == (0.0, 1.0, 0.0, 1.0)
    out = link.apply(torch.full((6,), 0.9), torch.tensor([0, 1, 2, 3, 4, 200], dtype=torch.uint8))
    assert (out[0] - 0.9).abs() < 1e-5
    assert out[1] == out[2] < 0.88
    assert (out[3:] - 0.9).abs().max() < 1e-5


def test_what_was_wrong_is_right_again_with_one_probability_after_any_delay():
    """The reason for it: .35 whatever was predicted, even where recall seems to rise as the prediction falls."""
    link = Link()
    for seed in range(4):
        link.fit(*visits(0, lambda p: 0.35 + 0.2 * (0.65 - p), seed=seed))
    assert link.slope[0] == 0.0
    out = link.apply(torch.tensor([0.05, 0.5, 0.95]), torch.zeros(3))
    assert out.tolist() == pytest.approx([0.35] * 3, abs=0.03)
    assert out[0] == out[2]


def test_a_slope_held_at_its_bound_leaves_the_shift_its_best():
    """With b = 0 the best shift is the logit of the observed rate, drawn a little towards 0."""
    record, predicted = visits(0, lambda p: 0.9 - 0.8 * p)
    link = Link()
    link.fit(record, predicted)
    rate = record.grade.double().mean().item()
    assert link.slope[0] == 0.0
    information = 4000 * rate * (1 - rate)
    logit = np.log(rate / (1 - rate))
    assert link.shift[0] == pytest.approx(logit * information / (information + 10), abs=2e-3)


def test_a_link_keeps_what_it_said_before_it_was_told():
    record, predicted = visits(1, distorted)
    link = Link()
    link.fit(record, predicted)
    first = link.reliability(1)
    assert [row.observed for row in first["linked"]] == [row.observed for row in first["alone"]]  # no change yet
    before = link.apply(predicted, record.streak)
    link.fit(record, predicted)
    last, alone = link.reliability(1), measure(predicted, record.recalled).bins
    for made, wanted in (("linked", measure(before, record.recalled).bins), ("alone", alone)):
        assert [row.count for row in last[made]] == [row.count for row in wanted]
        assert [row.predicted for row in last[made]] == pytest.approx([row.predicted for row in wanted], abs=1e-6)
        assert [row.observed for row in last[made]] == pytest.approx([row.observed for row in wanted], abs=1e-9)
    both = link.reliability(2)["alone"]
    assert sum(row.count for row in both) == 2 * len(record)
    assert [row.predicted for row in both] == pytest.approx([row.predicted for row in alone], abs=1e-6)
    assert link.reliability(9) == link.reliability(2)
    assert link.reliability(0) == Link().reliability(1) == {"alone": (), "linked": ()}


def test_a_link_saved_before_it_kept_tables_goes_on_without_them():
    link = Link()
    link.fit(*visits(1, distorted))
    old = {name: value for name, value in link.state_dict().items() if name != "tables"}
    link.load_state_dict(old)
    assert link.tables == []
    link.fit(*visits(1, distorted))
    assert len(link.tables) == 1


def test_few_visits_change_little():
    record, predicted = visits(1, distorted)
    few, many = Link(), Link()
    few.fit(record.at(torch.arange(5)), predicted[:5])
    many.fit(record, predicted)
    assert abs(few.slope[1] - 1) < 0.3 * abs(many.slope[1] - 1)
    none = Link()
    none.fit(Record.joined([]), torch.zeros(0))
    assert none.state_dict() == Link().state_dict()


def test_evidence_adds_up_and_fades():
    """Two rounds of half the visits say nearly what one round of all does; what is old gives way to what is new."""
    record, predicted = visits(1, distorted)
    half = torch.arange(2000)
    whole, parts = Link(), Link()
    whole.fit(record, predicted)
    parts.fit(record.at(half), predicted[half])
    after_one = parts.information[1][0]
    parts.fit(record.at(half + 2000), predicted[half + 2000])
    assert parts.shift[1] == pytest.approx(whole.shift[1], abs=0.06)
    assert parts.information[1][0] == pytest.approx(1.8 * after_one, rel=0.05)
    for seed in range(12):
        parts.fit(*visits(1, lambda p: p, seed=seed, count=2000))
    assert (parts.shift[1], parts.slope[1]) == pytest.approx((0.0, 1.0), abs=0.15)
    assert parts.information[1][0] < 5.2 * after_one


def test_the_link_can_be_read_backwards():
    link = Link()
    link.fit(*visits(1, distorted))
    link.fit(*visits(3, lambda p: p**2))
    streak = torch.tensor([0, 1, 2, 3])
    for retention in (0.7, 0.9):
        assert link.apply(link.invert(retention, streak), streak).tolist() == pytest.approx([retention] * 4, abs=1e-4)
    link.fit(*visits(0, lambda p: 0.9 - 0.8 * p))
    assert link.invert(0.9, torch.tensor([0])).item() == pytest.approx(1.0)  # due whatever the delay
    assert link.invert(0.1, torch.tensor([0])).item() == pytest.approx(0.0)  # never due


def test_a_link_stays_within_its_bounds():
    link = Link()
    for _ in range(30):
        link.fit(*visits(1, lambda p: (p > 0.5).float()))
        link.fit(*visits(0, lambda p: torch.ones_like(p)))
    assert link.slope[1] == 4
    assert link.apply(torch.tensor([0.0, 1.0]), torch.tensor([1, 0])).isfinite().all()
    assert link.apply(torch.tensor([0.4]), torch.tensor([0])).item() > 0.95


@pytest.mark.parametrize("certainty", [0.0, 1.0])
def test_certainty_that_is_wrong_half_the_time_is_corrected(certainty):
    record, _ = visits(1, lambda p: 0.5 + 0 * p)
    link, certain = Link(), torch.full((4000,), certainty)
    for _ in range(3):
        link.fit(record, certain)
    assert link.apply(certain[:1], torch.tensor([1])).item() == pytest.approx(0.5, abs=0.03)


def test_rows_that_are_not_finite_are_passed_over():
    record, predicted = visits(1, distorted, 500)
    clean, spoiled = Link(), Link()
    clean.fit(record, predicted)
    again = Record.joined([record, record.at(torch.arange(3))])
    spoiled.fit(again, torch.cat([predicted, torch.full((3,), torch.nan)]))
    assert spoiled.state_dict() == clean.state_dict()


def test_a_saved_link_goes_on_bit_for_bit():
    link, again = Link(), Link()
    link.fit(*visits(1, distorted))
    again.load_state_dict(json.loads(json.dumps(link.state_dict())))
    for one in (link, again):
        one.fit(*visits(0, distorted, seed=1))
        one.fit(*visits(1, lambda p: p, seed=1))
    assert again.state_dict() == link.state_dict()
    before = link.state_dict()
    for wrong in ({}, {**before, "slope": [1.0]}):
        with pytest.raises(UserError, match="calibration link"):
            link.load_state_dict(wrong)
    before["shift"].clear()
    before["information"][0].clear()
    before["tables"][0][0].clear()
    assert (len(link.shift), len(link.information[0]), len(link.tables[0][0])) == (len(KINDS), 3, BINS)


def test_applying_waits_for_no_device():
    p = torch.ones(4, device="meta")
    assert Link().apply(p, p.byte()).device.type == "meta"
