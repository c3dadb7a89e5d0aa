"""`study.html`: the verdicts first, then what they rest on, as one page that needs nothing beside it."""

import tomllib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from engram import recipe as recipes
from engram.report import charts
from engram.report.markup import Markup, facts, join, listing, table, tag
from engram.report.page import document
from engram.report.run_folder import text
from engram.report.sections.recipe import changed
from engram.report.sections.verdict import MARKS, SPOKEN
from engram.report.words import count, duration, listed, number, percent, plural
from engram.study import charts as pictures
from engram.study import plan as plans
from engram.study import sharing
from engram.study.target import reached
from engram.study.verdicts import Result, Verdict, difference, level, p_value

if TYPE_CHECKING:
    from engram.study.study import Study

TONES = {
    "better": "good",
    "worse": "bad",
    "as good": "good",
    "no worse": "note",
    "not shown": "note",
    "nothing": "warning",
}
"""How a verdict is marked."""


def render(study: "Study") -> str:
    """The whole page. The same folder gives the same page, byte for byte."""
    sections = [
        ("results", "Results", _results(study)),
        ("differences", f"Differences from {text(study.plan.baseline)}", _differences(study)),
        ("curves", "Learning curves", _curves(study)),
        ("target", "How soon", _target(study)),
        ("given", "What the arms were given", _given(study)),
        ("runs", "Every run", _runs(study)),
        ("again", "The same again", _again(study)),
    ]
    shown = [(anchor, title, content) for anchor, title, content in sections if content]
    contents = tag(
        "nav", listing(tag("a", title, href=f"#{anchor}") for anchor, title, _ in shown), aria_label="Contents"
    )
    parts = [
        tag("section", tag("h2", title, id=f"{anchor}-title"), content, id=anchor, aria_labelledby=f"{anchor}-title")
        for anchor, title, content in shown
    ]
    return document(f"Study: {text(study.path.resolve().name)}", join([tag("header", _top(study)), contents, *parts]))


def headline(study: "Study") -> str:
    """What was compared, and the shortest true account of what came of it."""
    plan, found = study.plan, study.verdicts
    compared = f"{plural(len(plan.arms), 'arm')} × {plural(len(plan.seeds), 'seed')} by {plan.measure.words}"
    if not study.complete:
        left = sum(row["status"] not in ("finished", "failed") for row in study.tables.runs)
        return f"{compared}: {left} of {len(study.tables.runs)} runs are still to come."
    told = []
    for kind, words in (
        ("better", f"better than {plan.baseline}"),
        ("worse", f"worse than {plan.baseline}"),
        ("as good", f"as good as {plan.baseline} within the margin"),
        ("no worse", f"no worse than {plan.baseline} by more than the margin"),
        ("not shown", f"not shown to differ from {plan.baseline}"),
        ("nothing", "not to be judged"),
    ):
        names = [one.arm for one in found if one.kind == kind]
        if names:
            told.append(f"{listed(names) if len(names) < 4 else plural(len(names), 'arm')} {words}")
    return f"{compared}: {'; '.join(told)}."


def _top(study: "Study") -> Markup:
    failed = [result for result in study.results if result.failures]
    tone, state = ("good", "Complete") if study.complete else ("warning", "Not complete")
    if failed and study.complete:
        tone, state = "warning", "Complete, with failures"
    remarks = [(TONES[one.kind], one.sentence) for one in study.verdicts] + [
        ("bad", f"{plural(len(one.failures), 'run')} of {one.arm} failed: {next(iter(one.failures.values()))}")
        for one in failed
    ]
    marked = [
        tag(
            "li",
            tag("span", MARKS[tone], class_="mark", aria_hidden="true"),
            tag("span", tag("span", SPOKEN[tone], class_="spoken"), text(words, limit=1000)),
            class_=tone,
        )
        for tone, words in remarks
    ]
    return join(
        [
            tag("p", tag("span", state, class_=f"state {tone}"), " ", text(study.path.resolve().name), class_="kicker"),
            tag("h1", text(headline(study), limit=1000)),
            tag("ul", *marked, class_="remarks"),
        ]
    )


