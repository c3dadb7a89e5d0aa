"""What is compared: arms, each a name and the settings that it lays over the base recipe.

--vary optimizer=sgd,adam --vary epochs=5,10      every combination: four arms
--vary "augment=crop:4,flip;none"                 values that hold commas are set apart by semicolons
--arm "short: epochs=5 optimizer.lr=0.2"          one arm of several settings, with a name of its own
"""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from engram.errors import UserError
from engram.recipe import KEYS_OF_CHOICE, Choice

FIXED = {
    "seed": "--seeds says with which seeds every arm is run",
    "output": "every run has its own folder in the study's",
    "device.threads": "every run computes with the same number of threads",
}
"""Settings that the study itself decides, and why."""


@dataclass(frozen=True)
class Arm:
    """A name and its settings, dotted: {"optimizer.name": "adam", "epochs": 5}."""

    name: str
    settings: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """The name as a folder can have it."""
        return re.sub(r"[^\w.=+-]+", "-", self.name).strip("-.") or "arm"


def combinations(vary: Mapping[str, Sequence[Any]]) -> list[Arm]:
    """An arm for every combination of values, the last setting changing fastest.

    >>> [arm.name for arm in combinations({"optimizer": ["sgd", "adam"], "training.epochs": [5]})]
    ['sgd, epochs=5', 'adam, epochs=5']
    """
    for word, values in vary.items():
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise UserError(f"{word} is varied over a list of values, not {values!r}", then=f"vary={{{word!r}: [...]}}")
        if not values:
            raise UserError(f"{word} is varied over no values", then=f"--vary {word}=ONE,OTHER")
    if not vary:
        return []
    return [
        Arm(", ".join(_named(word, value) for word, value in zip(vary, values, strict=True)), _flat(vary, values))
        for values in product(*vary.values())
    ]


def named(arms: Mapping[str, Mapping[str, Any]]) -> list[Arm]:
    """Arms that were given by name.

    >>> named({"short": {"epochs": 5, "optimizer": {"name": "sgd", "lr": 0.2}}})[0].settings
    {'epochs': 5, 'optimizer.name': 'sgd', 'optimizer.lr': 0.2}
    """
    return [Arm(name, _flat(settings, settings.values())) for name, settings in arms.items()]


def parse_vary(words: Iterable[str]) -> dict[str, list[str]]:
    """`optimizer=sgd,adam` as {"optimizer": ["sgd", "adam"]}.

    Raises:
        UserError: no `=`, no value, or a setting that is varied twice.
    """
    found: dict[str, list[str]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        if not equals or not name.strip():
            raise UserError(f"--vary {word!r} names no values", then="--vary optimizer=sgd,adam")
        name = name.strip().removeprefix("--")
        if name in found:
            raise UserError(f"{name} is varied twice", then=f"--vary {name}={','.join(found[name])},{values}")
        found[name] = [value.strip() for value in values.split(";" if ";" in values else ",") if value.strip()]
    return found


def parse_arms(words: Iterable[str]) -> list[Arm]:
    """`short: epochs=5 optimizer.lr=0.2` as an arm.

    >>> parse_arms(["short: epochs=5 optimizer.lr=0.2"])
    [Arm(name='short', settings={'epochs': '5', 'optimizer.lr': '0.2'})]

    Raises:
        UserError: no name, or something that is not setting=value.
    """
    arms = []
    for word in words:
        name, colon, rest = word.partition(":")
        if not colon or not name.strip() or "=" in name:
            raise UserError(f"--arm {word!r} has no name", then='--arm "short: epochs=5 optimizer.lr=0.2"')
        settings: dict[str, Any] = {}
        for part in shlex.split(rest):
            setting, equals, value = part.removeprefix("--").partition("=")
            if not equals or not setting:
                raise UserError(f"--arm {name.strip()}: {part!r} is not setting=value")
            settings[setting] = value
        arms.append(Arm(name.strip(), settings))
    return arms


def check(arms: Sequence[Arm]) -> None:
    """Refuse what is no comparison: fewer than two arms, a name twice, a setting that the study decides.

    Raises:
        UserError: as said.
    """
    if len(arms) < 2:
        raise UserError(f"a study compares two arms or more, not {len(arms)}", then="--vary optimizer=sgd,adam")
    folders: dict[str, str] = {}
    for arm in arms:
        if arm.folder.lower() in folders:
            other = folders[arm.folder.lower()]
            twice = (
                f"arm {arm.name!r} is there twice" if other == arm.name else f"{other!r} and {arm.name!r} read alike"
            )
            raise UserError(twice, then='--arm "NAME: ..." gives an arm a name of its own')
        folders[arm.folder.lower()] = arm.name
        for setting in arm.settings:
            if setting in FIXED:
                raise UserError(f"arm {arm.name!r}: {setting} cannot differ between arms", allowed=FIXED[setting])


def _named(word: str, value: Any) -> str:
    """How a value reads in an arm's name: what chooses by name stands alone."""
    if isinstance(value, Choice):
        value = {"name": value.name, **value.settings}
    if isinstance(value, Mapping):
        rest = [f"{key}={_text(one)}" for key, one in value.items() if key != "name"]
        return " ".join([str(value.get("name", word)), *rest])
    section, _, rest = word.partition(".")
    if section in KEYS_OF_CHOICE and rest in ("", KEYS_OF_CHOICE[section]):
        return _text(value)
    return f"{rest or section}={_text(value)}"


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _flat(names: Iterable[str], values: Iterable[Any]) -> dict[str, Any]:
    """Settings with dotted names, whatever form they were given in."""
    found: dict[str, Any] = {}
    for name, value in zip(names, values, strict=True):
        if isinstance(value, Choice):
            value = {"name": value.name, **value.settings}
        if isinstance(value, Mapping):
            found |= {f"{name}.{key}": one for key, one in value.items()}
        else:
            found[name] = value
    return found
