"""What a run tells about its review: every figure counted a second time, by hand or in the plainest way."""

import inspect
import json
import math
import random
from itertools import pairwise

import pytest
import torch

from engram import registry
from engram.review import export, methods, summary
from engram.review.calibration import wilson
from engram.review.ledger import Ledger
from engram.review.method import Method, Round
from engram.review.reviewer import DELAYS, Reviewer


class Listed(Method):
    """Visits the examples it is told, round by round."""

    def __init__(self, *rounds, memory=None):
        self.orders, self.memory = rounds, memory

    def plan(self, steps_per_pass, total_steps):
        return [len(order) for order in self.orders]

    def choose(self, ledger, moment):
        return Round(torch.tensor(self.orders[moment.round]))


def driven(method="forgetting_curve", *, examples=40, epochs=10.0, steps=10**9, seed=0, **more):
    """A reviewer whose losses fall, unevenly, and for every seventh example never."""
    method = methods.build(method) if isinstance(method, str) else method
    reviewer = Reviewer(examples, method, batch_size=min(8, examples), epochs=epochs, seed=seed, **more)
    draw = torch.Generator().manual_seed(seed)
    while not reviewer.finished and steps > 0:
        for batch in reviewer.batches():
            if steps <= 0:
                break
            spent = reviewer.steps / reviewer.total_steps
            losses = 3 * torch.rand(len(batch), generator=draw) * (1 - spent) + 0.02
            reviewer.grade(torch.where(batch % 7 == 3, 4.0, losses), lr=0.1)
            steps -= 1
    if reviewer.finished:
        reviewer.fold()
    return reviewer


def told(reviewer, **more):
    given = {"labels": None, "classes": (), "name": lambda index: f"picture {index}"} | more
    made = summary.summarise(reviewer, **given)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    return made


def rows_of(**columns):
    """A ledger with these columns."""
    ledger = Ledger(len(next(iter(columns.values()))))
    for name, values in columns.items():
        setattr(ledger, name, torch.tensor(values).to(getattr(ledger, name).dtype))
    return ledger


def test_what_was_visited_and_in_which_rounds_is_told():
    reviewer = driven(examples=43)
    made = told(reviewer)
    assert (made["method"], made["permuted"], made["examples"], made["measure"]) == (
        "forgetting_curve",
        False,
        43,
        "probability",
    )
    assert made["told"] == registry.find("review", "forgetting_curve").summary
    assert (made["clock"], made["wanted"], made["steps"], made["total_steps"]) == ("updates", 0.9, 50, 50)
    assert made["seen"] == int((reviewer.ledger.visits > 0).sum())
    assert len(made["rounds"]) == len(reviewer.history) > 5
    for row, given in zip(made["rounds"], reviewer.history, strict=True):
        assert row["epoch"] == pytest.approx(given["steps"] / 5)
        for ours, theirs in {
            "again": "count",
            "linked_predicted": "linked_mean_predicted",
            "log_loss": "log_loss",
        }.items():
            assert row.get(ours) == (pytest.approx(given[theirs], rel=1e-5) if theirs in given else None)
        assert {row[key] for key in ("visits", "share", "loss")} <= {
            float(f"{given[key]:.6g}") for key in ("visits", "share", "loss")
        }
        if "again" in row:
            p = row["recalled_again"]
            worst = -(p * math.log(p) + (1 - p) * math.log1p(-p)) if 0 < p < 1 else 0.0
            assert row["constant"] == pytest.approx(worst, abs=1e-5)


def test_the_method_is_named_as_it_was_asked_for():
    assert told(driven("fsrs"))["method"] == "due"  # the file it is in
    made = told(driven("fsrs"), method="fsrs")
    assert (made["method"], made["told"]) == ("fsrs", registry.find("review", "fsrs").summary)
    own = told(driven(Listed([0, 1]), examples=2, epochs=1))
    assert (own["method"], own["told"]) == ("Listed", "")
    assert told(driven(permuted=True))["permuted"]


