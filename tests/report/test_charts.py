"""Charts: valid Vega-Lite by Altair's schema, the drawing where the numbers say, and honest thinning and smoothing."""

import json
import re
from html.parser import HTMLParser

import altair
import numpy as np
import pytest

from engram.report import charts
from engram.report.charts import Line

SERIES = [
    Line("training", [(0.5, 2.0), (1.0, 1.0), (1.5, 0.5)], faint=True),
    Line("validation <b>", [(1.0, 1.2), (2.0, 0.7)], charts.COLOURS[1], dots=True, dash=(4, 2)),
    Line("third", [(0.5, 0.1)], charts.COLOURS[2]),
    Line("empty", []),
]
BINS = [
    {"confidence": 0.95, "accuracy": 0.9, "count": 40},
    {"confidence": 0.5, "accuracy": 0.6, "count": 5},
    {"confidence": 0.2, "accuracy": 0.0, "count": 0},
]


@pytest.mark.parametrize(
    "spec",
    [
        charts.lines(SERIES, x="epoch", y="loss"),
        charts.lines(SERIES[:1], x="epoch", y="accuracy", y_format=".0%", zero=True),
        charts.lines(SERIES, x="epoch", y="loss", log=True, until=2.0),
        charts.reliability(BINS),
    ],
    ids=["lines", "one line", "log", "reliability"],
)
def test_every_specification_is_valid_vega_lite(spec: dict) -> None:
    altair.Chart.from_dict(spec)  # raises where the schema is not met
    json.dumps(spec, allow_nan=False)


def test_named_series_are_in_the_legend_and_faint_and_empty_ones_are_not() -> None:
    spec = charts.lines(SERIES, x="epoch", y="loss")
    colours = [layer["encoding"]["color"] for layer in spec["layer"]]
    assert colours[:3] == [{"value": charts.COLOURS[0]}, {"datum": "validation <b>"}, {"datum": "third"}]
    assert colours[3]["scale"] == {"domain": ["validation <b>", "third"], "range": list(charts.COLOURS[1:3])}
    drawn = charts.svg(spec, "lines")
    assert [drawn.count(f">{name}</text>") for name in ("validation &lt;b&gt;", "third", "training")] == [1, 1, 0]
    assert drawn.count("var(--series-1)") == 1
    assert all(drawn.count(f"var(--series-{number})") >= 2 for number in (2, 3))  # the line, and in the legend
    alone = charts.lines(SERIES[1:2], x="epoch", y="loss")["layer"]
    assert [layer["encoding"]["color"] for layer in alone] == [{"value": charts.COLOURS[1]}]


def test_the_drawing_goes_through_the_points() -> None:
    drawn = charts.svg(charts.lines([Line("a", [(0, 0), (1, 1), (2, 4)])], x="x", y="y"), "a line")
    (path,) = re.findall(r'd="(M[^"]+)"[^>]*stroke="var\(--series-1\)"', drawn)
    x, y = np.array([pair.split(",") for pair in re.split("[ML]", path)[1:]], dtype=float).T
    assert np.allclose((x - x[0]) / (x[-1] - x[0]), [0, 0.5, 1], atol=1e-3)
    assert np.allclose((y - y[0]) / (y[-1] - y[0]), [0, 0.25, 1], atol=1e-3)
    assert y[-1] < y[0]  # up is more


def test_a_drawing_is_one_labelled_image_and_nothing_else() -> None:
    drawn = charts.svg(charts.lines(SERIES, x="epoch", y="loss"), 'loss "quoted" & <b>')
    parser = Tags()
    parser.feed(drawn)
    name, attributes = parser.tags[0]
    assert name == "svg"
    assert attributes["role"] == "img"
    assert attributes["aria-label"] == 'loss "quoted" & <b>'
    assert attributes["viewbox"] == f"0 0 {charts.WIDTH} {charts.HEIGHT}"
    assert {tag for tag, _ in parser.tags} <= {"svg", "g", "path", "line", "text", "title"}
    assert "http" not in drawn
    assert "validation <b>" in "".join(parser.words)


def test_charts_can_end_at_the_same_place() -> None:
    spec = charts.lines(SERIES, x="epoch", y="loss", until=12.5)
    scales = [layer["encoding"]["x"]["scale"] for layer in spec["layer"][:3]]
    assert scales == [{"nice": False, "domain": [0, 12.5]}] * 3


def test_log_leaves_out_what_has_no_logarithm() -> None:
    spec = charts.lines([Line("a", [(0, 0.0), (1, 1.0), (2, -1.0), (3, 100.0)])], x="x", y="y", log=True)
    assert [one["x"] for one in spec["layer"][0]["data"]["values"]] == [1, 3]
    assert spec["layer"][0]["encoding"]["y"]["scale"]["type"] == "log"


def test_log_suits_only_a_wide_range() -> None:
    assert charts.log_suits([Line("a", [(x, 10.0**x) for x in range(6)])])
    assert not charts.log_suits([Line("a", [(x, 1.0 + x) for x in range(50)])])
    assert not charts.log_suits([Line("a", [])])


def test_smoothing_is_a_centred_average_that_keeps_a_straight_line() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=200)
    smoothed = charts.smooth(list(enumerate(y.tolist())))
    reach = 200 // 40
    expected = np.convolve(y, np.ones(2 * reach + 1) / (2 * reach + 1), mode="valid")
    assert np.allclose([one for _, one in smoothed[reach:-reach]], expected)
    assert [x for x, _ in smoothed] == list(range(200))
    straight = [(float(x), 3.0 * x) for x in range(100)]
    assert np.allclose(charts.smooth(straight), straight)
    assert charts.smooth(straight[:39]) == []


def test_thinning_keeps_every_peak_and_the_order() -> None:
    points = [(float(x), 0.0) for x in range(50_000)]
    points[12_345] = (12_345.0, 9.0)
    points[40_000] = (40_000.0, -5.0)
    kept = charts.thin(points)
    assert len(kept) <= charts.MOST_POINTS
    assert {points[12_345], points[40_000], points[0]} <= set(kept)
    assert kept == sorted(kept)
    assert charts.thin(points[:400]) == points[:400]


def test_the_reliability_diagram_leaves_empty_groups_out() -> None:
    dots = charts.reliability(BINS)["layer"][1]["data"]["values"]
    assert [one["count"] for one in dots] == [40, 5]


def test_a_figure_carries_its_specification_and_no_way_out_of_it() -> None:
    line = Line("</script><script>alert(1)</script>", [(0, 1), (1, 2)])
    made = charts.figure(charts.lines([line, SERIES[0], SERIES[2]], x="x", y="y"), "T <i>", "C & D")
    parser = Tags()
    parser.feed(made)
    assert [tag for tag, _ in parser.tags].count("script") == 1
    spec = json.loads(parser.scripts[0])
    assert spec["layer"][0]["encoding"]["color"]["datum"] == line.name
    assert "T &lt;i&gt;" in made


class Tags(HTMLParser):
    """Elements, words and script texts, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        (self.scripts if self.tags and self.tags[-1][0] == "script" else self.words).append(data)
