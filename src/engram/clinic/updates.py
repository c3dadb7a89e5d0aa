"""What an optimiser's step is made of: norms of the gradients that it sees, and of what it changes.

It hears the optimiser by its hooks, so gradients are those after unscaling, accumulation, clipping and the exchange
between processes. Norms are taken by fused kernels and stay on the device until somebody reads them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Updates:
    """Listens to optimisers, and takes norms at the steps that are due.

    Args:
        is_due: whether the coming step is measured.

    Attributes:
        norms: L2 norms by kind, `gradients` and `updates`, and parameter; they wait on the device.
        steps: steps that an optimiser made since somebody set it to 0.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    >>> updates = Updates(net, [optimizer], lambda: True)
    >>> (3 * net(torch.ones(1, 1))).sum().backward(); optimizer.step()
    >>> {kind: norms["weight"].item() for kind, norms in updates.norms.items()}, updates.steps
    ({'gradients': 3.0, 'updates': 1.5}, 1)
    """

    def __init__(self, net: nn.Module, optimizers: Sequence[torch.optim.Optimizer], is_due: Callable[[], bool]) -> None:
        self.optimizers, self.is_due = optimizers, is_due
        self.norms: dict[str, dict[str, Tensor]] = {}
        self.steps = 0
        self._before: list[Tensor] = []
        self._names = {id(one): name for name, one in net.named_parameters()}
        self._handles = [
            handle
            for one in optimizers
            for handle in (
                one.register_step_pre_hook(self._before_step),
                one.register_step_post_hook(self._after_step),
            )
        ]

    @property
    def listens(self) -> bool:
        """Whether there is an optimiser that it still hears."""
        return bool(self._handles)

    @property
    def optimized(self) -> frozenset[str] | None:
        """Names of the parameters that an optimiser holds; None where there is no optimiser."""
        if not self.optimizers:
            return None
        return frozenset(name for one in self.optimizers for name, _ in self._held(one))

    def take(self) -> dict[str, dict[str, Tensor]]:
        """The norms that wait, which then wait no longer."""
        taken, self.norms = self.norms, {}
        return taken

    def close(self) -> None:
        """Let the optimisers go."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._before.clear()

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Keep the weights, and take the norms of the gradients that the optimiser is about to use."""
        if not self.is_due():
            return
        held = self._held(optimizer)
        with torch.no_grad():
            self._before = [one.detach().clone() for _, one in held]
            if len(args) == 1 and not kwargs:  # with a closure, the gradients are those of the step before
                self._take_gradients(optimizer, held)

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Take the norms of what the step changed."""
        self.steps += 1
        if not self._before:
            return
        held = self._held(optimizer)
        with torch.no_grad():
            if len(args) > 1 or kwargs:
                self._take_gradients(optimizer, held)
            if len(held) == len(self._before):  # unless the optimiser was given more meanwhile
                changes = torch._foreach_sub([one.detach() for _, one in held], self._before)
                names = [name for name, _ in held]
                self.norms.setdefault("updates", {}).update(norms_of(list(zip(names, changes, strict=True))))
        self._before = []

    def _take_gradients(self, optimizer: torch.optim.Optimizer, held: list[tuple[str, Tensor]]) -> None:
        scaled = getattr(optimizer, "grad_scale", None)  # of a fused step that divides by itself
        norms = norms_of([(name, one.grad) for name, one in held if one.grad is not None])
        norms = norms if scaled is None else {name: norm / scaled for name, norm in norms.items()}
        self.norms.setdefault("gradients", {}).update(norms)

    def _held(self, optimizer: torch.optim.Optimizer) -> list[tuple[str, Tensor]]:
        return [
            (self._names[id(one)], one)
            for group in optimizer.param_groups
            for one in group["params"]
            if id(one) in self._names
        ]


def norms_of(named: list[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """L2 norms by name, in one kernel for each kind of tensor; they stay on the device."""
    dense = [(name, one) for name, one in named if not one.is_sparse and one.numel()]
    norms = torch._foreach_norm([one for _, one in dense]) if dense else []
    found = dict(zip((name for name, _ in dense), norms, strict=True))
    return found | {name: one.coalesce().values().norm() for name, one in named if one.is_sparse}
