"""How far an optimizer really steps: every weight's move divided by the rate, whatever the method.

    rate of a weight = |Δw| / |g|          the rate that plain gradient descent would need for the same move
    move of a group  = ‖Δw‖ / (α √n)       root mean square of Δw / α over the group's n weights

The rate that a person sets is not the rate that a weight gets. AdaGrad's falls as 1, 0.316, 0.1, 0.0316 at steps 1, 10,
100, 1000 of a steady gradient: it sinks, and does not rise. Adam without bias correction would begin with a step of
3.16 α and reach 6.57 α at step 12 (with β₂ = 0.999); with it, it begins at α. Momentum of 0.9 makes ten times α of
a steady gradient. An RMS move near 1 is the sign of Adam and its kin; a ratio ‖Δw‖ / ‖w‖ near 0.001 a step is what the
course advises to look for.

It helps to compare methods, to see whether warm-up and decay do what was meant, and to find layers that stand still. It
says nothing about whether the direction was good. The recorder only copies weights before a step and compares after:
the run is the same to the last bit with it and without. It costs a copy of the weights and a pass over them a step;
`every` spares most of it. Where no gradient is (a method with its own closure clears it) the rate is not a number.

Duchi et al. 2011, section 1.1; Kingma and Ba 2015, section 2.1 (the size of a step); CS231n 2017, lectures 6 and 7.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


@dataclass
class Effective:
    """What was recorded, a row a recorded step and a column a parameter group."""

    steps: list[int] = field(default_factory=list)
    lr: list[list[float]] = field(default_factory=list)
    move: list[list[float]] = field(default_factory=list)  # root mean square of Δw / lr
    rate: list[list[float]] = field(default_factory=list)  # median of |Δw| / |g| over weights with a gradient
    ratio: list[list[float]] = field(default_factory=list)  # ‖Δw‖ / ‖w‖
    last: list[Tensor] = field(default_factory=list)  # |Δw| / |g| at the last step, a tensor a parameter


@contextmanager
def record(optimizer: Optimizer, *, every: int = 1) -> Iterator[Effective]:
    """Record the effective steps of an optimizer inside the context; nothing about the run changes.

    Args:
        every: steps from one that is recorded to the next.

    >>> from engram.optimizers import build
    >>> layer = torch.nn.Linear(2, 1, bias=False); optimizer = build("adagrad", layer, {"lr": 0.5})
    >>> with record(optimizer) as effective:
    ...     for _ in range(100):
    ...         layer.weight.grad = torch.full((1, 2), 3.0); optimizer.step()
    >>> [round(effective.move[t - 1][0], 3) for t in (1, 10, 100)]
    [1.0, 0.316, 0.1]
    """
    recorded, taken, under_way = Effective(), 0, False
    before: list[list[Tensor]] = []

    @torch.no_grad()
    def remember(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        nonlocal under_way
        if under_way:  # a step that calls the step of the class it comes from
            return
        under_way = True
        before.clear()
        if taken % every == 0:
            before.extend([p.detach().clone() for p in group["params"]] for group in optimizer.param_groups)

    @torch.no_grad()
    def compare(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        nonlocal taken, under_way
        if not under_way:
            return
        taken, under_way = taken + 1, False
        if before:
            _compare(optimizer, before, recorded)
            recorded.steps.append(taken)

    hooks = [optimizer.register_step_pre_hook(remember), optimizer.register_step_post_hook(compare)]
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()


def _compare(optimizer: Optimizer, before: list[list[Tensor]], recorded: Effective) -> None:
    recorded.last = []
    rows: list[tuple[float, ...]] = []
    for group, places in zip(optimizer.param_groups, before, strict=True):
        moves = [(p - place).float() for p, place in zip(group["params"], places, strict=True)]
        rates = [
            torch.full_like(move, torch.nan) if p.grad is None else _divided(move.abs(), p.grad.abs().float())
            for move, p in zip(moves, group["params"], strict=True)
        ]
        recorded.last += rates
        square = sum(float(move.square().sum()) for move in moves)
        size = sum(float(place.float().square().sum()) for place in places)
        count, lr = sum(move.numel() for move in moves), float(group["lr"])
        every_rate = torch.cat([rate.flatten() for rate in rates])
        rows.append(
            (
                lr,
                (square / count) ** 0.5 / lr if lr else float("nan"),
                float(every_rate.nanmedian()),
                (square / size) ** 0.5 if size else float("nan"),
            )
        )
    for column, values in zip(
        (recorded.lr, recorded.move, recorded.rate, recorded.ratio), zip(*rows, strict=True), strict=True
    ):
        column.append(list(values))


def _divided(move: Tensor, slope: Tensor) -> Tensor:
    """move / slope, and not a number where there is no slope."""
    return torch.where(slope > 0, move / slope, torch.nan)
