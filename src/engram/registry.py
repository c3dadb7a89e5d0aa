"""Names a person can type, what each builds, and the facts that belong to it.

A decorator beside the builder is the whole entry: the function's name is the registry key is the command-line word.
The packages are searched when a kind is first asked for, so that a new entry is one new file and no list to edit.
A builder of one's own is named by its file: `mine.py:net`, a function, a class, or a network that is built already.
"""

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar

from engram import switches
from engram.errors import UserError, nearest, unknown

F = TypeVar("F", bound=Callable[..., Any])

HOMES = {
    "model": "engram.models",
    "writer": "engram.models",
    "captioner": "engram.models",
    "optimizer": "engram.optimizers",
    "initializer": "engram.initializers",
    "regularizer": "engram.regularizers",
    "schedule": "engram.schedules",
    "augmentation": "engram.augment",
    "source": "engram.data.sources",
    "memory": "engram.review.memory",
    "review": "engram.review.methods",
    "diagnosis": "engram.clinic.diagnoses",
    "attribution": "engram.attribution",
}


@dataclass(frozen=True)
class Entry:
    """A registered builder and its facts."""

    kind: str
    name: str
    build: Callable[..., Any]
    summary: str
    paper: str
    year: int | None
    facts: Mapping[str, Any] = field(default_factory=dict)


_entries: dict[str, dict[str, Entry]] = {kind: {} for kind in HOMES}
_searched: set[str] = set()


def register(kind: str, *, paper: str = "", year: int | None = None, **facts: Any) -> Callable[[F], F]:
    """Enter the decorated builder under its own name.

    The first line of its docstring is its summary. `paper` is the citation with section, `facts` what belongs to the
    kind: a model's `parameters`, `macs` and `input`, an optimizer's `lr`. `also` are other words that people know it
    by, and that `find` takes.

    Raises:
        ValueError: the name is already taken by another module.
    """

    def enter(build: F) -> F:
        name = build.__name__
        held = _entries[kind].get(name)
        if held is not None and held.build.__module__ != build.__module__:
            raise ValueError(f"{kind} {name!r} is already registered by {held.build.__module__}")
        summary = (inspect.getdoc(build) or "").partition("\n")[0]
        _entries[kind][name] = Entry(kind, name, build, summary, paper, year, MappingProxyType(facts))
        return build

    return enter


def names(kind: str, pattern: str = "*") -> list[str]:
    """Registered names of a kind that match a shell pattern, in natural order (resnet20 before resnet110)."""
    _search(kind)
    return sorted((name for name in _entries[kind] if fnmatch(name, pattern)), key=_natural)


def find(kind: str, name: str) -> Entry:
    """The entry of that name; `path/to/mine.py:net` is a builder in a file of the user's own, or a network in it.

    Raises:
        UserError: no such entry, with the nearest match; or the file or the function in it does not exist.
    """
    name = str(name)  # a setting that names a thing comes from a recipe, where `5` is a number
    if ".py:" in name:
        return _own(kind, name)
    _search(kind)
    entry = _entries[kind].get(name) or _known_as(kind, name)
    if entry is None:
        raise unknown(kind, name, _entries[kind], then=f"engram show {plural(kind)}")
    return entry


def _known_as(kind: str, name: str) -> Entry | None:
    return next((entry for entry in _entries[kind].values() if name in entry.facts.get("also", ())), None)


def plural(kind: str) -> str:
    """The word for many of a kind, as `engram show` takes it.

    >>> plural("model"), plural("memory"), plural("diagnosis")
    ('models', 'memories', 'diagnoses')
    """
    if kind.endswith("sis"):
        return f"{kind[:-3]}ses"
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"


def check_settings(
    entry: Entry, settings: Mapping[str, Any], *, reserved: tuple[str, ...] = (), beside: Iterable[str] = ()
) -> None:
    """Refuse settings that the entry's builder does not take, and switches that are neither true nor false.

    Before anything is built.

    Args:
        reserved: parameters that the caller fills in itself and a person cannot set.
        beside: settings that go with every entry of the kind and that the caller has taken out: a person who mistypes
            one of them is told of it.
    """
    parameters = inspect.signature(entry.build).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    known = [name for name in parameters if name not in reserved]
    for word, value in settings.items():
        if word in known:
            switches.check(f"{entry.kind} {entry.name}", parameters[word], value)
        elif not takes_any:
            allowed = [*known, *beside]
            raise UserError(
                f"{entry.kind} {entry.name!r} has no setting {word!r}",
                allowed=", ".join(allowed) or "none",
                nearest=nearest(word, allowed),
                then=f"engram show {plural(entry.kind)} {entry.name}",
            )


def _search(kind: str) -> None:
    if kind in _searched:
        return
    home = importlib.import_module(HOMES[kind])
    for module in pkgutil.iter_modules(getattr(home, "__path__", [])):
        importlib.import_module(f"{home.__name__}.{module.name}")
    _searched.add(kind)


def _own(kind: str, name: str) -> Entry:
    file, _, function = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UserError(f"{kind} {name!r}: there is no file {file}", then="give it as path/to/file.py:function")
    module = _import_file(path)
    build = getattr(module, function, None)
    if not callable(build):
        own = [word for word, value in vars(module).items() if callable(value) and not word.startswith("_")]
        raise UserError(f"{kind} {name!r}: {file} defines no {function!r}", nearest=nearest(function, own))
    summary = (inspect.getdoc(build) or "").partition("\n")[0]
    if kind == "model" and not isinstance(build, type) and hasattr(build, "named_parameters"):
        made = build  # the file runs anew whenever it is asked for, and so nobody else holds this one

        def build() -> Any:
            return made

        build.__module__, build.__doc__ = module.__name__, inspect.getdoc(made)
    return Entry(kind, name, build, summary, "", None)


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"engram_own_{path.stem}", path.resolve())
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _natural(name: str) -> list[tuple[int, str]]:
    parts: list[tuple[int, str]] = []
    digits = ""
    for character in name + "\0":
        if character.isdigit():
            digits += character
            continue
        if digits:
            parts.append((int(digits), ""))
            digits = ""
        parts.append((-1, character))
    return parts
