"""The words a person types, `name[:first[:second]][:key=value]`, taken apart and checked.

`crop:4`, `resized_crop:0.35:1`, `crop:4:fill=reflect`, `mine.py:blur:3`. What a number may be, each builder says with
`number`, `choice` and `switch`, so that a message always names the word, what was given and what is allowed.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engram.errors import UserError, nearest

OWN = re.compile(r"(?P<name>.+\.py:[A-Za-z_]\w*)(?::(?P<rest>.*))?")

MEANT = {"true": "true", "yes": "true", "y": "true", "on": "true", "1": "true"} | {
    "false": "false", "no": "false", "n": "false", "off": "false", "0": "false"
}  # fmt: skip
"""What people write for true and false elsewhere: named as the nearest match, and not taken for it."""


@dataclass(frozen=True)
class Word:
    """A word taken apart: `values` are the settings given by position, `settings` those given by name."""

    text: str
    name: str
    values: tuple[Any, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


def split(words: str | Iterable[str]) -> list[str]:
    """The words of a comma list or of a sequence of words; empty ones and `none` say nothing.

    >>> split("crop:4, flip"), split(("none",))
    (['crop:4', 'flip'], [])
    """
    texts = words.split(",") if isinstance(words, str) else [part for word in words for part in word.split(",")]
    return [text.strip() for text in texts if text.strip() not in ("", "none")]


def parse(text: str) -> Word:
    """A word taken apart; whether the name and the settings exist is asked elsewhere.

    Raises:
        UserError: an empty setting, or one by position after one by name.

    >>> parse("resized_crop:0.35:aspect=1.5")
    Word(text='resized_crop:0.35:aspect=1.5', name='resized_crop', values=(0.35,), settings={'aspect': 1.5})
    """
    own = OWN.fullmatch(text)
    if own:
        name, rest = own["name"], own["rest"]
    else:
        name, colon, rest = text.partition(":")
        rest = rest if colon else None
    values: list[Any] = []
    settings: dict[str, Any] = {}
    for part in [] if rest is None else rest.split(":"):
        key, equals, value = part.partition("=")
        if not part or (equals and not (key and value)):
            raise UserError(f"{text!r}: a setting is missing between the colons", allowed="name:4 or name:key=4")
        if equals and key in settings:
            raise UserError(f"{text!r} gives {key!r} twice")
        if equals:
            settings[key] = _literal(value)
        elif settings:
            raise UserError(f"{text!r}: {part!r} comes after a setting given by name", allowed="name:4:key=value")
        else:
            values.append(_literal(part))
    return Word(text, name, tuple(values), settings)


def bind(word: Word, known: Sequence[str], *, then: str | None = None) -> dict[str, Any]:
    """The word's settings by name, given the names it may have in their order.

    Raises:
        UserError: more settings than there are, a name that is not among them, or one given twice.
    """
    allowed = ", ".join(known) or "none"
    if len(word.values) > len(known):
        raise UserError(f"{word.text!r} has more settings than {word.name!r} takes", allowed=allowed, then=then)
    by_position = dict(zip(known, word.values, strict=False))
    for key in word.settings:
        if key not in known:
            raise UserError(
                f"{word.text!r}: {word.name!r} has no setting {key!r}",
                allowed=allowed,
                nearest=nearest(key, known),
                then=then,
            )
        if key in by_position:
            raise UserError(f"{word.text!r} gives {key!r} twice")
    return {**by_position, **word.settings}


def number(
    word: str,
    setting: str,
    value: Any,
    low: float,
    high: float = math.inf,
    *,
    whole: bool = False,
    above: bool = False,
    below: bool = False,
) -> float:
    """The value if it is a number from `low` to `high` (excluded when `above`, `below`), and whole when `whole`.

    Raises:
        UserError: it is not; the message names the word, the setting and the range.
    """
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    fits = fits and low <= value <= high and not (above and value == low) and not (below and value == high)
    if not fits or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        bottom = f"above {low:g}" if above else f"from {low:g}"
        top = "" if high == math.inf else f" up to {high:g}, without {high:g}" if below else f" to {high:g}"
        reach = f"{bottom}{top}" if top or above else f"{low:g} or more"
        raise UserError(f"{word}: {setting} cannot be {value!r}", allowed=f"{kind}, {reach}")
    return int(value) if whole else float(value)


def choice(word: str, setting: str, value: Any, allowed: Sequence[str]) -> str:
    """The value if it is one of the allowed words.

    Raises:
        UserError: it is not; the message names the word, the setting, the choices and the nearest.
    """
    if value not in allowed:
        raise UserError(
            f"{word}: {setting} cannot be {value!r}", allowed=", ".join(allowed), nearest=nearest(str(value), allowed)
        )
    return value


def switch(word: str, setting: str, value: Any, *others: str | None) -> Any:
    """The value if it is true or false, or one of the others: `auto`, none.

    Text is no truth value, not even `False`: every text is true to Python, and what reads as a switch that is off
    would be one that is on.

    Raises:
        UserError: it is not; the message names the word, the setting, what is allowed and the nearest.

    >>> switch("rs2", "replacement", False), switch("forgetting_curve", "suspend", "auto", "auto")
    (False, 'auto')
    """
    if isinstance(value, bool) or (value is None and None in others) or (isinstance(value, str) and value in others):
        return value
    words = ["none" if one is None else one for one in others]
    raise UserError(
        f"{word}: {setting} cannot be {value!r}",
        allowed=f"{', '.join([*words, 'true'])} or false",
        nearest=MEANT.get(str(value).strip().lower()) or nearest(str(value), [*words, "true", "false"]),
    )


def _literal(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
