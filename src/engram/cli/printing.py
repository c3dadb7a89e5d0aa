"""How tables and numbers are put on a screen."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 118
"""Columns from which a table has room for what can be left out."""


def console() -> "Console":
    """Where tables go: as wide as the terminal, and wide enough for all where there is none."""
    import os
    import sys

    from rich.console import Console

    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE + 22
    return Console(highlight=False, width=wide)


def count(number: int | None) -> str:
    """A count short enough for a column.

    >>> count(269722), count(40551040), count(None)
    ('269,722', '40.6 M', '')
    """
    if number is None:
        return ""
    if number < 1_000_000:
        return f"{number:,}"
    return f"{number / 1e6:,.1f} M" if number < 1e9 else f"{number / 1e9:,.2f} G"


def size(number: float) -> str:
    """Bytes in the unit that reads best.

    >>> size(512), size(2048), size(58 * 2**20), size(3 * 2**30)
    ('512 B', '2.0 KiB', '58.0 MiB', '3.0 GiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            break
        number /= 1024
    return f"{number:,.0f} {unit}" if unit == "B" else f"{number:,.1f} {unit}"


def times(shape: tuple[int, ...] | list[int]) -> str:
    """A shape.

    >>> times((3, 32, 32))
    '3x32x32'
    """
    return "x".join(map(str, shape))


def plain(text: str) -> str:
    """Text in which rich sees no markup."""
    from rich.markup import escape

    return escape(text)
