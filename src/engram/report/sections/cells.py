"""What the cells of a network that writes follow in the text, and a passage coloured by the ones that follow most."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from numpy.typing import NDArray

from engram.report.markup import Markup, join, table, tag
from engram.report.run_folder import Run, text
from engram.report.words import count, number, percent, plural

ORDER = 53
TITLE = "Cells that mean something"

CUTS = (0.15, 0.45, 0.75)
"""Of a cell's distance from its own middle: from where on it is coloured, more, and most."""
QUOTED = 36
"""Characters of a stretch that the text alternative quotes."""
NEWLINE = "↵"


def section(run: Run) -> Markup | None:
    if not run.cells:
        return None
    told, values = run.cells["told"], run.cells["values"]
    passage = [text(piece, limit=200) for piece in told["passage"]]
    figures = [_coloured(cell, row, passage) for cell, row in zip(told["shown"], values, strict=True)]
    key = tag(
        "p",
        "Around the cell’s own middle: ",
        tag("span", " above ", class_="a1"),
        tag("span", " further ", class_="a2"),
        tag("span", " far ", class_="a3"),
        " · ",
        tag("span", " below ", class_="b1"),
        tag("span", " further ", class_="b2"),
        tag("span", " far ", class_="b3"),
        class_="passage",
    )
    return join(
        [
            tag("p", _counts(told)),
            _features(told),
            key,
            tag("div", *figures, class_="passages"),
            _honest(told),
        ]
    )


def _counts(told: Mapping[str, Any]) -> str:
    cells, some = told["cells"], told["meaningful"]
    layers = plural(told["layers"], "layer")
    nothing = cells - some
    plain = told["readable"]
    readable = f"{plural(plain, 'cell')} {'knows' if plain == 1 else 'know'}"
    return (
        f"{count(nothing)} of the {count(cells)} cells ({percent(nothing / max(cells, 1), 0)}; {layers} of "
        f"{told['units']}) follow nothing measurable among what is listed here. {count(some)} do, and "
        f"{count(told['learned'])} of them know at least twice as much of it as the best cell of the same layers "
        f"untrained: these have learned it. {readable} at least half of what there is to know of a feature, and can be "
        f"read by eye. Measured over {count(told['read'])} steps of text that was not trained on."
    )


def _features(told: Mapping[str, Any]) -> Markup:
    rows = []
    for one in told["features"]:
        cell = one["best"]
        known = "–" if cell is None else f"{number(cell['bits'], 2)} of {number(one['entropy'], 2)}"
        share = "–" if cell is None else percent(cell["share"], 0)
        counts = (count(one["meaningful"]), count(one["learned"]))
        rows.append(
            (text(one["name"]), *counts, _name(cell) if cell else "none", known, share, number(one["untrained"], 2))
        )
    head = ["feature", "cells follow it", "have learned it", "the best", "bits it knows", "share", "untrained, bits"]
    return table("What is followed, and by how many cells", head, rows)


def _coloured(cell: Mapping[str, Any], row: NDArray[Any], passage: Sequence[str]) -> Markup:
    values = [int(value) / 127 for value in row]
    spans = [tag("span", piece, class_=level) if level else piece for level, piece in stretches(passage, values)]
    title = (
        f"{_name(cell)}: {text(cell['feature'])}" if cell["feature"] is not None else f"{_name(cell)}: nothing listed"
    )
    return tag(
        "figure",
        tag("h3", title[0].upper() + title[1:]),
        tag("pre", *spans, class_="passage"),
        tag("figcaption", _caption(cell, values, passage)),
    )


def stretches(passage: Sequence[str], values: Sequence[float]) -> Iterator[tuple[str, str]]:
    """The passage in stretches of one level: `a1` to `a3` above the middle, `b1` to `b3` below, nothing about it.

    >>> list(stretches(["a", "b", "\\n", "c"], [0.0, 0.9, 0.8, -0.2]))
    [('', 'a'), ('a3', 'b↵\\n'), ('b1', 'c')]
    """

    def level(value: float) -> str:
        steps = sum(abs(value) >= cut for cut in CUTS)
        return f"{'a' if value > 0 else 'b'}{steps}" if steps else ""

    for name, group in groupby(zip(passage, values, strict=True), key=lambda one: level(one[1])):
        yield name, "".join(piece.replace("\n", f"{NEWLINE}\n") for piece, _ in group)


def _caption(cell: Mapping[str, Any], values: Sequence[float], passage: Sequence[str]) -> str:
    """What the colours say, in words."""
    where = [
        f"{name} in “{found}”"
        for name, found in (("Highest", _extreme(passage, values, 1)), ("lowest", _extreme(passage, values, -1)))
        if found
    ]
    seen = f"{' and '.join(where)}." if where else "About its middle all along."
    seen = seen[0].upper() + seen[1:]
    if cell["feature"] is None:
        return f"One of those that follow nothing listed, the middle one by what it knows of anything. {seen}"
    beside = "at least" if cell["learned"] else "less than"
    known = f"It knows {percent(cell['share'], 0)} of what there is to know"
    return f"{_profile(cell)} {known}, {beside} twice what the best untrained cell does. {seen}"


def _extreme(passage: Sequence[str], values: Sequence[float], sign: int) -> str:
    """The stretch on one side of the middle that is furthest from it in all; nothing where there is none."""
    best, found, start = 0.0, "", 0
    for side, group in groupby(values, key=lambda value: value * sign >= CUTS[0]):
        part = list(group)
        total = sum(part) * sign
        if side and total > best:
            best, found = total, "".join(passage[start : start + len(part)])
        start += len(part)
    found = found.replace("\n", NEWLINE)
    return found if len(found) <= QUOTED else f"{found[: QUOTED - 1]}…"


def _profile(cell: Mapping[str, Any]) -> str:
    """How its value goes with the feature's."""
    rows = cell["profile"]
    if len(rows) == 2:
        return f"On average it is {_signed(rows[1][1])} where it is so, and {_signed(rows[0][1])} elsewhere."
    parts = [f"{_signed(mean)} at {number(value, 2)}" for value, mean in (rows[0], rows[len(rows) // 2], rows[-1])]
    return f"On average it is {', '.join(parts)}."


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _name(cell: Mapping[str, Any]) -> str:
    return f"layer {cell['layer'] + 1}, cell {cell['unit'] + 1}"


def _honest(told: Mapping[str, Any]) -> Markup:
    sentence = (
        "A cell counts where its mutual information with a feature is above that of all cells with the text shifted "
        f"along, by {plural(told['shifts'], 'distance')}: that any cell of a network that knows nothing of the text "
        f"would count has a probability of {percent(told['alarms'], 0)}. Bits are less what shifted texts give. A "
        f"cell's value is {'tanh of its memory' if told['kind'] == 'LSTM' else 'its state'}, within ±1. Cells that "
        "follow nothing here may follow something that is not listed, or say something only together."
    )
    return tag("p", sentence, class_="key")
