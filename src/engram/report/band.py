"""A range drawn behind the lines of a chart, such as the one in which healthy networks lie, with its name in it."""

from typing import Any

COLOUR = "var(--good)"
STRENGTH = 0.1


def behind(
    spec: dict[str, Any], low: float, high: float, name: str, *, across: tuple[float, float], log: bool = True
) -> dict[str, Any]:
    """The specification of a line chart with a band from `low` to `high` behind its lines.

    Args:
        name: what the band is, written into its upper corner.
        across: where x begins and ends.
        log: whether y is logarithmic.

    >>> from engram.report.charts import Line, lines
    >>> spec = behind(lines([Line("a", [(0, 1), (1, 2)])], x="x", y="y"), 0.5, 3, "healthy", across=(0, 1))
    >>> [layer["mark"]["type"] for layer in spec["layer"]]
    ['rect', 'text', 'line']
    """
    values = [{"from": across[0], "to": across[1], "low": low, "high": high, "name": name}]
    x = {"field": "from", "type": "quantitative", "scale": {"nice": False, "zero": False}}
    y = {"type": "quantitative", "scale": {"type": "log"} if log else {"zero": False}}
    area = {
        "data": {"values": values},
        "mark": {"type": "rect", "opacity": STRENGTH},
        "encoding": {
            "x": x,
            "x2": {"field": "to"},
            "y": {**y, "field": "low"},
            "y2": {"field": "high"},
            "color": {"value": COLOUR},
        },
    }
    said = {
        "data": {"values": values},
        "mark": {"type": "text", "align": "right", "baseline": "top", "dx": -6, "dy": 5, "fontSize": 11},
        "encoding": {
            "x": {**x, "field": "to"},
            "y": {**y, "field": "high"},
            "text": {"field": "name", "type": "nominal"},
            "color": {"value": COLOUR},
        },
    }
    return {**spec, "layer": [area, said, *spec["layer"]]}
