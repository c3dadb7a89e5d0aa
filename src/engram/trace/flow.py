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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from engram.errors import UserError, unknown
from engram.layers.auxiliary import Scores
from engram.trace.graph import INPUT, OPERATION, Edge, Node, Trace
from engram.trace.numbers import short
from engram.trace.record import Call, Source, record
from engram.trace.routing import Routing, routing
from engram.trace.rules import RULES
from engram.trace.untouched import untouched

SHORTCUTS = ("shortcut", "skip", "downsample", "identity", "projection")
JOINS = ("add", "cat", "stack")
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
        whole: it has no modules inside.
    """

    name: str
    kind: str
    entering: float | None
    leaving: float | None
    whole: bool


@dataclass(frozen=True)
class Branch:
    """One of several ways that the gradient of a value came.

    Attributes:
        fork: what gave the value.
        way: through what the gradient came.
        kind: branch, shortcut or auxiliary.
        gradient: its length.
        share: of the lengths of all ways.
    """

    fork: str
    way: str
    kind: str
    gradient: float
    share: float


@dataclass(frozen=True)
class Tributary:
    """One of several values that an addition or a concatenation joins, with its length and its share."""

    join: str
    operation: str
    source: str
    kind: str
    value: float
    share: float


@dataclass(frozen=True)
class Steps:
    """The gradient's length at the input of every time step of a recurrent layer."""

    name: str
    gradients: tuple[float, ...]


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
        return loss(given, y) if loss is not None else _cross_entropy(given, y)

    with untouched(net):
        if any("auxiliary" in name for name, _ in net.named_modules()):
            net.training = True  # of the network alone, so that its heads speak and its layers stay as they are
        trace, calls = record(run, [x], names=["input"], net=net)
    return Flow(
        parts=_parts(trace, calls),
        branches=_branches(trace),
        tributaries=_tributaries(trace),
        poolings=_poolings(trace, calls),
        steps=_steps(trace, calls),
        loss=float(trace.nodes[trace.outputs[0][0]].value.sum()),
        image=shown(x[0]),
        title=f"the gradient's way through {type(net).__name__}",
    )


def of_run(run: str | Path, image: str | Path, *, target: str = "") -> Flow:
    """The flow through a trained network that looks at an image file.

    Args:
        run: a run's folder, or a weights file that Engram has written.
        target: the class whose loss is taken; by default the one that the network takes the image for.

    Raises:
        UserError: no weights there, no such class, or an image that cannot be read.
    """
    from engram.data import images
    from engram.data.examples import Unreadable
    from engram.training.predict import Predictor

    predictor = Predictor(run)
    known = predictor.description
    if target and target not in known.classes:
        raise unknown("class", target, known.classes)
    channels, *sides = known.stored_shape
    try:
        pixels = images.to_channels(images.read_image(Path(image), at_least=max(sides)), channels)
    except (Unreadable, OSError) as error:
        raise UserError(f"{image} cannot be read as an image: {error}") from None
    fitted = images.fit(pixels, tuple(sides))
    view = predictor.views(torch.from_numpy(np.ascontiguousarray(fitted))[None], torch.float32)[0]
    with torch.inference_mode():
        shares = predictor.net(view).softmax(1)[0]
    best = int(shares.argmax())
    chosen = known.classes.index(target) if target else best
    found = flow(predictor.net, view, torch.tensor([chosen]))
    mean, std = torch.tensor(known.mean), torch.tensor(known.std)
    found.image = shown(view[0] * std.view(-1, 1, 1) + mean.view(-1, 1, 1), scaled=False)
    found.title = f"the gradient's way through {known.model}, {Path(image).name}"
    found.facts = {
        "network": known.model,
        "image": Path(image).name,
        "taken for": f"{known.classes[best]}, {100 * float(shares[best]):.1f} %",
        "gradient of": f"the loss of {known.classes[chosen]}, {short(found.loss)}",
    }
    return found


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


def length(gradient: Tensor) -> float:
    """The mean over examples of the length."""
    per_example = gradient.double().reshape(len(gradient), -1) if gradient.dim() else gradient.double().reshape(1, 1)
    return float(torch.linalg.vector_norm(per_example, dim=1).mean()) if per_example.numel() else 0.0


def _cross_entropy(given: Any, y: Tensor | None) -> Tensor:
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
    leaving = trace_consumers(trace)
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
                sent.append(_sum(arrived))
        whole = not any(True for _ in call.module.children())
        parts.append(Part(name, type(call.module).__name__, _lengths(enters), _lengths(sent), whole))
    return parts


