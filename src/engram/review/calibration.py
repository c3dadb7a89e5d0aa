"""Is predicted recall what is observed? Measures of it, and a link that brings predictions to what is observed.

Of all visits with a predicted recall of 0.9, nine in ten should be recalled: that is calibration. `measure` gives the
reliability table (predicted against observed in bins of equal count, with Wilson's intervals), the two proper scores
(log loss and Brier), the expected calibration error, and the skill: the share of the best constant's log loss that the
prediction saves. The best constant is the observed rate itself; a memory model with a skill below 0 is worth less than
one number. `merged` makes one reliability table of those of several rounds.

`Link` is logistic calibration, a and b for each of three kinds of example:

    r' = sigmoid(a + b logit(r))          nothing recalled last (streak 0), recalled once or twice, three times or more

Networks need it. Their forgetting curve is shallow, and an example that was wrong last time is right next time with a
probability of about .35 after any delay, for training goes on without it: no forgetting curve says that, the first kind
of the link does (b near 0). b is never negative, so the link keeps the order of delays.

Brier 1950. Wilson 1927 (interval). Platt 1999; Cox 1958 (logistic recalibration). Naeini, Cooper and Hauskrecht 2015
(expected calibration error).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engram.errors import UserError
from engram.review.memory.record import Record

CERTAIN = 1e-6
"""No prediction counts as nearer to 0 or 1 than this."""
BINS = 10
"""Rows of a reliability table, where predictions differ enough."""
NORMAL_95 = 1.959964
"""Standard deviations to either side that hold 95 % of a normal distribution."""


@dataclass(frozen=True)
class Bin:
    """Visits of about the same predicted recall: mean predicted, observed rate with its 95 % interval, count."""

    predicted: float
    observed: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Calibration:
    """How predicted recall agrees with what was observed.

    Attributes:
        count: visits.
        base_rate: share that was recalled.
        mean_predicted: mean of the predictions.
        log_loss: mean of -ln(probability of what happened), in nats.
        brier: mean squared difference of prediction and outcome.
        expected_error: mean absolute difference of predicted and observed in the bins, weighted by count.
        skill: 1 - log loss / log loss of the base rate; none where all outcomes are alike.
        bins: the reliability table, lowest prediction first.
    """

    count: int
    base_rate: float
    mean_predicted: float
    log_loss: float
    brier: float
    expected_error: float
    skill: float | None
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries."""
        return asdict(self) | {"bins": [asdict(one) for one in self.bins]}

    def to_dict_of_numbers(self) -> dict[str, float]:
        """The figures alone: no table, and no skill where there is none."""
        return {name: value for name, value in self.to_dict().items() if isinstance(value, int | float)}


def measure(predicted: Tensor | np.ndarray, recalled: Tensor | np.ndarray, *, bins: int = BINS) -> Calibration:
    """Compare predicted recall with what happened.

    Args:
        predicted: (B,) probabilities.
        recalled: (B,) whether it was recalled, booleans or 0 and 1.
        bins: of the reliability table, with equal counts as far as predictions differ.

    Raises:
        ValueError: nothing to compare, or the two differ in length.

    >>> calibration = measure(torch.tensor([0.9, 0.9, 0.6, 0.6]), torch.tensor([1, 1, 1, 0]), bins=2)
    >>> round(calibration.log_loss, 3), round(calibration.brier, 3), round(calibration.expected_error, 3)
    (0.409, 0.135, 0.1)
    >>> [(round(one.predicted, 1), one.observed, one.count) for one in calibration.bins]
    [(0.6, 0.5, 2), (0.9, 1.0, 2)]
    """
    p, happened = _doubles(predicted), _doubles(recalled)
    if p.shape != happened.shape or p.ndim != 1 or not len(p):
        raise ValueError(f"predictions of shape {p.shape} cannot be compared with outcomes of shape {happened.shape}")
    rate = float(happened.mean())
    loss, constant = _log_loss(p, happened), _log_loss(np.full_like(p, rate), happened)
    table = _table(p, happened, bins)
    return Calibration(
        count=len(p),
        base_rate=rate,
        mean_predicted=float(p.mean()),
        log_loss=loss,
        brier=float(((p - happened) ** 2).mean()),
        expected_error=sum(one.count * abs(one.predicted - one.observed) for one in table) / len(p),
        skill=1 - loss / constant if 0 < rate < 1 else None,
        bins=table,
    )


