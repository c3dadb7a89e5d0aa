"""The pictures of a study: every seed as a dot, differences with their intervals, curves with bands."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from engram.report import charts
from engram.report.charts import COLOURS, CONFIG
from engram.study.measures import Measure
from engram.study.verdicts import Result, Verdict

WIDE, ROW = 700, 34  # pixels of a chart with a row for every arm
BAND = 0.16  # opacity

Rows = Sequence[Mapping[str, Any]]


def colours(arms: Sequence[str]) -> dict[str, str]:
    """Every arm's colour, the same on the whole page."""
    return {arm: COLOURS[at % len(COLOURS)] for at, arm in enumerate(arms)}


def dots(measure: Measure, results: Sequence[Result]) -> dict[str, Any]:
    """Every seed of every arm as a dot, the dots of a seed joined, the mean with its interval as a bar."""
    names = [result.arm for result in results]
    points = [
        {"arm": result.arm, "seed": seed, "value": value} for result in results for seed, value in result.values.items()
    ]
    means = [
        {"arm": one.arm, "mean": one.mean.mean, "low": one.mean.low, "high": one.mean.high}
        for one in results
        if one.mean.n > 1
    ]
    scale: dict[str, Any] = {"zero": False, "nice": True}
    if measure.share and any(one["high"] > 1 for one in means):
        scale["domainMax"] = 1  # an interval may reach beyond what a share can be; the axis does not
    x = {"field": "value", "type": "quantitative", "scale": scale, "axis": _axis(measure)}
    y = {"field": "arm", "type": "nominal", "scale": {"domain": names}, "axis": _names(names)}
    joined = {
        "data": {"values": points},
        "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.45},
        "encoding": {
            "x": {**x, "sort": None},
            "y": y,
            "order": {"field": "place", "type": "quantitative"},
            "detail": {"field": "seed"},
            "color": {"value": "var(--muted)"},
        },
        "transform": [{"calculate": f"indexof({json.dumps(names)}, datum.arm)", "as": "place"}],
    }
    bars = {
        "data": {"values": means},
        "mark": {"type": "rule", "strokeWidth": 7, "opacity": 0.28, "strokeCap": "round", "clip": True},
        "encoding": {
            "x": {"field": "low", "type": "quantitative"},
            "x2": {"field": "high"},
            "y": y,
            **_coloured(names),
        },
    }
    ticks = {
        "data": {"values": means},
        "mark": {"type": "tick", "thickness": 2.5, "size": 20},
        "encoding": {"x": {"field": "mean", "type": "quantitative"}, "y": y, **_coloured(names)},
    }
    seeds = {
        "data": {"values": points},
        "mark": {"type": "circle", "size": 46, "opacity": 0.9},
        "encoding": {"x": x, "y": y, **_coloured(names)},
    }
    return {**_frame(measure.words, len(names)), "layer": [joined, bars, ticks, seeds]}


def differences(measure: Measure, verdicts: Sequence[Verdict], margin: float | None) -> dict[str, Any]:
    """Each arm minus the baseline with its interval, beside the line of no difference and the margin's band."""
    names = [one.arm for one in verdicts]
    scale = 100 if measure.share else 1
    rows = [
        {"arm": one.arm, "mean": scale * one.paired.mean}
        | ({} if math.isnan(one.paired.low) else {"low": scale * one.paired.low, "high": scale * one.paired.high})
        for one in verdicts
        if one.paired.n
    ]
    title = f"{measure.words}, difference" + (" in percentage points" if measure.share else "")
    x = {
        "field": "mean",
        "type": "quantitative",
        "scale": {"zero": True, "padding": 12},
        "axis": {"title": title, "tickCount": 7},
    }
    y = {"field": "arm", "type": "nominal", "scale": {"domain": names}, "axis": _names(names)}
    layers: list[dict[str, Any]] = []
    if margin is not None:
        band = {"low": -scale * margin, "high": scale * margin}
        layers.append(
            {
                "data": {"values": [band]},
                "mark": {"type": "rect", "opacity": BAND},
                "encoding": {
                    "x": {"field": "low", "type": "quantitative"},
                    "x2": {"field": "high"},
                    "color": {"value": "var(--good)"},
                },
            }
        )
    layers += [
        {
            "data": {"values": [{"zero": 0}]},
            "mark": {"type": "rule", "strokeWidth": 1.5, "strokeDash": [4, 4]},
            "encoding": {"x": {"field": "zero", "type": "quantitative"}, "color": {"value": "var(--muted)"}},
        },
        {
            "data": {"values": rows},
            "mark": {"type": "rule", "strokeWidth": 2.5},
            "encoding": {
                "x": {"field": "low", "type": "quantitative"},
                "x2": {"field": "high"},
                "y": y,
                "color": {"value": COLOURS[0]},
            },
        },
        {
            "data": {"values": rows},
            "mark": {"type": "circle", "size": 90, "opacity": 1},
            "encoding": {"x": x, "y": y, "color": {"value": COLOURS[0]}},
        },
    ]
    return {**_frame(title, len(names)), "layer": layers}


