"""Review methods, one file each: our own and those of the literature, found by the registry under their own names."""

import inspect
from collections.abc import Mapping
from typing import Any

from engram import registry
from engram.review.method import Method


def build(name: str, settings: Mapping[str, Any] | None = None) -> Method:
    """The review method of that name.

    Raises:
        UserError: no such method or setting, with the nearest one.

    >>> type(build("shuffle")).__name__
    'Shuffle'
    """
    entry = registry.find("review", name)
    registry.check_settings(entry, settings or {})
    method = entry.build(**(settings or {}))
    with_defaults = inspect.signature(entry.build).bind(**(settings or {}))
    with_defaults.apply_defaults()
    method.built = {"method": entry.name, **with_defaults.arguments}
    return method
