"""A setting that is a switch takes true or false and nothing else, whatever it belongs to.

Text is true in Python, also `no`: a switch that is not checked runs inverted, and the run that was meant to be the
control is the other one again. What is a switch, the builder's signature says: an annotation of `bool` (or of `bool`
and none), or where there is no annotation, as in a file of one's own, a default of True or False.
"""

import inspect
import typing
from types import NoneType, UnionType
from typing import Any

from engram.grammar import MEANT, switch


def check(word: str, parameter: inspect.Parameter, value: Any) -> None:
    """Refuse a value that is neither true nor false where the parameter is a switch.

    A switch that knows words too (`bool | str`) is checked by its builder, which alone knows the words.

    Raises:
        UserError: it is not; the message names the word, the setting, what is allowed and the nearest.
    """
    options = _options(parameter.annotation)
    if options == {bool}:
        switch(word, parameter.name, value)
    elif options == {bool, NoneType}:
        switch(word, parameter.name, value, None)
    elif not options and isinstance(parameter.default, bool) and str(value).lower() in MEANT:
        switch(word, parameter.name, value)  # a default of False may stand for "none of these words" too


def _options(annotation: Any) -> set[Any]:
    """The types that an annotation allows; none where there is no annotation."""
    if annotation is inspect.Parameter.empty:
        return set()
    if isinstance(annotation, str):  # of a file that begins with `from __future__ import annotations`
        named = {"bool": bool, "None": NoneType}
        return {named.get(part.strip(), part.strip()) for part in annotation.split("|")}
    united = isinstance(annotation, UnionType) or typing.get_origin(annotation) is typing.Union
    return set(typing.get_args(annotation)) if united else {annotation}
