"""The course's published numeric checks: what they are given, what they expect, and how close is close enough."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "reference" / "data" / "cs231n_checks.json"
CHECKS: dict[str, dict[str, Any]] = {check["name"]: check for check in json.loads(FILE.read_text())["checks"]}
WITHOUT_DATA = {name for name, check in CHECKS.items() if check["needs"] == ["none"]}
"""Checks that need no pictures; the others are thresholds on CIFAR-10 and on COCO's features."""

Run = Callable[[dict[str, Any]], None]


def arrays(check: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a check that says them as formulas, in the order in which they are drawn."""
    rng = np.random.RandomState(231)
    names: dict[str, Any] = {"np": np, "randn": rng.randn, "randint": rng.randint, "rand": rng.rand}
    for name, formula in check["inputs"].items():
        if name == "rng":
            continue
        try:
            names[name] = eval(formula.removeprefix("="), dict(names)) if isinstance(formula, str) else formula
        except (NameError, SyntaxError):  # a recipe in words
            names[name] = formula
    return {name: names[name] for name in check["inputs"] if name != "rng"}


def error(found: Any, expected: Any, check: dict[str, Any]) -> float:
    """How far off, by the measure of the check."""
    x, y = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    assert x.shape == y.shape, f"{x.shape} and {y.shape}"
    difference = np.abs(x - y)
    if check["tolerance"]["metric"].startswith("max|x-y|"):
        difference = difference / np.maximum(1e-8, np.abs(x) + np.abs(y))
    return float(np.max(difference))


def agree(found: Any, expected: Any, check: dict[str, Any], what: str = "") -> None:
    """Fail where the two are further apart than the check allows; exact ones may not differ at all."""
    allowed = check["tolerance"].get("max", 0.0)
    off = error(found, expected, check)
    assert off <= allowed, f"{check['name']} {what}: {off:.2e}, allowed {allowed:.0e}"
