"""Charts: a Vega-Lite specification, its SVG inside the page, and the same specification for zooming.

The specifications are plain dictionaries. Altair writes the same ones, but importing it takes 0.3 s, a third of the
time the page takes, and it adds nothing that a page needs; the tests check them against Altair's schema. Colours are
CSS variables, so that one SVG serves light and dark.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from engram.report.markup import Markup, tag
from engram.report.run_folder import finite

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 440, 250
COLOURS = tuple(f"var(--series-{number})" for number in range(1, 9))
MOST_POINTS = 400
"""Points of a series beyond which it is thinned, keeping the lowest and highest of each stretch."""

CONFIG = {
    "font": "system-ui, -apple-system, 'Segoe UI', sans-serif",
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {
        "domain": False,
        "ticks": False,
        "gridColor": "var(--line)",
        "labelColor": "var(--muted)",
        "labelFontSize": 12,
        "labelPadding": 6,
        "titleColor": "var(--muted)",
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    },
    "axisX": {"grid": False, "labelFlush": False},
    "legend": {
        "labelColor": "var(--ink)",
        "labelFontSize": 12,
        "labelLimit": 190,
        "symbolStrokeWidth": 3,
        "columnPadding": 16,
        "rowPadding": 4,
        "offset": 12,
    },
}


@dataclass(frozen=True)
class Line:
    """A series to draw. A `faint` one lies behind and stays out of the legend."""

    name: str
    points: Points
    colour: str = COLOURS[0]
    faint: bool = False
    dots: bool = False
    dash: Sequence[int] = ()


def lines(
    series: Sequence[Line],
    *,
    x: str,
    y: str,
    y_format: str | None = None,
    log: bool = False,
    zero: bool = False,
    until: float | None = None,
) -> dict[str, Any]:
    """The specification of a line chart.

    Args:
        x, y: titles of the axes; the fields of the data are named by them in tooltips.
        y_format: a d3 number format, `.0%` for shares.
        until: where x ends, from 0; by default from the first point to the last.
        log: logarithmic y; points that are not above zero are left out.
    """
    drawn = [line for line in series if line.points]
    named = [line for line in drawn if not line.faint]
    scale: dict[str, Any] = {"type": "log"} if log else {"zero": zero}
    axis: dict[str, Any] = {"title": None, "tickCount": 4 if log else 5} | ({"format": y_format} if y_format else {})
    reach: dict[str, Any] = {"nice": False} | ({"domain": [0, until]} if until else {})
    layers = []
    for line in drawn:
        colour: dict[str, Any] = {"value": line.colour}
        if not line.faint and len(named) > 1:
            colour = {"datum": line.name}
        encoding = {
            "x": {"field": "x", "type": "quantitative", "scale": reach, "axis": {"title": x, "tickCount": 8}},
            "y": {"field": "y", "type": "quantitative", "scale": scale, "axis": axis},
            "color": colour,
            "tooltip": [
                {"field": "x", "type": "quantitative", "title": x, "format": ".3~f"},
                {"field": "y", "type": "quantitative", "title": line.name, "format": y_format or ".4~g"},
            ],
        }
        layers.append({"data": {"values": _values(line, log)}, "mark": _mark(line), "encoding": encoding})
    return {**frame(y), "layer": [*layers, legend(named)] if len(named) > 1 else layers}


def reliability(bins: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The specification of a reliability diagram: how often it is right against how sure it says it is."""
    values = [
        {"confidence": confidence, "accuracy": accuracy, "count": int(one.get("count") or 0)}
        for one in bins
        if one.get("count")
        and (confidence := finite(one.get("confidence"))) is not None
        and (accuracy := finite(one.get("accuracy"))) is not None
    ]
    share = {"domain": [0, 1], "nice": False}

    def axis(title: str | None) -> dict[str, Any]:
        return {"title": title, "format": ".0%", "tickCount": 5}

    diagonal = {
        "data": {"values": [{"x": 0, "y": 0}, {"x": 1, "y": 1}]},
        "mark": {"type": "line", "strokeWidth": 1.5, "strokeDash": [4, 4]},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "scale": share, "axis": axis("how sure it says it is")},
            "y": {"field": "y", "type": "quantitative", "scale": share, "axis": axis(None)},
            "color": {"value": "var(--muted)"},
        },
    }
    dots = {
        "data": {"values": values},
        "mark": {"type": "circle", "opacity": 0.85, "clip": False},
        "encoding": {
            "x": {"field": "confidence", "type": "quantitative"},
            "y": {"field": "accuracy", "type": "quantitative"},
            "size": {"field": "count", "type": "quantitative", "scale": {"range": [30, 420]}, "legend": None},
            "color": {"value": COLOURS[0]},
            "tooltip": [
                {"field": "confidence", "type": "quantitative", "format": ".1%"},
                {"field": "accuracy", "type": "quantitative", "format": ".1%"},
                {"field": "count", "type": "quantitative", "title": "examples"},
            ],
        },
    }
    return {**frame("how often it is right"), "layer": [diagonal, dots]}


