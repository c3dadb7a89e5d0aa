"""Numbers as a person reads them: shares, times, counts, and how sure an accuracy is."""

import math
from collections.abc import Sequence

NARROW = "\u202f"
"""Narrow space that does not break, between a number and its unit."""


def percent(share: float | None, digits: int = 1) -> str:
    """A share in hundredths, a dash where it is not known.

    >>> percent(0.9671), percent(None)
    ('96.7\\u202f%', '–')
    """
    return "–" if share is None else f"{100 * share:.{digits}f}{NARROW}%"


def count(number: float | None) -> str:
    """A whole number with its thousands apart.

    >>> count(1797)
    '1,797'
    """
    return "–" if number is None else f"{number:,.0f}"


def number(value: float | None, digits: int = 3) -> str:
    """A measured value to so many significant digits, without an exponent where it is readable without.

    >>> [number(value) for value in (0.034567, 1234.5, 2.5e-7, 0)]
    ['0.0346', '1,234', '2.5e-07', '0']
    """
    if value is None:
        return "–"
    if value == 0 or not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{digits}g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    shown = f"{value:,.{decimals}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def big(value: float | None, unit: str = "") -> str:
    """A large number with its thousands prefix.

    >>> big(272474), big(41_200_000, "FLOP"), big(810)
    ('272\\u202fk', '41.2\\u202fMFLOP', '810')
    """
    if value is None:
        return "–"
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{number(value / size)}{NARROW}{prefix}{unit}"
    return f"{number(value)}{NARROW if unit else ''}{unit}"


def duration(seconds: float | None) -> str:
    """A time in at most two units.

    >>> [duration(seconds) for seconds in (0.42, 42.3, 200, 7500, 200_000)]
    ['0.4 s', '42 s', '3 min 20 s', '2 h 5 min', '2 d 7 h']
    """
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, name, below, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name}" + (f" {rest} {lower}" if rest else "")
    return f"{whole} s"


def about(seconds: float) -> str:
    """A time left, no more exact than it is known.

    >>> [about(seconds) for seconds in (4, 48, 170, 5000)]
    ['a few seconds', 'about 50 s', 'about 3 min', 'about 1 h 23 min']
    """
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"about {math.ceil(seconds / 10) * 10} s"
    return f"about {duration(round(seconds / 60) * 60)}"


def plural(amount: float, singular: str, many: str | None = None) -> str:
    """An amount with its noun.

    >>> plural(1, "epoch"), plural(2, "class", "classes"), plural(0.5, "epoch")
    ('1 epoch', '2 classes', '0.5 epochs')
    """
    shown = f"{amount:,.0f}" if float(amount).is_integer() else number(amount)
    return f"{shown} {singular if amount == 1 else many or singular + 's'}"


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def interval(share: float, examples: int) -> tuple[float, float]:
    """Bounds between which the true share lies with 95 % confidence: Wilson, 1927, the score interval.

    >>> low, high = interval(0.9, 100)
    >>> round(low, 3), round(high, 3)
    (0.826, 0.945)
    """
    if examples <= 0:
        return 0.0, 1.0
    z = 1.959964
    centre = (share + z * z / (2 * examples)) / (1 + z * z / examples)
    half = z / (1 + z * z / examples) * math.sqrt(share * (1 - share) / examples + z * z / (4 * examples * examples))
    return max(0.0, centre - half), min(1.0, centre + half)
