"""Axes whose ticks are chosen and named: powers of ten far apart, layers by name, moments that are not evenly apart."""

import json
import math
from collections.abc import Sequence
from typing import Any

MOST_DECADES = 6
"""Powers of ten that an axis names; of more, every second one, and so on."""

MOST_TICKS = 10
"""Whole numbers that an axis names."""

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def named(values: Sequence[float], names: Sequence[str]) -> dict[str, Any]:
    """What an axis says of its ticks: where they are, and what stands there.

    >>> named([1, 2], ["a", "b"])["labelExpr"]
    '["a","b"][indexof([1,2],datum.value)]'
    """
    listed, where = (json.dumps(one, separators=(",", ":"), ensure_ascii=False) for one in (list(names), list(values)))
    return {"values": list(values), "labelExpr": f"{listed}[indexof({where},datum.value)]"}


def decades(low: float, high: float) -> dict[str, Any]:
    """The powers of ten between two positive numbers, the outermost included, as the ticks of a logarithmic axis.

    >>> decades(0.05, 30)["labelExpr"]
    '["0.01","0.1","1","10","100"][indexof([0.01,0.1,1,10,100],datum.value)]'
    """
    first, last = reach(low, high)
    step = -(-(last - first + 1) // MOST_DECADES)
    powers = range(first, last + 1, step)
    return named([_power(one) for one in powers], [_told(one) for one in powers])


def whole(low: int | float, high: int | float) -> dict[str, Any]:
    """The whole numbers from low to high, thinned to what an axis holds.

    >>> whole(1, 3), whole(1, 30)["values"]
    ({'values': [1, 2, 3], 'format': 'd'}, [1, 4, 7, 10, 13, 16, 19, 22, 25, 28])
    """
    first, last = round(low), round(high)
    return {"values": list(range(first, last + 1, -(-(last - first + 1) // MOST_TICKS))), "format": "d"}


def domain(low: float, high: float) -> list[float]:
    """From the power of ten below to the one above.

    >>> domain(0.05, 30)
    [0.01, 100]
    """
    return [_power(one) for one in reach(low, high)]


def reach(low: float, high: float) -> tuple[int, int]:
    """The exponents of the power of ten below and of the one above, at least one apart.

    >>> reach(0.05, 30), reach(1, 1)
    ((-2, 2), (0, 1))
    """
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    return first, max(last, first + 1)


def _power(exponent: int) -> float:
    return 10**exponent if exponent >= 0 else float(f"1e{exponent}")


def _told(exponent: int) -> str:
    """A power of ten, written out where it is short.

    >>> _told(-3), _told(-8)
    ('0.001', '10⁻⁸')
    """
    return f"{_power(exponent):g}" if -3 <= exponent <= 4 else f"10{str(exponent).translate(RAISED)}"
