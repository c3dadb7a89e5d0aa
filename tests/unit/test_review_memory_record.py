"""The record of visits: columns that belong together, thinned and cleaned alike every time."""

import pytest
import torch

from engram.review.memory import Record


def a_record(count: int, device: str = "cpu") -> Record:
    row = torch.arange(count, device=device).float()
    return Record(row, row + 0.1, row + 0.2, (row % 5).byte(), row / max(count, 1))


def test_what_counts_as_recalled():
    grades = torch.tensor([0.0, 0.4999, 0.5, 1.0])
    assert Record(*torch.ones(4, 4), grades).recalled.tolist() == [False, False, True, True]


def test_columns_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="one axis and one length"):
        Record(*torch.ones(4, 3), torch.ones(2))
    with pytest.raises(ValueError, match="one axis and one length"):
        Record(*torch.ones(5, 3, 2))
    with pytest.raises(ValueError, match="one axis and one length"):
        Record(*(torch.tensor(1.0) for _ in range(5)))


def test_rows_are_chosen_by_mask_or_place():
    record = a_record(6)
    assert record.at(record.delay > 3).delay.tolist() == [4.0, 5.0]
    assert record.at(torch.tensor([5, 0])).grade.tolist() == pytest.approx([5 / 6, 0.0])
    assert record.at(torch.tensor([2])).streak.dtype == torch.uint8


def test_thinning_takes_evenly_spaced_rows():
    record = a_record(10)
    assert record.thinned(10) is record
    assert record.thinned(5).delay.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert record.thinned(3).strength.tolist() == pytest.approx([0.1, 3.1, 6.1])


def test_double_leaves_out_what_is_not_finite():
    record = a_record(4)
    record.strength[1], record.grade[3] = torch.nan, torch.inf
    clean = record.double()
    assert clean.delay.tolist() == [0.0, 2.0]
    assert {column.dtype for column in clean.columns().values()} == {torch.float64}


def test_records_are_joined_in_order():
    joined = Record.joined([a_record(2), a_record(0), a_record(3)])
    assert joined.delay.tolist() == [0.0, 1.0, 0.0, 1.0, 2.0]
    assert joined.streak.dtype == torch.uint8
    assert len(Record.joined([])) == 0
