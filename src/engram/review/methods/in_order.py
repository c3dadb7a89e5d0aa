"""Every example once a round, in the order in which they lie: for a long text that is read on from chunk to chunk.

Nothing is mixed, so that the state of a recurrent network can go from each chunk to the next one. The seed decides
nothing here.

Helps: where examples follow each other, and what came before says what comes next. Hurts: everywhere else; neighbours
are alike, and the network forgets the ones while it sees the others.

Mikolov et al. 2010, Recurrent neural network based language model, section 2: the training text read from its beginning
to its end, pass after pass.
"""

import torch

from engram.registry import register
from engram.review.ledger import Ledger
from engram.review.method import Method, Moment, Round, whole_passes


class InOrder(Method):
    """0, 1, 2 and so on, round after round; of a part of a round, those visited least, the first of them."""

    permutable = False  # the counts of visits say where it stands, and nothing of an example

    def plan(self, steps_per_pass: int, total_steps: int) -> list[int]:
        return whole_passes(steps_per_pass, total_steps)

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        least = torch.argsort(ledger.visits, stable=True)[: moment.quota]  # all of them in a whole round
        return Round(least.sort().values.cpu())


@register("review", paper="Mikolov et al. 2010, Recurrent neural network based language model", year=2010)
def in_order() -> Method:
    """Every example once a round, in the order in which they lie."""
    return InOrder()
