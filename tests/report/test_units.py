"""Dead and saturated units: the worst layer is named, with its numbers and the diagnoses' thresholds."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from engram.clinic import arrays
from engram.clinic.measured import History, Layer, Moment
from engram.report import run_folder
from engram.report.run_folder import Run
from engram.report.sections import units

Make = Callable[..., Path]


def relu(name: str, dead: int | None, probed: int = 1024) -> Layer:
    return Layer(name, "ReLU", 0, 0.5, 1.0, 3.0, 0.5, 1.0, units=40, dead=dead, probed=probed)


def tanh(name: str, depth: int, saturated: float | None) -> Layer:
    return Layer(name, "Tanh", depth, 0.5, 1.0, 1.0, 0.0, 1.0, units=40, saturated=saturated)


@pytest.fixture
def folder(tmp_path: Path, make_run: Make) -> Path:
    """23 steps are an epoch in it."""
    return make_run(tmp_path / "run", epochs=2, evaluated=False)


def read(folder: Path, *moments: tuple[int, tuple[Layer, ...]]) -> Run:
    arrays.write(folder / "probes" / "clinic.npz", History(tuple(Moment(step, layers=of) for step, of in moments)))
    return run_folder.read(folder)


def told(run: Run) -> str:
    made = units.section(run)
    assert made is not None
    return "\n".join(re.findall("<(?:figcaption|p)>(.*?)</", made)).replace("\u202f", " ")


def levels(run: Run) -> list[tuple[str, int, int, str]]:
    (spec,) = [json.loads(one) for one in re.findall('class="spec">(.*?)</script>', str(units.section(run)))]
    cells = spec["layer"][0]["data"]["values"]
    return [(cell["row"], cell["x"], cell["x2"], cell["level"].replace("\u202f", " ")) for cell in cells]


def test_the_worst_layer_is_told_and_every_moment_is_drawn(folder: Path) -> None:
    run = read(
        folder,
        (0, (relu("a", 0), relu("b", 4))),
        (23, (relu("a", 5), relu("b", 24))),
        (46, (relu("a", 2), relu("b", 12))),
    )
    assert told(run) == (
        "Many units of a layer are dead: at epoch 2, 12 of the 40 units of “b” (30 %) are 0 for each of 1,024 "
        "examples, the most of 2 layers. The most was 60 %, in “b” at epoch 1. Healthy is up to 10 %; over 25 % is a "
        "warning, over 50 % critical while nothing is learned."
    )
    assert levels(run) == [
        ("a", 0, 1, "none"),
        ("a", 1, 2, "10 to 25 %"),
        ("a", 2, 3, "up to 10 %"),
        ("b", 0, 1, "up to 10 %"),
        ("b", 1, 2, "over 50 %"),
        ("b", 2, 3, "25 to 50 %"),
    ]


@pytest.mark.parametrize(
    ("dead", "verdict"),
    [
        (4, "Hardly any unit is dead: "),
        (5, "Some units are dead: "),
        (10, "Some units are dead: "),
        (11, "Many units of a layer are dead: "),
        (20, "Many units of a layer are dead: "),
        (21, "Most units of a layer are dead: "),
    ],
)
def test_verdicts_change_at_the_diagnosis_thresholds(folder: Path, dead: int, verdict: str) -> None:
    assert told(read(folder, (23, (relu("a", dead),)))).startswith(verdict)


def test_of_few_examples_it_is_said_that_rare_units_look_dead(folder: Path) -> None:
    few = "Over so few examples, units that answer seldom look dead as well."
    assert few in told(read(folder, (23, (relu("a", 9, probed=128),))))
    assert few not in told(read(folder, (23, (relu("a", 9),))))


def test_without_a_dead_unit_a_sentence_is_enough(folder: Path) -> None:
    run = read(folder, (0, (relu("a", 0), relu("b", 0))), (23, (relu("a", 0), relu("b", 0))))
    assert told(run) == (
        "No unit of a rectifier is dead: at each of 2 moments, every unit of 2 layers answered to some of 1,024 "
        "examples."
    )
    assert "<svg" not in str(units.section(run))


def test_saturation_is_told_of_all_but_the_last_layer(folder: Path) -> None:
    layers = (tanh("a", 0, 0.3), tanh("b", 1, 0.6), tanh("out", 2, 0.99))
    run = read(folder, (0, (tanh("a", 0, 0.9), tanh("b", 1, 0.1), tanh("out", 2, 0.0))), (23, layers))
    assert told(run) == (
        "Most values of a layer are saturated: at epoch 1, 60 % of the values of “b” stand at the ends of its range, "
        "the most of 2 layers. The most was 90 %, in “a” at the start. Up to 50 % is usual; more does harm where "
        "little gradient arrives at the first layers or the loss stands still."
    )
    assert levels(run) == [
        ("a", 0, 1, "over 80 %"),
        ("a", 1, 2, "25 to 50 %"),
        ("b", 0, 1, "up to 25 %"),
        ("b", 1, 2, "50 to 80 %"),
    ]


def test_half_is_not_most(folder: Path) -> None:
    run = read(folder, (23, (tanh("a", 0, 0.5), tanh("out", 1, 0.0))))
    assert told(run).startswith("Few values are saturated: at epoch 1, 50 % of the values of “a” stand")


def test_without_measurements_there_is_no_section(folder: Path) -> None:
    assert units.section(run_folder.read(folder)) is None
    assert units.section(read(folder, (23, (relu("a", None),)))) is None
    assert units.section(read(folder)) is None
    assert units.section(read(folder, (23, (tanh("a", 0, math.nan), tanh("out", 1, None))))) is None


def test_a_layer_that_came_late_is_blank_before(folder: Path) -> None:
    run = read(folder, (0, (relu("a", 1),)), (23, (relu("a", 1), relu("b", 40))))
    assert ("b", 1, 2, "over 50 %") in levels(run)
    assert len([cell for cell in levels(run) if cell[0] == "b"]) == 1
