"""Any forward and backward pair as an operation that torch can differentiate.

The idea: torch builds the graph while an expression is evaluated and asks each node for its local rule on the way back.
A node is exactly a pair in the course's form, forward(...) -> out, cache and backward(dout, cache) -> gradients, so one
wrapper serves all of them:

    affine = function(affine_forward, affine_backward)
    out = affine(x, w, b)              # tensors with requires_grad
    out.sum().backward()               # runs affine_backward

This is how a rule written by hand trains a real network, and how it is checked twice: against torch's own operator, and
by torch.autograd.gradcheck in float64. The cost over torch's operators is that of the rule, in Python.

Gradients are dealt out in order to those positional arguments that are floating-point tensors; keyword arguments and
everything else get none. Forward may give several outputs before the cache, as an LSTM step does; backward then takes
as many upstream gradients. A loss in the course's form, (x, y) -> loss, dx, carries its gradient with it and is wrapped
by `loss_function`. Gradients of gradients (create_graph) are refused: nobody wrote that rule.

Settings that forward changes, such as the running averages in `bn_param`, are changed as they would be without torch.

PyTorch, "Extending PyTorch", torch.autograd.Function; Stanford CS231n, assignment 2 (the forms of the pairs).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from engram.errors import UserError


class _Pair(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rule: Callable[..., Any], backward: Callable[..., Any], settings: dict, *args: Any) -> Any:
        *out, ctx.cache = rule(*args, **settings)
        ctx.rule = backward
        ctx.takers = [index for index, arg in enumerate(args) if isinstance(arg, Tensor) and arg.is_floating_point()]
        ctx.count = len(args)
        return out[0] if len(out) == 1 else tuple(out)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        if torch.is_grad_enabled():  # create_graph: what is computed here would be taken for a constant
            raise UserError(
                "the gradient of a gradient through a rule: nobody wrote how the backward rule changes",
                then="torch's own operator, or create_graph=False",
            )
        found = ctx.rule(*grad_outputs, ctx.cache)
        gradients: list[Tensor | None] = [None] * ctx.count
        for index, gradient in zip(ctx.takers, found if isinstance(found, tuple) else (found,), strict=False):
            gradients[index] = gradient
        return (None, None, None, *gradients)


def function(forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """A differentiable operation out of a forward and backward pair.

    Args:
        forward: (*args, **settings) -> (*outputs, cache).
        backward: (*upstreams, cache) -> a gradient, or a tuple of them in the order of the tensors among `args`.

    >>> from engram.rules import relu_backward, relu_forward
    >>> relu = function(relu_forward, relu_backward)
    >>> x = torch.tensor([-1.0, 2.0], requires_grad=True)
    >>> relu(x).sum().backward()
    >>> x.grad
    tensor([0., 1.])
    """

    def operation(*args: Any, **settings: Any) -> Any:
        return _Pair.apply(forward, backward, settings, *args)

    operation.__name__ = forward.__name__.removesuffix("_forward")
    operation.__doc__ = forward.__doc__
    return operation


def loss_function(loss: Callable[..., Any]) -> Callable[..., Any]:
    """A differentiable loss out of one in the course's form.

    Args:
        loss: (x, ..., **settings) -> loss, dx.

    >>> from engram.rules import softmax_loss
    >>> x = torch.zeros(1, 2, requires_grad=True)
    >>> loss_function(softmax_loss)(x, torch.tensor([0])).backward()
    >>> x.grad
    tensor([[-0.5000,  0.5000]])
    """
    operation = function(loss, lambda upstream, dx: upstream * dx)
    operation.__name__, operation.__doc__ = loss.__name__, loss.__doc__
    return operation
