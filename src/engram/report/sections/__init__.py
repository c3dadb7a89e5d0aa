"""The sections of a report, one file each; a new file here is a new section, and there is no list to edit.

A section has `ORDER` (its place, lowest first), `TITLE` (None: it stands without a heading) and
`section(run: Run) -> Markup | None`, None where the run has nothing of the kind.
"""

import importlib
import pkgutil
from functools import cache
from typing import Protocol, cast

from engram.report.markup import Markup
from engram.report.run_folder import Run


class Section(Protocol):
    """What a module of this package offers."""

    __name__: str
    ORDER: int
    TITLE: str | None

    def section(self, run: Run) -> Markup | None: ...


@cache
def found() -> tuple[Section, ...]:
    """All sections in their order.

    >>> found()[0].__name__.rpartition(".")[2]
    'verdict'
    """
    modules = (importlib.import_module(f"{__name__}.{one.name}") for one in pkgutil.iter_modules(__path__))
    return tuple(sorted((cast(Section, module) for module in modules), key=lambda one: (one.ORDER, one.__name__)))
