"""Gradients of gradients for operations whose backward is written by hand.

What backward computes by hand is numbers without a history. Where somebody asks for their gradient (`create_graph`),
the operation is done once more by its equations, with a graph, and autograd makes both.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def by_equations(
    equations: Callable[..., tuple[Tensor, ...]],
    given: tuple[Any, ...],
    needs: tuple[bool, ...],
    gradients: tuple[Tensor | None, ...],
) -> tuple[Tensor | None, ...]:
    """What backward returns, as functions of what was given that can be differentiated again.

    Args:
        equations: the operation, of plain differentiable parts.
        given: its inputs, tensors or None.
        needs: which of them need a gradient.
        gradients: those that came back for its outputs; None for one that nobody used.

    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> (slope,) = by_equations(lambda x: (x**3,), (x,), (True,), (torch.tensor(1.0),))
    >>> slope.item(), torch.autograd.grad(slope, x)[0].item()
    (27.0, 18.0)
    """
    # as views, so that what is asked for is the way through here, not also the part of one input in another
    apart: list[Any] = [value if value is None else value.view_as(value) for value in given]
    wanted = [value for value, need in zip(apart, needs, strict=True) if need]
    asked = [(output, g) for output, g in zip(equations(*apart), gradients, strict=True) if g is not None]
    outputs, slopes = zip(*asked, strict=True)
    found = iter(torch.autograd.grad(outputs, wanted, slopes, create_graph=True, allow_unused=True))
    return tuple(next(found) if need else None for need in needs)
