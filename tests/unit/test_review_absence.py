"""What absence costs is measured on groups drawn at random, and what is learned by heart is not left out."""

import math

import pytest
import torch

from engram.errors import UserError
from engram.review import methods
from engram.review.absence import COST, FEWEST, MOST, REST, SHARE, SURE, USE, Absence
from engram.review.ledger import Ledger, Observed
from engram.review.method import Moment
from engram.review.reviewer import Reviewer
from engram.review.summary import summarise

EXAMPLES, BATCH = 1000, 50


def made(epochs=20.0, seed=0, **more):
    method = methods.build("forgetting_curve", {"save": "auto", **more})
    return Reviewer(EXAMPLES, method, batch_size=BATCH, epochs=epochs, seed=seed)


def learn(reviewer, left_after, rounds=10**9):
    """Grades fall to `left_after` of what they were with two and a half epochs of absence; what came in every round."""
    absence, came, told = reviewer.method.absence, [], []
    last = torch.full((len(reviewer),), -1.0)
    while not reviewer.finished and len(came) < rounds:
        batches = reviewer.batches()
        told.append((absence.staying.clone(), absence.resting.clone(), absence.asks, absence.coming.clone()))
        came.append(torch.cat(batches))
        for batch in batches:
            now = reviewer.steps * BATCH / len(reviewer)
            lost = (last[batch] >= 0) & (now - last[batch] > 2.5)
            grades = torch.where(lost, 0.95 * left_after, 0.95)
            last[batch] = now
            reviewer.grade(-grades.log())
    return came, told


def test_one_group_stays_and_the_other_rests_until_both_are_asked():
    came, told = learn(reviewer := made(), 1.0)
    first = [place for place, one in enumerate(told) if torch.equal(one[0], told[1][0])]
    assert first == list(range(1, len(first) + 1))  # after the round that shows everything
    staying, resting, _, _ = told[1]
    assert len(staying) == len(resting) == SHARE * EXAMPLES
    assert not set(staying.tolist()) & set(resting.tolist())
    assert [told[place][2] for place in first] == [False] * (len(first) - 1) + [True]
    visits, forced = 0, []
    for place in first:
        here, has_to = set(came[place].tolist()), set(told[place][3].tolist())
        assert has_to <= here
        assert len(set(resting.tolist()) & here) == (len(resting) if place == first[-1] else 0)
        if has_to:
            forced.append(visits / EXAMPLES)
        visits += len(came[place])
    assert forced == pytest.approx([0, 1, 2, 3], abs=0.1)  # once an epoch at least
    assert set(staying.tolist()) | set(resting.tolist()) == set(told[first[-1]][3].tolist())
    assert visits - len(came[first[-1]]) == pytest.approx(REST * EXAMPLES, abs=0.2 * EXAMPLES)
    later = next(one for one in told[first[-1] + 1 :] if len(one[0]))
    assert set(later[1].tolist()) != set(resting.tolist())  # another draw
    assert not reviewer.method.absence.by_heart


def test_what_is_learned_by_heart_is_not_left_out():
    came, told = learn(reviewer := made(), 0.3)
    absence = reviewer.method.absence
    assert absence.by_heart
    assert absence.found[0]["cost"] == pytest.approx(0.95 * 0.7, abs=0.05)
    assert absence.found[0]["epoch"] == 1 + REST
    asked = next(place for place, one in enumerate(told) if one[2])
    assert min(len(one) for one in came[1:asked]) <= 0.3 * EXAMPLES  # all is known, so most is left out
    for one, (_, resting, asks, _) in list(zip(came, told, strict=True))[asked + 1 : -2]:
        assert len(one) == (EXAMPLES if asks or not len(resting) else EXAMPLES * (1 - SHARE))
    known, _ = learn(reviewer := made(), 1.0)
    assert not reviewer.method.absence.by_heart
    assert abs(reviewer.method.absence.found[-1]["cost"]) < 1e-3
    assert min(len(one) for one in known) == 0.2 * EXAMPLES


