"""The sentences of a study say what the numbers show and no more; tables, targets and what arms share."""

import json
import math

import pytest

from engram.study import charts, sharing, table, target, verdicts
from engram.study.measures import Measure
from unit.test_study_plan import make

ACCURACY = Measure("validation", "accuracy")


def rows(**values):
    """Finished runs of every arm: value by seed; None: it failed."""
    return [
        {
            "arm": arm, "seed": seed, "status": "failed" if value is None else "finished", "validation.accuracy": value,
            "validation.loss": value, "message": "the loss became infinite" if value is None else "", "visits": 300,
            "steps": 30, "seconds": 2.0, "initial": f"w{seed}", "folder": f"runs/{arm}-seed{seed}",
        }
        for arm, all_of in values.items() for seed, value in enumerate(all_of)
    ]  # fmt: skip


BASE = [0.950, 0.955, 0.960, 0.952, 0.957]


def shifted(*by):
    return [value + one for value, one in zip(BASE, by, strict=True)]


def judged(plan, **values):
    return {one.arm: one for one in verdicts.judge(plan, rows(**values))}


def test_better_and_worse():
    better = judged(make(seeds=5), sgd=BASE, adam=shifted(0.01, 0.012, 0.011, 0.009, 0.01))["adam"]
    assert better.kind == "better"
    assert "adam is better than sgd in validation accuracy: +1.04\u202fpp over 5 seeds" in better.sentence
    assert "p < 0.001" in better.sentence
    worse = judged(make(seeds=5), adam=BASE, sgd=shifted(0.01, 0.012, 0.011, 0.009, 0.01))["adam"]
    assert worse.kind == "worse"
    assert "−1.04\u202fpp" in worse.sentence


def test_of_losses_less_is_better():
    plan = make(seeds=5, measure="validation.loss")
    assert judged(plan, sgd=BASE, adam=shifted(0.01, 0.012, 0.011, 0.009, 0.01))["adam"].kind == "worse"
    assert judged(plan, adam=BASE, sgd=shifted(0.01, 0.012, 0.011, 0.009, 0.01))["adam"].kind == "better"


NOISE = (0.004, -0.003, 0.002, -0.004, 0.003)


def test_no_difference_comes_with_the_one_that_could_have_been_seen():
    one = judged(make(seeds=5), sgd=BASE, adam=shifted(*NOISE))["adam"]
    assert one.kind == "not shown"
    assert one.sentence.startswith("No difference was shown between adam and sgd in validation accuracy: +0.04")
    assert one.seen == pytest.approx(0.00613, abs=0.00002)
    assert (
        "A difference of 0.61\u202fpp would have been shown in 4 studies of 5; a smaller one may be there."
        in one.sentence
    )


def test_the_difference_that_could_be_seen_grows_with_the_number_of_comparisons():
    plan = make({"optimizer": ["sgd", "adam", "adamw"]}, seeds=5)
    both = judged(plan, sgd=BASE, adam=shifted(*NOISE), adamw=shifted(*NOISE[::-1]))
    assert both["adam"].seen > 1.2 * judged(make(seeds=5), sgd=BASE, adam=shifted(*NOISE))["adam"].seen
    assert "after correction for 2 comparisons" in both["adam"].sentence


def test_what_correction_takes_away_is_said():
    gain = shifted(0.004, 0.001, 0.006, 0.002, 0.001)
    assert judged(make(seeds=5), sgd=BASE, adam=gain)["adam"].kind == "better"
    plan = make({"optimizer": ["sgd", "adam", "adamw", "nesterov"]}, seeds=5)
    one = judged(plan, sgd=BASE, adam=gain, adamw=shifted(*NOISE), nesterov=shifted(*NOISE))["adam"]
    assert one.kind == "not shown"
    assert one.p == pytest.approx(3 * one.paired.p)
    assert f"(p = {one.paired.p:.3f} by itself)" in one.sentence


