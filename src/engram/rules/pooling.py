"""Pooling: one number for each window, so that what was found matters more than exactly where.

The idea: keep the largest, the mean or the length of what stands in a window, channel by channel, and lay the windows
so that the image shrinks. No weights. Each rule backward says how one upstream number is shared among its window:

    max       out = max x              the winner gets all of it, the others nothing
    average   out = Σ x / k            each gets 1 / k, as f = (x1 + x2 + x3 + x4) / 4 says
    L2        out = √ Σ x²             each gets x / out (nothing where out is 0)
    global    the window is the whole image
    unpooling a number is put back to where the maximum was, zeros elsewhere

Where windows overlap, a pixel adds up what it gets from each. Among equal values the first of the window wins, as in
torch; the course's own solutions differ there, so compare on distinct values. Padding never wins a maximum (it is −∞)
and counts in the mean unless `count_padding` is False; `ceil` adds a last window that hangs over the border, where the
mean counts only what lies within the padding. All three are what torch does.

Max suits "is it there at all", the mean is gentler and loses weak, local answers. The papers' settings: 2 x 2 at
stride 2 (VGG), 3 x 3 at stride 2, overlapping (AlexNet), the global mean instead of full connections (NiN).

LeCun et al. 1998, section II.B; Scherer et al. 2010, section 3; Lin et al. 2014, arXiv:1312.4400, section 3.2;
Zeiler and Fergus 2014, arXiv:1311.2901, section 2.1 (unpooling); Stanford CS231n, assignment 2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import inf, prod
from typing import Any

from array_api_compat import array_namespace, device

from engram.errors import UserError, unknown
from engram.rules.arrays import Array, crop, like, pad, per_axis, zeros
from engram.rules.windows import fold, output_shape, unfold

SETTINGS = ("kernel", "pool_depth", "pool_height", "pool_width", "stride", "pad", "dilation", "ceil", "count_padding")


@dataclass(frozen=True)
class Geometry:
    """Where the windows of a pooling lie, worked out once and kept for the way back."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    margin: tuple[int, ...]
    widths: tuple[tuple[int, int], ...]
    sides: tuple[int, ...]
    out: tuple[int, ...]

    @property
    def padded(self) -> tuple[int, ...]:
        return tuple(side + sum(width) for side, width in zip(self.sides, self.widths, strict=True))


def geometry(x: Array, pool_param: Mapping[str, Any]) -> Geometry:
    """The windows of x (N, C, *S).

    Args:
        pool_param: `kernel` (a number or one an axis) or the course's pool_height and pool_width; stride, the kernel
            where it is left out; pad, at most half the kernel; dilation; ceil.

    Raises:
        UserError: an unknown or missing setting, or a window larger than the image.

    >>> import numpy as np
    >>> geometry(np.zeros((1, 1, 5, 5)), {"kernel": 2, "ceil": True}).out
    (3, 3)
    """
    for name in pool_param:
        if name not in SETTINGS:
            raise unknown("pool_param", name, SETTINGS)
    sides = tuple(x.shape[2:])
    named = [pool_param[f"pool_{axis}"] for axis in ("depth", "height", "width") if f"pool_{axis}" in pool_param]
    kernel = pool_param.get("kernel", named)
    if kernel == []:
        raise UserError("pooling without a size", allowed="kernel, or pool_height and pool_width")
    kernel = per_axis(kernel, len(sides), "kernel", 1)
    stride = per_axis(pool_param.get("stride", kernel), len(sides), "stride", 1)
    dilation = per_axis(pool_param.get("dilation", 1), len(sides), "dilation", 1)
    margin = per_axis(pool_param.get("pad", 0), len(sides), "pad")
    if any(2 * one > k for one, k in zip(margin, kernel, strict=True)):
        raise UserError(f"pooling pads {margin} around windows of {kernel}", allowed="at most half a window")
    widths = [(one, one) for one in margin]
    out = output_shape(sides, kernel, stride, widths, dilation)
    if pool_param.get("ceil", False):
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        for axis, (side, one, s) in enumerate(zip(sides, margin, stride, strict=True)):
            rest = (side + 2 * one - reach[axis]) % s
            if rest and out[axis] * s < side + one:  # a last window that begins inside
                widths[axis] = (one, one + s - rest)
        out = output_shape(sides, kernel, stride, widths, dilation)
    return Geometry(kernel, stride, dilation, margin, tuple(widths), sides, out)


