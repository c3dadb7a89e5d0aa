"""The course of a review: rounds end where they must, and nothing is lost when it is stopped."""

import io
import random

import numpy as np
import pytest
import torch

from engram.errors import UserError
from engram.review import methods
from engram.review.method import Method, Round, even, whole_passes
from engram.review.reviewer import Reviewer, generator


class Half(Method):
    """Takes the first half, weighted 1 and 3 in turn; rounds are not planned."""

    least_share = 0.25

    def __init__(self):
        self.moments, self.folded = [], []

    def choose(self, ledger, moment):
        self.moments.append(moment)
        indices = torch.arange(len(ledger) // 2)
        return Round(indices, torch.where(indices % 2 == 0, 1.0, 3.0))

    def fold(self, observed, ledger):
        self.folded.append((observed, ledger.visits.clone()))


def made(method="shuffle", examples=20, batch_size=6, epochs=2.0, **more):
    method = methods.build(method) if isinstance(method, str) else method
    return Reviewer(examples, method, batch_size=batch_size, epochs=epochs, **more)


def losses_of(indices, step):
    """Losses that depend on example and time, so that what is observed matters."""
    return torch.sin(indices.float() * 1.7 + step).abs() * 2


def drive(reviewer, steps=10**9):
    """Grade up to so many batches; the indices that came."""
    came = []
    while not reviewer.finished and steps > 0:
        for batch in reviewer.batches():
            if steps <= 0:
                break
            reviewer.grade(losses_of(batch, reviewer.steps), lr=1.0 / (1 + reviewer.steps))
            came.append(batch)
            steps -= 1
    return came


def test_plain_shuffling_is_a_permutation_a_round_that_seed_and_round_decide():
    reviewer = made(epochs=2.5, seed=3)
    assert (reviewer.total_steps, reviewer.rounds, reviewer.steps_per_pass) == (8, 3, 3)
    came = drive(reviewer)
    assert [len(batch) for batch in came] == [6] * 8
    for number in range(3):
        order = torch.randperm(20, generator=generator(3, number))
        mine = torch.cat(came[3 * number : 3 * number + 3])
        assert torch.equal(mine, order[: len(mine)])
    assert reviewer.finished
    assert reviewer.batches() == []


def test_the_last_examples_of_a_pass_come_too_where_asked():
    reviewer = made(drop_last=False)
    assert reviewer.total_steps == 8
    assert [len(batch) for batch in drive(reviewer)] == [6, 6, 6, 2] * 2
    assert reviewer.ledger.visits.tolist() == [2] * 20


def test_weights_have_a_mean_of_one_and_go_with_their_examples():
    reviewer = made(Half())
    batch = reviewer.batches()[0]
    assert batch.tolist() == [0, 1, 2, 3, 4, 5]  # 10 are chosen; what is too little for a batch waits
    losses = torch.ones(6, requires_grad=True)
    assert reviewer.weigh(losses.detach()).tolist() == [0.5, 1.5] * 3
    assert reviewer.weigh(losses.detach()[2:5], slice(2, 5)).tolist() == [0.5, 1.5, 0.5]
    reviewer.grade(losses).backward()
    assert losses.grad.tolist() == pytest.approx([0.5 / 6, 1.5 / 6] * 3)


def test_a_method_is_told_the_moment_and_what_was_observed():
    method = Half()
    reviewer = made(method, epochs=1, labels=torch.arange(20) % 2)
    drive(reviewer)
    first, second = method.moments[:2]
    assert (first.round, first.left, first.spent, first.clock, first.batch_size) == (0, 18, 0.0, 0.0, 6)
    assert (second.round, second.left, second.batch_size) == (1, 12, 6)
    assert second.spent == pytest.approx(1 / 3)
    assert second.clock == pytest.approx(6 / 20)
    assert torch.equal(first.labels, torch.arange(20) % 2)
    observed, visits = method.folded[0]
    assert observed.indices.tolist() == [0, 1, 2, 3, 4, 5]
    assert visits.tolist() == [1] * 6 + [0] * 14
    assert len(method.folded) == 3


def test_rounds_smaller_than_the_least_share_are_filled_up():
    class Few(Half):
        least_share = 0.6

        def choose(self, ledger, moment):
            return Round(torch.arange(3), torch.full((3,), 2.0))

    reviewer = made(Few(), batch_size=4)
    order = torch.cat(reviewer.batches())
    assert len(order) == len(set(order.tolist())) == 12
    assert {0, 1, 2} < set(order.tolist())
    assert set(order[:3].tolist()) != {0, 1, 2}  # mixed
    assert float(reviewer.weights.mean()) == pytest.approx(1)
    twice = reviewer.weights / reviewer.weights.min()
    assert twice.tolist() == pytest.approx([2.0 if index < 3 else 1.0 for index in order.tolist()])


def test_charge_makes_visits_dearer():
    class Dear(Half):
        charge = 4 / 3

    assert made(Dear(), epochs=4).total_steps == 9
    assert made(Half(), epochs=4).total_steps == 12


@pytest.mark.parametrize("clock", ["updates", "steps", "visits"])
def test_the_clock_goes_by_what_was_asked_for(clock):
    reviewer = made(clock=clock, drop_last=False)
    times = []
    for step, rate in enumerate((0.1, 0.2, 0.1, 0.05)):
        times.append(reviewer.clock)
        batch = reviewer.batches()[0]
        reviewer.grade(losses_of(batch, step), lr=rate)
    paces = torch.diff(torch.tensor([*times, reviewer.clock], dtype=torch.float64)).tolist()
    expected = {
        "updates": [0.3, 0.3, 0.15, 0.075],
        "steps": [0.3] * 4,
        "visits": [0.3, 0.3, 0.3, 0.1],
    }
    assert paces == pytest.approx(expected[clock])


def test_without_a_rate_the_clock_goes_by_steps():
    reviewer = made()
    reviewer.grade(losses_of(reviewer.batches()[0], 0))
    assert reviewer.clock == pytest.approx(0.3)


@pytest.mark.parametrize("method", ["shuffle", "forgetting_curve"])
@pytest.mark.parametrize("stop", [1, 4, 5, 9])
def test_stopped_anywhere_it_goes_on_as_if_it_had_not(method, stop):
    whole = made(method, examples=40, epochs=4, seed=1)
    expected = drive(whole)
    first = made(method, examples=40, epochs=4, seed=1)
    begun = drive(first, stop)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = made(method, examples=40, epochs=4, seed=1)
    second.load_state_dict(torch.load(file, weights_only=True))
    came = begun + drive(second)
    assert [batch.tolist() for batch in came] == [batch.tolist() for batch in expected]
    for name, column in whole.ledger.state_dict().items():
        assert torch.equal(column, getattr(second.ledger, name)), name
    assert (whole.clock, whole.history) == (second.clock, second.history)
    assert torch.equal(whole.tally, second.tally)


@pytest.mark.parametrize("method", ["shuffle", "forgetting_curve", "infobatch"])
@pytest.mark.parametrize(("epochs", "more"), [(2, 5), (5, 3)])
def test_a_run_may_be_made_longer_or_shorter(method, epochs, more):
    first = made(method, examples=40, epochs=epochs, seed=1)
    drive(first, 2 * first.steps_per_pass)
    second = made(method, examples=40, epochs=more, seed=1)
    second.load_state_dict(first.state_dict())
    assert second.steps == 2 * second.steps_per_pass
    drive(second)
    assert second.steps == second.total_steps == more * second.steps_per_pass


def test_another_reviews_state_is_refused_and_changes_nothing():
    saved = made(examples=40, epochs=4)
    drive(saved, 3)
    for other in (
        made(examples=39, epochs=4),
        made("forgetting_curve", examples=40, epochs=4),
        made(examples=40, seed=9),
    ):
        with pytest.raises(UserError, match="state of another review"):
            other.load_state_dict(saved.state_dict())
        assert other.steps == 0
        assert not other.ledger.seen.any()


def test_the_control_sees_other_examples_rows():
    class First(Half):
        least_share = 0.3

        def choose(self, ledger, moment):
            self.visits = ledger.visits.clone()
            return Round(torch.arange(6))

        def fold(self, observed, ledger):
            self.told = observed.indices, ledger.visits.clone()

    told, blind = First(), First()
    plain, permuted = made(told), made(blind, permuted=True)
    drive(plain, 2)
    drive(permuted, 2)
    assert plain.ledger.visits.tolist() == permuted.ledger.visits.tolist() == [2] * 6 + [0] * 14
    assert told.visits.tolist() == [1] * 6 + [0] * 14
    assert blind.visits.tolist() == [int(index < 6) for index in permuted.permutation.tolist()]
    assert blind.visits.tolist() != told.visits.tolist()
    # what it learns by itself belongs to the rows it sees
    rows, visits = blind.told
    assert permuted.permutation[rows].tolist() == [0, 1, 2, 3, 4, 5]
    assert visits[rows].tolist() == [2] * 6
    assert told.told[0].tolist() == [0, 1, 2, 3, 4, 5]


def test_history_says_what_each_round_was():
    reviewer = made("forgetting_curve", examples=60, epochs=4)
    drive(reviewer)
    first, *rest = reviewer.history
    assert (first["round"], first["new"], first["share"]) == (0, 60, 1.0)
    assert "mean_predicted" not in first
    assert all(0 <= row["mean_predicted"] <= 1 and row["log_loss"] > 0 for row in rest)
    assert rest[-1]["linked_log_loss"] < rest[-1]["log_loss"]
    assert sum(row["visits"] for row in reviewer.history) == 240
    # retention is counted from every visit to an example that had been visited before
    assert reviewer.tally[:, :, 0].sum() == 240 - 60
    assert bool((reviewer.tally[:, :, 1] <= reviewer.tally[:, :, 0]).all())


def test_grading_what_did_not_come_is_refused():
    reviewer = made()
    with pytest.raises(UserError, match="no batch to grade"):
        reviewer.grade(torch.ones(6))
    batch = reviewer.batches()[0]
    for losses in (torch.ones(5), torch.ones(6, 1), torch.tensor(1.0)):
        with pytest.raises(UserError, match="the batch has 6 examples"):
            reviewer.grade(losses)
    with pytest.raises(UserError, match="place 2 in the batch is nan"):
        reviewer.grade(torch.tensor([1, 1, float("nan"), 1, 1, 1]))
    assert reviewer.position == 0
    assert torch.equal(reviewer.batches()[0], batch)
    reviewer.skip()
    assert (reviewer.position, reviewer.steps, reviewer.pending) == (1, 1, [])


def test_rows_may_be_of_other_examples():
    reviewer = made()
    batch = reviewer.batches()[0]
    reviewer.observe(torch.ones(6), rows=torch.tensor([7, 7, 1, 2, 3, 4]))
    reviewer.fold()
    assert reviewer.ledger.visits[7] == 1  # once a batch
    assert reviewer.steps == 1
    assert len(batch) == 6


def test_an_example_is_due_by_the_methods_own_memory_and_retention():
    reviewer = made("due", epochs=3)
    drive(reviewer)
    memory, ledger = reviewer.method.memory, reviewer.ledger
    reviewer.method.retention = 0.7
    assert torch.equal(reviewer.due, ledger.last + memory.interval(0.7, ledger.strength, ledger.difficulty))
    assert made("shuffle").due is None


def test_new_examples_are_new():
    reviewer = made("forgetting_curve", examples=12, batch_size=4, epochs=6)
    drive(reviewer, 3)
    reviewer.grow(20)
    after = torch.cat(reviewer.batches())
    assert set(range(12, 20)) & set(after.tolist())
    assert len(reviewer.ledger) == 20


def test_rounds_after_growth_are_the_same_shares_of_more_examples():
    reviewer = made("shuffle", examples=12, batch_size=4, epochs=6)
    drive(reviewer, 6)  # two rounds
    reviewer.grow(24)
    assert reviewer.planned == [3, 3, 6, 6]
    assert reviewer.total_steps == 18
    for _ in range(2):  # whole passes again
        order = torch.cat(batches := reviewer.batches())
        assert order.sort().values.tolist() == list(range(24))
        for batch in batches:
            reviewer.grade(torch.ones(len(batch)))
    assert reviewer.finished


def test_what_came_since_has_half_of_a_round_beside_what_is_known():
    reviewer = made("forgetting_curve", examples=400, batch_size=40, epochs=8)
    drive(reviewer, 10)  # a round
    reviewer.grow(800)
    for left in (200, 0):  # a draw with these chances, so near them
        came = torch.cat(batches := reviewer.batches())
        assert len(came) in (400, 440)  # half of them, as before
        assert int((~reviewer.ledger.seen[came]).sum()) == pytest.approx(200, abs=30)
        for batch in batches:
            reviewer.grade(torch.ones(len(batch)))
        assert int((~reviewer.ledger.seen).sum()) == pytest.approx(left, abs=30)


def test_labels_that_do_not_fit_leave_a_data_set_as_long_as_it_was():
    reviewer = made(examples=20, labels=torch.zeros(20, dtype=torch.int64))
    for labels, words in ((torch.zeros(20), "20 labels for 30"), (torch.full((30,), -2), "least of them -2")):
        with pytest.raises(UserError, match=words):
            reviewer.grow(30, labels)
    assert len(reviewer) == len(reviewer.labels) == 20


def test_nothing_global_is_touched():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    drive(made("forgetting_curve", examples=50, epochs=3, permuted=True))
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert before[2] == random.getstate()


def test_what_cannot_be_reviewed_is_refused():
    with pytest.raises(UserError, match="there is no clock 'step'") as caught:
        made(clock="step")
    assert caught.value.nearest == "steps"
    with pytest.raises(UserError, match="nothing to review"):
        made(epochs=0)
    with pytest.raises(UserError, match="3 labels for 20 examples"):
        made(labels=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(UserError, match="1 labels for 20 examples"):
        made(labels=torch.tensor(3))
    with pytest.raises(UserError, match="labels are torch"):
        made(labels=torch.zeros(20))
    with pytest.raises(UserError, match="labels are a list that is no tensor of numbers"):
        made(labels=["cat"] * 20)
    for epochs in (float("nan"), float("inf"), "2", None):
        with pytest.raises(UserError, match="epochs is"):
            made(epochs=epochs)
    for batch_size in (0, None, "4", True, 2.5):
        with pytest.raises(UserError, match="batch_size is"):
            made(batch_size=batch_size)
    of_numpy = made(batch_size=np.int64(4), epochs=np.float32(2))
    assert of_numpy.total_steps == 10
    made(batch_size=4, epochs=2).load_state_dict(of_numpy.state_dict())


def test_what_is_no_batch_of_losses_is_refused_and_nothing_is_recorded():
    reviewer = made("forgetting_curve", examples=8, batch_size=4, measure="correct")
    reviewer.batches()
    for losses in ([1.0] * 4, 3.0, torch.ones(4, dtype=torch.int64)):
        with pytest.raises(UserError, match="not a tensor of floating-point numbers"):
            reviewer.grade(losses)
    for correct in (torch.ones(3), torch.ones(()), [True] * 4):
        with pytest.raises(UserError, match="correct is of shape"):
            reviewer.grade(torch.ones(4), correct=correct)
    assert reviewer.steps == 0
    assert not reviewer.pending


def test_losses_that_are_not_finite_are_found_at_the_end_of_a_round_where_nobody_waited_for_them():
    reviewer = made("forgetting_curve", examples=8, batch_size=4, epochs=4)
    reviewer.batches()
    reviewer.observe(torch.tensor([1.0, float("nan"), 1.0, 1.0]))  # as a training loop does; grade looks on the CPU
    with pytest.raises(UserError, match="is nan"):
        reviewer.observe(torch.ones(4))
    assert not reviewer.ledger.seen.any()
    reviewer.skip()  # the batch still waits, and training goes on
    assert reviewer.round_is_over
    drive(reviewer)
    assert reviewer.finished
    assert reviewer.ledger.seen.all()


def test_dates_in_place_of_classes_cost_no_memory_by_their_size():
    labels = torch.arange(200) + 1_700_000_000_000
    reviewer = made("forgetting_curve", examples=200, batch_size=20, epochs=8, labels=labels)
    while not reviewer.finished:
        for batch in reviewer.batches():
            reviewer.grade(torch.where(batch % 2 == 0, 0.1, 4.0))
    assert reviewer.ledger.seen.all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16])
