"""Due dates by SuperMemo 2, the first scheduler of flash-card programs: `due` with the memory model `sm2`.

Every recall multiplies an example's interval by its easiness, a lapse starts it over. The model's card
(`engram.review.memory.sm2`) has its equations, that of `due` what is done with them.

Helps and hurts as `due` does; published for networks in continued pre-training (SRT, arXiv 2608.17530: 24 points
above uniform replay on a 1.1 B model's old knowledge, single runs, not monotone in the easiness at the start).

Wozniak 1990, "Optimization of learning", section 3.2.
"""

from engram.registry import register
from engram.review.method import Method
from engram.review.methods.due import Due


@register("review", paper="Wozniak 1990, Optimization of learning, section 3.2 (algorithm SM-2)", year=1990)
def sm2_due(*, retention: float = 0.9, fuzz: float = 0.25, longest: float = 16.0, weigh: bool = False) -> Method:
    """Visits examples when the interval that SuperMemo 2 gave them is over.

    Args:
        retention: predicted recall at which an example is due; 0.9 is where SuperMemo's intervals end.
        fuzz: share of an interval by which it is lengthened or shortened at random.
        longest: no interval is longer, clock units; the fuzz comes on top.
        weigh: weigh a visit by the rounds since the last one.
    """
    return Due(name="sm2_due", memory="sm2", retention=retention, fuzz=fuzz, longest=longest, weigh=weigh)
