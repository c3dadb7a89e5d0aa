"""A run of a network on shapes alone, followed operation by operation: which module is at work, and what it allocates.

Memory is followed as torch itself hands it out: each new block when it is made, until the last tensor on it is gone.
A network's own weights do not count. What grows with the batch is told from what does not by running a batch whose
size is a large prime: only blocks of a size divisible by it grow.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from engram.accounting.receptive_field import Views

Shape = tuple[int, ...]


@dataclass
class Call:
    """One run of one module; what its parts do is theirs. Bytes are (whatever the batch, for one example)."""

    name: str
    module: nn.Module
    output: Shape = ()
    field: Shape = ()
    macs: int = 0
    kept: int = 0
    held: int = 0


@dataclass
class Bytes:
    """Bytes in use: those that do not depend on the batch, and those of one example."""

    fixed: int = 0
    example: int = 0

    def add(self, size: "Bytes", sign: int = 1) -> None:
        self.fixed += sign * size.fixed
        self.example += sign * size.example


class Recorder(TorchDispatchMode):
    """Follows which module is running, and credits to it every matrix product and every byte.

    Args:
        batch: the size of the batch it will see; bytes of one example are told from others by it.
    """

    def __init__(self, net: nn.Module, batch: int) -> None:
        super().__init__()
        self.net, self.batch = net, batch
        self.calls: list[Call] = []
        self.running: list[Call] = []
        self.macs = 0
        self.views = Views()
        self.used = Bytes()
        self.moments: list[tuple[int, int]] = []
        self.blocks: dict[int, Bytes] = {}
        self.kept: dict[int, Bytes] = {}
        self.own: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        operation = func.overloadpacket
        count = MACS.get(operation)
        if count is not None:
            self._credit(count(args, output))
        if not torch.is_grad_enabled():
            self.views.follow(operation, args, output)
        for tensor in torch.utils._pytree.tree_iter(output):
            if isinstance(tensor, Tensor):
                self._holds(tensor.untyped_storage())
        self.moments.append((self.used.fixed, self.used.example))
        if self.running:
            self.running[-1].held = max(self.running[-1].held, self.used.fixed + self.used.example)
        return output

    @contextmanager
    def watching(self, state: dict[str, Tensor]) -> Iterator[None]:
        """Record until the end of the block; the hooks are gone afterwards, whatever happens in it."""
        self.own = {tensor.untyped_storage()._cdata for tensor in state.values()}
        with ExitStack() as hooks:
            for name, module in self.net.named_modules():
                hooks.callback(module.register_forward_pre_hook(self._enter(name)).remove)
                hooks.callback(module.register_forward_hook(self._leave).remove)
            with self:
                yield

    def keep(self, tensor: Tensor) -> Tensor:
        """`tensor` is saved for the backward pass: credit its block, once."""
        storage = tensor.untyped_storage()
        identity = storage._cdata
        if identity not in self.kept and identity not in self.own:
            self.kept[identity] = self._size(storage)
            if self.running:
                self.running[-1].kept += self.kept[identity].example
        return tensor

    def _credit(self, macs: int) -> None:
        self.macs += macs
        if self.running:
            self.running[-1].macs += macs

    def _holds(self, storage: torch.UntypedStorage) -> None:
        identity = storage._cdata
        if identity in self.blocks or identity in self.own:
            return
        self.blocks[identity] = size = self._size(storage)
        self.used.add(size)
        weakref.finalize(storage, self._gives_back, identity)

    def _gives_back(self, identity: int) -> None:
        self.used.add(self.blocks.pop(identity), -1)

    def _size(self, storage: torch.UntypedStorage) -> Bytes:
        size, rest = divmod(storage.nbytes(), self.batch)
        return Bytes(storage.nbytes(), 0) if rest else Bytes(0, size)

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(module: nn.Module, _: Any) -> None:
            self.running.append(Call(name, module, held=self.used.fixed + self.used.example))
            self.calls.append(self.running[-1])

        return enter

    def _leave(self, module: nn.Module, _: Any, output: Any) -> None:
        call = self.running.pop()
        first = first_tensor(output)
        if first is not None:
            call.output, call.field = tuple(first.shape[1:]), self.views.sizes(first)


def first_tensor(output: Any) -> Tensor | None:
    """Of a network or layer that gives several."""
    while isinstance(output, tuple | list) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def without_values(net: nn.Module, once: Callable[[dict[str, Tensor]], Any], *, training: bool) -> Any:
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


def forward(net: nn.Module, state: dict[str, Tensor], x: Tensor) -> Any:
    """What the network gives with those weights in place of its own."""
    return functional_call(net, state, (x,))


def some_input(state: dict[str, Tensor], shape: Shape, dtype: torch.dtype) -> Tensor:
    """Zeros of that shape where the weights are."""
    device = next((tensor.device for tensor in state.values()), torch.device("meta"))
    return torch.zeros(shape, dtype=dtype, device=device)


def _copies(tensors: dict[str, Tensor], copy: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    return {name: copy(tensor).requires_grad_(tensor.requires_grad) for name, tensor in tensors.items()}


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
