"""What came again and how often, how much of it was recalled after which delay, and whether that was foreseen."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engram.report.charts import COLOURS, Line, figure, lines, pairs
from engram.report.charts_review import Group, agreement, bars, retention
from engram.report.markup import Markup, join, table, tag
from engram.report.run_folder import Run, finite, text
from engram.report.words import count, listed, number, percent, plural

ORDER = 64
TITLE = "What was reviewed, and how it is remembered"

PLAIN = "shuffle"
STREAKS = {
    "0": "not recalled last time",
    "1-2": "recalled once or twice in a row",
    "3+": "recalled three times or more",
}
SHORT = {"0": "not recalled last time", "1-2": "recalled once or twice", "3+": "three times or more"}
COLOUR_OF = dict(zip(STREAKS, (COLOURS[1], COLOURS[0], COLOURS[2]), strict=True))
DELAY = "delay since the last visit, in epochs"
RECALLED = {
    "probability": "the network gives its label more than half of the probability",
    "correct": "the network's answer is right",
    "relative": "its loss is among the lower half of the batch",
}
ENOUGH = 20
"""Visits below which a share is not drawn."""
BETTER = 0.995
"""Share of the constant's log loss below which a prediction is better."""
LITTLE = 0.01
"""Log loss of the best constant below which a network forgets too little to say whether it was foreseen, nats."""
CLOSE = 0.02
"""Difference of predicted and observed shares below which the one can be taken for the other."""
ALIKE = 0.02
"""Difference of shares below which all rounds saw as much."""
WHOLE = 0.999
"""Part of an epoch from which it is over."""
EPOCH = "An epoch, as many visits as there are examples,"
SHOWN = 300
"""Rounds in the table at most: the last ones."""


def section(run: Run) -> Markup | None:
    review = run.review
    if not review.get("rounds"):
        return None
    charts = [chart for chart in _charts(review) if chart is not None]
    return join(
        [
            tag("p", *_course(review)),
            tag("p", *_memory(review)),
            tag("p", *_absence(review)) if review.get("absence") else None,
            tag("div", *charts, class_="charts") if charts else None,
            _numbers(review),
            tag("p", *_advice(run)) if run.review.get("method") == PLAIN else None,
        ]
    )


def _course(review: Mapping[str, Any]) -> Iterator[object]:
    """What came, and how often."""
    rounds, visits = review["rounds"], review.get("visits") or {}
    yield "Method "
    yield tag("code", text(review.get("method")))
    told = text(review.get("told") or "").rstrip(".")
    yield f": {told[:1].lower()}{told[1:]}. " if told else ". "
    if review.get("permuted"):
        yield "As a control, it was shown the memory of other examples: it visits as many as often, and knows nothing. "
    shares = [share for row in rounds if (share := finite(row.get("share"))) is not None]
    mean = sum(shares) / len(shares) if shares else None
    examples = f"{count(finite(review.get('examples')))} training examples"
    if len(rounds) == 1:
        yield f"The first round is over: it saw {percent(mean, 0)} of the {examples}. "
    else:
        yield f"An average round saw {percent(mean, 0)} of the {examples}, in {count(len(rounds))} rounds. "
    yield _coverage(review.get("coverage") or [])
    least, most = (finite(visits.get(key)) for key in ("least", "most"))
    came, counted = (sum(finite(row.get(key)) or 0.0 for row in rounds) for key in ("came", "visits"))
    if came > counted:
        yield f"Of a mixed picture the larger part counts as visited: {count(counted)} visits of {count(came)}. "
    if least is not None and least == most:
        yield f"Every example was visited {_times(most)}. "
    elif least is not None:
        yield f"The example that came most often was visited {_times(most)}, the one that came least {_times(least)}."


def _coverage(coverage: Sequence[Mapping[str, Any]]) -> str:
    """How far back one must look to have seen nearly all."""
    shares = [finite(row.get("share")) or 0.0 for row in coverage]
    nearly = next((back for back, share in enumerate(shares, 1) if share >= min(0.99, shares[-1])), 0)
    if nearly < 3:
        return ""
    return f"The last {count(nearly)} together saw {percent(shares[nearly - 1], 0)}. "


def _times(number: float | None) -> str:
    return {1.0: "once", 2.0: "twice"}.get(number or 0.0, f"{count(number)} times")


