"""Training examples that were never learned, that were forgotten again and again, or that were hard to the end."""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from engram.report.markup import Markup, join, tag
from engram.report.pictures import picture
from engram.report.run_folder import Run, finite, text
from engram.report.words import count, percent, plural

ORDER = 66
TITLE = "Never learned, and forgotten again and again"

DOTS = 12
"""Last visits that a tile shows."""

MOST = 0.5
"""Share of the examples that must be recalled: where fewer are, what was never learned tells of the network."""


def section(run: Run) -> Markup | None:
    never, forgotten, hardest = _never(run), _forgotten(run), _hardest(run)
    if never is None and forgotten is None and hardest is None:
        return None
    none = "No example that came often was left unlearned, and none was lost again and again."
    dots = f"The dots are the last {DOTS} visits, the newest to the right: full where it was recalled."
    return join(
        [
            tag("p", none) if never is None and forgotten is None else None,
            tag("p", dots) if run.ledger else None,
            never,
            forgotten,
            hardest,
        ]
    )


def _never(run: Run) -> Markup | None:
    amount, rows = listed(run, "never_learned")
    if not rows:
        return None
    told = f"{_of(amount, run)} visited often and hardly ever recalled{_first(rows, amount, 'the least recalled')}. "
    seen, lost = finite(run.review.get("seen")) or 0, finite((run.review.get("streaks") or {}).get("0")) or 0
    suspects = finite(run.review.get("suspects")) or 0
    if suspects and not _of_classes(run):
        words = [told, f"{plural(suspects, 'example')} of them cost far more than all others do. Look at some."]
    elif suspects:
        groups = (
            f"{plural(suspects, 'label')} may be wrong: never once recalled, and what they cost stands apart from what "
            "all others do. Look at some. "
        )
        words = [told, groups, *_what_to_do(run), " ", _duplicates(run)]
    elif seen - lost < MOST * seen:
        why = "But so little is recalled yet that this tells more of the network than of any example: train it longer."
        words = [told, why]
    else:
        look = (
            "Look at each: is the label right, can the picture be read? What is wrong is better corrected or left out. "
            if _of_classes(run)
            else "Look at each: can anything be learned from it? What is wrong is better corrected or left out. "
        )
        words = [told, look, _duplicates(run)]
    return _part("Never learned", words, gallery(rows, run, known=False))


def _what_to_do(run: Run) -> list[str | Markup]:
    """Of labels that may be wrong."""
    asked = (run.recipe.get("review") or {}).get("suspend")
    if run.review.get("method") == "forgetting_curve" and asked is not False:
        return ["This run left them out as soon as they stood apart. Correct or remove what is wrong."]
    word = "--review.suspend true" if run.review.get("method") == "forgetting_curve" else "--review forgetting_curve"
    return [
        "Correct or remove what is wrong, or leave it out while training: ",
        tag("code", word, class_="option"),
        ".",
    ]


def _forgotten(run: Run) -> Markup | None:
    amount, rows = listed(run, "forgotten")
    if not rows:
        return None
    told = f"{_of(amount, run)} recalled and lost again at least twice{_first(rows, amount, 'the most often lost')}. "
    why = (
        "They lie at a border: between two classes, between two labels of nearly the same picture, or where "
        "augmentation cuts away what matters. "
    )
    words = [told, why, _duplicates(run)] if _of_classes(run) else [told]
    return _part("Forgotten again and again", words, gallery(rows, run))


def _hardest(run: Run) -> Markup | None:
    _, rows = listed(run, "hardest")
    if not rows:
        return None
    told = "The largest average loss of all others: learned, and with most trouble."
    if _of_classes(run):
        told += " A network that can learn everything by heart has its wrong labels here."
    return _part("Hard to the end", [told], gallery(rows, run))


def listed(run: Run, name: str) -> tuple[int, list[Mapping[str, Any]]]:
    """How many examples of a kind there are, and those of them that are named."""
    found = run.review.get(name) or {}
    rows = list(found.get("examples") or [])
    return int(finite(found.get("count")) or len(rows)), rows


