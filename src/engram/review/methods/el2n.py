"""Keep the examples on which an earlier run was most in error: static pruning by the error vector's length.

The score of an example is the length of the difference between predicted probabilities and the truth,

    EL2N = |p - y|_2,   |p - y|^2 = (1 - p_y)^2 + sum over the other classes of p_k^2

early in training. The `keep` share from the top is trained on, in random order each round; of equal ones a random part.

Helps: published, half of CIFAR-10 can be left out at no loss of accuracy, with scores after 20 epochs. Hurts where
the labels are wrong, since those score highest (the paper advises to leave out the very top then), and classes come
out more unequal.

In the paper: means over 10 networks after 20 of 200 epochs; keep 0.5. Where we differ: a ledger holds the probability
of the truth p_y alone, as the grade averaged over the visits of one earlier run, so that the sum over the other
classes is not known; it lies between (1 - p_y)^2 / (C - 1), all of them alike, and (1 - p_y)^2, all in one. We take
the upper end,

    score = sqrt(2) (1 - p_y)

which is exact for two classes and orders the examples by 1 - p_y; examples that are equally wrong in two ways are not
told apart. Where recall was measured as `correct` it is the error rate. An average of one short run is nearest to the
paper: an earlier run of full length has p_y near 1 nearly everywhere. Examples that it never visited are kept. Rounds
are whole batches, and a run resumes exactly.

Paul, Ganguli and Dziugaite 2021, "Deep Learning on a Data Diet: Finding Important Examples Early in Training",
NeurIPS, section 2.
"""

import torch

from engram.grammar import number
from engram.registry import register
from engram.review.method import Method
from engram.review.methods._earlier import Scored, earlier


@register("review", paper="Paul et al., Deep Learning on a Data Diet, NeurIPS 2021, section 2", year=2021, static=True)
def el2n(*, scores: str = "", keep: float = 0.5) -> Method:
    """Keeps the examples on which an earlier run was most in error.

    Args:
        scores: the ledger.parquet of an earlier run on the same data, with any seed.
        keep: share of the examples that is kept.
    """
    keep = number("el2n", "keep", keep, 0, 1, above=True)
    ledger = earlier("el2n", scores)
    errors = torch.where(ledger.seen, 2**0.5 * (1.0 - ledger.recall.float()), torch.inf)
    return Scored(name="el2n", path=str(scores), scores=errors, keep=keep)
