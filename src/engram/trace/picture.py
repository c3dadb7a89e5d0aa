"""The trace as a circuit diagram: boxes for what there is, wires for what is read, numbers and small pictures on them.

As in the lecture, what went forward is green and what came back is red; arrows say the same without colours. A number
is written out, a few numbers are a table, more are a picture. Where a value is read more than once, each wire says what
came back along it. Below stand the rules, in words. One SVG for light and dark.
"""

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engram.report.markup import Markup, join, tag
from engram.trace.graph import OPERATION, Edge, Node, Trace
from engram.trace.layout import layout
from engram.trace.numbers import shape, short, summary
from engram.trace.pixels import picture

LARGEST = 60
"""Nodes above which a graph is a tree of text and no picture."""
TABLE = 36
"""Numbers of a tensor that are still written out."""
CELL = (46, 20)
LETTERS = 6
"""Of a number in a cell."""
SIDE = 84
LINE = 17
LETTER, BOLD = 6.9, 7.8
MARGIN = 14

STYLE = """
.engram-trace { --paper: #fbfbf9; --box: #ffffff; --ink: #1b1d21; --muted: #5f646d; --line: #c4c5bf; --value: #17694f;
  --gradient: #b3261e; --plus: #2463c9; --minus: #d04a20; --leaf: #f1f1ec; max-width: 100%; height: auto;
  font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
@media (prefers-color-scheme: dark) { .engram-trace { --paper: #131518; --box: #1f2328; --ink: #e7e8ea;
  --muted: #9aa1ab; --line: #4a505a; --value: #57c48a; --gradient: #f28b82; --plus: #5b93f0; --minus: #f0824f;
  --leaf: #181b1f; } }
.engram-trace text { fill: var(--ink); font-variant-numeric: tabular-nums; }
.engram-trace .paper { fill: var(--paper); }
.engram-trace .box { fill: var(--box); stroke: var(--line); }
.engram-trace .leaf { fill: var(--leaf); stroke: var(--line); stroke-dasharray: 3 3; }
.engram-trace .name { font-weight: 600; }
.engram-trace .muted { fill: var(--muted); font-size: 10.5px; }
.engram-trace .value { fill: var(--value); }
.engram-trace .gradient { fill: var(--gradient); }
.engram-trace .wire { fill: none; stroke: var(--line); stroke-width: 1.5; }
.engram-trace .head { fill: var(--line); }
.engram-trace .cut { stroke-dasharray: 2 4; }
.engram-trace .halo { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
.engram-trace .plus { fill: var(--plus); } .engram-trace .minus { fill: var(--minus); }
.engram-trace .frame { fill: none; stroke: var(--line); }
.engram-trace image { image-rendering: pixelated; }
"""
PLAIN_STYLE = "overflow-x: auto; white-space: pre; font-family: ui-monospace, monospace"


@dataclass(frozen=True)
class Block:
    """A drawing with its size; its top left corner is at 0, 0."""

    drawn: Markup
    width: float
    height: float


def html(trace: Trace) -> str:
    """What a notebook shows: the picture, and of a large graph the tree of text."""
    if len(trace.nodes) > LARGEST:
        return str(tag("pre", str(trace), style=PLAIN_STYLE))
    return str(tag("div", svg(trace), style="overflow-x: auto"))


def svg(trace: Trace) -> Markup:
    """The diagram as an SVG element that can stand in a page or a file of its own.

    >>> import engram
    >>> print(svg(engram.trace(lambda x, y: x * y, 3.0, -4.0))[:60])
    <svg xmlns="http://www.w3.org/2000/svg" class="engram-trace"
    """
    boxes = {node.number: _box(node) for node in trace.nodes}
    edges = trace.edges
    pairs = list(dict.fromkeys((edge.source, edge.target) for edge in edges))
    found = layout({number: (box.width, box.height) for number, box in boxes.items()}, pairs)
    legend = _legend(trace, max(found.width, 420.0))
    width = max(found.width, legend.width) + 2 * MARGIN
    height = found.height + legend.height + 3 * MARGIN
    shared = Counter(edge.source for edge in edges)
    wires = []
    for pair, way in zip(pairs, found.ways, strict=True):
        joined = [edge for edge in edges if (edge.source, edge.target) == pair]
        wires.append(_wire(joined, way, boxes, told=shared[pair[0]] > 1))
    drawn = [
        tag("g", box.drawn, transform=_moved(x - box.width / 2, y - box.height / 2))
        for box, (x, y) in zip(boxes.values(), found.places.values(), strict=True)
    ]
    lines = join([wire for wire, _ in wires])
    words = join([label for _, label in wires])
    graph = tag("g", lines, *drawn, words, transform=_moved((width - found.width) / 2, MARGIN))
    below = tag("g", legend.drawn, transform=_moved(MARGIN, found.height + 2 * MARGIN))
    return tag(
        "svg",
        tag("title", _spoken(trace)),
        tag("style", Markup(STYLE)),
        tag("rect", class_="paper", width=_px(width), height=_px(height), rx=6),
        graph,
        below,
        xmlns="http://www.w3.org/2000/svg",
        class_="engram-trace",
        viewBox=f"0 0 {_px(width)} {_px(height)}",
        width=_px(width),
        height=_px(height),
        role="img",
    )