def _results(study: "Study") -> Markup:
    measure, results = study.plan.measure, study.results
    head = ("arm", "seeds", "mean", "95 % interval", "sd", "lowest", "highest")
    rows = [_result(study, one) for one in results]
    which = "after the last step" if study.plan.judged == "final" else "of the epoch that was best on validation"
    told = (
        f"{measure.words[0].upper()}{measure.words[1:]} of the weights {which}. A dot is a seed, a grey line joins the "
        "dots of one seed, the short bar is the mean, and the pale bar its interval, which holds for each arm alone: "
        "whether two arms differ is read from the differences, not from whether bars overlap."
    )
    drawn = any(one.values for one in results)
    return join(
        [
            tag(
                "figure",
                tag(
                    "div",
                    charts.svg(pictures.dots(measure, results), f"{measure.words} of every seed by arm"),
                    class_="chart",
                ),
                tag("figcaption", told),
                style="max-width: 44rem; margin-bottom: 2rem",
            )
            if drawn
            else None,
            table(f"{measure.words}, over seeds", head, rows),
        ]
    )


def _result(study: "Study", one: Result) -> list[object]:
    measure, values = study.plan.measure, list(one.values.values())
    notes = [f"{len(one.failures)} failed"] * bool(one.failures) + [f"{one.missing} to come"] * bool(one.missing)
    sd = one.mean.sd * (100 if measure.share else 1)
    return [
        text(one.arm),
        join([one.mean.n, f" ({', '.join(notes)})" if notes else None]),
        level(measure, one.mean.mean),
        f"{level(measure, one.mean.low)} – {level(measure, one.mean.high)}" if one.mean.n > 1 else "–",
        (f"{sd:.2f}\u202fpp" if measure.share else number(sd)) if one.mean.n > 1 else "–",
        level(measure, min(values, default=None)),
        level(measure, max(values, default=None)),
    ]


def _differences(study: "Study") -> Markup | None:
    measure, plan, found = study.plan.measure, study.plan, study.verdicts
    if not any(one.paired.n for one in found):
        return None
    head = ["arm", "pairs", "difference", "95 % interval", "bootstrap", "p", "corrected", "d_z", "could show"]
    margin = (
        f" The green band is the margin of {difference(measure, plan.margin, signed=False)}." if plan.margin else ""
    )
    better = "Right of the line is better." if measure.more_is_better else "Left of the line is better."
    told = f"Arm minus {text(plan.baseline)}, seed by seed, with the paired t interval. {better}{margin}"
    words = (
        "Differences are taken seed by seed. The bootstrap interval (BCa) assumes no normal spread and is too narrow "
        "for fewer than about ten seeds. p is of the paired t test, two-sided; corrected, after Holm, for all arms "
        "together. d_z is the mean difference in standard deviations of the differences. What could show is the "
        f"true difference that {len(plan.seeds)} such seeds would have shown in 4 studies of 5."
    )
    if plan.margin is not None:
        head += ["within", "no worse"]
        words += " The last columns are corrected p values of being within the margin, and of not being worse by it."
    return join(
        [
            tag(
                "figure",
                tag("div", charts.svg(pictures.differences(measure, found, plan.margin), told), class_="chart"),
                tag("figcaption", told),
                style="max-width: 44rem; margin-bottom: 2rem",
            ),
            table(
                f"Difference in {measure.words}{', percentage points' if measure.share else ''}",
                head,
                [_difference(study, one) for one in found],
            ),
            tag("p", words),
        ]
    )


def _difference(study: "Study", one: Verdict) -> list[object]:
    measure, pair = study.plan.measure, one.paired

    def p(value: float) -> str:
        return "–" if value != value else p_value(value).removeprefix("p = ").removeprefix("p ")

    def d(value: float) -> str:
        return difference(measure, value).removesuffix("\u202fpp")

    row: list[object] = [
        text(one.arm),
        pair.n,
        d(pair.mean),
        f"{d(pair.low)} to {d(pair.high)}" if pair.n > 1 else "–",
        f"{d(pair.bootstrap_low)} to {d(pair.bootstrap_high)}" if pair.n > 1 else "–",
        p(pair.p),
        p(one.p),
        "–" if pair.effect != pair.effect else f"{pair.effect:.2f}".replace("-", "−"),
        d(one.seen).removeprefix("+"),
    ]
    return [*row, p(one.within), p(one.above)] if study.plan.margin is not None else row


def _curves(study: "Study") -> Markup | None:
    arms = [arm.name for arm in study.plan.arms]
    drawn = []
    for title, figure, share in (
        ("Validation accuracy", "validation.accuracy", True),
        ("Validation loss", "validation.loss", False),
        ("Training accuracy", "train.accuracy", True),
    ):
        for x, label in (("visits", "visits of training examples"), ("seconds", "seconds")):
            if x == "seconds" and figure != "validation.accuracy":
                continue
            spec = pictures.curves(study.tables.curves, arms, figure, x=x, title=label, share=share)
            if spec is not None:
                over = "" if x == "visits" else " over time"
                drawn.append(charts.figure(spec, title + over, f"Mean and range of the seeds after every pass{over}."))
    return tag("div", *drawn, class_="charts") if drawn else None