def curves(rows: Rows, arms: Sequence[str], figure: str, *, x: str, title: str, share: bool) -> dict[str, Any] | None:
    """The mean over seeds of a figure over the passes, and a band from the lowest seed to the highest."""
    values = [row for arm in arms for row in banded([one for one in rows if one["arm"] == arm], figure, x, arm)]
    if not values:
        return None
    axis = {"title": None, "tickCount": 5} | ({"format": ".1%" if _narrow(values) else ".0%"} if share else {})
    horizontal = {
        "field": "x",
        "type": "quantitative",
        "scale": {"zero": True, "nice": False},
        "axis": {"title": title, "tickCount": 6, "format": "~s" if x == "visits" else "~g"},
    }
    colour = _coloured(arms, legend=True)
    line = {
        "data": {"values": values},
        "mark": {"type": "line", "strokeWidth": 2, "strokeJoin": "round", "point": {"size": 24, "filled": True}},
        "encoding": {
            "x": horizontal,
            "y": {"field": "mean", "type": "quantitative", "scale": {"zero": False}, "axis": axis},
            **colour,
            "tooltip": [
                {"field": "arm", "type": "nominal"},
                {"field": "x", "type": "quantitative", "title": title, "format": ".4~s"},
                {"field": "mean", "type": "quantitative", "format": ".4~f"},
                {"field": "low", "type": "quantitative", "format": ".4~f"},
                {"field": "high", "type": "quantitative", "format": ".4~f"},
            ],
        },
    }
    band = {
        "data": {"values": values},
        "mark": {"type": "area", "opacity": BAND},
        "encoding": {
            "x": horizontal,
            "y": {"field": "low", "type": "quantitative"},
            "y2": {"field": "high"},
            **colour,
        },
    }
    if max(sum(one["arm"] == arm for one in values) for arm in arms) > 40:
        line["mark"].pop("point")  # type: ignore[attr-defined]
    frame = {**_frame(figure, 0), "width": charts.WIDTH, "height": charts.HEIGHT}
    return {**frame, "layer": [line, band]}


def banded(rows: Rows, figure: str, x: str, arm: str) -> list[dict[str, Any]]:
    """Mean, lowest and highest over an arm's seeds after each pass; x is the mean over them too.

    >>> rows = [{"epoch": 1, "visits": 100, "loss": 0.2}, {"epoch": 1, "visits": 100, "loss": 0.4}]
    >>> [round(one["mean"], 2) for one in banded(rows, "loss", "visits", "a")]
    [0.3]
    """
    passes: dict[int, list[tuple[float, float]]] = {}
    for row in rows:
        if row.get(figure) is not None and row.get(x) is not None:
            passes.setdefault(row["epoch"], []).append((row[x], row[figure]))
    found = []
    for epoch in sorted(passes):
        places, values = zip(*passes[epoch], strict=True)
        found.append(
            {
                "arm": arm,
                "x": float(f"{sum(places) / len(places):.5g}"),
                "mean": float(f"{sum(values) / len(values):.5g}"),
                "low": float(f"{min(values):.5g}"),
                "high": float(f"{max(values):.5g}"),
            }
        )
    return found


def _narrow(values: Sequence[Mapping[str, Any]]) -> bool:
    return max(one["high"] for one in values) - min(one["low"] for one in values) < 0.05


def _axis(measure: Measure) -> dict[str, Any]:
    return {"title": measure.words, "tickCount": 6} | ({"format": ".1%"} if measure.share else {})


def _names(names: Sequence[str]) -> dict[str, Any]:
    return {"title": None, "labelLimit": 200, "labelColor": "var(--ink)", "values": list(names)}


def _coloured(names: Sequence[str], *, legend: bool = False) -> dict[str, Any]:
    of = colours(names)
    shown = {"title": None, "orient": "top", "direction": "horizontal", "symbolType": "stroke", "columns": 2}
    scale = {"domain": list(names), "range": [of[name] for name in names]}
    return {"color": {"field": "arm", "type": "nominal", "scale": scale, "legend": shown if legend else None}}


def _frame(description: str, rows: int) -> dict[str, Any]:
    return {
        "description": description,
        "width": WIDE,
        "height": ROW * rows + 60,
        "autosize": {"type": "fit", "contains": "padding"},
        "padding": {"left": 14, "right": 6, "top": 4, "bottom": 4},
        "config": CONFIG,
    }
