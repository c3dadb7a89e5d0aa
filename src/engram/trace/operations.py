"""What an expression may call, and what shapes its inputs have where none are given.

A closed list: nothing that is not on it can be called. Each entry says what runs, and for each tensor that it reads
which shape makes a small and sensible example, given the shapes of those before it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Shape = tuple[int, ...]
Wish = Callable[[Sequence[Shape]], Shape]
"""The shape of an input, from those of the inputs before it."""


@dataclass(frozen=True)
class Operation:
    """An operation of expressions.

    Attributes:
        run: what is called.
        tensors: which of its first arguments are tensors, so that a number there becomes one.
        wishes: a shape for each of them where none is given; the last stands for all that follow.
        keeps_shape: what is wished of the result is wished of the input too.
        positive: its input has to be above zero.
    """

    run: Callable[..., Any]
    tensors: int = 1
    wishes: tuple[Wish, ...] = ()
    keeps_shape: bool = False
    positive: bool = False


def _is(*shape: int) -> Wish:
    return lambda before: shape


def _like(place: int) -> Wish:
    return lambda before: before[place]


def _channels(place: int) -> Wish:
    return lambda before: before[place][1:2]


def _last(place: int) -> Wish:
    return lambda before: before[place][-1:]


def _unary(run: Callable[..., Any], *, positive: bool = False) -> Operation:
    return Operation(run, keeps_shape=True, positive=positive)


def _over(run: Callable[..., Any], *, keeps_shape: bool = False) -> Operation:
    return Operation(run, wishes=(_is(4),), keeps_shape=keeps_shape)


def _two(run: Callable[..., Any]) -> Operation:
    return Operation(run, tensors=2, wishes=(_is(), _like(0)), keeps_shape=True)


def _image(run: Callable[..., Any], dimensions: int) -> Operation:
    return Operation(run, wishes=(_is(1, 1, *[4] * dimensions),))


def _convolution(run: Callable[..., Any], dimensions: int) -> Operation:
    def weight(before: Sequence[Shape]) -> Shape:
        return (1, before[0][1], *(min(side, 3) for side in before[0][2:]))

    image, bias = _is(1, 1, *[4] * dimensions), lambda before: before[1][:1]
    return Operation(run, tensors=3, wishes=(image, weight, bias))


def _largest(x: Tensor, other: Any = None, *, dim: int | None = None) -> Tensor:
    if other is not None:
        return torch.maximum(x, other)
    return torch.max(x) if dim is None else torch.amax(x, dim)


def _smallest(x: Tensor, other: Any = None, *, dim: int | None = None) -> Tensor:
    if other is not None:
        return torch.minimum(x, other)
    return torch.min(x) if dim is None else torch.amin(x, dim)


def _softmax(x: Tensor, dim: int = -1) -> Tensor:
    return F.softmax(x, dim)


def _log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    return F.log_softmax(x, dim)


def _logsumexp(x: Tensor, dim: int = -1) -> Tensor:
    return torch.logsumexp(x, dim)


def _batch_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    return F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)


def _layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def _dropout(x: Tensor, drop: float = 0.5) -> Tensor:
    return F.dropout(x, drop)


def _norm(x: Tensor, length: float = 2, dim: int | None = None) -> Tensor:
    return torch.linalg.vector_norm(x, length, dim)


def _where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.where(condition if condition.dtype is torch.bool else condition > 0, x, y)


def _cross_entropy(x: Tensor, y: Tensor) -> Tensor:
    if y.shape != x.shape:  # a class for each row, or one for all
        y = y.long().expand(x.shape[:1] if x.dim() > 1 and y.dim() == 0 else y.shape)
    return F.cross_entropy(x, y)


def _cat(*parts: Tensor, dim: int = 0) -> Tensor:
    return torch.cat(parts, dim)


def _stack(*parts: Tensor, dim: int = 0) -> Tensor:
    return torch.stack(parts, dim)


def _reshape(x: Tensor, *shape: Any) -> Tensor:
    return x.reshape(shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape)


def _flip(x: Tensor, *axes: int) -> Tensor:
    return x.flip(axes)


def _permute(x: Tensor, *order: Any) -> Tensor:
    return x.permute(order[0] if len(order) == 1 and isinstance(order[0], tuple) else order)


OPERATIONS: dict[str, Operation] = {
    **{
        name: _unary(getattr(torch, name)) for name in ("exp", "sin", "cos", "tanh", "sigmoid", "abs", "square", "sign")
    },
    **{name: _unary(getattr(torch, name), positive=True) for name in ("log", "sqrt", "rsqrt")},
    **{name: _unary(getattr(F, name)) for name in ("relu", "relu6", "gelu", "silu", "elu", "selu", "softplus")},
    "leaky_relu": _unary(F.leaky_relu),
    "detach": _unary(torch.detach),
    "clamp": _unary(torch.clamp),
    "dropout": _unary(_dropout),
    **{name: _two(getattr(torch, name)) for name in ("add", "sub", "mul", "div", "maximum", "minimum")},
    "pow": Operation(torch.pow, wishes=(_is(),), keeps_shape=True),
    "max": Operation(_largest, tensors=2, wishes=(_is(4), _like(0)), keeps_shape=True),
    "min": Operation(_smallest, tensors=2, wishes=(_is(4), _like(0)), keeps_shape=True),
    "where": Operation(_where, tensors=3, wishes=(_is(4), _like(0)), keeps_shape=True),
    **{name: _over(getattr(torch, name)) for name in ("sum", "mean", "prod", "var", "std", "amax", "amin")},
    "norm": _over(_norm),
    "logsumexp": _over(_logsumexp),
    "softmax": _over(_softmax, keeps_shape=True),
    "log_softmax": _over(_log_softmax, keeps_shape=True),
    "cumsum": _over(torch.cumsum, keeps_shape=True),
    "normalize": Operation(F.normalize, wishes=(_is(2, 3),), keeps_shape=True),
    "matmul": Operation(torch.matmul, tensors=2, wishes=(_is(2, 3), lambda before: (before[0][-1], 2))),
    "linear": Operation(
        F.linear,
        tensors=3,
        wishes=(_is(2, 3), lambda before: (2, before[0][-1]), lambda before: before[1][:1]),
    ),
    "attention": Operation(F.scaled_dot_product_attention, tensors=3, wishes=(_is(1, 3, 2), _like(0), _like(1))),
    **{f"conv{d}d": _convolution(getattr(F, f"conv{d}d"), d) for d in (1, 2, 3)},
    **{f"max_pool{d}d": _image(getattr(F, f"max_pool{d}d"), d) for d in (1, 2, 3)},
    **{f"avg_pool{d}d": _image(getattr(F, f"avg_pool{d}d"), d) for d in (1, 2, 3)},
    **{f"adaptive_avg_pool{d}d": _image(getattr(F, f"adaptive_avg_pool{d}d"), d) for d in (1, 2, 3)},
    **{f"adaptive_max_pool{d}d": _image(getattr(F, f"adaptive_max_pool{d}d"), d) for d in (1, 2, 3)},
    "lp_pool2d": _image(F.lp_pool2d, 2),
    "pixel_shuffle": Operation(F.pixel_shuffle, wishes=(_is(1, 4, 2, 2),)),
    "batch_norm": Operation(_batch_norm, tensors=3, wishes=(_is(4, 2), _channels(0))),
    "layer_norm": Operation(_layer_norm, tensors=3, wishes=(_is(2, 4), _last(0))),
    "cross_entropy": Operation(_cross_entropy, tensors=2, wishes=(_is(2, 3), lambda before: before[0][:-1])),
    "mse_loss": Operation(F.mse_loss, tensors=2, wishes=(_is(3), _like(0))),
    "l1_loss": Operation(F.l1_loss, tensors=2, wishes=(_is(3), _like(0))),
    "flatten": Operation(torch.flatten, wishes=(_is(2, 3),)),
    "reshape": Operation(_reshape, wishes=(_is(2, 3),)),
    "permute": Operation(_permute, wishes=(_is(2, 3),)),
    "transpose": Operation(torch.transpose, wishes=(_is(2, 3),)),
    "squeeze": Operation(torch.squeeze, wishes=(_is(1, 3),)),
    "unsqueeze": Operation(torch.unsqueeze, wishes=(_is(3),)),
    "flip": Operation(_flip, wishes=(_is(3),)),
    "pad": Operation(F.pad, wishes=(_is(3),)),
    "cat": Operation(_cat, tensors=99, wishes=(_is(2), _like(0))),
    "stack": Operation(_stack, tensors=99, wishes=(_is(2), _like(0))),
}
