"""What a run tells about its review, as plain numbers and text: what was visited, what was recalled, what was not.

`review.json` of a run folder holds it. Nothing here changes the reviewer, and every figure is of the rounds that are
over: the visits of the one that goes on are not in the ledger yet.

Retention is counted over all visits of the run to examples that had been visited before. The memory model's curve is
that of the median example of each streak as the model and its link stand now (of one that came just so often, where
hardly any example has such a streak now). The two therefore part where a network has learned much since its first
rounds; predicted against observed recall is the fair comparison, for each prediction there was made before its visit:
round by round (`rounds`), and by what was predicted (`reliability` of the memory, over the second half of the rounds,
for at first a network learns so fast that there is nothing to forget).

Three lists name examples. `never_learned`: visited at least `OFTEN` times, not recalled at the last visit, an average
grade below `POOR`, and hardly ever recalled in between, which is what wrong labels and unreadable pictures look like.
`forgotten`: recalled and lost again, most often first (forgetting events: Toneva et al. 2019, "An Empirical Study of
Example Forgetting during Deep Neural Network Learning", section 3). `hardest`: the largest average loss of all others;
a network that has learned everything by heart has wrong labels among these.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from engram import registry
from engram.review.calibration import KINDS, wilson
from engram.review.ledger import Ledger
from engram.review.memory import Memory
from engram.review.method import Method
from engram.review.reviewer import DELAYS, Reviewer
from engram.review.suspects import suspects

OFTEN = 4
"""Visits before which no example counts as never learned."""
POOR = 0.3
"""Average grade below which one may."""
HARDLY = 0.1
"""Share of its visits: an example that was lost no more often than this, or once, was hardly ever known."""
LEAST_STREAK = (0, 1, 3)
"""The shortest streak of each of `KINDS`."""
SOME = 20
"""Examples of which the median one stands for all."""
LISTED = 36
"""Examples that a list names at most."""
HARDEST = 18
"""Examples among the hardest that are named."""
BINS = 32
"""Bins of a histogram at most."""
POINTS = 40
"""Delays at which the memory model's curve is given."""
LEAST, MOST = 1 / 64, 2.0**20
"""Strengths and intervals beyond these count as these, clock units."""
OF_A_ROUND = {
    "round": "round",
    "visits": "visits",
    "share": "share",
    "came": "came",
    "new": "new",
    "loss": "loss",
    "recalled": "recalled",
    "count": "again",
    "base_rate": "recalled_again",
    "mean_predicted": "predicted",
    "log_loss": "log_loss",
    "linked_mean_predicted": "linked_predicted",
    "linked_log_loss": "linked_log_loss",
}
"""What is taken over from a row of the reviewer's history, where it is there, and what it is called here: visits again,
and what was recalled of them, what the memory model predicted alone and with the link, and the two log losses."""