def test_the_cost_is_a_difference_between_two_means_with_its_error():
    absence, ledger = Absence(), visited(500)
    ledger.recall[:] = torch.linspace(0, 1, 500)
    turn(absence, ledger, left=5000)
    assert (len(absence.staying), len(absence.resting), absence.asks) == (50, 50, False)
    assert torch.equal(absence.away, absence.resting)
    assert torch.equal(absence.coming, absence.staying)
    turn(absence, ledger, left=5000 - int(0.5 * 500))
    assert len(absence.coming) == 0
    assert torch.equal(absence.away, absence.resting)
    turn(absence, ledger, left=5000 - int(REST * 500))
    assert absence.asks
    assert len(absence.away) == 0
    both = absence.coming
    grades = torch.rand(100, generator=torch.Generator().manual_seed(3))
    gained = (grades - ledger.recall[both].float()).double()
    absence.fold(observed(both[1:], grades[1:]))  # of one nothing was recorded
    stayed, rested = gained[1:50], gained[50:]
    (found,) = absence.found
    assert found["cost"] == pytest.approx(float(stayed.mean() - rested.mean()), abs=1e-3)
    assert found["error"] == pytest.approx(math.sqrt(float(stayed.var()) / 49 + float(rested.var()) / 50), rel=1e-2)
    assert (len(absence.coming), len(absence.away), absence.asks) == (0, 0, False)


def test_a_cost_counts_where_it_is_large_and_sure():
    absence = Absence()
    assert not absence.by_heart
    for cost, error, by_heart in ((COST + 0.01, 0.001, True), (COST - 0.01, 0.001, False), (0.1, 0.1 / SURE, False)):
        absence.found.append({"cost": cost, "error": error, "epoch": 4.0})
        assert absence.by_heart == by_heart


def test_no_trial_where_it_ends_too_late_or_something_was_never_seen_or_there_is_little_to_draw_from():
    for left, begins in ((500 * (REST + USE) + 500, True), (500 * (REST + USE) + 499, False)):
        absence = Absence()
        turn(absence, visited(500), left=left, total=5000)
        assert bool(len(absence.away)) == begins
    ledger = visited(500)
    ledger.visits[3] = 0
    turn(absence := Absence(), ledger, left=5000)
    assert not len(absence.away)
    for number, begins in ((10 * FEWEST, True), (10 * FEWEST - 1, False)):
        turn(absence := Absence(), visited(number), left=10 * number)
        assert bool(len(absence.away)) == begins
    turn(absence := Absence(), visited(20 * MOST), left=200 * MOST)
    assert len(absence.staying) == len(absence.resting) == MOST
    free = torch.arange(500) % 2 == 0
    turn(absence := Absence(), visited(500), left=5000, free=free)
    assert bool(free[absence.coming].all())
    assert bool(free[absence.away].all())
    turn(absence := Absence(), visited(500), left=5000, free=torch.arange(500) < 99)
    assert not len(absence.away)


def test_a_run_that_was_made_shorter_ends_in_the_middle_of_a_trial():
    for left in (100, 250):
        learn(reviewer := made(tail=0.0), 0.3, rounds=3)
        method = reviewer.method
        reviewer.ledger.recall[::2] = 0.5
        chosen = method.choose(reviewer.ledger, moment(EXAMPLES, left=left, total=20_000)).indices
        assert method.absence.asks
        assert len(chosen) == left  # of a round that wants more
        assert len(set(chosen.tolist()) & set(method.absence.coming.tolist())) == min(left, 200)  # which go first