def test_labels_may_be_of_any_whole_type(dtype):
    given = torch.tensor([0, 1] * 10).to(dtype)
    reviewer = made(labels=given)
    assert reviewer.labels.dtype == torch.int64
    assert reviewer.labels.tolist() == [0, 1] * 10


@pytest.mark.parametrize(
    ("saved", "loaded", "says"),
    [
        ({"save": 0.5}, {"save": "auto"}, "its save is 0.5, not 'auto'"),
        ({"save": 0.5}, {"save": 0.8}, "its save is 0.5, not 0.8"),
        ({"memory": "power_law"}, {"memory": "fsrs"}, "its memory is 'power_law', not 'fsrs'"),
    ],
)
def test_the_state_of_other_settings_is_refused_and_nothing_changes(saved, loaded, says):
    one, other = (made(methods.build("forgetting_curve", given), epochs=6) for given in (saved, loaded))
    drive(one, 4)
    drive(other, 2)
    before = other.state_dict()
    with pytest.raises(UserError, match=says):
        other.load_state_dict(one.state_dict())
    assert_same(other.state_dict(), before)


@pytest.mark.parametrize(("name", "value"), [("clock", "visits"), ("measure", "correct")])
def test_the_state_of_another_clock_or_measure_is_refused(name, value):
    saved = made("forgetting_curve", **{name: value}).state_dict()
    with pytest.raises(UserError, match=f"its {name} is '{value}'"):
        made("forgetting_curve").load_state_dict(saved)


