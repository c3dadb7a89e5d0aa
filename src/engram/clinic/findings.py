"""Findings as a list that reads well: printed one below the other, and in a notebook as cards."""

from html import escape

from engram.clinic.finding import Finding

COLOURS = {"critical": "#c02f2f", "warning": "#9a6100", "information": "#3a6ea5"}


class Findings(list[Finding]):
    """A list of findings, to be read from the top.

    >>> from engram.clinic.finding import Remedy
    >>> found = Findings([Finding("dead_relus", "critical", "half of <b> is silent", "", Remedy("less"), "", 0.9, 7)])
    >>> print(str(found).splitlines()[0], "&lt;b&gt;" in found._repr_html_())
    critical: dead relus, step 7 True
    """

    def __str__(self) -> str:
        return "\n\n".join(map(str, self)) or "nothing found"

    def _repr_html_(self) -> str:
        return "".join(map(_card, self)) or "<p>nothing found</p>"


def _card(finding: Finding) -> str:
    """One finding: its head in the colour of its severity, and what it says row by row."""
    head, *rows = (escape(line.strip()) for line in str(finding).splitlines())
    told = "".join(_row(row) for row in rows)
    colour = COLOURS[finding.severity]
    return (
        f'<div style="border-left:3px solid {colour};padding:0 0 0 .8em;margin:.6em 0">'
        f'<strong style="color:{colour}">{head}</strong><table style="margin:.3em 0">{told}</table></div>'
    )


def _row(row: str) -> str:
    name, _, text = row.partition(": ")
    cell = '<td style="text-align:left;vertical-align:top">'
    return f"<tr>{cell}{name}</td>{cell}{text}</td></tr>"
