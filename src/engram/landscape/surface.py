"""The loss over a plane of weights, on examples that stay the same, within a time that is given.

Every point is one forward pass over all the examples together. Dropout is off; batch norm takes the statistics of these
examples at that very point, as its running statistics belong to another point; nothing else is random. The network, its
buffers and all generators are afterwards what they were, bit for bit.

One evaluation is timed first; from it follow the finest odd grid from 9 x 9 to 25 x 25 that fits the time, and what is
left buys more examples, from 128 up to 512. A grid costs 2 k² + 2 n evaluations: two planes, and of each of the n
snapshots the true loss and the loss where it falls on the plane; in a hurry, the random plane is left out.

Goodfellow et al. 2015, arXiv:1412.6544; Li et al. 2018, arXiv:1712.09913, sections 4 and 7.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from engram import atomic
from engram.clinic.subject import Loss, cross_entropy
from engram.clinic.untouched import untouched
from engram.errors import UserError
from engram.landscape.plane import Plane, Principal, principal, random_plane
from engram.landscape.trajectory import Trajectory

SIZES = range(25, 7, -2)
"""Points along a side of the grid, the finest first."""
EXAMPLES = (512, 256, 128)
"""How many examples are seen, the most first."""
LARGEST = 20_000_000
"""Numbers in the inputs of all examples together: larger pictures are fewer, since all go through at once."""
MARGIN = 0.15
"""Of the path's extent that is drawn beyond it on each side."""
NARROWEST = 0.25
"""Of the wider side, that the narrower side of the drawn plane has at least."""
CAREFUL = 0.75
"""Share of the time that is planned for; machines are not always as fast as when they were timed."""

NORMS = ("none", "batch", "running")
"""What batch norm takes, as `batch_norm` numbers it: there is none; the statistics of the examples at the point; its
running statistics, where the layers are frozen or synchronised over processes."""


@dataclass(frozen=True)
class Surface:
    """The loss over part of a plane: `losses[j, i]` at `a[i]` along its first and `b[j]` along its second direction.

    Where the loss is infinite or not a number it stays so.
    """

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    losses: NDArray[np.float32]


@dataclass(frozen=True)
class Landscape:
    """A path on its plane, and a random plane about its end.

    Args:
        principal: the plane of the path, and how much of the path it holds.
        surface: the loss over it.
        true: (n,) the loss of every snapshot.
        drawn: (n,) the loss of the plane where each snapshot falls on it.
        random: the loss over a filter-normalised random plane; None where the time did not suffice.
        examples: how many the loss was taken over.
        batch_norm: one of `NORMS`.
    """

    principal: Principal
    surface: Surface
    true: NDArray[np.float32]
    drawn: NDArray[np.float32]
    random: Surface | None
    examples: int
    batch_norm: str

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything but the planes' directions, by name, as it is written to a file."""
        found = {
            "a": self.surface.a,
            "b": self.surface.b,
            "losses": self.surface.losses,
            "steps": np.array(self.principal.steps, np.int64),
            "path": self.principal.coordinates.numpy().astype(np.float32),
            "off_plane": self.principal.off_plane.numpy().astype(np.float32),
            "explained": self.principal.explained.numpy().astype(np.float32),
            "true": self.true,
            "drawn": self.drawn,
            "examples": np.array(self.examples, np.int64),
            "batch_norm": np.array(NORMS.index(self.batch_norm), np.int64),
        }
        if self.random is not None:
            found |= {"random_a": self.random.a, "random_b": self.random.b, "random_losses": self.random.losses}
        return found


class _OutOfTime(Exception):
    pass


def on_plane(
    net: nn.Module, plane: Plane, a: Any, b: Any, x: Tensor, y: Tensor, *, loss: Loss = cross_entropy
) -> Surface:
    """The loss at every a along the plane's first direction and every b along its second.

    Args:
        x: (N, C, *S) all the examples, on the network's device; they go through the network together.
        y: (N, ...) their labels.
        loss: mean loss of the network's output and the labels.

    >>> net = nn.Linear(2, 1, bias=False)
    >>> plane = Plane(torch.zeros(2), torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    >>> squared = lambda output, y: output.square().mean()
    >>> x, y = torch.tensor([[1.0, 1.0]]), torch.zeros(1)
    >>> on_plane(net, plane, [0, 1, 2], [0, 1], x, y, loss=squared).losses.tolist()
    [[0.0, 1.0, 4.0], [1.0, 4.0, 9.0]]
    """
    with _moved(net, x, y, loss) as (loss_at, _):
        return _surface(loss_at, plane, np.asarray(a), np.asarray(b))


