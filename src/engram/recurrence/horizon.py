"""Horizon: how many steps back the gradient still is a given share of what it is at its own step.

    horizon(n, share) = the number of steps k, counted from the last, with n_{T-j} ≥ share n_T for all j ≤ k

A task whose answer lies `span` steps back can be learned by its gradient where the horizon is at least the span. It may
be learned beyond, slowly, and an LSTM at its start looks worse than it is: its forget gates open while it learns. So a
short horizon says what is at risk, and the loss decides; see `span`.

Bengio et al. 1994, section III; the share of a hundredth is ours.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engram.errors import UserError

HUNDREDTH, HALF = 0.01, 0.5


def horizon(norms: Sequence[float] | NDArray[np.floating], share: float = HUNDREDTH) -> int | None:
    """Steps back over which the norms stay at or above that share of the last one; None where they never fall below.

    Args:
        norms: (T,), the oldest first.

    Raises:
        UserError: no norms, or a share outside 0 to 1.

    >>> horizon([0.001, 0.02, 0.3, 1.0]), horizon([0.001, 0.02, 0.3, 1.0], share=0.5), horizon([1.0, 1.0])
    (2, 0, None)
    """
    if len(norms) == 0:
        raise UserError("there are no norms", allowed="one for every step")
    if not 0 < share < 1:
        raise UserError(f"share {share} is out of range", allowed="between 0 and 1")
    backwards = np.asarray(norms, float)[::-1]
    if not backwards[0] > 0:  # nothing arrives at the last step itself, or not a number
        return 0
    below = ~(backwards >= share * backwards[0])  # not a number counts as gone
    return int(np.argmax(below)) - 1 if below.any() else None


def reaches(norms: Sequence[float] | NDArray[np.floating], span: int, share: float = HUNDREDTH) -> bool | None:
    """Whether the gradient covers what a task needs; None where the sequence was too short to say.

    >>> fading = [0.5**k for k in range(20)][::-1]
    >>> reaches(fading, 6), reaches(fading, 7), reaches([1.0, 1.0, 1.0], 10)
    (True, False, None)
    """
    found = horizon(norms, share)
    if found is None:
        return True if span < len(norms) else None
    return found >= span
