"""Routing: who received the gradient in a pooling.

A maximum is a choice. Each window's gradient goes whole to its winner, and everything else in the window learns nothing
from this example; windows that overlap may all send theirs to one. An average asks nobody, and gives all the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engram.trace.graph import Node, Trace
from engram.trace.recorder import Call
from engram.trace.rules import RULES

MOST_WINNERS = 400
"""Positions of one channel that are told one by one."""


@dataclass(frozen=True, eq=False)
class Routing:
    """What came through one pooling.

    Attributes:
        name: the module's path, or the operation.
        operation: max_pool2d, for one.
        windows: how many, rows x columns.
        share: of the numbers that it read, all channels and examples, those that received anything.
        received: (H, W) of its input: the gradient's absolute values, summed over channels, of the first example.
        channel: the channel of the first example that receives most.
        winners: (row, column, gradient) of what receives anything in that channel, the most first.
    """

    name: str
    operation: str
    windows: str
    share: float
    received: NDArray[np.float64]
    channel: int
    winners: tuple[tuple[int, int, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """As what JSON can hold."""
        return {
            "name": self.name,
            "operation": self.operation,
            "windows": self.windows,
            "share": self.share,
            "channel": self.channel,
            "received": np.nan_to_num(self.received).round(12).tolist(),
            "winners": [[row, column, float(np.nan_to_num(g))] for row, column, g in self.winners],
        }


def poolings(trace: Trace, calls: Iterable[Call]) -> list[Routing]:
    """The poolings of images, also those that a module does by steps of its own."""
    kinds = {call.name: type(call.module).__name__.lower() for call in calls}
    found = []
    for node in trace.nodes:
        edge = node.inputs[0] if node.inputs else None
        if edge is None or edge.gradient is None or edge.gradient.dim() != 4 or node.value.dim() != 4:
            continue
        kind = kinds.get(node.module, "")
        if "pool" in node.name:
            found.append(routing(trace, node))
        elif "pool" in kind and node.name not in RULES:
            found.append(routing(trace, node, operation="max_pool2d" if "max" in kind else kind))
    return found


def routing(trace: Trace, node: Node, *, operation: str = "") -> Routing:
    """Who received what in a pooling of images.

    Args:
        node: one that reads (B, C, H, W) first, and sends a gradient back there.
        operation: what it is, where its name does not say so.

    >>> import torch.nn.functional as F
    >>> import engram
    >>> x = torch.tensor([[1.0, 9.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    >>> seen = engram.trace(lambda x: F.max_pool2d(x, 2), x)
    >>> found = routing(seen, seen.nodes[-1])
    >>> found.winners, found.share
    (((0, 1, 1.0),), 0.25)
    """
    gradient = node.inputs[0].gradient
    if gradient is None or gradient.dim() != 4:
        raise ValueError(f"{node.label} sends no gradient to images")
    first = gradient[0].double().abs().cpu()
    channel = int(first.flatten(1).sum(1).argmax())
    return Routing(
        name=node.module or node.name,
        operation=operation or node.name,
        windows="x".join(map(str, node.value.shape[2:])),
        share=float((gradient != 0).double().mean()),
        received=first.sum(0).numpy(),
        channel=channel,
        winners=_winners(gradient[0, channel]),
    )


def _winners(gradient: Tensor) -> tuple[tuple[int, int, float], ...]:
    places = torch.nonzero(gradient).tolist()
    found = [(row, column, float(gradient[row, column])) for row, column in places]
    return tuple(sorted(found, key=lambda one: -abs(one[2]))[:MOST_WINNERS])
