"""Due dates by FSRS, the scheduler of today's flash-card programs: `due` with the memory model `fsrs`.

Three numbers an example, of which two are stored: difficulty, stability, and the recall that follows from the delay.
The model's card (`engram.review.memory.fsrs`) has its equations, that of `due` what is done with them.

Helps and hurts as `due` does. Measured here: the stability of small networks is many times people's and grows less by
practice, so that the constants must be fitted to the network's own record and never copied.

Ye et al. 2022, "A Stochastic Shortest Path Algorithm for Optimizing Spaced Repetition Scheduling", KDD; as FSRS in
the open-spaced-repetition project.
"""

from engram.registry import register
from engram.review.method import Method
from engram.review.methods.due import Due


@register("review", paper="FSRS; Ye et al., KDD 2022", year=2022)
def fsrs(*, retention: float = 0.9, fuzz: float = 0.25, longest: float = 16.0, weigh: bool = False) -> Method:
    """Visits examples when FSRS predicts that their recall has fallen to the wanted retention.

    Args:
        retention: predicted recall at which an example is due.
        fuzz: share of an interval by which it is lengthened or shortened at random.
        longest: no interval is longer, clock units; the fuzz comes on top.
        weigh: weigh a visit by the rounds since the last one.
    """
    return Due(name="fsrs", memory="fsrs", retention=retention, fuzz=fuzz, longest=longest, weigh=weigh)
