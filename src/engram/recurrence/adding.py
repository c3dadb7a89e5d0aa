"""The adding problem: a long row of numbers, two of them marked; what is their sum?

    x_t = (value, mark),   value even in 0..1,   mark 1 at one place of each half, else 0      y = the two marked, added

The first mark lies anywhere in the first half, so that it has to be kept over three quarters of the steps on average,
and over all but one at worst. The sum of two even numbers has the mean 1 and the variance 2/12: always
saying 1 has a mean squared error of

    1/6 = 0.16667

(Le et al. print 0.1767 for the same answer.) Better than that means that something
was remembered; by how much says how well.

Hochreiter and Schmidhuber 1997, Neural Computation 9(8), section 5.4, with values in -1..1, marks in the first tenth
and the first half, and a target between 0 and 1. In the form of Le, Jaitly, Hinton 2015, arXiv:1504.00941, section 4.1,
and Arjovsky et al. 2016, arXiv:1511.06464, section 4.2.
"""

import torch
from torch import Tensor

from engram.errors import UserError

ALWAYS_ONE = 1 / 6
"""Mean squared error of always saying 1."""


def adding(length: int, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """So many sequences (count, length, 2) of values and marks, and their sums (count,).

    Raises:
        UserError: a length below 2 or a count below 1.

    >>> x, y = adding(6, 1, torch.Generator().manual_seed(0))
    >>> x[0, :, 1].tolist(), bool(torch.isclose((x[0, :, 0] * x[0, :, 1]).sum(), y[0]))
    ([0.0, 1.0, 0.0, 0.0, 1.0, 0.0], True)
    """
    for name, value, least in (("length", length, 2), ("count", count, 1)):
        if value < least:
            raise UserError(f"{name} {value} is out of range", allowed=f"{least} or more")
    values = torch.rand(count, length, generator=rng)
    half = length // 2
    first = torch.randint(half, (count,), generator=rng)
    second = torch.randint(half, length, (count,), generator=rng)
    marks = torch.zeros(count, length)
    rows = torch.arange(count)
    marks[rows, first] = marks[rows, second] = 1.0
    return torch.stack((values, marks), dim=2), values[rows, first] + values[rows, second]


def needed(length: int) -> int:
    """Steps from the first number to the end, on average.

    >>> needed(40)
    30
    """
    return length * 3 // 4
