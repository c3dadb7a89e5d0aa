"""Heat-maps: cells where the numbers are, of the colour that the legend gives their level, and small however many."""

import re

import altair
import numpy as np

from engram.report.charts import figure, svg
from engram.report.heatmap import MOST_ROWS, Level, grouped, heatmap

LEVELS = (Level("none", 0.0, "#111111"), Level("few", 0.1, "#222222"), Level("many", 1.0, "#333333"))


def cells(values: list[list[float]]) -> list[tuple]:
    array = np.array(values)
    rows = [f"row {at}" for at in range(len(array))]
    spec = heatmap(array, rows, [str(at) for at in range(array.shape[1])], LEVELS, x="step", what="dead")
    altair.Chart.from_dict(spec)
    found = spec["layer"][0]["data"]["values"]
    return [(cell["row"], cell["x"], cell["x2"], cell["level"], cell["least"], cell["most"]) for cell in found]


def test_neighbours_of_a_level_are_one_cell_and_what_was_not_measured_is_blank() -> None:
    assert cells([[0.0, 0.05, 0.1, 0.1001, 1.0], [np.nan, 0.0, np.nan, 0.0, np.inf]]) == [
        ("row 0", 0, 1, "none", 0.0, 0.0),
        ("row 0", 1, 3, "few", 0.05, 0.1),
        ("row 0", 3, 5, "many", 0.1001, 1.0),
        ("row 1", 1, 2, "none", 0.0, 0.0),
        ("row 1", 3, 4, "none", 0.0, 0.0),
        ("row 1", 4, 5, "many", 1.0, 1.0),
    ]


def test_the_drawing_has_the_first_row_on_top_and_time_to_the_right() -> None:
    values = np.array([[1.0, 0.0], [0.05, 0.05]])
    drawn = svg(heatmap(values, ["top", "bottom"], ["1", "9"], LEVELS, x="step", what="dead"), "a map")
    found = {}
    for shape in re.findall(r"<path [^>]*>", drawn):
        box = re.search(r'd="M([\d.]+),([\d.]+)h([\d.]+)v([\d.]+)', shape)
        fill = re.search(r'fill="(#\d+)"', shape)
        if box and fill:
            found[fill[1]] = [float(one) for one in box.groups()]
    dead, none, few = (found[level.colour] for level in (LEVELS[2], LEVELS[0], LEVELS[1]))
    assert dead[0] < none[0]
    assert dead[1] == none[1] < few[1]
    assert few[2] > 1.9 * dead[2]
    assert drawn.index(">top<") < drawn.index(">bottom<")


def test_many_rows_are_grouped_by_their_highest() -> None:
    values = np.zeros((151, 2))
    values[70, 1] = 0.9
    values[80] = np.nan
    found, names = grouped(values, [str(at) for at in range(151)])
    assert len(found) == len(names) <= MOST_ROWS
    assert np.argwhere(found).tolist() == [[10, 1]]
    assert names[10] == "71–77"
    assert names[-1] == "148–151"


def test_a_map_of_a_deep_network_weighs_little() -> None:
    rng = np.random.default_rng(0)
    values = rng.choice([0.0, 0.05, 0.5], (151, 60), p=[0.9, 0.05, 0.05])  # no two neighbours are sure to be alike
    spec = heatmap(values, ["a"] * 151, [str(at) for at in range(60)], LEVELS, x="step", what="dead")
    assert len(figure(spec, "a map", "of much")) < 60_000
    assert max(cell["most"] for cell in spec["layer"][0]["data"]["values"]) == 0.5
    names = spec["layer"][0]["encoding"]["x"]["axis"]["labelExpr"]
    assert names.startswith('["0",')
    assert '"59"]' in names
