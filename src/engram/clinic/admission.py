"""What comes to the clinic: the network itself out of what is put around it, and the optimisers as a list."""

from collections.abc import Sequence

import torch
from torch import nn

from engram.errors import UserError


def inner(net: nn.Module) -> nn.Module:
    """The network itself, out of what parallel training and the compiler put around it.

    Raises:
        UserError: it is no module, or has no parameters.
    """
    if not isinstance(net, nn.Module):
        raise UserError(f"a {type(net).__name__} is no network", allowed="a torch.nn.Module")
    while True:
        if isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel):
            net = net.module
        elif isinstance(getattr(net, "_orig_mod", None), nn.Module):
            net = net._orig_mod  # type: ignore[assignment]
        else:
            break
    if next(net.parameters(), None) is None:
        raise UserError(f"{type(net).__name__} has no parameters: there is nothing to train and nothing to examine")
    return net


def listed(given: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None) -> list[torch.optim.Optimizer]:
    if given is None:
        return []
    listed = [given] if isinstance(given, torch.optim.Optimizer) else list(given)
    for one in listed:
        if not isinstance(one, torch.optim.Optimizer):
            raise UserError(f"a {type(one).__name__} is no optimizer", allowed="a torch.optim.Optimizer, or several")
    return listed
