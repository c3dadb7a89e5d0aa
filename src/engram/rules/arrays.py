"""What a rule needs of an array, whichever library it comes from.

A rule asks its input for the library it belongs to and then calls that library's functions by the names of the array
API standard, so one text serves NumPy arrays and torch tensors on any device, in the precision they come in:

    xp = array_namespace(x)        # numpy or torch, both with sum(axis=), matmul, where, permute_dims, ...
    out = xp.where(x > 0, x, 0)

Here stand the few things that the standard lacks or that would be written in every rule: new arrays like a given one,
padding, a number at a place of a setting, labels as rows of zeros and a one, and NumPy's draws for either library.
Random numbers always come from NumPy, so that a rule gives the same result in both. Helps whoever reads: no rule has
a branch for a library. Costs a little time in NumPy and nothing that matters in torch.

The array API standard, version 2024.12, data-apis.org/array-api; array-api-compat puts both libraries behind it.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array
from scipy import special

from engram.errors import UserError

Array: TypeAlias = Any
"""A NumPy array or a torch tensor."""


def zeros(like: Array, shape: Sequence[int]) -> Array:
    """Zeros of a shape in the library, precision and place of `like`.

    >>> zeros(np.ones(3, dtype=np.float32), (1, 2))
    array([[0., 0.]], dtype=float32)
    """
    return array_namespace(like).zeros(tuple(shape), dtype=like.dtype, device=device(like))


def like(array: Array, values: Any) -> Array:
    """Numbers from anywhere as an array in the library, precision and place of `array`.

    >>> like(np.ones(3, dtype=np.float32), [1, 2])
    array([1., 2.], dtype=float32)
    """
    return array_namespace(array).asarray(values, dtype=array.dtype, device=device(array))


def one_hot(labels: Array, scores: Array) -> Array:
    """Rows of zeros with a one at the label.

    Args:
        labels: whole numbers (N,), of either library.
        scores: (N, C); says C, library and precision.

    >>> one_hot(np.array([2, 0]), np.zeros((2, 3)))
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """
    xp = array_namespace(scores)
    labels = xp.asarray(labels, device=device(scores))
    classes = xp.arange(scores.shape[-1], device=device(scores))
    return xp.astype(classes == labels[..., None], scores.dtype)


def pad(x: Array, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Array:
    """The last axes of `x` made longer at both ends.

    Args:
        x: (..., *S).
        widths: before and after, for each axis of S; negative widths cut off.

    >>> pad(np.array([[1.0, 2.0]]), [(1, 2)])
    array([[0., 1., 2., 0., 0.]])
    """
    lead, sides = x.shape[: x.ndim - len(widths)], x.shape[x.ndim - len(widths) :]
    ends = list(zip(widths, sides, strict=True))
    shape = (*lead, *(before + side + after for (before, after), side in ends))
    out = array_namespace(x).full(shape, value, dtype=x.dtype, device=device(x))
    inside = [slice(max(before, 0), before + side + after - max(after, 0)) for (before, after), side in ends]
    taken = [slice(max(-before, 0), side - max(-after, 0)) for (before, after), side in ends]
    out[(..., *inside)] = x[(..., *taken)]
    return out


def crop(x: Array, widths: Sequence[tuple[int, int]]) -> Array:
    """What `pad` put around taken away again: the way back of a gradient through it."""
    return pad(x, [(-before, -after) for before, after in widths])


def erf(x: Array) -> Array:
    """The error function, which the standard lacks.

    >>> erf(np.array([0.0]))
    array([0.])
    """
    return x.erf() if is_torch_array(x) else special.erf(x)


def per_axis(value: int | Sequence[int], dimensions: int, name: str, smallest: int = 0) -> tuple[int, ...]:
    """A setting as one whole number for each axis; a single number stands for all.

    Raises:
        UserError: too few or too many numbers, or one below `smallest`.

    >>> per_axis(2, 3, "stride")
    (2, 2, 2)
    """
    values: tuple[Any, ...] = tuple(value) if isinstance(value, Sequence) else (value,) * dimensions
    whole = all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in values)
    if len(values) != dimensions or not whole or min(values) < smallest:
        raise UserError(
            f"{name} {value!r} does not fit {dimensions} dimensions",
            allowed=f"a whole number from {smallest} up, or {dimensions} of them",
        )
    return tuple(int(one) for one in values)


def share(value: float, name: str, *, whole: bool = True) -> float:
    """A probability that is one, as a float.

    Args:
        whole: whether 1 itself is allowed; 0 is not.

    Raises:
        UserError: it lies outside.

    >>> share(0.5, "keep")
    0.5
    """
    if not 0 < value <= 1 or (value == 1 and not whole):
        raise UserError(f"{name} is {value!r}", allowed=f"above 0, {'up to' if whole else 'below'} 1")
    return float(value)