def measure(
    net: nn.Module,
    trajectory: Trajectory,
    x: Tensor,
    y: Tensor,
    *,
    loss: Loss = cross_entropy,
    seconds: float = math.inf,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Landscape | None, str]:
    """The landscape of a training that has ended; None and the reason where there is none to be had.

    Args:
        net: the network; its own weights do not matter, the path's do, and it is left as it was.
        x, y: examples as for `on_plane`, in random order: as many of the first ones are taken as the time allows.
        seconds: what it may take at most, beyond the first evaluation.
        seed: of the random plane.

    Raises:
        Exception: whatever the network or the loss raises.

    >>> x = torch.randn(256, 2, generator=torch.Generator().manual_seed(0)); y = (x[:, 0] > 0).long()
    >>> net = nn.Linear(2, 2)
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    >>> trajectory = Trajectory(net, total_steps=40)
    >>> trajectory.keep(0)
    >>> for step in range(1, 41):
    ...     optimizer.zero_grad()
    ...     cross_entropy(net(x), y).backward()
    ...     optimizer.step()
    ...     if trajectory.due(step):
    ...         trajectory.keep(step)
    >>> measured, why_not = measure(net, trajectory, x, y)
    >>> measured.surface.losses.shape, measured.examples, bool(measured.true[-1] < measured.true[0])
    ((25, 25), 256, True)
    """
    deadline = clock() + seconds
    if trajectory.refusal:
        return None, trajectory.refusal
    try:
        found = principal(trajectory)
    except UserError as error:
        return None, error.given
    with _moved(net, x, y, loss) as (loss_at, batch_norm):
        count = len(found.steps)
        available = [one for one in EXAMPLES if one <= len(x) and one * x[0].numel() <= LARGEST] or [
            min(len(x), EXAMPLES[-1])
        ]
        plane = found.plane.to(x.device)
        timed = _timed(lambda: loss_at(plane.at(0, 0), available[-1]), deadline, clock)
        fitting = affordable(CAREFUL * (deadline - clock()), timed, count, available)
        if fitting is None:
            needed = (SIZES[-1] ** 2 + 2 * count) * timed
            return None, f"a grid of {SIZES[-1]} x {SIZES[-1]} would take {needed:.1f} s of {seconds:.1f} s"
        size, examples, planes = fitting

        def at(weights: Tensor) -> float:
            if clock() > deadline:
                raise _OutOfTime
            return loss_at(weights, examples)

        try:
            true = [at(trajectory.weights(place)) for place in range(count)]
            drawn = [at(plane.at(*place)) for place in found.coordinates.tolist()]
            over = _surface(at, plane, *extent(found.coordinates, size))
        except _OutOfTime:
            return None, f"the machine became slower than it was, and {seconds:.1f} s did not suffice"
        random = None
        if planes > 1:
            aside = np.linspace(-1, 1, size)
            across = random_plane(net, seed=seed, origin=found.plane.origin).to(x.device)
            with contextlib.suppress(_OutOfTime):
                random = _surface(at, across, aside, aside)
    losses = np.array([true, drawn], np.float32)
    return Landscape(found, over, losses[0], losses[1], random, examples, batch_norm), ""


