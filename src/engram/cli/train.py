"""`engram train`: from a folder of images to a trained network."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from engram import recipe as recipes


def train(
    *,
    recipe: Path | None = None,
    plan: bool = False,
    json: bool = False,
    tensorboard: Path | None = None,
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
    """
    from engram.cli import console, plans
    from engram.training import tensorboard as events
    from engram.training.train import train as start

    complete = recipes.load(recipe) if recipe else recipes.Recipe()
    complete = recipes.build(settings or {}, complete, where="engram train")
    if plan:
        return plans.show(complete, json=json)
    with events.opened(tensorboard) as more, console.open_console(json=json) as sink:
        run = start(complete, sinks=[sink, *more], progress=sink.progress)
    return EXIT_CODES[run.reason]


EXIT_CODES = {"finished": 0, "early_stopping": 0, "interrupted": 130, "not_finite": 1}
