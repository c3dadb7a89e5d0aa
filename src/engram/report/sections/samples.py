"""Examples of every class with what the network says of them: what its accuracy looks like."""

from engram.report.markup import Markup, join, tag
from engram.report.run_folder import Run
from engram.report.sections.mistakes import gallery

ORDER = 50
TITLE = "Examples, and what it says"

MOST = 36


def section(run: Run) -> Markup | None:
    evaluation = run.evaluation
    rows = list(evaluation.summary.get("samples") or [])[:MOST] if evaluation else []
    if evaluation is None or not rows:
        return None
    right = sum(row.get("label") == row.get("predicted") for row in rows)
    told = (
        f"{evaluation.split.capitalize()} examples spread over the classes, not chosen for their outcome: "
        f"{right} of {len(rows)} are right."
    )
    return join([tag("p", told), gallery(evaluation, rows)])
