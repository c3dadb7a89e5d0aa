"""The data card: what the data held, what is wrong with it, and what it looks like to the network."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engram.report.markup import Markup, facts, join, listing, table, tag
from engram.report.pictures import sheet
from engram.report.run_folder import Run, finite, text
from engram.report.words import count, number, plural

ORDER = 70
TITLE = "Data"

FEW, SHOWN = 20, 10
SPLITS = ("train", "validation", "test")
GROUPS = {
    "across": "In more than one split",
    "conflicting": "Under more than one label",
    "exact": "Copies within a split",
    "near": "Nearly the same picture",
}


def section(run: Run) -> Markup | None:
    card = run.card
    if not card and not run.samples:
        return None
    warnings = [_warning(one) for one in card.get("warnings") or []]
    return join(
        [
            tag("ul", *warnings, class_="remarks") if warnings else None,
            tag("p", "Nothing was found wrong with it.") if card and not warnings else None,
            _sheet(run),
            facts(_facts(card)),
            _counts(card),
            *_lists(card),
        ]
    )


def _warning(warning: Any) -> Markup:
    told = warning if isinstance(warning, Mapping) else {"text": warning}
    words = "; ".join(text(told[name], limit=400) for name in ("text", "remedy") if told.get(name))
    mark = tag("span", "!", class_="mark", aria_hidden="true")
    return tag("li", mark, tag("span", f"{words[:1].upper()}{words[1:]}."), class_="warning")


def _sheet(run: Run) -> Markup | None:
    caption = "Training examples as the network sees them, after augmentation."
    try:
        image = sheet(run.samples, caption)
    except OSError:  # none, or half a file
        return None
    return tag("figure", image, tag("figcaption", caption), class_="map")


def _facts(card: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    origin = dict.fromkeys(text(card[name], limit=300) for name in ("path", "kind") if card.get(name))
    yield "from", " · ".join(origin)
    counts = card.get("counts") or {}
    yield "examples", ", ".join(f"{count(sum(counts[split]))} {split}" for split in SPLITS if counts.get(split))
    classes = [text(name) for name in card.get("classes") or []]
    more = f", … {count(len(classes))} in all" if len(classes) > FEW else ""
    yield "classes", ", ".join(classes[:FEW]) + more
    yield "input of the network", _shape(card.get("shape"))
    if card.get("stored_shape") != card.get("shape"):
        yield "kept in memory as", _shape(card.get("stored_shape"))
    sizes = card.get("sizes") or {}
    if sizes.get("smallest") == sizes.get("largest"):
        yield "size", _shape(sizes.get("smallest"))
    else:
        for name in ("smallest", "median", "largest"):
            yield f"{name} size", _shape(sizes.get(name))
    yield "mean, by channel", _numbers(card.get("mean"))
    yield "deviation, by channel", _numbers(card.get("std"))
    yield "largest class over smallest", number(finite(card.get("imbalance")))
    yield "as varied as so many equal classes", number(finite(card.get("effective_classes")))
    yield "left out as unreadable", plural(card["unreadable_count"], "file") if card.get("unreadable_count") else ""
    yield "compared for duplicates", count(finite((card.get("duplicates") or {}).get("compared")))
    yield "notes", "; ".join(text(note, limit=300) for note in card.get("notes") or [])


def _shape(sizes: Sequence[Any] | None) -> str:
    return " × ".join(text(size) for size in sizes or ())


def _numbers(values: Sequence[Any] | None) -> str:
    return ", ".join(number(finite(value)) for value in values or ())


def _counts(card: Mapping[str, Any]) -> Markup | None:
    """Examples by class and split; of many classes, the rarest."""
    counts, classes = card.get("counts") or {}, card.get("classes") or []
    splits = [split for split in SPLITS if len(counts.get(split) or ()) == len(classes)]
    if not classes or not splits:
        return None
    rows = [(text(name), *(count(counts[split][at]) for split in splits)) for at, name in enumerate(classes)]
    caption = "Examples of each class"
    if len(rows) > FEW:
        rarest = sorted(range(len(rows)), key=lambda at: counts[splits[0]][at])[:SHOWN]
        rows, caption = [rows[at] for at in rarest], f"Examples of the {SHOWN} rarest classes"
    return table(caption, ("class", *splits), rows)


def _lists(card: Mapping[str, Any]) -> Iterator[Markup]:
    """Names of what is wrong, as many as the card keeps."""
    unreadable = [(text(one.get("name")), text(one.get("why"), limit=300)) for one in card.get("unreadable") or []]
    if unreadable:
        shown = table("Files that could not be read", ("file", "why"), unreadable, numbers_from=2)
        yield _folded("Files that could not be read", card.get("unreadable_count"), shown)
    if card.get("constant"):
        shown = listing(text(name) for name in card["constant"])
        yield _folded("Examples of one single value", card.get("constant_count"), shown)
    found = card.get("duplicates") or {}
    for name, title in GROUPS.items():
        if found.get(name):
            shown = listing(" = ".join(text(one) for one in group) for group in found[name])
            yield _folded(title, found.get(f"{name}_count"), shown)


def _folded(title: str, amount: Any, content: Markup) -> Markup:
    return tag("details", tag("summary", f"{title}: {count(finite(amount))}"), content)
