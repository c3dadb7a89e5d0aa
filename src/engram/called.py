"""Packages that can be called: `engram.study(...)`, `engram.trace(...)`, beside what they hold.

The function is imported when the package is called or somebody asks what it takes (`help`, `inspect.signature`), and
not before. A package names it, `CALLED = "engram.study.study:study"`, and makes itself one of these:
`sys.modules[__name__].__class__ = CalledPackage`.
"""

import inspect
import textwrap
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any


def function_of(package: ModuleType) -> Callable[..., Any]:
    """What a package that can be called calls."""
    module, _, name = vars(package)["CALLED"].partition(":")
    return getattr(import_module(module), name)


class CalledPackage(ModuleType):  # without a docstring: that of the package stands in its place
    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        return function_of(self)(*arguments, **settings)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(function_of(self))

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        """What the package says of itself, then how it is called: of a package `help` shows nothing else.

        Without the examples that tests run, which are the function's.
        """
        called = textwrap.wrap(f"{self.__name__}{self.__signature__}", 110, subsequent_indent="    ")
        paragraphs = (inspect.getdoc(function_of(self)) or "").split("\n\n")
        about = [textwrap.indent(one, "    ") for one in paragraphs if not one.lstrip().startswith(">>> ")]
        return "\n\n".join([(vars(self)["__doc__"] or "").rstrip(), "\n".join(called), *about]) + "\n"
