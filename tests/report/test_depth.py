"""Signal and gradient by depth: drawn where the numbers are, told with the diagnoses' own thresholds."""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import altair
import numpy as np
import pytest

from engram.clinic import arrays
from engram.clinic.measured import History, Layer, Moment
from engram.report import page, run_folder
from engram.report.run_folder import Run
from engram.report.sections import depth

Make = Callable[..., Path]


def layer(
    at: int, gradient: float | None = 1.0, std: float = 1.0, kind: str = "Linear", name: str | None = None
) -> Layer:
    return Layer(name or f"fc{at}", kind, at, 0.0, std, 3.0, 0.0, gradient, units=8)


def moment(step: int, gradients: Sequence[float | None], stds: Sequence[float] | None = None) -> Moment:
    stds = stds or [1.0] * len(gradients)
    return Moment(step, layers=tuple(layer(at, g, s) for at, (g, s) in enumerate(zip(gradients, stds, strict=True))))


def read(folder: Path, *moments: Moment) -> Run:
    arrays.write(folder / "probes" / "clinic.npz", History(moments))
    return run_folder.read(folder)


@pytest.fixture
def folder(tmp_path: Path, make_run: Make) -> Path:
    """23 steps are an epoch in it."""
    return make_run(tmp_path / "run", epochs=2, evaluated=False)


def captions(run: Run) -> list[str]:
    told = depth.section(run)
    assert told is not None
    return [re.sub("&#?[a-z0-9]+;", "'", one) for one in re.findall("<figcaption>(.*?)</figcaption>", told)]


def specs(run: Run) -> list[dict]:
    return [json.loads(one) for one in re.findall('class="spec">(.*?)</script>', str(depth.section(run)))]


def drawn(spec: dict) -> list[list[tuple[float, float]]]:
    """The points of each line."""
    found = [one["data"]["values"] for one in spec["layer"] if one["mark"] != "line" and one["mark"]["type"] == "line"]
    return [[(value["x"], value["y"]) for value in values] for values in found]


def test_lines_are_the_gradients_over_that_of_the_last_hidden_layer(folder: Path) -> None:
    run = read(folder, moment(0, [8.0, 2.0, 4.0, 1.0, 99.0]), moment(23, [0.25, 0.25, 1.0, 0.5, 99.0]))
    gradient, signal = specs(run)
    first, last = drawn(gradient)
    assert first == [(1, 8), (2, 2), (3, 4), (4, 1)]
    assert last == [(1, 0.5), (2, 0.5), (3, 2), (4, 1)]
    assert drawn(signal) == [[(1, 1), (2, 1), (3, 1), (4, 1)]] * 2
    band = gradient["layer"][0]
    assert band["mark"]["type"] == "rect"
    assert (band["data"]["values"][0]["low"], band["data"]["values"][0]["high"]) == (0.01, 100)
    for spec in (gradient, signal):
        altair.Chart.from_dict(spec)
        (names,) = [one["encoding"]["color"]["scale"]["domain"] for one in spec["layer"] if one["mark"] == "line"]
        assert names == ["the start", "epoch 1"]
    assert captions(run)[0] == (
        "The gradient arrives at the first layers: at epoch 1 those like “fc0” receive 0.5 times what reaches the last "
        "hidden ones, like “fc3” (8 times at the start). Under 0.01 it is vanishing, over 100 exploding."
    )


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        (
            (0.0099, 1.0),
            "The gradient vanishes on its way to the first layers: at epoch 1 those like “fc0” receive 0.0",
        ),
        ((0.011, 1.0), "The gradient arrives at the first layers: "),
        ((99.0, 1.0), "The gradient arrives at the first layers: "),
        ((101.0, 1.0), "The gradient explodes on its way to the first layers: at epoch 1 those like “fc0” receive 1"),
    ],
)
def test_the_verdict_is_that_of_the_diagnoses_thresholds(folder: Path, ends: tuple, verdict: str) -> None:
    first, last = ends
    run = read(folder, moment(23, [first, 0.5, last, 1.0]))
    assert captions(run)[0].startswith(verdict)


@pytest.mark.parametrize(
    ("stds", "verdict"),
    [
        (
            (2.0, 0.19),
            "Signals shrink with depth: at epoch 1 the standard deviation is 2 in “fc0” and 0.19 in “fc1”, 0.09",
        ),
        ((2.0, 0.21), "Signals keep their scale through depth: "),
        ((2.0, 19.0), "Signals keep their scale through depth: "),
        ((2.0, 21.0), "Signals grow with depth: at epoch 1 the standard deviation is 2 in “fc0” and 21 in “fc1”, 1"),
    ],
)
def test_signals_are_judged_by_the_first_layers(folder: Path, stds: tuple, verdict: str) -> None:
    run = read(folder, moment(23, [1.0, 1.0, 1.0], [*stds, 500.0]))
    assert captions(run)[1].startswith(verdict)
    band = specs(run)[1]["layer"][0]["data"]["values"][0]
    assert (band["low"], band["high"]) == pytest.approx((0.2, 20.0))


