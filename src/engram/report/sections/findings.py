"""What the clinic found, causes first: what was seen, what it means, what to try, what would refute it."""

import shlex
from collections.abc import Mapping
from typing import Any

from engram.clinic.finding import Remedy
from engram.report.finding_marks import TONES, numbered
from engram.report.markup import Markup, facts, join, table, tag
from engram.report.run_folder import Run, finite, text
from engram.report.words import number, percent

ORDER = 5
TITLE = "What was found"

OPEN = 5
"""Findings that are shown whole; the others unfold."""

LONG = 600
"""Letters of a sentence at most."""


def section(run: Run) -> Markup | None:
    if not (run.folder / "findings.json").is_file():
        return None
    if not run.findings:
        so_far = " so far" if run.state == "training" else ""
        return tag("p", f"Nothing{so_far}: none of the clinic's diagnoses saw its signs in this run.")
    cards = [_card(run, place, one) for place, one in enumerate(run.findings, 1)]
    rest = cards[OPEN:]
    more = tag("details", tag("summary", f"{len(rest)} more"), *rest) if rest else None
    return join([_intro(run), *cards[:OPEN], more])


def _intro(run: Run) -> Markup:
    drawn = "; the numbers stand on the curves below" if numbered(run) else ""
    return tag("p", f"Causes stand before what may be their consequences, otherwise the worst comes first{drawn}.")


def _card(run: Run, place: int, one: Mapping[str, Any]) -> Markup:
    severity = text(one.get("severity"))
    remedy = one.get("remedy") or {}
    step = finite(one.get("step"))
    when = f"step {step:,.0f}" if step else "before the first step"
    heading = tag(
        "h3",
        tag("span", severity, class_=f"state {TONES.get(severity, 'note')}"),
        tag("span", f"{place}. ", class_="place"),
        _words(one.get("diagnosis")),
        tag("span", f" · {when}", class_="when"),
    )
    rows = [
        ("seen", text(one.get("says"), limit=LONG)),
        ("where", _where(one.get("where") or [])),
        ("means", text(one.get("means"), limit=LONG)),
        ("try", _remedy(run, remedy)),
        ("wrong if", text(one.get("refuted_by"), limit=LONG)),
        ("sure", percent(finite(one.get("confidence")), 0)),
        ("perhaps a consequence of", ", ".join(_words(name) for name in one.get("consequence_of") or [])),
    ]
    return tag("article", heading, facts(rows), _numbers(one.get("seen") or {}), class_="finding")


def _remedy(run: Run, remedy: Mapping[str, Any]) -> Markup:
    """What to try, and the command where settings say it."""
    says = text(remedy.get("says"), limit=LONG)
    options = Remedy(says, remedy.get("change") or {}).options
    if not options:
        return join([says])
    folder = run.folder.as_posix()
    recipe, output = shlex.quote(f"{folder}/recipe.toml"), shlex.quote(f"{folder}-tried")
    command = f"engram train --recipe {recipe} --output {output} {options}"
    return join([says, tag("pre", text(command, limit=LONG))])


def _numbers(seen: Mapping[str, Any]) -> Markup | None:
    """The numbers it was judged by, thresholds among them."""
    rows = [[_words(name), number(value) if (value := finite(given)) is not None else text(given)]
            for name, given in seen.items()]  # fmt: skip
    if not rows:
        return None
    return tag("details", tag("summary", "the numbers"), table("What it was judged by", ("", "value"), rows))


def _where(names: list[Any], most: int = 6) -> str:
    told = ", ".join(text(name) for name in names[:most])
    return f"{told} and {len(names) - most} more" if len(names) > most else told


def _words(name: Any) -> str:
    return text(str(name).replace("_", " "))
