"""`engram train --fix`: something critical was found, so the same run once more with the remedy, and all side by side.

The remedy is that of the first critical finding, causes before their consequences, that a recipe can say. It is said
before the next run begins, with the settings it changes; the runs before and their folders stay as they are. A finding
whose remedy is a change of the network's code or of the data is for a person to read, and nothing is run again.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engram import recipe as recipes
from engram.clinic.finding import Finding
from engram.recipe import Recipe
from engram.report import page
from engram.training.assembled import Progress, silent
from engram.training.session import Run, Sink
from engram.training.train import train

PAGE = "comparison.html"

TIMES = 3
"""Runs again at most: a rate that was a thousand times too high needs three."""


def fix(run: Run, *, sinks: Sequence[Sink] = (), progress: Progress = silent) -> Run | None:
    """Run it again with the remedy of what was found, and again while something critical that has one is found.

    Args:
        run: one that has ended.

    Returns:
        The last run; None where nothing critical was found, or no recipe can say the remedy.

    Raises:
        UserError: the next run cannot be had.
    """

    def tell(lines: list[tuple[str, str]], **more: Any) -> None:
        for sink in sinks:
            sink({"event": "fix", **more, "lines": lines})

    runs = [run]
    while len(runs) <= TIMES:
        found = curable(runs[-1])
        if found is None:
            break
        changed = remedied(recipes.load(runs[-1].folder / "recipe.toml"), found, run.folder)
        lines = [("fix", f"{found.title} is critical; the same run once more: {found.remedy.says}")]
        lines += [("changed", found.remedy.options), ("folder", changed.output)]
        tell(lines, diagnosis=found.diagnosis, change=dict(found.remedy.change))
        runs.append(train(changed, sinks=sinks, progress=progress))
    if len(runs) == 1:
        tell([("fix", _why_not(run))])
        return None
    both = page.write_many([one.folder for one in runs], runs[-1].folder / PAGE)
    tell([*((one.folder.name, _told(one)) for one in runs), ("side by side", str(both))])
    return runs[-1]


def curable(run: Run) -> Finding | None:
    """The first critical finding whose remedy a recipe can say; none of a run that was stopped."""
    critical = (one for one in run.findings if one.severity == "critical" and one.remedy.change)
    return None if run.reason == "interrupted" else next(critical, None)


def remedied(recipe: Recipe, finding: Finding, beside: Path) -> Recipe:
    """The recipe with a finding's remedy laid over it, to be run in a new folder `beside` the first run's.

    >>> from engram.clinic.finding import Remedy
    >>> finding = Finding("lr_too_high", "critical", "", "", Remedy("a tenth", {"optimizer.lr": 0.01}), "", 0.9)
    >>> changed = remedied(Recipe(), finding, Path("runs/first"))
    >>> changed.output, changed.optimizer.settings["lr"]
    ('runs/first-fixed', 0.01)
    """
    changed = recipes.build(dict(finding.remedy.change), recipe, where=f"the remedy of {finding.diagnosis}")
    path, number = beside.with_name(f"{beside.name}-fixed"), 2
    while path.exists():
        path, number = beside.with_name(f"{beside.name}-fixed-{number}"), number + 1
    return replace(changed, output=str(path))


def _why_not(run: Run) -> str:
    critical = [one for one in run.findings if one.severity == "critical"]
    if run.reason == "interrupted":
        return "the run was stopped, so nothing is run again"
    if not critical:
        return "nothing critical was found, so nothing is run again"
    return f"{critical[0].title} is critical, and no setting is its remedy: {critical[0].remedy.says}"


def _told(run: Run) -> str:
    """What it gave, and what is critical in it."""
    shares = [f"{split} accuracy {100 * one['accuracy']:.2f} %" for split, one in run.evaluations.items()]
    critical = [one.title for one in run.findings if one.severity == "critical"]
    return f"{', '.join(shares) or run.reason.replace('_', ' ')}; critical: {', '.join(critical) or 'nothing'}"
