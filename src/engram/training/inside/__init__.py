"""What a network sees, in pictures that a run keeps for its page: filters, activations, saliency.

    start = inside.first_filters(net)                  # before the first step
    ...
    notes = inside.write(folder, net, start=start, pool=pool, views=views, machine=machine, classes=classes)

One file a kind of picture: `filters.py`, `activations.py`, `saliency.py`; `seen.py` takes examples as the network sees
them, `choice.py` chooses which, `pixels.py` makes small pictures of numbers. A run is worth more than its pictures:
what fails becomes a sentence that `write` returns. Nothing here changes the network or moves a generator on.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from engram.data.pool import Pool
from engram.training.device import Machine
from engram.training.evaluate import Views
from engram.training.inside import activations, choice, filters, saliency
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

    It takes about 1.5 s for ResNet-20 on a CPU core. Of a run on vectors, signals or volumes nothing is written, of a
    perceptron no activations.

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
    notes: list[str] = []
    with _noting("filters", notes):
        (folder / "pictures").mkdir(exist_ok=True)
        filters.write(folder, net, start, seen)
    with _noting("activations and saliency", notes):
        macs = choice.multiply_adds(net, tuple(seen.take(seen.spread(1))[0].shape[1:]))
        looked_at = choice.candidates(seen, macs)
        chosen = choice.choose(net, seen, looked_at)
        with _noting("activations", notes):
            activations.write(folder, net, seen, chosen, looked_at)
        with _noting("saliency", notes):
            notes += saliency.write(folder, net, seen, chosen, macs)
    return notes


@contextmanager
def _noting(what: str, notes: list[str]) -> Iterator[None]:
    """The network is anybody's; whatever it raises costs these pictures and no more."""
    try:
        yield
    except Exception as error:
        notes.append(f"no pictures of {what}: {_line(error)}")


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