def summarise(
    reviewer: Reviewer,
    *,
    labels: Tensor | None,
    classes: Sequence[str],
    name: Callable[[int], str],
    method: str | None = None,
) -> dict[str, Any]:
    """Everything the report says of a review: dictionaries, lists, text and finite numbers.

    Args:
        labels: (N,) class of every example, or none.
        classes: names of the classes.
        name: the name of the example with an index.
        method: the word the method was asked for by; the name of its module by default.

    >>> from engram.review import methods
    >>> reviewer = Reviewer(4, methods.build("shuffle"), batch_size=2, epochs=2)
    >>> for losses in ([0.1, 3.0], [0.2, 0.3]):
    ...     _ = reviewer.batches(), reviewer.grade(torch.tensor(losses))
    >>> reviewer.fold()
    >>> told = summarise(reviewer, labels=None, classes=(), name=str)
    >>> told["method"], told["rounds"][0]["recalled"], told["memory"]
    ('shuffle', 0.75, None)
    """
    ledger = reviewer.ledger.rows(torch.arange(len(reviewer), device=reviewer.ledger.device))
    ledger.to(torch.device("cpu"))
    labels = None if labels is None else labels.cpu()
    word = method or _word(reviewer.method)
    told = {
        "method": word,
        "told": registry.find("review", word).summary if word in registry.names("review") else "",
        "permuted": reviewer.permutation is not None,
        "measure": reviewer.measure,
        "clock": reviewer.kind_of_clock,
        "wanted": reviewer.method.retention if reviewer.method.memory is not None else None,
        "examples": len(reviewer),
        "seen": int(ledger.seen.sum()),
        "steps": reviewer.steps,
        "total_steps": reviewer.total_steps,
        "rounds": [_round(row, reviewer.steps_per_pass) for row in reviewer.history],
        "epochs": epochs(reviewer.history, reviewer.steps_per_pass, reviewer.seen.shares),
        "coverage": coverage(reviewer.history, ledger),
        "visits": visits(ledger),
        "streaks": _by_streak(ledger),
        "unforgotten": int((ledger.seen & (ledger.streak > 0) & (ledger.lapses == 0)).sum()),
        "retention": retention(reviewer.tally),
        "memory": _memory(reviewer, ledger),
        **reviewer.method.tell(),
        "suspects": 0 if labels is None else int(suspects(ledger, labels).sum()),
        "never_learned": _listed(ledger, never_learned(ledger), labels, classes, name),
        "forgotten": _listed(ledger, forgotten(ledger), labels, classes, name),
        "hardest": _listed(ledger, hardest(ledger), labels, classes, name),
    }
    return _plain(told)


def notable(summary: dict[str, Any]) -> list[int]:
    """Indices of the examples that a summary names, each once, in order: those whose pictures are wanted.

    >>> rows = [{"examples": [{"index": index}]} for index in (7, 3, 5)]
    >>> notable(dict(zip(("never_learned", "forgotten", "hardest"), rows, strict=True)))
    [3, 5, 7]
    """
    lists = (summary[key]["examples"] for key in ("never_learned", "forgotten", "hardest"))
    return sorted({row["index"] for rows in lists for row in rows})


def retention(tally: Tensor) -> list[dict[str, Any]]:
    """How much was recalled after which delay, by streak: a row for each combination that occurred, with its interval.

    Args:
        tally: (3, D + 1, 2) visits and recalls, by streak and by delay between the edges `DELAYS`.

    `delay` is the middle of `least` and `most` on a logarithmic scale; the outermost ones are taken as wide as others.

    >>> tally = torch.zeros(3, len(DELAYS) + 1, 2)
    >>> tally[1, 4] = torch.tensor([10.0, 8.0])
    >>> [(row["streak"], row["least"], row["most"], row["share"]) for row in retention(tally)]
    [('1-2', 1.0, 2.0, 0.8)]
    """
    rows = []
    for streak, counts in zip(KINDS, tally.tolist(), strict=True):
        for place, (count, recalled) in enumerate(counts):
            if count:
                low, high = wilson(recalled, count)
                edges = {"least": DELAYS[place - 1] if place else 0.0, "most": (*DELAYS, None)[place]}
                seen = {"count": int(count), "recalled": int(recalled), "share": recalled / count}
                rows.append({"streak": streak, **edges, "delay": _middle(place), **seen, "low": low, "high": high})
    return rows


