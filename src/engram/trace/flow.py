"""The flow map: how much gradient enters and leaves every part of a network, and which way it took.

Backpropagation is a river system. Where a value was read by several, the gradients of all of them flow together: the
branches of an Inception module, a shortcut beside its residual path, an auxiliary head beside the layers above it. Here
is how much came through each. What is measured is the length of the gradient of one example's loss, averaged over the
examples, so that layers of different sizes and batches of different sizes can be compared:

    n(a) = mean over examples of | d loss / d a |_2

    entering a module   by its outputs, from above           leaving it    by its inputs, downwards

A pooling is told in more detail: which positions received anything at all, which is its whole choice in the maximum.

Measured in evaluation mode as the network is given; where it has auxiliary heads, they speak, while normalisation and
dropout stay as they are. The network is afterwards as it was.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from engram.errors import UserError
from engram.layers.auxiliary import Scores
from engram.trace.branches import Branch, Tributary, branches, tributaries
from engram.trace.graph import Trace, consumers
from engram.trace.lengths import added, together
from engram.trace.record import record
from engram.trace.recorder import Call
from engram.trace.routing import Routing, poolings
from engram.trace.time_steps import Steps, steps
from engram.trace.untouched import untouched

MOST = 120
"""Rows of a table in a terminal."""


@dataclass(frozen=True)
class Part:
    """A run of a module.

    Attributes:
        name: its path, with the number of the run where it runs several times.
        kind: its class.
        entering, leaving: the gradient's length at its outputs and at its inputs; None where none is there, or where
            the input is handed through as it is.
        whole: no other module ran inside.
    """

    name: str
    kind: str
    entering: float | None
    leaving: float | None
    whole: bool


@dataclass
class Flow:
    """What `flow` found. Printed, it is a table.

    Attributes:
        parts: runs of modules, in the order in which they began.
        branches: where a value was read several times.
        tributaries: where values were joined.
        poolings: who received what.
        steps: of recurrent layers.
        loss: the loss of the examples, summed.
        image: the first example as a picture, uint8 (H, W, C), where it is one.
        title: what was looked at.
        facts: more about that, by name.
        operations: how many there were, with the tensors that they read.
    """

    parts: list[Part]
    branches: list[Branch]
    tributaries: list[Tributary]
    poolings: list[Routing]
    steps: list[Steps]
    loss: float
    image: NDArray[np.uint8] | None = None
    title: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    operations: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Everything but the picture, as what JSON can hold."""
        return {
            "title": self.title,
            "facts": self.facts,
            "loss": _number(self.loss),
            "parts": [_plain(asdict(one)) for one in self.parts],
            "branches": [_plain(asdict(one)) for one in self.branches],
            "tributaries": [_plain(asdict(one)) for one in self.tributaries],
            "poolings": [one.to_dict() for one in self.poolings],
            "steps": [{"name": one.name, "gradients": [_number(g) for g in one.gradients]} for one in self.steps],
        }

    def _repr_html_(self) -> str:
        from engram.trace.page import inline

        return inline(self)

    def __str__(self) -> str:
        sections = [self.title] if self.title else []
        wide = max(map(len, self.facts), default=0)
        sections += ["\n".join(f"{name:<{wide}}  {value}" for name, value in self.facts.items())] if self.facts else []
        rows = [(one.name, one.kind, _told(one.entering), _told(one.leaving)) for one in self.parts if one.whole]
        sections.append(_table(("module", "type", "gradient enters", "leaves"), rows))
        if self.branches:
            rows = [(one.fork, one.way, one.kind, _told(one.gradient), f"{one.share:.0%}") for one in self.branches]
            sections.append(_table(("value from", "gradient came through", "", "length", "share"), rows))
        if self.tributaries:
            rows = [(one.join, one.source, one.kind, _told(one.value), f"{one.share:.0%}") for one in self.tributaries]
            sections.append(_table(("joined at", "value from", "", "length", "share"), rows))
        if self.poolings:
            rows = [(one.name, one.operation, one.windows, f"{one.share:.0%}") for one in self.poolings]
            sections.append(_table(("pooling", "", "windows", "of its inputs receive anything"), rows))
        for one in self.steps:
            told = "  ".join(_told(g) for g in one.gradients)
            sections.append(f"{one.name}, gradient at each time step, the first first:\n  {told}")
        return "\n\n".join(sections)