@pytest.mark.parametrize("method", registry.names("review"))
def test_every_method_can_be_told(method, tmp_path):
    settings = {}
    if "scores" in inspect.signature(registry.find("review", method).build).parameters:
        export.write(driven().ledger, tmp_path / "ledger.parquet")
        settings["scores"] = str(tmp_path / "ledger.parquet")
    for steps in (0, 5, 7, 10**9):
        reviewer = driven(methods.build(method, settings), steps=steps, epochs=6)
        made = told(reviewer)
        assert (made["memory"] is None) == (reviewer.method.memory is None)
        assert (made["wanted"] is None) == (made["memory"] is None)


def test_nothing_is_changed_and_the_round_that_goes_on_is_left_out():
    reviewer = driven(steps=6)
    before = reviewer.state_dict()
    state, numbers = random.getstate(), torch.get_rng_state()
    made = told(reviewer)
    after = reviewer.state_dict()
    assert all(torch.equal(before["ledger"][name], after["ledger"][name]) for name in before["ledger"])
    assert len(after["pending"]["indices"]) == len(before["pending"]["indices"]) > 0
    assert torch.equal(before["rng"], after["rng"])
    assert (random.getstate(), torch.get_rng_state().tolist()) == (state, numbers.tolist())
    assert [row["visits"] for row in made["rounds"]] == [40]
    assert made["visits"]["mean"] == 1.0


def test_before_the_first_round_there_is_nothing_and_after_it_no_retention():
    nothing = told(driven(steps=0))
    assert (nothing["rounds"], nothing["seen"], nothing["coverage"], nothing["epochs"]) == ([], 0, [], [])
    assert nothing["memory"]["curves"] == []
    assert (nothing["memory"]["strength"], nothing["memory"]["interval"]) == (None, None)
    first = told(driven(steps=6))
    assert (len(first["rounds"]), first["seen"], first["retention"]) == (1, 40, [])
    delays = first["memory"]["curves"][0]["delays"]  # none has occurred: all that are counted
    assert (delays[0], delays[-1]) == pytest.approx((DELAYS[0] / 2**0.5, DELAYS[-1] * 2**0.5), rel=1e-5)
    assert [first[key]["count"] for key in ("never_learned", "forgotten", "hardest")] == [0, 0, 0]


def test_one_example_is_enough():
    for method in ("shuffle", "forgetting_curve"):
        made = told(driven(method, examples=1, epochs=6))
        assert (made["examples"], made["visits"]["counts"]) == (1, [1])


def test_retention_is_counted_by_streak_and_delay():
    tally = torch.zeros(3, len(DELAYS) + 1, 2)
    tally[0, 0] = torch.tensor([4.0, 1.0])
    tally[1, 3] = torch.tensor([50.0, 45.0])
    tally[2, 8] = torch.tensor([7.0, 7.0])
    first, second, third = summary.retention(tally)
    assert (first["streak"], first["least"], first["most"]) == ("0", 0.0, 0.125)
    assert (second["streak"], second["least"], second["most"], second["count"], second["recalled"]) == (
        "1-2",
        0.5,
        1.0,
        50,
        45,
    )
    assert (third["streak"], third["least"], third["most"], third["share"]) == ("3+", 16.0, None, 1.0)
    assert [row["delay"] for row in (first, second, third)] == pytest.approx([0.125 / 2**0.5, 0.5**0.5, 16 * 2**0.5])
    assert (second["low"], second["high"]) == wilson(45, 50)


def test_retention_agrees_with_the_visits():
    orders = [[0, 1, 2, 3], [0, 1], [2, 0], [3, 1, 0, 2]]
    reviewer = Reviewer(4, Listed(*orders), batch_size=1, epochs=3, clock="visits")
    grades = {0: [1, 1, 0, 1], 1: [0, 1, 1], 2: [1, 1, 1], 3: [0, 0]}
    last, streak, expected, clock = {}, {}, {}, 0.0
    for order in orders:
        for example in order:
            assert reviewer.batches()[0].tolist() == [example]
            recalled = grades[example].pop(0)
            if example in last:
                kind = "0" if not streak[example] else "1-2" if streak[example] < 3 else "3+"
                edge = sum(clock - last[example] > one for one in DELAYS)
                count, right = expected.get((kind, edge), (0, 0))
                expected[kind, edge] = (count + 1, right + recalled)
            last[example], clock = clock, clock + 0.25
            streak[example] = streak.get(example, 0) + 1 if recalled else 0
            reviewer.grade(torch.tensor([0.1 if recalled else 2.0]))
    reviewer.fold()
    made = told(reviewer)
    found = {
        (row["streak"], ([*DELAYS, None]).index(row["most"])): (row["count"], row["recalled"])
        for row in made["retention"]
    }
    assert found == expected
    assert made["visits"] == {"least": 2, "most": 4, "mean": 3.0, "edges": [2, 3, 4, 5], "counts": [1, 2, 1]}
    assert made["streaks"] == {"0": 1, "1-2": 2, "3+": 1}
    assert made["unforgotten"] == 2
    assert made["memory"] is None
    assert made["coverage"] == [{"rounds": 1, "share": 1.0}]


