"""Several runs on one page: what came out and was found, where recipes differ, and curves laid over each other."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from engram.report.charts import COLOURS, Line, figure, lines, log_suits, smooth
from engram.report.markup import Markup, join, table, tag
from engram.report.run_folder import SEVERITIES, Run, finite, text
from engram.report.sections.curves import of_epochs, of_steps
from engram.report.sections.recipe import flat
from engram.report.verdict import judge, result
from engram.report.words import big, duration, interval, number, percent, plural

DASHES: tuple[tuple[int, ...], ...] = ((), (6, 3), (2, 3), (8, 3, 2, 3))


def body(runs: Sequence[Run], beside: Path) -> Markup:
    """The content of the page.

    Args:
        beside: the folder the page lies in, from which links to the single reports lead.
    """
    names = distinct([run.name for run in runs])
    return join(
        [
            tag("header", tag("p", "Engram", class_="kicker"), tag("h1", _sentence(runs, names))),
            tag("section", tag("h2", "Results"), _results(runs, names, beside), id="results"),
            _findings(runs, names),
            tag("section", tag("h2", "What differs"), _differences(runs, names), id="differences"),
            tag("section", tag("h2", "Curves"), _curves(runs, names), id="curves"),
        ]
    )


def distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered where one occurs more than once.

    >>> distinct(["a", "b", "a"])
    ['a (1)', 'b', 'a (2)']
    """
    return [
        f"{name} ({names[: at + 1].count(name)})" if names.count(name) > 1 else name for at, name in enumerate(names)
    ]


def _sentence(runs: Sequence[Run], names: Sequence[str]) -> str:
    known = [
        (accuracy, name) for run, name in zip(runs, names, strict=True) if (accuracy := result(run)[0]) is not None
    ]
    if len(known) < 2:
        return f"{plural(len(runs), 'run')} side by side."
    (low, _), (high, best) = min(known), max(known)
    spread = f"from {percent(low)} to {percent(high)} right on validation"
    return f"{plural(len(runs), 'run')}, {spread}; the highest is {best}."


def _results(runs: Sequence[Run], names: Sequence[str], beside: Path) -> Markup:
    head = ("run", "state", "validation", "95\u202f% sure between", "test", "epochs", "time", "a second", "parameters")
    rows = [_row(run, name, beside) for run, name in zip(runs, names, strict=True)]
    told = (
        "The interval says how far an accuracy on so many examples can be off; it says nothing of what another seed "
        "would give. To compare methods, run several seeds of each."
    )
    return join([table("What came out", head, rows, numbers_from=2), tag("p", told)])


def _row(run: Run, name: str, beside: Path) -> list[object]:
    accuracy, examples, _ = result(run)
    test = run.evaluations.get("test")
    low, high = interval(accuracy, examples) if accuracy is not None else (0.0, 1.0)
    rates = run.rates
    report = run.folder / "report.html"
    link = tag("a", name, href=_link(report, beside)) if report.is_file() else name
    return [
        link,
        judge(run).state,
        percent(accuracy),
        f"{100 * low:.1f} – {100 * high:.1f}" if accuracy is not None and examples else "–",
        percent(finite(test.summary.get("accuracy"))) if test else "–",
        number(run.epoch_of({"step": run.step})),
        duration(run.seconds),
        big(rates[len(rates) // 2]) if rates else "–",
        big(finite((run.environment.get("model") or {}).get("parameters"))),
    ]


def _link(report: Path, beside: Path) -> str:
    from urllib.parse import quote

    return quote(Path(os.path.relpath(report, beside)).as_posix())


def _findings(runs: Sequence[Run], names: Sequence[str]) -> Markup | None:
    """What the clinic found in each, by severity; nothing where none was looked at."""
    if not any(map(_watched, runs)):
        return None
    rows = [[name, *(_found(run, severity) for severity in SEVERITIES)] for run, name in zip(runs, names, strict=True)]
    seen = [{one["diagnosis"] for one in run.findings} for run in runs if _watched(run)]
    shared = sorted(set.intersection(*seen)) if len(seen) > 1 else []
    told = f"In every run: {', '.join(map(_title, shared))}. " if shared else ""
    where = "What each finding means, and what to try, stands in the run's own report."
    shown = table("How many, and which", ("run", "critical", "warnings", "notes"), rows, numbers_from=99)
    return tag("section", tag("h2", "Findings"), shown, tag("p", told + where), id="findings")


def _watched(run: Run) -> bool:
    return bool(run.findings) or (run.folder / "findings.json").is_file()


def _found(run: Run, severity: str) -> str:
    """How many findings of that severity, and their titles in order; a dash where nobody looked."""
    if not _watched(run):
        return "–"
    titles = [_title(one["diagnosis"]) for one in run.findings if one["severity"] == severity]
    counted = [f"{one} ({titles.count(one)})" if titles.count(one) > 1 else one for one in dict.fromkeys(titles)]
    return f"{len(titles)}: {', '.join(counted)}" if titles else "none"


def _title(diagnosis: str) -> str:
    return text(diagnosis.replace("_", " "))


def _differences(runs: Sequence[Run], names: Sequence[str]) -> Markup:
    settings = [flat(run.recipe) for run in runs]
    every = dict.fromkeys(name for one in settings for name in one if name != "output")
    differing = [name for name in every if len({repr(one.get(name)) for one in settings}) > 1]
    if not differing:
        return tag("p", "All recipes are the same.")
    rows = [[run, *(text(one.get(name, "–")) for name in differing)] for run, one in zip(names, settings, strict=True)]
    return table("Settings that are not the same in all runs", ["run", *map(text, differing)], rows, numbers_from=99)


def _curves(runs: Sequence[Run], names: Sequence[str]) -> Markup:
    drawn = [
        _overlaid(runs, names, "Validation accuracy", lambda run: of_epochs(run, "validation", "accuracy"), share=True),
        _overlaid(runs, names, "Validation loss", lambda run: of_epochs(run, "validation", "loss")),
        _overlaid(runs, names, "Training loss", _training_loss),
        _overlaid(runs, names, "Learning rate", lambda run: of_steps(run, "lr"), zero=True),
    ]
    return tag("div", *drawn, class_="charts")


def _training_loss(run: Run) -> list[tuple[float, float]]:
    raw = of_steps(run, "loss")
    return smooth(raw) or raw


def _overlaid(
    runs: Sequence[Run],
    names: Sequence[str],
    title: str,
    values: Callable[[Run], list[tuple[float, float]]],
    *,
    share: bool = False,
    zero: bool = False,
) -> Markup | None:
    series = [
        Line(name, values(run), COLOURS[at % len(COLOURS)], dash=DASHES[at // len(COLOURS) % len(DASHES)])
        for at, (run, name) in enumerate(zip(runs, names, strict=True))
    ]
    ended = [(line.points[-1][1], line.name) for line in series if line.points]
    if not ended:
        return None
    shown = percent if share else number
    (low, lowest), (high, highest) = min(ended), max(ended)
    caption = f"At the end from {shown(low)} ({lowest}) to {shown(high)} ({highest})."
    spec = lines(
        series,
        x="epoch",
        y=title.lower(),
        y_format=".0%" if share else None,
        zero=zero,
        log=not share and not zero and log_suits(series),
    )
    return figure(spec, title, caption)
