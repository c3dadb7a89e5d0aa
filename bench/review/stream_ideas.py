"""What was tried beside the library's methods, each a few lines: recorded by `streams.py ideas`."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.review import selection
from engram.review.stream import ReviewStream
from engram.review.stream_methods import ForgettingCurve, Held, StreamMethod, chances, predicted


class NotComing(StreamMethod):
    """Uniform over the classes that do not come now: knows the new batch's classes, and nothing of any example."""

    def choose(self, held: Held) -> Tensor:
        apart = ~torch.isin(held.labels, held.coming if held.coming is not None else held.labels[:0])
        return selection.systematic(chances(apart, held.quota, 0.1), held.rng)


class WrongLast(StreamMethod):
    """Seven of ten reviews go to examples that were wrong at their last visit."""

    def choose(self, held: Held) -> Tensor:
        return selection.systematic(chances(held.ledger.streak == 0, held.quota, 0.3), held.rng)


class ByLoss(StreamMethod):
    """With a probability in proportion to the last loss."""

    def choose(self, held: Held) -> Tensor:
        return selection.systematic(chances(held.ledger.loss, held.quota, 0.1), held.rng)


class ByAge(StreamMethod):
    """With a probability in proportion to the time since the last visit: balance over age, no look at any loss."""

    def choose(self, held: Held) -> Tensor:
        return selection.systematic(chances(held.clock - held.ledger.last, held.quota, 0.1), held.rng)


class Towards0(ForgettingCurve):
    """The forgetting curve, where memories relax to nothing instead of to what is known on average."""

    def choose(self, held: Held) -> Tensor:
        ledger, memory = held.ledger, self.memory
        assert memory is not None
        left = memory.left((held.clock - ledger.last).clamp_min(0), ledger.strength, ledger.difficulty)
        return selection.systematic(chances(1 - ledger.recall.float() * left, held.quota, self.floor), held.rng)


class ByClass(ForgettingCurve):
    """Every example has the mean predicted forgetting of its class: what is lost is lost together."""

    def choose(self, held: Held) -> Tensor:
        lost = 1 - predicted(held, self.memory)
        return selection.systematic(chances(class_means(lost, held.labels), held.quota, self.floor), held.rng)


class EvenClasses(ForgettingCurve):
    """As many reviews for each class; inside a class by predicted forgetting."""

    def choose(self, held: Held) -> Tensor:
        lost = 1 - predicted(held, self.memory)
        even = lost / class_means(lost, held.labels).clamp_min(1e-9)
        return selection.systematic(chances(even, held.quota, self.floor), held.rng)


def class_means(values: Tensor, labels: Tensor) -> Tensor:
    """(N,) the mean of the values over the examples of the same class."""
    _, place, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    return (torch.zeros(len(counts)).scatter_add_(0, place, values) / counts)[place]


class Interference(StreamMethod):
    """Those of `pool` times as many drawn ones whose loss a step on the new batch alone would raise most.

    Aljundi et al. 2019, "Online Continual Learning with Maximally Interfered Retrieval", section 3.1 (ER-MIR). A step
    of B new and B reviewed examples costs 6 B forward passes; this adds 3 B for the trial step and 2 pool B.
    """

    def __init__(self, net: nn.Module, lr: float, pool: int = 2) -> None:
        self.net, self.lr, self.pool = net, lr, pool
        self.stream: ReviewStream | None = None
        self.new: tuple[Tensor, Tensor] | None = None

    def choose(self, held: Held) -> Tensor:
        assert self.stream is not None
        assert self.new is not None
        places = torch.randperm(len(held.ledger), generator=held.rng)[: self.pool * held.quota]
        columns = self.stream.store.take(places)
        x, y = columns["0"], columns["1"]
        weights = [p for p in self.net.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(F.cross_entropy(self.net(self.new[0]), self.new[1]), weights)
        with torch.no_grad():
            before = F.cross_entropy(self.net(x), y, reduction="none")
            torch._foreach_add_(weights, gradients, alpha=-self.lr)
            after = F.cross_entropy(self.net(x), y, reduction="none")
            torch._foreach_add_(weights, gradients, alpha=self.lr)
        return places[torch.topk(after - before, held.quota).indices]


Arm = dict[str, Any] | Callable[[], StreamMethod]
CURVE = {"method": "forgetting_curve", "coming": 0.0}
IDEAS: dict[str, Arm] = {
    "uniform": {"method": "uniform"},
    "uniform, balanced reservoir": {"method": "uniform", "balanced": True},
    "forgetting curve": CURVE,
    "its chances sharper (exponent 2)": {**CURVE, "sharpness": 2.0},
    "half of it uniform (floor 0.5)": {**CURVE, "floor": 0.5},
    "its classes that come now left out": {**CURVE, "coming": 1.0},
    "its store a balanced reservoir": {**CURVE, "balanced": True},
    "its memory a power law": {**CURVE, "memory": "power_law"},
    "its memory a half-life regression": {**CURVE, "memory": "half_life"},
    "its memories relax to nothing": Towards0,
    "its forgetting class by class": ByClass,
    "its reviews even over classes": EvenClasses,
    "uniform over classes that do not come now": NotComing,
    "wrong at the last visit": WrongLast,
    "in proportion to the last loss": ByLoss,
    "in proportion to the time unseen": ByAge,
}
