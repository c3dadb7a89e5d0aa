"""Two line charts one above the other on the same x axis, as one drawing: what is driven, and below it what drives."""

from typing import Any

from engram.report.charts import WIDTH, frame

SIDE = 60
"""Pixels beside the plots, where the numbers of the upright axes stand."""
HEIGHTS = (190, 60)
TAKEN = ("description", "padding", "config")
"""Of what every chart has; a drawing of several finds its size by itself."""


def stacked(upper: dict[str, Any], lower: dict[str, Any]) -> dict[str, Any]:
    """The specification of both; zooming moves them together. The upper one's x axis has no numbers.

    >>> from engram.report.charts import Line, lines
    >>> one = lines([Line("a", [(0, 1), (1, 2)])], x="epoch", y="a")
    >>> [(view["width"], view["height"]) for view in stacked(one, one)["vconcat"]]
    [(380, 190), (380, 60)]
    """
    views = [
        {"width": WIDTH - SIDE, "height": height, "layer": spec["layer"]}
        for spec, height in zip((upper, lower), HEIGHTS, strict=True)
    ]
    for layer in views[0]["layer"]:
        if "x" in layer["encoding"]:
            layer["encoding"]["x"]["axis"] = {"title": None, "labels": False}
    around = {key: value for key, value in frame(upper["description"]).items() if key in TAKEN}
    return {**around, "vconcat": views, "spacing": 12, "resolve": {"scale": {"x": "shared"}}}
