"""The chart of a loss surface: bands of equal loss, and on them the path, each point in the colour of its true loss."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram.report.charts import frame
from engram.report.contours import bands
from engram.report.words import number

HEIGHT = 330
MOST_LEVELS = 9
"""Levels between the bands; the eye tells ten shades of one colour apart, hardly more."""
FLAT = 6.0
"""Factor between the highest and the lowest loss below which the levels are evenly spaced instead of by powers."""
FAINTEST = 8
"""Per cent of colour in the band of the highest loss; the rest is paper."""


def levels(low: float, high: float) -> list[float]:
    """At most `MOST_LEVELS` round numbers strictly between two losses, in steps that multiply where the losses do.

    >>> levels(0.002, 3.8)
    [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0]
    >>> levels(2.0, 2.9)
    [2.1, 2.2, 2.3, 2.4, 2.5, 2.6, 2.7, 2.8]
    >>> levels(1.0, 1.0)
    []
    """
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        return []
    if low > 0 and high / low >= FLAT:
        powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
        choices = [[float(f"{one}e{power}") for power in powers for one in ones] for ones in ((1, 2, 5), (1, 3), (1,))]
        choices += [[float(f"1e{power}") for power in powers if power % step == 0] for step in (2, 3, 5, 10, 40)]
    else:
        size = 10.0 ** math.floor(math.log10((high - low) / MOST_LEVELS))
        choices = []
        for one in (1, 2, 5, 10, 20):
            first, last = math.floor(low / (one * size)), math.ceil(high / (one * size))
            choices.append([float(f"{step * one * size:.10g}") for step in range(first, last + 1)])
    within = [[level for level in choice if low < level < high] for choice in choices]
    return next(choice for choice in within if len(choice) <= MOST_LEVELS)


def surface(
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    losses: NDArray[np.floating],
    path: Sequence[Mapping[str, float]] = (),
    *,
    x: str,
    y: str,
) -> dict[str, Any]:
    """The specification of a surface with a path on it.

    Args:
        a, b: (A,) and (B,) places along x and y; `losses` (B, A).
        path: points with `a`, `b`, `step`, `true`, `drawn` and `off`, the first to the last.
        x, y: titles of the axes.
    """
    shown = np.concatenate([losses[np.isfinite(losses)], [one["true"] for one in path if math.isfinite(one["true"])]])
    low, high = (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 0.0)
    between = levels(low, high)
    names = _names(between)
    log = low > 0 and bool(between) and between[-1] >= FLAT * between[0]
    measure = np.log if log else np.asarray  # between two points of a grid the loss changes by factors, too
    with np.errstate(divide="ignore", invalid="ignore"):
        found = bands(a, b, measure(losses.astype(float)), [float(measure(level)) for level in between])
    left, right, bottom, top = (float(one) for one in (a[0], a[-1], b[0], b[-1]))
    areas = [{"x": [left, right, right, left], "y": [bottom, bottom, top, top], "loss": names[-1], "ring": 0}]
    for ring, one in enumerate(found, 1):
        across, up = zip(*one.points, strict=True)
        areas.append({"x": _rounded(across, a), "y": _rounded(up, b), "loss": names[one.band], "ring": ring})
    places = {
        "x": {"field": "x", "type": "quantitative", "scale": _scale(left, right), "axis": {"title": x, "tickCount": 5}},
        "y": {
            "field": "y",
            "type": "quantitative",
            "scale": _scale(bottom, top),
            "axis": {"title": y, "tickCount": 5, "grid": False},
        },
    }
    layers = [_areas(areas, places, names), *_blank(a, b, losses, places)]
    if path:
        layers += _path(path, places, [_band(one["true"], between, names) for one in path])
    return {**frame("loss"), "height": HEIGHT, "layer": layers}


def shades(count: int) -> list[str]:
    """The colours of so many bands, the lowest first: from blue over green into the paper, in the light and the dark.

    >>> shades(2)
    ['color-mix(in oklab,var(--series-1) 100%,var(--series-3))', 'color-mix(in oklab,var(--series-3) 8%,var(--paper))']
    """
    made = []
    for place in range(count):
        share = place / max(count - 1, 1)
        if share <= 0.5:
            made.append(f"color-mix(in oklab,var(--series-1) {100 - 200 * share:.0f}%,var(--series-3))")
        else:
            rest = FAINTEST + (100 - FAINTEST) * (2 - 2 * share)
            made.append(f"color-mix(in oklab,var(--series-3) {rest:.0f}%,var(--paper))")
    return made


def _areas(areas: list[dict[str, Any]], places: dict[str, Any], names: list[str]) -> dict[str, Any]:
    scale = {"domain": names[::-1], "range": shades(len(names))[::-1]}
    legend = {"title": "loss", "orient": "right", "symbolType": "square", "symbolStrokeWidth": 0, "symbolSize": 160}
    legend |= {"titleColor": "var(--muted)", "titleFontWeight": "normal", "titleFontSize": 12, "symbolOpacity": 1}
    fill = {"field": "loss", "type": "nominal", "scale": scale, "legend": legend}
    return {
        "data": {"values": areas},
        "transform": [{"flatten": ["x", "y"]}, {"window": [{"op": "row_number", "as": "place"}]}],
        "mark": {"type": "line", "filled": True, "interpolate": "linear-closed", "strokeWidth": 0.6, "opacity": 1},
        "encoding": {
            **places,
            "detail": {"field": "ring", "type": "nominal"},
            "order": {"field": "place", "type": "quantitative"},
            "fill": fill,
            "stroke": {"value": "var(--paper)"},
            "tooltip": {"field": "loss", "type": "nominal"},
        },
    }


def _blank(
    a: NDArray[np.floating], b: NDArray[np.floating], losses: NDArray[np.floating], places: dict[str, Any]
) -> list[dict[str, Any]]:
    """Paper over the cells of which a corner is infinite or not a number."""
    lost = ~np.isfinite(losses)
    cells = lost[:-1, :-1] | lost[:-1, 1:] | lost[1:, :-1] | lost[1:, 1:]
    rows = [
        {"x": float(a[i]), "x2": float(a[i + 1]), "y": float(b[j]), "y2": float(b[j + 1])}
        for j, i in zip(*np.nonzero(cells), strict=True)
    ]
    if not rows:
        return []
    encoding = {**places, "x2": {"field": "x2"}, "y2": {"field": "y2"}, "color": {"value": "var(--paper)"}}
    return [{"data": {"values": rows}, "mark": {"type": "rect", "strokeWidth": 0, "opacity": 1}, "encoding": encoding}]


def _path(path: Sequence[Mapping[str, float]], places: dict[str, Any], colours: list[str]) -> list[dict[str, Any]]:
    rows = [
        {
            "x": float(f"{one['a']:.4g}"),
            "y": float(f"{one['b']:.4g}"),
            "step": int(one["step"]),
            "true": number(one["true"]),
            "drawn": number(one["drawn"]),
            "off": float(f"{one['off']:.3g}"),
            "loss": colour,
        }
        for one, colour in zip(path, colours, strict=True)
    ]
    tooltip = [
        {"field": "step", "type": "quantitative"},
        {"field": "true", "type": "nominal", "title": "true loss"},
        {"field": "drawn", "type": "nominal", "title": "loss drawn here"},
        {"field": "off", "type": "quantitative", "title": "off the plane", "format": ".0%"},
    ]
    order = {"field": "step", "type": "quantitative"}
    ink = {"value": "var(--ink)"}
    line = {"type": "line", "strokeWidth": 1.2, "opacity": 0.8}
    dot = {"type": "circle", "size": 95, "opacity": 1, "strokeWidth": 1.1}
    fill = {"field": "loss", "type": "nominal"}
    dots = {**places, "fill": fill, "stroke": ink, "tooltip": tooltip}
    layers = [
        {"data": {"values": rows}, "mark": line, "encoding": {**places, "order": order, "color": ink}},
        {"data": {"values": rows}, "mark": dot, "encoding": dots},
    ]
    points = [(float(one["a"]), float(one["b"])) for one in path]
    words = [("start", points), ("end", points[::-1])]
    layers += [_word(word, way, places) for word, way in words[len(points) == 1 :]]
    return layers


def _word(word: str, way: Sequence[tuple[float, float]], places: dict[str, Any]) -> dict[str, Any]:
    """A word at the first point of a way, on the side where the way does not go on."""
    (x, y), nearest = way[0], way[1:4]
    above = sum(point[1] for point in nearest) <= y * len(nearest)
    mark = {"type": "text", "fontSize": 12, "fontWeight": 600, "dy": -15 if above else 16, "strokeWidth": 0}
    encoding = {**places, "text": {"value": word}, "color": {"value": "var(--ink)"}}
    return {"data": {"values": [{"x": x, "y": y}]}, "mark": mark, "encoding": encoding}


def _names(between: list[float]) -> list[str]:
    """What the legend calls the bands, the lowest first."""
    if not between:
        return ["all the same"]
    said = [number(level, 10) for level in between]
    inner = [f"{low} to {high}" for low, high in pairwise(said)]
    return [f"under {said[0]}", *inner, f"over {said[-1]}"]


def _band(loss: float, between: list[float], names: list[str]) -> str:
    return names[sum(loss > level for level in between)] if math.isfinite(loss) else names[-1]


def _scale(low: float, high: float) -> dict[str, Any]:
    return {"domain": [low, high], "nice": False, "zero": False}


def _rounded(values: Sequence[float], places: NDArray[np.floating]) -> list[float]:
    """To as many decimals as a drawing of some hundred points can show."""
    digits = max(0, 3 - math.floor(math.log10(float(places[-1] - places[0]))))
    return [round(float(value), digits) for value in values]
