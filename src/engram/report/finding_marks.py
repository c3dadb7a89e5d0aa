"""Findings on a chart over the epochs: a line where each was seen, with the number that it has in their list."""

from collections.abc import Mapping
from typing import Any

from engram.report.run_folder import Run, finite

TONES = {"critical": "bad", "warning": "warning", "information": "note"}
"""The tone of each severity, which is a colour of the page."""

MOST = 9
"""Findings that are drawn: further ones are the least."""


def numbered(run: Run) -> list[tuple[float, str, str]]:
    """(epoch, numbers, tone) of the findings that were made while it trained; those of one step share a line."""
    lines: dict[float, tuple[list[str], str]] = {}
    for place, one in enumerate(run.findings[:MOST], 1):
        step = finite(one.get("step"))
        epoch = run.epoch_of({"step": step}) if step else None
        if epoch is not None:
            lines.setdefault(epoch, ([], TONES.get(str(one.get("severity")), "note")))[0].append(str(place))
    return [(epoch, ", ".join(numbers), tone) for epoch, (numbers, tone) in sorted(lines.items())]


def layers(run: Run) -> list[dict[str, Any]]:
    """Layers to lay over a chart whose x is the epoch: dashed lines, numbers at their top; none without findings."""
    marks = numbered(run)
    tones = dict.fromkeys(tone for _, _, tone in marks)
    return [_drawn([one for one in marks if one[2] == tone], tone, kind) for tone in tones for kind in KINDS]


KINDS: Mapping[str, dict[str, Any]] = {
    "rule": {"strokeDash": [3, 3], "strokeWidth": 1},
    "text": {"align": "left", "baseline": "top", "dx": 3, "fontSize": 12, "fontWeight": 600, "y": 0},
}


def _drawn(marks: list[tuple[float, str, str]], tone: str, kind: str) -> dict[str, Any]:
    encoding: dict[str, Any] = {
        "x": {"field": "x", "type": "quantitative"},
        "color": {"value": f"var(--{tone})"},  # as a value: a field would share the scale and legend of the curves
        "tooltip": [
            {"field": "finding", "type": "nominal"},
            {"field": "x", "type": "quantitative", "title": "epoch", "format": ".3~f"},
        ],
    }
    if kind == "text":
        encoding["text"] = {"field": "finding", "type": "nominal"}
    values = [{"x": float(f"{x:.5g}"), "finding": numbers} for x, numbers, _ in marks]
    return {"data": {"values": values}, "mark": {"type": kind, **KINDS[kind]}, "encoding": encoding}