def figure(spec: dict[str, Any], title: str, caption: str, *, alt: str | None = None) -> Markup:
    """The chart in the page: its title, the drawing as SVG, what it shows in words, and its specification for zooming.

    Args:
        alt: what a screen reader says of the drawing, where it is not what the caption says.
    """
    data = json.dumps(spec, separators=(",", ":"), allow_nan=False)
    data = data.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return tag(
        "figure",
        tag("h3", title),
        tag("div", svg(spec, f"{title}. {alt or caption}"), class_="chart"),
        tag("figcaption", caption),
        Markup('<script type="application/json" class="spec">{}</script>').format(Markup(data)),
        class_="zoomable",
    )


def svg(spec: dict[str, Any], label: str) -> Markup:
    """The specification drawn, as an SVG element to stand in a page, read aloud as `label`."""
    import vl_convert  # here, so that a page without charts does not wait for it

    root = ElementTree.fromstring(vl_convert.vegalite_to_svg(spec))
    _strip(root)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def log_suits(series: Sequence[Line]) -> bool:
    """Whether the values of all series together span so much that a linear axis would show only the largest."""
    values = sorted(y for line in series for _, y in line.points if y > 0)
    return bool(values) and values[-1] > 100 * values[len(values) // 20]


def smooth(points: Points) -> list[tuple[float, float]]:
    """A moving average over a twentieth of the points; too few points are not smoothed and give an empty list."""
    reach = len(points) // 40
    if reach < 1 or len(points) < 40:
        return []
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    averaged = []
    for index, (x, _) in enumerate(points):
        near = min(reach, index, len(points) - 1 - index)  # the same on both sides, or the ends would lag
        low, high = index - near, index + near + 1
        averaged.append((x, (sums[high] - sums[low]) / (high - low)))
    return averaged


def thin(points: Points) -> list[tuple[float, float]]:
    """At most `MOST_POINTS` points that keep every peak: the lowest and the highest of each stretch.

    >>> len(thin([(x, x % 7) for x in range(10_000)])) <= MOST_POINTS
    True
    """
    if len(points) <= MOST_POINTS:
        return list(points)
    stretches = MOST_POINTS // 2
    kept = []
    for number in range(stretches):
        part = points[number * len(points) // stretches : (number + 1) * len(points) // stretches]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return kept


def _values(line: Line, log: bool) -> list[dict[str, float]]:
    shown = [(x, y) for x, y in line.points if y > 0] if log else line.points
    return [{"x": float(f"{x:.5g}"), "y": float(f"{y:.5g}")} for x, y in thin(shown)]


def _mark(line: Line) -> dict[str, Any]:
    mark: dict[str, Any] = {"type": "line", "strokeWidth": 2, "strokeJoin": "round", "interpolate": "linear"}
    if line.faint:
        mark |= {"strokeWidth": 1, "opacity": 0.35}
    if (line.dots and len(line.points) <= 40) or len(line.points) == 1:
        mark["point"] = {"size": 28, "filled": True}
    if line.dash:
        mark["strokeDash"] = list(line.dash)
    return mark


def legend(named: Sequence[Line], *, columns: int = 2) -> dict[str, Any]:
    """A layer that draws nothing and holds the colours that the names in the other layers stand for."""
    scale = {"domain": [line.name for line in named], "range": [line.colour for line in named]}
    legend = {"title": None, "orient": "top", "direction": "horizontal", "symbolType": "stroke", "columns": columns}
    colour = {"field": "series", "type": "nominal", "scale": scale, "legend": legend}
    return {"data": {"values": []}, "mark": "line", "encoding": {"color": colour}}


def frame(description: str) -> dict[str, Any]:
    """What every chart of a page has: its size, its style, and a description."""
    return {
        "description": description,
        "width": WIDTH,
        "height": HEIGHT,
        "autosize": {"type": "fit", "contains": "padding"},
        "padding": 4,
        "config": CONFIG,
    }


def _strip(element: ElementTree.Element) -> None:
    """Leave out what a picture with one label does not need: namespaces, inner roles and labels, what draws nothing."""
    element.tag = element.tag.rpartition("}")[2]
    for name, value in list(element.attrib.items()):
        unused = name == "role" or name.startswith("aria-") or name in ("class", "pointer-events", "font-family")
        if unused or (name, value) == ("opacity", "1"):
            del element.attrib[name]
        else:
            element.attrib[name] = re.sub(r"(\d\.\d\d)\d+", r"\1", value) if name in ("d", "transform") else value
    for child in list(element):
        _strip(child)
        if _draws_nothing(child):
            element.remove(child)


def _draws_nothing(element: ElementTree.Element) -> bool:
    if element.tag == "g":
        return len(element) == 0
    return element.tag == "path" and not {"stroke", "fill"} & set(element.attrib)


def pairs(events: Sequence[tuple[float | None, float | None]]) -> Iterator[tuple[float, float]]:
    """The points of which both coordinates are known."""
    return ((x, y) for x, y in events if x is not None and y is not None)