def _target(study: "Study") -> Markup | None:
    target = study.plan.target
    if target is None:
        return None
    rows = []
    for arm in study.plan.arms:
        visits, seconds = (reached(study.tables.runs, arm.name, unit) for unit in ("visits", "seconds"))
        if not visits.runs:
            rows.append([text(arm.name), "no run finished", "–", "–", "–"])
            continue
        never = visits.runs - visits.reached
        rows.append(
            [
                text(arm.name),
                f"{visits.reached} of {visits.runs}",
                count(visits.middle) if visits.middle is not None else "not known" if never else "–",
                f"{count(visits.earliest)} – {count(visits.latest) if visits.latest is not None else 'never'}",
                duration(seconds.middle) if seconds.middle is not None else "not known" if never else "–",
            ]
        )
    head = ("arm", "seeds that got there", "visits, median", "earliest – latest", "time, median")
    told = (
        "Looked at after every pass, on validation. A run that never got there counts as later than all others, so the "
        "median is not known where half of the seeds or more never did."
    )
    return join([table(f"Until a validation accuracy of {percent(target)}", head, rows), tag("p", told)])


def _given(study: "Study") -> Markup:
    plan, runs = study.plan, study.tables.runs
    rows = []
    for arm in plan.arms:
        own = [row for row in runs if row["arm"] == arm.name and row["status"] == "finished"]
        rows.append(
            [
                text(arm.name),
                *(_range([row["visits"] for row in own], count), _range([row["steps"] for row in own], count)),
                _range([row["seconds"] for row in own], duration),
            ]
        )
    settings = plans.differing({arm.name: plan.recipe(arm, 0) for arm in plan.arms})
    differing = [[text(arm.name), *(text(values[arm.name]) for values in settings.values())] for arm in plan.arms]
    return join(
        [
            tag("p", sharing.equality(plan, runs)),
            tag("p", sharing.sharing(plan, runs)),
            table("Taken by each run, lowest to highest", ("arm", "visits", "steps", "time"), rows),
            table("Settings that differ", ("arm", *map(text, settings)), differing, numbers_from=99),
        ]
    )


def _range(values: list[Any], shown: Any) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    low, high = shown(min(known)), shown(max(known))
    return low if low == high else f"{low} – {high}"


def _runs(study: "Study") -> Markup:
    measure = study.plan.measure
    head = ("run", "status", measure.words, "visits", "time", "message")
    rows = [
        [
            text(f"{row['arm']}, seed {row['seed']}"),
            row["status"],
            level(measure, row.get(measure.name)),
            count(row.get("visits")),
            duration(row.get("seconds")),
            text(row["message"], limit=300),
        ]
        for row in study.tables.runs
    ]
    made = table("One row a run; table.csv and table.parquet have more columns", head, rows, numbers_from=99)
    return tag("details", tag("summary", plural(len(rows), "run")), made)


def _again(study: "Study") -> Markup:
    command = study.path / "command.txt"
    given = command.read_text(encoding="utf-8").strip() if command.is_file() else ""
    path = study.path.as_posix()
    base = list(changed(tomllib.loads(recipes.dumps(study.plan.base))))
    return join(
        [
            tag("p", "The study is told whole by its study.toml; from it, the same arms and seeds are run again by"),
            tag("pre", f"engram compare {path}/study.toml", tabindex=0),
            facts([("first asked for by", tag("code", text(given, limit=2000))), *_fixed(study.plan)]),
            table("The base recipe, where it is not the default", ("setting", "here", "by default"), base)
            if base
            else None,
            tag("details", tag("summary", "study.toml"), tag("pre", plans.dumps(study.plan), tabindex=0)),
        ]
    )


def _fixed(plan: plans.Plan) -> Iterator[tuple[str, object]]:
    yield "measure", plan.measure.name
    yield "weights", plan.judged
    yield "baseline", text(plan.baseline)
    yield "margin", "none was fixed" if plan.margin is None else difference(plan.measure, plan.margin, signed=False)
    yield "seeds", ", ".join(map(str, plan.seeds[:20])) + (", ..." if len(plan.seeds) > 20 else "")
    yield "threads of a run", plan.threads