def wilson(successes: float, count: float) -> tuple[float, float]:
    """The 95 % interval of a rate observed in `count` trials (Wilson 1927); 0 to 1 of none.

    >>> [round(bound, 4) for bound in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    if not count:
        return 0.0, 1.0
    rate, z = successes / count, NORMAL_95**2 / count
    middle = (rate + z / 2) / (1 + z)
    half = sqrt(z * (rate * (1 - rate) + z / 4)) / (1 + z)
    return max(0.0, middle - half), min(1.0, middle + half)


def merged(bins: Sequence[Bin], *, into: int = BINS) -> tuple[Bin, ...]:
    """One reliability table of those of several rounds: neighbours by prediction put together, about as many in each.

    >>> rows = [Bin(0.5, 0.5, 0, 1, 2), Bin(0.9, 1.0, 0, 1, 2), Bin(0.6, 0.0, 0, 1, 1), Bin(0.9, 0.5, 0, 1, 2)]
    >>> [(round(one.predicted, 3), round(one.observed, 3), one.count) for one in merged(rows, into=2)]
    [(0.533, 0.333, 3), (0.9, 0.75, 4)]
    """
    if not bins:
        return ()
    rows = np.array(sorted((one.predicted, one.observed, one.count) for one in bins))  # (K, 3)
    predicted, observed, counts = rows.T
    middles = counts.cumsum() - counts / 2
    return _bins((middles * into / counts.sum()).astype(np.int64), counts, observed * counts, predicted * counts, into)


def _table(p: np.ndarray, happened: np.ndarray, bins: int) -> tuple[Bin, ...]:
    edges = np.quantile(p, np.linspace(0, 1, bins + 1))[1:-1]
    return _bins(np.searchsorted(edges, p), np.ones_like(p), happened, p, bins)


def _bins(
    places: np.ndarray, counts: np.ndarray, recalled: np.ndarray, predicted: np.ndarray, bins: int
) -> tuple[Bin, ...]:
    """The bins of rows at these places; of each row its visits, those recalled, and the sum of its predictions."""
    counts, rights, sums = (np.bincount(places, of, bins) for of in (counts, recalled, predicted))
    return tuple(
        Bin(float(total / count), float(right / count), *wilson(float(right), float(count)), int(count))
        for count, right, total in zip(counts, rights, sums, strict=True)
        if count
    )


def _log_loss(p: np.ndarray, happened: np.ndarray) -> float:
    p = p.clip(CERTAIN, 1 - CERTAIN)
    return float(-(happened * np.log(p) + (1 - happened) * np.log1p(-p)).mean())


def _doubles(values: Tensor | np.ndarray) -> np.ndarray:
    return values.detach().cpu().double().numpy() if isinstance(values, Tensor) else np.asarray(values, np.float64)


KINDS = ("0", "1-2", "3+")
"""Streaks that share a link."""
HIGHEST_SLOPE = 4.0
NEWTON_STEPS = 8
LONGEST = 2.0
"""Longest step of a shift: where predictions are certain and wrong, Newton's method would leap."""
RIDGE = 10.0
"""Information held for (0, 1), no change: as much as about 40 visits at even odds give."""
KEPT = 0.8
"""Share of the evidence of earlier rounds that one round leaves."""


