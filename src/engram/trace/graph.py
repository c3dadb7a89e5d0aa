"""The recorded graph: nodes with the value they gave and the gradient that came back, edges with what each sent back.

    the gradient of a node = the sum over its consumers of what each sends back along its edge

That sum is all that fan-out means in the chain rule. The lecture draws values above the wires and gradients below them;
here both stand at the node, and what a single wire carried stands at its edge.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

INPUT, PARAMETER, BUFFER, CONSTANT, OPERATION = "input", "parameter", "buffer", "constant", "operation"
MANY = 4096
"""Numbers of one tensor above which `to_dict` tells only what they come to."""


@dataclass(eq=False)
class Edge:
    """A wire from one node to an operation that reads it.

    Attributes:
        source: the number of the node that is read.
        output: which of its tensors, where it gave several.
        target: the number of the node that reads.
        place: at which of the operation's tensors it stands, from 0.
        gradient: what the operation sends back along this wire, of the source's shape; None where nothing comes back.
    """

    source: int
    output: int
    target: int
    place: int
    gradient: Tensor | None = None


@dataclass(eq=False)
class Node:
    """An operation, or something that was there before: an input, a parameter, a buffer, a constant.

    Attributes:
        number: in the order in which they came about, from 0.
        kind: input, parameter, buffer, constant or operation.
        name: of an operation its name, `max_pool2d`; otherwise the name of the tensor.
        values: what it gave; nearly always one tensor.
        gradients: the derivative of the output by each of them, None where nothing comes back.
        inputs: the edges that it reads.
        settings: what else it was called with.
        module: the path of the network's module that was at work, "" for none.
        rule: how it passes a gradient on.
    """

    number: int
    kind: str
    name: str
    values: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor | None] = field(default_factory=list)
    inputs: list[Edge] = field(default_factory=list)
    settings: str = ""
    module: str = ""
    rule: str = ""

    @property
    def value(self) -> Tensor:
        """The value; the first, where there are several."""
        return self.values[0]

    @property
    def gradient(self) -> Tensor | None:
        """What came back to the value; to the first, where there are several."""
        return self.gradients[0]

    @property
    def label(self) -> str:
        """The name with its settings.

        >>> Node(0, "operation", "max_pool2d", settings="2").label
        'max_pool2d (2)'
        """
        return f"{self.name} ({self.settings})" if self.settings else self.name


@dataclass(eq=False)
class Trace:
    """What `engram.trace` saw. Printed, it is a tree; in a notebook, a picture.

    Attributes:
        nodes: in the order in which they ran; every one of them has part in the output.
        outputs: (number of the node, which of its tensors) of each tensor that the function gave.
        result: what the function gave, without history.

    >>> import engram
    >>> seen = engram.trace(lambda x, y: x * y, 3.0, -4.0)
    >>> [(node.name, node.value.item(), node.gradient.item()) for node in seen.nodes]
    [('x', 3.0, -4.0), ('y', -4.0, 3.0), ('multiply', -12.0, 1.0)]
    """

    nodes: list[Node]
    outputs: list[tuple[int, int]]
    result: Any = None

    @property
    def edges(self) -> list[Edge]:
        """All wires, in the order of the operations that read them."""
        return [edge for node in self.nodes for edge in node.inputs]

    def consumers(self, node: Node) -> list[Edge]:
        """The wires that leave a node."""
        return [edge for edge in self.edges if edge.source == node.number]

    def __getitem__(self, name: str) -> Node:
        """The input, parameter or constant of that name, or the last operation of that name.

        Raises:
            KeyError: there is none.

        >>> import engram
        >>> engram.trace(lambda x: x.exp(), 0.0)["x"].gradient.item()
        1.0
        """
        found = [node for node in self.nodes if node.name == name]
        if not found:
            raise KeyError(name)
        return next((node for node in found if node.kind != OPERATION), found[-1])

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        operations = sum(node.kind == OPERATION for node in self.nodes)
        return f"<Trace of {operations} operations on {len(self.nodes) - operations} tensors; print it to see them>"

    def __str__(self) -> str:
        from engram.trace.tree import tree

        return tree(self)

    def _repr_html_(self) -> str:
        from engram.trace.picture import html

        return html(self)

    def _repr_svg_(self) -> str | None:
        from engram.trace.picture import LARGEST, svg

        return str(svg(self)) if len(self.nodes) <= LARGEST else None

    def to_dict(self) -> dict[str, Any]:
        """Everything as what JSON can hold.

        A tensor is {"shape", "dtype", "values"}; of more than 4096 numbers, "min", "max", "mean", "norm" instead of
        values. What is not finite is the text "nan", "inf" or "-inf".

        >>> import engram
        >>> engram.trace(lambda x: 2 * x, 1.5).to_dict()["edges"][0]["gradient"]
        {'shape': [], 'dtype': 'float64', 'values': 2.0}
        """
        nodes = [
            {
                "number": node.number,
                "kind": node.kind,
                "name": node.name,
                "settings": node.settings,
                "module": node.module,
                "rule": node.rule,
                "values": [told(value) for value in node.values],
                "gradients": [told(gradient) for gradient in node.gradients],
            }
            for node in self.nodes
        ]
        edges = [
            {
                "source": edge.source,
                "output": edge.output,
                "target": edge.target,
                "place": edge.place,
                "gradient": told(edge.gradient),
            }
            for edge in self.edges
        ]
        return {"nodes": nodes, "edges": edges, "outputs": [list(output) for output in self.outputs]}


def told(tensor: Tensor | None) -> dict[str, Any] | None:
    """A tensor as what JSON can hold."""
    if tensor is None:
        return None
    facts: dict[str, Any] = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
    if tensor.numel() <= MANY:
        return {**facts, "values": _plain(tensor.tolist())}
    flat = tensor.double().flatten()
    numbers = {"min": flat.min(), "max": flat.max(), "mean": flat.mean(), "norm": flat.norm()}
    return {**facts, **{name: _plain(number.item()) for name, number in numbers.items()}}


def _plain(content: Any) -> Any:
    if isinstance(content, list):
        return [_plain(one) for one in content]
    if isinstance(content, complex):
        return [_plain(content.real), _plain(content.imag)]
    if isinstance(content, float) and (content != content or content in (float("inf"), float("-inf"))):
        return str(content)
    return content


def consumers(trace: Trace) -> dict[tuple[int, int], list[Edge]]:
    """The wires that leave each tensor."""
    found: dict[tuple[int, int], list[Edge]] = {
        (node.number, output): [] for node in trace.nodes for output in range(len(node.values))
    }
    for edge in trace.edges:
        found[edge.source, edge.output].append(edge)
    return found


def ancestors(nodes: Sequence[Node], outputs: Sequence[tuple[int, int]]) -> set[int]:
    """The numbers of the nodes that have part in the outputs, those of the outputs among them."""
    by_number = {node.number: node for node in nodes}
    found: set[int] = set()
    ahead = [number for number, _ in outputs]
    while ahead:
        number = ahead.pop()
        if number not in found:
            found.add(number)
            ahead += [edge.source for edge in by_number[number].inputs]
    return found
