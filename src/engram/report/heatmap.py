"""A heat-map of rows over moments whose colours are a few levels: what is healthy, what is told of, what is alarming.

Levels are drawn instead of a shade for every number: a reader compares five colours with a legend, and neighbours of
one level are a single rectangle, which keeps a map of thousands of cells small.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram.report import axes
from engram.report.charts import frame

MOST_ROWS = 24
"""Rows that can be told apart; more are drawn in groups."""
ROW = 15
"""Height of a row, pixels of the drawing."""
AROUND = 95
"""Height of the legend and the axis."""
MOST_CELLS = 200
"""Rectangles; where there are more, every second moment is left out, and so on."""
MOST_NAMES = 7
"""Moments that the axis names."""
HEALTHY, SICK = "var(--hit)", "var(--miss)"


@dataclass(frozen=True)
class Level:
    """Values up to and including `limit`, over that of the level before."""

    name: str
    limit: float
    colour: str


def tint(colour: str, share: int) -> str:
    """So much of a colour, in hundredths, on the paper."""
    return f"color-mix(in srgb, {colour} {share}%, var(--paper))"


def heatmap(
    values: NDArray[Any], rows: Sequence[str], moments: Sequence[str], levels: Sequence[Level], *, x: str, what: str
) -> dict[str, Any]:
    """The specification of a heat-map; the first row is at the top.

    Args:
        values: (R, T) shares; NaN where there is none, which stays blank.
        rows: their R names; of more than `MOST_ROWS`, neighbours are grouped and the highest of each group is drawn.
        moments: the T names of the columns, of which the axis shows some.
        levels: by their limits, rising; the last limit is above all values.
        x: title of the axis.
        what: what is drawn, for tooltips and a description.

    >>> level = [Level("few", 0.5, "green"), Level("many", 1.0, "red")]
    >>> spec = heatmap(np.array([[0.1, 0.2, 0.9]]), ["a"], ["1", "2", "3"], level, x="step", what="dead")
    >>> [(cell["x"], cell["x2"], cell["level"]) for cell in spec["layer"][0]["data"]["values"]]
    [(0, 2, 'few'), (2, 3, 'many')]
    """
    values, rows = grouped(values, rows)
    cells = _all_cells(values, rows, moments, levels)
    while len(cells) > MOST_CELLS:
        kept = [*range(0, len(moments) - 1, 2), len(moments) - 1]
        values, moments = values[:, kept], [moments[at] for at in kept]
        cells = _all_cells(values, rows, moments, levels)
    named = _places(len(moments))
    scale = {"domain": [level.name for level in levels], "range": [level.colour for level in levels]}
    legend = {"title": None, "orient": "top", "direction": "horizontal", "symbolType": "square", "columns": len(levels)}
    across = {"title": x, **axes.named([at + 0.5 for at in named], [moments[at] for at in named]), "labelOverlap": True}
    down = {"title": None, **axes.named([at + 0.5 for at in range(len(rows))], rows), "grid": False, "labelLimit": 130}
    mark = {"type": "rect", "stroke": "var(--paper)", "strokeWidth": 0.5}
    encoding = {
        "x": _axis("x", [0, len(moments)], across),
        "x2": {"field": "x2"},
        "y": {**_axis("y", [0, len(rows)], down), "sort": "descending"},
        "y2": {"field": "y2"},
        "color": {"field": "level", "type": "nominal", "scale": scale, "legend": legend},
        "tooltip": [
            {"field": "row", "type": "nominal", "title": "layer"},
            {"field": "when", "type": "nominal", "title": x},
            {"field": "least", "type": "quantitative", "title": f"{what}, least", "format": ".1%"},
            {"field": "most", "type": "quantitative", "title": f"{what}, most", "format": ".1%"},
        ],
    }
    return {
        **frame(what),
        "height": AROUND + ROW * len(rows),
        "layer": [{"data": {"values": cells}, "mark": mark, "encoding": encoding}],
    }


def grouped(values: NDArray[Any], rows: Sequence[str]) -> tuple[NDArray[Any], list[str]]:
    """At most `MOST_ROWS` rows: of more, the highest values of neighbours, named by the places of the first and last.

    >>> found, names = grouped(np.arange(50.0)[:, None], [str(one) for one in range(50)])
    >>> len(names), names[0], names[-1], found[[0, -1], 0].tolist()
    (17, '1–3', '49–50', [2.0, 49.0])
    """
    size = -(-len(rows) // MOST_ROWS)
    if size < 2:
        return values, list(rows)
    starts = range(0, len(rows), size)
    # fmax leaves out what was not measured
    highest = np.fmax.reduceat(values, list(starts), axis=0)
    return highest, [f"{one + 1}–{min(one + size, len(rows))}" for one in starts]


def _all_cells(
    values: NDArray[Any], rows: Sequence[str], moments: Sequence[str], levels: Sequence[Level]
) -> list[dict[str, Any]]:
    return [cell for at, row in enumerate(values) for cell in _cells(at, row, rows[at], moments, levels)]


def _cells(
    at: int, row: NDArray[Any], name: str, moments: Sequence[str], levels: Sequence[Level]
) -> Iterator[dict[str, Any]]:
    """The stretches of a row that are of one level."""
    limits = [level.limit for level in levels]
    level_of = [None if np.isnan(one) else min(int(np.searchsorted(limits, one)), len(levels) - 1) for one in row]
    for level, places in groupby(range(len(row)), key=lambda place: level_of[place]):
        if level is None:
            continue
        first, *others = places
        last = others[-1] if others else first
        part = np.minimum(row[first : last + 1], levels[-1].limit)
        yield {
            "x": first,
            "x2": last + 1,
            "y": at,
            "y2": at + 1,
            "level": levels[level].name,
            "row": name,
            "when": moments[first] if first == last else f"{moments[first]} to {moments[last]}",
            "least": round(float(part.min()), 4),
            "most": round(float(part.max()), 4),
        }


def _places(amount: int) -> list[int]:
    """Some columns, evenly apart."""
    return sorted({round(one) for one in np.linspace(0, amount - 1, min(MOST_NAMES, amount)).tolist()})


def _axis(field: str, domain: list[int], axis: dict[str, Any]) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "scale": {"domain": domain, "nice": False}, "axis": axis}
