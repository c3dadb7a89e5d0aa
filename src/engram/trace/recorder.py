"""The recorder: writes down every operation of a function, and lets autograd say what came back along every wire.

Forward, a `TorchFunctionMode` sees each operation as it was written, `max_pool2d` or `+`, with its tensors. Backward,
nothing is computed here: autograd's own graph is listened to. One operation may have made several of autograd's steps;
those are found by going back from its output until a tensor is reached that another operation gave, and what these
steps send across that border is the gradient of the wire. So the numbers are autograd's by construction, broadcasts,
views and writing in place included.

    wire's gradient      = what the steps of one operation send to one tensor, added up
    node's gradient      = what arrives at the tensor, which is the sum over its wires

Tensors are copied as they are when they are made, since a ReLU in place would overwrite them. The function runs on
copies of its inputs; a network's modes and buffers, and the random state, are afterwards as they were, and no `.grad`
is written.

Where this differs from the lecture: an operation is what the code calls, so that a whole convolution is one node. What
runs inside a custom `autograd.Function` is one node too, and so is what was computed before, outside of the function.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves, tree_map

from engram.errors import UserError
from engram.trace.graph import BUFFER, CONSTANT, INPUT, OPERATION, PARAMETER, Edge, Node, Trace, ancestors
from engram.trace.rules import LEAVES, NO_GRADIENT, TURNED, plain_name, words
from engram.trace.settings import told

SILENT = {"requires_grad_", "retain_grad", "register_hook", "backward", "size", "dim", "numel", "item", "tolist"}
"""Calls that make no value of the graph."""
GETTERS = {"T", "mT", "H", "mH", "real", "imag"}
"""Attributes that do."""
UNASKED = "reads nothing that asks for a gradient"

Step = Any
"""A step of autograd's own graph, `torch.autograd.graph.Node`."""


class Source(NamedTuple):
    """Where a tensor comes from: a node's number, and which of its tensors it is."""

    node: int
    output: int


@dataclass(eq=False)
class Call:
    """One run of one module of a network: what it read and what it gave.

    Attributes:
        first, last: its nodes are those from number `first` to before `last`.
        whole: no other module ran inside.
    """

    name: str
    module: nn.Module
    inputs: list[Source] = field(default_factory=list)
    outputs: list[Source] = field(default_factory=list)
    first: int = 0
    last: int = 0
    whole: bool = True