def test_coverage_looks_back_round_by_round():
    ledger = rows_of(last=[0.0, 0.9, 1.0, 1.4, 1.5, 0.0], visits=[1, 1, 1, 1, 1, 0])
    history = [{"clock": 1.0}, {"clock": 1.5}, {"clock": 2.0}]
    shares = [row["share"] for row in summary.coverage(history, ledger)]
    assert shares == pytest.approx([1 / 6, 3 / 6, 5 / 6])
    assert [row["rounds"] for row in summary.coverage(history, ledger)] == [1, 2, 3]


def test_an_epoch_has_its_rounds():
    history = [
        {"steps": steps, "share": share} for steps, share in ((10, 1.0), (14, 0.4), (18, 0.4), (20, 0.3), (21, 0.1))
    ]
    assert summary.epochs(history, 10) == [
        {"epoch": 1, "rounds": 1, "whole": 1.0, "least": 1.0, "most": 1.0},
        {"epoch": 2, "rounds": 3, "whole": 1.0, "least": 0.4, "most": 1.0},
        {"epoch": 3, "rounds": 1, "whole": 0.1, "least": 0.1, "most": 0.1},
    ]


def test_a_round_that_runs_into_the_next_epoch_counts_in_both():
    history = [{"steps": steps, "share": share} for steps, share in ((10, 1.0), (16, 0.6), (24, 0.8), (31, 0.7))]
    told = summary.epochs(history, 10)
    assert [(row["epoch"], row["rounds"], row["whole"]) for row in told] == [
        (1, 1, 1),
        (2, 2, 1),
        (3, 2, 1),
        (4, 1, 0.1),
    ]
    assert [row["least"] for row in told] == pytest.approx([1.0, 0.6, 0.6, 0.1])
    assert [row["most"] for row in told] == pytest.approx([1.0, 1.0, 1.0, 0.1])


def test_an_epoch_that_was_counted_has_no_bounds():
    history = [{"steps": steps, "share": 0.5} for steps in (5, 10, 15, 20)]
    told = summary.epochs(history, 10, [math.nan, 0.7])
    assert [(row["least"], row["most"]) for row in told] == [(0.5, 1.0), (0.7, 0.7)]


def test_visits_are_counted_in_bins_of_whole_numbers():
    made = summary.visits(rows_of(visits=[3, 3, 200, 17]))
    assert (made["least"], made["most"], made["mean"]) == (3, 200, 55.75)
    assert len(made["counts"]) <= summary.BINS
    steps = {high - low for low, high in zip(made["edges"], made["edges"][1:], strict=False)}
    assert steps == {7}  # 198 numbers in at most 32 bins
    assert (made["counts"][0], made["counts"][2], made["counts"][-1], sum(made["counts"])) == (2, 1, 1, 4)
    assert made["edges"][-2] <= 200 < made["edges"][-1]


@pytest.mark.parametrize("spread", [0.0, 0.3, 2.0, 5.0, 12.0])
def test_a_histogram_counts_every_value_between_its_edges(spread):
    values = 2 ** (spread * torch.randn(500, generator=torch.Generator().manual_seed(1)).clamp(-1.3, 1.3))
    made = summary.histogram(values)
    kept = values.double().clamp(summary.LEAST, summary.MOST)
    edges = made["edges"]
    assert len(edges) == len(made["counts"]) + 1 <= summary.BINS + 1
    by_hand = [int(((kept >= low * (1 - 1e-9)) & (kept < high * (1 - 1e-9))).sum()) for low, high in pairwise(edges)]
    assert made["counts"] == by_hand
    assert (made["counts"][0] > 0, made["counts"][-1] > 0) == (True, True)
    if spread == 2.0:
        assert edges[1] / edges[0] == pytest.approx(2**0.25)