def _of(amount: int, run: Run) -> str:
    examples = count(finite(run.review.get("examples")))
    return f"{plural(amount, 'example')} of {examples} {'was' if amount == 1 else 'were'}"


def _first(rows: list[Mapping[str, Any]], amount: int, which: str) -> str:
    if amount == 1:
        return ""
    return f", {which} first" if len(rows) == amount else f"; {which} {count(len(rows))} are shown"


def _of_classes(run: Run) -> bool:
    """Whether examples have labels that could be wrong; texts and captions have none."""
    return run.task == "classify"


def _duplicates(run: Run) -> Markup | None:
    if not _of_classes(run):
        return None
    path = text((run.recipe.get("data") or {}).get("path") or "", limit=300)
    command = tag("code", f"engram data {shlex.quote(path)}" if path else "engram data")
    return join([command, " finds pictures that stand under two labels."])


def _part(title: str, told: Iterable[object], pictures: Markup) -> Markup:
    return join([tag("h3", title), tag("p", *told), pictures])


def gallery(rows: Iterable[Mapping[str, Any]], run: Run, *, known: bool = True) -> Markup:
    """Examples as pictures with their label and what their visits showed.

    Args:
        known: what was never lost is known; otherwise it was never recalled.
    """
    return tag("div", *(_tile(row, run, known) for row in rows), class_="gallery")


def _tile(row: Mapping[str, Any], run: Run, known: bool) -> Markup:
    label = row.get("class") if row.get("class") is not None else row.get("label")
    labelled = _of_classes(run)
    name = text(row.get("name") if row.get("name") is not None else row.get("index"))
    recall = f"recall {percent(finite(row.get('recall')), 0)}"
    visits = plural(finite(row.get("visits")) or 0, "visit")
    lost = _lost(finite(row.get("lapses")) or 0, known and _streak(run, row) != 0)
    called = text(label) if label is not None else "no label"
    pixels = run.reviewed.get(row.get("index", -1))
    now, past = _now(run, row), _past(run, row)
    which = f"{name}, labelled {called}" if labelled else name
    alt = f"Example {which}: {visits}, {lost}, {recall}{f', {now}' if now else ''}."
    image = picture(pixels, alt) if pixels is not None else tag("span", "no picture", class_="blank")
    caption = tag(
        "figcaption",
        tag("span", f"label {called}" if label is not None else called) if labelled else None,
        tag("span", recall),
        tag("span", visits),
        tag("span", lost),
        tag("span", past, class_="past", aria_hidden="true") if past else None,
        tag("span", now) if now else None,
        tag("span", name, class_="name"),
    )
    return tag("figure", image, caption)


def _past(run: Run, row: Mapping[str, Any]) -> str:
    """Its last visits, oldest first: a full dot where it was recalled, an empty one where it was not."""
    index, columns = row.get("index"), run.ledger
    if not columns or not isinstance(index, int) or not 0 <= index < len(columns["recent"]):
        return ""
    bits, visits = int(columns["recent"][index]), min(int(columns["visits"][index]), DOTS)
    return "".join("●" if bits >> back & 1 else "○" for back in reversed(range(visits)))


def _now(run: Run, row: Mapping[str, Any]) -> str:
    """What the last visits of an example showed, where the ledger says it; nothing of one that was never recalled."""
    streak = _streak(run, row)
    if streak is None or (not streak and not finite(row.get("lapses"))):
        return ""
    return {0: "not recalled now", 1: "recalled now", 2: "recalled twice running"}.get(
        streak, f"recalled {count(streak)} times running"
    )


def _streak(run: Run, row: Mapping[str, Any]) -> int | None:
    index, streaks = row.get("index"), run.ledger.get("streak", ())
    return int(streaks[index]) if isinstance(index, int) and 0 <= index < len(streaks) else None


def _lost(lapses: float, known: bool) -> str:
    return {0: "never lost" if known else "never recalled", 1: "lost once", 2: "lost twice"}.get(
        int(lapses), f"lost {count(lapses)} times"
    )
