"""`probes/cells.npz` and `cells.json`: what the cells of a network that writes follow, read without trusting them.

`engram.recurrence.look` writes them and says what they hold.
"""

import json
from pathlib import Path
from typing import Any

from engram.errors import UserError
from engram.report.checked_arrays import checked, load

LARGEST = 16_384
SHOWN, PASSAGE = 32, 4_000

ARRAYS = {
    "bits": "number FLH",
    "meaningful": "flag FLH",
    "learned": "flag FLH",
    "gate": "text G",
    "shut": "number GLH",
    "open": "number GLH",
    "values": "whole KP",
}
TOLD = {
    "step": int, "kind": str, "layers": int, "units": int, "read": int, "alarms": float, "shifts": int, "draws": int,
    "cells": int, "meaningful": int, "learned": int, "readable": int, "features": list, "shown": list, "passage": list,
}  # fmt: skip
FEATURE = {
    "name": str, "entropy": float, "threshold": float, "untrained": float, "largest": float, "meaningful": int,
    "learned": int,
}  # fmt: skip
"""And `best`, the cell that knows most of it, or null."""
CELL = {
    "layer": int, "unit": int, "feature": str, "bits": float, "share": float, "sign": float, "learned": bool,
    "profile": list,
}  # fmt: skip
QUIET = {"layer": int, "unit": int}
"""A cell that follows nothing; its `feature` is null."""


def read(path: Path) -> dict[str, Any]:
    """Both files together: the arrays of `cells.npz` by name, and what `cells.json` holds as `told`.

    Args:
        path: of `cells.npz`.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: one of them cannot be read, or they do not belong together.
    """
    arrays = checked(path, load(path), ARRAYS, largest=LARGEST, may_be_empty="GF")
    name = path.with_suffix(".json")
    try:
        told = json.loads(name.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{name.name} could not be read: {error}") from None
    if not _has(told, TOLD) or not _fits(told, arrays):
        raise UserError(f"{name.name} could not be read: it is of another form, or of another {path.name}")
    return {**arrays, "told": told}


def _fits(told: dict[str, Any], arrays: dict[str, Any]) -> bool:
    features, shown, passage = told["features"], told["shown"], told["passage"]
    whole = all(_has(one, FEATURE) and _is_best(one.get("best")) for one in features) and all(
        isinstance(one, str) for one in passage
    )
    cells = all(_has(one, QUIET if isinstance(one, dict) and one.get("feature") is None else CELL) for one in shown)
    if not whole or not cells:
        return False
    layers, units = arrays["bits"].shape[1:]
    inside = all(0 <= one["layer"] < layers and 0 <= one["unit"] < units for one in shown)
    profiles = all(_is_profile(one["profile"]) for one in shown if one["feature"] is not None)
    sizes = (len(features), told["layers"], told["units"]) == arrays["bits"].shape
    drawn = arrays["values"].shape == (len(shown), len(passage)) and len(shown) <= SHOWN and len(passage) <= PASSAGE
    return inside and profiles and sizes and drawn


def _is_best(cell: Any) -> bool:
    """A cell, or none: nothing follows the feature."""
    return cell is None or (_has(cell, CELL) and _is_profile(cell["profile"]))


def _has(value: Any, form: dict[str, type]) -> bool:
    """Whether it holds what the form names; a whole number is a number too."""

    def right(given: Any, kind: type) -> bool:
        if kind is float:
            return isinstance(given, int | float) and not isinstance(given, bool) and abs(given) < float("inf")
        return isinstance(given, kind) and (kind is bool or not isinstance(given, bool))

    return isinstance(value, dict) and all(name in value and right(value[name], kind) for name, kind in form.items())


def _is_profile(rows: Any) -> bool:
    pairs = isinstance(rows, list) and all(isinstance(row, list) and len(row) == 2 for row in rows)
    return pairs and all(isinstance(one, int | float) and abs(one) < float("inf") for row in rows for one in row)