def flow(
    net: nn.Module,
    x: Tensor,
    y: Tensor | None = None,
    *,
    loss: Callable[[Any, Tensor | None], Tensor] | None = None,
) -> Flow:
    """Send the gradient of a loss through a network and see how much of it comes where.

    Everything on the way is kept until the end, so that a few examples are enough.

    Args:
        x: a batch of inputs, (B, ...).
        y: the class of each, (B,); by default what the network takes it for.
        loss: from what the network gives and `y` to one number; by default the cross-entropy, summed over examples,
            with that of auxiliary heads by their weight.

    Raises:
        UserError: the network gives no scores and no `loss` is given, or `y` does not fit.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 3))
    >>> found = flow(net, torch.randn(2, 1, 8, 8))
    >>> [part.name for part in found.parts], found.poolings[0].windows
    (['', '0', '1', '2', '3', '4'], '3x3')
    """
    net = getattr(net, "_orig_mod", net)

    def run(x: Tensor) -> Tensor:
        given = net(x)
        return loss(given, y) if loss is not None else cross_entropy(given, y)

    with untouched(net):
        if any("auxiliary" in name for name, _ in net.named_modules()):
            net.training = True  # of the network alone, so that its heads speak and its layers stay as they are
        trace, calls = record(run, [x], names=["input"], net=net)
    return Flow(
        parts=_parts(trace, calls),
        branches=branches(trace),
        tributaries=tributaries(trace),
        poolings=poolings(trace, calls),
        steps=steps(trace, calls),
        loss=float(trace.nodes[trace.outputs[0][0]].value.sum()),
        image=shown(x[0]),
        title=f"the gradient's way through {type(net).__name__}",
        operations=len(trace),
    )


def shown(x: Tensor, *, scaled: bool = True) -> NDArray[np.uint8] | None:
    """An example (C, H, W) as a picture; None where it is none.

    Args:
        scaled: stretch its numbers to what can be seen; otherwise they are taken as 0 to 1.
    """
    if x.dim() != 3 or x.shape[0] not in (1, 3) or not x.numel():
        return None
    plain = x.detach().float().cpu().nan_to_num()
    if scaled:
        plain = (plain - plain.min()) / (plain.max() - plain.min()).clamp_min(1e-12)
    return (plain.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def cross_entropy(given: Any, y: Tensor | None) -> Tensor:
    """Of scores (B, K), summed over the examples, with that of auxiliary heads by their weight.

    Args:
        y: the class of each; None for that of its highest score.

    Raises:
        UserError: they are no scores, or `y` does not fit them.
    """
    heads, weight = ((), 0.0)
    scores = given
    if isinstance(given, Scores):
        scores, heads, weight = given.main, given.auxiliary, given.weight
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        what = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise UserError(f"the network gives {what}, and no scores (B, K)", then="flow(..., loss=lambda given, y: ...)")
    if y is None:
        y = scores.detach().argmax(1)
    if (
        y.shape != scores.shape[:1]
        or y.is_floating_point()
        or not (0 <= int(y.min()) <= int(y.max()) < scores.shape[1])
    ):
        raise UserError(f"y does not fit scores {tuple(scores.shape)}", allowed="a class for each example")
    total = F.cross_entropy(scores, y, reduction="sum")
    for head in heads:
        total = total + weight * F.cross_entropy(head, y, reduction="sum")
    return total


def _parts(trace: Trace, calls: Sequence[Call]) -> list[Part]:
    """A row for each run of each module."""
    runs: dict[str, int] = {}
    for call in calls:
        runs[call.name] = runs.get(call.name, 0) + 1
    leaving = consumers(trace)
    seen: dict[str, int] = {}
    parts = []
    for call in calls:
        seen[call.name] = seen.get(call.name, 0) + 1
        name = call.name if runs[call.name] == 1 else f"{call.name} ({seen[call.name]})"
        # What is handed through as it is, is not the module's own.
        own = [one for one in call.outputs if one not in call.inputs]
        enters = [g for one in own if (g := trace.nodes[one.node].gradients[one.output]) is not None]
        sent = []
        for one in dict.fromkeys(call.inputs):
            inside = [edge.gradient for edge in leaving[one] if call.first <= edge.target < call.last]
            arrived = [gradient for gradient in inside if gradient is not None]
            if arrived:
                sent.append(added(arrived))
        parts.append(Part(name, type(call.module).__name__, together(enters), together(sent), call.whole))
    return parts


def _told(number: float | None) -> str:
    return "–" if number is None else f"{number:.3g}"


def _number(number: float | None) -> float | str | None:
    return str(number) if number is not None and not np.isfinite(number) else number


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    return {key: _number(value) if isinstance(value, float) else value for key, value in content.items()}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need; the rows past `MOST` are counted."""
    lines = [head, *rows[:MOST]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    told = ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*told, *([f"… and {len(rows) - MOST} more"] if len(rows) > MOST else [])])
