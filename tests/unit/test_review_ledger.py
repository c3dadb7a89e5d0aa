"""The ledger keeps what each visit showed, as a plain loop over examples would."""

import copy

import pytest
import torch

from engram.errors import UserError
from engram.review import ledger as ledgers
from engram.review.ledger import COLUMNS, Ledger, Observed
from engram.review.memory import build


def observed(indices, losses, clock, grades=None):
    indices, losses = torch.tensor(indices), torch.tensor(losses, dtype=torch.float32)
    grades = torch.exp(-losses) if grades is None else torch.tensor(grades, dtype=torch.float32)
    return Observed(indices, losses, grades, torch.full((len(indices),), clock), torch.zeros(len(indices)).long())


def by_hand(visits, memory, examples):
    """The same, one visit after the other, in plain Python."""
    rows = [dict.fromkeys(COLUMNS, 0.0) for _ in range(examples)]
    for index, loss, grade, clock in visits:
        row = rows[index]
        one = {key: torch.tensor([float(row[key])]) for key in ("strength", "difficulty")}
        delay, mark = torch.tensor([clock - row["last"]]), torch.tensor([grade])
        after = memory.visit(delay, **one, grade=mark) if row["visits"] else memory.first(mark)
        row["strength"], row["difficulty"] = (float(value) for value in after)
        share = 0.7 if row["visits"] else 1.0
        row["smoothed"] += share * (loss - row["smoothed"])
        row["recall"] += share * (grade - row["recall"])
        row["lapses"] += row["streak"] > 0 and grade < 0.5
        row["streak"] = row["streak"] + 1 if grade >= 0.5 else 0
        row["recent"] = 2 * row["recent"] + (grade >= 0.5)
        row["visits"] += 1
        row["loss"], row["last"] = loss, clock
    return rows


@pytest.mark.parametrize("name", ["fsrs", "exponential"])
def test_many_visits_at_once_are_the_visits_one_by_one(name):
    memory = build(name)
    ledger = Ledger(6)
    rounds = [
        observed([0, 3, 5], [0.1, 2.0, 0.5], 0.5),
        observed([3, 0, 1], [0.2, 3.0, 0.6], 1.25),
        observed([5, 3, 0, 1], [0.1, 0.1, 0.2, 2.5], 3.0),
        observed([0, 0, 3, 0], [0.3, 1.5, 0.4, 0.2], 4.0),  # one example three times in a batch
    ]
    visits = []
    for one in rounds:
        ledger.record(one, memory)
        visits += zip(one.indices.tolist(), one.losses.tolist(), one.grades.tolist(), one.clocks.tolist(), strict=True)
    for index, row in enumerate(by_hand(visits, memory, 6)):
        for column, value in row.items():
            mine = float(getattr(ledger, column)[index])
            assert mine == pytest.approx(value, rel=2e-3 if column == "recall" else 1e-4, abs=1e-4), (index, column)
    assert ledger.seen.tolist() == [True, True, False, True, False, True]


def test_an_example_is_due_when_its_recall_has_fallen_to_the_wanted_retention():
    memory, ledger = build("exponential"), Ledger(3)
    ledger.record(observed([0, 2], [0.1, 0.2], 1.0), memory)
    ledger.record(observed([2], [0.1], 2.5), memory)
    due = ledger.due(memory, 0.8)
    assert due[1] == 0  # not seen yet
    for index in (0, 2):
        row = slice(index, index + 1)
        left = memory.recall(due[row] - ledger.last[row], ledger.strength[row], ledger.difficulty[row])
        assert float(left) == pytest.approx(0.8, abs=1e-4)
    memory.parameters["difficulty"] /= 2  # forgets at half the rate
    assert (ledger.due(memory, 0.8) - ledger.last).tolist() == pytest.approx((2 * (due - ledger.last)).tolist())


def test_the_record_is_of_examples_visited_before_with_what_was_known_then():
    memory, ledger = build("exponential"), Ledger(4)
    assert len(ledger.record(observed([0, 1], [0.1, 2.0], 1.0), memory)) == 0
    before = copy.deepcopy(ledger)
    record = ledger.record(observed([2, 1, 0], [0.3, 0.4, 0.5], 2.5), memory)
    assert record.delay.tolist() == [1.5, 1.5]
    assert record.strength.tolist() == before.strength[[1, 0]].tolist()
    assert record.streak.tolist() == [0, 1]
    assert record.grade.tolist() == pytest.approx([0.6703, 0.6065], abs=1e-4)


