"""Pooling over regions that are not all of one size: where they begin and end stands in a list for each axis.

Windows of one size go along with `windows.py`. Where an axis is cut into parts that differ, as adaptive and fractional
pooling do, a region is a product of intervals, and the rule goes through them one by one. Regions may overlap; a pixel
then adds up what it gets from each.
"""

from collections.abc import Iterator, Sequence
from itertools import product

from array_api_compat import array_namespace, device

from engram.rules.arrays import Array, zeros

Bounds = Sequence[Sequence[tuple[int, int]]]
"""For each axis the first pixel of every region and the one after its last."""


def each(bounds: Bounds) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Every place of what comes out, and the pixels that it is made of.

    >>> list(each([[(0, 2), (1, 3)]]))
    [((0,), (slice(0, 2, None),)), ((1,), (slice(1, 3, None),))]
    """
    for place in product(*(range(len(axis)) for axis in bounds)):
        yield place, tuple(slice(*axis[index]) for axis, index in zip(bounds, place, strict=True))


def max_of_regions(x: Array, bounds: Bounds) -> tuple[Array, tuple]:
    """The largest of every region.

    Args:
        x: (N, C, *S).

    Returns:
        out (N, C, *O), and what the way back needs.

    >>> import numpy as np
    >>> max_of_regions(np.array([[[1.0, 5.0, 2.0]]]), [[(0, 1), (1, 3)]])[0]
    array([[[1., 5.]]])
    """
    xp, winners = array_namespace(x), {}
    out = zeros(x, (*x.shape[:2], *map(len, bounds)))
    for place, taken in each(bounds):
        flat = xp.reshape(x[(..., *taken)], (*x.shape[:2], -1))  # (N, C, K)
        winners[place] = xp.argmax(flat, axis=2, keepdims=True)
        out[(..., *place)] = xp.max(flat, axis=2)
    return out, (winners, bounds, tuple(x.shape))


def max_of_regions_backward(dout: Array, cache: tuple) -> Array:
    """The whole upstream gradient to the first largest pixel of every region.

    Args:
        dout: (N, C, *O).

    Returns:
        dx (N, C, *S).

    >>> import numpy as np
    >>> _, cache = max_of_regions(np.array([[[1.0, 5.0, 2.0]]]), [[(0, 2), (1, 3)]])
    >>> max_of_regions_backward(np.array([[[3.0, 4.0]]]), cache)
    array([[[0., 7., 0.]]])
    """
    winners, bounds, shape = cache
    xp, dx = array_namespace(dout), zeros(dout, shape)
    for place, taken in each(bounds):
        region = dx[(..., *taken)]
        flat = xp.reshape(region, (*shape[:2], -1))
        won = xp.arange(flat.shape[2], device=device(dout)) == winners[place]  # (N, C, K)
        added = flat + xp.astype(won, dout.dtype) * dout[(..., *place)][..., None]
        dx[(..., *taken)] = xp.reshape(added, region.shape)
    return dx
