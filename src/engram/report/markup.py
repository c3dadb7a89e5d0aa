"""The pieces of HTML that sections are built from. Whatever is not `Markup` already is escaped on the way in."""

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

__all__ = ["Markup", "escape", "facts", "join", "listing", "scrolling", "table", "tag"]


def tag(name: str, /, *content: object, **attributes: object) -> Markup:
    """An element. Attributes that are None or False are left out; `class_` and `aria_label` spell class, aria-label.

    >>> print(tag("p", "1 < 2", class_="note", hidden=True))
    <p class="note" hidden>1 &lt; 2</p>
    """
    given = {key: value for key, value in attributes.items() if value is not None and value is not False}
    written = Markup("").join(_attribute(key, value) for key, value in given.items())
    inner = join(content)
    if name in ("img", "br", "meta", "link"):
        return Markup(f"<{name}{{}}>").format(written)
    return Markup(f"<{name}{{}}>{{}}</{name}>").format(written, inner)


def _attribute(key: str, value: object) -> Markup:
    key = key.rstrip("_").replace("_", "-")
    return Markup(f" {key}") if value is True else Markup(f' {key}="{{}}"').format(value)


def join(parts: Iterable[object]) -> Markup:
    """The parts one after the other, escaped where they are plain text; None adds nothing."""
    return Markup("").join(escape(part) for part in parts if part is not None)


def facts(pairs: Iterable[tuple[object, object]]) -> Markup:
    """Names with their values; pairs without a value are left out."""
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value not in (None, "", "–")]
    return tag("dl", *rows, class_="facts")


def listing(items: Iterable[object]) -> Markup:
    """A plain list."""
    return tag("ul", *(tag("li", item) for item in items))


def table(
    caption: object,
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    numbers_from: int = 1,
    wide: bool = False,
) -> Markup:
    """A table whose first column names the row; columns from `numbers_from` on are set as numbers, to the right."""
    kind = ["number" if column >= numbers_from else None for column in range(len(head))]
    top = tag("tr", *(tag("th", name, scope="col", class_=kind[column]) for column, name in enumerate(head)))
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *(tag("td", value, class_=kind[column]) for column, value in enumerate(row[1:], 1)),
        )
        for row in rows
    ]
    made = tag(
        "table", tag("caption", caption), tag("thead", top), tag("tbody", *body), class_="wide" if wide else None
    )
    return scrolling(made, str(caption))


def scrolling(content: Markup, label: str) -> Markup:
    """A region that scrolls sideways on a narrow screen, by keyboard too."""
    return tag("div", content, class_="scroll", role="region", aria_label=label, tabindex=0)
