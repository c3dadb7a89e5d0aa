"""What a network costs before it is trained: parameters, multiply-adds, output shapes and memory, layer by layer.

Nothing is computed: the network runs on torch's meta device, where tensors have a shape and no values. The network
itself, its mode and the random state are as they were afterwards.

A multiply-add (MAC) is one product and its addition, inside convolutions, linear layers and other matrix products, for
one input; papers that print "FLOPs" usually mean this. Normalisation, activations and pooling are not counted, as in
those papers. Training costs about three forward passes: 6 floating-point operations a MAC.

Memory counts what training keeps between steps, and between the forward pass and the backward: the tensors that torch
itself saves for it, each once. What passes through and is freed again, workspaces and the allocator's slack come on
top.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One layer as it ran: its place in the network, its type, the shape it gave for one input, and its costs."""

    name: str
    kind: str
    output: Shape
    parameters: int
    macs: int


@dataclass(frozen=True)
class Account:
    """A network's layers in the order in which they ran, and the totals."""

    input: Shape
    output: Shape
    rows: tuple[Row, ...]
    parameters: int
    trainable: int
    buffers: int
    macs: int


@dataclass(frozen=True)
class Memory:
    """Bytes that training keeps. Weights, gradients and the optimizer's do not grow with the batch; kept values do."""

    weights: int
    gradients: int
    optimizer: int
    kept_an_example: int

    def total(self, batch_size: int) -> int:
        return self.weights + self.gradients + self.optimizer + batch_size * self.kept_an_example


def account(net: nn.Module, shape: Sequence[int], *, dtype: torch.dtype = torch.float32) -> Account:
    """Count a network's parameters and multiply-adds for one input, as it would be evaluated.

    Args:
        shape: of one input, (C, *S).
        dtype: of the input; integers for networks that read symbols.

    Raises:
        Exception: whatever `net` raises for an input of that shape.

    >>> costs = account(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)), (3, 8, 8))
    >>> costs.parameters, costs.macs, costs.rows[0].output
    (3114, 10656, (8, 6, 6))
    """
    recorder = _Recorder(net)

    def once(state: dict[str, Tensor]) -> Any:
        with recorder.watching(), torch.no_grad():
            return functional_call(net, state, (_input(state, (1, *shape), dtype),))

    output = _without_values(net, once, training=False)
    parameters = list(net.parameters())
    return Account(
        input=tuple(shape),
        output=_shape(output),
        rows=recorder.rows(),
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        buffers=sum(buffer.numel() for buffer in net.buffers()),
        macs=recorder.macs,
    )


def memory(net: nn.Module, shape: Sequence[int], *, slots: int = 1, dtype: torch.dtype = torch.float32) -> Memory:
    """The memory that training takes in float32; with bfloat16 autocast the kept values take about half.

    Args:
        shape: of one input, (C, *S).
        slots: values that the optimizer keeps a weight: 0 for plain SGD, 1 with momentum, 2 for Adam.

    >>> memory(nn.Linear(1000, 10), (1000,), slots=2).total(batch_size=8)
    192160
    """
    batch = 2  # batch normalisation needs more than one

    def once(state: dict[str, Tensor]) -> int:
        own = {_storage(tensor)._cdata for tensor in state.values()}
        saved: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = _storage(tensor)
            saved[storage._cdata] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = functional_call(net, state, (_input(state, (batch, *shape), dtype),))
        del output  # kept until here, so that no storage's identity is given a second time
        return sum(storage.nbytes() for identity, storage in saved.items() if identity not in own)

    kept = _without_values(net, once, training=True)
    weights = sum(p.numel() * p.element_size() for p in net.parameters())
    gradients = sum(p.numel() * p.element_size() for p in net.parameters() if p.requires_grad)
    return Memory(weights, gradients, slots * gradients, kept // batch)


class _Recorder(TorchDispatchMode):
    """Follows which module is running, and credits every matrix product to it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.calls: list[_Call] = []
        self.running: list[_Call] = []
        self.macs = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        count = MACS.get(func.overloadpacket)
        if count is not None:
            macs = count(args, output)
            self.macs += macs
            if self.running:
                self.running[-1].macs += macs
        return output

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record until the end of the block; the hooks are gone afterwards, whatever happens in it."""
        self.calls, self.running, self.macs = [], [], 0
        handles = []
        try:
            for name, module in self.net.named_modules():
                handles.append(module.register_forward_pre_hook(self._enter(name)))
                handles.append(module.register_forward_hook(self._leave))
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def rows(self) -> tuple[Row, ...]:
        """The calls of layers: modules without parts, and those that compute with weights of their own.

        A module that never ran by itself, because its parent computes with its weights, comes last and without shape.
        """
        rows: list[Row] = []
        counted: set[nn.Parameter] = set()
        for call in self.calls:
            own = [p for p in call.module.parameters(recurse=False) if p not in counted]
            counted.update(own)
            if call.macs or own or not any(call.module.children()):
                kind = type(call.module).__name__
                rows.append(Row(call.name or kind, kind, call.output, sum(p.numel() for p in own), call.macs))
        for name, module in self.net.named_modules():
            own = [p for p in module.parameters(recurse=False) if p not in counted]
            counted.update(own)
            if own:
                rows.append(Row(name, type(module).__name__, (), sum(p.numel() for p in own), 0))
        return tuple(rows)

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(module: nn.Module, _: Any) -> None:
            self.running.append(_Call(name, module))
            self.calls.append(self.running[-1])

        return enter

    def _leave(self, module: nn.Module, _: Any, output: Any) -> None:
        self.running.pop().output = _shape(output)


@dataclass
class _Call:
    name: str
    module: nn.Module
    output: Shape = ()
    macs: int = 0


def _convolution(args: Any, output: Tensor) -> int:
    x, weight, transposed = args[0], args[1], args[6]
    return (x if transposed else output).numel() * weight[0].numel()


MACS: dict[Any, Callable[[Any, Tensor], int]] = {
    torch.ops.aten.convolution: _convolution,
    torch.ops.aten.mm: lambda args, output: output.numel() * args[0].shape[-1],
    torch.ops.aten.bmm: lambda args, output: output.numel() * args[0].shape[-1],
    torch.ops.aten.addmm: lambda args, output: output.numel() * args[1].shape[-1],
    torch.ops.aten.baddbmm: lambda args, output: output.numel() * args[1].shape[-1],
}


def _without_values(net: nn.Module, once: Callable[[dict[str, Tensor]], Any], *, training: bool) -> Any:
    """Run `once` on shapes alone; where a network needs values, on a copy of its weights."""
    modes = [(module, module.training) for module in net.modules()]
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    net.train(training)
    try:
        with torch.random.fork_rng(devices=[]):
            try:
                return once(_copies(tensors, lambda tensor: tensor.detach().to("meta")))
            except (RuntimeError, NotImplementedError):
                return once(_copies(tensors, lambda tensor: tensor.detach().clone()))
    finally:
        for module, mode in modes:
            module.training = mode


def _copies(tensors: dict[str, Tensor], copy: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    return {name: copy(tensor).requires_grad_(tensor.requires_grad) for name, tensor in tensors.items()}


def _input(state: dict[str, Tensor], shape: Shape, dtype: torch.dtype) -> Tensor:
    device = next((tensor.device for tensor in state.values()), torch.device("meta"))
    return torch.zeros(shape, dtype=dtype, device=device)


def _shape(output: Any) -> Shape:
    """Of one input's output, or of the first where a network gives several."""
    while isinstance(output, tuple | list) and output:
        output = output[0]
    return tuple(output.shape[1:]) if isinstance(output, Tensor) else ()


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()
