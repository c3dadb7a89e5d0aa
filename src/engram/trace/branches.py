"""Which way a gradient came where several read a value, and what each side brings where values are joined.

Where the paths of the readers part is told by the modules that they run in.

    fork: the gradients of all readers add up       the branches of Inception, a shortcut beside its residual path
    join: an addition or a concatenation            how much of the sum is the residual, how much the shortcut
"""

from dataclasses import dataclass, replace

from engram.trace.graph import INPUT, OPERATION, Edge, Node, Trace, consumers
from engram.trace.lengths import added, length

SHORTCUTS = ("shortcut", "skip", "downsample", "identity", "projection")
JOINS = ("add", "cat", "stack")


@dataclass(frozen=True)
class Branch:
    """One of several ways that the gradient of a value came.

    Attributes:
        fork: what gave the value.
        way: through what the gradient came.
        kind: branch, shortcut, residual (what runs beside a shortcut) or auxiliary.
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


def branches(trace: Trace) -> list[Branch]:
    """Wherever a value was read several times, a row for each way."""
    found: list[Branch] = []
    for (number, _), edges in consumers(trace).items():
        node = trace.nodes[number]
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
        way: length(added([edge.gradient for edge in group if edge.gradient is not None]))
        for way, group in groups.items()
    }
    total = sum(lengths.values()) or 1.0
    rows = []
    for way in groups:
        plain = way.partition(" #")[0]
        kind = _kind(plain, passes=plain != way and plain.partition(" ")[0] in JOINS)
        rows.append(Branch(fork, plain, kind, lengths[way], lengths[way] / total))
    if any(row.kind == "shortcut" for row in rows):
        rows = [replace(row, kind="residual") if row.kind == "branch" else row for row in rows]
    for way, group in groups.items():
        if " #" not in way and len(group) > 1:
            rows += _split(trace, f"{fork}, into {way}", group)
    return rows


def _kind(path: str, *, passes: bool) -> str:
    last = path.rpartition(".")[2].lower()
    if "auxiliary" in path.lower():
        return "auxiliary"
    return "shortcut" if passes or any(word in last for word in SHORTCUTS) else "branch"


def tributaries(trace: Trace) -> list[Tributary]:
    """Wherever values were joined, a row for each."""
    found = []
    for node in trace.nodes:
        reads = [edge for edge in node.inputs if trace.nodes[edge.source].kind in (INPUT, OPERATION)]
        values = [trace.nodes[edge.source].values[edge.output] for edge in reads]
        if node.name not in JOINS or not node.module or len(reads) < 2 or any(one.dim() < 2 for one in values):
            continue
        lengths = [length(one) for one in values]
        total = sum(lengths) or 1.0
        rows = []
        for edge, one in zip(reads, lengths, strict=True):
            source = trace.nodes[edge.source]
            inside = source.module.startswith(f"{node.module}.") or source.module == node.module
            beyond = source.module.removeprefix(f"{node.module}.").partition(".")[0]
            kind = _kind(beyond, passes=not inside and node.name == "add")
            rows.append(Tributary(node.module, node.name, _name(source), kind, one, one / total))
        if node.name == "add" and any(row.kind == "shortcut" for row in rows):
            rows = [replace(row, kind="residual") if row.kind == "branch" else row for row in rows]
        found += rows
    return found


def _name(node: Node) -> str:
    return node.module or node.name
