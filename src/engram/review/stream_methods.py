"""Which of the remembered examples are reviewed beside the new ones of a stream.

* `none`: none. * `recent`: those that came last. * `uniform`: any, alike (experience replay). * `loss`: those with the
largest loss at their last visit. * `due`: those with the lowest predicted recall.
* `forgetting_curve`: at random, the more likely the less is predicted to be left of an example:

      r = mu' + (m - mu') R(delay, strength, difficulty),   mu' = min(m, mu)
      chance = K ((1 - floor) s / sum s + floor / N),       s = (1 - r)^sharpness      at most 1

  with m an example's average grade and mu that of all that are held, as in a review with shuffling; K of the N that
  are held, exactly, by systematic sampling. `floor` is the share of the reviews that is uniform. `coming` takes that
  share of the rest away from examples of classes that the new ones have too: those are learned anyway.

Helps: what the network has just learned and what it knows well is left alone, and the reviews go to the tasks that
slip. MNIST in five tasks (`bench/review/streams.py`, 5 seeds, test accuracy in points over uniform replay): +2.1 with
200 places, +2.6 with 1,000, +4.2 with all (95.2 %). More than half of it with 200 places, a third with more, comes
from leaving out the classes that are coming alone; the decay of memories adds 0.2 to 0.3 to a choice by grade, which 5
seeds do not tell from nothing. Hurts: where little is known of anything it says little. CIFAR-10, learned to 30 %,
showed no difference to uniform replay (+4 and +5 points, and as much between seeds); the digits (140 steps) showed none
either, and one of their runs fell apart. Always taking the lowest recall (`due`) or the largest loss comes back to the
few examples that cannot be learned, and falls the further behind the more there is to choose from: they are here to be
compared with.

Chaudhry et al. 2019, "On Tiny Episodic Memories in Continual Learning", section 4 (uniform, ring, reservoir). Amiri,
Miller and Savova 2017, "Repeat before Forgetting" (what is about to be forgotten).
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engram import switches
from engram.errors import UserError, nearest, unknown
from engram.grammar import number
from engram.review import memory as memories
from engram.review import selection
from engram.review.ledger import Ledger
from engram.review.memory import Memory


@dataclass(frozen=True)
class Held:
    """What a method sees when a batch has come.

    Args:
        ledger: a row for each of the N examples that are held; all of them have been visited.
        arrival: (N,) int64 the how-manieth each was, from 0.
        labels: (N,) int64 their classes, -1 where they have none.
        coming: (B,) int64 classes of the new examples; none where they have none.
        quota: how many are reviewed, 1 to N.
        clock: now.
        rng: on the CPU, seeded by (seed, step) alone; every draw comes from it.
    """

    ledger: Ledger
    arrival: Tensor
    labels: Tensor
    coming: Tensor | None
    quota: int
    clock: float
    rng: torch.Generator


class StreamMethod:
    """Chooses what is reviewed.

    Attributes:
        memory: keeps strength and difficulty in the ledger; none where they are not used.
        reviews: whether it ever reviews.
        permutable: whether it looks at anything that the rows of other examples would change.
    """

    memory: Memory | None = None
    reviews: bool = True
    permutable: bool = True

    def choose(self, held: Held) -> Tensor:
        """(quota,) int64 rows of what is held, all different."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and text that the method keeps."""
        return {} if self.memory is None else {"memory": dict(self.memory.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse of `state_dict`."""
        if self.memory is not None:
            self.memory.load_state_dict(state["memory"])


class NoReview(StreamMethod):
    """New examples alone."""

    reviews = False
    permutable = False


class Recent(StreamMethod):
    """Those that came last."""

    def choose(self, held: Held) -> Tensor:
        return highest(held.arrival, held)


class Uniform(StreamMethod):
    """Any, alike."""

    permutable = False

    def choose(self, held: Held) -> Tensor:
        return torch.randperm(len(held.ledger), generator=held.rng)[: held.quota]


class LargestLoss(StreamMethod):
    """Those with the largest loss at the last visit."""

    def choose(self, held: Held) -> Tensor:
        return highest(held.ledger.loss, held)


class Due(StreamMethod):
    """Those with the lowest predicted recall.

    Args:
        memory: the memory model, see `engram show memories`.
    """

    def __init__(self, memory: str = "fsrs") -> None:
        self.memory = memories.build(memory)

    def choose(self, held: Held) -> Tensor:
        return highest(-predicted(held, self.memory), held)


class ForgettingCurve(StreamMethod):
    """At random by predicted forgetting, see the module.

    Args:
        memory: the memory model, see `engram show memories`.
        floor: share of the reviews that is uniform.
        sharpness: exponent of the predicted forgetting; more comes closer to the lowest recall first.
        coming: share of their chance that examples lose while their class is among the new ones; where classes are
            not known, or all of them are coming, none lose any.
        forgetting: False predicts by the average grade alone, as if nothing were ever forgotten.
    """

    def __init__(
        self,
        memory: str = "fsrs",
        floor: float = 0.1,
        sharpness: float = 1.0,
        coming: float = 1.0,
        forgetting: bool = True,
    ) -> None:
        name = "forgetting_curve"
        self.memory = memories.build(memory)
        self.floor = number(name, "floor", floor, 0, 1)
        self.sharpness = number(name, "sharpness", sharpness, 0, above=True)
        self.coming = number(name, "coming", coming, 0, 1)
        self.forgetting = forgetting

    def choose(self, held: Held) -> Tensor:
        recall = predicted(held, self.memory if self.forgetting else None)
        scores = (1.0 - recall).clamp_min(0) ** self.sharpness
        if self.coming and held.coming is not None:
            less = torch.where(torch.isin(held.labels, held.coming), (1.0 - self.coming) * scores, scores)
            scores = less if bool((less > 0).any()) else scores  # where all classes come, none is left out
        return selection.systematic(chances(scores, held.quota, self.floor), held.rng)


def predicted(held: Held, memory: Memory | None) -> Tensor:
    """(N,) predicted recall now: an example's average grade, relaxing to that of all; without a memory, the grade."""
    ledger, known = held.ledger, held.ledger.recall.float()
    if memory is None:
        return known
    left = memory.left((held.clock - ledger.last).clamp_min(0), ledger.strength, ledger.difficulty)
    base = torch.minimum(known, known.mean())
    return base + (known - base) * left


def highest(values: Tensor, held: Held) -> Tensor:
    """The rows of the largest values; equal ones at random."""
    order = torch.randperm(len(values), generator=held.rng)
    return order[torch.argsort(values[order], descending=True, stable=True)][: held.quota]


def chances(scores: Tensor, quota: int, floor: float) -> Tensor:
    """(N,) float64 probabilities that add up to the quota: a share `floor` of it uniform, the rest by score.

    >>> [round(chance, 3) for chance in chances(torch.tensor([3.0, 1.0, 0.0, 0.0]), 1, 0.2).tolist()]
    [0.65, 0.25, 0.05, 0.05]
    """
    scores, even = scores.double(), 1.0 / len(scores)
    total = float(scores.sum())
    mixed = (1.0 - floor) * scores / total + floor * even if total > 0 else torch.full_like(scores, even)
    mixed = quota * mixed
    return mixed if float(mixed.max()) <= 1 else selection.inclusion(mixed, quota)


METHODS: dict[str, Callable[..., StreamMethod]] = {
    "none": NoReview,
    "recent": Recent,
    "uniform": Uniform,
    "forgetting_curve": ForgettingCurve,
    "due": Due,
    "loss": LargestLoss,
}


def build(name: str, settings: Mapping[str, Any] | None = None) -> StreamMethod:
    """The method of that name.

    Raises:
        UserError: no such method or setting, with the nearest one.

    >>> build("forgetting_curve", {"floor": 0.2}).floor
    0.2
    """
    if name not in METHODS:
        raise unknown("method of a stream", name, METHODS)
    built = METHODS[name]
    known = inspect.signature(built).parameters if "__init__" in vars(built) else {}
    for word, value in (settings or {}).items():
        if word not in known:
            raise UserError(
                f"a stream reviewed by {name!r} has no setting {word!r}",
                allowed=", ".join(known) or "none",
                nearest=nearest(word, known),
            )
        switches.check(name, known[word], value)
    return built(**(settings or {}))


def check_permutable(method: StreamMethod) -> None:
    """Refuse a control that would be the method itself.

    Raises:
        UserError: the method looks at nothing that could be exchanged.
    """
    if not method.permutable:
        raise UserError(
            f"{type(method).__name__} has no permuted control: it chooses by nothing that is remembered of an example",
            allowed="permuted with methods that choose by what they remember, as forgetting_curve does",
        )