def test_as_good_within_a_margin_and_no_worse():
    plan = make(seeds=5, margin=0.01)
    good = judged(plan, sgd=BASE, adam=shifted(*NOISE))["adam"]
    assert good.kind == "as good"
    assert "adam is as good as sgd in validation accuracy, within 1.00\u202fpp" in good.sentence
    ahead = judged(plan, sgd=BASE, adam=shifted(0.015, 0.0, 0.018, -0.001, 0.008))["adam"]
    assert ahead.kind == "no worse"
    assert (
        "no worse than sgd in validation accuracy by more than 1.00\u202fpp; that it is better was not shown"
        in ahead.sentence
    )
    behind = judged(plan, adam=BASE, sgd=shifted(0.015, 0.0, 0.018, -0.001, 0.008))["adam"]
    assert behind.kind == "not shown"
    assert "nor that they are within 1.00\u202fpp" in behind.sentence
    small = judged(plan, sgd=BASE, adam=shifted(0.002, 0.0021, 0.0019, 0.002, 0.0022))["adam"]
    assert small.kind == "better"
    assert small.sentence.endswith("The difference is smaller than the margin of 1.00\u202fpp.")


def test_claims_of_being_as_good_are_corrected_too():
    plan = make({"optimizer": ["sgd", "adam", "adamw", "nesterov"]}, seeds=5, margin=0.0045)
    others = {"adamw": shifted(0.02, -0.02, 0.02, -0.02, 0.0), "nesterov": shifted(-0.02, 0.02, -0.02, 0.02, 0.0)}
    alone = judged(make(seeds=5, margin=0.0045), sgd=BASE, adam=shifted(*NOISE))["adam"]
    among = judged(plan, sgd=BASE, adam=shifted(*NOISE), **others)["adam"]
    assert alone.kind == "as good"
    assert among.kind == "not shown"
    assert among.within == pytest.approx(3 * alone.within)
    assert among.above == pytest.approx(3 * alone.above)


def test_one_seed_shows_nothing():
    one = judged(make(seeds=1), sgd=[0.9], adam=[0.99])["adam"]
    assert one.kind == "nothing"
    assert one.sentence.startswith(
        "One seed shows nothing: adam gave a validation accuracy +9.00\u202fpp apart from sgd"
    )


def test_failed_runs_are_said_and_their_seeds_left_out():
    plan = make(seeds=5)
    found = rows(sgd=BASE, adam=[None, *shifted(*NOISE)[1:]])
    one = verdicts.judge(plan, found)[0]
    assert one.paired.n == 4
    assert one.paired.mean == pytest.approx(sum(NOISE[1:]) / 4)
    assert "1 run of adam failed: this holds for the seeds that finished with both" in one.sentence
    result = verdicts.results(plan, found)[1]
    assert (result.mean.n, result.failures) == (4, {0: "the loss became infinite"})
    three = make({"optimizer": ["sgd", "adam", "adamw"]}, seeds=5)
    others = verdicts.judge(three, rows(sgd=BASE, adam=[None] * 5, adamw=shifted(*NOISE)))
    assert "comparison" not in others[1].sentence  # of what cannot be compared nothing is corrected for
    none = verdicts.judge(plan, rows(sgd=BASE, adam=[None] * 5))[0]
    assert none.kind == "nothing"
    assert none.sentence == "adam cannot be compared with sgd: 5 runs of adam failed."


def test_runs_to_come_are_not_failures():
    plan = make(seeds=5)
    found = rows(sgd=BASE, adam=BASE)
    found[-1] |= {"status": "missing", "validation.accuracy": None}
    result = verdicts.results(plan, found)[1]
    assert (result.mean.n, result.missing, result.failures) == (4, 1, {})


def test_another_baseline():
    plan = make({"optimizer": ["sgd", "adam", "adamw"]}, seeds=5)
    found = verdicts.judge(plan, rows(sgd=BASE, adam=shifted(*NOISE), adamw=BASE), "adam")
    assert [(one.arm, one.baseline) for one in found] == [("sgd", "adam"), ("adamw", "adam")]
    assert found[0].paired.mean == pytest.approx(-sum(NOISE) / 5)


