"""`engram report`: write a run's page again, or several runs' on one page."""

from pathlib import Path


def report(*runs: Path, to: Path | None = None, surface: float | None = None) -> int:
    """Write the report of a run, or one page that holds several runs side by side.

    Parameters
    ----------
    runs
        Run folders.
    to
        Where the page of several runs is written.
    surface
        Measure the loss surface of each run first, in at most so many seconds: more of them make it finer.
    """
    from engram.errors import UserError
    from engram.report import page

    if not runs:
        raise UserError("no run was given", then="engram report runs/*")
    for run in runs:
        if not (run / "recipe.toml").is_file():
            raise UserError(f"{run} is not a run folder: it holds no recipe.toml", then="ls runs/")
    if surface is not None:
        from engram.training import picturing

        for run in runs:
            picturing.surface_afterwards(run, seconds=surface)
    if len(runs) == 1 and to is None:
        print(page.write(runs[0]))
    else:
        print(page.write_many(list(runs), to or Path("report.html")))
    return 0
