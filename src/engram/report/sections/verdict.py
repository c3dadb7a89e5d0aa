"""The top of the page: how it stands, one sentence, the figures, and what a careful reader would add."""

import re
from collections.abc import Iterator

from engram.report import foreseeing
from engram.report.markup import Markup, join, tag
from engram.report.run_folder import Run, finite
from engram.report.verdict import judge, measure, result
from engram.report.words import big, count, duration, interval, number, percent

ORDER = 0
TYPED = re.compile(r"(--[a-z][\w.]*(?: [\d.e+-]*\d| float32)?|engram resume (?:'[^']*'|\S+))")
TITLE = None

MARKS = {"good": "✓", "note": "→", "warning": "!", "bad": "✕"}
SPOKEN = {"good": "good: ", "note": "to note: ", "warning": "look at this: ", "bad": "wrong: "}


def section(run: Run) -> Markup:
    verdict = judge(run)
    remarks = [
        tag(
            "li",
            tag("span", MARKS[remark.tone], class_="mark", aria_hidden="true"),
            tag("span", tag("span", SPOKEN[remark.tone], class_="spoken"), *_typed(remark.text)),
            class_=remark.tone,
        )
        for remark in verdict.remarks
    ]
    return join(
        [
            tag("p", tag("span", verdict.state, class_=f"state {verdict.tone}"), " ", run.name, class_="kicker"),
            tag("h1", verdict.sentence),
            _bar(run),
            _tiles(run),
            tag("ul", *remarks, class_="remarks") if remarks else None,
            _test(run),
        ]
    )


def _typed(words: str) -> Iterator[object]:
    """The words with what is meant to be typed set as such, and options never broken at their dashes."""
    for at, part in enumerate(TYPED.split(words)):
        if at % 2:
            yield tag("code", part, class_="option" if part.startswith("--") else None)
        else:
            yield part


def _bar(run: Run) -> Markup | None:
    if run.state != "training" or not run.total_steps:
        return None
    done = f"step {count(run.step)} of {count(run.total_steps)}"
    return tag("progress", done, value=run.step, max=run.total_steps, aria_label=done)


def _tiles(run: Run) -> Markup | None:
    accuracy, examples, split = result(run)
    evaluation = run.evaluations.get(split)
    loss = finite(evaluation.summary.get("loss")) if evaluation else None
    if loss is None and run.epochs:
        loss = measure(run.best or run.epochs[-1], "validation", "loss")
    rates = run.rates
    model = run.environment.get("model") or {}
    first = [
        (f"{split} accuracy", percent(accuracy) if accuracy is not None else None, _range(accuracy, examples)),
        (f"{split} loss", number(loss) if loss is not None else None, "cross-entropy of the best weights"),
    ]
    tiles = [
        *(foreseeing.tiles(run) if run.foresees else first),
        ("time", duration(run.seconds) if run.seconds is not None else None, _passes(run)),
        ("speed", big(rates[len(rates) // 2]) if rates else None, f"{run.unit} a second, median"),
        ("model", big(finite(model.get("parameters"))) if model.get("parameters") else None, "parameters"),
    ]
    shown = [
        tag("div", tag("dt", name), tag("dd", value, class_="value"), tag("dd", hint, class_="hint") if hint else None)
        for name, value, hint in tiles
        if value is not None
    ]
    return tag("dl", *shown, class_="tiles") if shown else None


def _range(accuracy: float | None, examples: int) -> str | None:
    if accuracy is None or not examples:
        return None
    low, high = interval(accuracy, examples)
    return f"95\u202f% sure between {100 * low:.1f} and {100 * high:.1f}"


def _passes(run: Run) -> str | None:
    passes = run.epoch_of({"step": run.step})
    return f"{number(passes)} passes over the training examples" if passes else None


def _test(run: Run) -> Markup | None:
    """The test split, apart from all that was used for choosing."""
    evaluation = run.evaluations.get("test")
    if run.foresees:
        return _foreseen(run)
    accuracy = finite(evaluation.summary.get("accuracy")) if evaluation else None
    if evaluation is None or accuracy is None or "validation" not in run.evaluations:
        return None
    low, high = interval(accuracy, evaluation.examples)
    told = (
        f" of {count(evaluation.examples)} test examples right (95\u202f% sure between {100 * low:.1f} and "
        f"{100 * high:.1f}). The test split was never used for choosing anything: neither weights, nor settings, nor "
        "when to stop."
    )
    return tag("p", tag("strong", "Test split: ", percent(accuracy)), told, class_="apart")


def _foreseen(run: Run) -> Markup | None:
    """The loss on the test split, of a network that foresees words."""
    evaluation = run.evaluations.get("test")
    loss = finite(evaluation.summary.get("loss")) if evaluation else None
    if loss is None or "validation" not in run.evaluations:
        return None
    unit = foreseeing.unit_of(run)
    told = f" a {unit}. The test split was never used for choosing anything: neither weights, nor settings."
    return tag("p", tag("strong", f"Test split: {number(loss)} nats"), told, class_="apart")
