"""What a network sees, in pictures that a run keeps for its page: filters, activations, saliency.

    start = inside.first_filters(net)                  # before the first step
    ...
    notes = inside.write(folder, net, start=start, pool=pool, views=views, machine=machine, classes=classes)

One file a kind of picture: `filters.py`, `activations.py`, `saliency.py`; `seen.py` takes examples as the network sees
them, `survey.py` finds its layers, `pixels.py` makes small pictures of numbers. A run is worth more than its pictures:
what fails becomes a sentence that `write` returns. Nothing here changes the network or moves a generator on.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from engram.data.pool import Pool
from engram.training.device import Machine
from engram.training.evaluate import Views
from engram.training.inside import filters
from engram.training.inside.filters import Filters, first_filters
from engram.training.inside.seen import Seen

__all__ = ["Filters", "first_filters", "write"]


def write(
    folder: Path,
    net: nn.Module,
    *,
    start: Filters | None,
    pool: Pool,
    views: Views,
    machine: Machine,
    classes: Sequence[str],
    indices: Sequence[int] | None = None,
) -> list[str]:
    """Write `pictures/filters.npz`, `activations.npz` and `saliency.npz` of a run on pictures: under 400 kB together.

    Of a run on vectors, signals or volumes, nothing is written.

    Args:
        folder: the run folder.
        net: on the machine's device; it is left as it was, in every respect.
        start: what `first_filters` gave before the first step; None where a run was not seen from its start.
        pool: where examples are taken from: those of validation, or of training.
        views: as evaluation has them; the middle of a picture is taken.
        classes: their names.
        indices: examples to choose from; by default some that are spread evenly over the pool.

    Returns:
        A sentence for everything that could not be made.
    """
    if len(pool.shape) != 3:
        return []
    seen = Seen(pool, views, machine, tuple(classes), None if indices is None else tuple(indices))
    parts: dict[str, Callable[[], Any]] = {"filters": lambda: filters.write(folder, net, start, seen)}
    notes = []
    for name, make in parts.items():
        try:
            (folder / "pictures").mkdir(exist_ok=True)
            make()
        except Exception as error:  # the network is anybody's; whatever it raises costs these pictures and no more
            notes.append(f"no pictures of {name}: {_line(error)}")
    return notes


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