def _memory(review: Mapping[str, Any]) -> Iterator[object]:
    """What was recalled, and whether the memory model knew it."""
    rows = review.get("retention") or []
    if not rows:
        yield "No example has come twice yet, so that nothing can be said of what is remembered."
        return
    after = {streak: _after_one(rows, streak) for streak in STREAKS}
    told = [f"{percent(after[key])} of those {STREAKS[key]}" for key in ("1-2", "3+") if after[key] is not None]
    if told:
        yield f"When they come back after about an epoch's worth of visits, {' and '.join(told)} are recalled again"
        none = after["0"]
        yield f"; of those not recalled last time, {percent(none)} are. " if none is not None else ". "
    unforgotten, seen = finite(review.get("unforgotten")), finite(review.get("seen"))
    if unforgotten is not None and seen:
        yield f"{percent(unforgotten / seen, 0)} of the examples are recalled now and were never lost on the way. "
    memory, losses = review.get("memory") or {}, log_losses(review["rounds"])
    if memory and losses is not None:
        name = tag("code", text(memory.get("name")))
        alone, linked, constant = losses
        verdict = "foresaw this better than" if linked < BETTER * constant else "foresaw this no better than"
        figures = f"log loss {number(linked)} against {number(constant)}"
        by = f"; {number(alone)} before it is corrected for what was recalled last" if alone != linked else ""
        yield "In the second half of the run the memory model "
        yield name
        yield f" {verdict} the best constant, chosen afterwards for each round: {figures}{by}."


def _absence(review: Mapping[str, Any]) -> Iterator[object]:
    """What the trials found: whether what rested was lost."""
    trials = [[finite(one.get(key)) for key in ("cost", "error", "epoch")] for one in review["absence"]]
    yield (
        "Does it lose what it does not see? Of two groups of examples drawn at random, one was kept away for three "
        "epochs and the other was not; then both were asked. "
    )
    cost, error, epoch = (value or 0.0 for value in trials[-1])
    which = f"In the last of {count(len(trials))} trials, after" if len(trials) > 1 else "After"
    yield f"{which} epoch {number(epoch)}, absence cost {cost:.3f} of the grade (standard error {error:.3f}). "
    if review.get("by_heart"):
        yield (
            "That is learning by heart: what is left out is lost, so nothing was left out any more. Where validation "
            "accuracy stands still while training accuracy rises, augment more, or stop earlier."
        )
    else:
        yield "That is not learning by heart: what it knows is not shown to be lost where it is left out for a while."


def _after_one(rows: Sequence[Mapping[str, Any]], streak: str) -> float | None:
    """Share recalled after a delay of about one epoch: from half of one to two."""
    near = [row for row in rows if row.get("streak") == streak and (finite(row.get("most")) or 0) in (1.0, 2.0)]
    visits, right = (sum(finite(row.get(key)) or 0 for row in near) for key in ("count", "recalled"))
    return right / visits if visits >= ENOUGH else None


