"""Drop a random half of what is below the mean loss, and weigh what is left of it double.

The score of an example is its last loss; 3.0 before its first visit. Once a round, with the mean over all scores,

    score >= mean:  visited, weight 1
    score <  mean:  visited with probability 1 - r, weight 1 / (1 - r)

so that each round's gradient is, in expectation, that of all examples. The last 1 - delta of the run visits everything.

Helps where many examples are known: at r = 0.5 it leaves out 25 to 35 % on CIFAR-10 and 40 to 45 % on MNIST. The saving
is capped, since what is above the mean is always visited. Published: CIFAR-10, ResNet-18, 95.1 % at 50 % saved, full
training 95.6 %, with the number of epochs adjusted. Hurts a little at equal epochs, as measured by others: 95.0 %
(SeTa's table). An ablation on ResNet-50 found no gain by the rescaling on clean data (95.60 without, 95.53 with). In
runs of ours its weights at a mean of 1 gave what plain shuffling gives: the mean of the published weights is above 1
and acts as a larger learning rate, and plain shuffling at that rate gave what InfoBatch gives (docs/review_results.md,
data that grows). `rescale` keeps them (`published`), brings them to a mean of 1 (`normalised`), or leaves them out
(`none`).

In the paper: r 0.5, delta 0.875. Where we differ: the round is cut to whole batches; delta counts visits and not
epochs; the mean is taken in double precision (in single precision equal scores can lie below their own mean, and the
first round was then pruned); no generator but the run's is touched, nothing is patched, and a run resumes exactly.
No round keeps less than a tenth of the known, as in the authors' program.

Qin et al. 2024, "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning", ICLR, section 2.
"""

import torch

from engram.grammar import choice, number
from engram.registry import register
from engram.review.ledger import Ledger
from engram.review.method import Method, Moment, Round
from engram.review.methods._rounds import RESCALES, everything, rescaled

UNSEEN = 3.0  # score before the first visit
LEAST_KEPT = 0.1


class InfoBatch(Method):
    """See the module."""

    def __init__(self, *, drop: float, delta: float, rescale: str) -> None:
        self.keep = min(1.0, max(LEAST_KEPT, 1.0 - drop))
        self.delta, self.rescale = delta, rescale
        self.least_share = self.keep

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        if moment.spent >= self.delta:
            return everything(ledger, moment)
        scores = torch.where(ledger.seen, ledger.loss.double(), UNSEEN)
        below = scores < scores.mean()
        known = moment.shuffle(below.nonzero().flatten())
        known = known[: int(self.keep * len(known))]
        indices = moment.shuffle(torch.cat([(~below).nonzero().flatten(), known]))
        weights = torch.where(below[indices], 1.0 / self.keep, 1.0)
        return rescaled(indices, weights, self.rescale)


@register("review", paper="Qin et al., InfoBatch, ICLR 2024, section 2", year=2024)
def infobatch(*, drop: float = 0.5, delta: float = 0.875, rescale: str = "published") -> Method:
    """Drops a random share of what is below the mean loss, and weighs the rest of it more.

    Args:
        drop: share of the examples below the mean that a round leaves out (r in the paper).
        delta: share of the visits after which everything is visited.
        rescale: published, normalised (to a mean of 1), or none.
    """
    return InfoBatch(
        drop=number("infobatch", "drop", drop, 0, 1),
        delta=number("infobatch", "delta", delta, 0, 1),
        rescale=choice("infobatch", "rescale", rescale, RESCALES),
    )
