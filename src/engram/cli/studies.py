"""What a person sees of a study: a header, a line for every finished run, the table and the verdicts at the end."""

import json as jsonlib
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engram.cli.console import LABEL, bar, clock, escape

if TYPE_CHECKING:
    from engram.study.plan import Plan
    from engram.study.study import Study

Row = Mapping[str, Any]


class JsonSink:
    """Runs, verdicts and the end as one JSON object a line."""

    def __call__(self, row: Row) -> None:
        if row["event"] == "begun":
            self.say({**row, "plan": None, "path": str(row["path"])})
        elif row["event"] == "ended":
            for one in row["study"].verdicts:
                self.say({"event": "verdict", **_plain(one)})
            self.say({"event": "ended", "path": str(row["study"].path), "complete": row["study"].complete})
        else:
            self.say(row)

    def say(self, row: Row) -> None:
        print(jsonlib.dumps({key: value for key, value in row.items() if value is not None}), flush=True)

    def close(self) -> None:
        """Nothing is left open."""


class ConsoleSink:
    """A study as text; on a terminal with a line that shows how far it is."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self.console = Console(highlight=False, soft_wrap=True)
        self.live = (
            Live(console=self.console, refresh_per_second=4, transient=True) if self.console.is_terminal else None
        )
        self.began = time.monotonic()
        self.runs = self.left = self.done = 0
        self.epochs: dict[tuple[str, int], int] = {}

    def __call__(self, row: Row) -> None:
        match row["event"]:
            case "begun":
                self.begun(row["plan"], row)
            case "epoch":
                self.epochs[row["arm"], row["seed"]] = row["epoch"]
                self.show()
            case "run":
                self.run(row)
            case "ended":
                self.close()
                self.ended(row["study"])

    def begun(self, plan: "Plan", row: Row) -> None:
        from engram import __version__

        self.plan, self.runs, self.left = plan, row["runs"], row["left"]
        self.width = max(len(arm.name) for arm in plan.arms)
        jobs = f"{row['jobs']} at a time" if row["jobs"] > 1 else "one at a time"
        for label, text in (
            ("engram", __version__),
            ("study", f"{len(plan.arms)} arms x {len(plan.seeds)} seeds: {self.runs} runs, {self.left} to do, {jobs}"),
            ("arms", "; ".join(arm.name for arm in plan.arms)),
            ("baseline", plan.baseline),
            ("measure", f"{plan.measure.name} of the {plan.judged} weights"),
            ("equal", plan.equal or "none"),
            ("folder", str(row["path"])),
        ):
            self.say(f"[bold]{label:<{LABEL}}[/bold]{escape(text)}")
        self.say("")
        if self.live is not None and self.left:
            self.live.start()
            self.show()

    def run(self, row: Row) -> None:
        """A line of a run that has ended."""
        from engram.report.words import duration
        from engram.study.verdicts import level

        self.done += 1
        self.epochs.pop((row["arm"], row["seed"]), None)
        value = row.get(self.plan.measure.name)
        if row["status"] == "finished":
            came = f"{self.plan.measure.name} {level(self.plan.measure, value)}   {duration(row['seconds'])}"
        else:
            came = f"{row['status']}: {row['message']}"
        number = f"{self.done:>{len(str(self.left))}}/{self.left}"
        self.say(escape(f"{number}   {row['arm']:<{self.width}}   seed {row['seed']:<4} {came}"))
        self.show()

    def ended(self, study: "Study") -> None:
        """The table, the verdicts, and where they lie."""
        from engram.report.words import duration
        from engram.study.verdicts import level

        measure = study.plan.measure
        self.say("")
        self.say(f"[bold]{'arm':<{self.width}}   runs     mean       95 % interval          sd         time[/bold]")
        for one in study.results:
            times = [row["seconds"] for row in study.tables.runs if row["arm"] == one.arm and row.get("seconds")]
            spread = f"{level(measure, one.mean.low)} – {level(measure, one.mean.high)}" if one.mean.n > 1 else "–"
            sd = f"{100 * one.mean.sd:.2f} pp" if measure.share else f"{one.mean.sd:.3g}"
            mean = level(measure, one.mean.mean)
            time_of = duration(sum(times) / len(times)) if times else "–"
            failed = f"   {len(one.failures)} failed" if one.failures else ""
            self.say(
                escape(
                    f"{one.arm:<{self.width}}   {one.mean.n:<4} {mean:>9}   {spread:>21}   "
                    f"{sd if one.mean.n > 1 else '–':>9}   {time_of:>6}{failed}"
                )
            )
        self.say("")
        for verdict in study.verdicts:
            self.say(escape(verdict.sentence))
        for one in study.results:
            for seed, message in one.failures.items():
                self.say(escape(f"{one.arm}, seed {seed} failed: {message}"), style="yellow")
        self.say("")
        rows = [("folder", str(study.path)), ("table", str(study.path / "table.csv")), ("report", str(study.report))]
        if not study.complete:
            rows.append(("next", f"engram compare {study.path}"))
        for label, text in rows:
            self.say(f"[bold]{label:<{LABEL}}[/bold]{escape(text)}")

    def show(self) -> None:
        """How far it is, which runs go on, and how long it will take."""
        if self.live is None:
            return
        from rich.text import Text

        taken = time.monotonic() - self.began
        left = f"   {clock(taken / self.done * (self.left - self.done))} left" if self.done else ""
        going = ", ".join(f"{arm} {seed}: epoch {epoch}" for (arm, seed), epoch in self.epochs.items())
        line = f"{bar(self.done / max(1, self.left))} {self.done}/{self.left}{left}   {going}"
        self.live.update(Text(line, no_wrap=True, overflow="ellipsis"))

    def say(self, text: str, *, style: str | None = None) -> None:
        self.console.print(text, style=style, markup=True)
        if self.live is None:
            sys.stdout.flush()

    def close(self) -> None:
        """Leave the terminal as it was found."""
        if self.live is not None:
            self.live.stop()


def show_plan(plan: "Plan", jobs: int | None, *, json: bool) -> int:
    """The arms, the runs, what each costs and how long it will take; a few steps of each are timed and thrown away."""
    from engram.report.words import about, duration
    from engram.study import budget, study
    from engram.study import plan as plans
    from engram.study.workers import Workers

    side_by_side = study.jobs_of(plan, jobs)
    with Workers(side_by_side, plan.threads) as workers:
        costs = study.inspect(plan, workers, timed=True)
    settled = budget.settle(plan, costs)
    if settled.equal == "seconds":
        costs = {arm.name: budget.with_epochs(costs[arm.name], arm.settings["epochs"]) for arm in settled.arms}
    expected = budget.seconds(costs, settled) / side_by_side
    if json:
        arms = {
            name: {"visits": one.made, "work": one.work, "steps": one.steps, "seconds": one.seconds}
            for name, one in costs.items()
        }
        told = budget.told(settled, costs)
        row = {"plan": plans.dumps(settled), "arms": arms, "seconds": expected, "given": told}
        print(jsonlib.dumps({key: value for key, value in row.items() if value is not None}))
        return 0
    print(plans.dumps(settled))
    width = max(len(name) for name in costs)
    print(f"{'arm':<{width}}      visits      steps   a run takes   begins as {settled.baseline}")
    for name, one in costs.items():
        same = "yes" if one.initial == costs[settled.baseline].initial else "no"
        print(f"{name:<{width}}  {one.made:>10,} {one.steps:>10,}   {duration(one.seconds):>11}   {same}")
    if told := budget.told(settled, costs):
        print(f"\n{told}")
    print(
        f"\n{len(settled.arms)} arms x {len(settled.seeds)} seeds: {len(settled.arms) * len(settled.seeds)} runs, "
        f"{side_by_side} side by side with {settled.threads} threads each, {about(expected)}"
    )
    return 0


def _plain(verdict: Any) -> dict[str, Any]:
    """A verdict as plain values; what is not known is left out."""
    pair = verdict.paired
    numbers = {
        "difference": pair.mean,
        "low": pair.low,
        "high": pair.high,
        "p": pair.p,
        "p_corrected": verdict.p,
        "p_within": verdict.within,
        "p_no_worse": verdict.above,
        "effect": pair.effect,
        "could_be_seen": verdict.seen,
    }
    known = {key: value for key, value in numbers.items() if value == value}
    text = {"arm": verdict.arm, "baseline": verdict.baseline, "kind": verdict.kind, "sentence": verdict.sentence}
    return {**text, "pairs": pair.n, **known}
