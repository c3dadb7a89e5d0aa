"""What the page says of a review: its sentences hold the numbers of `review.json`, and its pictures the examples."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import altair
import numpy as np
import pytest
import torch

from engram import report
from engram.report import charts_review, run_folder
from engram.report.charts_review import Group
from engram.report.sections import forgotten, review
from engram.review import export, methods, summary
from engram.review.ledger import Ledger, Observed
from engram.review.reviewer import Reviewer

Make = Callable[..., Path]
EXAMPLES = 300


def reviewed(method: str = "forgetting_curve", *, epochs: float = 12.0, name: str = "digit") -> dict[str, Any]:
    """What a review tells whose losses fall, for every ninth example never, and for every tenth up and down."""
    reviewer = Reviewer(EXAMPLES, methods.build(method), batch_size=50, epochs=epochs, seed=1)
    draw = torch.Generator().manual_seed(0)
    while not reviewer.finished:
        for batch in reviewer.batches():
            spent = reviewer.steps / reviewer.total_steps
            losses = 4 * torch.rand(len(batch), generator=draw) * (1 - spent) + 0.02
            losses = torch.where(batch % 10 == 5, 2.0 * (torch.rand(len(batch), generator=draw) < 0.5), losses)
            reviewer.grade(torch.where(batch % 9 == 0, 5.0, losses), lr=0.1)
    reviewer.fold()
    labels, classes = torch.arange(EXAMPLES) % 10, [f"class {number}" for number in range(10)]
    return summary.summarise(reviewer, labels=labels, classes=classes, name=lambda index: f"{name}/{index}.png")


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return reviewed()


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return reviewed("shuffle")


def put(folder: Path, content: Mapping[str, Any], *, side: int = 8, channels: int = 1) -> Path:
    """The summary and its pictures in a run folder."""
    (folder / "review.json").write_text(json.dumps(content), encoding="utf-8")
    index = np.array(summary.notable(dict(content)), dtype=np.int64)
    pixels = np.random.default_rng(0).integers(0, 255, (len(index), side, side, channels)).astype(np.uint8)
    (folder / "pictures").mkdir(exist_ok=True)
    np.savez_compressed(folder / "pictures" / "review.npz", index=index, pixels=pixels)
    return folder


def of(content: Mapping[str, Any], **more: Any) -> run_folder.Run:
    return run_folder.Run(Path("run"), review=content, recipe={"data": {"path": "my digits"}}, **more)


def words(markup: object) -> str:
    """The text of a piece of the page."""
    text = re.sub(r"<(script|svg)\b.*?</\1>", " ", str(markup), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).replace(" .", ".").split()).replace(" .", ".")


def specs(markup: object) -> dict[str, dict[str, Any]]:
    """The specifications of its charts, by title."""
    found = re.findall(r"<h3>([^<]*)</h3>.*?<script[^>]*>(.*?)</script>", str(markup), flags=re.DOTALL)
    return {unescape(title): json.loads(spec) for title, spec in found}


def test_a_run_without_a_review_has_no_such_section(tmp_path: Path, make_run: Make) -> None:
    run = run_folder.read(make_run(tmp_path / "a", epochs=1))
    assert (run.review, run.reviewed, run.notes) == ({}, {}, ())
    assert review.section(run) is None
    assert forgotten.section(run) is None


def test_the_page_tells_a_review_whole(tmp_path: Path, make_run: Make, told: dict[str, Any]) -> None:
    folder = put(make_run(tmp_path / "a", epochs=2), told)
    run = run_folder.read(folder)
    assert run.review == told
    assert sorted(run.reviewed) == summary.notable(told)
    text = report.write(folder).read_text(encoding="utf-8")
    assert "This section could not be drawn" not in text
    assert len(text.encode()) < 2_000_000
    titles = re.findall(r"<h2[^>]*>([^<]*)</h2>", text)
    assert titles.index(review.TITLE) + 1 == titles.index(forgotten.TITLE) < titles.index("Data")
    assert text.count('alt="Example digit/') == sum(len(told[key]["examples"]) for key in forgotten_keys())


def forgotten_keys() -> tuple[str, ...]:
    return ("never_learned", "forgotten", "hardest")


def test_the_sentences_hold_the_numbers(told: dict[str, Any]) -> None:
    shown = words(review.section(of(told)))
    mean = sum(row["share"] for row in told["rounds"]) / len(told["rounds"])
    assert "Method forgetting_curve : an example is visited the more likely, the more likely it has been" in shown
    assert (
        f"An average round saw {100 * mean:.0f} % of the 300 training examples, in {len(told['rounds'])} rounds"
        in shown
    )
    most, least = (review._times(told["visits"][key]) for key in ("most", "least"))
    assert f"was visited {most}, the one that came least {least}." in shown
    for streak, name in (("1-2", "once or twice in a row"), ("3+", "three times or more")):
        near = [row for row in told["retention"] if row["streak"] == streak and row["most"] in (1.0, 2.0)]
        share = sum(row["recalled"] for row in near) / sum(row["count"] for row in near)
        assert f"{100 * share:.1f} % of those recalled {name}" in shown
    assert f"{100 * told['unforgotten'] / 300:.0f} % of the examples are recalled now and were never lost" in shown
    assert f"of those not recalled last time, {100 * review._after_one(told['retention'], '0'):.1f} % are." in shown


def test_the_memory_model_is_held_against_the_best_constant() -> None:
    rounds = [
        {"epoch": 1.0, "share": 1.0},
        {"epoch": 2.0, "again": 90, "log_loss": 9.0, "linked_log_loss": 9.0, "constant": 9.0},
        {"epoch": 3.0, "again": 10, "log_loss": 0.5, "linked_log_loss": 0.3, "constant": 0.4},
        {"epoch": 4.0, "again": 30, "log_loss": 0.7, "linked_log_loss": 0.1, "constant": 0.6},
    ]
    rounds.insert(1, {**rounds[1]})  # four with a prediction: the last two count
    assert review.log_losses(rounds) == pytest.approx((0.65, 0.15, 0.55))
    retention = [
        {"streak": "3+", "most": 1.0, "count": 30, "recalled": 30, "delay": 0.7, "share": 1, "low": 1, "high": 1}
    ]
    content = {"rounds": rounds, "retention": retention, "memory": {"name": "fsrs"}, "examples": 10}
    said = words(review.section(of(content)))
    assert "the memory model fsrs foresaw this better than the best constant" in said
    assert "log loss 0.15 against 0.55; 0.65 before it is corrected" in said
    worse = [{**row, "linked_log_loss": row.get("constant")} for row in rounds]
    assert "foresaw this no better than the best" in words(review.section(of({**content, "rounds": worse})))
    assert review.log_losses(rounds[:1]) is None


def test_the_charts_hold_the_data(told: dict[str, Any]) -> None:
    drawn = specs(review.section(of(told)))
    assert list(drawn) == [
        "Kept: recalled last time, and again",
        "Gained: not recalled last time, and now",
        "Foreseen and found",
        "Predicted against observed recall",
        "Share of the data that rounds and epochs see",
        "Visits of an example",
        "Strength of the memories",
        "Until an example is due",
    ]
    kept, gained, foreseen, agreement, shares, visits, strength, _ = drawn.values()
    for spec in drawn.values():
        altair.Chart.from_dict(spec)  # raises where the schema is not met
    for streak, place in (("1-2", 0), ("3+", 3)):
        rows = [row for row in told["retention"] if row["streak"] == streak and row["count"] >= review.ENOUGH]
        curve, rules, dots = (layer["data"]["values"] for layer in kept["layer"][place : place + 3])
        assert [one["y"] for one in dots] == pytest.approx([row["share"] for row in rows], rel=1e-3)
        assert [one["delay"] for one in dots] == pytest.approx([row["delay"] for row in rows], rel=1e-3)
        assert [(one["low"], one["high"]) for one in rules] == [
            pytest.approx((row["low"], row["high"]), rel=1e-3) for row in rows
        ]
        wanted = next(one for one in told["memory"]["curves"] if one["streak"] == streak)
        assert [one["y"] for one in curve] == pytest.approx(wanted["recall"], rel=1e-3)
    assert [layer["mark"]["type"] for layer in gained["layer"]] == ["rule", "circle"]  # no curve: no forgetting
    assert [one["y"] for one in shares["layer"][0]["data"]["values"]] == pytest.approx(
        [row["share"] for row in told["rounds"]], rel=1e-3
    )
    rows = [row for row in told["rounds"] if "predicted" in row]
    for layer, key in enumerate(("recalled_again", "linked_predicted", "predicted")):
        points = foreseen["layer"][layer]["data"]["values"]
        assert [one["y"] for one in points] == pytest.approx([row[key] for row in rows], rel=1e-3)
    for layer, how in ((2, "linked"), (4, "alone")):
        dots = agreement["layer"][layer]["data"]["values"]
        for field, key in (("x", "predicted"), ("y", "observed"), ("count", "count"), ("low", "low"), ("high", "high")):
            rows = told["memory"]["reliability"][how]
            assert [one[field] for one in dots] == pytest.approx([row[key] for row in rows], rel=1e-3)
    ends = [(one["x"], one["y"]) for one in agreement["layer"][0]["data"]["values"]]
    assert all(x == y for x, y in ends)  # the diagonal
    assert [x for x, _ in ends] == agreement["layer"][0]["encoding"]["x"]["scale"]["domain"]
    whole = [row for row in told["epochs"] if row["whole"] > 0.999]
    assert [(one["x"], one["y"]) for one in shares["layer"][1]["data"]["values"]] == [
        pytest.approx((row["epoch"], row["least"]), rel=1e-3) for row in whole
    ]
    assert [one["count"] for one in visits["layer"][0]["data"]["values"]] == told["visits"]["counts"]
    assert visits["layer"][0]["data"]["values"][0]["from"] == told["visits"]["least"] - 0.5
    bars = strength["layer"][0]["data"]["values"]
    assert [one["count"] for one in bars] == told["memory"]["strength"]["counts"]
    assert [one["from"] for one in bars] == pytest.approx(told["memory"]["strength"]["edges"][:-1], rel=1e-4)


def row_of(predicted: float, observed: float, count: int = 100) -> dict[str, float]:
    return {"predicted": predicted, "observed": observed, "low": observed - 0.01, "high": observed, "count": count}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row_of(0.9, 0.8), row_of(1.0, 0.96, 300)], "is overconfident: it predicted that 97.5 % would be recalled"),
        ([row_of(0.7, 0.8)], "is underconfident: it predicted that 70.0 % would be recalled, and 80.0 % were,"),
        ([row_of(0.7, 0.71)], "can be taken at its word: it predicted that 70.0 % would be recalled, and 71.0 % were,"),
        ([row_of(0.5, 0.6), row_of(0.9, 0.8)], "is right on average and not for each: "),
    ],
)
def test_the_dots_are_read_for_the_person(rows: list[dict[str, float]], said: str) -> None:
    rounds = [{"epoch": 1.0, "share": 1.0, "again": 9, "log_loss": 0.5, "linked_log_loss": 0.3, "constant": 0.4}]
    memory = {"name": "fsrs", "reliability": {"linked": rows, "alone": []}}
    made = review.section(of({"rounds": rounds, "memory": memory}))
    shown = words(made)
    assert f"fsrs {said}" in shown
    assert "log loss 0.3 against 0.4 of the best constant" in shown
    assert len(specs(made)["Predicted against observed recall"]["layer"]) == 3  # one group needs no legend
    kept = [{**rounds[0], "constant": 0.001}]
    assert "fsrs had next to nothing to foresee" in words(review.section(of({"rounds": kept, "memory": memory})))
    none = words(review.section(of({"rounds": rounds, "memory": {**memory, "reliability": {"linked": []}}})))
    assert "on average" not in none
    assert "Predicted against" not in words(review.section(of({"rounds": rounds, "memory": {"name": "fsrs"}})))


def test_a_diagram_of_shares_that_are_all_alike_is_drawn_larger() -> None:
    def domain(*rows: tuple[float, ...]) -> list[float]:
        spec = charts_review.agreement([Group("a", rows)], x="x", y="y")
        return spec["layer"][0]["encoding"]["y"]["scale"]["domain"]

    assert domain((0.31, 0.5, 0.4, 0.58, 9.0)) == [0.3, 0.6]
    assert domain((0.981, 0.985, 0.975, 0.989, 9.0)) == pytest.approx([0.974, 0.99])
    assert domain((1.0, 1.0, 1.0, 1.0, 9.0)) == [0.999, 1.0]
    assert domain((0.0, 0.0, 0.0, 0.0, 9.0)) == [0.0, 0.001]


def test_what_an_epoch_saw_is_said() -> None:
    rounds = [{"epoch": epoch / 2, "share": 0.5} for epoch in (1, 2, 3, 4, 5)]
    epochs = [{"epoch": epoch, "rounds": 2, "whole": 1.0, "least": 0.5, "most": 1.0} for epoch in (1, 2)]
    epochs.append({"epoch": 3, "rounds": 1, "whole": 0.5, "least": 0.5, "most": 0.5})  # not over
    title = "Share of the data that rounds and epochs see"
    made = review.section(of({"rounds": rounds, "epochs": epochs}))
    assert "A round visits 50 %. An epoch, as many visits as there are examples, saw 50 % at least" in words(made)
    assert [len(layer["data"]["values"]) for layer in specs(made)[title]["layer"]] == [5, 2, 0]
    known = [{**row, "least": share, "most": share} for row, share in zip(epochs, (0.7, 0.8, 0.5), strict=True)]
    made = review.section(of({"rounds": rounds, "epochs": known}))
    assert "An epoch, as many visits as there are examples, saw from 70 % to 80 %." in words(made)
    assert [one["y"] for one in specs(made)[title]["layer"][1]["data"]["values"]] == [0.7, 0.8]
    once = [{"epoch": epoch, "rounds": 1, "whole": 1.0, "least": 1.0, "most": 1.0} for epoch in (1, 2)]
    shuffled = {"rounds": [{"epoch": epoch, "share": 1.0} for epoch in (1, 2)], "epochs": once}
    assert title not in specs(review.section(of(shuffled)))  # every epoch saw everything: nothing to draw


def test_every_round_stands_in_the_table(told: dict[str, Any], plain: dict[str, Any]) -> None:
    made = str(review.section(of(told)))
    assert made.count("<tr>") == 1 + len(told["rounds"])
    assert "best constant</th>" in made
    last = told["rounds"][-1]
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t", made.rpartition("<tr>")[2])
    assert float(cells[0]) == pytest.approx(last["epoch"], rel=1e-2)
    assert cells[1] == f"{last['visits']:,}"
    assert float(cells[-2]) == pytest.approx(last["linked_log_loss"], rel=1e-2)
    assert float(cells[-1]) == pytest.approx(last["constant"], rel=1e-2)
    assert "best constant" not in str(review.section(of(plain)))
    many = {**told, "rounds": told["rounds"] * 30}
    assert "The last 300 rounds in numbers" in words(review.section(of(many)))


def test_plain_shuffling_is_told_shorter_with_what_could_be_tried(plain: dict[str, Any]) -> None:
    made = review.section(of(plain))
    assert list(specs(made)) == ["Kept: recalled last time, and again", "Gained: not recalled last time, and now"]
    said = words(made)
    assert "Method shuffle : every example once a round, in random order." in said
    assert "Every example was visited 12 times." in said
    assert "--review forgetting_curve" in said
    assert "memory model" not in said
    assert "The method chooses" not in said
    assert "--review" not in words(review.section(of({**plain, "method": "infobatch"})))


def test_after_the_first_round_there_is_nothing_to_remember_yet() -> None:
    said = words(review.section(of(reviewed(epochs=1.0))))
    assert "The first round is over: it saw 100 % of the 300 training examples. Every example was visited once." in said
    assert "No example has come twice yet" in said
    assert review.section(of({**reviewed(epochs=1.0), "rounds": []})) is None


def test_times_are_said_in_words() -> None:
    assert [review._times(times) for times in (1.0, 2.0, 0.0, 1234.0)] == ["once", "twice", "0 times", "1,234 times"]


def test_how_far_back_nearly_all_was_seen() -> None:
    shares = [{"share": share} for share in (0.5, 0.8, 0.98, 0.995, 1.0)]
    assert review._coverage(shares) == "The last 4 together saw 100\u202f%. "
    assert review._coverage(shares[2:]) == ""
    assert review._coverage([]) == ""


def test_a_control_and_a_recall_of_another_kind_are_said(told: dict[str, Any]) -> None:
    said = words(review.section(of({**told, "permuted": True, "measure": "correct", "clock": "visits"})))
    assert "As a control, it was shown the memory of other examples" in said
    assert "counts as recalled when the network's answer is right" in said
    assert "learning rate" not in said
    assert "while the learning rate is at its highest so far" in words(review.section(of(told)))
    assert "The method chooses what comes back soon" in said


def test_what_absence_cost_is_said(told: dict[str, Any]) -> None:
    assert "lose what it does not see" not in words(review.section(of(told)))
    trials = [{"cost": 0.9, "error": 0.5, "epoch": 4.0}, {"cost": 0.0412, "error": 0.0118, "epoch": 8.5}]
    said = words(review.section(of({**told, "absence": trials, "by_heart": True})))
    assert "In the last of 2 trials, after epoch 8.5, absence cost 0.041 of the grade (standard error 0.012)" in said
    assert "That is learning by heart" in said
    said = words(review.section(of({**told, "absence": trials[:1], "by_heart": False})))
    assert "After epoch 4, absence cost 0.900 of the grade (standard error 0.500)" in said
    assert "what it knows is not shown to be lost where it is left out" in said


def test_labels_that_may_be_wrong_come_with_what_leaves_them_out(told: dict[str, Any], plain: dict[str, Any]) -> None:
    said = words(forgotten.section(of(plain)))
    assert "or leave it out while training: --review forgetting_curve." in said
    one = of(told)
    said = words(forgotten.section(replace(one, recipe={"review": {"name": "forgetting_curve", "suspend": False}})))
    assert "or leave it out while training: --review.suspend true." in said


def test_nothing_is_said_of_labels_where_examples_have_none(told: dict[str, Any]) -> None:
    one = of(told)
    of_classes = words(forgotten.section(one))
    for word in ("labels may be wrong", "wrong labels", "between two classes", "under two labels", "label class"):
        assert word in of_classes, word
    for suspects in (told["suspects"], 0):
        text = replace(one, review={**told, "suspects": suspects}, recipe={"task": "write"})
        said = words(forgotten.section(text))
        assert not re.search(r"label|class|can the picture", said), said
    assert "34 examples of them cost far more than all others do" in words(
        forgotten.section(replace(one, recipe={"task": "write"}))
    )


def test_what_counts_of_mixed_pictures_is_said(told: dict[str, Any]) -> None:
    assert "Of a mixed picture" not in words(review.section(of(told)))
    rounds = [{**row, "came": row["visits"] + 1} for row in told["rounds"]]
    came = sum(row["came"] for row in rounds)
    said = words(review.section(of({**told, "rounds": rounds})))
    assert f"the larger part counts as visited: {came - len(rounds):,} visits of {came:,}" in said


def test_few_visits_are_not_drawn_and_not_said() -> None:
    rows = [
        {"streak": "1-2", "most": 1.0, "delay": 0.7, "count": 19, "recalled": 19, "share": 1, "low": 0.8, "high": 1}
    ]
    made = review.section(of({"rounds": [{"epoch": 1.0, "share": 1.0}], "retention": rows}))
    assert specs(made) == {}
    assert "When they come back" not in words(made)


def test_what_was_never_learned_is_shown_with_what_to_do(told: dict[str, Any]) -> None:
    made = forgotten.section(of(told, reviewed={0: np.zeros((8, 8, 1), np.uint8)}))
    said = words(made)
    never = told["never_learned"]
    assert never["count"] >= 30
    assert "visited often and hardly ever recalled" in said
    assert "34 labels may be wrong: never once recalled, and what they cost stands apart" in said
    assert "This run left them out as soon as they stood apart. Correct or remove what is wrong." in said
    assert "engram data 'my digits' finds pictures that stand under two labels." in said
    assert f"{told['forgotten']['count']} examples of 300 were recalled and lost again at least twice" in said
    for key in forgotten_keys():
        for row in told[key]["examples"]:
            lost = {0: "never recalled" if key == "never_learned" else "never lost", 1: "lost once", 2: "lost twice"}
            times = lost.get(row["lapses"], f"lost {row['lapses']} times")
            line = (
                f"label {row['class']} recall {100 * row['recall']:.0f} % {row['visits']} visits {times} {row['name']}"
            )
            assert line in said
    assert re.findall(r"<h3>([^<]*)</h3>", str(made)) == [
        "Never learned",
        "Forgotten again and again",
        "Hard to the end",
    ]
    assert str(made).count('class="blank"') == sum(len(told[key]["examples"]) for key in forgotten_keys()) - 1
    assert "Example digit/0.png, labelled class 0: " in str(made)


def test_where_losses_do_not_stand_apart_each_is_to_be_looked_at(told: dict[str, Any]) -> None:
    for suspects in ({"suspects": 0}, {"suspects": None}):
        said = words(forgotten.section(of({**told, **suspects})))
        assert "is the label right, can the picture be read?" in said
        assert "may be wrong" not in said


def test_where_little_is_recalled_the_network_is_blamed(told: dict[str, Any]) -> None:
    told = {**told, "suspects": 0}
    early = {**told, "seen": 300, "streaks": {"0": 160, "1-2": 140}}
    assert "tells more of the network than of any example" in words(forgotten.section(of(early)))
    later = {**told, "seen": 300, "streaks": {"0": 140, "1-2": 160}}
    assert "tells more of the network" not in words(forgotten.section(of(later)))


def test_where_nothing_was_lost_that_is_said(told: dict[str, Any]) -> None:
    none: dict[str, Any] = {"count": 0, "examples": []}
    said = words(forgotten.section(of({**told, "never_learned": none, "forgotten": none})))
    assert said.startswith("No example that came often was left unlearned, and none was lost again and again.")
    assert forgotten.section(of({**told, "never_learned": none, "forgotten": none, "hardest": none})) is None
    one = {"count": 1, "examples": told["forgotten"]["examples"][:1]}
    assert "1 example of 300 was recalled and lost again at least twice. They" in words(
        forgotten.section(of({**told, "forgotten": one}))
    )


def hostile_copy(value: Any, evil: str) -> Any:
    """The summary with every text replaced that is no word of ours."""
    if isinstance(value, dict):
        return {key: one if key == "streak" else hostile_copy(one, evil) for key, one in value.items()}
    if isinstance(value, list):
        return [hostile_copy(one, evil) for one in value]
    return evil if isinstance(value, str) else value


def test_whatever_the_summary_says_is_text(
    tmp_path: Path, make_run: Make, told: dict[str, Any], hostile: list[str]
) -> None:
    folder = put(make_run(tmp_path / "a", epochs=1), hostile_copy(told, "".join(hostile)))
    text = report.write(folder).read_text(encoding="utf-8")
    assert "This section could not be drawn" not in text
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert not {"\x00", "\u202e"} & set(text)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[1]", '{"rounds": 3}', '{"rounds": [1]}', '{"absence": [1]}', '{"forgotten": {"examples": 1}}'],
)
def test_a_damaged_summary_is_a_note(tmp_path: Path, make_run: Make, content: str) -> None:
    folder = make_run(tmp_path / "a", epochs=1)
    (folder / "review.json").write_text(content)
    run = run_folder.read(folder)
    assert run.review == {}
    assert len(run.notes) == bool(content)
    assert all("review.json could not be read" in note for note in run.notes)
    assert review.section(run) is None


def test_damaged_pictures_leave_the_rest(tmp_path: Path, make_run: Make, told: dict[str, Any]) -> None:
    folder = put(make_run(tmp_path / "a", epochs=1), told)
    (folder / "pictures" / "review.npz").write_bytes(b"PK")
    run = run_folder.read(folder)
    assert "review.npz could not be read" in run.notes[0]
    assert "no picture" in words(forgotten.section(run))


def test_the_page_stays_small_with_photographs(tmp_path: Path, make_run: Make, told: dict[str, Any]) -> None:
    named = [dict(told["hardest"]["examples"][0], index=index) for index in range(90)]
    lists = (("never_learned", named[:36]), ("forgotten", named[36:72]), ("hardest", named[72:]))
    full = {**told, **{key: {"count": len(rows), "examples": rows} for key, rows in lists}}
    folder = put(make_run(tmp_path / "a", epochs=1), full, side=144, channels=3)
    with np.load(folder / "pictures" / "review.npz") as arrays:
        rough, index = arrays["pixels"], arrays["index"]
    smooth = rough[:, ::12, ::12].repeat(12, 1).repeat(12, 2)
    np.savez_compressed(folder / "pictures" / "review.npz", index=index, pixels=smooth)
    assert len(index) == 90
    assert report.write(folder).stat().st_size < 2_000_000


def test_dots_of_two_groups_stand_apart_and_one_group_needs_no_legend() -> None:
    rows = [(1.0, 0.9, 0.8, 0.95, 30.0)]
    two = charts_review.retention([Group("a", rows), Group("b", rows)], x="delay", y="share")
    first, second = (two["layer"][place]["data"]["values"][0]["x"] for place in (1, 3))
    assert first * second == pytest.approx(1.0, rel=1e-3)
    assert second / first == pytest.approx(charts_review.APART, rel=1e-3)
    assert [layer["encoding"]["color"] for layer in two["layer"][:4]] == [{"datum": "a"}] * 2 + [{"datum": "b"}] * 2
    one = charts_review.retention([Group("a", rows, [(1.0, 0.9)], colour="var(--series-3)")], x="delay", y="share")
    assert len(one["layer"]) == 3
    assert one["layer"][0]["encoding"]["color"] == {"value": "var(--series-3)"}
    low, high = one["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert low < 1 < high


def test_bars_stand_over_what_they_count() -> None:
    whole = charts_review.bars([2, 3, 4], [5, 1], x="visits", y="examples")["layer"][0]
    assert [(one["from"], one["to"], one["count"]) for one in whole["data"]["values"]] == [(1.5, 2.5, 5), (2.5, 3.5, 1)]
    assert whole["encoding"]["x"]["axis"]["values"] == [2, 3]
    log = charts_review.bars([0.5, 1.0, 2.0], [20_000, 1], x="strength", y="examples", log=True)["layer"][0]
    assert [(one["from"], one["to"]) for one in log["data"]["values"]] == [(0.5, 1.0), (1.0, 2.0)]
    assert log["encoding"]["x"]["scale"]["type"] == "log"
    assert log["encoding"]["x"]["axis"]["values"] == [0.5, 1, 2]
    assert (whole["encoding"]["y"]["axis"]["format"], log["encoding"]["y"]["axis"]["format"]) == (",d", "~s")


def test_an_axis_names_no_more_powers_of_two_than_it_holds() -> None:
    assert charts_review.powers(0.9, 4.1) == [1, 2, 4]
    assert charts_review.powers(2**-6, 2**6) == [2.0**-6, 2.0**-4, 2.0**-2, 1, 4, 16, 64]
    assert charts_review.powers(0.6, 0.9) == []


def test_a_tile_shows_the_last_visits_as_dots(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "run", epochs=2)
    ledger = Ledger(4)
    for visit, grade in enumerate([0.9, 0.1, 0.9, 0.9]):
        one = torch.ones(1)
        ledger.record(Observed(torch.tensor([2]), one, grade * one, float(visit) * one, torch.zeros(1).long()))
    export.write(ledger, folder / "ledger.parquet")
    run = run_folder.read(folder)
    assert "●○●●" in str(forgotten.gallery([{"index": 2}], run))
    assert "●" not in str(forgotten.gallery([{"index": 3}, {"index": 9}, {}], run))
