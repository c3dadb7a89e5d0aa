"""Does a network forget like Ebbinghaus's subjects? Retention by delay, and which curve describes it best.

`retention_table` counts: of the visits that came this long after the last one, how many recalled their example, for
each kind of streak. `compare_curves` fits five shapes to single visits by maximum likelihood, each with a level of its
own, so that only the shape is compared:

    constant       p = level
    exponential    p = level e^(-t / scale)                    Ebbinghaus's curve in most textbooks
    logarithmic    p = level - slope ln t                      Woodworth 1938
    power          p = level (1 + t / scale)^-psi              Wickelgren 1974
    savings        p = level k / ((log10(1 + t / scale))^1.25 + k)      Ebbinghaus 1885, his own with his power

and ranks them by BIC, which charges every parameter half the logarithm of the number of visits: among curves that say
the same, the simplest is the best one. A difference below 2 is none, above 10 is clear (Kass and Raftery 1995). AIC and
the log loss on visits held out stand beside it.

What such a table cannot tell: examples visited after a long delay were last visited by an earlier, worse network, and
examples that a schedule leaves alone are the easier ones. For the question above, hold examples out at random.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import log
from typing import Any

import torch
from torch import Tensor

from engram.review.calibration import KINDS, wilson
from engram.review.memory import likelihood
from engram.review.memory.record import Record

DELAYS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Edges between the table's delays, in clock units."""
GROUPS = 512
"""Visits of almost the same delay are counted together: so many groups of equal count."""
STEPS = 60
"""Uphill steps of a fit from each of its starts, at most."""


@dataclass(frozen=True)
class Retained:
    """Visits of one kind of streak after delays from `least` up to `most`: share recalled with its 95 % interval."""

    streak: str
    least: float
    most: float
    delay: float
    count: int
    recalled: int
    share: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers; `delay` is the mean."""
        return asdict(self)


def retention_table(record: Record, delays: Sequence[float] = DELAYS) -> list[Retained]:
    """How much was recalled after which delay, by streak; a row for each combination that occurred.

    Args:
        record: the visits.
        delays: edges between the rows' delays, rising, in clock units.

    >>> record = Record(torch.tensor([0.1, 0.2, 3.0]), *torch.ones(3, 3), torch.tensor([1.0, 0.0, 1.0]))
    >>> [(row.streak, row.least, row.most, row.count, row.share) for row in retention_table(record)]
    [('1-2', 0.0, 0.25, 2, 0.5), ('1-2', 2.0, 4.0, 1, 1.0)]
    """
    record = record.double()
    edges = torch.tensor(list(delays), dtype=torch.float64)
    places = torch.bucketize(record.delay, edges)
    kinds = (record.streak > 0).long() + (record.streak > 2).long()
    flat, size = kinds * (len(edges) + 1) + places, len(KINDS) * (len(edges) + 1)
    sums = [torch.bincount(flat, of.double(), size) for of in (torch.ones_like(flat), record.recalled, record.delay)]
    limits = [0.0, *delays, float("inf")]
    rows = []
    for index, (count, recalled, delay) in enumerate(torch.stack(sums, 1).tolist()):
        if count:
            kind, place = divmod(index, len(edges) + 1)
            shares = (recalled / count, *wilson(recalled, count))
            within = (limits[place], limits[place + 1], delay / count)
            rows.append(Retained(KINDS[kind], *within, int(count), int(recalled), *shares))
    return rows


@dataclass(frozen=True)
class Shape:
    """A curve's formula, its parameters with bounds, and where a fit starts."""

    formula: str
    names: tuple[str, ...]
    bounds: tuple[tuple[float, float], ...]
    starts: Callable[[float, float], list[list[float]]]
    curve: Callable[[list[float], Tensor], Tensor]


LEVEL, SCALE = (1e-3, 1.0), (1e-4, 1e6)
SHAPES = {
    "constant": Shape(
        "level", ("level",), (LEVEL,), lambda share, delay: [[share]], lambda v, t: torch.full_like(t, v[0])
    ),
    "exponential": Shape(
        "level e^(-t / scale)",
        ("level", "scale"),
        (LEVEL, SCALE),
        lambda share, delay: [[0.95, delay * 10], [min(1.0, share * 1.2), delay]],
        lambda v, t: v[0] * torch.exp(-t / v[1]),
    ),
    "logarithmic": Shape(
        "level - slope ln t",
        ("level", "slope"),
        ((1e-3, 10.0), (1e-6, 1.0)),
        lambda share, delay: [[share, 0.02], [share + 0.1, 0.1]],
        lambda v, t: (v[0] - v[1] * torch.log(t)).clamp(likelihood.UNLIKELY, 1 - likelihood.UNLIKELY),
    ),
    "power": Shape(
        "level (1 + t / scale)^-psi",
        ("level", "scale", "psi"),
        (LEVEL, SCALE, (1e-4, 5.0)),
        lambda share, delay: [[0.95, delay, 0.1], [1.0, delay / 100, 0.1], [0.99, delay, 1.0]],
        lambda v, t: v[0] * (1 + t / v[1]) ** -v[2],
    ),
    "savings": Shape(
        "level k / ((log10(1 + t / scale))^1.25 + k)",
        ("level", "k", "scale"),
        (LEVEL, (0.01, 1e3), SCALE),
        lambda share, delay: [[0.95, 1.84, delay], [1.0, 10.0, delay / 100], [1.0, 1.84, delay / 100]],
        lambda v, t: v[0] * v[1] / ((torch.log1p(t / v[2]) / log(10)) ** 1.25 + v[1]),
    ),
}


