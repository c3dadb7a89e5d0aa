"""What share of the examples each epoch saw: an epoch is as many visits as there are examples, in any rounds.

A round says how many different examples it saw; two rounds of an epoch may see the same ones. So the examples that an
epoch has seen are kept while it lasts, a byte each, and the share when it is over.
"""

from collections.abc import Mapping
from math import isnan, nan
from typing import Any

import torch
from torch import Tensor


class Epochs:
    """Counts them.

    Attributes:
        shares: of the examples that were seen in each epoch, the one that goes on last; not a number of those
            that were not counted from their first step on.
        seen: (N,) which were in that one.

    >>> epochs = Epochs(4)
    >>> epochs.add(torch.tensor([0, 1, 1, 2, 3, 3]), torch.tensor([0, 0, 1, 1, 2, 2]), steps_per_pass=2)
    >>> epochs.shares
    [0.75, 0.25]
    """

    def __init__(self, examples: int) -> None:
        self.seen = torch.zeros(examples, dtype=torch.bool)
        self.shares: list[float] = []

    def add(self, indices: Tensor, steps: Tensor, *, steps_per_pass: int) -> None:
        """Take visits in: (K,) whose, and (K,) in which step of the run, rising."""
        indices, steps = indices.cpu(), steps.cpu()
        epochs = steps // steps_per_pass
        for epoch in epochs.unique().tolist():
            now = epochs == epoch
            if epoch >= len(self.shares):
                whole = int(steps[now][0]) == epoch * steps_per_pass  # it is counted from its first step on
                self.shares += [nan] * (epoch - len(self.shares)) + [0.0 if whole else nan]
                self.seen.zero_()
            self.seen[indices[now]] = True
            if not isnan(self.shares[-1]):
                self.shares[-1] = float(self.seen.double().mean())

    def grow(self, examples: int) -> None:
        """Examples have come to the end of the data set: epochs are longer now, and those before are dropped."""
        self.seen, self.shares = torch.zeros(examples, dtype=torch.bool), []

    def state_dict(self) -> dict[str, Any]:
        """Numbers and a tensor."""
        return {"seen": self.seen.clone(), "shares": list(self.shares)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse of `state_dict`; of nothing, as before the first visit."""
        self.seen = state["seen"].cpu().clone() if state else torch.zeros_like(self.seen)
        self.shares = list(state.get("shares", ()))
