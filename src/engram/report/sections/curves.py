"""How training went: loss, accuracy, learning rate and speed over the epochs, and the same as numbers."""

from collections.abc import Mapping
from typing import Any

from engram.report import finding_marks
from engram.report.charts import COLOURS, Line, figure, lines, log_suits, pairs, smooth
from engram.report.markup import Markup, join, table, tag
from engram.report.run_folder import Run, finite
from engram.report.verdict import measure
from engram.report.words import big, duration, number, percent

ORDER = 10
TITLE = "How training went"

X = "epoch"
TRAIN, VALIDATION, OTHER = COLOURS[0], COLOURS[1], COLOURS[2]


def section(run: Run) -> Markup | None:
    charts = [chart for chart in (_loss(run), _accuracy(run), _rate(run), _speed(run)) if chart is not None]
    if not charts:
        return tag("p", "No step has been recorded yet.") if run.state == "training" else None
    return join([tag("div", *charts, class_="charts"), _numbers(run)])


def of_steps(run: Run, name: str) -> list[tuple[float, float]]:
    """A value that step events carry, over the epochs."""
    return list(pairs([(run.epoch_of(event), finite(event.get(name))) for event in run.steps]))


def of_epochs(run: Run, split: str, name: str) -> list[tuple[float, float]]:
    """A measure that epoch events carry for a split, over the epochs."""
    return list(pairs([(run.epoch_of(epoch), measure(epoch, split, name)) for epoch in run.epochs]))


def reach(run: Run) -> float | None:
    """The last epoch that any event speaks of, where all axes end."""
    known = [epoch for event in (*run.steps, *run.epochs) if (epoch := run.epoch_of(event)) is not None]
    return max(known, default=None)


def _loss(run: Run) -> Markup | None:
    raw = of_steps(run, "loss") or of_epochs(run, "train", "loss")
    smoothed = smooth(raw)
    validation = of_epochs(run, "validation", "loss")
    series = [
        Line("training", raw, TRAIN, faint=bool(smoothed)),
        Line("training, smoothed", smoothed, TRAIN),
        Line("validation", validation, VALIDATION, dots=True),
    ]
    if not raw and not validation:
        return None
    log = log_suits(series)
    told = []
    if raw:
        told.append(f"Training loss went from {number(raw[0][1])} to {number((smoothed or raw)[-1][1])}")
    if validation:
        best = min(validation, key=lambda point: point[1])
        told.append(f"validation loss was lowest at epoch {number(best[0])}: {number(best[1])}")
    scale = " The axis is logarithmic." if log else ""
    marks = finding_marks.layers(run)
    found = " Dashed lines: where the findings with these numbers were made." if marks else ""
    caption = "; ".join(told) + "." + scale + found
    spec = lines(series, x=X, y="loss", log=log, until=reach(run))
    spec["layer"] = [*spec["layer"], *marks]
    return figure(spec, "Loss", caption[:1].upper() + caption[1:])


def _accuracy(run: Run) -> Markup | None:
    series = [
        Line("training", of_epochs(run, "train", "accuracy"), TRAIN, dots=True),
        Line("validation", of_epochs(run, "validation", "accuracy"), VALIDATION, dots=True),
        Line("validation, among the first five", of_epochs(run, "validation", "top5"), OTHER, dots=True),
    ]
    if len(run.classes) <= 10:
        series.pop()  # five guesses of ten say little
    known = [line for line in series if line.points]
    if not known:
        return None
    told = ", ".join(f"{line.name} {percent(line.points[-1][1])}" for line in known)
    how = "Training accuracy is measured on the way, on augmented examples where there are any."
    caption = f"At the last epoch: {told}. {how}"
    spec = lines(series, x=X, y="accuracy", y_format=".0%", until=reach(run))
    spec["layer"] = [*spec["layer"], *finding_marks.layers(run)]
    return figure(spec, "Accuracy", caption)


def _rate(run: Run) -> Markup | None:
    of_ends = pairs([(run.epoch_of(one), finite(one.get("lr"))) for one in run.epochs])
    points = sorted({*of_steps(run, "lr"), *of_ends})
    if not points:
        return None
    peak = max(points, key=lambda point: point[1])
    caption = f"Highest at epoch {number(peak[0])}: {number(peak[1])}; {number(points[-1][1])} at the end."
    if run.state == "training":
        caption = f"{number(points[-1][1])} now."
    return figure(
        lines([Line("learning rate", points, TRAIN)], x=X, y="learning rate", zero=True, until=reach(run)),
        "Learning rate",
        caption,
    )


def _speed(run: Run) -> Markup | None:
    unit = run.unit
    points = of_steps(run, "tokens_per_second" if unit == "tokens" else "images_per_second")
    if not points:
        return None
    rates = sorted(rate for _, rate in points)
    low, middle, high = rates[len(rates) // 20], rates[len(rates) // 2], rates[-1 - len(rates) // 20]
    caption = f"Median {big(middle)} a second; nine in ten measurements between {big(low)} and {big(high)}."
    spec = lines(
        [Line(f"{unit} a second", points, TRAIN)],
        x=X,
        y=f"{unit} a second",
        y_format="~s",
        zero=True,
        until=reach(run),
    )
    return figure(spec, f"{unit.capitalize()} a second", caption)


def _numbers(run: Run) -> Markup | None:
    if not run.epochs:
        return None
    head = ["epoch", "training loss", "accuracy", "validation loss", "accuracy", "learning rate", "time", ""]
    shown = table("Every epoch in numbers", head, [_row(epoch) for epoch in run.epochs[-300:]])
    return tag("details", tag("summary", "Every epoch in numbers"), shown)


def _row(epoch: Mapping[str, Any]) -> list[object]:
    return [
        epoch.get("epoch", ""),
        number(measure(epoch, "train", "loss")),
        percent(measure(epoch, "train", "accuracy")),
        number(measure(epoch, "validation", "loss")),
        percent(measure(epoch, "validation", "accuracy")),
        number(finite(epoch.get("lr"))),
        duration(finite(epoch.get("seconds"))),
        "best so far" if epoch.get("best") else "",
    ]
