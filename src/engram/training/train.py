"""Run a recipe: assemble it, follow the loop's events, save, evaluate, report. `engram.train` and `engram resume`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engram import recipe as recipes
from engram.errors import UserError
from engram.recipe import Recipe
from engram.training import trackio
from engram.training.assemble import assemble
from engram.training.assembled import Progress, silent
from engram.training.run import RunFolder, default_path
from engram.training.session import Run, Session, Sink

CHANGEABLE_ON_RESUME = ("training", "device", "optimizer", "schedule")
FIXED_ON_RESUME = (
    "task", "seed", "augment", "views", "initializer", "regularizer", "auxiliary", "weights", "data", "text", "model",
    "review",
)  # fmt: skip


def train(
    recipe: Recipe | None = None,
    *,
    sinks: Sequence[Sink] = (),
    progress: Progress = silent,
    session: Callable[..., Session] = Session,
    **settings: Any,
) -> Run:
    """Train what the recipe says and leave a run folder. Settings are laid over the recipe, as on the command line.

    Args:
        session: what follows the run; a study's draws no pages.

    Raises:
        UserError: something in the recipe cannot be had, or the folder cannot be written; nothing was trained.

    >>> import tempfile
    >>> run = train(model="mlp", epochs=1, output=tempfile.mkdtemp(), device={"threads": 1})
    >>> run.reason, sorted(run.evaluations)
    ('finished', ['test', 'validation'])
    """
    complete = recipes.build(settings, recipe, where="engram.train", own=recipes.options_of(train))
    assembled_path = Path(complete.output) if complete.output else default_path(complete)
    complete = replace(complete, output=str(assembled_path))
    with RunFolder.create(assembled_path, complete) as folder:
        try:
            assembled = assemble(complete, progress)
        except BaseException:
            folder.discard()
            raise
        return session(assembled, folder, (*sinks, trackio.alert), progress).run()


def resume(
    path: str | Path,
    *,
    sinks: Sequence[Sink] = (),
    progress: Progress = silent,
    session: Callable[..., Session] = Session,
    **settings: Any,
) -> Run:
    """Go on with a run from its last saved state, bit for bit as if it had never stopped (on the CPU).

    Settings may lengthen it or change how it is computed; what it is trained on and which network it is stay.

    Raises:
        UserError: no run there, it is in use, its state is damaged, or a setting that cannot change is given.
    """
    path = Path(path)
    with RunFolder.open(path) as folder:
        first = recipes.load(path / "recipe.toml")
        own, then = recipes.options_of(resume), "engram resume --help lists them"
        complete = recipes.build(settings, first, where="engram resume", own=own, then=then)
        complete = replace(complete, output=str(path))
        for section in FIXED_ON_RESUME:
            if getattr(complete, section) != getattr(first, section):
                raise UserError(
                    f"{section} cannot change when a run is resumed",
                    allowed=", ".join(CHANGEABLE_ON_RESUME),
                    then="engram train starts a new run",
                )
        if not (path / "state" / "last.pt").is_file():
            raise UserError(
                f"{path} was stopped before its first state was saved",
                then=f"engram train --recipe {path}/recipe.toml --output runs/again",
            )
        following = session(assemble(complete, progress, resuming=True), folder, (*sinks, trackio.alert), progress)
        following.restore()
        folder.go_on(complete)
        return following.run()