def test_equal_values_are_no_difference():
    one = judged(make(seeds=5), sgd=BASE, adam=BASE)["adam"]
    assert one.kind == "not shown"
    assert "p = 1.00" in one.sentence
    assert "would have been shown" not in one.sentence


def test_what_arms_were_given():
    found = rows(sgd=BASE, adam=BASE)
    assert sharing.equality(make(seeds=5, equal="visits"), found) == (
        "Every arm was given the same number of visits and steps. Mean times differ by up to 0%."
    )
    assert "in fact made the same number of visits" in sharing.equality(make(seeds=5, equal="none"), found)
    for row in found[5:]:
        row |= {"visits": 600, "steps": 60, "seconds": 3.0}
    assert "from 300 to 600 visits" in sharing.equality(make(seeds=5, equal="none"), found)
    assert "50% above the shortest" in sharing.equality(make(seeds=5, equal="seconds"), found)


def test_which_arms_begin_alike_is_read_from_what_they_recorded():
    plan = make({"optimizer": ["sgd", "adam", "adamw"]}, seeds=5)
    found = rows(sgd=BASE, adam=BASE, adamw=BASE)
    assert sharing.sharing(plan, found).startswith("All arms begin with the same weights at every seed.")
    found[-1]["initial"] = "other"
    assert sharing.sharing(plan, found).startswith(
        "sgd and adam begin with the same weights at every seed, adamw does not."
    )
    found[-1]["initial"] = None  # it failed before it began
    assert sharing.shares_weights(plan, found, "sgd", "adamw")
    models = make({"model": ["mlp", "lenet5"]}, seeds=5)
    same = rows(mlp=BASE, lenet5=BASE)
    assert not sharing.shares_weights(models, same, "mlp", "lenet5")  # equal letters, other networks
    reviews = make({"review": ["shuffle", "infobatch"]}, seeds=5)
    assert sharing.sharing(reviews, []).endswith("No two arms see them in the same order.")
    apart = make({"data.limit": [100, 200]}, seeds=5)
    told = sharing.sharing(apart, [])
    assert "No two arms are trained on the same examples. No two arms are judged on the same examples." in told
    tested = make({"data.limit": [100, 200]}, seeds=5, measure="test.accuracy")
    told = sharing.sharing(tested, [])
    assert "No two arms are trained on the same examples. All arms are judged on the same examples." in told


def given(found, arm, **changes):
    for row in found:
        if row["arm"] == arm:
            row |= changes
    return found


@pytest.mark.parametrize("equal", [None, "none", "visits"])
def test_a_verdict_says_that_the_arms_made_different_numbers_of_visits(equal):
    found = given(rows(sgd=BASE, adam=shifted(0.01, 0.012, 0.011, 0.009, 0.01)), "adam", visits=600, steps=60)
    one = verdicts.judge(make(seeds=5, equal=equal), found)[0]
    assert one.sentence.startswith("adam is better than sgd")
    assert one.sentence.endswith(
        "They did not make the same number of visits: adam made 600 visits and sgd 300, and the difference may be one "
        "of the budget."
    )
    alike = verdicts.judge(make(seeds=5, equal=equal), rows(sgd=BASE, adam=BASE))[0]
    assert "did not make" not in alike.sentence


def test_a_verdict_at_the_same_work_or_steps_says_what_was_not_the_same():
    found = given(given(rows(sgd=BASE, adam=BASE), "adam", visits=450, steps=45, work=300.0), "sgd", work=300.0)
    assert verdicts.judge(make(seeds=5, equal="work"), found)[0].sentence.endswith(
        "This is at the same work, not at the same number of visits: adam made 450 visits and sgd 300."
    )
    assert "may be one of the budget" in verdicts.judge(make(seeds=5, equal="steps"), found)[0].sentence
    less = given(found, "adam", work=200.0)  # it stopped early
    assert "may be one of the budget" in verdicts.judge(make(seeds=5, equal="work"), less)[0].sentence
    steps = given(rows(sgd=BASE, adam=BASE), "adam", visits=600)
    assert "did not make" not in verdicts.judge(make(seeds=5, equal="steps"), steps)[0].sentence
    assert "did not make" not in verdicts.judge(make(seeds=5, equal="seconds"), found)[0].sentence


