"""The copying problem: ten symbols, a long wait, and then all ten again: how long can a network keep what it was told?

    read      s1 .. s10   (delay - 1) blanks   GO   10 blanks            delay + 20 steps
    say       (delay + 10) blanks                   s1 .. s10

One symbol in place of ten (`length=1`) is pure memory: the ten must also be kept apart, which takes thousands of steps
to learn even where the delay is nothing.

The symbols are drawn evenly from eight, 0 to 7; the blank is 8, the signal to answer 9. Every answer lies delay + 10
steps after what it repeats. Who remembers nothing can say all blanks and guess the ten among eight:

    cross-entropy = length log 8 / (delay + 2 length)  nats a step,   10 log 8 / (delay + 20) for ten

so that a loss at that baseline means: not one symbol was kept.

Arjovsky, Shah, Bengio 2016, Unitary evolution recurrent neural networks, arXiv:1511.06464, section 4.1, whose T is
`delay`; after Hochreiter and Schmidhuber 1997, Neural Computation 9(8), section 5.
"""

import math

import torch
from torch import Tensor

from engram.errors import UserError

SYMBOLS, LENGTH = 8, 10
BLANK, GO = SYMBOLS, SYMBOLS + 1
TOKENS = SYMBOLS + 2


def copying(delay: int, count: int, rng: torch.Generator, *, length: int = LENGTH) -> tuple[Tensor, Tensor]:
    """So many sequences and what is to be said at every step, (count, delay + 2 length) int64 each.

    Raises:
        UserError: a delay, a count or a length below 1.

    >>> x, y = copying(3, 1, torch.Generator().manual_seed(0))
    >>> x.tolist()[0][10:], y.tolist()[0][:13] == [8] * 13, x[0, :10].tolist() == y[0, 13:].tolist()
    ([8, 8, 9, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8], True, True)
    """
    for name, value in (("delay", delay), ("count", count), ("length", length)):
        if value < 1:
            raise UserError(f"{name} {value} is out of range", allowed="1 or more")
    symbols = torch.randint(SYMBOLS, (count, length), generator=rng)
    x = torch.full((count, delay + 2 * length), BLANK)
    y = x.clone()
    x[:, :length] = symbols
    x[:, length + delay - 1] = GO
    y[:, -length:] = symbols
    return x, y


def memoryless(delay: int, length: int = LENGTH) -> float:
    """Cross-entropy a step, nats, of the best answer without any memory.

    >>> round(memoryless(100), 4)
    0.1733
    """
    return length * math.log(SYMBOLS) / (delay + 2 * length)


def needed(delay: int, length: int = LENGTH) -> int:
    """Steps between a symbol and its answer.

    >>> needed(3)
    13
    """
    return delay + length
