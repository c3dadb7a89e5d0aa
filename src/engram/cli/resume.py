"""`engram resume`: go on with a run that was stopped, however it was stopped."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter


def resume(
    run: Path,
    /,
    *,
    json: bool = False,
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
    """
    from engram.cli import console
    from engram.cli.train import EXIT_CODES
    from engram.training.train import resume as go_on

    with console.open_console(json=json) as sink:
        given: dict[str, Any] = dict(settings or {})
        ended = go_on(run, sinks=[sink], progress=sink.progress, **given)
    return EXIT_CODES[ended.reason]
