"""The mistakes it is most sure of, as pictures: mislabelled, unreadable, or what it has not understood."""

from collections.abc import Iterable, Mapping
from typing import Any

from engram.report.markup import Markup, join, table, tag
from engram.report.pictures import picture
from engram.report.run_folder import Evaluation, Run, finite, text
from engram.report.words import percent

ORDER = 40
TITLE = "Worst mistakes"

MOST = 36


def section(run: Run) -> Markup | None:
    evaluation = run.evaluation
    rows = (
        [row for row in evaluation.summary.get("worst") or [] if row.get("label") != row.get("predicted")]
        if evaluation
        else []
    )
    if evaluation is None or not rows:
        return None
    told = (
        f"The {evaluation.split} examples that the network gets wrong and is most sure of, surest first. Often the "
        "label is wrong, the picture cannot be read, or training held nothing like it."
    )
    return join([tag("p", told), gallery(evaluation, rows[:MOST])])


def gallery(evaluation: Evaluation, rows: Iterable[Mapping[str, Any]]) -> Markup:
    """Rows of an evaluation as pictures with what they are and what the network says; as a table without pictures."""
    rows = list(rows)
    if not any(row.get("index") in evaluation.pictures for row in rows):
        return _table(evaluation, rows)
    return tag("div", *(_tile(evaluation, row) for row in rows), class_="gallery")


def _tile(evaluation: Evaluation, row: Mapping[str, Any]) -> Markup:
    truth, says, name = _names(evaluation, row)
    right = row.get("label") == row.get("predicted")
    sure = percent(finite(row.get("confidence")), 0)
    alt = f"Example {name}: {truth}, {'recognised' if right else f'taken for {says}'}."
    pixels = evaluation.pictures.get(row.get("index", -1))
    image = picture(pixels, alt) if pixels is not None else tag("span", "no picture", class_="blank")
    says_line = tag("span", f"{'✓' if right else '✕'} {says} {sure}", class_="right" if right else "wrong")
    truth_line = None if right else tag("span", f"is {truth}", class_="truth")
    return tag("figure", image, tag("figcaption", says_line, truth_line, tag("span", name, class_="name")))


def _table(evaluation: Evaluation, rows: list[Mapping[str, Any]]) -> Markup:
    shown = []
    for row in rows:
        truth, says, name = _names(evaluation, row)
        given = [percent(finite(row.get(key)), 0) for key in ("confidence", "probability")]
        shown.append((name, truth, says, *given))
    return table("Examples", ("example", "is", "network says", "how sure", "given to the truth"), shown, numbers_from=3)


def _names(evaluation: Evaluation, row: Mapping[str, Any]) -> tuple[str, str, str]:
    classes = evaluation.classes
    truth, says = (classes[row[key]] if row.get(key) in range(len(classes)) else "?" for key in ("label", "predicted"))
    return truth, says, text(row.get("name") or row.get("index"))
