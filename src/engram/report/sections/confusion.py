"""What is taken for what: a table of counts for few classes, a picture and the worst pairs for many."""

import numpy as np

from engram.report.markup import Markup, scrolling, table, tag
from engram.report.pictures import heat_map
from engram.report.run_folder import Evaluation, Run
from engram.report.verdict import confusions
from engram.report.words import count, percent, plural

ORDER = 20
TITLE = "What is taken for what"

FEW = 20
"""Classes up to which every count is written out."""


def section(run: Run) -> Markup | None:
    evaluation = run.evaluation
    if evaluation is None or not evaluation.summary.get("confusion"):
        return None
    pairs = confusions(evaluation)
    classes = len(evaluation.classes)
    if not pairs:
        wrong: Markup | None = tag(
            "p", f"Not one of the {count(evaluation.examples)} {evaluation.split} examples is wrong."
        )
    elif classes == 2:
        wrong = None  # the table says it all
    else:
        wrong = _pairs(pairs[: 5 if classes <= FEW else 20])
    return tag("div", _matrix(evaluation) if classes <= FEW else _map(evaluation), wrong, class_="side")


def _matrix(evaluation: Evaluation) -> Markup:
    names = evaluation.classes
    head = [tag("th", tag("span", name), scope="col") for name in names]
    rows = []
    for truth, counts in enumerate(evaluation.summary["confusion"]):
        total = max(sum(counts), 1)
        cells = [_cell(int(times), times / total, truth == column) for column, times in enumerate(counts)]
        rows.append(tag("tr", tag("th", names[truth], scope="row"), *cells))
    caption = (
        f"Rows are the truth, columns what the network says, on {count(evaluation.examples)} {evaluation.split} "
        "examples. The diagonal is right."
    )
    size = "two" if len(names) <= 3 else "some" if len(names) <= 10 else "many"
    corner = tag("td", "truth ↓ says →", class_="corner")
    made = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", corner, *head)),
        tag("tbody", *rows),
        class_=f"confusion {size} {'upright' if max(map(len, names)) <= 2 else ''}".rstrip(),
    )
    return scrolling(made, "Confusion matrix")


def _cell(times: int, share: float, right: bool) -> Markup:
    strength = share if right else share**0.5  # the square root shows rare mistakes
    kind = ("hit" if right else "miss") + (" strong" if strength > 0.6 else "")
    shown = count(times) if times else tag("span", "·", class_="none")
    return tag("td", shown, class_=kind if times else None, style=f"--share:{strength:.2f}" if times else None)


def _map(evaluation: Evaluation) -> Markup:
    names = evaluation.classes
    alt = (
        f"Confusion matrix of {len(names)} classes as a picture; the table beside it names the most frequent mistakes."
    )
    image = heat_map(np.asarray(evaluation.summary["confusion"], dtype=np.int64), alt)
    caption = (
        f"One row a true class, one column a predicted one, from “{names[0]}” at the top left to “{names[-1]}” at the "
        "bottom right. Blue is right; orange is wrong, stronger the more of the row is taken for that column."
    )
    return tag("figure", image, tag("figcaption", caption), class_="map")


def _pairs(pairs: list[tuple[str, str, int, float]]) -> Markup:
    rows = [(truth, says, plural(times, "time"), percent(share, 0)) for truth, says, times, share in pairs]
    head = ("truth", "taken for", "how often", "of that class")
    return table("Most frequent mistakes", head, rows, numbers_from=2)