def log_losses(rounds: Sequence[Mapping[str, Any]]) -> tuple[float, float, float] | None:
    """Of the memory model alone, with its link, and of the best constant of each round: means over visits, nats.

    Of the second half of the rounds: at first a network learns so fast that there is nothing to forget.
    """
    rows = [row for row in rounds if finite(row.get("log_loss")) is not None and finite(row.get("again"))]
    rows = rows[len(rows) // 2 :]
    visits = sum(row["again"] for row in rows)
    if not visits:
        return None
    alone, linked, constant = (
        sum(row["again"] * (finite(row.get(key, row["log_loss"])) or 0.0) for row in rows) / visits
        for key in ("log_loss", "linked_log_loss", "constant")
    )
    return alone, linked, constant


def _charts(review: Mapping[str, Any]) -> Iterator[Markup | None]:
    memory = review.get("memory") or {}
    yield _kept(review, memory)
    yield _gained(review)
    yield _foreseen(review["rounds"])
    yield _reliability(review, memory)
    yield _shares(review)
    yield _visits(review.get("visits") or {}) if review.get("method") != PLAIN else None
    yield _bars(memory.get("strength"), "strength", "Strength of the memories", _strength(review, memory))
    wanted = percent(finite(review.get("wanted")), 0)
    interval = f"The delay after which the memory model predicts that recall has fallen to {wanted}, for every example."
    yield _bars(memory.get("interval"), "interval", "Until an example is due", interval)


def _kept(review: Mapping[str, Any], memory: Mapping[str, Any]) -> Markup | None:
    """What was recalled last time: is it still?"""
    groups = _groups(review, memory, ("1-2", "3+"))
    if not groups:
        return None
    clock = (
        " while the learning rate is at its highest so far, slower as it falls"
        if review.get("clock") == "updates"
        else ""
    )
    told = f"Dots: the share recalled over the whole run, with 95 % intervals, of {ENOUGH} visits or more. "
    if any(group.curve for group in groups):
        told += (
            f"Lines: what {text(memory.get('name'))} predicts for a typical example as the network is now, which has "
            "learned since the first dots. "
        )
    if review.get("method") != PLAIN:
        told += "The method chooses what comes back soon, so that the dots do not show forgetting alone. "
    told += f"The clock counts one for as many visits as there are examples{clock}."
    how = RECALLED.get(str(review.get("measure")))
    told += f" An example counts as recalled when {how}." if how else ""
    return figure(retention(groups, x=DELAY, y="share recalled"), "Kept: recalled last time, and again", told)


def _gained(review: Mapping[str, Any]) -> Markup | None:
    """What was not recalled last time: is it now?"""
    groups = _groups(review, {}, ("0",))
    if not groups:
        return None
    told = "The same of examples that were not recalled last time. No forgetting here: training on others teaches them."
    return figure(retention(groups, x=DELAY, y="share recalled"), "Gained: not recalled last time, and now", told)


def _groups(review: Mapping[str, Any], memory: Mapping[str, Any], streaks: Sequence[str]) -> list[Group]:
    """What was observed and what is predicted of some kinds of streak."""
    curves = {curve.get("streak"): curve for curve in memory.get("curves") or []}
    enough = [row for row in review.get("retention") or [] if (finite(row.get("count")) or 0) >= ENOUGH]
    keys = ("delay", "share", "low", "high", "count")
    groups = []
    for streak in streaks:
        rows = [row for row in enough if row.get("streak") == streak]
        observed = [tuple(finite(row.get(key)) or 0.0 for key in keys) for row in rows]
        curve = curves.get(streak) or {}
        if observed:
            points = list(zip(curve.get("delays") or [], curve.get("recall") or [], strict=True))
            groups.append(Group(SHORT[streak], observed, points, COLOUR_OF[streak]))
    return groups


def _foreseen(rounds: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Predicted against observed recall."""
    rows = [row for row in rounds if finite(row.get("predicted")) is not None]
    if not rows:
        return None

    series = [
        Line("observed", _points(rows, "recalled_again"), COLOURS[0], dots=True),
        Line("predicted", _points(rows, "linked_predicted"), COLOURS[1]),
        Line("predicted by the curve alone", _points(rows, "predicted"), COLOURS[3], dash=(4, 3)),
    ]
    spec = lines(series, x="epoch", y="share recalled", y_format=".0%")
    caption = (
        "Of the examples that came again in a round, how many were recalled, and how many the memory model said would "
        "be, before it saw them: with its correction for what was recalled last, and by its curve alone."
    )
    return figure(spec, "Foreseen and found", caption)


def _reliability(review: Mapping[str, Any], memory: Mapping[str, Any]) -> Markup | None:
    """Of what was predicted to be recalled so often, how much was: the memory model's, not the network's, certainty."""
    keys = ("predicted", "observed", "low", "high", "count")
    tables = {
        how: [tuple(finite(row.get(key)) or 0.0 for key in keys) for row in rows or []]
        for how, rows in (memory.get("reliability") or {}).items()
    }
    if not tables.get("linked"):
        return None
    groups = [
        Group("with its correction", tables["linked"], colour=COLOURS[1]),
        Group("by the curve alone", tables.get("alone") or [], colour=COLOURS[3]),
    ]
    losses = log_losses(review["rounds"])
    against = f", log loss {number(losses[1])} against {number(losses[2])} of the best constant" if losses else ""
    found = _trusted(tables["linked"])
    if losses and losses[2] < LITTLE:
        found = "had next to nothing to foresee, for next to nothing was forgotten"
    caption = (
        f"{text(memory.get('name')) or 'The memory model'} {found}{against}. Each dot is a group of visits "
        "to examples seen before, larger for more of them, in the second half of the rounds, with its 95 % interval: "
        "what was predicted before the visit, and how many were recalled. On the dashed line the prediction is "
        "deserved; below it fewer were recalled than it said."
    )
    spec = agreement([group for group in groups if group.observed], x="predicted recall", y="recalled")
    return figure(spec, "Predicted against observed recall", caption)


def _trusted(rows: Sequence[Sequence[float]]) -> str:
    """What the dots say, after the name of what predicted: whether it is over- or underconfident.

    >>> _trusted([(0.9, 0.8, 0, 1, 10), (1.0, 0.9, 0, 1, 10)])
    'is overconfident: it predicted that 95.0\u202f% would be recalled, and 85.0\u202f% were'
    """
    visits = sum(row[4] for row in rows)
    said, seen = (sum(row[place] * row[4] for row in rows) / visits for place in (0, 1))
    apart = sum(abs(row[0] - row[1]) * row[4] for row in rows) / visits
    figures = f"it predicted that {percent(said)} would be recalled, and {percent(seen)} were"
    if said - seen >= CLOSE:
        return f"is overconfident: {figures}"
    if seen - said >= CLOSE:
        return f"is underconfident: {figures}"
    if apart < CLOSE:
        return f"can be taken at its word: {figures}"
    return f"is right on average and not for each: {figures}, but the dots lie {percent(apart)} off the line"


def _shares(review: Mapping[str, Any]) -> Markup | None:
    """What share of the data each round saw, and each epoch of them."""
    rounds = _points(review["rounds"], "share")
    whole = [row for row in review.get("epochs") or [] if (finite(row.get("whole")) or 0.0) > WHOLE]
    least, most = _points(whole, "least"), _points(whole, "most")
    values = [share for _, share in rounds]
    a_round_is_an_epoch = all(row.get("rounds") == 1 for row in whole)
    if len(rounds) < 2 or (a_round_is_an_epoch and max(values) - min(values) < ALIKE):
        return None
    known = all(high - low < ALIKE for (_, low), (_, high) in zip(least, most, strict=True))
    series = [Line("in a round", rounds, COLOURS[0], dots=True)]
    told = f"Different examples, as a share of all. A round visits {_range(values)}."
    if whole and known:
        series.append(Line("in an epoch", least, COLOURS[2], dots=True))
        told += f" {EPOCH} saw {_range([share for _, share in least])}."
    elif whole:
        series.append(Line("in an epoch, at least", least, COLOURS[2], dots=True))
        told += (
            f" {EPOCH} saw {_range([share for _, share in least])} at least: its largest round. How many of the "
            "examples of its other rounds were the same ones is not known."
        )
    spec = lines(series, x="epoch", y="share of the data", y_format=".0%", zero=True)
    return figure(spec, "Share of the data that rounds and epochs see", told)


def _range(shares: Sequence[float]) -> str:
    """The lowest to the highest, once where they are the same.

    >>> _range([0.5, 0.25]), _range([0.501, 0.499])
    ('from 25\u202f% to 50\u202f%', '50\u202f%')
    """
    low, high = percent(min(shares), 0), percent(max(shares), 0)
    return low if low == high else f"from {low} to {high}"


def _points(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """By epoch, where both are known."""
    return list(pairs([(finite(row.get("epoch")), finite(row.get(key))) for row in rows]))


def _visits(visits: Mapping[str, Any]) -> Markup | None:
    least, most, mean = (finite(visits.get(key)) for key in ("least", "most", "mean"))
    if least is None or most is None or most - least < 2:
        return None
    caption = f"How many examples were visited so many times: {number(mean)} times on average."
    return figure(bars(visits["edges"], visits["counts"], x="visits", y="examples"), "Visits of an example", caption)


def _bars(histogram: Mapping[str, Any] | None, x: str, title: str, caption: str) -> Markup | None:
    if not histogram or len(histogram.get("counts") or []) < 2:
        return None
    spec = bars(histogram["edges"], histogram["counts"], x=f"{x}, in epochs", y="examples", log=True)
    return figure(spec, title, caption)


def _strength(review: Mapping[str, Any], memory: Mapping[str, Any]) -> str:
    streaks = review.get("streaks") or {}
    told = [f"{count(finite(streaks[key]))} {name}" for key, name in STREAKS.items() if streaks.get(key)]
    fitted = [
        f"{text(name)} {number(finite((memory.get('parameters') or {}).get(name)))}"
        for name in memory.get("fitted") or []
    ]
    what = "How slowly each example is forgotten: the larger, the longer it lasts."
    return f"{what} Now {listed(told)}. Fitted to this run: {listed(fitted)}."


def _numbers(review: Mapping[str, Any]) -> Markup:
    foreseen = any(finite(row.get("log_loss")) is not None for row in review["rounds"])
    head = ["until epoch", "visits", "of the data", "loss", "recalled"]
    more = ["of those seen before", "predicted", "log loss", "best constant"] if foreseen else []
    rows = [_row(row, foreseen) for row in review["rounds"][-SHOWN:]]
    rounds = plural(len(rows), "round")
    title = (
        f"Every round in numbers: {rounds}" if len(rows) == len(review["rounds"]) else f"The last {rounds} in numbers"
    )
    return tag("details", tag("summary", title), table(title, head + more, rows))


def _row(row: Mapping[str, Any], foreseen: bool) -> list[object]:
    known = {key: finite(value) for key, value in row.items()}
    shown: list[object] = [
        number(known.get("epoch")),
        count(known.get("visits")),
        percent(known.get("share"), 0),
        number(known.get("loss")),
        percent(known.get("recalled")),
    ]
    if foreseen:
        shown += [
            percent(known.get("recalled_again")),
            percent(known.get("linked_predicted")),
            number(known.get("linked_log_loss")),
            number(known.get("constant")),
        ]
    return shown


def _advice(run: Run) -> Iterator[object]:
    yield "Each visit to what is remembered anyway could have gone to what is being forgotten. To try it: "
    yield tag("code", "--review forgetting_curve", class_="option")
    yield ". Whether it pays, "
    yield tag("code", "engram compare")
    yield " says, at equal visits."
