"""What the network is made of and where its costs lie: parameters, multiply-adds, what a value sees, memory."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from engram.report.charts import COLOURS, Line, figure, lines
from engram.report.markup import Markup, facts, join, table, tag
from engram.report.run_folder import Run, finite, text
from engram.report.words import big, count, percent

ORDER = 75
TITLE = "Network"

MOST_ROWS = 400
COSTS = {"parameters": "parameters", "macs": "multiply-adds", "kept": "memory for the backward pass"}


def section(run: Run) -> Markup | None:
    rows = [row for row in run.network.get("rows") or [] if isinstance(row, Mapping)]
    total = run.network.get("total") or {}
    if not rows:
        return None
    return join([facts(_facts(run, total)), _chart(rows), _layers(rows, total)])


def _facts(run: Run, total: Mapping[str, Any]) -> list[tuple[str, object]]:
    step = run.network.get("step") or {}
    batch, size = finite(step.get("batch")), finite(step.get("bytes"))
    slots = finite(step.get("slots"))
    gradients = finite(total.get("gradients"))
    kept = f"{_bytes(slots * gradients)} by {text(step.get('optimizer'))}" if slots and gradients else ""
    return [
        ("parameters", count(finite(total.get("parameters")))),
        ("multiply-adds an example", big(finite(total.get("macs")))),
        ("input", _shape(run.network.get("input"))),
        ("weights", _bytes(finite(total.get("weights")))),
        ("gradients", _bytes(gradients)),
        ("kept for every weight", kept),
        ("kept for the backward pass, an example", _bytes(finite(total.get("kept")))),
        (f"a step with {count(batch)} examples takes, at its fullest", _bytes(size)),
        ("memory is told for", "float32; in bfloat16 what is kept for the backward pass is about half"),
    ]


def _chart(rows: list[Mapping[str, Any]]) -> Markup | None:
    """Where in the network each cost is: the share that has been reached, layer by layer."""
    series = []
    for place, (key, name) in enumerate(COSTS.items()):
        values = [finite(row.get(key)) or 0.0 for row in rows]
        if sum(values) > 0:
            shares = [reached / sum(values) for reached in accumulate(values)]
            series.append(
                Line(name, [(0.0, 0.0), *((at + 1.0, share) for at, share in enumerate(shares))], COLOURS[place])
            )
    if not series:
        return None
    told = [_most(rows, key, name) for key, name in COSTS.items()]
    caption = "; ".join(one for one in told if one) + "."
    spec = lines(series, x="layer, in the order in which they run", y="share so far", y_format=".0%", zero=True)
    return tag("div", figure(spec, "Where the costs are", caption[:1].upper() + caption[1:]), class_="charts")


def _most(rows: list[Mapping[str, Any]], key: str, name: str) -> str:
    whole = sum(finite(row.get(key)) or 0.0 for row in rows)
    if not whole:
        return ""
    most = max(rows, key=lambda row: finite(row.get(key)) or 0.0)
    return (
        f"most {name} are in {text(most.get('layer'))} ({percent((finite(most.get(key)) or 0.0) / whole, 0)})".replace(
            "most memory for the backward pass are", "most memory is"
        )
    )


def _layers(rows: list[Mapping[str, Any]], total: Mapping[str, Any]) -> Markup:
    head = ("layer", "type", "output", "parameters", "multiply-adds", "sees", "in use when judged", "kept in training")
    shown = [_row(row, text(row.get("layer"))) for row in rows[:MOST_ROWS]]
    more = f", the first {MOST_ROWS}" if len(rows) > MOST_ROWS else ""
    caption = (
        "Layers in the order in which they run. What one value sees is in pixels of the input, also past its border; "
        "memory is of one example, without weights."
    )
    made = table(caption, head, [*shown, _row(total, "total")], numbers_from=2)
    return tag("details", tag("summary", f"Layers: {count(len(rows))}{more}"), made, class_="layers")


def _row(row: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return (
        name,
        text(row.get("type", "")),
        _shape(row.get("output")),
        count(finite(row.get("parameters"))),
        count(finite(row.get("macs"))),
        _shape(row.get("receptive_field"), once=True),
        _bytes(finite(row.get("held"))),
        _bytes(finite(row.get("kept"))),
    )


def _shape(sizes: Any, *, once: bool = False) -> str:
    """Sides with crosses between; `once`: a single number where all are the same."""
    told = [text(size) for size in sizes] if isinstance(sizes, list | tuple) else []
    return told[0] if once and len(set(told)) == 1 else " × ".join(told)


def _bytes(amount: float | None) -> str:
    return "" if amount is None else big(amount, "B")
