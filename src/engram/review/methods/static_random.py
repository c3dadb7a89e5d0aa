"""One random part of the examples, the same for the whole run: a smaller data set.

Helps as the control for static pruning: a part chosen by scores must beat a part chosen by nothing. Published for
ResNet-18 on CIFAR-10 at 30, 50 and 70 % left out: 94.6, 93.3 and 90.2 %, where a new random part each round has 94.8,
94.5 and 93.0 %. Hurts for good: what is left out is never seen.

As a baseline in Qin et al. 2024, "InfoBatch", ICLR, section 3, and in most papers on pruning data. Where we differ:
of examples that come during the run the same share is kept; rounds are whole batches; a run resumes exactly.
"""

import torch
from torch import Tensor

from engram.grammar import number
from engram.registry import register
from engram.review.method import Method, Moment
from engram.review.methods._subset import Subset


class StaticRandom(Subset):
    """See the module."""

    def pick(self, examples: int, number: int, moment: Moment) -> Tensor:
        return torch.randperm(examples, generator=moment.rng)[:number]


@register("review", paper="Qin et al., InfoBatch, ICLR 2024, section 3", year=2024, static=True)
def static_random(*, share: float = 0.5) -> Method:
    """One random part of the examples, the same for the whole run.

    Args:
        share: share of the examples that is kept.
    """
    return StaticRandom(share=number("static_random", "share", share, 0, 1, above=True))