def max_pool_forward_naive(x: Array, pool_param: Mapping[str, Any]) -> tuple[Array, tuple]:
    """The definition: place by place, the largest of the window.

    Args:
        x: (N, C, *S).
        pool_param: see `geometry`.

    Returns:
        out (N, C, *O), and the cache.

    >>> import numpy as np
    >>> max_pool_forward_naive(np.array([[[1.0, 3.0, 2.0, 0.0]]]), {"kernel": 2, "stride": 2})[0]
    array([[[3., 2.]]])
    """
    xp, where = array_namespace(x), geometry(x, pool_param)
    padded = pad(x, where.widths, -inf)
    out = zeros(x, (*x.shape[:2], *where.out))
    for place in product(*map(range, where.out)):
        window = padded[(..., *_window(place, where))]
        out[(..., *place)] = xp.max(window, axis=tuple(range(2, x.ndim)))  # (N, C)
    return out, (x, pool_param)


def max_pool_backward_naive(dout: Array, cache: tuple) -> Array:
    """The definition backward: each upstream number goes to the first largest of its window.

    >>> import numpy as np
    >>> cache = (np.array([[[1.0, 3.0, 2.0, 0.0]]]), {"kernel": 2, "stride": 2})
    >>> max_pool_backward_naive(np.array([[[5.0, 7.0]]]), cache)
    array([[[0., 5., 7., 0.]]])
    """
    x, pool_param = cache
    xp, where = array_namespace(dout), geometry(x, pool_param)
    padded = pad(x, where.widths, -inf)
    dx = zeros(x, padded.shape)
    count = prod(where.kernel)
    for place in product(*map(range, where.out)):
        at = (..., *_window(place, where))
        flat = xp.reshape(padded[at], (*x.shape[:2], count))
        won = xp.arange(count, device=device(x)) == xp.argmax(flat, axis=2, keepdims=True)  # (N, C, K)
        share = xp.astype(won, dout.dtype) * dout[(..., *place)][..., None]
        dx[at] = dx[at] + xp.reshape(share, (*x.shape[:2], *where.kernel))
    return crop(dx, where.widths)


def max_pool_forward(x: Array, pool_param: Mapping[str, Any]) -> tuple[Array, tuple]:
    """The largest of each window, all windows at once.

    Args:
        x: (N, C, *S), floating point.
        pool_param: see `geometry`.

    Returns:
        out (N, C, *O), and the cache.

    Raises:
        UserError: see `geometry`.

    >>> import numpy as np
    >>> max_pool_forward(np.array([[[1.0, 3.0, 2.0, 0.0]]]), {"kernel": 3, "stride": 1})[0]
    array([[[3., 3.]]])
    """
    xp, where = array_namespace(x), geometry(x, pool_param)
    windows = _windows(pad(x, where.widths, -inf), where)  # (N, C, K, *O)
    return xp.max(windows, axis=2), (xp.argmax(windows, axis=2), where)


def max_pool_backward(dout: Array, cache: tuple) -> Array:
    """The whole upstream gradient to the winner of each window; where windows overlap, it adds up.

    >>> import numpy as np
    >>> _, cache = max_pool_forward(np.array([[[1.0, 3.0, 2.0, 0.0]]]), {"kernel": 3, "stride": 1})
    >>> max_pool_backward(np.array([[[5.0, 7.0]]]), cache)
    array([[[ 0., 12.,  0.,  0.]]])
    """
    winner, where = cache
    xp = array_namespace(dout)
    which = xp.reshape(xp.arange(prod(where.kernel), device=device(dout)), (-1, *[1] * len(where.out)))
    won = xp.astype(which == winner[:, :, None], dout.dtype)  # (N, C, K, *O)
    return _fold(won * dout[:, :, None], where)


max_pool_forward_fast, max_pool_backward_fast = max_pool_forward, max_pool_backward


