"""Run a network without leaving a trace in it: mode flags, buffers, gradients and every generator are put back."""

import random
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import SyncBatchNorm, _NormBase


@contextmanager
def untouched(net: nn.Module, *, batch_statistics: bool = False) -> Iterator[None]:
    """Inside, the network is in eval mode; afterwards, it and all generators are bit for bit as they were.

    Compiled parts run eagerly inside, so that hooks are heard and nothing is compiled anew for them. Networks with
    recurrent layers run without cuDNN: see `differentiable`.

    Args:
        batch_statistics: batch norm takes the batch's statistics as in training, while dropout stays off. A layer that
            alone is in eval mode is frozen on purpose and stays so; one that is synchronised over processes would wait
            for the others, and stays in eval mode too.

    >>> net = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    >>> before = net[0].running_mean.clone()
    >>> with untouched(net, batch_statistics=True):
    ...     _ = net(torch.randn(8, 2) + 5)
    >>> torch.equal(net[0].running_mean, before), net.training
    (True, True)
    """
    modules = list(net.modules())
    modes = [module.training for module in modules]
    gradients = [(parameter, parameter.grad) for parameter in net.parameters()]
    buffers = [(module, name, buffer) for module in modules for name, buffer in module._buffers.items()]
    copies = {id(buffer): buffer.clone() for _, _, buffer in buffers if buffer is not None}
    devices = {tensor.device.index for tensor in net.parameters() if tensor.device.type == "cuda"}
    draws = random.getstate(), np.random.get_state()  # noqa: NPY002 (a layer of anybody's may draw from it)
    try:
        # buffers are lent out as copies: kernels change running statistics without a trace by which to notice it
        for module, name, buffer in buffers:
            module._buffers[name] = None if buffer is None else copies[id(buffer)]
        for module, was in zip(modules, modes, strict=True):
            normal = isinstance(module, _NormBase) and not isinstance(module, SyncBatchNorm)
            # flags are set one by one: a network's own train() may do more than that
            module.training = batch_statistics and normal and (was or not net.training)
        with (
            torch.random.fork_rng(devices=sorted(one for one in devices if one is not None)),
            _eagerly(),
            differentiable(net),
        ):
            yield
    finally:
        for module, was in zip(modules, modes, strict=True):
            module.training = was
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, name, buffer in buffers:
            module._buffers[name] = buffer
        random.setstate(draws[0])
        np.random.set_state(draws[1])  # noqa: NPY002


def differentiable(net: nn.Module) -> AbstractContextManager[None]:
    """A context in which a network with recurrent layers can be differentiated in eval mode, too.

    cuDNN keeps what backward needs in training mode alone, and raises an error otherwise; torch's own kernels keep it
    always. Training mode is no way round: it drops values between the layers. Other networks keep cuDNN.
    """
    recurrent = any(isinstance(module, nn.RNNBase) for module in net.modules())
    return torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()


@contextmanager
def _eagerly() -> Iterator[None]:
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing the compiler takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
