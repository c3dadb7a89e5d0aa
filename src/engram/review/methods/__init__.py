"""Review methods, one file each: our own and those of the literature, found by the registry under their own names."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from engram import registry
from engram.review.method import Method


def build(name: str, settings: Mapping[str, Any] | None = None, *, beside: Iterable[str] = ()) -> Method:
    """The review method of that name.

    Args:
        beside: settings that a person may give with every method, and that are not the method's: see
            `registry.check_settings`.

    Raises:
        UserError: no such method or setting, with the nearest one.

    >>> type(build("shuffle")).__name__
    'Shuffle'
    """
    entry = registry.find("review", name)
    registry.check_settings(entry, settings or {}, beside=beside)
    method = entry.build(**(settings or {}))
    with_defaults = inspect.signature(entry.build).bind(**(settings or {}))
    with_defaults.apply_defaults()
    method.built = {"method": entry.name, **with_defaults.arguments}
    return method