def test_what_is_normalised_at_once_is_shown_after_that(folder: Path) -> None:
    layers = [layer(0, std=50.0), layer(1, std=1.5, kind="BatchNorm1d"), layer(2, std=0.75), layer(3, std=9.0)]
    _, signal = specs(read(folder, Moment(23, layers=tuple(layers))))
    assert drawn(signal) == [[(1, 1.5), (2, 0.75)]]


def test_the_drawing_puts_a_tenfold_fall_at_the_same_distance(folder: Path) -> None:
    told = str(depth.section(read(folder, moment(23, [1e-6, 1e-4, 1e-2, 1.0, 1.0]))))
    (path,) = re.findall(r'd="(M[^"]+)"[^>]*stroke="var\(--series-1\)"', told)[:1]
    x, y = np.array([pair.split(",") for pair in re.split("[ML]", path)[1:]], dtype=float).T
    assert np.allclose(np.diff(x), np.diff(x)[0], atol=0.1)
    assert np.allclose(np.diff(y), np.diff(y)[0], atol=0.1)
    assert np.diff(y)[0] < 0
    assert all(f">{name}</text>" in told for name in ("10⁻⁶", "0.01", "100", "healthy: 0.01 to 100"))


def test_no_gradient_at_all_is_told(folder: Path) -> None:
    run = read(folder, moment(0, [1.0, 1.0, 1.0, 1.0]), moment(46, [0.0, 0.0, 0.0, 1.0]))
    assert captions(run)[0].endswith(" At epoch 2 no gradient reaches any hidden layer.")
    assert len(drawn(specs(run)[0])) == 1


def test_layers_that_are_no_longer_finite_are_named(folder: Path) -> None:
    good, bad = moment(0, [1.0] * 4), moment(23, [math.nan] * 4, [1.0, math.nan, math.inf, 1.0])
    run = read(folder, good, bad)
    told = depth.section(run)
    assert told is not None
    assert "From epoch 1 on, outputs are infinite or not a number: “fc1” is the first of 2 such layers." in told
    assert "not finite" in told
    assert drawn(specs(run)[0]) == [[(1, 1), (2, 1), (3, 1)]]


@pytest.mark.parametrize("value", [math.nan, math.inf, None, 0.0])
def test_nothing_to_draw_is_no_failure(folder: Path, value: float | None) -> None:
    stds = [math.nan if value is None else value] * 4
    run = read(folder, moment(0, [value] * 4, stds))
    told = depth.section(run)
    assert told is None or "<svg" not in told


def test_without_measurements_there_is_no_section(folder: Path) -> None:
    assert depth.section(run_folder.read(folder)) is None
    assert depth.section(read(folder, Moment(1, loss=1.0))) is None


def test_every_layer_is_in_the_table(folder: Path) -> None:
    told = str(depth.section(read(folder, moment(0, [1.0] * 3), moment(23, [0.125, None, 1.0]))))
    assert "Every layer at epoch 1 in numbers: 3" in told
    rows = re.findall('<tr><th scope="row">(fc.)</th>(.*?)</tr>', told)
    assert [name for name, _ in rows] == ["fc0", "fc1", "fc2"]
    cells = [re.sub("<.*?>", "|", cells) for _, cells in rows]
    assert "|0.125|" in cells[0]
    assert "|–|" in cells[1]


def test_names_cannot_break_the_page(folder: Path, hostile: list[str]) -> None:
    layers = tuple(layer(at, 1.0, name=name) for at, name in enumerate(hostile))
    told = page.render(replace(read(folder, Moment(23, layers=layers)), end=None, alive=True))
    assert "<script>alert" not in told
    assert "<img src=x" not in told
    assert "could not be drawn" not in told


def test_a_thousand_layers_weigh_little(folder: Path) -> None:
    rng = np.random.default_rng(0)
    moments = [moment(step, np.exp(rng.normal(0, 1, 1000)).tolist()) for step in (0, 1, 10, 100, 1000, 2000)]
    told = str(depth.section(read(folder, *moments)))
    assert max(map(len, re.findall("<figure.*?</figure>", told, re.DOTALL))) < 60_000