class Recorder(TorchFunctionMode):
    """Writes down operations while it is active; `listen` then takes the gradients."""

    def __init__(self, net: nn.Module | None) -> None:
        super().__init__()
        self.net = net
        self.nodes: list[Node] = []
        self.calls: list[Call] = []
        self.running: list[Call] = []
        self.by_step: dict[tuple[Step, int], Source] = {}
        self.by_tensor: dict[int, tuple[Tensor, int, Source]] = {}  # the tensor is held, so that its id stays its own
        self.leaves: list[tuple[Tensor, Source]] = []
        self.crossings: dict[tuple[Step, int], Edge] = {}  # by what wire a step sends its n-th gradient out
        self.names = _tensors_of(net)

    # forward

    def take(self, inputs: Sequence[Any], names: Sequence[str]) -> list[Any]:
        """The inputs as they are handed to the function: copies, which get gradients where they can."""
        given = []
        for name, value in zip(names, inputs, strict=False):
            if isinstance(value, int | float) and not isinstance(value, bool):
                value = torch.tensor(float(value), dtype=torch.float64)
            count = 0

            def copy(one: Any, name: str = name) -> Any:
                nonlocal count
                if not isinstance(one, Tensor):
                    return one
                count += 1
                leaf = one.detach().clone()
                # A copy of a leaf may be written to in place, which a leaf may not.
                copied = leaf.requires_grad_().clone() if leaf.is_floating_point() or leaf.is_complex() else leaf
                self._leaf(copied, INPUT, name if count == 1 else f"{name} {count}")
                if copied.requires_grad:
                    self.leaves.append((leaf, Source(len(self.nodes) - 1, 0)))
                return copied

            given.append(tree_map(copy, value))
        if len(given) < len(inputs):
            raise UserError(f"{len(inputs)} inputs were given and {len(names)} names", allowed="a name for each input")
        return given

    def watching(self) -> ExitStack:
        """Record inside the block. The hooks on the modules are gone afterwards, whatever happens in it."""
        stack = ExitStack()
        if self.net is not None:
            for name, module in self.net.named_modules():
                stack.callback(module.register_forward_pre_hook(self._enter(name), with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(self._leave, always_call=True).remove)
        stack.enter_context(self)
        return stack

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        spelling = _spelling(func)
        reads = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        if spelling is None or not reads:
            return func(*args, **kwargs)
        sources = [self.source(one) for one in reads]
        before = [(_step(one), one._version) for one in reads]
        result = func(*args, **kwargs)
        gave = [one for one in tree_leaves(result) if isinstance(one, Tensor)]
        writes = "out" in kwargs or spelling == "__setitem__" or (spelling[-1] == "_" and spelling[-2:] != "__")
        if writes:
            changed = [one for one, was in zip(reads, before, strict=True) if (_step(one), one._version) != was]
            gave += [*changed, *(base for one in changed if (base := one._base) is not None)]
        new = {id(one): one for one in gave if not self._is_known(one)}
        if new:
            name = plain_name(spelling)
            others = args[::-1] if spelling in TURNED else args
            self._operation(name, list(new.values()), reads, sources, told(name, others, kwargs))
        return result

    def source(self, tensor: Tensor) -> Source:
        """Where a tensor comes from; one that nobody has seen yet gets a node."""
        key = _step(tensor)
        if key is None:
            known = self.by_tensor.get(id(tensor))
            if known is not None and known[1] == tensor._version:
                return known[2]
            return self._leaf(tensor)
        found = self.by_step.get(key)
        if found is not None:
            return found
        if hasattr(key[0], "variable"):
            self.leaves.append((tensor, self._leaf(tensor)))
            return self.leaves[-1][1]
        return self._operation(_step_name(key[0]), [tensor], [], [], "")

    def _operation(
        self, name: str, gave: list[Tensor], reads: list[Tensor], sources: list[Source], settings: str
    ) -> Source:
        crossed: dict[Source, list[tuple[Step, int]]] = {}
        for step, place, source in self._border(gave):
            crossed.setdefault(source, []).append((step, place))
        node = Node(len(self.nodes), OPERATION, name, settings=settings, module=self._path())
        self.nodes.append(node)
        node.inputs = [Edge(*source, node.number, place) for place, source in enumerate(sources)]
        for source in crossed:
            if source not in sources:
                node.inputs.append(Edge(*source, node.number, len(node.inputs)))
        for source, found in crossed.items():
            edges = [edge for edge in node.inputs if (edge.source, edge.output) == source]
            for number, crossing in enumerate(found):
                # A tensor that stands at two places has a step for each; where it has not, the first stands for all.
                self.crossings[crossing] = edges[number] if len(edges) == len(found) else edges[0]
        labels = [(self.nodes[edge.source].name, self.nodes[edge.source].values[edge.output]) for edge in node.inputs]
        node.rule = words(name, labels, settings)
        if not any(one.requires_grad for one in gave) and name != "detach":
            node.rule = NO_GRADIENT if any(one.requires_grad for one in reads) else UNASKED
        for tensor in gave:
            self._register(node, tensor)
        return Source(node.number, 0)

    def _border(self, gave: Iterable[Tensor]) -> list[tuple[Step, int, Source]]:
        """The places at which the steps behind these tensors reach back to what other operations gave."""
        found: list[tuple[Step, int, Source]] = []
        ahead = [key[0] for one in reversed(list(gave)) if (key := _step(one)) is not None]
        seen = set()
        while ahead:
            step = ahead.pop()
            if step in seen:
                continue
            seen.add(step)
            inner = []
            for place, (behind, output) in enumerate(step.next_functions):
                if behind is None or (step, place) in self.crossings:
                    continue
                source = self.by_step.get((behind, output))
                if source is None and hasattr(behind, "variable"):
                    source = self.source(behind.variable)
                if source is not None:
                    found.append((step, place, source))
                else:
                    inner.append(behind)
            ahead += reversed(inner)
        return found

    def _leaf(self, tensor: Tensor, kind: str = "", name: str = "") -> Source:
        if not kind:
            kind, name = self.names.get(id(tensor), (PARAMETER if tensor.requires_grad else CONSTANT, ""))
        if not name:
            number = 1 + sum(node.kind == kind for node in self.nodes)
            name = f"{tensor.item():.4g}" if kind == CONSTANT and tensor.numel() == 1 else f"{kind} {number}"
        node = Node(len(self.nodes), kind, name, module=self._path(), rule=LEAVES[kind])
        self.nodes.append(node)
        return self._register(node, tensor)

    def _register(self, node: Node, tensor: Tensor) -> Source:
        source = Source(node.number, len(node.values))
        node.values.append(tensor.detach().clone())
        node.gradients.append(None)
        key = _step(tensor)
        if key is not None:
            self.by_step[key] = source
        self.by_tensor[id(tensor)] = (tensor, tensor._version, source)
        return source

    def _is_known(self, tensor: Tensor) -> bool:
        key = _step(tensor)
        if key is not None:
            return key in self.by_step
        known = self.by_tensor.get(id(tensor))
        return known is not None and known[1] == tensor._version

    def _path(self) -> str:
        return self.running[-1].name if self.running else ""

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(module: nn.Module, arguments: Any, named: Any) -> None:
            with torch._C.DisableTorchFunction():  # what is looked up here is no part of the function
                call = Call(name, module, self._sources((arguments, named)), first=len(self.nodes))
            if self.running:
                self.running[-1].whole = False
            self.calls.append(call)
            self.running.append(call)

        return enter

    def _leave(self, module: nn.Module, _: Any, output: Any) -> None:
        with torch._C.DisableTorchFunction():
            self.running[-1].outputs = self._sources(output)
            self.running[-1].last = len(self.nodes)
        self.running.pop()

    def _sources(self, content: Any) -> list[Source]:
        return [self.source(one) for one in tree_leaves(content) if isinstance(one, Tensor)]

    # backward

    def listen(self, outputs: Sequence[Tensor], gradient: Tensor | Sequence[Tensor] | None) -> None:
        """Send the gradient into the outputs and note what every step receives and sends."""
        asked = [one for one in outputs if one.requires_grad]
        sent = _sent(asked, gradient)
        if not asked or not self.leaves:
            return
        received: dict[Step, Sequence[Tensor | None]] = {}
        passed: dict[Step, Sequence[Tensor | None]] = {}

        def before(step: Step) -> Callable[[Any], None]:
            def note(gradients: Any) -> None:
                received[step] = gradients

            return note

        def after(step: Step) -> Callable[[Any, Any], None]:
            def note(sends: Any, _: Any) -> None:
                passed[step] = sends

            return note

        with ExitStack() as hooks:
            for step in {step for step, _ in self.by_step}:
                if not hasattr(step, "variable"):
                    hooks.callback(step.register_prehook(before(step)).remove)
            for step in {step for step, _ in self.crossings}:
                hooks.callback(step.register_hook(after(step)).remove)
            try:
                found = torch.autograd.grad(asked, [one for one, _ in self.leaves], sent, allow_unused=True)
            except RuntimeError as error:
                reentry = "use_reentrant" in str(error)
                raise UserError(
                    f"autograd cannot go back through this: {str(error).splitlines()[0][:200]}",
                    then="checkpoint(..., use_reentrant=False)" if reentry else None,
                ) from None
        for (step, output), source in self.by_step.items():
            if step in received:
                self.nodes[source.node].gradients[source.output] = _kept(received[step][output])
        for (_, source), total in zip(self.leaves, found, strict=True):
            self.nodes[source.node].gradients[source.output] = _kept(total)
        for (step, place), edge in self.crossings.items():
            part = _kept(passed[step][place]) if step in passed else None
            if part is not None:
                edge.gradient = part if edge.gradient is None else edge.gradient + part

    def finished(self, outputs: Sequence[Source], result: Any) -> tuple[Trace, list[Call]]:
        """What has part in the outputs, numbered anew, and the modules' runs in the same numbers."""
        kept = ancestors(self.nodes, outputs) | {node.number for node in self.nodes if node.kind == INPUT}
        nodes = [node for node in self.nodes if node.number in kept]
        old = [node.number for node in nodes]
        number = {one: place for place, one in enumerate(old)}
        for node in nodes:
            node.number = number[node.number]
            for edge in node.inputs:
                edge.source, edge.target = number[edge.source], node.number

        def renumbered(sources: Iterable[Source]) -> list[Source]:
            return [Source(number[one.node], one.output) for one in sources if one.node in number]

        for call in self.calls:
            call.inputs, call.outputs = renumbered(call.inputs), renumbered(call.outputs)
            call.first, call.last = bisect_left(old, call.first), bisect_left(old, call.last)
        return Trace(nodes, [(one.node, one.output) for one in renumbered(outputs)], result), self.calls


def _step(tensor: Tensor) -> tuple[Step, int] | None:
    """The step of autograd's graph that gave a tensor, and which of its outputs it is."""
    if not tensor.requires_grad:
        return None
    try:
        edge = get_gradient_edge(tensor)
    except AssertionError:  # of views that a custom function makes where no gradients are taken
        return None
    return edge.node, edge.output_nr


def _spelling(func: Any) -> str | None:
    """The name of what was called; None for calls that make no value of the graph."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        name = (resolve_name(func) or "").removesuffix(".__get__").rpartition(".")[2]
        return name if name in GETTERS else None
    return None if not name or name in SILENT else name


def _step_name(step: Step) -> str:
    """A step's own name, in the spelling of operations."""
    name = re.sub(r"Backward\d*$", "", step.name().rpartition("::")[2])
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return "write" if plain == "copy_slices" else plain_name(plain)


def _sent(outputs: Sequence[Tensor], gradient: Tensor | Sequence[Tensor] | None) -> list[Tensor]:
    """What goes into each output.

    Raises:
        UserError: it does not fit.
    """
    if gradient is None or not outputs:
        return [torch.ones_like(one) for one in outputs]
    given = [gradient] if isinstance(gradient, Tensor) else list(gradient)
    shapes, wanted = [tuple(one.shape) for one in given], [tuple(one.shape) for one in outputs]
    if shapes != wanted:
        raise UserError(f"gradient has shapes {shapes}", allowed=f"those of the outputs, {wanted}")
    return [one.to(output) for one, output in zip(given, outputs, strict=True)]


def _kept(gradient: Tensor | None) -> Tensor | None:
    if gradient is None:
        return None
    gradient = gradient.detach()
    return gradient if gradient.layout == torch.strided else gradient.to_dense()


def _tensors_of(net: nn.Module | None) -> dict[int, tuple[str, str]]:
    """The kind and the name of every tensor that a network holds."""
    if net is None:
        return {}
    found = {id(one): (BUFFER, name) for name, one in net.named_buffers()}
    return {**found, **{id(one): (PARAMETER, name) for name, one in net.named_parameters()}}
