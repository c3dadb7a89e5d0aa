"""A random part of the examples every round, drawn anew: what any choice of examples must beat at the same size.

Helps as a control: it has the same rounds as a method that saves visits, and no information. Published for ResNet-18
on CIFAR-10 at 30, 50 and 70 % saved: 94.8, 94.5 and 93.0 %, where everything has 95.6 % and the best methods 0.5 to 2
points more than this. Hurts by drawing some examples often and others seldom: after n rounds a share (1 - p)^n is
still unseen. `rs2` goes through all of them in turn; a control that also has the exposure of a method is its permuted
run.

As a baseline in Raju et al. 2021, "Accelerating Deep Learning with Dynamic Data Pruning", and in Qin et al. 2024,
"InfoBatch", ICLR, section 3.
"""

from engram.grammar import number
from engram.registry import register
from engram.review.ledger import Ledger
from engram.review.method import Method, Moment, Round, whole_passes
from engram.review.methods._rounds import everything


class DynamicRandom(Method):
    """See the module."""

    permutable = False

    def __init__(self, *, share: float) -> None:
        self.share = self.least_share = share

    def plan(self, steps_per_pass: int, total_steps: int) -> list[int]:
        return whole_passes(max(1, round(self.share * steps_per_pass)), total_steps)

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        return everything(ledger, moment)


@register("review", paper="Raju et al. 2021; Qin et al., InfoBatch, ICLR 2024, section 3", year=2021)
def dynamic_random(*, share: float = 0.5) -> Method:
    """A random part of the examples every round, drawn anew.

    Args:
        share: share of the examples in a round.
    """
    return DynamicRandom(share=number("dynamic_random", "share", share, 0, 1, above=True))
