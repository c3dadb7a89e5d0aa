"""`engram.study`: arms x seeds, from a plan to tables, verdicts and a page; whatever stops it, it can be gone on with.

studies/<date>-<name>/    study.toml command.txt runs/<arm>-seed<k>/ table.parquet table.csv curves.parquet study.html
"""

import contextlib
import json
import re
import shlex
import signal
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

from engram import atomic
from engram import recipe as recipes
from engram.errors import UserError
from engram.recipe import Recipe
from engram.study import arms as compared
from engram.study import budget, plan, table, verdicts
from engram.study.arms import Arm
from engram.study.budget import Cost
from engram.study.plan import Plan
from engram.study.table import Tables
from engram.study.verdicts import Result, Verdict
from engram.study.workers import Workers
from engram.training.run import RunFolder, unwritable

Sink = Callable[[Mapping[str, Any]], None]
"""Is told of every step of a study as a row with its `event`: checked, begun, epoch, run, ended."""

PLAN = "study.toml"


@dataclass(frozen=True)
class Study:
    """A study's folder, its plan, and what has come out so far."""

    path: Path
    plan: Plan
    tables: Tables

    @property
    def table(self) -> Any:
        """One row a run, as a `pyarrow.Table`."""
        return table.arrow(self.tables.runs)

    @property
    def curves(self) -> Any:
        """One row a run and pass, as a `pyarrow.Table`."""
        return table.arrow(self.tables.curves)

    @property
    def verdicts(self) -> list[Verdict]:
        """Every arm against the baseline."""
        return verdicts.judge(self.plan, self.tables.runs)

    @property
    def results(self) -> list[Result]:
        """Every arm by itself."""
        return verdicts.results(self.plan, self.tables.runs)

    @property
    def report(self) -> Path:
        return self.path / "study.html"

    @property
    def complete(self) -> bool:
        """Whether every run has finished or failed."""
        return all(row["status"] in ("finished", "failed") for row in self.tables.runs)

    def against(self, baseline: str) -> list[Verdict]:
        """The verdicts with another arm as the baseline; corrected for themselves alone."""
        if baseline not in {arm.name for arm in self.plan.arms}:
            raise UserError(f"there is no arm {baseline!r}", allowed=", ".join(arm.name for arm in self.plan.arms))
        return verdicts.judge(self.plan, self.tables.runs, baseline)


def study(
    vary: Mapping[str, Sequence[Any]] | None = None,
    *,
    arms: Mapping[str, Mapping[str, Any]] | Sequence[Arm] = (),
    seeds: int | Sequence[int] = 5,
    equal: str | None = None,
    measure: str = "validation.accuracy",
    judged: str = "final",
    baseline: str | None = None,
    margin: float | None = None,
    target: float | None = None,
    jobs: int | None = None,
    name: str | None = None,
    recipe: Recipe | None = None,
    sinks: Sequence[Sink] = (),
    **settings: Any,
) -> Study:
    """Run every arm with every seed and say what the differences show.

    Args:
        vary: setting -> values; an arm for every combination.
        arms: further arms by name, each with its settings.
        seeds: how many, or which.
        equal: visits, work, steps, seconds or none: what every arm must get as much of (see `budget`). By default it
            is found out and said.
        measure: the figure compared: validation.accuracy, test.loss, ... (`measures.SPLITS`).
        judged: `final` weights, or the `best` ones on validation.
        baseline: the arm that the others are compared with; the first unless given.
        margin: a difference, in units of the measure (0.002 is 0.2 percentage points), too small to matter.
        target: a validation accuracy; the table then says how soon each run got there.
        jobs: runs side by side; by default as many as there are cores, one on an accelerator.
        name: of the folder in `studies/`; `output=` names the whole path.
        settings: of the base recipe, as for `engram.train`.

    Raises:
        UserError: it is no comparison, or something in it cannot be had; nothing was run.
    """
    made = prepare(
        vary, arms=arms, seeds=seeds, equal=equal, measure=measure, judged=judged, baseline=baseline, margin=margin,
        target=target, jobs=jobs, recipe=recipe, **settings,
    )  # fmt: skip
    base = recipes.build(settings, recipe, where="engram.study")
    path = Path(base.output) if base.output else default_path(made, name or name_of(made))
    return begin(made, path, jobs=jobs, sinks=sinks)