def write(path: Path, net: nn.Module, trajectory: Trajectory, x: Tensor, y: Tensor, **settings: Any) -> str:
    """Measure as `measure` does with those settings and write it as `.npz`; returns why nothing was written, or "".

    The file holds `Landscape.arrays()`, float32 and whole numbers, without pickled objects.

    Raises:
        OSError: it cannot be written; a file that was there stays as it was.
    """
    measured, why_not = measure(net, trajectory, x, y, **settings)
    if measured is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = measured.arrays()
        atomic.write(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
    return why_not


def affordable(seconds: float, timed: float, snapshots: int, available: list[int]) -> tuple[int, int, int] | None:
    """(side of the finest grid that fits the time, examples that then still fit, planes); None where nothing fits.

    The random plane is given up only where 9 x 9 of both takes too long.

    Args:
        timed: seconds of one evaluation on the last, the fewest, of the numbers of examples in `available`; more of
            them take at most in proportion.

    >>> affordable(10.0, 0.001, 32, [512, 256, 128])
    (25, 512, 2)
    >>> affordable(1.5, 0.001, 32, [512, 256, 128])
    (25, 128, 2)
    >>> affordable(0.6, 0.001, 32, [512, 256, 128])
    (15, 128, 2)
    >>> affordable(0.2, 0.001, 32, [512, 256, 128])
    (11, 128, 1)
    >>> affordable(0.1, 0.001, 32, [512, 256, 128])
    """
    for planes in (2, 1):
        for size in SIZES:
            for examples in available:
                if (planes * size**2 + 2 * snapshots) * timed * examples / available[-1] <= seconds:
                    return size, examples, planes
    return None


def extent(coordinates: Tensor, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(size,) places along both directions, so that a path (n, 2) lies within them with a margin.

    >>> a, b = extent(torch.tensor([[-10.0, 0.0], [-5.0, 4.0], [0.0, 0.0]]).double(), 5)
    >>> a.tolist(), b.round(3).tolist()
    ([-11.5, -8.25, -5.0, -1.75, 1.5], [-0.6, 0.7, 2.0, 3.3, 4.6])
    """
    low, high = (one.numpy() for one in (coordinates.amin(0), coordinates.amax(0)))
    wide = np.maximum(high - low, NARROWEST * (high - low).max())
    middle = (low + high) / 2
    a, b = (
        np.linspace(m - w * (0.5 + MARGIN), m + w * (0.5 + MARGIN), size) for m, w in zip(middle, wide, strict=True)
    )
    return a, b


def _surface(loss_at: Callable[[Tensor], float], plane: Plane, a: NDArray[Any], b: NDArray[Any]) -> Surface:
    rows = [[loss_at(plane.at(float(one), float(other))) for one in a] for other in b]
    return Surface(a.astype(np.float32), b.astype(np.float32), np.array(rows, np.float32))


def _timed(evaluate: Callable[[], object], deadline: float, clock: Callable[[], float]) -> float:
    """Seconds of one evaluation: the mean of up to twenty, as a tenth of the time pays for.

    The first also prepares what later ones find ready, and can take many times as long; it counts alone only where it
    takes more than a tenth of the time.
    """

    def passed(count: int) -> float:
        begun = clock()
        for _ in range(count):
            evaluate()
        return (clock() - begun) / count

    left = deadline - clock()
    first = passed(1)
    if first > left / 10:
        return first
    second = passed(1)
    repeats = int(min(20, left / 10 // max(second, 1e-9)))
    return passed(repeats) if repeats else second


@contextmanager
def _moved(net: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> Iterator[tuple[Callable[..., float], str]]:
    """A function of weights (P,), and of how many of the first examples are seen, that gives the loss there.

    The values are copied into the parameters themselves, so that recurrent layers, which hold their weights twice, and
    wrapped and compiled networks see them too.
    """
    parameters = [p for p in net.parameters() if p.is_floating_point()]
    sizes = [p.numel() for p in parameters]
    own = [p.detach().clone() for p in parameters]

    def loss_at(weights: Tensor, examples: int = len(x)) -> float:
        for parameter, part in zip(parameters, weights.to(x.device).split(sizes), strict=True):
            parameter.copy_(part.view(parameter.shape))
        return float(loss(net(x[:examples]), y[:examples]))

    with torch.no_grad(), untouched(net, batch_statistics=True):
        normal = [one for one in net.modules() if isinstance(one, _NormBase) and one.track_running_stats]
        taken = "none" if not normal else "batch" if all(one.training for one in normal) else "running"
        try:
            yield loss_at, taken
        finally:
            for parameter, values in zip(parameters, own, strict=True):
                parameter.copy_(values)
