"""InfoBatch, OrderDP, RePB, SeTa and KAKURENBO against their papers' descriptions, coded again example by example."""

import random
from math import comb

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from engram.errors import UserError
from engram.review.ledger import Ledger
from engram.review.methods import build
from engram.review.methods.seta import grouped
from rounds import counted, ledger_of, moment, observed


def test_infobatch_drops_half_of_what_is_below_the_mean():
    method = build("infobatch")
    ledger = ledger_of([0.0, 1.0, 2.0, 9.0, 1.5, 9.0])  # mean 3.75: four are below, two of them stay
    for seed in range(20):
        round_ = method.choose(ledger, moment(seed=seed))
        assert not round_.normalise
        assert len(round_.indices) == 4
        weights = dict(zip(round_.indices.tolist(), round_.weights.tolist(), strict=True))
        assert len(weights) == 4
        assert weights[3] == weights[5] == 1.0
        assert all(weight == 2.0 for index, weight in weights.items() if index not in (3, 5))
    shares = counted(method, ledger, 6)
    assert shares[3] == shares[5] == 1.0
    assert all(abs(shares[index] - 0.5) < 0.07 for index in (0, 1, 2, 4))  # 4 standard deviations


def test_infobatch_is_unbiased_as_published():
    ledger = ledger_of([float(value) for value in range(100)])
    total = 0.0
    for seed in range(300):
        round_ = build("infobatch").choose(ledger, moment(seed=seed))
        total += float((round_.weights * ledger.loss[round_.indices]).sum()) / 300
    assert total == pytest.approx(4950, rel=0.01)


def test_infobatch_rounds_are_in_random_order():
    ledger = ledger_of([0.0] * 50 + [9.0] * 50)
    indices = build("infobatch").choose(ledger, moment()).indices
    assert (indices < 50).sum() == 25
    assert (indices[:25] < 50).float().mean() < 0.9
    assert (indices[:25] >= 50).float().mean() < 0.9
    assert indices[indices >= 50].tolist() != list(range(50, 100))


