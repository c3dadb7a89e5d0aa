"""How far back through time the loss reaches: the gradient at the input of every step of a recurrent layer."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from engram.trace.graph import Trace, consumers
from engram.trace.lengths import added, length
from engram.trace.recorder import Call


@dataclass(frozen=True)
class Steps:
    """The gradient's length at the input of every time step of a recurrent layer."""

    name: str
    gradients: tuple[float, ...]


def steps(trace: Trace, calls: Iterable[Call]) -> list[Steps]:
    """For each recurrent layer, what reaches the input of each time step."""
    found = []
    readers = consumers(trace)
    for call in calls:
        if not isinstance(call.module, nn.RNNBase) or not call.inputs:
            continue
        gradients = [
            edge.gradient
            for edge in readers[call.inputs[0]]
            if edge.gradient is not None and call.first <= edge.target < call.last
        ]
        if not gradients:
            continue
        total = added(gradients)
        if call.module.batch_first and total.dim() == 3:
            total = total.transpose(0, 1)
        batched = total if total.dim() == 3 else total[:, None]
        found.append(Steps(call.name, tuple(length(step) for step in batched)))
    return found
