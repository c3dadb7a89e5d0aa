"""From which span on a recurrent layer fails to learn: trained anew at longer and longer ones, until one is not solved.

    solved(span)  <=>  held-out loss ≤ `share` of the loss of the best answer without memory

The horizon of a gradient says what can be learned quickly; this says what is. Each span begins with the same weights'
seed, with fresh sequences at every step, so that nothing can be learned by heart; the held-out ones are the same all
along. Training ends early where the span is solved. More steps move the border: what is said is said of so many steps.

Adam at 3e-3 and a gradient whose norm is clipped at 1 are what all three learn with. Adding with 32 units, 900 steps at
most, seed 0, 2 to 25 s a span on one core: vanilla layers learn 10 and not 20, an LSTM (forget bias 0) 30 and not 60, a
GRU all up to 100, in 650 steps.

Hochreiter and Schmidhuber 1997, section 5.4; Le, Jaitly, Hinton 2015, arXiv:1504.00941, section 4.1 (longer and longer
sequences); Arjovsky, Shah, Bengio 2016, arXiv:1511.06464, section 4.1.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.errors import UserError, unknown
from engram.layers.recurrent import by_name
from engram.recurrence import adding, copying

EVERY = 50
"""Steps between looks at the held-out sequences."""


@dataclass(frozen=True)
class Task:
    """A problem whose span is its setting: sequences of that span, what the loss is without memory, what is needed."""

    make: Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]
    baseline: Callable[[int], float]
    needed: Callable[[int], int]
    inputs: int
    outputs: int


TASKS = {
    "adding": Task(adding.adding, lambda length: adding.ALWAYS_ONE, adding.needed, 2, 1),
    "copying": Task(copying.copying, copying.memoryless, copying.needed, copying.TOKENS, copying.TOKENS),
    "recall": Task(
        partial(copying.copying, length=1),
        partial(copying.memoryless, length=1),
        partial(copying.needed, length=1),
        copying.TOKENS,
        copying.TOKENS,
    ),
}
"""`recall` is copying with a single symbol."""


@dataclass(frozen=True)
class Tried:
    """One span: the held-out loss reached beside that without memory, after how many steps and seconds."""

    span: int
    loss: float
    baseline: float
    solved: bool
    steps: int
    seconds: float


class Answers(nn.Module):
    """A recurrent layer and a linear head that answers once at the end, or at every step.

    >>> from engram.layers.recurrent import GRU
    >>> Answers(GRU(2, 8), 1, at_end=True)(torch.zeros(4, 10, 2)).shape
    torch.Size([4, 1])
    """

    def __init__(self, recurrent: nn.RNNBase, outputs: int, *, at_end: bool) -> None:
        super().__init__()
        self.recurrent, self.at_end = recurrent, at_end
        self.head = nn.Linear(recurrent.hidden_size, outputs)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, D), or (B, T) tokens
        if x.dim() == 2:
            x = F.one_hot(x, self.recurrent.input_size).float()  # (B, T, D)
        states, _ = self.recurrent(x)  # (B, T, H)
        return self.head(states[:, -1] if self.at_end else states)  # (B, outputs), or (B, T, outputs)


def spans(
    kind: str,
    task: str = "adding",
    lengths: Sequence[int] = (10, 20, 40, 80),
    *,
    hidden_size: int = 32,
    steps: int = 900,
    batch_size: int = 32,
    lr: float = 3e-3,
    share: float = 0.3,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
) -> list[Tried]:
    """Train at each span, the shortest first, until one is not solved; the last row is the one that failed, if any.

    Args:
        kind: rnn, lstm or gru.
        task: adding, whose span is the length; copying or recall (of one symbol), whose span is the delay.
        lengths: spans to try.
        share: of the loss without memory at or below which a span counts as solved.
        settings: of the recurrent layer, such as `forget_bias`.

    Raises:
        UserError: an unknown kind or task, no spans, or a share outside 0 to 1.

    >>> [(one.span, one.solved) for one in spans("gru", lengths=[4], hidden_size=8, steps=0)]
    [(4, False)]
    """
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    if not lengths:
        raise UserError("there are no spans to try", allowed="one or more lengths")
    if not 0 < share < 1:
        raise UserError(f"share {share} is out of range", allowed="between 0 and 1")
    by_name(kind)
    tried: list[Tried] = []
    for span in sorted(lengths):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            recurrent = by_name(kind)(TASKS[task].inputs, hidden_size, **(settings or {}))
            net = Answers(recurrent, TASKS[task].outputs, at_end=task == "adding")
        tried.append(_try(net, TASKS[task], span, steps, batch_size, lr, share, seed))
        if not tried[-1].solved:
            break
    return tried


def losses(answers: Tensor, y: Tensor) -> Tensor:
    """Squared errors (B,) of numbers, cross-entropies (B, T) of tokens.

    >>> losses(torch.tensor([[1.0]]), torch.tensor([3.0]))
    tensor([4.])
    """
    if y.is_floating_point():
        return (answers[:, 0] - y).square()
    return F.cross_entropy(answers.movedim(-1, 1), y, reduction="none")


def _try(net: Answers, task: Task, span: int, steps: int, batch_size: int, lr: float, share: float, seed: int) -> Tried:
    rng = torch.Generator().manual_seed(seed)
    held_out = task.make(span, 256, rng)
    baseline, began = task.baseline(span), time.perf_counter()
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    loss, step = _held_out(net, *held_out), 0
    while step < steps and not loss <= share * baseline:
        x, y = task.make(span, batch_size, rng)
        optimizer.zero_grad()
        losses(net(x), y).mean().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % EVERY == 0 or step == steps:
            loss = _held_out(net, *held_out)
    return Tried(span, loss, baseline, loss <= share * baseline, step, time.perf_counter() - began)


def _held_out(net: Answers, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float(losses(net(x), y).mean())
