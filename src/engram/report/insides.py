"""What sections about the inside of a network ask: which moments there are, where they stand, how they are called.

The clinic measures often at first and seldom later; a run has an axis of epochs where it knows how long one is, and of
steps where it does not.
"""

from collections.abc import Sequence

from engram.clinic.arrays import spread
from engram.clinic.measured import Moment
from engram.report.charts import COLOURS
from engram.report.run_folder import Run, finite, text
from engram.report.words import count, number

NAMED = 60
"""Characters of a layer's name that are shown at most; of a longer one its end, which tells it apart."""


def axis(run: Run) -> str:
    """What the time axis counts: `epoch` or `step`."""
    return "epoch" if _steps_per_epoch(run) else "step"


def place(run: Run, step: int) -> float:
    """Where a step lies on the time axis."""
    return step / (_steps_per_epoch(run) or 1)


def when(run: Run, step: int) -> str:
    """A step as a reader says it: `the start`, `epoch 2.5`, `step 40`."""
    if step == 0:
        return "the start"
    at = place(run, step)
    return f"epoch {number(at)}" if axis(run) == "epoch" else f"step {count(at)}"


def some(moments: Sequence[Moment], most: int) -> list[Moment]:
    """At most so many of the moments, the first and the last among them, close together at first."""
    return [moments[one] for one in spread([moment.step for moment in moments], most)]


def shades(amount: int, colour: str = COLOURS[0]) -> list[str]:
    """Colours from pale to full, for what is long ago to what is now, on whatever lies behind.

    >>> shades(1), shades(2)[0]
    (['var(--series-1)'], 'color-mix(in srgb, var(--series-1) 30%, var(--paper))')
    """
    if amount < 2:
        return [colour] * amount
    shares = [30 + 70 * one // (amount - 1) for one in range(amount - 1)]
    return [*(f"color-mix(in srgb, {colour} {share}%, var(--paper))" for share in shares), colour]


def short(name: str) -> str:
    """A layer's name, or its end where it is long.

    >>> short("layer1.0.conv1"), short("a." * 40 + "conv")[:5]
    ('layer1.0.conv1', '….a.a')
    """
    name = text(name, limit=1000)
    return name if len(name) <= NAMED else f"…{name[1 - NAMED :]}"


def quoted(name: str) -> str:
    """A layer's name in a sentence: many are mere numbers."""
    return f"“{short(name)}”"


def _steps_per_epoch(run: Run) -> float | None:
    steps = finite(run.begin.get("steps_per_epoch"))
    return steps if steps and steps > 0 else None