def test_infobatch_counts_what_was_never_visited_as_3():
    ledger = ledger_of([0.0, 4.0, 0.0, 0.0], visits=[1, 1, 0, 0])  # mean 2.5
    shares = counted(build("infobatch", {"drop": 1.0}), ledger, 4, 50)
    assert shares == [0.0, 1.0, 1.0, 1.0]
    ledger = ledger_of([0.0, 20.0, 0.0, 0.0], visits=[1, 1, 0, 0])  # mean 6.5: three below, none of them stays
    assert counted(build("infobatch", {"drop": 1.0}), ledger, 4, 50) == [0.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("loss", [0.0, 0.1, 3.0, 1e-7])
def test_infobatch_drops_nothing_when_all_losses_are_equal(loss):
    assert len(build("infobatch").choose(ledger_of([loss] * 1001), moment()).indices) == 1001
    assert len(build("infobatch").choose(Ledger(1001), moment()).indices) == 1001


def test_infobatch_visits_everything_in_the_last_eighth():
    ledger = ledger_of([0.0, 0.0, 0.0, 9.0])
    assert len(build("infobatch").choose(ledger, moment(spent=0.874)).indices) == 2
    last = build("infobatch").choose(ledger, moment(spent=0.875))
    assert sorted(last.indices.tolist()) == [0, 1, 2, 3]
    assert last.weights is None


def test_infobatch_weights_as_its_settings_say():
    ledger = ledger_of([0.0] * 10 + [9.0])
    most = build("infobatch", {"drop": 0.8}).choose(ledger, moment())
    assert sorted(most.weights.tolist()) == pytest.approx([1.0, 5.0])  # 0.2 of 10 in binary is less than 2
    assert build("infobatch", {"drop": 1.0}).choose(ledger, moment()).weights.max() == 10.0  # a tenth stays
    normalised = build("infobatch", {"rescale": "normalised"}).choose(ledger, moment())
    assert normalised.normalise
    assert normalised.weights.max() == 2.0
    assert build("infobatch", {"rescale": "none"}).choose(ledger, moment()).weights is None
    assert build("infobatch", {"drop": 0.25}).least_share == 0.75


def order_statistic(examples: int, pool: int, quota: int, rank: int) -> float:
    """Chance that the example of this rank (0 the hardest) is in the pool with fewer than `quota` harder ones."""
    ways = sum(comb(rank, harder) * comb(examples - 1 - rank, pool - 1 - harder) for harder in range(quota))
    return ways / comb(examples, pool)


@pytest.mark.parametrize("name", ["order_dp", "pool_then_forgotten"])
def test_a_pool_and_its_top_are_chosen_as_order_statistics(name):
    ledger = ledger_of([float(8 - rank) for rank in range(8)], recall=[rank / 8 for rank in range(8)])
    method = build(name, {"top": 0.5})
    shares = counted(method, ledger, 2, 3000, clock=0.0)
    expected = [order_statistic(8, 4, 2, rank) for rank in range(8)]
    assert sum(shares) == pytest.approx(2)
    assert shares == pytest.approx(expected, abs=0.04)


def test_order_dp_counts_what_was_never_visited_as_3():
    ledger = ledger_of([4.0, 2.0, 0.0], visits=[1, 1, 0])
    method = build("order_dp", {"pool": 1.0, "top": 2 / 3})
    assert counted(method, ledger, 2, 20) == [1.0, 0.0, 1.0]
    assert counted(build("order_dp", {"pool": 1.0, "top": 1 / 3}), ledger, 1, 20) == [1.0, 0.0, 0.0]


def test_order_dp_takes_equal_losses_at_random_and_mixes_the_round():
    assert counted(build("order_dp"), Ledger(10), 3) == pytest.approx([0.3] * 10, abs=0.06)
    ledger = ledger_of([float(value) for value in range(100)])
    indices = build("order_dp", {"pool": 1.0}).choose(ledger, moment(60)).indices
    assert sorted(indices.tolist()) == list(range(40, 100))
    assert indices.tolist() != sorted(indices.tolist(), reverse=True)


def test_order_dp_plans_three_tenths_of_a_pass():
    assert build("order_dp").plan(100, 95) == [30, 30, 30, 5]
    assert build("order_dp").plan(1, 2) == [1, 1]


class RePBByHand:
    """The paper's algorithm with sets, an example at a time."""

    def __init__(self, examples: int, rho: float, window: int) -> None:
        self.rho, self.window = rho, window
        self.data = set(range(examples))
        self.everything = set(range(examples))
        self.selected = dict.fromkeys(range(examples), 0)
        self.epochs = 0

    def choose(self, uniform: list[float]) -> dict[int, float]:
        if self.epochs:
            kept = {index for index in self.visited if index in self.above or uniform[index] >= self.rho}
            back = {index for index in self.everything - set(self.visited) if 1 - uniform[index] <= 1 - self.rho}
            self.data = kept | back
        return {index: self.epochs / self.selected[index] if self.epochs else 1.0 for index in self.data}

    def train(self, visited: list[int], losses: list[float], batch_size: int) -> None:
        self.visited, self.above = visited, set()
        size = batch_size * self.window
        for begin in range(0, len(visited), size):
            window = range(begin, min(begin + size, len(visited)))
            mean = sum(losses[place] for place in window) / len(window)
            self.above |= {visited[place] for place in window if losses[place] >= mean}
        self.epochs += 1
        for index in visited:
            self.selected[index] += 1


@pytest.mark.parametrize(("rho", "window"), [(0.5, 1), (0.8, 3)])
def test_repb_as_coded_with_sets(rho, window):
    method, ledger = build("repb", {"rho": rho, "window": window}), Ledger(40)
    twin = RePBByHand(40, rho, window)
    draws = random.Random(1)
    for seed in range(12):
        round_ = method.choose(ledger, moment(seed=seed))
        uniform = torch.rand(40, generator=torch.Generator().manual_seed(seed)).tolist()
        weights = dict(zip(round_.indices.tolist(), round_.weights.tolist(), strict=True))
        assert weights == pytest.approx(twin.choose(uniform))
        assert not round_.normalise
        visited = round_.indices.tolist()
        losses = [float(np.float32(draws.random())) for _ in visited]
        method.fold(observed(visited, losses, [1.0] * len(visited), 4), ledger)
        twin.train(visited, losses, 4)
    assert max(twin.selected.values()) > min(twin.selected.values())


def test_repb_keeps_a_batch_of_equal_losses_and_takes_in_new_examples():
    method, ledger = build("repb"), Ledger(6)
    method.choose(ledger, moment())
    method.fold(observed([0, 1, 2, 3, 4, 5], [0.1] * 6, [1.0] * 6, 3), ledger)
    ledger.grow(8)
    round_ = method.choose(ledger, moment())
    assert sorted(round_.indices.tolist()) == list(range(8))
    assert round_.weights.tolist() == [1.0] * 8


def test_repb_weighs_by_the_rounds_since_an_example_came():
    method, ledger = build("repb", {"rho": 0.99}), Ledger(4)
    method.choose(ledger, moment())
    method.fold(observed([0, 1, 2, 3], [1.0, 0.0, 1.0, 0.0], [1.0] * 4), ledger)
    ledger.grow(6)
    method.fold(observed([0, 2, 4, 4], [1.0, 1.0, 1.0, 1.0], [1.0] * 4), ledger)
    method.fold(observed([0, 5], [1.0, 1.0], [1.0] * 2), ledger)
    method.stays.fill_(True)
    round_ = method.choose(ledger, moment())
    weights = dict(zip(round_.indices.tolist(), round_.weights.tolist(), strict=True))
    assert weights == pytest.approx({0: 1.0, 1: 3.0, 2: 1.5, 3: 3.0, 4: 2.0, 5: 2.0})
    assert build("repb", {"rescale": "none"}).choose(ledger, moment()).weights is None


def test_repb_takes_what_a_round_was_too_short_for_as_not_visited():
    method, ledger = build("repb", {"rho": 0.5}), Ledger(4)
    method.choose(ledger, moment())
    method.fold(observed([0, 1], [1.0, 1.0], [1.0] * 2), ledger)  # all four were chosen, a batch of two was left
    assert counted(method, ledger, 10**6) == pytest.approx([1, 1, 0.5, 0.5], abs=0.06)
    method.fold(observed([0, 1], [1.0, 1.0], [1.0] * 2), ledger)
    method.stays.fill_(True)
    assert method.choose(ledger, moment()).weights.tolist() == [1.0] * 4  # nothing to make up for yet
    assert build("repb", {"rescale": "normalised"}).choose(ledger, moment()).normalise
    assert build("repb", {"rho": 0.6}).least_share == pytest.approx(0.2)


def test_one_axis_k_means_is_as_good_as_scikit_learns():
    values = torch.from_numpy(np.random.default_rng(0).exponential(size=500)).float()

    def inertia(labels: np.ndarray) -> float:
        groups = [values[torch.from_numpy(labels == group)].double() for group in np.unique(labels)]
        return sum(float(((group - group.mean()) ** 2).sum()) for group in groups)

    ours = grouped(values, 5).numpy()
    theirs = KMeans(5, n_init=20, random_state=0).fit(values[:, None].numpy()).labels_
    assert inertia(ours) < 1.05 * inertia(theirs)
    ordered = ours[values.argsort().numpy()]
    assert (np.diff(ordered) >= 0).all()
    assert set(ordered.tolist()) == {0, 1, 2, 3, 4}
    for group in range(4):  # settled: no value is nearer to another group's mean
        middle = (values[ours == group].mean() + values[ours == group + 1].mean()) / 2
        assert values[ours == group].max() <= middle <= values[ours == group + 1].min()


def test_few_distinct_losses_make_fewer_groups():
    assert grouped(torch.tensor([2.0, 1.0, 2.0]), 5).tolist() == [1, 0, 1]
    assert grouped(torch.tensor([7.0] * 6), 3).tolist() == [0, 0, 1, 1, 2, 2]
    assert grouped(torch.tensor([1.0]), 5).tolist() == [0]
    assert grouped(torch.tensor([0.0] * 50 + [1.0, 1.1, 9.0]), 3).tolist() == [0] * 50 + [1, 1, 2]


def test_seta_slides_a_window_from_easy_to_hard():
    clusters = [0.0, 1.0, 2.0, 3.0, 4.0]
    ledger = ledger_of([centre + jitter / 1000 for centre in clusters for jitter in range(20)])
    method = build("seta")

    def groups(round_: int) -> tuple[set[int], int]:
        indices = method.choose(ledger, moment(round_=round_)).indices
        assert len(set(indices.tolist())) == len(indices)
        return set((indices // 20).tolist()), len(indices)

    assert groups(0) == ({0, 1, 2, 3, 4}, 90)
    assert groups(1)[0] == {1, 2, 3, 4}
    assert groups(2)[0] == {0, 1, 2, 3}
    assert groups(3)[0] == {1, 2, 3, 4}
    method = build("seta", {"window": 0.4, "cut": 0.0})
    assert [groups(round_)[0] for round_ in range(1, 5)] == [{1, 2}, {2, 3}, {3, 4}, {0, 1}]
    assert groups(1)[1] == 40
    method = build("seta", {"window": 0.05, "cut": 0.0})
    assert [groups(round_)[0] for round_ in range(1, 4)] == [{1}, {2}, {3}]


def test_seta_cuts_a_tenth_at_random_also_at_the_end():
    ledger = ledger_of([float(value // 4) for value in range(20)])
    first = counted(build("seta"), ledger, 20, round_=0)
    assert first == pytest.approx([0.9] * 20, abs=0.04)
    last = build("seta").choose(ledger, moment(spent=0.875, round_=3)).indices
    assert len(last) == 18
    assert len(build("seta").choose(ledger, moment(spent=0.874, round_=3)).indices) < 18
    assert last.tolist() != sorted(last.tolist())


def test_seta_counts_what_was_never_visited_as_3():
    ledger = ledger_of([0.0, 0.1, 5.0, 5.1, 0.0, 0.0], visits=[1, 1, 1, 1, 0, 0])
    method = build("seta", {"cut": 0.0, "groups": 3, "window": 0.3})
    assert sorted(method.choose(ledger, moment(round_=1)).indices.tolist()) == [4, 5]


def test_kakurenbo_hides_the_lowest_losses_that_are_sure():
    # the lowest three of ten; at loss 0.5 the truth has probability 0.61, which is not enough
    ledger = ledger_of([0.5, 3.0, 0.1, 2.0, 2.5, 0.2, 1.0, 1.1, 1.2, 1.3])
    method = build("kakurenbo")
    assert sorted(method.choose(ledger, moment(spent=0.1)).indices.tolist()) == [0, 1, 3, 4, 6, 7, 8, 9]
    assert method.least_share == 0.7
    sure = build("kakurenbo", {"confidence": 0.6})
    assert sorted(sure.choose(ledger, moment(spent=0.1)).indices.tolist()) == [1, 3, 4, 6, 7, 8, 9]
    later = method.choose(ledger, moment(spent=0.8)).indices  # 0.3 * 0.4 of ten: one
    assert sorted(later.tolist()) == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert later.tolist() != sorted(later.tolist())


def test_kakurenbo_moves_back_at_probability_seven_tenths():
    ledger = ledger_of([0.3566, 0.3567, 9.0, 9.0])  # -ln 0.7 = 0.35667
    method = build("kakurenbo", {"hide": 0.5})
    assert sorted(method.choose(ledger, moment(spent=0.0)).indices.tolist()) == [1, 2, 3]


def test_kakurenbo_hides_nothing_for_two_rounds_in_a_row():
    ledger, method = ledger_of([0.1, 0.2, 5.0, 6.0]), build("kakurenbo", {"hide": 0.5})
    hidden = []
    for round_ in range(4):
        indices = method.choose(ledger, moment(spent=0.0, round_=round_)).indices.tolist()
        hidden.append(sorted(set(range(4)) - set(indices)))
        method.fold(observed(indices, [0.0] * len(indices), [1.0] * len(indices)), ledger)
    assert hidden == [[0, 1], [], [0, 1], []]
    patient = build("kakurenbo", {"hide": 0.5, "longest": 2})
    patient.hidden = torch.tensor([1, 2, 0, 0], dtype=torch.int32)
    assert sorted(patient.choose(ledger, moment(spent=0.0)).indices.tolist()) == [1, 2, 3]


def test_kakurenbo_never_hides_what_was_never_visited_and_breaks_ties_at_random():
    ledger = ledger_of([0.0] * 10, visits=[0] * 5 + [1] * 5)
    shares = counted(build("kakurenbo"), ledger, 10, spent=0.0)
    assert shares[:5] == [1.0] * 5
    assert shares[5:] == pytest.approx([0.4] * 5, abs=0.07)
    assert sorted(build("kakurenbo", {"hide": 0}).choose(ledger, moment()).indices.tolist()) == list(range(10))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("infobatch", {"drop": 1.5}),
        ("infobatch", {"delta": float("nan")}),
        ("infobatch", {"rescale": "publishd"}),
        ("order_dp", {"pool": 0}),
        ("order_dp", {"top": 0}),
        ("repb", {"rho": 1}),
        ("repb", {"window": 0}),
        ("seta", {"groups": 2.5}),
        ("seta", {"window": 0}),
        ("seta", {"cut": 1}),
        ("kakurenbo", {"hide": 1}),
        ("kakurenbo", {"confidence": 0.4}),
        ("kakurenbo", {"longest": 0}),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name, settings):
    with pytest.raises(UserError) as caught:
        build(name, settings)
    assert f"{name}: {next(iter(settings))} cannot be" in str(caught.value)