def _spoken(trace: Trace) -> str:
    """What a screen reader says of the diagram."""
    told = [f"{node.name}: {summary(node.value)}, gradient {summary(node.gradient)}" for node in trace.nodes[:20]]
    return "Circuit diagram. " + "; ".join(told)


def _box(node: Node) -> Block:
    leaf = node.kind != OPERATION
    parts = [_pair(value, gradient) for value, gradient in zip(node.values, node.gradients, strict=True)]
    names = textwrap.wrap(node.label, 30) or [node.label]
    inner = max(max(part.width for part in parts), *(len(name) * BOLD for name in names))
    width = inner + 20
    content = [
        tag("text", name, x=_px(width / 2), y=_px(16 + LINE * row), text_anchor="middle", class_="name")
        for row, name in enumerate(names)
    ]
    top = LINE * len(names) + 10.0
    for part in parts:
        content.append(tag("g", part.drawn, transform=_moved((width - part.width) / 2, top)))
        top += part.height + 6
    frame = tag("rect", class_="leaf" if leaf else "box", width=_px(width), height=_px(top + 2), rx=7)
    where = f" (in {node.module})" if node.module and not leaf else ""
    return Block(tag("g", tag("title", f"{node.label}{where}: {node.rule}"), frame, *content), width, top + 2)


def _pair(value: Tensor, gradient: Tensor | None) -> Block:
    """A value and its gradient, under one another where they are numbers, side by side where they are pictures."""
    if value.numel() == 1 and value.dim() == 0:
        there = _text(f"→ {summary(value)}", "value")
        back = _text(
            "no gradient" if gradient is None else f"← {summary(gradient)}", "muted" if gradient is None else "gradient"
        )
        return _stacked([there, back])
    there = _stacked([_text(f"→ {shape(value)}", "value"), _content(value)])
    if gradient is None:
        return _stacked([there, _text("no gradient", "muted")])
    return _beside([there, _stacked([_text("← gradient", "gradient"), _content(gradient)])])


def _content(tensor: Tensor) -> Block:
    """The numbers of a tensor as a table or a picture."""
    if not tensor.numel():
        return _text("empty", "muted")
    rows = _table(tensor)
    return _cells(rows) if rows else _pixels(tensor)


def _table(tensor: Tensor) -> list[list[float]]:
    """The numbers in rows, where they are few and plain."""
    if tensor.numel() > TABLE or tensor.is_complex():
        return []
    plain = tensor
    while plain.dim() > 2 and plain.shape[0] == 1:
        plain = plain[0]
    if plain.dim() > 2 or plain.dim() == 0 or plain.shape[-1] > 6:
        return []
    rows = plain.to(torch.float64).tolist()
    return rows if plain.dim() == 2 else [rows]


def _cells(rows: list[list[float]]) -> Block:
    wide, high = CELL
    most = max((abs(one) for row in rows for one in row if abs(one) < float("inf")), default=0.0) or 1.0
    told = fitting(rows)
    parts = []
    for down, row in enumerate(rows):
        for across, one in enumerate(row):
            x, y = across * wide, down * high
            if one:
                share = min(abs(one) / most, 1.0) if one == one else 1.0
                sign = "minus" if one < 0 else "plus"
                parts.append(
                    tag(
                        "rect", class_=sign, x=x, y=y, width=wide, height=high, fill_opacity=f"{0.06 + 0.4 * share:.2f}"
                    )
                )
            parts.append(tag("text", told[down][across], x=x + wide / 2, y=y + 14, text_anchor="middle"))
    width, height = wide * len(rows[0]), high * len(rows)
    parts.append(tag("rect", class_="frame", width=width, height=height))
    return Block(join(parts), width, height)


def fitting(rows: Sequence[Sequence[float]]) -> list[list[str]]:
    """Numbers in at most six letters, all in as many digits as the longest leaves room for.

    >>> fitting([[0.6912, -2.0], [-0.4315, 12.0]])
    [['0.691', '-2'], ['-0.431', '12']]
    >>> fitting([[1.0, -1.25e-7]])
    [['1', '-1e-7']]
    """
    for digits in (4, 3, 2):
        told = [[_written(one, digits) for one in row] for row in rows]
        if all(len(one) <= LETTERS for row in told for one in row):
            return told
    return [[one if len(one) <= LETTERS else f"{float(one):.0e}".replace("e-0", "e-") for one in row] for row in told]


