"""The zoo's figures as the tables of docs/clinic.md."""

from typing import Any

from bodies import look
from diseases import DISEASES, DOSES, FRESH, LADDERS, MORE, THIRD
from rivals import SPEAKS_OF
from score import PARTS, Score, speaks, wilson

from engram import registry

FIGURES = {
    "mean_loss": "mean training loss against the control",
    "last_loss": "last training losses against the control",
    "accuracy": "accuracy in training against the control",
    "worst_recall": "recall of the worst class against the control",
    "validation_loss": "validation loss against the control",
    "saturated": "share at the ends over the whole data, and mean loss against the control",
}


TITLES = ("The calibration half", "The held-out half, first look", "The second look", "The third look")
"""Of `PARTS`."""


def page(results: dict[str, Any], only: str | None = None) -> str:
    """All tables; of one part alone while thresholds are being set."""
    rows = results["rows"]
    parts = [] if only else [commands(results), oracles()]
    titles = dict(zip(PARTS, TITLES, strict=True))
    for name in reversed(PARTS) if only is None else (only,):
        score = Score(rows, name)
        before = results.get("first_look") if name == "held-out" else None
        parts += [f"### {titles[name]}", *(first_look(score, before) if before else _part(score))]
        if name == "second look" and "second_look" in results:
            parts.insert(-4, since(score, results["second_look"]))
    if only is None and results.get("cures"):
        parts += ["### Whether the remedies help", cures(results["cures"])]
    return "\n\n".join(parts)


def gate(score: Score) -> str:
    """The two conditions that the clinic must meet on networks it was not tuned on, and what fails them."""
    critical = score.alarms("critical")
    low = [name for name in score.diagnoses if score.recall(name, "clear")[1] and _share(score, name) < 0.9]
    found, of = (sum(score.recall(name, "clear")[place] for name in score.diagnoses) for place in (0, 1))
    return (
        f"Clear doses found, all diagnoses together: {share(found, of)}. Under 0.9: "
        f"{', '.join(f'`{one}`' for one in low) or 'none'}. Critical findings in healthy runs: "
        f"{len({key for _, key in critical})} of {len(score.healthy)}"
        + (f" ({', '.join(f'{name} in {key}' for name, key in critical)})" if critical else "")
        + "."
    )


def _share(score: Score, diagnosis: str) -> float:
    found, of = score.recall(diagnosis, "clear")
    return found / of


