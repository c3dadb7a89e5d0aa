"""The flow map as one page: the gradient by depth and by branch, and over the image who received it in each pooling."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from engram.report import charts
from engram.report.charts import Line
from engram.report.markup import Markup, facts, join, table, tag
from engram.report.page import document
from engram.report.pictures import uri
from engram.trace.flow import Flow
from engram.trace.numbers import short
from engram.trace.routing import Routing

SIDE = 340
"""Width of an overlay."""
GRID = 32
"""Windows along a side, up to which the grid is drawn."""
COLOUR = (255, 60, 120)
MOST = 400
"""Rows of a table."""
FEW = 12
"""Modules or time steps that have a tick each."""
MAGNITUDE = 10.0
"""Longest gradient over shortest, from which they are drawn by orders of magnitude."""

STYLE = """
.routes { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 2rem 2.5rem; }
.routes svg { width: 100%; max-width: 24rem; height: auto; display: block; background: #000; border-radius: .3rem; }
.routes image { image-rendering: pixelated; }
.routes .grid { stroke: #fff; stroke-opacity: .28; stroke-width: .5; fill: none; }
.routes .winner { fill: #ffd34d; stroke: #000; stroke-width: .6; }
.routes figcaption { margin-top: .5rem; }
.even { color: var(--muted); font-size: .88rem; margin-top: 1.4rem; }
"""


def page(flow: Flow) -> str:
    """The whole HTML document."""
    title = flow.title[:1].upper() + flow.title[1:]
    head = tag("header", tag("p", "engram trace", class_="kicker"), tag("h1", title), facts(flow.facts.items()))
    body = [Markup("<style>{}</style>").format(Markup(STYLE)), head, _depth(flow), _branches(flow)]
    return document(title, join([*body, _poolings(flow), _steps(flow), _joins(flow), _parts(flow)]))


def inline(flow: Flow) -> str:
    """The page inside another, such as a notebook, where neither changes how the other looks."""
    style = "width:100%;height:44rem;border:1px solid #8884;border-radius:.4rem"
    return str(tag("iframe", srcdoc=page(flow), style=style, title=flow.title))


def counted(spec: dict[str, Any], count: int) -> dict[str, Any]:
    """The specification of a chart over things that are counted from 1: few have a tick each, in place.

    >>> spec = charts.lines([Line("a", [(1.0, 2.0), (2.0, 3.0)])], x="step", y="length")
    >>> counted(spec, 2)["layer"][0]["encoding"]["x"]["axis"]["values"]
    [1, 2]
    """
    for layer in spec["layer"]:
        if "x" in layer["encoding"] and count <= FEW:
            layer["encoding"]["x"]["axis"] |= {"values": list(range(1, count + 1)), "format": "d"}
    return spec


def _section(title: str, words: str, *content: Markup) -> Markup:
    return tag("section", tag("h2", title), tag("p", words) if words else None, *content)


def _depth(flow: Flow) -> Markup | None:
    """The length of the gradient where each module gives its output."""
    rows = [part for part in flow.parts if part.whole]
    points = [(number + 1.0, part.entering) for number, part in enumerate(rows) if part.entering]
    finite = [(x, y) for x, y in points if np.isfinite(y)]
    if len(finite) < 2:
        return None
    low, high = min(finite, key=lambda one: one[1]), max(finite, key=lambda one: one[1])
    log = high[1] > MAGNITUDE * low[1]
    spec = charts.lines(
        [Line("gradient", finite, dots=True)],
        x="module, in the order in which they run",
        y="length of the gradient",
        log=log,
        zero=not log,
    )
    names = [f"{part.name or 'the whole'} ({part.kind})" for part in (rows[int(x) - 1] for x, _ in (high, low))]
    caption = f"From {short(high[1])} at the most, at {names[0]}, to {short(low[1])} at the least, at {names[1]}."
    drawn = tag("div", charts.svg(counted(spec, len(rows)), f"The gradient by depth. {caption}"), class_="chart")
    figure = tag("figure", drawn, tag("figcaption", caption))
    words = (
        "How long the gradient of the loss is where each module gives its output: the network's beginning on the left. "
        "Level is healthy; a fall by orders of magnitude towards the left means that the first layers hardly hear of "
        "the loss, a rise that they are shaken by it."
    )
    return _section("The gradient by depth", words, tag("div", figure, class_="charts"))


def _branches(flow: Flow) -> Markup | None:
    if not flow.branches:
        return None
    rows = [(one.fork, one.way, one.kind, short(one.gradient), _meter(one.share)) for one in flow.branches[:MOST]]
    words = (
        "Where a value was read more than once, the gradients of all its readers add up: the branches of a module, a "
        "shortcut beside its residual path, an auxiliary head beside the layers above."
    )
    head = ("value from", "gradient came through", "", "length", "share")
    return _section("Which way it came", words, table("Lengths, and shares of their sum", head, rows, numbers_from=3))


def _joins(flow: Flow) -> Markup | None:
    if not flow.tributaries:
        return None
    rows = [(one.join, one.source, one.kind, short(one.value), _meter(one.share)) for one in flow.tributaries[:MOST]]
    words = (
        "The other direction: how much each side brings where values are joined. A residual path that brings next to "
        "nothing leaves its block close to the identity."
    )
    head = ("joined at", "value from", "", "length", "share")
    shown = table("Lengths, and shares of their sum", head, rows, numbers_from=3)
    return _section("What was joined", words, tag("details", tag("summary", f"{len(rows)} values"), shown))


def _meter(share: float) -> Markup:
    told = f"{share:.0%}" if np.isfinite(share) else "–"
    bar = tag("span", class_="bar", style=f"--share: {share if np.isfinite(share) else 0:.3f}")
    return tag("span", told, bar, class_="meter")


def _poolings(flow: Flow) -> Markup | None:
    if not flow.poolings:
        return None
    whole = [one for one in flow.poolings if one.windows == "1x1" and not one.operation.startswith("max")]
    shown = [one for one in flow.poolings if one not in whole]
    words = "Red is how much of the gradient each place received, over all channels. "
    if any(one.operation.startswith("max") for one in shown):
        words += (
            "A maximum sends each window's gradient to its winner; everything else learns nothing from this image. "
            "Yellow dots are the winners of the channel that received most. "
        )
    if any(not one.operation.startswith("max") for one in shown):
        words += "An average gives all of a window the same. "
    drawn = [tag("div", *(_overlay(flow, one) for one in shown), class_="routes")] if shown else []
    told = [
        f"{one.name}: {one.operation} over everything, which gives every place of a channel the same." for one in whole
    ]
    return _section(
        "Who received it in the poolings",
        words if shown else "",
        *drawn,
        *(tag("p", line, class_="even") for line in told),
    )


def _overlay(flow: Flow, one: Routing) -> Markup:
    """The image, what each place received over it, the windows, and the winners."""
    high, wide = one.received.shape
    image_high, image_wide = flow.image.shape[:2] if flow.image is not None else (high, wide)
    height = SIDE * image_high / image_wide
    size = {"width": SIDE, "height": f"{height:.0f}", "preserveAspectRatio": "none"}
    parts = []
    if flow.image is not None:
        pixels = flow.image if flow.image.shape[2] == 3 else flow.image[:, :, 0]
        parts.append(tag("image", href=uri(_png(Image.fromarray(np.ascontiguousarray(pixels)))), opacity=0.75, **size))
    parts.append(tag("image", href=uri(_png(_heat(one))), **size))
    rows, columns = map(int, one.windows.split("x"))
    if one.operation.startswith("max") and max(rows, columns) <= GRID:
        lines = [f"M{SIDE * column / columns:.1f} 0V{height:.1f}" for column in range(1, columns)]
        lines += [f"M0 {height * row / rows:.1f}H{SIDE}" for row in range(1, rows)]
        parts.append(tag("path", d=" ".join(lines), class_="grid"))
    if one.operation.startswith("max"):
        most = max((abs(g) for _, _, g in one.winners), default=1.0) or 1.0
        radius = min(SIDE / wide, height / high) * 0.42
        for row, column, g in one.winners:
            x, y = SIDE * (column + 0.5) / wide, height * (row + 0.5) / high
            r = max(min(radius, 6) * (abs(g) / most) ** 0.5, 0.8)
            parts.append(tag("circle", class_="winner", cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{r:.1f}"))
    caption = f"{one.name}: {one.operation}, {one.windows} windows; {one.share:.0%} of what it read received anything."
    svg = tag("svg", *parts, viewBox=f"0 0 {SIDE} {height:.0f}", role="img", aria_label=caption)
    return tag("figure", svg, tag("figcaption", caption))


def _heat(one: Routing) -> Image.Image:
    received = np.nan_to_num(one.received)
    share = received / (received.max(initial=0.0) or 1.0)
    pixels = np.zeros((*share.shape, 4), np.uint8)
    pixels[..., :3] = COLOUR
    pixels[..., 3] = np.rint(share**0.8 * 235)
    return Image.fromarray(pixels, "RGBA")


def _png(image: Image.Image) -> bytes:
    written = io.BytesIO()
    image.save(written, "PNG", optimize=True)
    return written.getvalue()


def _steps(flow: Flow) -> Markup | None:
    if not flow.steps:
        return None
    series = [
        Line(
            one.name,
            [(step + 1.0, g) for step, g in enumerate(one.gradients) if np.isfinite(g)],
            charts.COLOURS[place % 8],
            dots=True,
        )
        for place, one in enumerate(flow.steps)
    ]
    count = max(len(one.gradients) for one in flow.steps)
    log = charts.log_suits(series)
    spec = charts.lines(series, x="time step", y="length of the gradient", log=log, zero=not log)
    caption = "The gradient at the input of each time step; what falls off towards the left is forgotten."
    drawn = tag(
        "figure", tag("div", charts.svg(counted(spec, count), caption), class_="chart"), tag("figcaption", caption)
    )
    return _section("Back through time", "How far back the loss reaches.", tag("div", drawn, class_="charts"))


def _parts(flow: Flow) -> Markup | None:
    rows = [(part.name or "the whole", part.kind, _told(part.entering), _told(part.leaving)) for part in flow.parts]
    if not rows:
        return None
    head: Sequence[str] = ("module", "type", "enters", "leaves")
    shown = table("Length of the gradient at its outputs and at its inputs", head, rows[:MOST], numbers_from=2)
    more = f" The first {MOST} of {len(rows)} are listed." if len(rows) > MOST else ""
    words = f"How much gradient enters each module from above, and how much it hands down.{more}"
    return _section("Every module", words, tag("details", tag("summary", f"{len(rows)} runs of modules"), shown))


def _told(number: float | None) -> str:
    return "–" if number is None else short(number)