def _lengths(gradients: Sequence[Tensor]) -> float | None:
    """The length of several together."""
    return sum(length(one) ** 2 for one in gradients) ** 0.5 if gradients else None


def _sum(gradients: Sequence[Tensor]) -> Tensor:
    total = gradients[0]
    for one in gradients[1:]:
        total = total + one
    return total


def trace_consumers(trace: Trace) -> dict[Source, list[Edge]]:
    """The wires that leave each tensor."""
    found: dict[Source, list[Edge]] = {
        Source(node.number, output): [] for node in trace.nodes for output in range(len(node.values))
    }
    for edge in trace.edges:
        found[Source(edge.source, edge.output)].append(edge)
    return found


def _branches(trace: Trace) -> list[Branch]:
    """Wherever a value was read several times, a row for each way."""
    found: list[Branch] = []
    for source, edges in trace_consumers(trace).items():
        node = trace.nodes[source.node]
        live = [edge for edge in edges if edge.gradient is not None]
        if node.kind in (INPUT, OPERATION) and len({edge.target for edge in live}) > 1:
            found += _split(trace, _name(node), live)
    return found


def _split(trace: Trace, fork: str, edges: list[Edge]) -> list[Branch]:
    """The ways told apart where the paths of the modules first differ, and then further inside each."""
    paths = [trace.nodes[edge.target].module.split(".") for edge in edges]
    common = 0
    while all(len(path) > common and path[common] == paths[0][common] for path in paths):
        common += 1
    groups: dict[str, list[Edge]] = {}
    for edge, path in zip(edges, paths, strict=True):
        reader = trace.nodes[edge.target]
        operation = f"{reader.name}{f' in {reader.module}' if reader.module else ''} #{edge.target}"
        groups.setdefault(".".join(path[: common + 1]) if len(path) > common else operation, []).append(edge)
    if len(groups) < 2:
        return []
    lengths = {
        way: length(_sum([edge.gradient for edge in group if edge.gradient is not None]))
        for way, group in groups.items()
    }
    total = sum(lengths.values()) or 1.0
    rows = []
    for way in groups:
        plain = way.partition(" #")[0]
        kind = _kind(plain, passes=plain != way and plain.partition(" ")[0] in JOINS)
        rows.append(Branch(fork, plain, kind, lengths[way], lengths[way] / total))
    for way, group in groups.items():
        if " #" not in way and len(group) > 1:
            rows += _split(trace, f"{fork}, into {way}", group)
    return rows


def _kind(path: str, *, passes: bool) -> str:
    last = path.rpartition(".")[2].lower()
    if "auxiliary" in path.lower():
        return "auxiliary"
    return "shortcut" if passes or any(word in last for word in SHORTCUTS) else "branch"


def _tributaries(trace: Trace) -> list[Tributary]:
    """Wherever values were joined, a row for each."""
    found = []
    for node in trace.nodes:
        reads = [edge for edge in node.inputs if trace.nodes[edge.source].kind in (INPUT, OPERATION)]
        values = [trace.nodes[edge.source].values[edge.output] for edge in reads]
        if node.name not in JOINS or not node.module or len(reads) < 2 or any(one.dim() < 2 for one in values):
            continue
        lengths = [length(one) for one in values]
        total = sum(lengths) or 1.0
        for edge, one in zip(reads, lengths, strict=True):
            source = trace.nodes[edge.source]
            inside = source.module.startswith(f"{node.module}.") or source.module == node.module
            beyond = source.module.removeprefix(f"{node.module}.").partition(".")[0]
            kind = _kind(beyond, passes=not inside and node.name == "add")
            found.append(Tributary(node.module, node.name, _name(source), kind, one, one / total))
    return found


def _name(node: Node) -> str:
    return node.module or node.name


def _poolings(trace: Trace, calls: Iterable[Call]) -> list[Routing]:
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


def _steps(trace: Trace, calls: Iterable[Call]) -> list[Steps]:
    """For each recurrent layer, what reaches the input of each time step."""
    found = []
    consumers = trace_consumers(trace)
    for call in calls:
        if not isinstance(call.module, nn.RNNBase) or not call.inputs:
            continue
        gradients = [
            edge.gradient
            for edge in consumers[call.inputs[0]]
            if edge.gradient is not None and call.first <= edge.target < call.last
        ]
        if not gradients:
            continue
        total = _sum(gradients)
        if call.module.batch_first and total.dim() == 3:
            total = total.transpose(0, 1)
        batched = total if total.dim() == 3 else total[:, None]
        found.append(Steps(call.name, tuple(length(step) for step in batched)))
    return found


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