def test_suspects_are_not_shown_because_of_a_trial():
    reviewer = made(suspend=True, forgetting=False)
    learn(reviewer, 0.3, rounds=6)
    ledger = reviewer.ledger
    wrong = torch.arange(EXAMPLES) % 10 == 0
    ledger.visits[:] = 9
    ledger.recall[:], ledger.smoothed[:], ledger.streak[:], ledger.lapses[:] = 0.9, 0.1, 3, 0
    ledger.recall[wrong], ledger.smoothed[wrong], ledger.streak[wrong] = 0.01, 6.0, 0
    absence = reviewer.method.absence
    absence.found.append({"cost": 0.5, "error": 0.01, "epoch": 4.0})
    absence._end()
    for _ in range(4):
        chosen = reviewer.method.choose(ledger, moment(EXAMPLES, left=9000, total=12_000)).indices
        assert wrong[chosen].sum() < 0.3 * wrong.sum()
        assert not bool(wrong[absence.staying].any() or wrong[absence.resting].any())
        assert (~wrong)[chosen].sum() > 0.85 * (~wrong).sum()


def test_a_data_set_that_grows_ends_the_trial_and_what_was_found():
    reviewer = made()
    learn(reviewer, 0.3, rounds=24)
    absence = reviewer.method.absence
    assert absence.by_heart
    reviewer.grow(EXAMPLES + 200)
    learn(reviewer, 0.3)
    assert not absence.found
    assert not len(absence.away)


def test_a_data_set_that_grows_after_its_first_round_is_no_other_than_one_that_grows_later():
    absence = (reviewer := made()).method.absence
    learn(reviewer, 0.3, rounds=1)
    reviewer.grow(EXAMPLES + 200)
    learn(reviewer, 0.3)
    assert not absence.found
    assert not len(absence.away)


def test_the_trial_goes_on_where_a_run_was_stopped():
    whole = made()
    learn(whole, 0.3, rounds=3)
    other = made()
    other.load_state_dict(whole.state_dict())
    assert torch.equal(other.method.absence.resting, whole.method.absence.resting)
    assert len(other.method.absence.resting)
    first, second = learn(whole, 0.3), learn(other, 0.3)
    assert all(torch.equal(one, two) for one, two in zip(first[0], second[0], strict=True))
    assert other.method.absence.found == whole.method.absence.found != []
    older = dict(whole.state_dict(), method={})  # of a version that knew no trials
    (fresh := made()).load_state_dict(older)
    assert fresh.method.absence.found == []


def test_without_absence_nothing_is_tried_and_a_fixed_saving_cannot():
    reviewer = made(absence=False)
    learn_plainly(reviewer)
    assert "absence" not in told_by(reviewer)
    assert reviewer.state_dict()["method"] == {}
    assert made(save=0.5).method.absence is None
    with pytest.raises(UserError, match="absence needs rounds that may be of any size") as refused:
        made(save=0.5, absence=True)
    assert "--review.save auto" in refused.value.then
    with pytest.raises(UserError, match="absence cannot be 'yes'") as refused:
        made(absence="yes")
    assert refused.value.allowed == "auto, true or false"


def test_the_summary_tells_what_absence_cost():
    learn(reviewer := made(), 0.3)
    told = told_by(reviewer)
    assert told["by_heart"]
    assert [one["cost"] for one in told["absence"]] == pytest.approx(
        [one["cost"] for one in reviewer.method.absence.found], abs=1e-5
    )


def learn_plainly(reviewer):
    while not reviewer.finished:
        for batch in reviewer.batches():
            reviewer.grade(torch.full((len(batch),), 0.05))


def told_by(reviewer):
    return summarise(reviewer, labels=None, classes=(), name=str)


def visited(number):
    ledger = Ledger(number)
    ledger.visits[:] = 1
    return ledger


def moment(quota, left, total):
    rng = torch.Generator().manual_seed(0)
    return Moment(1, quota, int(left), 1.0 - int(left) / total, 1.0, BATCH, rng)


def turn(absence, ledger, left, total=5000, free=None):
    free = torch.ones(len(ledger), dtype=torch.bool) if free is None else free
    absence.turn(ledger, moment(len(ledger), left, total), free, tail=0.1)


def observed(indices, grades):
    zeros = torch.zeros(len(indices))
    return Observed(indices, zeros, grades, zeros, torch.zeros(len(indices), dtype=torch.int64))
