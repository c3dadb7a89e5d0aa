"""The verdict says in words what the numbers say, and no more."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from engram.report import verdict
from engram.report.run_folder import Evaluation, Run

BEGIN = {"total_steps": 100, "steps_per_epoch": 10, "train_examples": 50_000, "validation_examples": 10_000}


def epochs(losses: Sequence[float], train: float = 0.9, validation: float = 0.9) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "epoch": number,
            "step": 10 * number,
            "seconds": 2.0 * number,
            "train": {"loss": loss, "accuracy": train},
            "validation": {"loss": loss, "accuracy": validation},
            "best": loss == min(losses[:number]),
        }
        for number, loss in enumerate(losses, 1)
    )


def summary(confusion: list[list[int]], **more: Any) -> dict[str, Any]:
    total = sum(map(sum, confusion))
    right = sum(row[at] for at, row in enumerate(confusion))
    classes = ["cat", "dog", "owl", "fox"][: len(confusion)]
    rows = [
        {"name": name, "examples": sum(row), "recall": row[at] / max(sum(row), 1), "f1": 0.5, "precision": 0.5}
        for at, (name, row) in enumerate(zip(classes, confusion, strict=True))
    ]
    return {
        "examples": total,
        "accuracy": right / total,
        "classes": classes,
        "per_class": rows,
        "confusion": confusion,
        **more,
    }


def make(end: str | None = "finished", message: str = "", **given: Any) -> Run:
    last = {"reason": end, "step": 100, "seconds": 21.0, "message": message} if end else None
    environment = {"model": {"name": "lenet5"}}
    recipe = {"data": {"path": "some/pets/"}, "optimizer": {"lr": 0.5}}
    folder = Path("runs/my run")
    return Run(folder, **{"begin": BEGIN, "end": last, "environment": environment, "recipe": recipe, **given})


def validated(confusion: list[list[int]], **given: Any) -> Run:
    return make(evaluations={"validation": Evaluation("validation", summary(confusion))}, **given)


def texts(run: Run) -> list[str]:
    return [remark.text for remark in verdict.judge(run).remarks]


def test_the_sentence_names_result_data_time_and_chance() -> None:
    run = validated([[45, 5], [5, 45]])
    assert verdict.sentence(run) == (
        "After 10 epochs (21 s), lenet5 recognises 90.0\u202f% of the 100 validation examples of pets; guessing gives "
        "50.0\u202f%."
    )


def test_where_one_class_is_frequent_naming_it_is_the_thing_to_beat() -> None:
    run = validated([[88, 2], [2, 8]])
    assert verdict.sentence(run).endswith(
        "guessing gives 50.0\u202f%, always naming the most frequent class 90.0\u202f%."
    )


def test_no_better_than_guessing_is_said() -> None:
    assert "no better than guessing (50.0\u202f%)" in verdict.sentence(validated([[26, 24], [22, 28]]))
    assert "no better than guessing (90.0\u202f%)" in verdict.sentence(validated([[90, 0], [10, 0]]))


def test_while_it_runs_it_says_how_far_it_is_and_how_long_it_takes() -> None:
    steps = tuple({"step": step, "seconds": 30.0 + 2 * step, "loss": 1.0} for step in range(1, 41))
    run = make(None, alive=True, steps=steps)
    assert verdict.seconds_left(run) == pytest.approx(120)
    assert verdict.sentence(run) == "Training, step 40 of 100, about 2 min left."
    known = make(None, alive=True, steps=steps, epochs=epochs([1.0, 0.9, 0.8, 0.7], validation=0.75))
    assert "So far lenet5 recognises 75.0\u202f% of the 10,000 validation examples of pets" in verdict.sentence(known)


def test_a_slow_start_does_not_count_for_the_time_left() -> None:
    seconds = [float(step) if step > 3 else 0.01 * step for step in range(1, 31)]
    seconds = [100 + second for second in seconds]
    steps = tuple({"step": at, "seconds": second} for at, second in enumerate(seconds, 1))
    assert verdict.seconds_left(make(None, alive=True, steps=steps)) == pytest.approx(70)
    assert verdict.seconds_left(make(None, alive=True, steps=steps[:1])) is None


def test_an_evaluation_of_before_it_was_resumed_does_not_count() -> None:
    run = validated([[45, 5], [5, 45]], end=None, alive=True, epochs=epochs([1.0], validation=0.3))
    assert verdict.result(run) == (0.3, 10_000, "validation")


def test_without_an_evaluation_the_best_epoch_counts() -> None:
    given = [*epochs([1.0, 0.5], validation=0.8), *epochs([0.9], validation=0.2)]
    given[2]["best"] = False
    assert verdict.result(make(epochs=tuple(given)))[0] == 0.8


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([2.0, 1.5, 1.2, 1.0, 0.9, 0.8, 0.7, 0.6], "Still improving: validation loss fell from 0.8 to 0.6"),
        ([2.0, 1.0, 0.6, 0.5, 0.5, 0.5, 0.499, 0.5], "Levelled off"),
        ([2.0, 1.0, 0.6, 0.5, 0.55, 0.6, 0.7, 0.9], "was lowest at epoch 4 (0.5) and has risen to 0.9 since"),
        ([2.0, 1.0, 0.6, 0.5, 0.5, 0.5, 0.51, 0.52], "Levelled off"),
        ([0.5, 0.1, 0.05, 0.02, 0.019, 0.018, 0.017, 0.016], "Levelled off"),  # a fifth less of next to nothing
    ],
)
def test_the_trend(losses: list[float], said: str) -> None:
    (remark,) = verdict.trend(make(epochs=epochs(losses)))
    assert said in remark.text


def test_few_epochs_have_no_trend() -> None:
    assert not list(verdict.trend(make(epochs=epochs([2.0, 1.0, 0.6, 0.5]))))


@pytest.mark.parametrize(
    ("train", "validation", "tone", "said"),
    [
        (0.99, 0.80, "warning", "Training and validation differ: 99.0\u202f% on training, 80.0\u202f% on validation"),
        (0.93, 0.90, "note", "a little ahead"),
        (0.905, 0.90, "good", "agree"),
        (0.70, 0.85, "note", "does better on new examples"),
    ],
)
def test_the_gap(train: float, validation: float, tone: str, said: str) -> None:
    (remark,) = verdict.gap(make(epochs=epochs([1.0], train=train, validation=validation)))
    assert remark.tone == tone
    assert said in remark.text


def test_a_gap_within_chance_is_none() -> None:
    few = {**BEGIN, "validation_examples": 20}
    (remark,) = verdict.gap(make(begin=few, epochs=epochs([1.0], train=0.9, validation=0.8)))
    assert remark.tone == "good"


@pytest.mark.parametrize(
    ("end", "message", "said"),
    [
        ("finished", "", "It ran to its planned end."),
        ("early_stopping", "no better result for 3 epochs", "It stopped early: no better result for 3 epochs"),
        (
            "interrupted",
            "",
            "interrupted at step 100 of 100; its state is saved. To go on: engram resume 'runs/my run'",
        ),
        ("not_finite", "", "Try --optimizer.lr 0.05, or --clip_norm 1"),
        ("not_finite", "the loss is NaN. Try --optimizer.lr 0.1", "The loss is NaN. Try --optimizer.lr 0.1."),
        ("no_space", "", "There was no space left to write to. Free some, then: engram resume 'runs/my run'"),
        ("power_cut", "", "It ended at step 100 of 100."),
        (None, "", "without an end, as if its process was killed"),
    ],
)
def test_how_it_ended_and_what_to_do(end: str | None, message: str, said: str) -> None:
    run = make(end, message=message, steps=({"step": 100},))
    (remark,) = verdict.ending(run)
    assert said in remark.text
    assert verdict.judge(run).remarks[0] == remark


def test_a_run_that_broke_down_says_so_first() -> None:
    run = validated([[45, 5], [5, 45]], end="not_finite")
    assert verdict.judge(run).tone == "bad"
    assert verdict.sentence(run) == (
        "Training of lenet5 broke down at step 100: its numbers grew beyond all bounds; the weights that were kept "
        "recognise 90.0\u202f% of the 100 validation examples of pets."
    )


@pytest.mark.parametrize(
    ("validation", "test", "said"),
    [([90, 10], [60, 40], "harder"), ([60, 40], [90, 10], "easier"), ([90, 10], [85, 15], "")],
)
def test_a_test_split_of_another_kind_is_told(validation: list[int], test: list[int], said: str) -> None:
    splits = {"validation": validation, "test": test}
    run = make(evaluations={name: Evaluation(name, summary([row, row[::-1]])) for name, row in splits.items()})
    assert [said in remark.text for remark in verdict.harder(run)] == [True] * bool(said)


def test_the_hardest_class_and_what_it_is_taken_for() -> None:
    run = validated([[9, 1, 0], [0, 10, 0], [1, 3, 6]])
    assert "Hardest class: “owl”, 60\u202f% of its 10 examples recognised, most often taken for “dog”." in texts(run)
    assert not any("Hardest" in one for one in texts(validated([[9, 0, 0], [0, 9, 0], [0, 0, 9]])))


def test_mistakes_are_counted_by_pair() -> None:
    evaluation = Evaluation("test", summary([[9, 1, 0], [0, 10, 0], [1, 3, 6]]))
    assert verdict.confusions(evaluation) == [("owl", "dog", 3, 0.3), ("cat", "dog", 1, 0.1), ("owl", "cat", 1, 0.1)]


def test_a_run_with_nothing_in_it_has_a_verdict() -> None:
    for run in (Run(Path("a")), Run(Path("a"), end={}), Run(Path("a"), end={"reason": "interrupted"})):
        assert verdict.judge(run).sentence.endswith("did not get to its first step.")
