"""Methods that know nothing: a new random part each round, all in turn, or one for ever."""

import pytest
import torch

from engram.errors import UserError
from engram.review.ledger import Ledger
from engram.review.methods import build
from rounds import counted, moment


def test_rs2_goes_through_all_examples_before_any_comes_again():
    method, ledger = build("rs2", {"share": 0.3}), Ledger(10)
    visited = []
    for round_ in range(10):
        chosen = method.choose(ledger, moment(3, round_=round_, seed=round_)).indices.tolist()
        assert len(set(chosen)) == 3
        visited += chosen
    for begin in range(0, 30, 10):
        assert sorted(visited[begin : begin + 10]) == list(range(10))
    assert visited[:10] != visited[10:20] != visited[20:]
    assert visited[:10] != list(range(10))


def test_the_rest_of_a_pass_and_the_start_of_the_next_share_a_round_evenly():
    # 2 of 3 a round: the middle round has the one left over and one of the two others
    shares = torch.zeros(3)
    for seed in range(400):
        method, ledger = build("rs2", {"share": 0.6}), Ledger(3)
        rounds = [method.choose(ledger, moment(2, seed=3 * seed + round_)).indices.tolist() for round_ in range(3)]
        assert sorted(rounds[0] + rounds[1][:1]) == [0, 1, 2]
        assert sorted(rounds[1][1:] + rounds[2]) == [0, 1, 2]
        shares[rounds[1][1]] += 1 / 400
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.1)


def test_rs2_mixes_new_examples_into_the_pass():
    places = []
    for seed in range(200):
        method, ledger = build("rs2"), Ledger(10)
        method.choose(ledger, moment(4, seed=seed))
        ledger.grow(14)
        rest = method.choose(ledger, moment(10, seed=seed + 500)).indices.tolist()
        assert {10, 11, 12, 13} < set(rest)
        assert len(set(rest)) == 10
        places.append(rest.index(10))
    assert 3.5 < sum(places) / 200 < 5.5


@pytest.mark.parametrize(("name", "settings"), [("rs2", {"replacement": True}), ("dynamic_random", {})])
def test_a_new_part_every_round(name, settings):
    method, ledger = build(name, settings), Ledger(10)
    assert counted(method, ledger, 3) == pytest.approx([0.3] * 10, abs=0.06)
    several = [method.choose(ledger, moment(5, seed=seed, round_=seed)).indices.tolist() for seed in range(3)]
    assert len({tuple(sorted(part)) for part in several}) == 3


def test_plans_are_a_share_of_a_pass():
    assert build("rs2").plan(100, 25) == [10, 10, 5]
    assert build("dynamic_random").plan(100, 120) == [50, 50, 20]
    assert build("static_random", {"share": 0.25}).plan(100, 60) == [25, 25, 10]
    for name in ("rs2", "dynamic_random", "static_random"):
        assert build(name).plan(1, 2) == [1, 1]


def test_one_part_for_ever():
    method, ledger = build("static_random"), Ledger(11)
    rounds = [method.choose(ledger, moment(5, seed=seed, round_=seed)).indices.tolist() for seed in range(4)]
    parts = {tuple(sorted(part)) for part in rounds}
    assert len({tuple(part) for part in rounds}) == 4
    assert len(parts) > 1  # 6 of 11 are kept, a round has room for 5
    assert len(set().union(*parts)) == 6
    shorter = method.choose(ledger, moment(3, seed=9)).indices.tolist()
    assert set(shorter) < set().union(*parts)


def test_a_part_that_a_round_needs_more_of_is_rounded_up():
    method = build("static_random", {"share": 0.7})
    assert len(method.choose(Ledger(10), moment(8)).indices) == 8
    assert len(method.choose(Ledger(10), moment(8, seed=1)).indices) == 8


def test_the_part_is_drawn_evenly_and_grows_by_its_share():
    shares = torch.zeros(20)
    for seed in range(400):
        method, ledger = build("static_random"), Ledger(10)
        old = set(method.choose(ledger, moment(5, seed=seed)).indices.tolist())
        ledger.grow(20)
        kept = method.choose(ledger, moment(10, seed=seed + 1000)).indices
        assert old == set(kept[kept < 10].tolist())
        assert (kept >= 10).sum() == 5
        shares[kept] += 1 / 400
    assert shares.tolist() == pytest.approx([0.5] * 20, abs=0.1)


@pytest.mark.parametrize("name", ["rs2", "dynamic_random", "static_random"])
@pytest.mark.parametrize("share", [0, 1.1, -1, "half", None, float("nan")])
def test_shares_out_of_range_are_refused(name, share):
    with pytest.raises(UserError) as caught:
        build(name, {"share": share})
    assert f"{name}: share cannot be" in str(caught.value)
