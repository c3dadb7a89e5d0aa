"""Whether signals keep their scale on the way up through the network, and the gradient on its way down, over time."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engram.clinic.diagnoses import exploding_gradient, scale_at_start, vanishing_gradient
from engram.clinic.measured import Layer, Moment
from engram.clinic.moments import layered
from engram.clinic.signals import NOTHING, before_last, gradient_ends, hidden, in_depth
from engram.report import axes, band
from engram.report.charts import Line, figure, lines
from engram.report.insides import quoted, shades, short, some, when
from engram.report.markup import Markup, join, table, tag
from engram.report.run_folder import Run, finite
from engram.report.words import count, number, percent, plural

ORDER = 14
TITLE = "Signal and gradient through depth"

LINES = 5
"""Moments that are drawn."""
MOST_PLACES = 160
"""Layers that a line has at most; of more, every second one is drawn, and so on."""
MOST_ROWS = 400
TOLD = (
    "The same examples were run through the network again and again; a line is one such moment, the stronger the "
    "later. The gradient is that of an example's loss with respect to a layer's outputs, as a multiple of what reaches "
    "the last hidden layers. The signal is the standard deviation of a layer's outputs, where they are normalised at "
    "once, after that. The last layer is left out: its scale says nothing of depth."
)
X = "layer with weights, from the input on"


def section(run: Run) -> Markup | None:
    moments = layered(run.probes)
    if not moments:
        return None
    places = {name: at for at, name in enumerate(_weighted(moments), 1)}
    charts = [chart for chart in (_gradient(run, moments, places), _signal(run, moments, places)) if chart is not None]
    lost = _not_finite(run, moments)
    if not charts and lost is None:
        return None
    drawn = tag("div", *charts, class_="charts") if charts else None
    return join([lost, tag("p", TOLD) if charts else None, drawn, _numbers(run, moments[-1])])


def _gradient(run: Run, moments: Sequence[Moment], places: Mapping[str, int]) -> Markup | None:
    """How much of the gradient at the last hidden layers arrives at each layer."""
    known = [(one, *ends) for one in moments if (ends := gradient_ends(one)) is not None and ends[1] > 0]
    if not known:
        return None
    shown = some([one for one, _, _ in known], LINES)
    last_of = {one.step: last for one, _, last in known}
    drawn = [
        [(places[one.name], one.gradient / last_of[moment.step]) for one in hidden(moment) if one.gradient is not None]
        for moment in shown
    ]
    low, high = vanishing_gradient.WARNING, exploding_gradient.WARNING
    spec = _lines(run, shown, drawn, (low, high), f"healthy: {low:g} to {high:g}")
    if spec is None:
        return None
    (start, *ends_then), (now, *ends) = known[0], known[-1]
    ratio, before = ends[0] / ends[1], ends_then[0] / ends_then[1]
    verdict = "The gradient arrives at the first layers"
    if ratio < low:
        verdict = "The gradient vanishes on its way to the first layers"
    elif ratio > high:
        verdict = "The gradient explodes on its way to the first layers"
    met = hidden(now)
    then = f" ({_times(before)} at {when(run, start.step)})" if len(known) > 1 else ""
    caption = (
        f"{verdict}: at {when(run, now.step)} those like {quoted(met[0].name)} receive {_times(ratio)} what reaches "
        f"the last hidden ones, like {quoted(met[-1].name)}{then}. Under {low:g} it is vanishing, over {high:g} "
        f"exploding.{_ceased(run, moments[-1])}"
    )
    return figure(spec, "Gradient by depth", caption)


def _ceased(run: Run, moment: Moment) -> str:
    norms = [one.gradient for one in hidden(moment) if one.gradient is not None]
    if not norms or max(norms) >= NOTHING:
        return ""
    return f" At {when(run, moment.step)} no gradient reaches any hidden layer."


def _signal(run: Run, moments: Sequence[Moment], places: Mapping[str, int]) -> Markup | None:
    """How large the outputs are that each layer with weights passes on."""
    known = [(one, passed) for one in moments if len(passed := _passed_on(one)) > 1]
    if not known:
        return None
    shown = some([one for one, _ in known], LINES)
    drawn = [[(places[name], std) for name, std in _passed_on(moment)] for moment in shown]
    low, high = scale_at_start.WARNING
    (start, then), (now, passed) = known[0], known[-1]
    (first, least), (last, most) = passed[0], passed[-1]
    name = f"healthy: {low:g} to {high:g} times the first layer's"
    spec = _lines(run, shown, drawn, (low * least, high * least), name)
    if spec is None:
        return None
    ratio, before = most / least, then[-1][1] / then[0][1]
    verdict = "Signals keep their scale through depth"
    if ratio < low:
        verdict = "Signals shrink with depth"
    elif ratio > high:
        verdict = "Signals grow with depth"
    earlier = f" ({_times(before)} at {when(run, start.step)})" if len(known) > 1 else ""
    caption = (
        f"{verdict}: at {when(run, now.step)} the standard deviation is {number(least)} in {quoted(first)} and "
        f"{number(most)} in {quoted(last)}, {_times(ratio)} as much{earlier}. Before training, {low:g} to {high:g} is "
        "healthy; a trained network may go beyond."
    )
    return figure(spec, "Signal by depth", caption)


def _passed_on(moment: Moment) -> list[tuple[str, float]]:
    """By hidden layer with weights, the standard deviation of its outputs as the next layer receives them."""
    places = {one.name: at for at, one in enumerate(moment.layers)}
    told = []
    for one in before_last(moment):
        after = moment.layers[places[one.name] + 1]
        std = after.std if "norm" in after.kind.lower() else one.std
        if 0 < std < math.inf:
            told.append((one.name, std))
    return told


def _lines(
    run: Run,
    moments: Sequence[Moment],
    drawn: Sequence[Sequence[tuple[int, float]]],
    healthy: tuple[float, float],
    name: str,
) -> dict[str, Any] | None:
    """A line a moment over the layers, on the healthy range."""
    points = [[(float(at), value) for at, value in line if 0 < value < math.inf] for line in drawn]
    values = [value for line in points for _, value in line]
    if not values:
        return None
    places = sorted({at for line in points for at, _ in line})
    kept = set(places[:: -(-len(places) // MOST_PLACES)]) | {places[-1]}
    series = [
        Line(when(run, moment.step), [one for one in line if one[0] in kept], colour, dots=True)
        for moment, line, colour in zip(moments, points, shades(len(moments)), strict=True)
    ]
    spec = lines(series, x=X, y="value", log=True)
    low, high = min(*values, healthy[0]), max(*values, healthy[1])
    for layer in spec["layer"]:
        if "y" in layer["encoding"]:
            layer["encoding"]["x"] |= {"scale": {"nice": False, "zero": False}}
            layer["encoding"]["x"]["axis"] = {"title": X, **axes.whole(places[0], places[-1])}
            layer["encoding"]["y"]["scale"] |= {"domain": axes.domain(low, high), "nice": False}
            layer["encoding"]["y"]["axis"] = {"title": None, **axes.decades(low, high)}
        else:
            layer["encoding"]["color"]["legend"]["columns"] = 3
    return band.behind(spec, *healthy, name, across=(places[0], max(places[-1], places[0] + 1)))


def _weighted(moments: Sequence[Moment]) -> list[str]:
    """Names of the layers with weights, in the order in which they are called."""
    depths = {one.name: one.depth for moment in moments for one in in_depth(moment)}
    return sorted(depths, key=lambda name: depths[name])


def _not_finite(run: Run, moments: Sequence[Moment]) -> Markup | None:
    for moment in moments:
        lost = [one for one in moment.layers if not one.finite]
        if lost:
            told = f"From {when(run, moment.step)} on, outputs are infinite or not a number: {quoted(lost[0].name)} is "
            told += f"the first of {plural(len(lost), 'such layer')}. They are left out of the pictures."
            return tag("p", told)
    return None


def _times(ratio: float) -> str:
    return f"{number(ratio, 2) if round(ratio, 1) != 1 else '1.0'} times"


def _numbers(run: Run, moment: Moment) -> Markup:
    head = ["layer", "type", "mean", "standard deviation", "largest", "zeros", "gradient", "dead", "saturated"]
    rows = [tuple(_row(one)) for one in moment.layers[:MOST_ROWS]]
    more = f", the first {MOST_ROWS}" if len(moment.layers) > MOST_ROWS else ""
    title = f"Every layer at {when(run, moment.step)} in numbers: {count(len(moment.layers))}{more}"
    caption = (
        "Outputs over the probe batch, in the order in which layers run; gradient is a sample's, with respect to them."
    )
    return tag("details", tag("summary", title), table(caption, head, rows, numbers_from=2), class_="layers")


def _row(layer: Layer) -> Iterator[object]:
    yield short(layer.name)
    yield short(layer.kind)
    for value in (layer.mean, layer.std, layer.largest):
        yield number(value) if math.isfinite(value) else "not finite"
    yield percent(finite(layer.zeros))
    yield "–" if layer.gradient is None else number(layer.gradient) if math.isfinite(layer.gradient) else "not finite"
    yield percent(layer.dead_share)
    yield percent(finite(layer.saturated))