class Link:
    """A logistic link from predicted to observed recall for each kind of streak, fitted online.

    After each round the new (a, b) maximise the round's log-likelihood, less half the squared distance from the old
    ones in the metric of the evidence for them (its decayed information), less half `RIDGE` times that from (0, 1).

    Attributes:
        tables: for each round, what was predicted before it against what it showed: the reliability table of the model
            alone and that of the model with the link, rows of (predicted, observed, count).

    >>> link = Link()
    >>> record = Record(*torch.ones(5, 400))
    >>> record = Record(record.delay, record.strength, record.difficulty, torch.zeros(400), (torch.arange(400) % 3 < 1))
    >>> link.fit(record, torch.full((400,), 0.9))
    >>> round(link.apply(torch.tensor([0.9]), torch.tensor([0])).item(), 1)
    0.4
    """

    def __init__(self) -> None:
        self.shift = [0.0] * len(KINDS)
        self.slope = [1.0] * len(KINDS)
        self.information = [[0.0, 0.0, 0.0] for _ in KINDS]
        self.tables: list[list[list[list[float]]]] = []

    def apply(self, recall: Tensor, streak: Tensor) -> Tensor:
        """Predicted recall (B,) brought to what is observed, for examples with these streaks (B,)."""
        shift, slope = self._of(streak, recall)
        return torch.sigmoid(shift + slope * _logit(recall))

    def invert(self, retention: float, streak: Tensor) -> Tensor:
        """The predicted recall (B,) that the link takes to `retention`: below it, an example is due."""
        shift, slope = self._of(streak, streak.float())
        wanted = _logit(torch.tensor(retention, dtype=torch.float64)).item()
        return torch.sigmoid((wanted - shift) / slope.clamp(min=CERTAIN))

    def fit(self, record: Record, predicted: Tensor) -> None:
        """Take a round's visits in; nothing changes for kinds of which there are none.

        Args:
            record: the visits.
            predicted: (B,) recall that the memory model predicted for them, before it was fitted to them.
        """
        columns = torch.stack([predicted.float(), record.recalled.float(), record.streak.float()]).cpu().double()
        p, recalled, streak = columns[:, columns.isfinite().all(0)]
        if len(p):  # what the link says is measured before it is told
            self.tables.append([_rows(said, recalled) for said in (p, self.apply(p, streak))])
        kinds = _kind(streak)
        for kind in range(len(KINDS)):
            chosen = kinds == kind
            self._fit_kind(kind, _logit(p[chosen]), recalled[chosen])

    def reliability(self, rounds: int) -> dict[str, tuple[Bin, ...]]:
        """The reliability table of the last so many rounds, of the model `alone` and of the model with the link."""
        last = self.tables[max(0, len(self.tables) - rounds) :]
        return {
            how: merged([Bin(said, seen, 0.0, 1.0, int(count)) for table in last for said, seen, count in table[place]])
            for place, how in enumerate(("alone", "linked"))
        }

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "shift": list(self.shift),
            "slope": list(self.slope),
            "information": [list(row) for row in self.information],
            "tables": [[[list(row) for row in rows] for rows in table] for table in self.tables],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved link.

        Raises:
            UserError: it is not one; nothing has changed.
        """
        kinds = ("shift", "slope", "information")
        if any(len(state.get(name, ())) != len(KINDS) for name in kinds):
            raise UserError("the saved state is not of a calibration link", allowed=", ".join(kinds))
        self.shift, self.slope = list(state["shift"]), list(state["slope"])
        self.information = [list(row) for row in state["information"]]
        # none in a state of before they were kept
        self.tables = [[[list(row) for row in rows] for rows in table] for table in state.get("tables", [])]

    def _fit_kind(self, kind: int, logits: Tensor, recalled: Tensor) -> None:
        if not len(logits):
            return
        x = torch.stack([torch.ones_like(logits), logits])  # (2, B)
        aa, ab, bb = (KEPT * value for value in self.information[kind])
        prior, ridge = torch.tensor([[aa, ab], [ab, bb]]).double(), RIDGE * torch.eye(2).double()
        before, neutral = torch.tensor([self.shift[kind], self.slope[kind]]).double(), torch.tensor([0.0, 1.0]).double()
        now, seen = before, torch.zeros(2, 2).double()
        for _ in range(NEWTON_STEPS):
            p = torch.sigmoid(now @ x)
            seen = (x * (p * (1 - p))) @ x.T
            uphill = x @ (recalled - p) + prior @ (before - now) + ridge @ (neutral - now)
            curvature = seen + prior + ridge
            step = torch.linalg.solve(curvature, uphill)
            slope = float((now[1] + step[1]).clamp(0, HIGHEST_SLOPE))
            if slope != float(now[1] + step[1]):  # held at its bound: the shift alone takes the step
                step = torch.stack([(uphill[0] - curvature[0, 1] * (slope - now[1])) / curvature[0, 0], slope - now[1]])
            now = torch.stack([now[0] + step[0].clamp(-LONGEST, LONGEST), now[1] + step[1]])
        self.shift[kind], self.slope[kind] = now.tolist()
        information = prior + seen
        self.information[kind] = [float(information[0, 0]), float(information[0, 1]), float(information[1, 1])]

    def _of(self, streak: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Each example's shift and slope."""
        kind = _kind(streak.to(like.device))
        shift, slope = (torch.tensor(one, dtype=like.dtype, device=like.device) for one in (self.shift, self.slope))
        return shift[kind], slope[kind]


def _rows(predicted: Tensor, recalled: Tensor) -> list[list[float]]:
    """A reliability table as plain numbers: predicted, observed and count of each bin."""
    table = _table(predicted.numpy(), recalled.numpy(), BINS)
    return [[one.predicted, one.observed, float(one.count)] for one in table]


def _kind(streak: Tensor) -> Tensor:
    return (streak > 0).long() + (streak > 2).long()


def _logit(p: Tensor) -> Tensor:
    return torch.logit(p.clamp(CERTAIN, 1 - CERTAIN))
