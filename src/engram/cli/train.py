"""`engram train`: from a folder of images to a trained network."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from engram import recipe as recipes
from engram.errors import UserError


def train(
    *,
    recipe: Path | None = None,
    plan: bool = False,
    json: bool = False,
    tensorboard: Path | None = None,
    fix: bool = False,
    settings: Annotated[dict[str, str] | None, Parameter(parse=False)] = None,
) -> int:
    """Train a network. Without anything else: the embedded handwritten digits, in under a minute.

    Parameters
    ----------
    recipe
        A TOML file with settings; those on the command line come over it.
    plan
        Print the complete recipe, what it costs and every choice with its reason, and stop.
    json
        One JSON object a line instead of text, for machines.
    tensorboard
        A folder for TensorBoard's event files, in which this run gets one of its own.
    fix
        When something critical was found, run the same once more with its remedy, and show both side by side.
    """
    from engram.cli import console, plans
    from engram.training import fix as remedies
    from engram.training import tensorboard as events
    from engram.training.train import train as start

    complete = recipes.load(recipe) if recipe else recipes.Recipe()
    complete = recipes.build(settings or {}, complete, where="engram train")
    if fix and complete.training.clinic == "none":
        raise UserError("--fix needs the clinic, and the recipe says clinic none", then="--clinic standard")
    if plan:
        return plans.show(complete, json=json)
    with events.opened(tensorboard) as more, console.open_console(json=json) as sink:
        run = start(complete, sinks=[sink, *more], progress=sink.progress)
        if fix:
            run = remedies.fix(run, sinks=[sink], progress=sink.progress) or run
    return EXIT_CODES[run.reason]


EXIT_CODES = {"finished": 0, "early_stopping": 0, "interrupted": 130, "not_finite": 1}