def cures(rows: list[dict[str, Any]]) -> str:
    """What the change of a finding's remedy brought back of the last training losses."""
    judged = [row for row in rows if row["recovered"] is not None]
    helped = sum(row["recovered"] >= 0.8 for row in judged)
    second = [row for row in judged if look(int(row["key"].rpartition("/")[2])) == 2]
    lines = [
        "The first seed of every clear disease whose finding has a change that a recipe can say, of the calibration "
        "half and of the second look, trained again with that change: in "
        f"{helped} of {len(judged)} it brought back 80 % or more of what the last training losses had lost against the "
        f"control; at the second look in {sum(row['recovered'] >= 0.8 for row in second)} of {len(second)}.",
        "",
        "| disease, body | change | sick | with the change | control | brought back |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(judged, key=lambda row: row in second):
        _, name, body, _, seed = row["key"].split("/")
        body += ", second look" if look(int(seed)) == 2 else ""
        change = ", ".join(f"{setting} {value}" for setting, value in row["change"].items())
        lines.append(
            f"| {name}, {body} | {change} | {row['sick']:.2f} | {row['cured']:.2f} | {row['control']:.2f} "
            f"| {row['recovered']:.0%} |"
        )
    return "\n".join(lines)


def commands(results: dict[str, Any]) -> str:
    """When, where and with what it was measured."""
    machine, last = results["machine"], results["commands"][-1]
    seeds = ", ".join(f"{kind} {len(results['seeds'][kind])}" for kind in ("controls", "healthy", "sick"))
    return (
        f"{len(results['rows'])} runs; seeds: {seeds}. {machine['processor']}, {machine['threads']} thread, torch "
        f"{machine['torch']}; last judged at commit {last['commit']}."
    )


def first_look(score: Score, before: dict[str, Any]) -> list[str]:
    """What was seen first, and what the diagnoses as they are now say of those runs, which are no longer unseen."""
    found, of = (sum(one[place] for one in before["recall_clear"].values()) for place in (0, 1))
    lines = [
        "| diagnosis | recall, clear dose, as it was seen | as it is now | precision, as it was seen | as it is now |",
        "|---|---|---|---|---|",
    ]
    for name in score.diagnoses:
        lines.append(
            f"| `{name}` | {share(*before['recall_clear'][name])} | {share(*score.recall(name, 'clear'))} "
            f"| {share(*before['precision'][name])} | {share(*score.precision(name))} |"
        )
    return [
        f"{before['held_out_runs']} runs, looked at once, at commit {before['commit']}: of the clear doses "
        f"{share(found, of)} were found; critical findings in {before['critical']} of {before['healthy']} healthy "
        f"runs, warnings or worse in {before['critical_or_warning']}. The diagnoses were changed since, by what the "
        f"calibration half shows; beside it, what they say now of the {len(score.rows)} runs with these seeds.",
        "\n".join(lines),
    ]


def since(score: Score, before: dict[str, Any]) -> str:
    """What was seen at the second look, where the diagnoses as they are now say something else of its runs."""
    found, of = (sum(one[place] for one in before["recall_clear"].values()) for place in (0, 1))
    told = []
    for name in score.diagnoses:
        for what, now in (("recall_clear", score.recall(name, "clear")), ("precision", score.precision(name))):
            if list(now) != before[what][name]:
                told.append(f"{what.split('_')[0]} of `{name}` {share(*before[what][name])}, now {share(*now)}")
    return (
        f"As it was seen, once, at commit {before['commit']}: of the clear doses {share(found, of)} were found; "
        f"critical findings in {before['critical']} of {before['healthy']} healthy runs, warnings or worse in "
        f"{before['critical_or_warning']}. The table is of the diagnoses as they are now; what differs since: "
        f"{'; '.join(told) or 'nothing'}."
    )


def _part(score: Score) -> list[str]:
    sick = [row for row in score.rows if row["kind"] == "sick"]
    bodies = ", ".join(f"`{one}`" for one in dict.fromkeys(row["body"] for row in score.rows))
    said = (
        f"{len(score.rows)} runs of {bodies}: {len(sick)} made sick, {len(score.healthy)} healthy"
        + (f" ({len(score.unwell)} that learned too little to be called so are left out)" if score.unwell else "")
        + "."
    )
    return [said, gate(score), diagnoses(score), false_alarms(score), alarms_by_rule(score), confusion(score)]


def share(found: int, of: int) -> str:
    """A share with its 95 % Wilson interval, and out of how many."""
    if not of:
        return "–"
    low, high = wilson(found, of)
    return f"{found / of:.2f} ({low:.2f}–{high:.2f}, {of})"


def brief(found: int, of: int) -> str:
    """A share."""
    return f"{found / of:.2f}" if of else "–"


def diagnoses(score: Score) -> str:
    """A row a diagnosis: recall by dose, precision, steps, and the rivals' recall at a clear dose / precision."""
    lines = [
        "| diagnosis | recall, clear dose | gross | subclinical | precision | steps to it | listed first | "
        + " | ".join(SPEAKS_OF)
        + " |",
        "|" + "---|" * (7 + len(SPEAKS_OF)),
    ]
    for name in score.diagnoses:
        if not any(score.made(name, dose) for dose in DOSES) and not score.precision(name)[1]:
            continue  # nothing was made sick so, and it was not found
        cells = [
            f"`{name}`",
            share(*score.recall(name, "clear")),
            brief(*score.recall(name, "gross")),
            brief(*score.recall(name, "subclinical")),
            share(*score.precision(name)),
            "–" if score.steps(name) is None else f"{score.steps(name):g}",
            brief(*score.first(name)),
        ]
        for tool in SPEAKS_OF:
            if not speaks(tool, name):
                cells.append("")
                continue
            cells.append(f"{brief(*score.recall(name, 'clear', tool))} / {brief(*score.precision(name, tool))}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def false_alarms(score: Score) -> str:
    """Of 100 healthy runs, how many had an alarm."""
    count = len(score.healthy)

    def per_hundred(found: int) -> str:
        low, high = wilson(found, count)
        return f"{100 * found / count:.1f} ({100 * low:.1f}–{100 * high:.1f})"

    lines = [
        "| of 100 healthy runs | with an alarm |",
        "|---|---|",
        f"| Engram, critical | {per_hundred(score.alarmed(('critical',)))} |",
        f"| Engram, critical or warning | {per_hundred(score.alarmed(('critical', 'warning')))} |",
    ]
    for tool in SPEAKS_OF:
        lines.append(f"| {tool} | {per_hundred(sum(bool(row['rivals'][tool]) for row in score.healthy))} |")
    return "\n".join(lines)


def alarms_by_rule(score: Score) -> str:
    """Which diagnoses and rules the false alarms are of, with how many healthy runs."""
    lines = []
    for severity in ("critical", "warning"):
        names: dict[str, int] = {}
        for name, _ in score.alarms(severity):
            names[name] = names.get(name, 0) + 1
        told = ", ".join(f"`{name}` {count}" for name, count in sorted(names.items(), key=lambda one: -one[1]))
        lines.append(f"- Engram, {severity}: {told or 'none'}")
    for tool in SPEAKS_OF:
        told = ", ".join(f"{rule} {count}" for rule, count in score.rival_alarms(tool).most_common())
        lines.append(f"- {tool}: {told or 'none'}")
    return f"False alarms by rule, in {len(score.healthy)} healthy runs:\n\n" + "\n".join(lines)


def confusion(score: Score) -> str:
    """What else was found where a disease was clear."""
    lines = ["| disease, clear dose | runs | found beside it, warnings and worse |", "|---|---|---|"]
    for name in score.diagnoses:
        count = len(score.own(name, "clear"))
        told = ", ".join(f"`{one}` {times}" for one, times in score.beside(name).most_common(5))
        if count:
            lines.append(f"| `{name}` | {count} | {told or 'nothing'} |")
    return "\n".join(lines)


def diagnoses_known() -> str:
    """A row a registered diagnosis: when it is asked, at which level, and what it says."""
    lines = ["| diagnosis | asked | level | says |", "|---|---|---|---|"]
    entries = [registry.find("diagnosis", name) for name in registry.names("diagnosis")]
    words = {"before": "before training", "during": "while training", "after": "at the end"}

    def asked(entry: registry.Entry) -> list[str]:
        when = entry.facts.get("when", "during")
        return [when] if isinstance(when, str) else list(when)

    for one in sorted(entries, key=lambda entry: (list(words).index(asked(entry)[0]), entry.name)):
        when = " and ".join(words[name] for name in asked(one))
        lines.append(f"| `{one.name}` | {when} | {one.facts.get('level', 'standard')} | {one.summary} |")
    return "\n".join(lines)


def oracles() -> str:
    """A row a disease: what is done, at which doses, and who says that it is there."""
    lines = [
        "| made sick by | to be found as | bodies at first | added to calibrate | fresh at a later look | oracle |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in DISEASES.items():
        oracle = "exact" if one.oracle == "exact" else FIGURES[one.oracle]
        more = ", ".join((*MORE.get(name, ()), *LADDERS.get(name, ())))
        later = [*([FRESH[name]] if name in FRESH else []), *THIRD.get(name, ())]
        fresh = ", ".join(body for body in dict.fromkeys(later) if body not in one.bodies)
        lines.append(f"| {name} | `{one.diagnosis}` | {', '.join(one.bodies)} | {more} | {fresh} | {oracle} |")
    return "\n".join(lines)