def prepare(
    vary: Mapping[str, Sequence[Any]] | None = None,
    *,
    arms: Mapping[str, Mapping[str, Any]] | Sequence[Arm] = (),
    jobs: int | None = None,
    recipe: Recipe | None = None,
    seeds: int | Sequence[int] = 5,
    equal: str | None = None,
    measure: str = "validation.accuracy",
    judged: str = "final",
    baseline: str | None = None,
    margin: float | None = None,
    target: float | None = None,
    **settings: Any,
) -> Plan:
    """The plan of a study; everything that can be refused without reading data is refused here."""
    words, then = recipes.options_of(study), "engram compare --help lists them"
    base = recipes.build(settings, recipe, where="engram.study", own=words, then=then)
    own = compared.named(arms) if isinstance(arms, Mapping) else list(arms)
    made = plan.make(
        base,
        [*compared.combinations(vary or {}), *own],
        seeds=seeds,
        measure=measure,
        judged=judged,
        equal=equal,
        baseline=baseline,
        threads=1,
        margin=margin,
        target=target,
    )
    return replace(made, threads=_threads(base, jobs))


def begin(made: Plan, path: Path, *, jobs: int | None = None, sinks: Sequence[Sink] = ()) -> Study:
    """Check what every arm needs, write the plan, run everything. A folder with this very plan is gone on with.

    Raises:
        UserError: as `study`; or the folder holds something else.
    """
    if (path / PLAN).is_file() and _same_question(plan.load(path / PLAN), made):
        return go_on(path, jobs=jobs, sinks=sinks)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(
            f"{path} is there and holds something else",
            allowed="a new or empty folder",
            then=f"engram compare {shlex.quote(str(path))} goes on with a study",
        )
    with Workers(jobs_of(made, jobs), made.threads) as workers:
        costs = inspect(made, workers, timed=made.equal == "seconds")
        settled = budget.settle(made, costs)
        try:
            path.mkdir(parents=True, exist_ok=True)
            with _held(path):
                atomic.write(path / PLAN, plan.dumps(settled))
                atomic.write(path / "command.txt", shlex.join(sys.argv) + "\n")
                return _run(settled, path, workers, sinks)
        except OSError as error:
            raise unwritable(path, error) from None


def go_on(path: str | Path, *, jobs: int | None = None, sinks: Sequence[Sink] = ()) -> Study:
    """Finish what is left of a study that was begun, and show it: finished runs are kept, begun ones resumed.

    Raises:
        UserError: there is no study there, or it is being run.
    """
    path = Path(path)
    if not (path / PLAN).is_file():
        raise UserError(f"{path} is not a study: it holds no {PLAN}", then="ls studies/")
    made = plan.load(path / PLAN)
    try:
        with _held(path), Workers(jobs_of(made, jobs), made.threads) as workers:
            return _run(made, path, workers, sinks)
    except OSError as error:
        raise unwritable(path, error) from None


def inspect(made: Plan, workers: Workers, *, timed: bool) -> dict[str, Cost]:
    """What every arm costs, by name, found by building each once.

    Raises:
        UserError: an arm cannot be had; the arm is named.
    """
    tasks = [
        {"kind": "inspect", "recipe": recipes.dumps(made.recipe(arm, made.seeds[0])), "timed": timed}
        for arm in made.arms
    ]
    costs = {}
    for number, message in workers.do(tasks):
        arm = made.arms[number].name
        if message["event"] == "done":
            facts = {key: value for key, value in message.items() if key != "event"}
            costs[arm] = Cost(**facts)
        elif message["event"] != "epoch":
            hints = {key: message.get(key) for key in ("allowed", "nearest", "then")}
            raise UserError(f"arm {arm!r}: {message['message']}", **hints)
    return {arm.name: costs[arm.name] for arm in made.arms}  # they come in the order in which they were ready


def default_path(made: Plan, name: str, root: Path = Path("studies")) -> Path:
    """`studies/<date>-<name>`, with a number behind it when that is taken."""
    base = (
        root / f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{re.sub(r'[^A-Za-z0-9_.=+-]+', '-', name).strip('-.') or 'study'}"
    )
    path, number = base, 2
    while path.exists():
        path, number = Path(f"{base}-{number}"), number + 1
    return path


def _run(made: Plan, path: Path, workers: Workers, sinks: Sequence[Sink]) -> Study:
    """Do what is left, then collect; Ctrl-C collects what there is and is raised again."""

    def tell(event: str, **more: Any) -> None:
        for sink in sinks:
            sink({"event": event, **more})

    left = [(arm, seed) for arm, seed in made.runs() if _is_left(made, table.run_path(path, arm, seed))]
    tell("begun", plan=made, path=path, runs=len(made.arms) * len(made.seeds), left=len(left), jobs=workers.jobs)
    try:
        with _terminated():
            while left:
                left = _go_through(made, path, workers, left, tell)
    except KeyboardInterrupt:
        workers.__exit__(None, None, None)
        _finish(made, path, tell)
        raise
    return _finish(made, path, tell)