def test_strengths_and_intervals_have_limits():
    made = summary.histogram(torch.tensor([0.0, 1e9]))
    assert (made["edges"][0], made["edges"][-2]) == (summary.LEAST, summary.MOST)


def test_the_memory_model_is_told_with_its_curve_for_the_median_example():
    reviewer = driven(epochs=6, examples=160)
    reviewer.ledger.streak[:] = torch.arange(160) % 5
    made = told(reviewer)["memory"]
    memory, ledger = reviewer.method.memory, reviewer.ledger
    assert (made["name"], made["fitted"]) == ("fsrs", list(memory.fitted))
    assert made["parameters"] == pytest.approx(memory.parameters, rel=1e-5)
    assert sum(made["strength"]["counts"]) == sum(made["interval"]["counts"]) == 160
    interval = summary.histogram(memory.interval(0.9, ledger.strength, ledger.difficulty)[ledger.seen])
    assert made["interval"]["counts"] == interval["counts"]
    assert made["strength"]["counts"] == summary.histogram(ledger.strength)["counts"]
    occurred = [row["delay"] for row in summary.retention(reviewer.tally)]
    assert [curve["streak"] for curve in made["curves"]] == ["0", "1-2", "3+"]
    for curve, low, high in zip(made["curves"], (0, 1, 3), (0, 2, 99), strict=True):
        chosen = (ledger.streak >= low) & (ledger.streak <= high)
        assert curve["examples"] == int(chosen.sum()) >= summary.SOME
        assert curve["strength"] == pytest.approx(float(ledger.strength[chosen].median()), rel=1e-5)
        assert curve["difficulty"] == pytest.approx(float(ledger.difficulty[chosen].median()), rel=1e-5)
        assert (min(curve["delays"]), max(curve["delays"])) == pytest.approx((min(occurred), max(occurred)), rel=1e-4)
        delay, shown = torch.tensor(curve["delays"]), torch.tensor(curve["recall"])
        numbers = (torch.full_like(delay, curve[key]) for key in ("strength", "difficulty"))
        wanted = reviewer.link.apply(memory.recall(delay, *numbers), torch.full((len(delay),), low))
        assert torch.allclose(shown, wanted, atol=1e-4)


