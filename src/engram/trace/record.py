"""Run a function once and see every operation: its value forward, and what came back to it, by `recorder.py`."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from engram.errors import UserError
from engram.trace.graph import Trace
from engram.trace.recorder import Call, Recorder
from engram.trace.untouched import untouched


def trace(
    fn: Callable[..., Any],
    *inputs: Any,
    names: Sequence[str] | None = None,
    gradient: Tensor | Sequence[Tensor] | None = None,
    **settings: Any,
) -> Trace:
    """Run `fn(*inputs, **settings)` once and record every operation, forward and backward.

    Args:
        fn: a function of tensors, or an `nn.Module`.
        inputs: tensors, or numbers, which become float64 tensors; floating-point ones get gradients.
        names: of the inputs; by default those of the function's parameters.
        gradient: what is sent into the output, of its shape; several for several outputs. By default ones: gradients
            are those of the sum of all that comes out.
        settings: handed to `fn` by name, as they are.

    Raises:
        UserError: `fn` cannot be called, gives no tensor, `gradient` does not fit what it gives, or autograd cannot go
            back through it.

    >>> import torch.nn.functional as F
    >>> x = torch.arange(4.0).view(1, 1, 2, 2)
    >>> trace(F.max_pool2d, x, kernel_size=2)["input"].gradient.flatten()
    tensor([0., 0., 0., 1.])
    """
    return record(fn, inputs, names=names, gradient=gradient, settings=settings)[0]


def record(
    fn: Callable[..., Any],
    inputs: Sequence[Any],
    *,
    names: Sequence[str] | None = None,
    gradient: Tensor | Sequence[Tensor] | None = None,
    settings: Mapping[str, Any] | None = None,
    net: nn.Module | None = None,
) -> tuple[Trace, list[Call]]:
    """As `trace`, and the runs of the network's modules in the order in which they began.

    Args:
        net: the network that `fn` runs, where it is not `fn` itself: it names the parameters and is left untouched.
    """
    if not callable(fn):
        raise UserError(f"{fn!r} cannot be traced", allowed="a function of tensors, or an nn.Module")
    fn = getattr(fn, "_orig_mod", fn)  # what torch.compile would hide
    owner = net if net is not None else fn if isinstance(fn, nn.Module) else getattr(fn, "__self__", None)
    owner = owner if isinstance(owner, nn.Module) else None
    with untouched(owner), torch.inference_mode(False), torch.enable_grad():
        recorder = Recorder(owner)
        given = recorder.take(inputs, list(names or _names(fn, len(inputs))))
        with recorder.watching():
            result = fn(*given, **(settings or {}))
        outputs = [one for one in tree_leaves(result) if isinstance(one, Tensor)]
        if not outputs:
            raise UserError(
                f"{_named(fn)} gave {type(result).__name__}, and no tensor", allowed="a function of tensors"
            )
        sources = [recorder.source(one) for one in outputs]
        recorder.listen(outputs, gradient)
    return recorder.finished(sources, tree_map(_bare, result))


def _names(fn: Callable[..., Any], count: int) -> list[str]:
    """The names of a function's first parameters."""
    try:
        parameters = inspect.signature(fn.forward if isinstance(fn, nn.Module) else fn).parameters.values()
    except (TypeError, ValueError):  # of what is written in C
        parameters = {}.values()
    names = [one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    rest = range(len(names) + 1, count + 1)
    names += ["input" if count == 1 else f"input {number}" for number in rest]
    return names[:count]


def _named(fn: Any) -> str:
    return getattr(fn, "__name__", type(fn).__name__)


def _bare(content: Any) -> Any:
    return content.detach() if isinstance(content, Tensor) else content
