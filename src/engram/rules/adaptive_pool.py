"""Adaptive pooling: the size of the answer is given, and the windows follow from it.

The idea: a classifier with full connections wants maps of one size; images have any. Cut every axis of S pixels into O
regions, as even as whole pixels allow,

    region i of an axis   from floor(i S / O) up to, not including, ceil((i + 1) S / O)

and take the mean or the largest of each. Where O does not divide S neighbouring regions share a pixel and may differ in
size by one; where O is larger than S pixels are repeated. Backward: the mean gives each of its k pixels 1 / k of the
upstream gradient, the maximum gives all of it to the winner, and shared pixels add up.

Helps: one network for all image sizes, as torchvision's AlexNet and VGG have it in front of their heads; with O = 1 it
is global pooling. Hurts: what a number sees then depends on the size of the image, and sizes far from those in training
do badly all the same.

torch.nn.AdaptiveAvgPool2d (the formula is torch's source, `start_index` and `end_index`); He et al. 2014,
arXiv:1406.4729, section 2.3 (spatial pyramid pooling, which several O make up).
"""

from collections.abc import Sequence
from math import prod

from array_api_compat import array_namespace

from engram.errors import UserError
from engram.rules.arrays import Array, per_axis, zeros
from engram.rules.regions import Bounds, each, max_of_regions, max_of_regions_backward


def bounds_of(sides: Sequence[int], out: int | Sequence[int]) -> Bounds:
    """Where the regions begin and end.

    Raises:
        UserError: not a size of 1 or more for every axis, or an axis without pixels.

    >>> bounds_of((5,), 2)
    [[(0, 3), (2, 5)]]
    """
    if not all(sides):
        raise UserError(f"pooling maps of {' x '.join(map(str, sides))}", allowed="at least one pixel an axis")
    sizes = per_axis(out, len(sides), "the size of what comes out", 1)
    return [
        [(i * side // size, -(-(i + 1) * side // size)) for i in range(size)]
        for side, size in zip(sides, sizes, strict=True)
    ]


def adaptive_avg_pool_forward(x: Array, out_size: int | Sequence[int]) -> tuple[Array, tuple]:
    """The mean of every region.

    Args:
        x: (N, C, *S).
        out_size: O, one number or one an axis.

    Returns:
        out (N, C, *O), and the cache.

    Raises:
        UserError: see `bounds_of`.

    >>> import numpy as np
    >>> adaptive_avg_pool_forward(np.array([[[0.0, 1.0, 2.0, 3.0, 4.0]]]), 2)[0]
    array([[[1., 3.]]])
    """
    xp, bounds = array_namespace(x), bounds_of(x.shape[2:], out_size)
    out = zeros(x, (*x.shape[:2], *map(len, bounds)))
    for place, taken in each(bounds):
        out[(..., *place)] = xp.mean(x[(..., *taken)], axis=tuple(range(2, x.ndim)))
    return out, (bounds, tuple(x.shape))


def adaptive_avg_pool_backward(dout: Array, cache: tuple) -> Array:
    """An equal share of the upstream gradient for every pixel of its region.

    >>> import numpy as np
    >>> _, cache = adaptive_avg_pool_forward(np.zeros((1, 1, 5)), 2)
    >>> adaptive_avg_pool_backward(np.array([[[3.0, 6.0]]]), cache)
    array([[[1., 1., 3., 2., 2.]]])
    """
    bounds, shape = cache
    dx = zeros(dout, shape)
    for place, taken in each(bounds):
        share = dout[(..., *place)] / prod(one.stop - one.start for one in taken)  # (N, C)
        dx[(..., *taken)] = dx[(..., *taken)] + share.reshape(*shape[:2], *(1 for _ in taken))
    return dx


def adaptive_max_pool_forward(x: Array, out_size: int | Sequence[int]) -> tuple[Array, tuple]:
    """The largest of every region.

    Args:
        x: (N, C, *S).
        out_size: O, one number or one an axis.

    Returns:
        out (N, C, *O), and the cache.

    Raises:
        UserError: see `bounds_of`.

    >>> import numpy as np
    >>> adaptive_max_pool_forward(np.array([[[0.0, 1.0, 2.0, 3.0, 4.0]]]), 2)[0]
    array([[[2., 4.]]])
    """
    return max_of_regions(x, bounds_of(x.shape[2:], out_size))


adaptive_max_pool_backward = max_of_regions_backward