def test_predicted_against_observed_recall_is_of_the_second_half_of_the_rounds():
    reviewer = driven(epochs=6, examples=160)
    rows = [row for row in reviewer.history if "log_loss" in row]
    late = rows[len(rows) // 2 :]
    visits = sum(row["count"] for row in late)
    for how, prefix in (("alone", ""), ("linked", "linked_")):
        table = told(reviewer)["memory"]["reliability"][how]
        assert len(table) == 10
        assert sum(row["count"] for row in table) == visits < sum(row["count"] for row in rows)
        for ours, theirs in (("predicted", "mean_predicted"), ("observed", "base_rate")):
            mean = sum(row["count"] * row[prefix + theirs] for row in late) / visits
            assert sum(row["count"] * row[ours] for row in table) / visits == pytest.approx(mean, abs=1e-5)
    first = told(driven(steps=20, examples=160))
    assert first["memory"]["reliability"] == {"alone": [], "linked": []}
    assert told(driven("shuffle"))["memory"] is None


def test_where_few_examples_have_a_streak_the_curve_is_of_one_that_came_so_often():
    reviewer = driven(steps=5)
    reviewer.fold()
    reviewer.ledger.streak[:] = torch.tensor([3] * (summary.SOME - 1) + [1] * (41 - summary.SOME))
    memory, one = reviewer.method.memory, torch.ones(1)
    lost, _, kept = told(reviewer)["memory"]["curves"]
    assert (lost["examples"], kept["examples"]) == (0, summary.SOME - 1)
    assert (lost["strength"], lost["difficulty"]) == pytest.approx([x.item() for x in memory.first(0 * one)], rel=1e-5)
    numbers = memory.first(one)
    for _ in range(2):
        numbers = memory.visit(one, *numbers, one)
    assert (kept["strength"], kept["difficulty"]) == pytest.approx([x.item() for x in numbers], rel=1e-5)


def test_never_learned_is_what_came_often_and_was_hardly_ever_recalled():
    ledger = rows_of(
        #       yes  few  known  now  once  often  yes, worse loss  of many visits
        visits=[4, 3, 9, 9, 9, 9, 4, 40],
        recall=[0.1, 0.1, 0.3, 0.1, 0.2, 0.1, 0.1, 0.05],
        streak=[0, 0, 0, 1, 0, 0, 0, 0],
        lapses=[0, 0, 0, 0, 1, 2, 0, 4],
        smoothed=[2.0, 2.0, 2.0, 2.0, 1.5, 2.0, 3.0, 2.5],
    )
    assert summary.never_learned(ledger).tolist() == [7, 6, 0, 4]


def test_forgotten_is_what_was_lost_most_often():
    ledger = rows_of(
        visits=[9, 9, 9, 9, 60],
        recall=[0.5, 0.4, 0.9, 0.9, 0.1],
        streak=[1, 1, 1, 1, 0],
        lapses=[3, 3, 1, 4, 6],
    )
    assert summary.never_learned(ledger).tolist() == [4]
    assert summary.forgotten(ledger).tolist() == [3, 1, 0]


def test_hardest_is_the_largest_loss_of_the_others():
    ledger = rows_of(
        visits=[9, 9, 9, 9, 3, 4],
        recall=[0.1, 0.9, 0.9, 0.9, 0.9, 0.9],
        streak=[0, 1, 1, 1, 1, 1],
        lapses=[0, 2, 0, 1, 0, 0],
        smoothed=[4.0, 3.0, 0.5, 1.0, 2.0, 0.7],
    )
    assert summary.hardest(ledger).tolist() == [3, 5, 2]
    many = rows_of(visits=[9] * 100, smoothed=[float(n) for n in range(100)], streak=[1] * 100)
    assert summary.hardest(many).tolist() == list(range(99, 99 - summary.HARDEST, -1))


def test_the_lists_name_the_examples():
    reviewer = driven("shuffle", examples=400, epochs=8)
    labels = torch.arange(400) % 3
    made = told(reviewer, labels=labels, classes=("cat", "dog"))
    never = made["never_learned"]
    assert never["count"] == len([index for index in range(400) if index % 7 == 3]) == 57
    assert len(never["examples"]) == summary.LISTED
    ledger = reviewer.ledger
    for key in ("never_learned", "forgotten", "hardest"):
        for row in made[key]["examples"]:
            at = row["index"]
            assert row["name"] == f"picture {at}"
            assert row["label"] == at % 3
            assert row["class"] == ("cat", "dog", None)[at % 3]
            assert (row["visits"], row["lapses"]) == (int(ledger.visits[at]), int(ledger.lapses[at]))
            assert row["loss"] == pytest.approx(float(ledger.loss[at]), rel=1e-5)
            assert row["recall"] == pytest.approx(float(ledger.recall[at]), rel=1e-5)
    assert all(row["index"] % 7 == 3 for row in never["examples"])
    shown = summary.notable(made)
    assert shown == sorted(
        {row["index"] for key in ("never_learned", "forgotten", "hardest") for row in made[key]["examples"]}
    )
    unlabelled = told(reviewer)["never_learned"]["examples"][0]
    assert (unlabelled["label"], unlabelled["class"]) == (None, None)


def test_labels_that_may_be_wrong_are_counted_where_there_are_labels():
    reviewer = driven("shuffle", examples=400, epochs=8)
    ledger = reviewer.ledger
    ledger.visits[:], ledger.streak[:], ledger.lapses[:], ledger.smoothed[:] = 8, 3, 0, 0.1
    ledger.smoothed[:80], ledger.streak[:80] = 4.0, 0
    assert told(reviewer, labels=torch.arange(400) % 3)["suspects"] == 80
    assert told(reviewer, labels=(torch.arange(400) >= 80).long())["suspects"] == 0  # a class not learned yet
    assert told(reviewer)["suspects"] == 0


def test_what_is_not_finite_is_none():
    reviewer = driven("shuffle", epochs=1)
    reviewer.history[0]["loss"] = math.inf
    assert told(reviewer)["rounds"][0]["loss"] is None