def epochs(
    history: Sequence[dict[str, float]], steps_per_pass: int, seen: Sequence[float] = ()
) -> list[dict[str, float]]:
    """What share of the examples each epoch saw: an epoch is as many visits as there are examples, in any rounds.

    That is `seen`, both `least` and `most`. Where it was not counted, rounds say how many different examples each saw
    and not which, so that those of an epoch of several rounds lie between two bounds: all rounds saw the same ones, or
    all saw different ones. A round that runs into the next epoch counts in both, in parts, and so `rounds` counts it
    twice. `whole` is the part of the epoch that is over.

    >>> rows = [{"steps": 2, "share": 0.5}, {"steps": 4, "share": 0.5}, {"steps": 8, "share": 1.0}]
    >>> [(row["epoch"], row["rounds"], row["least"], row["most"]) for row in epochs(rows, 4)]
    [(1, 2, 0.5, 1.0), (2, 1, 1.0, 1.0)]
    >>> [(row["whole"], row["least"], row["most"]) for row in epochs(rows[1:], 6)]
    [(1.0, 0.5, 1.0), (0.3333333333333333, 0.5, 0.5)]
    """
    # by epoch: steps and share of the examples of each part of a round
    parts: dict[int, list[tuple[float, float]]] = {}
    begin = 0.0
    for row in history:
        for epoch in range(int(begin // steps_per_pass), math.ceil(row["steps"] / steps_per_pass)):
            within = min(row["steps"], (epoch + 1) * steps_per_pass) - max(begin, epoch * steps_per_pass)
            share = row["share"] * within / (row["steps"] - begin)  # of a round in random order, none of it twice
            parts.setdefault(epoch + 1, []).append((within, share))
        begin = row["steps"]
    rows = []
    for epoch, of in parts.items():
        whole, shares = sum(within for within, _ in of) / steps_per_pass, [share for _, share in of]
        known = seen[epoch - 1] if epoch <= len(seen) else math.nan
        bounds = {"least": known, "most": known}
        if math.isnan(known):
            bounds = {"least": max(shares), "most": min(1.0, sum(shares))}
        rows.append({"epoch": epoch, "rounds": len(of), "whole": whole, **bounds})
    return rows


def coverage(history: Sequence[dict[str, float]], ledger: Ledger) -> list[dict[str, float]]:
    """Share of the examples that were visited in the last round, the last two, and so on, until it grows no more.

    >>> ledger = Ledger(4)
    >>> ledger.last, ledger.visits = torch.tensor([0.0, 0.5, 1.0, 1.5]), torch.ones(4, dtype=torch.int16)
    >>> [row["share"] for row in coverage([{"clock": 1.0}, {"clock": 2.0}], ledger)]
    [0.5, 1.0]
    """
    if not history:
        return []
    begins = torch.tensor([0.0, *(row["clock"] for row in history[:-1])])
    rounds = torch.bucketize(ledger.last[ledger.seen], begins, right=True) - 1  # in which each was last seen
    newest_first = torch.bincount(rounds, minlength=len(begins)).flip(0).cumsum(0).double() / len(ledger)
    until = int((newest_first < newest_first[-1]).sum()) + 1
    return [{"rounds": back, "share": share} for back, share in enumerate(newest_first[:until].tolist(), 1)]


def visits(ledger: Ledger) -> dict[str, Any]:
    """The fewest, most and mean visits of an example, and how many had so many: bin i from edge i up to edge i + 1.

    >>> ledger = Ledger(3)
    >>> ledger.visits = torch.tensor([2, 2, 4], dtype=torch.int16)
    >>> visits(ledger)["edges"], visits(ledger)["counts"]
    ([2, 3, 4, 5], [2, 0, 1])
    """
    counted = ledger.visits.long()
    least, most = int(counted.min()), int(counted.max())
    width = max(1, math.ceil((most - least + 1) / BINS))
    counts = torch.bincount((counted - least) // width).tolist()
    edges = [least + width * place for place in range(len(counts) + 1)]
    return {"least": least, "most": most, "mean": float(counted.double().mean()), "edges": edges, "counts": counts}


def histogram(values: Tensor) -> dict[str, list[float]]:
    """Positive numbers counted between edges of one ratio, a power of the root of two: at most `BINS`.

    >>> histogram(torch.tensor([1.0, 1.1, 2.5, 7.0]))["counts"]
    [2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]
    """
    octaves = values.double().clamp(LEAST, MOST).log2()
    for parts in (4.0, 2.0, 1.0):
        first, last = (math.floor(float(bound) * parts) for bound in (octaves.min(), octaves.max()))
        if last - first < BINS:
            break
    counts = torch.bincount((octaves * parts).floor().long() - first).tolist()
    return {"edges": [2 ** ((first + place) / parts) for place in range(len(counts) + 1)], "counts": counts}


def never_learned(ledger: Ledger) -> Tensor:
    """Indices (K,) of examples that were visited often and hardly ever recalled, the least recalled first.

    >>> ledger = Ledger(3)
    >>> ledger.visits, ledger.recall = torch.tensor([9, 9, 3]).short(), torch.tensor([0.1, 0.9, 0.1]).half()
    >>> never_learned(ledger).tolist()
    [0]
    """
    known_once = ledger.lapses > (ledger.visits * HARDLY).clamp_min(1)
    poor = (ledger.visits >= OFTEN) & (ledger.streak == 0) & (ledger.recall < POOR) & ~known_once
    found = poor.nonzero().flatten()
    found = found[torch.argsort(ledger.smoothed[found], descending=True, stable=True)]
    return found[torch.argsort(ledger.recall[found], stable=True)]


def forgotten(ledger: Ledger) -> Tensor:
    """Indices (K,) of examples that were recalled and lost at least twice, those most often lost first.

    Those that were never learned are not among them.

    >>> ledger = Ledger(3)
    >>> ledger.visits, ledger.lapses = torch.tensor([9, 9, 9]).short(), torch.tensor([2, 1, 4]).short()
    >>> forgotten(ledger).tolist()
    [2, 0]
    """
    lost = ledger.lapses >= 2
    lost[never_learned(ledger)] = False
    found = lost.nonzero().flatten()
    found = found[torch.argsort(ledger.recall[found], stable=True)]
    return found[torch.argsort(ledger.lapses[found], descending=True, stable=True)]


def hardest(ledger: Ledger) -> Tensor:
    """Indices (K,) of the largest average losses among examples visited often and neither never learned nor forgotten.

    >>> ledger = Ledger(3)
    >>> ledger.visits, ledger.smoothed = torch.tensor([9, 9, 3]).short(), torch.tensor([0.1, 0.9, 2.0])
    >>> ledger.streak = torch.ones(3).byte()
    >>> hardest(ledger).tolist()
    [1, 0]
    """
    others = ledger.visits >= OFTEN
    others[never_learned(ledger)] = False
    others[forgotten(ledger)] = False
    found = others.nonzero().flatten()
    return found[torch.topk(ledger.smoothed[found], min(HARDEST, len(found))).indices]


def _word(method: Method) -> str:
    """The name of a method without its settings."""
    home, _, module = type(method).__module__.rpartition(".")
    return module if home == registry.HOMES["review"] else type(method).__name__


def _round(row: dict[str, float], steps_per_pass: int) -> dict[str, float]:
    """A row of the history with its epoch, and the log loss of the best constant beside those of the memory model."""
    taken = {ours: row[theirs] for theirs, ours in OF_A_ROUND.items() if theirs in row}
    if "base_rate" in row:
        taken["constant"] = entropy(row["base_rate"])
    return {"epoch": row["steps"] / steps_per_pass, **taken}


def entropy(rate: float) -> float:
    """Log loss of always predicting the rate that is then observed, nats.

    >>> round(entropy(0.5), 3), entropy(1.0)
    (0.693, 0.0)
    """
    return sum(p * math.log(1 / p) for p in (rate, 1 - rate) if p > 0)


def _kinds(ledger: Ledger) -> list[Tensor]:
    """(N,) for each kind of streak, which of the examples seen are of it."""
    seen, streak = ledger.seen, ledger.streak
    return [seen & (streak == 0), seen & (streak > 0) & (streak < 3), seen & (streak > 2)]


def _by_streak(ledger: Ledger) -> dict[str, int]:
    return {streak: int(chosen.sum()) for streak, chosen in zip(KINDS, _kinds(ledger), strict=True)}


def _memory(reviewer: Reviewer, ledger: Ledger) -> dict[str, Any] | None:
    """The memory model, what it makes of the examples seen, and its curves; none where there is no such model."""
    memory, seen = reviewer.method.memory, ledger.seen
    if memory is None:
        return None
    told: dict[str, Any] = {
        "name": memory.name,
        "parameters": dict(memory.parameters),
        "fitted": list(memory.fitted),
        "curves": [],
        "strength": None,
        "interval": None,
        "reliability": _reliability(reviewer),
    }
    if bool(seen.any()):
        told["strength"] = histogram(ledger.strength[seen])
        interval = memory.interval(reviewer.method.retention, ledger.strength, ledger.difficulty)
        told["interval"] = histogram(interval[seen])
        told["curves"] = _curves(reviewer, memory, ledger)
    return told


def _reliability(reviewer: Reviewer) -> dict[str, list[dict[str, float]]]:
    """Predicted against observed recall in bins, of the curve alone and with its link; empty where none came again."""
    predicted = sum("log_loss" in row for row in reviewer.history)
    tables = reviewer.link.reliability(predicted - predicted // 2)
    return {how: [asdict(one) for one in bins] for how, bins in tables.items()}


def _curves(reviewer: Reviewer, memory: Memory, ledger: Ledger) -> list[dict[str, Any]]:
    """Predicted recall, with the link, over the delays that occurred, for a typical example of each kind of streak."""
    occurred = reviewer.tally[:, :, 0].sum(0).nonzero().flatten().tolist() or [0, len(DELAYS)]
    delays = torch.logspace(math.log2(_middle(occurred[0])), math.log2(_middle(occurred[-1])), POINTS, base=2)
    curves = []
    for place, (streak, chosen) in enumerate(zip(KINDS, _kinds(ledger), strict=True)):
        strength, difficulty = _typical(memory, place, ledger, chosen)
        alone = memory.recall(delays, strength.expand(POINTS), difficulty.expand(POINTS))
        recall = reviewer.link.apply(alone, torch.tensor(LEAST_STREAK[place]).expand(POINTS))
        typical = {"examples": int(chosen.sum()), "strength": float(strength), "difficulty": float(difficulty)}
        curves.append({"streak": streak, **typical, "delays": delays.tolist(), "recall": recall.tolist()})
    return curves


def _typical(memory: Memory, place: int, ledger: Ledger, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Strength and difficulty of the median example; where there are few, of one that came so often, an epoch apart."""
    if int(chosen.sum()) >= SOME:
        return ledger.strength[chosen].median(), ledger.difficulty[chosen].median()
    one = torch.ones(1)
    grade = one if place else 0 * one
    numbers = memory.first(grade)
    for _ in range(LEAST_STREAK[place] - 1):
        numbers = memory.visit(one, *numbers, grade)
    return numbers[0][0], numbers[1][0]


def _middle(place: int) -> float:
    """The delay that stands for all between two edges."""
    return DELAYS[place] / math.sqrt(2) if place < len(DELAYS) else DELAYS[-1] * math.sqrt(2)


def _listed(
    ledger: Ledger, found: Tensor, labels: Tensor | None, classes: Sequence[str], name: Callable[[int], str]
) -> dict[str, Any]:
    """How many there are, and the first of them."""
    rows = [_example(ledger, index, labels, classes, name) for index in found[:LISTED].tolist()]
    return {"count": len(found), "examples": rows}


def _example(
    ledger: Ledger, index: int, labels: Tensor | None, classes: Sequence[str], name: Callable[[int], str]
) -> dict[str, Any]:
    label = None if labels is None else int(labels[index])
    return {
        "index": index,
        "name": name(index),
        "label": label,
        "class": classes[label] if label is not None and 0 <= label < len(classes) else None,
        "loss": float(ledger.loss[index]),
        "recall": float(ledger.recall[index]),
        "visits": int(ledger.visits[index]),
        "lapses": int(ledger.lapses[index]),
    }


def _plain(value: Any) -> Any:
    """The same with floats of six digits, none where one is not finite."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
