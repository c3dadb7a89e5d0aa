"""Accuracy, forgetting and transfer by hand."""

import pytest
import torch

from engram.errors import UserError
from engram.review import stream_metrics as metrics

A = [
    [0.90, 0.20, 0.10],
    [0.95, 0.80, 0.30],
    [0.40, 0.60, 0.70],
]


def test_by_hand():
    assert metrics.average_accuracy(A) == pytest.approx((0.40 + 0.60 + 0.70) / 3)
    assert metrics.learned(A) == pytest.approx((0.90 + 0.80 + 0.70) / 3)
    assert metrics.forgetting(A) == pytest.approx(((0.95 - 0.40) + (0.80 - 0.60)) / 2)
    assert metrics.backward_transfer(A) == pytest.approx(((0.40 - 0.90) + (0.60 - 0.80)) / 2)
    assert metrics.forward_transfer(A, [0.5, 0.15, 0.1]) == pytest.approx(((0.20 - 0.15) + (0.30 - 0.1)) / 2)


def test_the_best_before_a_task_counts_too_and_the_end_does_not():
    assert metrics.forgetting([[0.5, 0.6, 0], [0.5, 0.4, 0], [0.9, 0.8, 0]]) == pytest.approx(-(0.4 + 0.2) / 2)


def test_one_task_forgets_nothing():
    one = torch.tensor([[0.9]])
    assert metrics.average_accuracy(one) == metrics.learned(one) == pytest.approx(0.9)
    assert metrics.forgetting(one) == metrics.backward_transfer(one) == metrics.forward_transfer(one, [0.1]) == 0


@pytest.mark.parametrize("matrix", [[[1.0, 2.0]], [1.0], torch.zeros(0, 0)])
def test_no_square(matrix):
    with pytest.raises(UserError, match="an accuracy matrix cannot be of shape"):
        metrics.average_accuracy(matrix)


def test_untrained_accuracies_of_other_tasks():
    with pytest.raises(UserError, match="2 untrained accuracies for 3 tasks"):
        metrics.forward_transfer(A, [0.1, 0.1])
