"""Repeat before Forgetting, Leitner's boxes, due dates and forgotten pools, against their descriptions coded again."""

import math

import pytest
import torch

from engram.errors import UserError
from engram.review.ledger import Ledger
from engram.review.method import Method
from engram.review.methods import build
from engram.review.methods._rounds import soonest
from engram.review.methods.due import Due
from engram.review.methods.repeat_before_forgetting import KERNELS, delays, fitted
from engram.review.reviewer import Reviewer
from rounds import counted, ledger_of, moment, observed

RECALL = {
    "gaussian": lambda x, tau: math.exp(-tau * x**2),
    "laplace": lambda x, tau: math.exp(-tau * x),
    "linear": lambda x, tau: 1 - tau * x,
    "cosine": lambda x, tau: 0.5 * math.cos(tau * math.pi * x) + 0.5,
    "quadratic": lambda x, tau: 1 - tau * x**2,
    "secant": lambda x, tau: 2 / (math.exp(-tau * x) + math.exp(tau * x)),
}
"""The paper's table of kernels, x = loss times delay over strength."""


def test_the_soonest_come_in_random_order_and_equal_ones_at_random():
    wait = torch.tensor([3.0, 3.0, 0.0, -1.0, 3.0, -2.0])
    counts, places = torch.zeros(6), torch.zeros(6)
    for seed in range(600):
        chosen = soonest(wait, 4, moment(seed=seed))
        counts[chosen] += 1 / 600
        places[chosen] += torch.arange(4) / 600
    assert counts.tolist() == pytest.approx([1 / 3, 1 / 3, 1, 1, 1 / 3, 1], abs=0.08)
    assert (places / counts).tolist() == pytest.approx([1.5] * 6, abs=0.3)
    assert len(soonest(wait, 9, moment())) == 6


def test_there_are_six_kernels():
    assert set(KERNELS) == set(RECALL)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("eta", [0.5, 0.8])
