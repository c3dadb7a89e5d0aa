"""The charts of a review: recall after a delay, recall against what was predicted, and histograms of the examples."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Any

from engram.report.charts import COLOURS, Line, Points, frame, legend

MOST_TICKS = 10
"""Ticks of an axis: beyond so many, every second one is named, and so on."""
PLACES = ",.4~r"
"""How an axis writes its numbers: four digits, never an exponent."""
APART = 1.06
"""Factor between the dots of two groups that stand at the same x."""


@dataclass(frozen=True)
class Group:
    """Shares that were observed, as rows of (x, share, lowest, highest, count), and the curve that predicts them."""

    name: str
    observed: Sequence[Sequence[float]]
    curve: Points = field(default_factory=tuple)
    colour: str = COLOURS[0]


def retention(groups: Sequence[Group], *, x: str, y: str) -> dict[str, Any]:
    """The specification of observed shares as dots with their intervals, and curves as lines, over a logarithmic x."""
    named = [Line(group.name, group.curve, group.colour) for group in groups]
    places = [one[0] for group in groups for one in (*group.observed, *group.curve)]
    domain = [min(places) / 1.2, max(places) * 1.2]
    across = {
        "field": "x",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False, "domain": domain},
        "axis": {"title": x, "values": powers(*domain), "format": PLACES},
    }
    up = {
        "field": "y",
        "type": "quantitative",
        "scale": {"zero": False, "nice": True},
        "axis": {"title": None, "format": ".0%", "tickCount": 5},
    }
    layers = []
    for place, group in enumerate(groups):
        colour = {"datum": group.name} if len(groups) > 1 else {"value": group.colour}
        aside = APART ** (place - (len(groups) - 1) / 2)
        curve = [{"x": float(f"{at:.4g}"), "y": float(f"{share:.4g}")} for at, share in group.curve]
        rows = [
            {"delay": at, "x": at * aside, "y": share, "low": low, "high": high, "count": count}
            for at, share, low, high, count in group.observed
        ]
        rows = [{key: float(f"{one:.4g}") for key, one in row.items()} for row in rows]
        shown = [
            {"field": "delay", "type": "quantitative", "title": x, "format": ".3~f"},
            {"field": "y", "type": "quantitative", "title": group.name, "format": ".1%"},
            {"field": "count", "type": "quantitative", "title": "visits", "format": ","},
        ]
        if curve:  # Vega complains of a scale over nothing
            line = {"type": "line", "strokeWidth": 2}
            encoding = {"x": across, "y": up, "color": colour}
            layers.append({"data": {"values": curve}, "mark": line, "encoding": encoding})
        layers += [
            {
                "data": {"values": rows},
                "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.6},
                "encoding": {"x": across, "y": {**up, "field": "low"}, "y2": {"field": "high"}, "color": colour},
            },
            {
                "data": {"values": rows},
                "mark": {"type": "circle", "size": 45, "opacity": 1},
                "encoding": {"x": across, "y": up, "color": colour, "tooltip": shown},
            },
        ]
    return {**frame(y), "layer": [*layers, legend(named)] if len(groups) > 1 else layers}


def agreement(groups: Sequence[Group], *, x: str, y: str) -> dict[str, Any]:
    """The specification of a reliability diagram: predicted against observed shares over a diagonal, in one scale.

    Args:
        groups: rows of (predicted, observed, lowest, highest, count), a dot each, the larger the more visits.
    """
    places = [share for group in groups for row in group.observed for share in row[:4]]
    parts = next((parts for parts in (20, 100, 500) if max(places) - min(places) > 2 / parts), 1000)
    # a step below the lowest at least, so that shares which are all alike have a scale too
    domain = [max(0.0, (ceil(parts * min(places)) - 1) / parts), min(1.0, (floor(parts * max(places)) + 1) / parts)]
    scale = {"domain": domain, "nice": False, "zero": False}

    def axis(field: str, title: str | None) -> dict[str, Any]:
        axis = {"title": title, "format": ".0%" if parts < 100 else "~%", "tickCount": 5}
        return {"field": field, "type": "quantitative", "scale": scale, "axis": axis}

    across, up = axis("x", x), axis("y", None)
    diagonal = {
        "data": {"values": [{"x": at, "y": at} for at in domain]},
        "mark": {"type": "line", "strokeWidth": 1.5, "strokeDash": [4, 4]},
        "encoding": {"x": across, "y": up, "color": {"value": "var(--muted)"}},
    }
    layers = [diagonal]
    for group in groups:
        colour = {"datum": group.name} if len(groups) > 1 else {"value": group.colour}
        names = ("x", "y", "low", "high", "count")
        rows = [{key: float(f"{one:.4g}") for key, one in zip(names, row, strict=True)} for row in group.observed]
        shown = [
            {"field": "x", "type": "quantitative", "title": x, "format": ".1%"},
            {"field": "y", "type": "quantitative", "title": y, "format": ".1%"},
            {"field": "count", "type": "quantitative", "title": "visits", "format": ","},
        ]
        size = {"field": "count", "type": "quantitative", "scale": {"zero": True, "range": [20, 140]}, "legend": None}
        layers += [
            {
                "data": {"values": rows},
                "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.6},
                "encoding": {"x": across, "y": {**up, "field": "low"}, "y2": {"field": "high"}, "color": colour},
            },
            {
                "data": {"values": rows},
                "mark": {"type": "circle", "opacity": 0.85},
                "encoding": {"x": across, "y": up, "size": size, "color": colour, "tooltip": shown},
            },
        ]
    named = [Line(group.name, (), group.colour) for group in groups]
    return {**frame(y), "layer": [*layers, legend(named)] if len(groups) > 1 else layers}


def bars(edges: Sequence[float], counts: Sequence[int], *, x: str, y: str, log: bool = False) -> dict[str, Any]:
    """The specification of a histogram: `counts[i]` from `edges[i]` to `edges[i + 1]`.

    Args:
        log: logarithmic x; otherwise the edges are whole numbers, and each bar stands over those it counts.
    """
    rows = [
        {"from": float(f"{low:.5g}"), "to": float(f"{high:.5g}"), "count": count}
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    step = max(1, -(-len(counts) // MOST_TICKS))
    axis: dict[str, Any] = {"title": x, "format": PLACES, "values": list(edges[:-1:step])}
    scale: dict[str, Any] = {"type": "log", "nice": False} if log else {"zero": False, "nice": False}
    if log:
        axis["values"] = powers(edges[0], edges[-1])
    else:
        rows = [{**row, "from": row["from"] - 0.5, "to": row["to"] - 0.5} for row in rows]
    bar = {
        "data": {"values": rows},
        "mark": {"type": "bar", "binSpacing": 1},
        "encoding": {
            "x": {"field": "from", "type": "quantitative", "bin": "binned", "scale": scale, "axis": axis},
            "x2": {"field": "to"},
            "y": {
                "field": "count",
                "type": "quantitative",
                "axis": {
                    "title": None,
                    "format": "~s" if max(counts) >= 10_000 else ",d",
                    "tickCount": 5,
                    "tickMinStep": 1,
                },
            },
            "color": {"value": COLOURS[0]},
            "tooltip": [
                {"field": "from", "type": "quantitative", "title": f"{x}, from", "format": ".3~g"},
                {"field": "to", "type": "quantitative", "format": ".3~g"},
                {"field": "count", "type": "quantitative", "title": y, "format": ","},
            ],
        },
    }
    return {**frame(y), "layer": [bar]}


def powers(least: float, most: float) -> list[float]:
    """The powers of two from `least` to `most`, thinned to what an axis holds.

    >>> powers(0.2, 5)
    [0.25, 0.5, 1, 2, 4]
    """
    found = [2.0**power for power in range(-20, 31) if least * 0.999 <= 2.0**power <= most * 1.001]
    step = -(-len(found) // MOST_TICKS)
    return [int(one) if one >= 1 else one for one in found[:: max(1, step)]]