def test_a_verdict_on_different_examples_says_that_it_is_none():
    words = "They were judged on different validation examples, so that this is no comparison of the two."
    plan = make({"data.validation": [0.1, 0.5]}, seeds=5)
    found = rows(**{"validation=0.1": BASE, "validation=0.5": BASE})  # of a study that recorded nothing of it
    assert words in verdicts.judge(plan, found)[0].sentence
    alike = [row | {"judged_on": f"e{row['seed']}"} for row in found]
    assert words not in verdicts.judge(plan, alike)[0].sentence
    apart = given(given(rows(sgd=BASE, adam=BASE), "sgd", judged_on="one"), "adam", judged_on="other")
    assert words in verdicts.judge(make(seeds=5), apart)[0].sentence


def test_the_page_states_no_equality_that_the_runs_do_not_show():
    found = given(rows(sgd=BASE, adam=BASE), "adam", visits=450, steps=45)
    for equal, numbers in (("visits", "sgd made 300 visits and adam 450"), ("steps", "sgd made 30 steps and adam 45")):
        told = sharing.equality(make(seeds=5, equal=equal), found)
        assert told.startswith(
            f"The plan gave every arm the same number of {equal}, but they did not make it: {numbers}"
        )
    found = given(given(found, "adam", work=300.0), "sgd", work=300.0)
    assert sharing.equality(make(seeds=5, equal="work"), found).startswith(
        "Every arm was given the same work: visits, a forward pass alone counted as a third of one "
        "(sgd made 300 visits and adam 450; sgd made 30 steps and adam 45)."
    )
    told = sharing.equality(make(seeds=5, equal="work"), given(found, "adam", work=200.0))
    assert "sgd did 300 visits' work and adam 200" in told


def test_a_target_that_was_never_reached_is_later_than_all():
    found = [
        {"arm": "a", "status": status, "visits_to_target": visits}
        for status, visits in (("finished", 100), ("finished", None), ("finished", None), ("failed", 50))
    ]
    assert target.reached(found, "a", "visits") == target.Reached("a", 3, 1, None, 100, None)
    assert target.reached(found, "b", "visits").runs == 0


def test_tables_come_back_from_their_files(tmp_path):
    import csv

    import pyarrow.parquet

    made = [
        {"arm": "a", "lr": None, "seed": 0, "validation.accuracy": 0.5, "folder": "runs/a"},
        {"arm": "b", "lr": 0.1, "seed": 0, "validation.accuracy": None, "folder": "runs/b"},
    ]
    table.write(tmp_path, table.Tables(made, [{"arm": "a", "epoch": 1}]))
    assert pyarrow.parquet.read_table(tmp_path / "table.parquet").to_pylist() == made
    assert pyarrow.parquet.read_table(tmp_path / "curves.parquet").to_pylist() == [{"arm": "a", "epoch": 1}]
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert read[1] == {"arm": "b", "lr": "0.1", "seed": "0", "validation.accuracy": "", "folder": "runs/b"}