@dataclass(frozen=True)
class Fit:
    """A curve fitted to visits.

    Attributes:
        name: the shape's.
        formula: the curve, with the parameters' names.
        parameters: their most likely values.
        count: visits it was fitted to.
        log_likelihood: of all visits.
        aic: 2 (parameters - log likelihood).
        bic: parameters ln(count) - 2 log likelihood; what the fits are ranked by.
        held_out: log loss a visit, each predicted by a fit to the other folds.
    """

    name: str
    formula: str
    parameters: dict[str, float]
    count: int
    log_likelihood: float
    aic: float
    bic: float
    held_out: float

    def recall(self, delays: Tensor) -> Tensor:
        """The curve at these delays."""
        curve = SHAPES[self.name].curve
        return curve(list(self.parameters.values()), delays).clamp(likelihood.UNLIKELY, 1 - likelihood.UNLIKELY)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and words."""
        return asdict(self)


def compare_curves(delays: Tensor, recalled: Tensor, *, folds: int = 5) -> list[Fit]:
    """Fit every shape to visits, and rank them: the best first, by BIC.

    Args:
        delays: (B,) since the last visit, above 0; those at 0 count as at the shortest above it.
        recalled: (B,) whether it was recalled, booleans or 0 and 1.
        folds: parts into which the visits are dealt out in turn, each predicted from the others.

    Raises:
        ValueError: fewer visits than twice the folds, no delay above 0, or the two differ in length.

    >>> delays = torch.linspace(0.5, 40, 4000)
    >>> recalled = torch.rand(4000, generator=torch.Generator().manual_seed(0)) < torch.exp(-delays / 15)
    >>> compare_curves(delays, recalled, folds=2)[0].name
    'exponential'
    """
    t, happened = delays.detach().cpu().double(), recalled.detach().cpu().double()
    if t.shape != happened.shape or t.ndim != 1 or len(t) < 2 * folds or not bool((t > 0).any()):
        raise ValueError(f"{tuple(t.shape)} delays and {tuple(happened.shape)} outcomes: at least {2 * folds} of each")
    t = t.clamp(min=float(t[t > 0].min()))
    fold = torch.arange(len(t)) % folds
    return sorted((_fit(name, t, happened, fold, folds) for name in SHAPES), key=lambda fit: fit.bic)


def _fit(name: str, t: Tensor, happened: Tensor, fold: Tensor, folds: int) -> Fit:
    shape = SHAPES[name]
    values = _most_likely(shape, t, happened)
    total = likelihood.log_likelihood(shape.curve(values, t), happened)
    unseen = 0.0
    for held in range(folds):
        seen, rest = fold != held, fold == held
        others = _most_likely(shape, t[seen], happened[seen])
        unseen -= likelihood.log_likelihood(shape.curve(others, t[rest]), happened[rest])
    return Fit(
        name=name,
        formula=shape.formula,
        parameters=dict(zip(shape.names, values, strict=True)),
        count=len(t),
        log_likelihood=total,
        aic=2 * (len(values) - total),
        bic=len(values) * log(len(t)) - 2 * total,
        held_out=unseen / len(t),
    )


def _most_likely(shape: Shape, t: Tensor, happened: Tensor) -> list[float]:
    """The best of the fits from each start, on visits grouped by delay."""
    t, recalled, trials = _grouped(t, happened)
    share, middle = float(recalled.sum() / trials.sum()), float(t.median())
    best, most = [], -float("inf")
    for start in shape.starts(share, middle):
        values = [min(max(value, low), high) for value, (low, high) in zip(start, shape.bounds, strict=True)]
        for _ in range(STEPS):
            moved = likelihood.climb(
                lambda given: shape.curve(given, t), values, shape.bounds, recalled, trials, prior=1e-3
            )
            if moved == values:
                break
            values = moved
        reached = likelihood.log_likelihood(shape.curve(values, t), recalled, trials)
        if reached > most:
            best, most = values, reached
    return best


def _grouped(t: Tensor, happened: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean delay, recalled and count of groups of about equal count, by delay."""
    order = torch.argsort(t, stable=True)
    group = torch.arange(len(t)) * min(GROUPS, len(t)) // len(t)
    count, delay, recalled = (torch.bincount(group, of[order]) for of in (torch.ones_like(t), t, happened))
    return delay / count, recalled, count
