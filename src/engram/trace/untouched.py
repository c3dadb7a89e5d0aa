"""A network looked at without a trace left: modes, buffers, hooks and random state are afterwards as they were."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def untouched(net: nn.Module | None) -> Iterator[None]:
    """Whatever happens in the block, `net` and torch's random state are afterwards as before it.

    Kept are what every module's buffers hold, which mode each is in, and the generators of the CPU and of every GPU
    that is in use. Gradients of parameters are not kept: what runs inside takes them by `torch.autograd.grad`.

    >>> net = nn.BatchNorm1d(2)
    >>> with untouched(net):
    ...     _ = net(torch.ones(4, 2))
    >>> net.running_mean, net.num_batches_tracked
    (tensor([0., 0.]), tensor(0))
    """
    modules = list(net.modules()) if net is not None else []
    modes = [(module, module.training) for module in modules]
    held = [
        (module, name, buffer, buffer.detach().clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for module, name, buffer, before in held:
                module._buffers[name] = buffer
                if not _equal(buffer, before):
                    buffer.copy_(before)


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