def _go_through(
    made: Plan, path: Path, workers: Workers, left: Sequence[tuple[Arm, int]], tell: Callable[..., None]
) -> list[tuple[Arm, int]]:
    """Do these runs, keep the messages of those that fail; those that somebody stopped from outside are returned."""
    failures = table.read_failures(path)
    stopped = []
    for number, message in workers.do([_task(made, path, arm, seed) for arm, seed in left]):
        arm, seed = left[number]
        folder = table.run_path(path, arm, seed)
        if message["event"] == "epoch":
            tell("epoch", arm=arm.name, seed=seed, epoch=message["epoch"])
            continue
        if message.get("reason") == "interrupted":
            stopped.append((arm, seed))
            continue
        failures.pop(folder.name, None)
        if message["event"] != "done":
            failures[folder.name] = " ".join(filter(None, (message["message"], message.get("allowed"))))
        atomic.write(path / table.FAILURES, json.dumps(failures, indent=1) + "\n")
        tell("run", arm=arm.name, seed=seed, **table.read_run(made, folder, failures.get(folder.name))[0])
    return stopped


def _finish(made: Plan, path: Path, tell: Callable[..., None]) -> Study:
    """Write the tables and the page of what has come out."""
    from engram.study import page

    done = Study(path, made, table.collect(made, path))
    table.write(path, done.tables)
    atomic.write(done.report, page.render(done))
    tell("ended", study=done)
    return done


def _task(made: Plan, path: Path, arm: Arm, seed: int) -> dict[str, Any]:
    recipe = made.recipe(arm, seed, table.run_path(path, arm, seed))
    return {"kind": "run", "recipe": recipes.dumps(recipe), "judged": made.judged, "test": made.needs_test}


def _is_left(made: Plan, folder: Path) -> bool:
    """What broke down by its own numbers would do so again; what failed otherwise is tried again."""
    return table.status(made, folder) not in ("finished", "failed")


def _threads(base: Recipe, jobs: int | None) -> int:
    """Threads of every run: what the recipe says, else the cores shared by the jobs."""
    from engram.training.threads import available_cores

    if base.device.threads != "auto":
        return int(base.device.threads)
    if jobs is not None:
        _check_jobs(jobs)
    return max(1, available_cores() // (jobs or (1 if _accelerated(base) else available_cores())))


def jobs_of(made: Plan, jobs: int | None) -> int:
    """How many runs go on side by side."""
    from engram.training.threads import available_cores

    if jobs is None:
        jobs = 1 if _accelerated(made.base) else max(1, available_cores() // made.threads)
    _check_jobs(jobs)
    return min(jobs, len(made.arms) * len(made.seeds))


def _check_jobs(jobs: int) -> None:
    if jobs < 1:
        raise UserError(f"{jobs} jobs cannot be", allowed="1 or more")


def _accelerated(base: Recipe) -> bool:
    """Whether the runs share an accelerator, so that side by side they would only wait for one another."""
    if base.device.name in ("auto", "cuda", "mps"):
        from engram.training.device import find_device

        return find_device(base.device.name)[0].type != "cpu"
    return not base.device.name.startswith("cpu")


def _same_question(there: Plan, asked: Plan) -> bool:
    """Whether the plan in a folder is the one that is asked for, before the budget was settled."""

    def plain(one: Plan) -> dict[str, Any]:
        content = tomllib.loads(plan.dumps(replace(one, threads=1)))
        if asked.equal in (None, "seconds"):
            content["equal"] = asked.equal
        if asked.equal == "seconds":
            for arm in content["arms"]:
                arm["settings"].pop("epochs", None)
        return content

    return plain(there) == plain(asked)


def name_of(made: Plan) -> str:
    """What is compared and on what: `optimizer-digits`."""
    settings = dict.fromkeys(setting for arm in made.arms for setting in arm.settings)
    words = [word.removesuffix(".name").rpartition(".")[2] for word in settings]
    return "-".join([*words[:3], Path(made.base.data.path).name])


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """One process at a time runs a study."""
    folder = RunFolder(path)
    folder.lock()
    try:
        yield
    finally:
        folder.release()


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """A request to terminate ends a study as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # signals reach the main thread only
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
