"""Finding the residual additions of any network, whatever its classes are called: x + F(x), where F(x) comes from x.

A torch function mode follows every operation of a forward pass and keeps, for each tensor, which tensors it was made
from. An addition of two tensors of the same shape is residual when one is an ancestor of the other: the ancestor is the
shortcut, the other the branch. Two branches of one input (Inception's, a projection's) are no ancestors of each other.

Both are measured by what differs from example to example. What a branch adds to all alike is a bias and says nothing of
the input; behind a norm whose factor has faded, that is all that a branch still is.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ADDITIONS = ("add", "add_", "__add__", "__iadd__", "__radd__")


@dataclass(frozen=True)
class Addition:
    """One residual addition: rms of the branch over rms of the shortcut, of both less their mean over the batch, and
    the module in which it stands."""

    name: str
    ratio: float


class Additions(TorchFunctionMode):
    """While it is entered, residual additions are measured; the branch numbered `silent` gives its batch's mean."""

    def __init__(self, net: nn.Module, silent: int | None = None) -> None:
        super().__init__()
        self.found: list[Addition] = []
        self.silent = silent
        self._names = {module: name for name, module in net.named_modules()}
        self._stack: list[str] = []
        self._number: dict[int, int] = {}  # of the tensor at that address
        self._ancestors: list[int] = []  # of each number, as bits
        self._kept: list[Tensor] = []  # so that no address is used twice

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ADDITIONS and not kwargs and len(args) == 2:
            parts = self._residual(*args)
            if parts is not None:
                shortcut, branch = parts
                number = len(self.found)
                self.found.append(Addition(self._place(), _ratio(branch, shortcut)))
                if number == self.silent:
                    with torch._C.DisableTorchFunction():
                        silenced = shortcut + (branch - _varying(branch))
                        if name in ("add_", "__iadd__"):
                            args[0].copy_(silenced)
                            return self._note(args[0], (shortcut,))
                        return self._note(silenced, (shortcut,))
        output = func(*args, **kwargs)
        return self._note(output, (*args, *kwargs.values()))

    def _residual(self, a: Any, b: Any) -> tuple[Tensor, Tensor] | None:
        """(shortcut, branch), where one of the two comes from the other."""
        if not (isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape and a.is_floating_point()):
            return None
        if a.ndim < 2 or id(a) not in self._number or id(b) not in self._number or a is b:
            return None
        first, second = self._number[id(a)], self._number[id(b)]
        if self._ancestors[second] >> first & 1:
            return a, b
        return (b, a) if self._ancestors[first] >> second & 1 else None

    def _note(self, output: Any, inputs: tuple[Any, ...]) -> Any:
        """Remember what a tensor was made from; one that was written to keeps its number."""
        for one in output if isinstance(output, tuple | list) else (output,):
            if not isinstance(one, Tensor):
                continue
            mask = 0
            for given in _tensors(inputs):
                number = self._number.get(id(given))
                if number is None:
                    number = self._enter(given, 0)
                mask |= self._ancestors[number] | 1 << number
            held = self._number.get(id(one))
            if held is None:
                self._enter(one, mask)
            else:
                self._ancestors[held] |= mask & ~(1 << held)
        return output

    def _enter(self, tensor: Tensor, mask: int) -> int:
        number = len(self._ancestors)
        self._ancestors.append(mask)
        self._number[id(tensor)] = number
        self._kept.append(tensor)
        return number

    def _place(self) -> str:
        return self._stack[-1] if self._stack else ""

    def enter(self, module: nn.Module, inputs: Any) -> None:
        """Before a module is called."""
        self._stack.append(self._names.get(module, ""))

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """After a module was called."""
        self._stack.pop()


@contextmanager
def additions(net: nn.Module, silent: int | None = None) -> Iterator[Additions]:
    """Residual additions of what is run inside: `found`, in order.

    Args:
        net: a network that may be given hooks; they are removed at the end.
        silent: number of the addition whose branch gives every example the same: its mean over the batch.

    >>> class Block(nn.Module):
    ...     def forward(self, x): return x + 0.1 * x.tanh()
    >>> net = nn.Sequential(nn.Linear(2, 2), Block())
    >>> with additions(net) as seen, torch.no_grad():
    ...     _ = net(torch.eye(2))
    >>> [(one.name, 0 < one.ratio < 0.1) for one in seen.found]
    [('1', True)]
    """
    mode = Additions(net, silent)
    handles = [
        handle
        for module in net.modules()
        for handle in (module.register_forward_pre_hook(mode.enter), module.register_forward_hook(mode.leave))
    ]
    try:
        with mode:
            yield mode
    finally:
        for handle in handles:
            handle.remove()


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)


def _ratio(branch: Tensor, shortcut: Tensor) -> float:
    with torch._C.DisableTorchFunction(), torch.no_grad():
        below = torch.linalg.vector_norm(_varying(shortcut).float()).item()
        return torch.linalg.vector_norm(_varying(branch).float()).item() / below if below else float("inf")


def _varying(x: Tensor) -> Tensor:
    """What differs from example to example; of one example, all."""
    return x - x.mean(0, keepdim=True) if len(x) > 1 else x
