"""How often every gate of a recurrent network is open and how often shut, a point a unit."""

from typing import Any

from engram.clinic.arrays import spread
from engram.report.charts import COLOURS, Line, figure, frame, legend
from engram.report.markup import Markup, join, tag
from engram.report.run_folder import Run
from engram.report.words import count, percent

ORDER = 17
TITLE = "Gates, open and shut"

MOST = 360
"""Points of a chart; of more units, some evenly apart are drawn."""
NAMES = {"i": "input gate", "f": "forget gate", "o": "output gate", "r": "reset gate", "z": "update gate"}
OPEN_MEANS = {
    "i": "writes at every step",
    "f": "keeps what it holds",
    "o": "shows what it holds at every step",
    "r": "sees all of the old state",
    "z": "keeps what it holds",
}
OFTEN = 0.9
"""Share of the time from which a gate counts as always open, or always shut."""
TOLD = (
    "A point is a unit: to the right, how much of the time its gate stands over 0.9 (open), upwards, how much under "
    "0.1 (shut). At the lower left the gate is a number in between and switches nothing; on the dashed line it is "
    "always one or the other."
)


def section(run: Run) -> Markup | None:
    if not run.cells or not len(run.cells["gate"]):
        return None
    charts = [_scatter(run, at) for at in range(len(run.cells["gate"]))]
    return join([tag("p", TOLD), tag("div", *charts, class_="charts")])


def _scatter(run: Run, at: int) -> Markup:
    name = str(run.cells["gate"][at])
    opened, shut = run.cells["open"][at], run.cells["shut"][at]  # (layers, H)
    layers, units = opened.shape
    shown = spread(list(range(units)), max(1, MOST // layers))
    series, parts = [], []
    for layer in range(layers):
        series.append(Line(f"layer {layer + 1}", [(0.0, 0.0)], COLOURS[layer % len(COLOURS)]))
        values = [
            {"x": round(float(opened[layer, unit]), 3), "y": round(float(shut[layer, unit]), 3), "unit": unit + 1}
            for unit in shown
        ]
        parts.append(_points(values, series[-1]))
    spec = {**frame(NAMES.get(name, name)), "layer": [_diagonal(), *parts, *([legend(series)] if layers > 1 else [])]}
    always, never = float((opened >= OFTEN).mean()), float((shut >= OFTEN).mean())
    drawn = f" Drawn are {count(len(shown))} of {count(units)} units of each layer." if len(shown) < units else ""
    means = f", and so {OPEN_MEANS[name]}" if name in OPEN_MEANS else ""
    caption = (
        f"{percent(always, 0)} of the units have it open at least {percent(OFTEN, 0)} of the time{means}; "
        f"{percent(never, 0)} have it shut as long. On average it is open {percent(float(opened.mean()), 0)} and shut "
        f"{percent(float(shut.mean()), 0)} of the time.{drawn}"
    )
    title = NAMES.get(name, name)
    return figure(spec, f"{title[0].upper()}{title[1:]}, {name}", caption)


def _points(values: list[dict[str, Any]], line: Line) -> dict[str, Any]:
    share = {"domain": [0, 1], "nice": False}

    def axis(title: str | None) -> dict[str, Any]:
        return {"title": title, "format": ".0%", "tickCount": 5}

    return {
        "data": {"values": values},
        "mark": {"type": "circle", "size": 26, "opacity": 0.6, "clip": False},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "scale": share, "axis": axis("of the time open")},
            "y": {"field": "y", "type": "quantitative", "scale": share, "axis": axis("of the time shut")},
            "color": {"value": line.colour},
            "tooltip": [
                {"field": "unit", "type": "quantitative", "title": f"{line.name}, cell"},
                {"field": "x", "type": "quantitative", "title": "open", "format": ".0%"},
                {"field": "y", "type": "quantitative", "title": "shut", "format": ".0%"},
            ],
        },
    }


def _diagonal() -> dict[str, Any]:
    return {
        "data": {"values": [{"x": 0, "y": 1}, {"x": 1, "y": 0}]},
        "mark": {"type": "line", "strokeWidth": 1.5, "strokeDash": [4, 4]},
        "encoding": {
            "x": {"field": "x", "type": "quantitative"},
            "y": {"field": "y", "type": "quantitative"},
            "color": {"value": "var(--muted)"},
        },
    }
