"""What counts as recall."""

import math

import pytest
import torch

from engram.errors import UserError
from engram.review import recall


def test_the_probability_of_the_truth_is_the_grade():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2]), reduction="none")
    torch.testing.assert_close(recall.grade(losses), logits.softmax(1)[[0, 1], [0, 2]])


def test_right_answers_count_one_where_they_are_known():
    losses = torch.tensor([0.8, 0.6, 5.0])
    right = torch.tensor([True, False, False])
    assert recall.grade(losses, right, measure="correct").tolist() == [1.0, 0.0, 0.0]
    assert recall.grade(losses, measure="correct").tolist() == [0.0, 1.0, 0.0]  # by loss < ln 2
    assert recall.grade(losses, right).tolist() != [1.0, 0.0, 0.0]


def test_relative_grades_rank_the_batch_and_share_ties():
    losses = torch.tensor([3.0, 1.0, 2.0, 2.0])
    assert recall.grade(losses, measure="relative").tolist() == pytest.approx([0.0, 1.0, 0.5, 0.5])
    assert recall.grade(torch.tensor([7.0]), measure="relative").tolist() == [0.5]
    assert float(recall.grade(torch.rand(99), measure="relative").mean()) == pytest.approx(0.5)


@pytest.mark.parametrize("classes", [2, 10])
def test_the_floor_of_label_smoothing_is_reached_by_the_best_answer(classes):
    smoothing = 0.1
    shares = torch.full((1, classes), smoothing / classes, dtype=torch.float64)
    shares[0, 0] += 1 - smoothing
    best = torch.nn.functional.cross_entropy(shares.log(), torch.tensor([0]), label_smoothing=smoothing)
    assert recall.smoothing_floor(smoothing, classes) == pytest.approx(float(best))
    assert float(recall.grade(best[None], floor=recall.smoothing_floor(smoothing, classes))) == pytest.approx(
        1, abs=1e-6
    )
    assert recall.smoothing_floor(0.0, classes) == 0.0


def test_a_grade_never_exceeds_one():
    assert recall.grade(torch.tensor([-0.5, 0.2]), floor=0.4).tolist() == [1.0, 1.0]
    assert math.isclose(float(recall.grade(torch.tensor([1.4]), floor=0.4)), math.exp(-1), rel_tol=1e-6)


def test_an_unknown_measure_has_a_nearest_one():
    with pytest.raises(UserError) as caught:
        recall.check_measure("probabilty")
    assert caught.value.nearest == "probability"
