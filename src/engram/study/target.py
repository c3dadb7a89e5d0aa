"""How soon an arm gets to a wanted accuracy: visits and seconds, and how many seeds never did.

A run that never got there has no time, and is not left out: it counts as later than all (a censored value), so that
the median is one of all seeds, and is not known where half of them or more never got there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Reached:
    """Of `runs` finished runs `reached` got there; median, earliest and latest of what it took, None where unknown."""

    arm: str
    runs: int
    reached: int
    middle: float | None
    earliest: float | None
    latest: float | None


def reached(rows: Sequence[Mapping[str, Any]], arm: str, unit: str) -> Reached:
    """How soon the runs of an arm got to the target.

    Args:
        unit: visits or seconds.

    >>> rows = [{"arm": "a", "status": "finished", "visits_to_target": v} for v in (100, 300, None)]
    >>> reached(rows, "a", "visits")
    Reached(arm='a', runs=3, reached=2, middle=300, earliest=100, latest=None)
    """
    taken = [row[f"{unit}_to_target"] for row in rows if row["arm"] == arm and row["status"] == "finished"]
    known = [math.inf if one is None else one for one in taken]
    within = [one for one in known if one < math.inf]

    def finite(value: float) -> float | None:
        return value if value < math.inf else None

    if not known:
        return Reached(arm, 0, 0, None, None, None)
    return Reached(arm, len(known), len(within), finite(median(known)), finite(min(known)), finite(max(known)))
