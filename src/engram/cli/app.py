"""The `engram` command: finds the verb, hands it its settings, and turns what cannot be used into a short message."""

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from engram import __version__
from engram.cli import (
    caption,
    compare,
    data,
    doctor,
    evaluate,
    examine,
    predict,
    report,
    resume,
    settings,
    show,
    trace,
    train,
    write,
)
from engram.errors import UserError

app = App(
    name="engram",
    version=__version__,
    help="Trains vision networks, reviews what they forget, and shows why they learn or don't.",
    default_parameter=Parameter(negative=()),
)
for verb in (
    train.train,
    resume.resume,
    compare.compare,
    evaluate.evaluate,
    examine.examine,
    trace.trace,
    predict.predict,
    write.write,
    caption.caption,
    show.show,
    data.data,
    report.report,
    doctor.doctor,
):
    app.command(verb)

TAKES_SETTINGS = {"train": settings.split, "resume": settings.split, "compare": compare.split}
"""Verbs that take settings of a recipe, and how their words are told from those."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process with its exit code: 0 done, 1 the run failed, 2 something given is wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code = dispatch(words)
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # the reader of a pipe has had enough
        # what is left to be written goes nowhere: tried again as the process ends, it would end it with code 120
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def dispatch(words: list[str]) -> int:
    """Parse and call one verb; its exit code."""
    given: dict[str, str] | None = None
    if words and words[0] in TAKES_SETTINGS and not {"--help", "-h"} & set(words):
        words, given = TAKES_SETTINGS[words[0]](words)
    try:
        command, bound, ignored = app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        known = words and words[0] in app
        raise UserError(str(error).strip(), then=f"engram {words[0]} --help" if known else "engram --help") from None
    if "settings" in ignored:
        settings.refuse_unknown(words[0], command, given or {})
        bound.arguments["settings"] = given or {}
    code = int(command(*bound.args, **bound.kwargs) or 0)
    if words and words[0] in TAKES_SETTINGS and given is None:  # help was asked for
        settings.list_all(settings.split(words)[1].get("task", "classify"))
    return code
