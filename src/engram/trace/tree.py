"""The trace in a terminal: the output at the top, under each operation what it reads.

A node that several operations read is told once; elsewhere stands where. What lies deeper than a screen is wide begins
again at the left, under a line that says what it belongs to.
"""

from collections import Counter

from torch import Tensor

from engram.trace.graph import OPERATION, Edge, Node, Trace
from engram.trace.numbers import short, summary

DEEPEST = 12
"""Levels of indentation, after which a branch goes on at the left."""
MOST = 400
"""Lines."""
TABLE = 64
"""Numbers of a tensor that are written out."""


def tree(trace: Trace) -> str:
    """A line for each node: what it is, its value, the gradient that came back, and the rule by which it passes on.

    >>> import engram
    >>> print(tree(engram.trace(lambda x, y: x * y, 3.0, -4.0)))
    multiply  -12  gradient 1   swaps: each side gets the gradient times the other
    ├─ x        3  gradient -4
    └─ y       -4  gradient 3
    """
    rows = _rows(trace)
    shown = rows[:MOST]
    widths = [max(len(row[column]) for row in shown) for column in range(3)]
    lines = [
        f"{head:<{widths[0]}}  {value:>{widths[1]}}  {gradient:<{widths[2]}}  {rule}".rstrip() if value else head
        for head, value, gradient, rule in shown
    ]
    if len(rows) > MOST:
        lines.append(f"… and {len(rows) - MOST} more lines; to_dict() has everything")
    return "\n".join(lines)


def tables(trace: Trace) -> str:
    """The numbers of small tensors, a table for the value and one for its gradient beside it.

    >>> import engram, torch
    >>> print(tables(engram.trace(lambda x: x.relu(), torch.tensor([[-1.0, 2.0], [3.0, -4.0]]))))
    x     -1 2   gradient 0 1
           3 -4           1 0
    <BLANKLINE>
    relu  0 2    gradient 1 1
          3 0             1 1
    """
    parts = []
    for node in trace.nodes:
        value, gradient = _grid(node.value), _grid(node.gradient)
        if not value:
            continue
        wide = max(map(len, value))
        head, told = f"{node.name}  ", "gradient " if gradient else ""
        for number, row in enumerate(value):
            sent = gradient[number] if gradient else ""
            first = number == 0
            left = head if first else " " * len(head)
            parts.append(f"{left}{row:<{wide}}  {told if first else ' ' * len(told)}{sent}".rstrip())
        parts.append("")
    return "\n".join(parts).rstrip()


def _grid(tensor: Tensor | None) -> list[str]:
    """The rows of a tensor of a few numbers, each as wide as the others; none for others."""
    if tensor is None or not 1 < tensor.numel() <= TABLE or tensor.is_complex():
        return []
    plain = tensor
    while plain.dim() > 2 and plain.shape[0] == 1:
        plain = plain[0]
    if plain.dim() > 2 or plain.shape[-1] > 8:
        return []
    rows = [[short(one) for one in row] for row in plain.reshape(-1, plain.shape[-1]).tolist()]
    columns = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [" ".join(f"{one:>{wide}}" for one, wide in zip(row, columns, strict=True)) for row in rows]


def _rows(trace: Trace) -> list[tuple[str, str, str, str]]:
    """(the node with its branch, its value, its gradient, its rule), in the order in which they are printed."""
    rows: list[tuple[str, str, str, str]] = []
    told: set[int] = set()
    reads = Counter(edge.source for edge in trace.edges)
    shared = {number for number, count in reads.items() if count > 1}
    roots = list(dict.fromkeys(number for number, _ in trace.outputs))
    # (number, what stands before it, what stands before its own branches, levels, the wire by which it is read)
    ahead: list[tuple[int, str, str, int, Edge | None]] = [(number, "", "", 0, None) for number in reversed(roots)]
    later: list[int] = []
    while ahead or later:
        if not ahead:
            number = later.pop(0)
            if number in told:
                continue
            rows.append((f"#{number} goes on:", "", "", ""))
            ahead.append((number, "", "", 0, None))
        number, before, under, level, edge = ahead.pop()
        node = trace.nodes[number]
        again = number in told
        deep = level >= DEEPEST and bool(node.inputs) and not again
        rows.append(_row(node, before, edge, shared=number in shared or deep, again=again))
        told.add(number) if not deep else later.append(number)
        if again or deep:
            continue
        for place, read in reversed(list(enumerate(node.inputs))):
            last = place == len(node.inputs) - 1
            branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
            ahead.append((read.source, under + branch, under + below, level + 1, read))
    unread = [node for node in trace.nodes if node.number not in told]
    rows += [_row(node, "", None, shared=False, again=False) for node in unread]
    return rows


def _row(node: Node, before: str, edge: Edge | None, *, shared: bool, again: bool) -> tuple[str, str, str, str]:
    output = edge.output if edge is not None else 0
    part = f"[{output}]" if len(node.values) > 1 else ""
    mark = f" #{node.number}" if shared else ""
    where = f"   in {node.module}" if node.module and node.kind == OPERATION else ""
    head = f"{before}{node.label}{part}{mark}{where}"
    value = summary(node.values[output])
    if again:
        sent = summary(edge.gradient) if edge is not None else "none"
        return head, value, f"of it {sent} from here", ""
    gradient = node.gradients[output]
    rule = node.rule if node.kind == OPERATION else ""
    return head, value, "no gradient" if gradient is None else f"gradient {summary(gradient)}", rule