def _written(one: float, digits: int) -> str:
    return short(one) if isinstance(one, bool) or not one else f"{one:.{digits}g}"


def _pixels(tensor: Tensor) -> Block:
    source, wide, high = picture(tensor)
    scale = SIDE / max(wide, high)
    width, height = max(wide * scale, 6.0), max(high * scale, 6.0)
    image = tag("image", href=source, width=_px(width), height=_px(height), preserveAspectRatio="none")
    frame = tag("rect", class_="frame", width=_px(width), height=_px(height))
    low, high_ = _range(tensor)
    return _stacked([Block(join([image, frame]), width, height), _text(f"{low} … {high_}", "muted")])


def _range(tensor: Tensor) -> tuple[str, str]:
    plain = tensor.abs() if tensor.is_complex() else tensor
    return short(plain.min().item()), short(plain.max().item())


def _text(words: str, kind: str) -> Block:
    return Block(tag("text", words, y=12, class_=kind), len(words) * LETTER * (0.85 if kind == "muted" else 1), LINE)


def _stacked(blocks: list[Block]) -> Block:
    width, top, parts = max(block.width for block in blocks), 0.0, []
    for block in blocks:
        parts.append(tag("g", block.drawn, transform=_moved((width - block.width) / 2, top)))
        top += block.height + 3
    return Block(join(parts), width, top - 3)


def _beside(blocks: list[Block]) -> Block:
    height, left, parts = max(block.height for block in blocks), 0.0, []
    for block in blocks:
        parts.append(tag("g", block.drawn, transform=_moved(left, 0)))
        left += block.width + 12
    return Block(join(parts), left - 12, height)


def _wire(
    edges: list[Edge], way: list[tuple[float, float, float]], boxes: dict[int, Block], *, told: bool
) -> tuple[Markup, Markup | None]:
    """The line, and what came back along it where that is not plain from the boxes.

    It is level within a column, where it might meet a box, and bends between columns.
    """
    (left, right, y), (last_left, last_right, last_y) = way[0], way[-1]
    path = f"M{_px((left + right + boxes[edges[0].source].width) / 2)} {_px(y)} H{_px(right)}"
    end = (last_left + last_right - boxes[edges[0].target].width) / 2 - 6
    for left, until, level in way[1:]:
        middle = (right + left) / 2
        path += f" C{_px(middle)} {_px(y)} {_px(middle)} {_px(level)} {_px(left - 6)} {_px(level)}"
        path += f" H{_px(until if until != last_right else end)}"
        right, y = until, level
    head = f"M{_px(end)} {_px(last_y - 4)} L{_px(end + 6)} {_px(last_y)} L{_px(end)} {_px(last_y + 4)} Z"
    cut = all(edge.gradient is None for edge in edges)
    line = tag("path", d=path, class_="wire cut" if cut else "wire")
    drawn = tag("g", tag("title", _sent(edges)), line, tag("path", d=head, class_="head"))
    if not told:
        return drawn, None
    parts = ["–" if edge.gradient is None else _brief(edge.gradient) for edge in edges]
    middle, level = (way[-2][1] + last_left) / 2, (way[-2][2] + last_y) / 2
    place = {"x": _px(middle), "y": _px(level - 5), "text_anchor": "middle"}
    return drawn, tag("text", "← " + " + ".join(parts), class_="gradient halo", **place)


def _sent(edges: list[Edge]) -> str:
    return "comes back: " + " and ".join(summary(edge.gradient, most=16) for edge in edges)


def _brief(gradient: Tensor) -> str:
    """One number for what came back along a wire: itself, or the length of several."""
    if gradient.numel() == 1:
        return f"{gradient.item():.3g}"
    return f"|{torch.linalg.vector_norm(gradient).item():.2g}|"


def _legend(trace: Trace, width: float) -> Block:
    """The rules in words, once each."""
    rules = dict.fromkeys((node.label, node.rule) for node in trace.nodes if node.kind == OPERATION)
    told = ["→ value forward   ← gradient back" + ("   |…| length of several" if _has_lengths(trace) else "")]
    for name, rule in rules:
        told += textwrap.wrap(f"{name}: {rule}", max(int(width / 5.6), 50), subsequent_indent="    ")
    lines = [tag("text", one, y=_px(10 + 15 * row), class_="muted") for row, one in enumerate(told)]
    return Block(join(lines), min(max(len(one) for one in told) * 5.6, width), 15.0 * len(told))


def _has_lengths(trace: Trace) -> bool:
    reads = Counter(edge.source for edge in trace.edges)
    return any(
        reads[edge.source] > 1 and edge.gradient is not None and edge.gradient.numel() > 1 for edge in trace.edges
    )


def _moved(x: float, y: float) -> str:
    return f"translate({_px(x)} {_px(y)})"


def _px(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
