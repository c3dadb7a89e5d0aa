"""The learning-rate range test: one short run in which the rate grows, to find where learning starts and where it ends.

    α_t = α_low (α_high / α_low)^(t / (T - 1))      step by step, from far too small to far too large

Too small a rate leaves the loss where it is; then it falls, faster and faster; then it stops falling, and soon it
explodes. All of that shows in some hundred steps. The rate at which the smoothed loss falls most steeply over ln α is
what is suggested here: most often a third to a tenth of the one at which the loss is lowest, which is already too
large, because it was reached with all the smaller rates before it.

It helps to find the peak of `one_cycle` for a new network, optimiser or batch size in a minute instead of by trial. It
hurts to be believed to the digit: the curve is noise of single batches, smoothed; and it sees the first hundred steps
of a run, not the last thousand. It serves any method that has a rate, but the warm-up that Adam's moments need is part
of the curve.

Smith's settings: the rate grows in a straight line over several epochs and the accuracy is looked at. Where we differ:
it grows by a ratio, so that all orders of magnitude get as many steps, and the loss is looked at, as is common since.
Losses are smoothed by an average that fades (0.9 kept a step), corrected for its start. The test ends early where the
smoothed loss is 4 times its lowest, or not finite. Network and optimiser are as before afterwards; torch's generators
have moved on.

Smith 2017, Cyclical learning rates for training neural networks, arXiv:1506.01186, section 3.3.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from engram.errors import UserError

KEPT = 0.9  # of the average of losses, from one step to the next
EXPLODED = 4.0  # times the lowest loss


@dataclass(frozen=True)
class Sweep:
    """The rates tried, the loss of each step, the same smoothed, and the rate to take; none where no loss fell."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None


def sweep(
    net: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Sweep:
    """Try every rate from `low` to `high` once, a batch each.

    Args:
        net: in the state from which a run would start; it trains, and is put back.
        optimizer: over the weights of `net`, with `step()` after a backward pass; it is put back too.
        batches: (x, y) as the network takes them, on its device; begun again when they run out.
        loss: mean loss of the network's output and y.

    Raises:
        UserError: rates or steps that make no range, an optimizer that evaluates the loss itself, or no batches.

    >>> _ = torch.manual_seed(0); net = nn.Linear(3, 2); optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> x = torch.randn(64, 3); y = (x[:, 0] > 0).long()
    >>> found = sweep(net, optimizer, [(x, y)], high=100.0, steps=60)
    >>> 0.1 < found.suggestion < 50
    True
    """
    if not 0 < low < high < math.inf or steps < 3:
        raise UserError(
            f"no range of rates from {low} to {high} in {steps} steps", allowed="0 < low < high, steps of 3 up"
        )
    if any(getattr(optimizer, word, False) for word in ("needs_closure", "needs_loss")) or isinstance(
        optimizer, torch.optim.LBFGS
    ):
        raise UserError(
            "the range test is for optimizers that take one gradient a step", allowed="sgd, nesterov, adam ..."
        )
    kept = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    training = net.training
    rates: list[float] = []
    losses: list[float] = []
    try:
        net.train()
        endless = _again(batches)
        for step in range(steps):
            rate = low * (high / low) ** (step / (steps - 1))
            for group in optimizer.param_groups:
                group["lr"] = rate
            x, y = next(endless)
            optimizer.zero_grad(set_to_none=True)
            output = net(x)
            value = loss(getattr(output, "main", output), y)  # networks with auxiliary heads give the last head's first
            value.backward()
            if not math.isfinite(value.item()):
                break
            rates.append(rate)
            losses.append(value.item())
            smoothed = smooth(losses)
            if smoothed[-1] > EXPLODED * min(smoothed):
                break
            optimizer.step()
    finally:
        net.load_state_dict(kept[0])
        optimizer.load_state_dict(kept[1])
        optimizer.zero_grad(set_to_none=True)
        net.train(training)
    smoothed = smooth(losses)
    return Sweep(tuple(rates), tuple(losses), tuple(smoothed), suggest(rates, smoothed))


def smooth(losses: Iterable[float], kept: float = KEPT) -> list[float]:
    """An average of the losses so far in which the past fades, corrected for its start.

    >>> [round(value, 3) for value in smooth([1.0, 1.0, 0.0], kept=0.5)]
    [1.0, 1.0, 0.429]
    """
    average, smoothed = 0.0, []
    for number, value in enumerate(losses, start=1):
        average = kept * average + (1 - kept) * value
        smoothed.append(average / (1 - kept**number))
    return smoothed


def suggest(rates: list[float], smoothed: list[float]) -> float | None:
    """The rate at which the loss falls most steeply over the logarithm of the rate, before it is lowest.

    >>> suggest([0.001, 0.01, 0.1, 1.0, 10.0], [2.0, 1.9, 1.0, 0.8, 9.0])
    0.0316...
    """
    if len(smoothed) < 2:
        return None
    lowest = smoothed.index(min(smoothed))
    slopes = [
        (after - before) / math.log(faster / slower)
        for (slower, faster), (before, after) in zip(pairwise(rates), pairwise(smoothed), strict=True)
    ][:lowest]
    if not slopes or min(slopes) >= 0:
        return None
    steepest = slopes.index(min(slopes))
    return math.sqrt(rates[steepest] * rates[steepest + 1])


def _again(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise UserError("the range test was given no batches")
