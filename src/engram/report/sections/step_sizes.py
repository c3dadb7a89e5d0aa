"""How far a step moves the weights, matrix by matrix over the run, and the learning rate on the same axis."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from engram.clinic.diagnoses import lr_too_high, lr_too_low
from engram.clinic.measured import Moment, Weights
from engram.clinic.moments import weighed
from engram.report import axes, band
from engram.report.charts import COLOURS, Line, figure, lines
from engram.report.insides import axis, place, quoted, short, when
from engram.report.markup import Markup, join, table, tag
from engram.report.run_folder import Run
from engram.report.stacked import stacked
from engram.report.words import count, number

ORDER = 12
TITLE = "Step sizes"

HEALTHY = (5e-4, 2.6e-2)
"""Update over weight in the first 60 steps of 48 healthy runs: see `lr_too_low` and `lr_too_high` in the clinic."""
LOW = lr_too_low.LOW
FIRST = lr_too_high.FIRST
MANY = 10
"""Matrices of which the range leaves out the lowest and the highest tenth."""
MOST_ROWS = 400
FLOOR = 1e-7
"""Where smaller steps are drawn: float32 rounds them away, and the end of a schedule would take up half the axis."""
MIDDLE = "median of all"

Ratios = Sequence[tuple[Moment, Mapping[str, float]]]


def section(run: Run) -> Markup | None:
    moments = weighed(run.probes)
    ratios = [(moment, found) for moment in moments if (found := _ratios(moment))]
    if not ratios:
        return None
    return join([tag("div", _chart(run, ratios), class_="charts"), _numbers(run, ratios)])


def _ratios(moment: Moment) -> dict[str, float]:
    """By matrix that moved, the length of the last change over that of the weights."""
    moved = {one.name: one.ratio for one in moment.weights.values() if len(one.shape) > 1 and one.trainable}
    return {name: ratio for name, ratio in moved.items() if ratio and 0 < ratio < math.inf}


def _chart(run: Run, ratios: Ratios) -> Markup:
    names = list(ratios[-1][1])
    rates = _rates(run)
    until = max([place(run, ratios[-1][0].step), *(at for at, _ in rates)])
    middle = [(place(run, one.step), median(found.values())) for one, found in ratios]
    series = [Line(MIDDLE, _above(middle), COLOURS[0])]
    if len(names) > 1:
        for name, told, colour in ((names[0], "first layer", COLOURS[1]), (names[-1], "last layer", COLOURS[2])):
            points = [(place(run, one.step), found[name]) for one, found in ratios if name in found]
            series.append(Line(told, _above(points), colour))
    spec = lines(series, x=axis(run), y="update over weight", log=True, until=until)
    lowest, highest = _spread(run, ratios)
    low, high = min(HEALTHY[0], min(lowest)), max(HEALTHY[1], max(highest))
    for layer in spec["layer"]:
        if "y" in layer["encoding"]:
            layer["encoding"]["y"]["scale"] |= {"domain": axes.domain(low, high), "nice": False}
            layer["encoding"]["y"]["axis"] = {"title": None, **axes.decades(low, high)}
        else:
            layer["encoding"]["color"]["legend"]["columns"] = 3
    if len(names) > 2:
        spec["layer"].insert(0, _range(run, ratios, lowest, highest))
    name = f"healthy in the first {FIRST} steps"
    spec = band.behind(spec, *HEALTHY, name, across=(0.0, until))
    if rates:
        below = lines([Line("learning rate", rates)], x=axis(run), y="learning rate", zero=True, until=until)
        for layer in below["layer"]:
            layer["encoding"]["y"]["axis"] = {"title": "learning rate", "tickCount": 2}
        spec = stacked(spec, below)
    return figure(spec, "Update over weight", _caption(run, ratios))


def _caption(run: Run, ratios: Ratios) -> str:
    early = [median(found.values()) for one, found in ratios if one.step <= FIRST] or [median(ratios[0][1].values())]
    size, (now, found) = median(early), ratios[-1]
    verdict = "Steps are of a healthy size"
    if size < HEALTHY[0]:
        verdict = "Steps are very small" if size < LOW else "Steps are small"
    elif size > HEALTHY[1]:
        verdict = "Steps are large"
    first = f"in the first {FIRST} steps" if ratios[0][0].step <= FIRST else f"at {when(run, ratios[0][0].step)}"
    slowest, fastest = min(found, key=lambda name: found[name]), max(found, key=lambda name: found[name])
    told = number(median(found.values()), 2)
    if len(found) > 1:
        told += f", from {number(found[slowest], 2)} in {quoted(slowest)} to {number(found[fastest], 2)} in "
        told += quoted(fastest)
    under = f" Smaller ones are drawn at {FLOOR:g}." if min(found.values()) < FLOOR else ""
    shaded = f" Shaded: {'eight in ten' if len(found) > MANY else 'all'} of them." if len(found) > 2 else ""
    later = " Later steps follow the learning rate, drawn below." if _rates(run) else ""
    return (
        f"{verdict}: {first} the median matrix moved by {number(size, 2)} of its length a step; healthy is "
        f"{number(HEALTHY[0])} to {number(HEALTHY[1])}. At {when(run, now.step)} it is {told}.{under}{shaded}{later}"
    )


def _above(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, max(y, FLOOR)) for x, y in points]


def _spread(run: Run, ratios: Ratios) -> tuple[list[float], list[float]]:
    """Lowest and highest of all matrices, moment by moment; of many, without the outermost tenths."""
    shares = (0.1, 0.9) if len(ratios[-1][1]) > MANY else (0.0, 1.0)
    ends = [np.quantile(list(found.values()), shares).clip(FLOOR).tolist() for _, found in ratios]
    return [low for low, _ in ends], [high for _, high in ends]


def _range(run: Run, ratios: Ratios, lowest: Sequence[float], highest: Sequence[float]) -> dict[str, Any]:
    """A layer with the range of all matrices as an area."""
    values = [
        {"x": place(run, one.step), "low": float(f"{low:.4g}"), "high": float(f"{high:.4g}")}
        for (one, _), low, high in zip(ratios, lowest, highest, strict=True)
    ]
    return {
        "data": {"values": values},
        "mark": {"type": "area", "opacity": 0.18},
        "encoding": {
            "x": {"field": "x", "type": "quantitative"},
            "y": {"field": "low", "type": "quantitative", "scale": {"type": "log"}},
            "y2": {"field": "high"},
            "color": {"value": COLOURS[0]},
        },
    }


def _rates(run: Run) -> list[tuple[float, float]]:
    steps, rates = run.probes["loss_step"].tolist(), run.probes["lr"].tolist()
    return [(place(run, step), rate) for step, rate in zip(steps, rates, strict=True) if math.isfinite(rate)]


def _numbers(run: Run, ratios: Ratios) -> Markup:
    (first, before), (last, now) = ratios[0], ratios[-1]
    weights = [one for one in last.weights.values() if len(one.shape) > 1]
    head = ["weights", "shape", f"step at {when(run, first.step)}", f"at {when(run, last.step)}", "length", "gradient"]
    rows = [_row(one, before.get(one.name), now.get(one.name)) for one in weights[:MOST_ROWS]]
    more = f", the first {MOST_ROWS}" if len(weights) > MOST_ROWS else ""
    caption = "A step is the length of the change over that of the weights; length and gradient are L2 norms, the last."
    title = f"Every matrix of weights in numbers: {count(len(weights))}{more}"
    return tag("details", tag("summary", title), table(caption, head, rows, numbers_from=2), class_="layers")


def _row(one: Weights, before: float | None, now: float | None) -> tuple[str, ...]:
    gradient = one.gradient
    return (
        short(one.name),
        " × ".join(map(str, one.shape)),
        number(before),
        number(now) if one.trainable else "frozen",
        number(one.norm) if math.isfinite(one.norm) else "not finite",
        "not finite" if gradient is not None and not math.isfinite(gradient) else number(gradient),
    )
