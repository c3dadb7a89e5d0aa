"""`engram examine RUN --cells`: what the cells of a network that writes follow, with a passage coloured by them.

Coloured where there is a terminal; with marks under the text where there is none, or with NO_COLOR.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

MARKS = "=-.+#"
"""Far below the cell's own middle, below, about it, above, far above."""
LEVELS = (-0.6, -0.2, 0.2, 0.6)
COLOURS = ("#101215 on #f08a4b", "#101215 on #f8cba8", "", "#101215 on #b7d0f7", "#101215 on #6b9df0")
NEWLINE = "↵"


def show(path: Path, data: str | None, *, json: bool = False) -> int:
    """Look inside a run of task write, write what was found into its `probes/`, and print it.

    Raises:
        UserError: it is no such run, or there is no text to read.
    """
    import json as jsonlib

    from engram.cli import printing
    from engram.models.char_rnn import CharRNN
    from engram.recurrence.look import look
    from engram.training import weights
    from engram.training.judge import weights_of

    _check(path)
    net, description = weights.load(weights_of(path))
    if description.task != "write" or not isinstance(net, CharRNN):
        raise _no_cells(path, description.task)
    text, where = passage(path, data)
    step = _step(path)
    told = look(net, description.words(), text, path, step=step)
    if json:
        print(jsonlib.dumps(told, ensure_ascii=False))
        return 0
    import numpy as np

    with np.load(path / "probes" / "cells.npz", allow_pickle=False) as file:
        values = file["values"] / 127
    _print(told, values.tolist(), where, printing.console())
    print(f"in the page: engram report {path}")
    return 0


def passage(path: Path, data: str | None) -> tuple[str, str]:
    """The text to read, and what it is: a file, or the validation split of the run's own text.

    Raises:
        UserError: there is none.
    """
    from engram import recipe as recipes
    from engram.data.texts import open_texts, split_off
    from engram.errors import UserError
    from engram.text.read import read

    if data is not None:
        return read(data), data
    recipe = recipes.load(path / "recipe.toml")
    file = Path(recipe.data.path)
    if not file.exists():
        other = f"engram examine {path} --cells --data FILE"
        raise UserError(f"{path} was trained on {file}, which is not there", then=other)
    texts = split_off(open_texts(file), validation=recipe.data.validation, test=recipe.text.test)
    held_out = texts.validation or texts.test
    return (held_out, f"the held-out part of {file.name}") if held_out else (texts.train, f"the end of {file.name}")


def marks(values: Sequence[float]) -> str:
    """A mark for each value.

    >>> marks([-1.0, -0.3, 0.0, 0.5, 0.9])
    '=-.+#'
    """
    return "".join(MARKS[level(value)] for value in values)


def level(value: float) -> int:
    """Which of five, from far below zero to far above.

    >>> [level(value) for value in (-0.7, 0.1, 0.2)]
    [0, 2, 3]
    """
    return sum(value >= cut for cut in LEVELS)


def lines(pieces: Sequence[str], values: Sequence[float]) -> list[tuple[str, list[float]]]:
    """The passage line by line, with a value for each character; a newline is shown at the end of its line.

    >>> lines(["a", "b\\n", "c"], [0.0, 1.0, 2.0])
    [('ab↵', [0.0, 1.0, 1.0]), ('c', [2.0])]
    """
    found: list[tuple[str, list[float]]] = [("", [])]
    for piece, value in zip(pieces, values, strict=True):
        for letter in piece:
            text, row = found[-1]
            shown = NEWLINE if letter == "\n" else letter if letter.isprintable() else "·"
            found[-1] = (text + shown, [*row, value])
            if letter == "\n":
                found.append(("", []))
    return found if found[-1][0] else found[:-1]


def _print(told: Mapping[str, Any], values: Sequence[Sequence[float]], where: str, screen: "Console") -> None:
    from rich.table import Table

    from engram.cli.printing import plain

    screen.print(
        f"{told['kind']}, {told['layers']} layer{'s' if told['layers'] > 1 else ''} of {told['units']} units; read "
        f"{told['read']:,} steps of {plain(where)}\n"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for name in ("follows", "the cell that knows most", "of what there is to know", "cells", "learned", "untrained"):
        table.add_column(name, justify="left" if name in ("follows", "the cell that knows most") else "right")
    for feature in told["features"]:
        cell = feature["best"]
        who = f"{_name(cell)}, {'rises' if cell['sign'] > 0 else 'falls'}" if cell else "none"
        known = f"{cell['bits']:.2f} of {feature['entropy']:.2f} bits" if cell else f"{feature['entropy']:.2f} bits"
        counts = (f"{feature['meaningful']:,}", f"{feature['learned']:,}", f"{feature['untrained']:.2f} bits")
        table.add_row(feature["name"], who, known, *counts)
    screen.print(table)
    nothing, some = told["cells"] - told["meaningful"], told["meaningful"]
    screen.print(
        f"\n{nothing:,} of {told['cells']:,} cells follow none of these measurably. {some:,} do; that any would do so "
        f"by chance has a probability of {100 * told['alarms']:.0f} %. {told['learned']:,} know at least twice what "
        "the best cell of the same layers untrained does.\n"
    )
    coloured = screen.is_terminal and not screen.no_color
    if coloured:
        screen.print("Blue is above the cell's own middle, orange below.\n")
    else:
        names = "far below its own middle, below, about it, above, far above"
        screen.print(f"Under the text, what a cell holds: {plain(MARKS)}   ({names})\n")
    for cell, row in zip(told["shown"], values, strict=True):
        follows = f"follows {cell['feature']}" if cell["feature"] else "follows nothing that was measured"
        screen.print(f"{_name(cell)} {follows}", style="bold")
        for text, held in lines(told["passage"], row):
            if coloured:
                screen.print(_coloured(text, held), soft_wrap=True)
            else:
                print(f"  {text}\n  {marks(held)}")
        print()


def _coloured(text: str, values: Sequence[float]) -> "Text":
    from rich.text import Text

    shown = Text("  ")
    for letter, value in zip(text, values, strict=True):
        shown.append(letter, style=COLOURS[level(value)] or None)
    return shown


def _name(cell: Mapping[str, Any]) -> str:
    return f"layer {cell['layer'] + 1}, cell {cell['unit'] + 1}"


def _step(path: Path) -> int:
    """The step at which the run ended, or stands."""
    from engram.training.run import RunFolder

    return max((int(row["step"]) for row in RunFolder(path).rows() if isinstance(row.get("step"), int)), default=0)


def _check(path: Path) -> None:
    from engram.errors import UserError

    if not (path / "recipe.toml").is_file():
        raise UserError(
            f"--cells is for a run's folder, and {path} is none", allowed="a run of task write", then="ls runs/"
        )


def _no_cells(path: Path, task: str) -> Exception:
    from engram.errors import UserError

    return UserError(
        f"{path} is a run of task {task}, whose cells follow no text", allowed="a run of task write", then="ls runs/"
    )