def max_pool_indices(cache: tuple) -> Array:
    """Where in the image each maximum was, counted row by row, as torch's `return_indices` gives it.

    Returns:
        whole numbers (N, C, *O).

    >>> import numpy as np
    >>> _, cache = max_pool_forward(np.array([[[1.0, 3.0, 2.0, 0.0]]]), {"kernel": 2})
    >>> max_pool_indices(cache)
    array([[[1, 2]]])
    """
    winner, where = cache
    xp = array_namespace(winner)
    flat = winner * 0
    for axis in range(len(where.out)):
        place = winner // prod(where.kernel[axis + 1 :]) % where.kernel[axis]  # along this axis of the kernel
        start = xp.arange(where.out[axis], device=device(winner)) * where.stride[axis] - where.margin[axis]
        start = xp.reshape(start, (-1, *[1] * (len(where.out) - axis - 1)))
        flat = flat * where.sides[axis] + start + place * where.dilation[axis]
    return flat


def max_unpool_forward(x: Array, indices: Array, sides: Sequence[int]) -> tuple[Array, tuple]:
    """Numbers put back to where maxima were, zeros elsewhere.

    Args:
        x: (N, C, *O).
        indices: from `max_pool_indices`, (N, C, *O), each at most once an image.
        sides: of what comes out.

    Returns:
        out (N, C, *sides), and the cache.

    >>> import numpy as np
    >>> max_unpool_forward(np.array([[[3.0, 2.0]]]), np.array([[[1, 2]]]), (4,))[0]
    array([[[0., 3., 2., 0.]]])
    """
    xp = array_namespace(x)
    rows, places = _rows_and_places(indices)
    out = zeros(x, (rows.shape[0], prod(sides)))
    out[rows, places] = xp.reshape(x, places.shape)
    return xp.reshape(out, (*x.shape[:2], *sides)), (indices,)


def max_unpool_backward(dout: Array, cache: tuple) -> Array:
    """What came back at the places that were filled.

    >>> import numpy as np
    >>> max_unpool_backward(np.array([[[1.0, 2.0, 3.0, 4.0]]]), (np.array([[[1, 2]]]),))
    array([[[2., 3.]]])
    """
    (indices,) = cache
    xp = array_namespace(dout)
    rows, places = _rows_and_places(indices)
    return xp.reshape(xp.reshape(dout, (rows.shape[0], -1))[rows, places], indices.shape)


def avg_pool_forward(x: Array, pool_param: Mapping[str, Any]) -> tuple[Array, tuple]:
    """The mean of each window.

    Args:
        x: (N, C, *S).
        pool_param: see `geometry`, without dilation; `count_padding`, True where left out, says whether padding is
            part of the mean.

    Returns:
        out (N, C, *O), and the cache.

    >>> import numpy as np
    >>> x = np.array([[[2.0, 4.0]]])
    >>> avg_pool_forward(x, {"kernel": 2, "pad": 1, "count_padding": False})[0]
    array([[[2., 4.]]])
    """
    where = geometry(x, pool_param)
    share = 1 / _counted(x, where, pool_param.get("count_padding", True))  # (*O,)
    return array_namespace(x).sum(_windows(pad(x, where.widths), where), axis=2) * share, (share, where)


def avg_pool_backward(dout: Array, cache: tuple) -> Array:
    """An equal share of the upstream gradient for every pixel of the window.

    >>> import numpy as np
    >>> _, cache = avg_pool_forward(np.array([[[2.0, 4.0]]]), {"kernel": 2})
    >>> avg_pool_backward(np.array([[[6.0]]]), cache)
    array([[[3., 3.]]])
    """
    share, where = cache
    return _fold(array_namespace(dout).stack([dout * share] * prod(where.kernel), axis=2), where)


def l2_pool_forward(x: Array, pool_param: Mapping[str, Any]) -> tuple[Array, tuple]:
    """The length of each window, the root of its sum of squares.

    Args:
        x: (N, C, *S).
        pool_param: see `geometry`.

    >>> import numpy as np
    >>> l2_pool_forward(np.array([[[3.0, 4.0]]]), {"kernel": 2})[0]
    array([[[5.]]])
    """
    xp, where = array_namespace(x), geometry(x, pool_param)
    windows = _windows(pad(x, where.widths), where)  # (N, C, K, *O)
    out = xp.sqrt(xp.sum(windows**2, axis=2))
    return out, (windows, out, where)


