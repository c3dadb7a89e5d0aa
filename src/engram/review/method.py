"""What a review method is: it chooses the examples of a round, and may learn from what their visits showed.

Training is cut into rounds. Before a round the method chooses, as a pure function of (ledger, its own state, moment),
which examples are visited, in which order and with which weights. Nothing changes inside a round, so that batches may
be read ahead by any number of processes, and the number of steps is known before training. After the round it is told
what was observed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from engram.errors import UserError
from engram.review.ledger import Ledger, Observed
from engram.review.memory import Memory


@dataclass(frozen=True)
class Moment:
    """Where in training a round begins.

    Args:
        round: rounds before this one.
        quota: visits that this round has; all that are left where the method does not plan its rounds.
        left: visits left of the whole run, this round's included.
        spent: share of the run's visits made so far, 0 to 1.
        clock: now, in clock units: visits a number of examples, scaled as the run's clock says.
        batch_size: examples a step.
        rng: on the CPU, seeded by (seed, round) alone; every draw comes from it.
        labels: (N,) classes of the examples, where they are known.
    """

    round: int
    quota: int
    left: int
    spent: float
    clock: float
    batch_size: int
    rng: torch.Generator
    labels: Tensor | None = None

    def shuffle(self, indices: Tensor) -> Tensor:
        """The same indices in a random order."""
        return indices[torch.randperm(len(indices), generator=self.rng).to(indices.device)]


@dataclass(frozen=True)
class Round:
    """What is visited: (K,) int64 indices in their order, and weights (K,) float32, none for all alike.

    Weights are brought to a mean of 1 by whoever feeds the round: otherwise they would be another learning rate.
    `normalise=False` leaves them as they are, for methods that were published so.
    """

    indices: Tensor
    weights: Tensor | None = None
    normalise: bool = True


class Method:
    """A review method; the base class visits nothing by itself and remembers nothing.

    Attributes:
        memory: keeps strength and difficulty in the ledger; none where the method does not use them.
        retention: predicted recall at which an example is due.
        least_share: the smallest share of the examples a round may have; smaller ones are filled up at random.
        charge: what a visit costs, in visits: 1 for a forward and a backward pass (a forward pass alone is a third).
        classes: whether it has to be told the classes.
        permutable: whether it chooses by what this run remembers of each example, through `choose`'s ledger or through
            `fold`: only then is it another method where the examples' memories are exchanged.
        built: the name and every setting, where it was built by name: a state goes on with the same ones.
    """

    memory: Memory | None = None
    retention: float = 0.9
    least_share: float = 1.0
    charge: float = 1.0
    classes: bool = False
    permutable: bool = True
    built: Mapping[str, Any] = MappingProxyType({})

    def plan(self, steps_per_pass: int, total_steps: int) -> list[int] | None:
        """Steps of every round, known beforehand; None where the size of a round depends on what is observed."""
        return None

    def meet(self, names: Sequence[str]) -> None:
        """The examples by name, in their order, once before training and where they have names.

        For methods that know some of them from elsewhere.
        """

    def own(self, rows: Tensor | Sequence[Tensor], examples: int) -> None:
        """Which examples the ledger's rows are, once before training and where they are not all of them in order.

        For methods that know something of each example beforehand.

        Args:
            rows: (n,) int64 the place in the data set of each row's example, as where several processes share them; or
                the places of several a row, where batches are remembered as a whole.
            examples: of the whole data set.
        """

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        """The examples of the round that begins."""
        raise NotImplementedError

    def weigh(self, losses: Tensor, rng: torch.Generator) -> Tensor | None:
        """(B,) weights of one batch from its detached losses, after the forward pass; none to leave them as they are.

        A weight of 0 takes an example out of the gradient; it still counts as seen.
        """
        return None

    def fold(self, observed: Observed, ledger: Ledger) -> None:
        """What the method itself learns from a round, after the ledger has taken it in."""

    def tell(self) -> dict[str, Any]:
        """What the method found out by itself, for the summary of the run: names to numbers and lists."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and text that the method keeps between rounds."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse of `state_dict`."""


def check_permutable(method: Method) -> None:
    """Refuse a control that would be the method itself.

    Raises:
        UserError: the method looks at nothing that could be exchanged.
    """
    if not method.permutable:
        name = method.built.get("method", type(method).__name__)
        raise UserError(
            f"{name} has no permuted control: it chooses by nothing that the run remembers of an example, and would "
            "visit the same ones with their memories exchanged",
            allowed="permuted with methods that choose by what they remember, as forgetting_curve does",
            then="shuffle is the control that knows nothing",
        )


def even(steps: int, quota: int, most: int | None = None) -> list[int]:
    """`steps` cut into rounds of about `quota` and at most `most`, alike to within one step.

    >>> even(10, 4)
    [5, 5]
    >>> even(3, 4)
    [3]
    >>> even(11, 8), even(11, 8, 10)
    ([11], [5, 6])
    """
    if steps <= 0:
        return []
    number = max(1, round(steps / max(1, quota)), -(-steps // (most or steps)))
    return [steps * (place + 1) // number - steps * place // number for place in range(number)]


def whole_passes(steps_per_pass: int, total_steps: int) -> list[int]:
    """`total_steps` cut into full passes, and what is left of one at the end.

    >>> whole_passes(4, 10)
    [4, 4, 2]
    """
    full, rest = divmod(total_steps, steps_per_pass)
    return [steps_per_pass] * full + ([rest] if rest else [])


def stretched(rounds: list[int], ratio: float) -> list[int]:
    """Rounds `ratio` times as long, as many as make the same number of steps.

    >>> stretched([4, 2, 2, 4], 2.0), stretched([4, 4, 1], 1.5), stretched([], 2.0)
    ([8, 4], [6, 3], [])
    """
    left = sum(rounds)
    longer = []
    for steps in rounds:
        longer.append(min(left, round(steps * ratio)))
        left -= longer[-1]
    return [steps for steps in longer if steps]