def test_a_setting_given_as_it_is_by_default_is_no_other_setting():
    saved = made(methods.build("forgetting_curve", {"save": 0.5, "floor": 0.1})).state_dict()
    made("forgetting_curve").load_state_dict(saved)
    for name in ("clock", "measure", "memory", "built"):  # as states were before they told so much
        del saved["settings"][name]
    made("forgetting_curve").load_state_dict(saved)


@pytest.mark.parametrize("name", ["rng", "method", "memory", "history", "tally", "pending", "order"])
def test_a_state_that_is_not_whole_is_refused_and_nothing_changes(name):
    one, other = made("forgetting_curve", epochs=6), made("forgetting_curve", epochs=6)
    drive(one, 5)
    drive(other, 7)
    before, state = other.state_dict(), one.state_dict()
    del state[name]
    with pytest.raises(UserError, match=f"it has no '{name}'"):
        other.load_state_dict(state)
    assert_same(other.state_dict(), before)
    came = drive(other)
    assert len(came) == other.total_steps - 7


def assert_same(one, other):
    """Two states, tensors included."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other or one != one


def test_an_example_that_its_batch_holds_twice_is_one_visit_and_what_came_is_what_was_seen():
    reviewer = made(examples=8, batch_size=4, epochs=2)
    for number, batch in enumerate(reviewer.batches()):
        larger = batch[torch.tensor([0, 0, 2, 2])]  # as of mixed pictures
        reviewer.observe(torch.tensor([1.0, 2.0, 3.0, 4.0]) + number, rows=larger)
        assert reviewer.steps == number + 1
    assert int(reviewer.ledger.visits.sum()) == 4
    assert sorted(reviewer.ledger.loss[reviewer.ledger.seen].tolist()) == [1.0, 2.0, 3.0, 4.0]
    assert int(reviewer.tally.sum()) == 0  # nothing came back after no time
    assert reviewer.history[-1]["share"] == 1.0
    assert reviewer.history[-1]["visits"] == 4


def test_memory_and_link_are_fitted_to_what_was_recalled():
    """Half of the examples are recalled each time, half never: what is believed of both must have moved."""
    reviewer = made(methods.build("forgetting_curve", {"save": 0.0}), examples=40, batch_size=8, epochs=12)
    before = dict(reviewer.method.memory.parameters), reviewer.link.state_dict()
    while not reviewer.finished:
        for batch in reviewer.batches():
            reviewer.grade(torch.where(batch % 2 == 0, 0.01, 5.0))
    assert reviewer.method.memory.parameters != before[0]
    assert reviewer.link.state_dict() != before[1]
    with pytest.raises(UserError, match="labels are torch"):
        made(labels=torch.zeros(20, dtype=torch.bool))
    with pytest.raises(UserError, match="int64, the least of them -1"):
        made(labels=torch.where(torch.arange(20) == 7, -1, 2))
    with pytest.raises(UserError, match="cannot be measured"):
        made(measure="loss")


def test_steps_are_cut_evenly():
    assert even(10, 3) == [3, 3, 4]
    assert even(0, 3) == []
    assert sum(even(101, 7)) == 101
    assert whole_passes(5, 5) == [5]
    assert whole_passes(5, 3) == [3]