def test_recall_has_fallen_to_eta_after_the_delay(kernel, eta):
    losses, strength, tau = [0.1, 0.7, 2.0], 0.8, 0.3
    for loss, delay in zip(losses, delays(kernel, torch.tensor(losses), strength, tau, eta).tolist(), strict=True):
        assert RECALL[kernel](loss * delay / strength, tau) == pytest.approx(eta, rel=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_tau_gives_the_accuracies_after_one_round(kernel):
    strength = 0.75
    tau = fitted(kernel, torch.tensor([0.4, 0.4]), torch.tensor([0.7, 0.7]), strength)
    assert RECALL[kernel](0.4 / strength, tau) == pytest.approx(0.7, rel=1e-5)
    capped = fitted(kernel, torch.tensor([0.4]), torch.tensor([1.0]), strength)
    assert RECALL[kernel](0.4 / strength, capped) == pytest.approx(0.9, rel=1e-5)
    assert fitted(kernel, torch.zeros(2), torch.ones(2), strength) == 0
    assert fitted(kernel, torch.zeros(0), torch.zeros(0), 0.0) == 0
    assert delays(kernel, torch.tensor([-0.1, 0.0]), strength, tau, 0.5).tolist() == [math.inf] * 2


def test_tau_is_a_ratio_of_sums():
    losses, accuracies = torch.tensor([0.2, 0.6]), torch.tensor([0.8, 0.55])
    tau = fitted("laplace", losses, accuracies, 0.5)
    assert tau == pytest.approx((-math.log(0.8) - math.log(0.55)) / (0.4 + 1.2))
    tau = fitted("gaussian", losses, accuracies, 0.5)
    assert tau == pytest.approx((-math.log(0.8) - math.log(0.55)) / (0.4**2 + 1.2**2))


def test_an_example_rests_as_long_as_the_kernel_says():
    method, ledger = build("repeat_before_forgetting"), Ledger(5)
    assert sorted(method.choose(ledger, moment(round_=0)).indices.tolist()) == [0, 1, 2, 3, 4]
    # 0 to 3 recalled with their grades capped at 0.9, 4 not: tau = 4 arccos(0.8) / pi / (sum of losses / strength)
    losses, grades = [0.05, 0.1, 0.2, 0.4, 3.0], [0.95, 0.91, 0.9, 0.9, 0.05]
    method.fold(observed([0, 1, 2, 3, 4], losses, grades), ledger)
    strength = sum(grades) / 5
    assert method.tau == pytest.approx(4 * math.acos(0.8) / math.pi / (0.75 / strength))
    # (arccos(0) / pi) s / (d tau) = 0.4577 / d: 9.2, 4.6, 2.3, 1.1 rounds, each to the next whole one
    for round_ in range(1, 11):
        chosen = method.choose(ledger, moment(round_=round_, batch_size=1)).indices.tolist()
        # nobody learns anything here: those that are chosen keep their wait, and the round goes on
        method.round += 1
        due = {index for index, wait in zip(range(5), (10, 5, 3, 2, 1), strict=True) if wait <= round_}
        assert set(chosen) == due


def test_no_round_is_less_than_a_batch_and_the_next_ones_fill_it():
    method, ledger = build("repeat_before_forgetting"), Ledger(4)
    method.choose(ledger, moment(round_=0))
    method.fold(observed([0, 1, 2, 3], [0.02, 0.05, 0.03, 0.04], [0.9] * 4), ledger)
    assert sorted(method.choose(ledger, moment(batch_size=2)).indices.tolist()) == [1, 3]


def test_nothing_recalled_means_everything_again_and_tau_stays():
    method, ledger = build("repeat_before_forgetting"), Ledger(4)
    method.tau = 0.25
    method.fold(observed([0, 1, 2, 3], [3.0] * 4, [0.49] * 4), ledger)
    assert method.tau == 0.25
    assert len(method.choose(ledger, moment()).indices) == 4
    method.fold(observed([0, 1, 2, 3], [0.0] * 4, [1.0] * 4), ledger)
    assert method.tau == 0.25
    assert method.due.tolist() == [1 + 2**20] * 4


def test_a_recalled_example_rests_at_least_a_round_and_the_last_pass_has_everything():
    method, ledger = build("repeat_before_forgetting"), Ledger(4)
    method.fold(observed([0, 1, 2, 3], [0.001, 9.0, 0.001, 0.001], [0.95, 0.5, 0.499, 0.95]), ledger)
    assert method.due.tolist()[1:3] == [1, 1]
    assert min(method.due[[0, 3]].tolist()) > 100
    assert sorted(method.choose(ledger, moment(left=8)).indices.tolist()) == [1, 2]
    assert sorted(method.choose(ledger, moment(left=4)).indices.tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("settings", [{}, {"eta": 0.8}, {"eta": 0.8, "kernel": "gaussian"}])
@pytest.mark.parametrize(("examples", "batch_size"), [(60, 6), (61, 6), (65, 6), (300, 1), (1000, 10), (1438, 32)])
@pytest.mark.parametrize("drop_last", [True, False])
def test_the_last_pass_of_repeat_before_forgetting_is_whole(settings, examples, batch_size, drop_last):
    for epochs in (1.0, 1.3, 2.0, 2.5, 3.1, 4.7, 9.0):
        method = build("repeat_before_forgetting", settings)
        reviewer = Reviewer(examples, method, batch_size=batch_size, epochs=epochs, drop_last=drop_last)
        hardness = 0.5 + torch.rand(examples, generator=torch.Generator().manual_seed(1))
        while not reviewer.finished:
            batches = reviewer.batches()
            for batch in batches:
                reviewer.observe(3 * hardness[batch] * (1 - reviewer.steps / reviewer.total_steps) ** 2)
        last = torch.cat(batches)
        assert len(torch.unique(last)) == len(last)
        assert len(last) >= examples // batch_size * batch_size


def test_no_round_before_the_last_pass_is_too_little_to_be_one():
    method, ledger = build("repeat_before_forgetting"), Ledger(100)  # a round has two at least

    def chosen(due: int, before: int) -> int:
        method.due = (torch.arange(100) >= due).long() * 9
        return len(method.choose(ledger, moment(left=before + 100, batch_size=1)).indices)

    assert [chosen(40, before) for before in (30, 40, 41, 42, 99)] == [30, 40, 41, 40, 40]
    assert [chosen(100, before) for before in (99, 100, 101, 102)] == [99, 100, 99, 100]


def leitner_by_hand(rounds: int, boxes: int, answers) -> list[list[int]]:
    """Boxes as lists, an example at a time; which are reviewed in each round."""
    box, seen = dict.fromkeys(range(6), 0), []
    for round_ in range(rounds):
        turn = [index for index in range(6) if round_ % 2 ** box[index] == 0]
        seen.append(turn)
        for index in turn:
            box[index] = min(box[index] + 1, boxes - 1) if answers(round_, index) else 0
    return seen


@pytest.mark.parametrize("boxes", [1, 3, 5])
def test_leitners_boxes_as_coded_with_lists(boxes):
    def answers(round_: int, index: int) -> bool:
        return (round_ * 7 + index * index) % 5 != 0

    method, ledger = build("leitner", {"boxes": boxes}), Ledger(6)
    for round_, expected in enumerate(leitner_by_hand(40, boxes, answers)):
        indices = method.choose(ledger, moment(round_=round_, seed=round_, batch_size=1)).indices.tolist()
        if expected:
            assert sorted(indices) == expected
        else:
            assert len(indices) == 1
            continue
        grades = [0.5 if answers(round_, index) else 0.49 for index in indices]
        method.fold(observed(indices, [1.0] * len(indices), grades), ledger)


def test_leitner_takes_those_whose_turn_is_next():
    method, ledger = build("leitner"), Ledger(4)
    method.box = torch.tensor([4, 2, 3, 4], dtype=torch.uint8)
    assert sorted(method.choose(ledger, moment(round_=3, batch_size=1)).indices.tolist()) == [1]
    assert sorted(method.choose(ledger, moment(round_=3, batch_size=2)).indices.tolist()) == [1, 2]
    ledger.grow(5)
    assert sorted(method.choose(ledger, moment(round_=3, batch_size=1)).indices.tolist()) == [4]


def test_leitners_echo_is_gone_with_jitter():
    def sizes(jitter: float) -> list[int]:
        method, ledger = build("leitner", {"jitter": jitter}), Ledger(1600)
        result = []
        for round_ in range(64):
            indices = method.choose(ledger, moment(round_=round_, seed=round_)).indices.tolist()
            method.fold(observed(indices, [0.1] * len(indices), [1.0] * len(indices)), ledger)
            result.append(len(indices))
        return result[32:]

    assert max(sizes(0)) == 1600
    assert sorted(sizes(0))[-3] == 32
    assert 60 < min(sizes(1.0)) <= max(sizes(1.0)) < 140  # a sixteenth of them each round, 100
    assert 1000 > max(sizes(0.25)) > 300  # shifts of 0 to 3


def test_leitner_does_not_change_what_is_already_shifted():
    method, ledger = build("leitner", {"jitter": 1.0}), Ledger(10)
    method.choose(ledger, moment(round_=0))
    shift = method.shift.tolist()
    assert max(shift) > 0
    method.choose(ledger, moment(round_=1, seed=1))
    ledger.grow(12)
    method.choose(ledger, moment(round_=2, seed=2))
    assert method.shift.tolist()[:10] == shift


@pytest.mark.parametrize("name", ["due", "sm2_due", "fsrs"])
def test_an_example_is_due_when_its_interval_is_over(name):
    model = {"due": "exponential", "sm2_due": "sm2", "fsrs": "fsrs"}[name]
    method = build(name, {"fuzz": 0.0})
    assert isinstance(method, Due)
    assert method.memory is not None
    assert method.memory.name == model
    strengths = torch.tensor([1.0, 2.0, 3.0, 4.0])
    ledger = ledger_of([1.0] * 4, strength=strengths.tolist(), difficulty=[1.0] * 4, last=[2.0] * 4)
    intervals = method.memory.interval(0.9, strengths, torch.ones(4)).tolist()
    assert intervals == sorted(intervals)
    clock = 2.0 + (intervals[1] + intervals[2]) / 2
    assert sorted(method.choose(ledger, moment(clock=clock, batch_size=1)).indices.tolist()) == [0, 1]
    assert sorted(method.choose(ledger, moment(clock=clock, batch_size=3)).indices.tolist()) == [0, 1, 2]
    often = build(name, {"fuzz": 0.0, "retention": 0.99})
    assert len(often.choose(ledger, moment(clock=clock, batch_size=1)).indices) == 4


def test_due_dates_follow_the_fitted_curve():
    ledger = ledger_of([1.0, 1.0], strength=[1.0, 0.1], difficulty=[1.0, 1.0])
    method = build("fsrs", {"fuzz": 0.0})
    before = float(method.memory.interval(0.9, ledger.strength, ledger.difficulty)[0])
    method.memory.parameters["stretch"] *= 4
    after = float(method.memory.interval(0.9, ledger.strength, ledger.difficulty)[0])
    assert after > 2 * before
    assert method.choose(ledger, moment(clock=(before + after) / 2, batch_size=1)).indices.tolist() == [1]


def test_fuzz_moves_an_interval_by_up_to_a_quarter_until_the_next_visit():
    ledger = ledger_of([1.0] * 4000, strength=[1.0] * 4000, difficulty=[1.0] * 4000)
    method = build("due")
    interval = float(method.memory.interval(0.9, ledger.strength[:1], ledger.difficulty[:1]))
    method.choose(ledger, moment(clock=0.0, batch_size=4000))  # the visit that draws the fuzz
    fuzz = method.fuzz_of.clone()
    assert fuzz.min() >= -0.25
    assert fuzz.max() < 0.25
    assert abs(float(fuzz.mean())) < 0.01
    assert float(fuzz.std()) == pytest.approx(0.25 / 3**0.5, rel=0.05)
    chosen = method.choose(ledger, moment(clock=0.9 * interval, seed=1)).indices
    assert set(chosen.tolist()) == set((fuzz <= -0.1).nonzero().flatten().tolist())
    others = torch.ones(4000, dtype=torch.bool)
    others[chosen] = False
    assert torch.equal(method.fuzz_of[others], fuzz[others])
    assert not torch.isin(method.fuzz_of[chosen], fuzz[chosen]).any()


def test_new_examples_are_due_and_weights_are_the_rounds_since():
    method = build("due", {"weigh": True})
    ledger = ledger_of([1.0] * 3, strength=[1.0] * 3, difficulty=[1.0] * 3)
    for visited in ([0, 1, 2], [0], [0, 1]):
        method.fold(observed(visited, [1.0] * len(visited), [1.0] * len(visited)), ledger)
    ledger.grow(4)
    ledger.last[0] = 100.0
    round_ = method.choose(ledger, moment(clock=100.0))
    weights = dict(zip(round_.indices.tolist(), round_.weights.tolist(), strict=True))
    assert weights == {1: 1.0, 2: 3.0, 3: 1.0}
    assert round_.normalise
    assert build("due").choose(ledger, moment()).weights is None


def test_the_forgotten_of_a_pool_are_those_the_curve_predicts():
    # known alike on average, strong in different degrees, seen at the same time
    ledger = ledger_of([0.1] * 40, strength=[1.0 + index for index in range(40)], difficulty=[5.0] * 40)
    ledger.recall.copy_(torch.tensor([0.9, 0.3] * 20))
    method = build("pool_then_forgotten", {"top": 0.5})
    chosen = method.choose(ledger, moment(20, clock=4.0)).indices  # twice 20 is everything
    assert sorted(chosen.tolist()) == list(range(1, 40, 2))  # less known than the others
    thirty = method.choose(ledger, moment(30, clock=4.0)).indices
    assert sorted(thirty.tolist()) == sorted([*range(1, 40, 2), *range(0, 20, 2)])  # then the weaker ones
    assert thirty.tolist() != sorted(thirty.tolist())


def test_a_pool_begins_with_everything_and_takes_equal_ones_at_random():
    method = build("pool_then_forgotten")
    assert method.plan(10, 33) == [10, 5, 5, 5, 5, 3]
    assert sorted(method.choose(Ledger(6), moment(6)).indices.tolist()) == list(range(6))
    ledger = ledger_of([1.0] * 10, strength=[1.0] * 10, difficulty=[5.0] * 10)
    assert counted(method, ledger, 3) == pytest.approx([0.3] * 10, abs=0.06)


@pytest.mark.parametrize("name", ["repeat_before_forgetting", "leitner", "due"])
def test_at_least_a_fiftieth_of_the_examples_is_visited(name):
    method: Method = build(name)
    ledger = ledger_of([0.1] * 500, strength=[1e5] * 500)
    method.choose(ledger, moment(round_=0, clock=0.0))
    everyone = list(range(500))
    for _ in range(6):
        method.fold(observed(everyone, [0.001] * 499 + [9.0], [1.0] * 500), ledger)
    assert len(method.choose(ledger, moment(round_=7)).indices) == 10
    assert method.least_share == 0.02


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("repeat_before_forgetting", {"kernel": "cosin"}),
        ("repeat_before_forgetting", {"eta": 1.0}),
        ("leitner", {"boxes": 0}),
        ("leitner", {"jitter": -1}),
        ("due", {"retention": 1.0}),
        ("fsrs", {"fuzz": 2}),
        ("sm2_due", {"fuzz": "much"}),
        ("pool_then_forgotten", {"save": 1}),
        ("pool_then_forgotten", {"top": 0}),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name, settings):
    with pytest.raises(UserError) as caught:
        build(name, settings)
    assert f"{name}: {next(iter(settings))} cannot be" in str(caught.value)


@pytest.mark.parametrize("name", ["due", "fsrs", "sm2_due"])
def test_no_interval_is_longer_than_the_longest(name):
    ledger = ledger_of([1.0, 1.0], strength=[1e4, 1e4], difficulty=[1.0, 1.0], last=[0.0, 2.0])
    method = build(name, {"fuzz": 0.0, "longest": 5.0})
    assert method.choose(ledger, moment(clock=5.5, batch_size=1)).indices.tolist() == [0]
    assert len(method.choose(ledger, moment(clock=7.5, batch_size=1)).indices) == 2
    assert len(build(name).choose(ledger, moment(clock=15.0, batch_size=1)).indices) == 1
    assert len(build(name).choose(ledger, moment(clock=18.5, batch_size=1)).indices) == 2
