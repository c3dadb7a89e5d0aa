"""Findings on a screen: as they are printed anywhere, and in colour and as wide as the terminal where there is one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from engram.clinic.finding import Finding

SHORTER = {"perhaps a consequence of": "perhaps due to"}
STYLES = {"critical": "bold red", "warning": "bold yellow", "information": "bold cyan"}


def show(findings: Sequence["Finding"], screen: "Console") -> None:
    """Print findings in their order, an empty line after each."""
    for finding in findings:
        if screen.is_terminal:
            in_colour(finding, screen)
        else:
            print(f"{finding}\n")


def in_colour(finding: "Finding", screen: "Console") -> None:
    """One finding: its severity in colour, and every line folded beside its label."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    head, *lines = str(finding).split("\n")
    severity, _, title = head.partition(": ")
    screen.print(Text.assemble((severity, STYLES.get(severity, "bold")), ": ", (title, "bold")))
    rows = Table.grid(padding=(0, 1))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    for line in lines:
        label, _, told = line.strip().partition(": ")
        rows.add_row(SHORTER.get(label, label), Text(told, style="bold" if label in ("try", "run") else ""))
    screen.print(Padding(rows, (0, 0, 1, 2)))


def counted(findings: Sequence["Finding"]) -> str:
    """How many there are of each severity, the worst first.

    >>> from engram.clinic.finding import Finding, Remedy
    >>> def of(severity):
    ...     return Finding("dead_relus", severity, "", "", Remedy(""), "", 0.5)
    >>> counted([of("warning"), of("critical"), of("warning")]), counted([])
    ('1 critical, 2 warnings', 'nothing found')
    """
    found = [one.severity for one in findings]
    words = (("critical", "critical", "critical"), ("warning", "warning", "warnings"), ("information", "note", "notes"))
    parts = [f"{found.count(name)} {one if found.count(name) == 1 else more}" for name, one, more in words]
    return ", ".join(part for part in parts if not part.startswith("0 ")) or "nothing found"
