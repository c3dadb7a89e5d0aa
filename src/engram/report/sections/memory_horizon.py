"""How far back through time a recurrent network's gradient reaches, by layer and over training."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from engram.clinic.arrays import spread
from engram.report import axes
from engram.report.charts import COLOURS, Line, figure, lines
from engram.report.insides import shades, when
from engram.report.markup import Markup, join, table, tag
from engram.report.run_folder import Run, text
from engram.report.words import listed, number, plural

ORDER = 15
TITLE = "Gradient through time"

MOMENTS, LAYERS = 5, 7
"""Lines that are drawn at most."""
FLOOR = 1e-10
"""Shares below which nothing is drawn."""
HALF, HUNDREDTH = 0.5, 0.01
TOLD = (
    "How much of the loss at one step is heard by the state at every step before: the length of the gradient with "
    "respect to it, as a share of that at the step itself. What lies further back than the gradient reaches cannot be "
    "learned from; whether the task needs it, nobody but its owner knows. A straight line down is a loss by the same "
    "factor at every step."
)
X = "steps back"


def section(run: Run) -> Markup | None:
    if not run.past:
        return None
    state = len(run.past["state"]) - 1  # the memory: c of an LSTM, which stands after h
    last = run.past["last"][:, state, :, ::-1]  # (M, layers, T), the step itself first
    shares = last / np.where(last[..., :1] > 0, last[..., :1], np.inf)
    charts = [_by_layer(run, shares), _over_training(run, shares)]
    drawn = [chart for chart in charts if chart is not None]
    return join([tag("p", TOLD), tag("div", *drawn, class_="charts") if drawn else None, _values(run)])


def _by_layer(run: Run, shares: Any) -> Markup | None:
    now = shares[-1]
    layers = spread(list(range(len(now))), LAYERS)
    series = [Line(f"layer {at + 1}", _points(now[at]), COLOURS[n % len(COLOURS)]) for n, at in enumerate(layers)]
    spec = _chart(series, now)
    if spec is None:
        return None
    reaches = [f"layer {at + 1} {_reach(now[at])}" for at in layers]
    caption = f"At {when(run, int(run.past['step'][-1]))}: {'; '.join(reaches)}."
    return figure(spec, f"The {_memory(run)} of every layer", caption)


def _over_training(run: Run, shares: Any) -> Markup | None:
    steps = [int(step) for step in run.past["step"]]
    if len(steps) < 2:
        return None
    shown = spread(steps, MOMENTS)
    top = shares[:, -1]
    colours = shades(len(shown))
    series = [Line(when(run, steps[at]), _points(top[at]), colour) for at, colour in zip(shown, colours, strict=True)]
    spec = _chart(series, top[shown])
    if spec is None:
        return None
    caption = (
        f"The last layer: {when(run, steps[0])}, {_reach(top[0])}; {when(run, steps[-1])}, {_reach(top[-1])}. Gates "
        "open while they learn, so that a short reach at the start says little of an LSTM or a GRU."
    )
    return figure(spec, "Over training", caption)


def _chart(series: Sequence[Line], shares: Any) -> dict[str, Any] | None:
    """Lines over the steps back, on a logarithmic axis, with a dashed line at a hundredth."""
    drawn = [line for line in series if len(line.points) > 1]
    if not drawn:
        return None
    far = max(x for line in drawn for x, _ in line.points)
    low = min(y for line in drawn for _, y in line.points)
    high = max(y for line in drawn for _, y in line.points)
    mark = Line("a hundredth", [(0.0, HUNDREDTH), (far, HUNDREDTH)], "var(--muted)", dash=(4, 4))
    spec = lines([*drawn, mark], x=X, y="share", log=True)
    low, high = min(low, HUNDREDTH), max(high, 1.0)
    for layer in spec["layer"]:
        if "y" in layer["encoding"]:
            layer["encoding"]["y"]["scale"] |= {"domain": axes.domain(low, high), "nice": False}
            layer["encoding"]["y"]["axis"] = {"title": None, **axes.decades(low, high)}
        else:
            layer["encoding"]["color"]["legend"]["columns"] = 4
    return spec


def _points(shares: Any) -> list[tuple[float, float]]:
    return [(float(at), float(share)) for at, share in enumerate(shares) if share >= FLOOR]


def _reach(shares: Any) -> str:
    """How many steps back half is left, and a hundredth."""
    found = []
    for share, name in ((HALF, "half"), (HUNDREDTH, "a hundredth")):
        below = np.flatnonzero(~(shares >= share))
        found.append(f"{name} over {below[0] - 1}" if below.size else f"{name} over all {len(shares) - 1}")
    return f"keeps {found[0]} and {found[1]} steps"


def _memory(run: Run) -> str:
    return "cells" if str(run.past["state"][-1]) == "c" else "states"


def _values(run: Run) -> Markup:
    """Largest singular values: of the matrices, gate by gate, and of a whole step."""
    gates = [text(str(name)) for name in run.past["gate"]]
    largest, steps = run.past["largest"], run.past["steps"]
    head = ["layer", *(f"matrix of {name}" for name in gates), "a step, middle", "a step, most"]
    rows = [
        (
            str(layer + 1),
            *(number(float(value)) for value in largest[-1, layer]),
            number(float(np.median(steps[-1, layer]))),
            number(float(steps[-1, layer].max())),
        )
        for layer in range(largest.shape[1])
    ]
    first = ""
    if len(run.past["step"]) > 1:
        before = [number(float(np.median(steps[0, layer]))) for layer in range(steps.shape[1])]
        first = f" At {when(run, int(run.past['step'][0]))} the middle ones were {listed(before)}."
    caption = f"Largest singular values at {when(run, int(run.past['step'][-1]))}"
    told = (
        "A gradient grows by at most the largest singular value of a step: its Jacobian, with all gates and slopes, "
        f"at {plural(steps.shape[2], 'state')} that occurred. Under 1 it must fade. Those of the recurrent matrices "
        f"say what a gate could do without its slope.{first}"
    )
    return join([table(caption, head, rows), tag("p", told, class_="key")])