def l2_pool_backward(dout: Array, cache: tuple) -> Array:
    """Upstream times the pixel's share of the length; nothing where the length is 0, a corner without a slope.

    >>> import numpy as np
    >>> _, cache = l2_pool_forward(np.array([[[3.0, 4.0]]]), {"kernel": 2})
    >>> l2_pool_backward(np.array([[[10.0]]]), cache)
    array([[[6., 8.]]])
    """
    windows, out, where = cache
    xp = array_namespace(dout)
    direction = windows / xp.where(out > 0, out, xp.ones_like(out))[:, :, None]
    return _fold(direction * dout[:, :, None], where)


def global_avg_pool_forward(x: Array) -> tuple[Array, tuple]:
    """The mean of each channel, (N, C, *S) to (N, C).

    >>> import numpy as np
    >>> global_avg_pool_forward(np.array([[[1.0, 3.0]]]))[0]
    array([[2.]])
    """
    return array_namespace(x).mean(x, axis=tuple(range(2, x.ndim))), tuple(x.shape)


def global_avg_pool_backward(dout: Array, cache: tuple) -> Array:
    """The upstream gradient spread evenly over the image.

    >>> import numpy as np
    >>> global_avg_pool_backward(np.array([[6.0]]), (1, 1, 2))
    array([[[3., 3.]]])
    """
    share = array_namespace(dout).reshape(dout, (*dout.shape, *[1] * (len(cache) - 2))) / prod(cache[2:])
    return zeros(dout, cache) + share


def global_max_pool_forward(x: Array) -> tuple[Array, tuple]:
    """The largest of each channel, (N, C, *S) to (N, C).

    >>> import numpy as np
    >>> global_max_pool_forward(np.array([[[1.0, 3.0]]]))[0]
    array([[3.]])
    """
    out, cache = max_pool_forward(x, {"kernel": tuple(x.shape[2:])})
    return array_namespace(x).reshape(out, x.shape[:2]), cache


def global_max_pool_backward(dout: Array, cache: tuple) -> Array:
    """The whole upstream gradient to the first largest pixel of the channel."""
    winner, _ = cache
    return max_pool_backward(array_namespace(dout).reshape(dout, winner.shape), cache)


def _window(place: tuple[int, ...], where: Geometry) -> tuple[slice, ...]:
    start = [o * s for o, s in zip(place, where.stride, strict=True)]
    return tuple(slice(a, a + d * (k - 1) + 1, d) for a, k, d in zip(start, where.kernel, where.dilation, strict=True))


def _windows(padded: Array, where: Geometry) -> Array:
    return unfold(padded, where.kernel, where.stride, where.dilation, where.out)


def _fold(windows: Array, where: Geometry) -> Array:
    return crop(fold(windows, where.padded, where.kernel, where.stride, where.dilation), where.widths)


def _counted(x: Array, where: Geometry, count_padding: bool) -> Array:
    """By how much each window's sum is divided, (*O,)."""
    if max(where.dilation) > 1:
        raise UserError("average pooling with dilation is not defined here", allowed="dilation 1")
    lengths = []
    for side, out, k, s, margin in zip(where.sides, where.out, where.kernel, where.stride, where.margin, strict=True):
        beyond = margin if count_padding else 0
        starts = [o * s - margin for o in range(out)]
        lengths.append(like(x, [min(a + k, side + beyond) - max(a, -beyond) for a in starts]))
    return reduce(lambda rest, one: rest[..., None] * one, lengths)


def _rows_and_places(indices: Array) -> tuple[Array, Array]:
    """For each channel of each image its row, (N C, 1), and the places in it, (N C, O)."""
    xp = array_namespace(indices)
    places = xp.reshape(indices, (prod(indices.shape[:2]), -1))
    return xp.arange(places.shape[0], device=device(indices))[:, None], places
