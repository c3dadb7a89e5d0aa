"""Keep the examples that an earlier run forgot most often: static pruning by forgetting events.

A forgetting event is a visit that does not recall an example which its last visit had recalled. Examples are ordered
by how many they had; those that were never recalled at all stand above all others. The `keep` share from the top is
trained on, in random order each round; of equal ones a random part, once.

Helps where many examples are never forgotten. Published: about 30 % of CIFAR-10 have no event and can be left out
without loss, and the counts carry over to other networks. Hurts twice: the earlier run has to be paid for, and the
hard end of the order is where wrong labels are. Published elsewhere: classes come out more unequal than from random
pruning.

In the paper: counts over a whole run, averaged over several, and 30 % of CIFAR-10 left out. Where we differ: counts
are those of one earlier run's ledger, under whichever review it had (`scores`, its ledger.parquet); examples that it
never visited are kept; what counts as recalled is that run's measure. Rounds are whole batches, and a run resumes
exactly.

Toneva et al. 2019, "An Empirical Study of Example Forgetting during Deep Neural Network Learning", ICLR, section 5.
"""

import torch

from engram.grammar import number
from engram.registry import register
from engram.review.method import Method
from engram.review.methods._earlier import Scored, earlier


@register("review", paper="Toneva et al., Example Forgetting, ICLR 2019, section 5", year=2019, static=True)
def forgetting_events(*, scores: str = "", keep: float = 0.7) -> Method:
    """Keeps the examples that an earlier run forgot most often.

    Args:
        scores: the ledger.parquet of an earlier run on the same data, with any seed.
        keep: share of the examples that is kept.
    """
    keep = number("forgetting_events", "keep", keep, 0, 1, above=True)
    ledger = earlier("forgetting_events", scores)
    never_learned = (ledger.lapses == 0) & (ledger.streak == 0)
    counts = torch.where(never_learned, torch.inf, ledger.lapses.float())
    return Scored(name="forgetting_events", path=str(scores), scores=counts, keep=keep)