def run_folder(path, *, end="finished", epochs=3, judged="final", accuracy=0.9):
    """A run of a study as it lies on disk."""
    (path / "evaluation").mkdir(parents=True)
    events = [{"event": "start", "batch_size": 100, "steps_per_epoch": 10, "total_steps": 10 * epochs}]
    for epoch in range(1, epochs + 1):
        shares = {"loss": 1 / epoch, "accuracy": accuracy - 0.1 * (epochs - epoch)}
        events.append(
            {"event": "epoch", "epoch": epoch, "step": 10 * epoch, "seconds": 1.5 * epoch, "lr": 0.1, "train": shares,
             "validation": shares, "best": epoch == 1}
        )  # fmt: skip
    if end:
        events.append({"event": "end", "reason": end, "step": 10 * epochs, "seconds": 5.0, "message": "it broke"})
    (path / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (path / "origin.json").write_text('{"initial": "abc", "charge": 0.5, "examples": {"validation": "ten"}}')
    classes = [{"examples": 9, "recall": 0.8}, {"examples": 0, "recall": 0.0}, {"examples": 4, "recall": 0.7}]
    summary = {"accuracy": accuracy, "loss": 0.3, "ece": 0.02, "top5": None, "per_class": classes}
    (path / "evaluation" / ("final_" * (judged == "final") + "validation.json")).write_text(json.dumps(summary))


def test_a_row_of_the_table_and_its_curve(tmp_path):
    plan = make(target=0.75, seeds=1)
    run_folder(tmp_path / "runs" / "sgd-seed0")
    run_folder(tmp_path / "runs" / "adam-seed0", accuracy=0.7)
    found = table.collect(plan, tmp_path)
    row = found.runs[0]
    assert (row["arm"], row["optimizer.name"], row["seed"], row["status"]) == ("sgd", "sgd", 0, "finished")
    assert (row["validation.accuracy"], row["validation.ece"], row["validation.worst_class"]) == (0.9, 0.02, 0.7)
    assert row["train.loss"] == pytest.approx(1 / 3)  # of the last pass, not of the best
    assert (row["visits"], row["steps"], row["seconds"], row["initial"]) == (3000, 30, 5.0, "abc")
    assert (row["work"], row["judged_on"]) == (1500.0, "ten")
    assert (row["visits_to_target"], row["seconds_to_target"], row["begins_as_baseline"]) == (2000, 3.0, True)
    assert list(row)[-1] == "folder"
    assert found.runs[1]["visits_to_target"] is None
    assert [one["visits"] for one in found.curves if one["arm"] == "sgd"] == [1000, 2000, 3000]
    best = table.collect(make(seeds=1, judged="best"), tmp_path).runs[0]
    assert best["status"] == "begun"  # its best weights were not judged


@pytest.mark.parametrize(("end", "state"), [(None, "begun"), ("interrupted", "begun"), ("not_finite", "failed")])
def test_the_status_of_a_run(tmp_path, end, state):
    plan = make(seeds=1)
    assert table.status(plan, tmp_path / "runs" / "sgd-seed0") == "missing"
    run_folder(tmp_path / "runs" / "sgd-seed0", end=end)
    row = table.collect(plan, tmp_path).runs[0]
    assert row["status"] == state
    assert row.get("validation.accuracy") is None
    assert row["message"] == ("it broke" if state == "failed" else "")


def test_a_failure_without_a_folder_is_kept_until_the_run_finishes(tmp_path):
    plan = make(seeds=1)
    (tmp_path / "failed.json").write_text('{"sgd-seed0": "out of memory"}')
    row = table.collect(plan, tmp_path).runs[0]
    assert (row["status"], row["message"]) == ("failed", "out of memory")
    run_folder(tmp_path / "runs" / "sgd-seed0")
    assert table.collect(plan, tmp_path).runs[0]["status"] == "finished"


def test_bands_hold_every_seed():
    passes = [
        {"epoch": epoch, "visits": 100 * epoch, "loss": loss}
        for epoch, loss in ((1, 0.9), (1, 0.5), (2, 0.4), (2, None), (1, 0.4))
    ]
    assert charts.banded(passes, "loss", "visits", "a") == [
        {"arm": "a", "x": 100.0, "mean": 0.6, "low": 0.4, "high": 0.9},
        {"arm": "a", "x": 200.0, "mean": 0.4, "low": 0.4, "high": 0.4},
    ]


def test_levels_and_differences_as_they_are_printed():
    assert verdicts.difference(Measure("test", "loss"), -0.01234) == "−0.0123"
    assert verdicts.difference(ACCURACY, math.nan) == "–"
    assert verdicts.level(Measure("test", "loss"), 0.123456) == "0.1235"
    assert verdicts.level(ACCURACY, 1.02) == "100.00\u202f%"
    assert [verdicts.p_value(p) for p in (0.0004, 0.05, 0.5)] == ["p < 0.001", "p = 0.050", "p = 0.50"]
