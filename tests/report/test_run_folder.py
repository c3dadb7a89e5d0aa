"""Reading a run folder that is being written, was killed, or is damaged."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engram.clinic import arrays
from engram.clinic.finding import Finding, Remedy
from engram.clinic.measured import History, Moment
from engram.errors import UserError
from engram.report import run_folder

Make = Callable[..., Path]


def lines(folder: Path, *events: dict, tail: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events) + tail)
    return folder


def step(number: int, seconds: float = 0.0, loss: float = 1.0) -> dict:
    return {"event": "step", "step": number, "epoch": number / 10, "loss": loss, "seconds": seconds}


def test_what_training_wrote_is_read(tmp_path: Path, make_run: Make) -> None:
    run = run_folder.read(make_run(tmp_path / "one", epochs=3))
    assert (run.name, run.model, run.data, run.state) == ("one", "resnet20", "digits", "finished")
    assert (run.step, run.total_steps, len(run.epochs), len(run.steps)) == (69, 69, 3, 18)
    assert run.seconds == pytest.approx(0.56 * 69 + 0.4)
    assert sorted(run.evaluations) == ["test", "validation"]
    evaluation = run.evaluation
    assert evaluation is not None
    assert evaluation.split == "validation"
    assert {row["index"] for row in evaluation.summary["worst"]} <= set(evaluation.pictures)
    counts = np.sum(evaluation.summary["confusion"], axis=1)
    assert evaluation.majority == counts.max() / counts.sum()
    assert not run.notes


def test_half_a_last_line_is_left_for_next_time(tmp_path: Path) -> None:
    run = run_folder.read(lines(tmp_path / "a", step(1), step(2), tail='{"event": "step", "st'))
    assert run.step == 2
    assert run.notes == ()


def test_a_broken_line_in_the_middle_is_told(tmp_path: Path) -> None:
    folder = lines(tmp_path / "a", step(1), tail='{"event": "st\n' + json.dumps(step(2)) + "\n[1]\n7\n")
    run = run_folder.read(folder)
    assert run.step == 2
    assert run.notes == ("metrics.jsonl: 1 line could not be read",)


def test_a_run_without_an_end_is_alive_while_it_writes(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "a", end=None, epochs=1)
    assert run_folder.read(folder).state == "training"
    then = time.time() - run_folder.SILENCE - 5
    os.utime(folder / "metrics.jsonl", (then, then))
    assert run_folder.read(folder).state == "silent"
    assert run_folder.read(folder, alive=True).state == "training"
    assert run_folder.read(folder, alive=False).state == "silent"


def test_a_resumed_run_goes_on_from_its_saved_state(tmp_path: Path) -> None:
    folder = lines(
        tmp_path / "a",
        {"event": "start", "total_steps": 40, "steps_per_epoch": 10},
        step(10, 5.0, loss=2.0),
        {"event": "epoch", "epoch": 1, "step": 10, "seconds": 5.5},
        step(15, 8.0, loss=99.0),
        {"event": "end", "reason": "interrupted", "step": 15, "seconds": 8.0},
        {"event": "resumed", "step": 10, "total_steps": 60},
        step(12, 1.0, loss=1.5),
        step(20, 4.0, loss=1.2),
    )
    run = run_folder.read(folder)
    assert [(one["step"], one["loss"]) for one in run.steps] == [(10, 2.0), (12, 1.5), (20, 1.2)]
    assert [one["seconds"] for one in run.steps] == [5.0, 6.5, 9.5]  # its clock began again
    assert (run.total_steps, run.begin["steps_per_epoch"], run.end, run.state) == (60, 10, None, "training")
    assert not run_folder.has_ended(folder)


def test_a_resumed_clock_that_goes_on_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = lines(tmp_path / "a", step(10, 5.0), {"event": "resumed", "step": 10}, step(12, 6.0), step(14, 7.0))
    assert [one["seconds"] for one in run_folder.read(folder).steps] == [5.0, 6.0, 7.0]


def test_an_end_that_steps_follow_was_none(tmp_path: Path) -> None:
    end = {"event": "end", "reason": "interrupted", "step": 10}
    assert run_folder.read(lines(tmp_path / "a", step(10), end, step(11))).end is None
    assert run_folder.read(lines(tmp_path / "a", step(10), end, {"event": "threads", "step": 10})).end == end


def test_epochs_are_counted_by_steps(tmp_path: Path) -> None:
    run = run_folder.read(lines(tmp_path / "a", {"event": "start", "steps_per_epoch": 4}, step(6)))
    assert run.epoch_of(run.steps[0]) == 1.5
    without = run_folder.read(lines(tmp_path / "b", step(6)))
    assert without.epoch_of(without.steps[0]) == 0.6


@pytest.mark.parametrize(
    "name", ["environment.json", "card.json", "network.json", "recipe.toml", "evaluation/validation.json"]
)
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\x00\xfe", b'["a"]'])
def test_a_damaged_file_is_a_note(tmp_path: Path, make_run: Make, name: str, content: bytes) -> None:
    folder = make_run(tmp_path / "a", epochs=1)
    (folder / name).write_bytes(content)
    run = run_folder.read(folder)
    assert run.step == 23
    expected = 1 if content and not (name == "recipe.toml" and content == b'["a"]') else 0  # that one is valid TOML
    assert len(run.notes) == expected
    assert all(Path(name).name in note for note in run.notes)


def finding(**changes: object) -> dict:
    one = Finding(
        "dead_relus", "critical", "it is so", "it matters", Remedy("less", {"optimizer.lr": 0.1}), "more", 0.9
    )
    return {**one.to_dict(), **changes}


def test_findings_are_read_in_their_order(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "a", epochs=1)
    assert run_folder.read(folder).findings == ()
    rows = [finding(), finding(diagnosis="overfitting", severity="warning")]
    (folder / "findings.json").write_text(json.dumps(rows))
    run = run_folder.read(folder)
    assert [dict(one) for one in run.findings] == rows
    assert run.notes == ()


@pytest.mark.parametrize(
    "changes",
    [{"severity": "fatal"}, {"says": None}, {"remedy": {"says": "less"}}, {"where": [1]}, {"confidence": "0.5"}],
)
def test_findings_of_another_form_are_left_out_with_a_note(
    tmp_path: Path, make_run: Make, changes: dict[str, object]
) -> None:
    folder = make_run(tmp_path / "a", epochs=1)
    (folder / "findings.json").write_text(json.dumps([finding(**changes), finding(), "text"]))
    run = run_folder.read(folder)
    assert [dict(one) for one in run.findings] == [finding()]
    assert run.notes == ("findings.json: 2 findings are of another form and left out",)


@pytest.mark.parametrize("content", ["{", "7", "{}", "\x00"])
def test_damaged_findings_are_a_note(tmp_path: Path, make_run: Make, content: str) -> None:
    folder = make_run(tmp_path / "a", epochs=1)
    (folder / "findings.json").write_text(content)
    run = run_folder.read(folder)
    assert run.findings == ()
    assert "findings.json could not be read" in run.notes[0]


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive"])
def test_damaged_pictures_are_a_note(tmp_path: Path, make_run: Make, content: bytes) -> None:
    folder = make_run(tmp_path / "a", epochs=1)
    (folder / "evaluation" / "validation_pictures.npz").write_bytes(content)
    run = run_folder.read(folder)
    assert run.evaluation is not None
    assert run.evaluation.pictures == {}
    assert "validation_pictures.npz" in run.notes[0]


def test_pictures_with_code_in_them_are_refused(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "a", epochs=1)
    hostile = np.array([print], dtype=object)
    np.savez(folder / "evaluation" / "validation_pictures.npz", index=hostile, pixels=hostile)
    assert "validation_pictures.npz could not be read" in run_folder.read(folder).notes[0]


def test_pictures_of_another_form_are_a_note(tmp_path: Path, make_run: Make) -> None:
    folder = make_run(tmp_path / "a", epochs=1)
    np.savez(folder / "evaluation" / "test_pictures.npz", index=np.arange(2), pixels=np.zeros((2, 8)))
    assert run_folder.read(folder).notes == ("test_pictures.npz holds no pictures: float64 of shape (2, 8)",)


@pytest.mark.parametrize("confusion", [[[1, 2], [3]], [[1]], [["a", 1], [2, 3]], [1, 2], [[1, 2], [3, 4], [5, 6]]])
def test_a_matrix_of_other_classes_is_a_note(tmp_path: Path, make_run: Make, confusion: list) -> None:
    folder = make_run(tmp_path / "a", epochs=1, classes=2)
    path = folder / "evaluation" / "validation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "confusion": confusion}))
    run = run_folder.read(folder)
    assert list(run.evaluations) == ["test"]
    assert "validation.json could not be read: its confusion matrix" in run.notes[0]


def test_what_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no run folder"):
        run_folder.read(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is not a run folder"):
        run_folder.read(tmp_path)


def test_only_finite_numbers_count() -> None:
    given = [1, 2.5, float("inf"), float("nan"), True, "3", None, [], 10**400]
    assert [run_folder.finite(one) for one in given] == [1.0, 2.5, *[None] * 7]


def test_names_are_shown_whole_and_harmless() -> None:
    assert run_folder.text("café 猫 🐈") == "café 猫 🐈"
    assert run_folder.text("a\x00b\x1b[31m\u202e\ud800") == "a\ufffdb\ufffd[31m\ufffd\ufffd"
    assert len(run_folder.text("x" * 500)) == 120


def test_the_clinics_measurements_are_read_and_damage_is_told(tmp_path: Path) -> None:
    folder = lines(tmp_path / "a", step(1))
    assert run_folder.read(folder).probes == {}
    path = folder / "probes" / "clinic.npz"
    arrays.write(path, History((Moment(1, loss=2.5),)))
    run = run_folder.read(folder)
    assert run.probes["loss"].tolist() == [2.5]
    assert run.notes == ()
    path.write_bytes(path.read_bytes()[:300])
    run = run_folder.read(folder)
    assert run.probes == {}
    assert len(run.notes) == 1
    assert run.notes[0].startswith("clinic.npz could not be read: ")
