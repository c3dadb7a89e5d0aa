"""Step sizes: update over weight at its place, the healthy range behind it, the learning rate under the same axis."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import altair
import numpy as np
import pytest

from engram.clinic import arrays
from engram.clinic.measured import History, Moment, Weights
from engram.report import run_folder
from engram.report.run_folder import Run
from engram.report.sections import step_sizes

Make = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, make_run: Make) -> Path:
    """23 steps are an epoch in it."""
    return make_run(tmp_path / "run", epochs=2, evaluated=False)


def matrix(
    name: str, update: float | None, norm: float = 1.0, *, trainable: bool = True, gradient: float = 0.5
) -> Weights:
    return Weights(name, "Linear", (4, 3), trainable, True, norm, gradient, update)


def moment(step: int, *weights: Weights, lr: float | None = None) -> Moment:
    bias = Weights("bias", "Linear", (4,), True, True, 1.0, 0.5, 0.9)  # moves far, and is no matrix
    return Moment(step, loss=1.0, lr=lr, weights={one.name: one for one in (*weights, bias)})


def read(folder: Path, *moments: Moment) -> Run:
    arrays.write(folder / "probes" / "clinic.npz", History(moments))
    return run_folder.read(folder)


def caption(run: Run) -> str:
    (told,) = re.findall("<figcaption>(.*?)</figcaption>", str(step_sizes.section(run)))
    return told


def spec(run: Run) -> dict:
    (told,) = re.findall('class="spec">(.*?)</script>', str(step_sizes.section(run)))
    return json.loads(told)


def values(view: dict) -> list[tuple[str, list[tuple[float, float]]]]:
    """The lines of a view with the names of their colours."""
    found = []
    for layer in view["layer"]:
        if isinstance(layer["mark"], dict) and layer["mark"]["type"] == "line":
            points = [(one["x"], one["y"]) for one in layer["data"]["values"]]
            found.append((layer["encoding"]["color"].get("datum", ""), points))
    return found


def test_ratios_and_rates_stand_on_one_axis(folder: Path) -> None:
    powers = 2.0**-10, 2.0**-9, 2.0**-7
    run = read(
        folder,
        moment(0, matrix("a", None), lr=0.25),
        moment(23, *(matrix(name, 2 * power, 2.0) for name, power in zip("abc", powers, strict=True)), lr=0.5),
        moment(46, *(matrix(name, power / 2) for name, power in zip("abc", powers, strict=True)), lr=0.125),
        Moment(69, loss=1.0, lr=0.0625),
    )
    drawn = spec(run)
    altair.Chart.from_dict(drawn)
    upper, lower = drawn["vconcat"]
    assert values(upper) == [
        ("median of all", [(1, pytest.approx(2**-9, rel=1e-3)), (2, pytest.approx(2**-10, rel=1e-3))]),
        ("first layer", [(1, pytest.approx(2**-10, rel=1e-3)), (2, pytest.approx(2**-11, rel=1e-3))]),
        ("last layer", [(1, pytest.approx(2**-7, rel=1e-3)), (2, pytest.approx(2**-8, rel=1e-3))]),
    ]
    assert values(lower) == [("", [(0, 0.25), (1, 0.5), (2, 0.125), (3, 0.0625)])]
    areas = [one for one in upper["layer"] if one["mark"] != "line" and one["mark"]["type"] == "area"]
    assert [one["high"] for one in areas[0]["data"]["values"]] == pytest.approx([2**-7, 2**-8], rel=1e-3)
    assert [one["low"] for one in areas[0]["data"]["values"]] == pytest.approx([2**-10, 2**-11], rel=1e-3)
    domains = [layer["encoding"]["x"]["scale"]["domain"] for view in (upper, lower) for layer in view["layer"]
               if layer["mark"] != "line" and layer["mark"]["type"] == "line"]  # fmt: skip
    assert domains == [[0, 3]] * 4
    assert caption(run) == (
        "Steps are of a healthy size: in the first 60 steps the median matrix moved by 0.0015 of its length a step; "
        "healthy is 0.0005 to 0.026. At epoch 2 it is 0.00098, from 0.00049 in “a” to 0.0039 in “c”. Shaded: all of "
        "them. Later steps follow the learning rate, drawn below."
    )


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (1.9e-4, "Steps are very small: "),
        (2.1e-4, "Steps are small: "),
        (4.9e-4, "Steps are small: "),
        (5.1e-4, "Steps are of a healthy size: "),
        (2.55e-2, "Steps are of a healthy size: "),
        (2.65e-2, "Steps are large: "),
    ],
)
def test_the_verdict_is_of_the_first_steps(folder: Path, ratio: float, verdict: str) -> None:
    run = read(folder, moment(46, matrix("a", ratio)), moment(600, matrix("a", 1.0)), moment(900, matrix("a", 1.0)))
    assert caption(run).startswith(verdict)


def test_the_healthy_range_and_the_learning_rate_are_drawn(folder: Path) -> None:
    told = str(step_sizes.section(read(folder, *(moment(at, matrix("a", 0.001), lr=0.1) for at in (1, 2, 40)))))
    assert ">healthy in the first 60 steps</text>" in told
    assert ">learning rate</text>" in told
    assert all(f">{name}</text>" in told for name in ("10⁻⁴", "0.001", "0.1"))


def test_without_rates_there_is_one_view(folder: Path) -> None:
    run = read(folder, moment(23, matrix("a", 0.001)), moment(46, matrix("a", 0.001)))
    assert "vconcat" not in spec(run)
    assert "learning rate" not in caption(run)


def test_steps_that_are_rounded_away_do_not_take_up_the_axis(folder: Path) -> None:
    run = read(folder, moment(23, matrix("a", 0.001)), moment(46, matrix("a", 1e-12)))
    assert values(spec(run)) == [("", [(1, pytest.approx(0.001, rel=1e-3)), (2, step_sizes.FLOOR)])]
    assert "At epoch 2 it is 1e-12. Smaller ones are drawn at 1e-07." in caption(run)


def test_frozen_and_lost_matrices_do_not_count_and_are_in_the_table(folder: Path) -> None:
    run = read(
        folder,
        moment(23, matrix("a", 0.001), matrix("b", 0.0, trainable=False), matrix("c", math.nan, gradient=math.inf)),
    )
    assert values(spec(run)) == [("", [(1, pytest.approx(0.001, rel=1e-3))])]
    rows = re.findall('<tr><th scope="row">(.)</th>(.*?)</tr>', str(step_sizes.section(run)))
    cells = {name: re.sub("<.*?>", "|", row) for name, row in rows}
    assert set(cells) == {"a", "b", "c"}
    assert "4 × 3" in cells["a"]
    assert "|frozen|" in cells["b"]
    assert "|not finite|" in cells["c"]


@pytest.mark.parametrize("update", [None, 0.0, math.nan, math.inf])
def test_without_a_step_there_is_no_section(folder: Path, update: float | None) -> None:
    assert step_sizes.section(run_folder.read(folder)) is None
    assert step_sizes.section(read(folder, moment(23, matrix("a", update), lr=0.1))) is None
    assert step_sizes.section(read(folder)) is None


def test_a_deep_network_and_a_long_run_weigh_little(folder: Path) -> None:
    rng = np.random.default_rng(0)
    draws = np.exp(rng.normal(-7, 2, (60, 150)))
    moments = [
        moment(at * 50, *(matrix(f"layer{place}", ratio) for place, ratio in enumerate(row)), lr=0.1 + rng.random())
        for at, row in enumerate(draws.tolist())
    ]
    losses = [Moment(at, loss=1.0, lr=rng.random()) for at in range(1, 3000) if at % 50]
    run = read(folder, *sorted([*moments, *losses], key=lambda one: one.step))
    told = str(step_sizes.section(run))
    assert max(map(len, re.findall("<figure.*?</figure>", told, re.DOTALL))) < 60_000
    assert "Shaded: eight in ten of them." in told
