"""`engram resume`: go on with a run that was stopped, however it was stopped."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter


def resume(
    run: Path,
    /,
    *,
    json: bool = False,
    tensorboard: Path | None = None,
    settings: Annotated[dict[str, str] | None, Parameter(parse=False)] = None,
) -> int:
    """Go on with a run from its last saved state, exactly as if it had never stopped.

    Settings that lengthen the run or change how it is computed may be given: --epochs, --optimizer.lr and the like.

    Parameters
    ----------
    run
        The run's folder.
    json
        One JSON object a line instead of text, for machines.
    tensorboard
        The folder of TensorBoard's event files that was given to `engram train`: its curves go on.
    """
    from engram.cli import console
    from engram.cli.train import EXIT_CODES
    from engram.training import tensorboard as events
    from engram.training.train import resume as go_on

    with events.opened(tensorboard) as more, console.open_console(json=json) as sink:
        given: dict[str, Any] = dict(settings or {})
        ended = go_on(run, sinks=[sink, *more], progress=sink.progress, **given)
    return EXIT_CODES[ended.reason]
