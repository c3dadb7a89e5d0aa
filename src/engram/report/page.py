"""From run folders to one HTML file: nothing beside it is needed, and nothing is ever fetched."""

import re
import traceback
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from engram import atomic
from engram.report import several, zoom
from engram.report.markup import Markup, join, listing, tag
from engram.report.run_folder import Run, read
from engram.report.sections import Section, found
from engram.report.verdict import state

LARGEST = 2_000_000
"""Bytes of a page; beyond it, the page goes without zooming."""
REFRESH = 10
"""Seconds after which an open page of a run that goes on looks again."""

STYLE = Path(__file__).with_name("style.css")


def write(folder: str | Path, *, alive: bool | None = None) -> Path:
    """Render a run folder's `report.html`, replaced in one step, and return its path.

    Args:
        alive: whether the run goes on, where the caller knows (see `run_folder.read`).

    Raises:
        UserError: it is not a run folder.
        OSError: the page cannot be written.
    """
    target = Path(folder) / "report.html"
    atomic.write(target, render(read(folder, alive=alive)))
    return target


def write_many(folders: Sequence[str | Path], to: str | Path) -> Path:
    """Render several runs on one page at `to` (a file, or a folder to put `comparison.html` in) and return its path.

    Raises:
        UserError: one of them is not a run folder.
        OSError: the page cannot be written.
    """
    target = Path(to)
    if target.is_dir() or not target.suffix:
        target = target / "comparison.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    runs = [read(folder) for folder in folders]
    atomic.write(target, document(f"{len(runs)} runs", several.body(runs, target.parent)))
    return target


def render(run: Run) -> str:
    """The page of one run. The same folder gives the same page, byte for byte."""
    drawn = [(section, _draw(section, run)) for section in found()]
    shown = [(section, content) for section, content in drawn if content is not None]
    titled = [(section.TITLE, _anchor(section)) for section, _ in shown if section.TITLE]
    contents = tag(
        "nav", listing(tag("a", title, href=f"#{anchor}") for title, anchor in titled), aria_label="Contents"
    )
    parts = []
    for section, content in shown:
        if section.TITLE is None:
            parts.append(tag("header", content))
        else:
            anchor = _anchor(section)
            heading = tag("h2", section.TITLE, id=f"{anchor}-title")
            parts.append(tag("section", heading, content, id=anchor, aria_labelledby=f"{anchor}-title"))
    parts.insert(1, contents if len(titled) > 1 else Markup(""))
    if run.notes:
        parts.append(tag("section", tag("h2", "What could not be read"), listing(run.notes), class_="notes"))
    return document(f"{state(run)[0]}: {run.name}", join(parts), going_on=_goes_on(run))


def document(title: str, body: Markup, *, going_on: bool = False) -> str:
    """The whole HTML document around a body.

    Args:
        going_on: the page looks again by itself, without scripts; it has no zoom, which would be lost each time.
    """
    wants_zoom = not going_on and 'class="spec"' in body
    scripts, allowed = zoom.scripts() if wants_zoom else (Markup(""), "")
    page = _assemble(title, body, scripts, allowed, going_on)
    return page if len(page.encode()) <= LARGEST else _assemble(title, body, Markup(""), "", going_on)


def _assemble(title: str, body: Markup, scripts: Markup, allowed: str, going_on: bool) -> str:
    scripted = allowed or "'none'"
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripted}"
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=f"{policy}; base-uri 'none'; form-action 'none'"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="refresh", content=REFRESH) if going_on else None,
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        Markup("<style>{}</style>").format(Markup(_style())),
    ]
    main = tag("main", body, id="main")
    foot = tag("footer", "Made by Engram; this page holds all it shows.")
    inner = join([tag("a", "To the content", href="#main", class_="skip"), main, foot, scripts])
    return f'<!doctype html>\n<html lang="en">\n{tag("head", *head)}\n{tag("body", inner)}\n</html>\n'


def _draw(section: Section, run: Run) -> Markup | None:
    """A section that fails says so in its place: the others are worth no less for it."""
    try:
        return section.section(run)
    except Exception as error:
        traceback.print_exc()
        return tag("p", f"This section could not be drawn: {type(error).__name__}: {error}", class_="failed")


def _goes_on(run: Run) -> bool:
    return run.state == "training"


def _anchor(section: Section) -> str:
    return section.__name__.rpartition(".")[2]


@cache
def _style() -> str:
    """The style sheet without its comments and indentation."""
    lean = re.sub(r"/\*.*?\*/", "", STYLE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", lean).strip()
