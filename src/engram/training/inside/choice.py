"""Which examples a page looks at: two that the network is sure of and right, two that it gets wrong, two at a border.

They are chosen among some that are spread over the pool: fewer of a network that costs more, so that choosing takes
about as long for any. Which they are depends on the network and the pool alone, not on how fast the machine is.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engram import accounting
from engram.attribution.score import asked
from engram.clinic.subject import scores_of
from engram.training.inside.seen import Seen

EACH = 2
"""Examples of each of three kinds."""
MOST = 512
"""Examples to choose from, of a small network."""
LEAST = 16
"""Examples to choose from, of a network however large."""
WORK = 5e9
"""Multiply-adds that choosing may cost: 122 examples of ResNet-20."""
BATCH = 64

KINDS = ("right", "wrong", "unsure")


@dataclass(frozen=True)
class Choice:
    """Examples with what the network says of them; the middle view, in float32.

    Args:
        indices: in the pool.
        x: (N, C, H, W) as the network takes them.
        truth: (N,).
        probability: (N, K).
        kinds: `right` and `wrong`: among those that the network is surest of; `unsure`: nearest to another class.
    """

    indices: tuple[int, ...]
    x: Tensor
    truth: Tensor
    probability: Tensor
    kinds: tuple[str, ...]

    @property
    def predicted(self) -> Tensor:
        return self.probability.argmax(1)


def multiply_adds(net: nn.Module, shape: tuple[int, ...]) -> int:
    """Of one input, (C, H, W); 2 billion, those of a ResNet-18 on photographs, where it cannot be counted."""
    try:
        return max(1, accounting.account(net, shape).macs)
    except Exception:  # a network of anybody's that does not run without values
        return 2_000_000_000


def candidates(seen: Seen, macs: int) -> list[int]:
    """Indices of the examples to choose from."""
    return seen.spread(max(LEAST, min(MOST, int(WORK / macs))))


def choose(net: nn.Module, seen: Seen, indices: list[int]) -> Choice:
    """Up to six of these examples, those of a kind together; more that are unsure where there are too few of a kind.

    Raises:
        ValueError: the network gives no finite probabilities.
    """
    rows = []
    with asked(net) as network, torch.no_grad():
        for start in range(0, len(indices), BATCH):
            x, y = seen.take(indices[start : start + BATCH])
            probability = scores_of(network(x)).float().softmax(1)
            rows.append((probability.cpu(), y.cpu()))
    probability, truth = (torch.cat(parts) for parts in zip(*rows, strict=True))
    picked = pick(probability, truth)
    if not picked:
        raise ValueError("the network gives no finite probabilities")
    places = [place for place, _ in picked]
    chosen = tuple(indices[place] for place in places)
    x, _ = seen.take(chosen)
    return Choice(chosen, x, truth[places], probability[places], tuple(kind for _, kind in picked))


def pick(probability: Tensor, truth: Tensor) -> list[tuple[int, str]]:
    """Places of up to six examples and their kinds: of the surest, those of different classes first.

    Args:
        probability: (N, K); an example without a finite one is left out.
        truth: (N,).

    >>> probability = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.45, 0.55], [0.1, 0.9], [0.3, 0.7]])
    >>> pick(probability, torch.tensor([0, 0, 1, 1, 0]))
    [(0, 'right'), (3, 'right'), (4, 'wrong'), (2, 'unsure'), (1, 'unsure')]
    """
    finite = probability.isfinite().all(1)
    sure, predicted = probability.nan_to_num(-1.0).max(1)
    best = probability.nan_to_num(-1.0).topk(min(2, probability.shape[1]), 1).values
    margin = best[:, 0] - best[:, -1]
    right = predicted == truth
    picked: list[tuple[int, str]] = []
    for kind, of in (("right", right), ("wrong", ~right)):
        there = [place for place in sure.argsort(descending=True, stable=True).tolist() if of[place] and finite[place]]
        picked += [(place, kind) for place in _different(there, predicted.tolist())[:EACH]]
    taken = {place for place, _ in picked}
    border = [one for one in margin.argsort(stable=True).tolist() if finite[one] and one not in taken]
    return [*picked, *((place, "unsure") for place in border[: len(KINDS) * EACH - len(picked)])]


def _different(places: list[int], classes: list[int]) -> list[int]:
    """The same places, the first of every class before the others."""
    seen: set[int] = set()
    first = [place for place in places if not (classes[place] in seen or seen.add(classes[place]))]
    return [*first, *(place for place in places if place not in first)]
