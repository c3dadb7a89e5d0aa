"""How much of the input one value of a layer can see: its receptive field, through any graph of layers.

A window of k values, s apart from the next and with d between its values, widens what the layer below it sees:

    size_l = size_{l-1} + (k - 1) d jump_{l-1}        jump_l = jump_{l-1} s        start_l = start_{l-1} - padding jump

where the jump is how far apart in the input two neighbours of a layer look. Where paths meet, in a sum or a
concatenation, a value sees what any of them sees. So every tensor of a forward pass carries, for each of its axes, what
its first position sees and how far the next one's view is moved; convolution, pooling, padding and slices change it.
What mixes all positions of an axis (a flattened map before a linear layer, the mean over positions) sees all that these
positions see, at most the whole input.

Three 3x3 convolutions see 7 pixels as one 7x7 does, with 27 C² weights for 49 C²; that is VGG. The size is what a value
may depend on: it is counted past the border too (483 pixels of an input of 224), and in practice the middle counts for
far more than the rim (Luo et al. 2016). What normalisation sees by its statistics is not counted.

Araujo, Norris and Sim 2019, Computing receptive fields of convolutional neural networks, Distill, equations 2 to 4 and
the section on arbitrary graphs; Simonyan and Zisserman 2015, section 2.3, for VGG's.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

Number = int | Fraction
Range = tuple[Number, Number]


@dataclass(frozen=True)
class Span:
    """What positions along one axis of a tensor see of one axis of the input.

    Position i sees `size` values from `start + i * jump`.
    """

    axis: int
    start: Number = 0
    size: Number = 1
    jump: Number = 1

    def window(self, kernel: int, stride: Number, padding: int, dilation: int = 1) -> "Span":
        """What a window over these positions sees.

        >>> Span(0).window(3, 1, 1).window(3, 2, 1)
        Span(axis=0, start=-2, size=5, jump=2)
        """
        return Span(
            self.axis,
            self.start - padding * self.jump,
            self.size + (kernel - 1) * dilation * self.jump,
            self.jump * stride,
        )

    def all(self, positions: int) -> Range:
        """The first and the last value that any of so many positions sees."""
        return self.start, self.start + (positions - 1) * self.jump + self.size - 1


@dataclass(frozen=True)
class View:
    """What the values of one tensor see: along its own axes, and, by axis of the input, at every position."""

    axes: tuple[Span | None, ...]
    everywhere: tuple[Range | None, ...]

    def sizes(self, shape: Sequence[int]) -> tuple[int, ...]:
        """How many input values one value sees, by axis of an input of that shape.

        What all values see alike is counted within the input only.
        """
        sizes = []
        for axis, length in enumerate(shape):
            alike = self.everywhere[axis]
            within = 0 if alike is None else min(alike[1], length - 1) - max(alike[0], 0) + 1
            sizes.append(int(max([within, *(span.size for span in self.axes if span and span.axis == axis)])))
        return tuple(sizes)

    def mixed(self, axes: Iterable[int], shape: Sequence[int]) -> "View":
        """The same with those axes (of a tensor of that shape) mixed: each value sees what all their positions see."""
        chosen = {axis % len(shape) for axis in axes}
        everywhere = list(self.everywhere)
        for axis in chosen:
            span = self.axes[axis]
            if span is not None:
                everywhere[span.axis] = _both(everywhere[span.axis], span.all(shape[axis]))
        return View(tuple(None if i in chosen else span for i, span in enumerate(self.axes)), tuple(everywhere))

    def along(self, axes: Iterable[int | None]) -> "View":
        """With its own axes in another order; None is a new one."""
        return replace(self, axes=tuple(None if axis is None else self.axes[axis] for axis in axes))

    def windows(self, kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> "View":
        """After windows over the last axes, as many as the kernel has."""
        count = len(kernel)
        settings = zip(kernel, *(_each(one, count) for one in (stride, padding, dilation)), strict=True)
        last = [span and span.window(*one) for span, one in zip(self.axes[-count:], settings, strict=True)]
        return replace(self, axes=(*self.axes[:-count], *last))


class Views:
    """The view of every tensor of a forward pass, operation by operation."""

    def __init__(self) -> None:
        self._of: Any = WeakTensorKeyDictionary()
        self.shape: tuple[int, ...] = ()

    def begin(self, x: Tensor) -> None:
        """`x` (B, C, *S) is the input: each value sees itself."""
        self.shape = tuple(x.shape[2:])
        spans = [Span(axis) for axis in range(len(self.shape))]
        self._of[x] = View((*[None] * (x.dim() - len(spans)), *spans), (None,) * len(spans))

    def sizes(self, tensor: Tensor) -> tuple[int, ...]:
        """What a value of that tensor sees; empty where nothing is known."""
        view = self._of.get(tensor)
        return () if view is None else view.sizes(self.shape)

    def follow(self, operation: Any, args: Sequence[Any], outputs: Any) -> None:
        """What the outputs of one operation of torch see."""
        operands = [tensor for tensor in _tensors(args) if tensor in self._of]
        if not operands:
            return
        given = list(_tensors(outputs))
        if operation in OF_SEVERAL:
            views = OF_SEVERAL[operation](self._of, args, given)
        else:
            known = [(self._of[tensor], tuple(tensor.shape)) for tensor in operands]
            rule = OF_ONE.get(operation)
            views = [
                rule(*known[0], args, output) if rule else _together(known, tuple(output.shape)) for output in given
            ]
        for output, view in zip(given, views, strict=True):
            self._of[output] = view


def _both(one: Range | None, other: Range | None) -> Range | None:
    if one is None or other is None:
        return one or other
    return min(one[0], other[0]), max(one[1], other[1])


def _each(value: Any, count: int) -> list[Any]:
    value = list(value) if isinstance(value, list | tuple) else [value]
    return value * count if len(value) == 1 else value


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def _argument(args: Sequence[Any], index: int, otherwise: Any) -> Any:
    return args[index] if len(args) > index and args[index] is not None else otherwise


def _together(known: Sequence[tuple[View, tuple[int, ...]]], shape: tuple[int, ...]) -> View:
    """Values computed position by position from several tensors: all that any of them sees, shapes broadcast."""
    total: View | None = None
    for view, own in known:
        new = len(shape) - len(own)
        if new < 0 or any(mine not in (1, its) for mine, its in zip(own, shape[new:], strict=True)):
            view = view.mixed(range(len(own)), own)
            view = View((None,) * len(shape), view.everywhere)
        else:
            stretched = [axis for axis, size in enumerate(own) if size != shape[new + axis]]
            view = view.mixed(stretched, own).along([*[None] * new, *range(len(own))])
        total = view if total is None else _joined(total, view, shape)
    if total is None:
        raise ValueError("no operand has a view")
    return total


def _joined(one: View, other: View, shape: tuple[int, ...]) -> View:
    unlike = [
        axis
        for axis, (a, b) in enumerate(zip(one.axes, other.axes, strict=True))
        if a and b and (a.axis, a.jump) != (b.axis, b.jump)
    ]
    one, other = one.mixed(unlike, shape), other.mixed(unlike, shape)
    axes: list[Span | None] = []
    for a, b in zip(one.axes, other.axes, strict=True):
        if a and b:
            start = min(a.start, b.start)
            axes.append(Span(a.axis, start, max(a.start + a.size, b.start + b.size) - start, a.jump))
        else:
            axes.append(a or b)
    everywhere = tuple(_both(a, b) for a, b in zip(one.everywhere, other.everywhere, strict=True))
    return View(tuple(axes), everywhere)


def _convolution(view: View, shape: tuple[int, ...], args: Sequence[Any], output: Tensor) -> View:
    weight, stride, padding, dilation, transposed = args[1], *args[3:7]
    if transposed:  # the other way round; rare in what classifies, and not worth its own arithmetic
        return view.mixed(range(len(shape)), shape)
    return view.windows(tuple(weight.shape[2:]), stride, padding, dilation)


def _max_pool(view: View, shape: tuple[int, ...], args: Sequence[Any], output: Tensor) -> View:
    return view.windows(args[1], _argument(args, 2, None) or args[1], _argument(args, 3, 0), _argument(args, 4, 1))


def _average_pool(view: View, shape: tuple[int, ...], args: Sequence[Any], output: Tensor) -> View:
    return view.windows(args[1], _argument(args, 2, None) or args[1], _argument(args, 3, 0))


def _adaptive_pool(view: View, shape: tuple[int, ...], args: Sequence[Any], output: Tensor) -> View:
    """Windows from floor(i n / m) to ceil((i + 1) n / m): of unequal size where m does not divide n."""
    axes = list(view.axes)
    mixed = []
    for axis in range(len(shape) - len(args[1]), len(shape)):
        n, m = shape[axis], output.shape[axis]
        span = axes[axis]
        if m == 1:
            mixed.append(axis)
        elif span is not None:
            largest = max(-(-(i + 1) * n // m) - i * n // m for i in range(m))
            axes[axis] = span.window(largest, Fraction(n, m) if n % m else n // m, 0)
    return replace(view, axes=tuple(axes)).mixed(mixed, shape)


def _padding(view: View, shape: tuple[int, ...], args: Sequence[Any], output: Tensor) -> View:
    axes = list(view.axes)
    for number, before in enumerate(args[1][::2]):
        span = axes[-1 - number]
        axes[-1 - number] = span and replace(span, start=span.start - before * span.jump)
    return replace(view, axes=tuple(axes))


def _slice(view: View, shape: tuple[int, ...], args: Sequence[Any], output: Tensor) -> View:
    axis, start, step = _argument(args, 1, 0) % len(shape), _argument(args, 2, 0), _argument(args, 4, 1)
    start = min(start + shape[axis] if start < 0 else start, shape[axis])
    axes = list(view.axes)
    span = axes[axis]
    axes[axis] = span and replace(span, start=span.start + start * span.jump, jump=span.jump * step)
    return replace(view, axes=tuple(axes))


def _select(view: View, shape: tuple[int, ...], args: Sequence[Any], output: Tensor) -> View:
    axis = args[1] % len(shape)
    at = _slice(view, shape, (args[0], axis, args[2]), output)
    return at.mixed([axis], (*shape[:axis], 1, *shape[axis + 1 :])).along(_without([axis], shape))


def _without(axes: Iterable[int], shape: Sequence[int]) -> list[int]:
    gone = {axis % len(shape) for axis in axes}
    return [axis for axis in range(len(shape)) if axis not in gone]


def _reduction(view: View, shape: tuple[int, ...], args: Sequence[Any], output: Tensor) -> View:
    given = _argument(args, 1, [])
    axes = [given] if isinstance(given, int) else [one for one in given if isinstance(one, int)]
    axes = axes or list(range(len(shape)))
    view = view.mixed(axes, shape)
    return view if output.dim() == len(shape) else view.along(_without(axes, shape)[: output.dim()])


def _reshaped(view: View, shape: tuple[int, ...], args: Sequence[Any], output: Tensor) -> View:
    """Axes that stay as they are keep what they see; those that are merged or cut are mixed."""
    before = [axis for axis, size in enumerate(shape) if size != 1]
    after = [axis for axis, size in enumerate(output.shape) if size != 1]
    origin: list[int | None] = [None] * output.dim()
    kept: set[int] = set()
    while before and after:
        group, new = [before.pop(0)], [after.pop(0)]
        mine, its = shape[group[0]], output.shape[new[0]]
        while mine != its:
            if mine < its:
                group.append(before.pop(0))
                mine *= shape[group[-1]]
            else:
                new.append(after.pop(0))
                its *= output.shape[new[-1]]
        if len(group) == len(new) == 1:
            origin[new[0]] = group[0]
            kept.add(group[0])
    return view.mixed([axis for axis in range(len(shape)) if axis not in kept], shape).along(origin)


def _unsqueezed(view: View, shape: tuple[int, ...], args: Sequence[Any], output: Tensor) -> View:
    axes: list[int | None] = list(range(len(shape)))
    axes.insert(args[1] % output.dim(), None)
    return view.along(axes)


def _squeezed(view: View, shape: tuple[int, ...], args: Sequence[Any], output: Tensor) -> View:
    given = _argument(args, 1, list(range(len(shape))))
    axes = [one % len(shape) for one in ([given] if isinstance(given, int) else given)]
    axes = [axis for axis in axes if shape[axis] == 1]
    return view.mixed(axes, shape).along(_without(axes, shape))


def _permuted(view: View, shape: tuple[int, ...], args: Sequence[Any], output: Tensor) -> View:
    return view.along([axis % len(shape) for axis in args[1]])


def _transposed(view: View, shape: tuple[int, ...], args: Sequence[Any], output: Tensor) -> View:
    axes = list(range(len(shape)))
    first, second = _argument(args, 1, 0), _argument(args, 2, -1)
    axes[first], axes[second] = axes[second], axes[first]
    return view.along(axes)


def _concatenated(views: Any, args: Sequence[Any], outputs: Sequence[Tensor]) -> list[View]:
    axis, shape = _argument(args, 1, 0), tuple(outputs[0].shape)
    known = [(views[tensor].mixed([axis], tensor.shape), shape) for tensor in args[0] if tensor in views]
    return [_together(known, shape)]


def _stacked(views: Any, args: Sequence[Any], outputs: Sequence[Tensor]) -> list[View]:
    axis, shape = _argument(args, 1, 0), tuple(outputs[0].shape)
    known = [
        (_unsqueezed(views[tensor], tuple(tensor.shape), (tensor, axis), outputs[0]), shape)
        for tensor in args[0]
        if tensor in views
    ]
    return [_together(known, shape)]


def _pieces(views: Any, args: Sequence[Any], outputs: Sequence[Tensor]) -> list[View]:
    axis, offset, pieces = _argument(args, 2, 0), 0, []
    for output in outputs:
        pieces.append(_slice(views[args[0]], tuple(args[0].shape), (args[0], axis, offset), output))
        offset += output.shape[axis]
    return pieces


def _unbound(views: Any, args: Sequence[Any], outputs: Sequence[Tensor]) -> list[View]:
    x, axis = args[0], _argument(args, 1, 0)
    return [_select(views[x], tuple(x.shape), (x, axis, at), output) for at, output in enumerate(outputs)]


def _product(views: Any, args: Sequence[Any], outputs: Sequence[Tensor]) -> list[View]:
    """Matrices: a value sees what its row of the one and its column of the other see."""
    shape = tuple(outputs[0].shape)
    known = []
    for tensor, mixed in zip(args[-2:], (-1, -2), strict=True):
        if tensor in views:
            known.append((views[tensor].mixed([mixed], tensor.shape), shape))
    return [_together(known, shape)]


Rule = Callable[[View, tuple[int, ...], Sequence[Any], Tensor], View]
OPS: Any = torch.ops.aten
OF_SEVERAL: dict[Any, Callable[[Any, Sequence[Any], Sequence[Tensor]], list[View]]] = {
    OPS.cat: _concatenated,
    OPS.stack: _stacked,
    **dict.fromkeys((OPS.split, OPS.split_with_sizes), _pieces),
    OPS.unbind: _unbound,
    **dict.fromkeys((OPS.mm, OPS.bmm, OPS.addmm, OPS.baddbmm), _product),
}
OF_ONE: dict[Any, Rule] = {
    OPS.convolution: _convolution,
    **dict.fromkeys((OPS.max_pool2d_with_indices, OPS.max_pool3d_with_indices), _max_pool),
    **dict.fromkeys((OPS.avg_pool1d, OPS.avg_pool2d, OPS.avg_pool3d), _average_pool),
    **dict.fromkeys((OPS._adaptive_avg_pool2d, OPS._adaptive_avg_pool3d), _adaptive_pool),
    **dict.fromkeys((OPS.adaptive_max_pool2d, OPS.adaptive_max_pool3d), _adaptive_pool),
    **dict.fromkeys((OPS.constant_pad_nd, OPS.reflection_pad2d, OPS.replication_pad2d), _padding),
    OPS.slice: _slice,
    OPS.select: _select,
    **dict.fromkeys((OPS.mean, OPS.sum, OPS.amax, OPS.amin, OPS.max, OPS.min, OPS.var, OPS.std), _reduction),
    **dict.fromkeys((OPS.view, OPS._unsafe_view, OPS.reshape, OPS._reshape_alias), _reshaped),
    OPS.unsqueeze: _unsqueezed,
    OPS.squeeze: _squeezed,
    OPS.permute: _permuted,
    **dict.fromkeys((OPS.transpose, OPS.t), _transposed),
}
"""By operation; any other one computes position by position, as a sum or a nonlinearity does."""