def test_a_row_takes_31_bytes_and_counters_stop_at_their_end():
    ledger = Ledger(100)
    assert ledger.nbytes == 3100
    ledger.visits[0], ledger.streak[0] = 32767, 255
    ledger.record(observed([0], [0.1], 1.0))
    assert (int(ledger.visits[0]), int(ledger.streak[0])) == (32767, 255)


def test_the_last_31_visits_are_kept_newest_lowest():
    ledger, said = Ledger(1), []
    for visit in range(40):
        said.append(visit % 3 == 0)
        ledger.record(observed([0], [0.1], float(visit), grades=[0.9 if said[-1] else 0.1]))
    bits = int(ledger.recent[0])
    assert bits > 0
    assert [bool(bits >> back & 1) for back in range(31)] == said[:-32:-1]
    assert bits >> 31 == 0


def test_without_a_memory_model_the_rest_is_kept():
    ledger = Ledger(3)
    ledger.record(observed([1], [0.2], 1.0))
    assert ledger.strength.tolist() == [0, 0, 0]
    assert ledger.visits.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("indices", "losses", "message"),
    [
        ([0, 4], [0.1, 0.1], "example 4 was graded, but the ledger has 4"),
        ([-1, 2], [0.1, 0.1], "example -1 was graded"),
        ([0, 2], [0.1, float("nan")], "the loss of example 2 is nan"),
        ([3, 2], [float("inf"), 0.1], "the loss of example 3 is inf"),
    ],
)
def test_visits_that_cannot_be_are_refused_and_nothing_changes(indices, losses, message):
    ledger = Ledger(4)
    ledger.record(observed([0, 1, 2, 3], [0.1, 0.2, 0.3, 0.4], 1.0), build("fsrs"))
    before = ledger.state_dict()
    with pytest.raises(UserError, match=message):
        ledger.record(observed(indices, losses, 2.0), build("fsrs"))
    assert all(torch.equal(before[name], getattr(ledger, name)) for name in COLUMNS)


def test_it_is_saved_whole_and_nothing_else_is_taken_for_one():
    ledger, other = Ledger(4), Ledger(4)
    ledger.record(observed([0, 2], [0.1, 2.0], 1.0), build("fsrs"))
    other.load_state_dict(ledger.state_dict())
    assert all(torch.equal(getattr(ledger, name), getattr(other, name)) for name in COLUMNS)
    other.visits += 1
    assert int(ledger.visits[0]) == 1  # a copy
    with pytest.raises(UserError, match="of 4 examples, the data set has 5"):
        Ledger(5).load_state_dict(ledger.state_dict())
    with pytest.raises(UserError, match="'streak' is missing"):
        Ledger(4).load_state_dict({key: value for key, value in ledger.state_dict().items() if key != "streak"})
    with pytest.raises(UserError, match="another type"):
        Ledger(4).load_state_dict(ledger.state_dict() | {"last": torch.zeros(4, dtype=torch.float64)})
    with pytest.raises(UserError, match="at least one"):
        Ledger(0)


def test_it_grows_at_its_end_and_never_shrinks():
    ledger = Ledger(2)
    ledger.record(observed([0, 1], [0.1, 2.0], 1.0))
    ledger.grow(4)
    assert ledger.visits.tolist() == [1, 1, 0, 0]
    assert all(len(getattr(ledger, name)) == 4 for name in COLUMNS)
    ledger.grow(4)
    with pytest.raises(UserError, match="shrunk from 4 to 3"):
        ledger.grow(3)


def test_rows_of_some_examples_are_a_copy():
    ledger = Ledger(5)
    ledger.record(observed([1, 4], [0.1, 2.0], 1.0))
    part = ledger.rows(torch.tensor([4, 1, 0]))
    assert part.visits.tolist() == [1, 1, 0]
    part.visits += 5
    assert ledger.visits.tolist() == [0, 1, 0, 0, 1]


def test_a_fingerprint_tells_data_sets_apart():
    labels = torch.tensor([0, 1, 1])
    same = ledgers.fingerprint(3, labels, "CIFAR10")
    assert same == ledgers.fingerprint(3, labels.to(torch.uint8), "CIFAR10")
    others = {
        ledgers.fingerprint(4, labels, "CIFAR10"),
        ledgers.fingerprint(3, labels.flip(0), "CIFAR10"),
        ledgers.fingerprint(3, labels, "MNIST"),
        ledgers.fingerprint(3, None, "CIFAR10"),
    }
    assert len(others) == 4
    assert same not in others
