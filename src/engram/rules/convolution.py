"""Convolution: one small set of weights asked in every place of the image.

The idea: a stroke is the same stroke wherever it stands, so the same w serves every window. Neighbouring units share
all their weights; what is left to learn is K·K·C·F numbers and not one for each pair of pixels (AlexNet's first layer:
34,848 instead of 105 million). In the course's layout, images NCHW, and not flipped (a cross-correlation):

    out[n, f, o] = b[f] + Σ_c Σ_k x[n, c, o · stride − pad + k · dilation] · w[f, c, k]
    dw[f, c, k]  = Σ_n Σ_o dout[n, f, o] · x[n, c, o · stride − pad + k · dilation]
    dx           = every dout[n, f, o] · w[f, c, k] added where that pixel came from
    db[f]        = Σ_n Σ_o dout[n, f, o]

Two ways to the same numbers stand here: `_naive` walks over the places and says the definition; the plain name gathers
all windows first and leaves the work to one matrix product (im2col). `convolution_fft.py` multiplies spectra instead,
`winograd.py` saves multiplications of 3 x 3 kernels. Padding keeps the border from being forgotten, a stride above 1
leaves out places, dilation spreads the kernel, groups let a filter see only its share of the channels (groups = C:
depthwise). It suits whatever is local and the same everywhere, in 1, 2 or 3 dimensions; features without
neighbourhood gain nothing.

Where we differ: the course has two dimensions, one stride, one padding. LeCun et al. 1998, Proc. IEEE 86(11), section
II.A; Stanford CS231n, assignment 2, `conv_forward_naive`; Krizhevsky et al. 2012, section 3.2 (groups).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from array_api_compat import array_namespace

from engram.errors import UserError, unknown
from engram.rules.arrays import Array, crop, pad, per_axis, zeros
from engram.rules.windows import fold, output_shape, unfold

SETTINGS = ("stride", "pad", "dilation", "groups")


@dataclass(frozen=True)
class Geometry:
    """Where the windows of a convolution lie, worked out once and kept for the way back."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    widths: tuple[tuple[int, int], ...]
    padded: tuple[int, ...]
    out: tuple[int, ...]
    groups: int


def geometry(x: Array, w: Array, conv_param: Mapping[str, Any] | None) -> Geometry:
    """The windows of x (N, C, *S) under kernels w (F, C / groups, *K).

    Raises:
        UserError: an unknown setting, shapes that do not go together, or a kernel larger than the image.

    >>> import numpy as np
    >>> geometry(np.zeros((1, 3, 8, 8)), np.zeros((4, 3, 3, 3)), {"stride": 2, "pad": 1}).out
    (4, 4)
    """
    given = dict(conv_param or {})
    for name in given:
        if name not in SETTINGS:
            raise unknown("conv_param", name, SETTINGS)
    dimensions, groups = w.ndim - 2, given.get("groups", 1)
    if x.ndim != w.ndim or groups < 1 or x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
        raise UserError(
            f"convolution: an input {tuple(x.shape)}, weights {tuple(w.shape)} and groups {groups} do not go together",
            allowed="x (N, C, *S), w (F, C / groups, *K), F a multiple of groups",
        )
    stride = per_axis(given.get("stride", 1), dimensions, "stride", 1)
    dilation = per_axis(given.get("dilation", 1), dimensions, "dilation", 1)
    widths = tuple((one, one) for one in per_axis(given.get("pad", 0), dimensions, "pad"))
    kernel = tuple(w.shape[2:])
    padded = tuple(side + sum(width) for side, width in zip(x.shape[2:], widths, strict=True))
    out = output_shape(x.shape[2:], kernel, stride, widths, dilation)
    return Geometry(kernel, stride, dilation, widths, padded, out, groups)


def conv_forward_naive(x: Array, w: Array, b: Array | None, conv_param: Mapping[str, Any]) -> tuple[Array, tuple]:
    """The definition: place by place, the window times every kernel.

    Args:
        x: (N, C, *S), S of one, two or three sides.
        w: (F, C / groups, *K).
        b: (F,) or None.
        conv_param: stride, pad, dilation (each a number or one an axis) and groups.

    Returns:
        out (N, F, *O), and the cache.

    Raises:
        UserError: shapes or settings that do not go together.

    >>> import numpy as np
    >>> x = np.array([[[1.0, 2.0, 3.0, 4.0]]])
    >>> conv_forward_naive(x, np.array([[[1.0, -1.0]]]), None, {"stride": 1, "pad": 0})[0]
    array([[[-1., -1., -1.]]])
    """
    xp, where = array_namespace(x, w), geometry(x, w, conv_param)
    x_padded = pad(x, where.widths)
    out = zeros(x, (x.shape[0], w.shape[0], *where.out))
    for place in product(*map(range, where.out)):
        for inputs, outputs in _shares(x, w, where.groups):
            window = x_padded[(slice(None), inputs, *_window(place, where))]  # (N, C/g, *K)
            axes = list(range(1, window.ndim))
            out[(slice(None), outputs, *place)] = xp.tensordot(window, w[outputs], axes=(axes, axes))  # (N, F/g)
    return _with_bias(out, b), (x, w, b, conv_param)


def conv_backward_naive(dout: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """The definition backward: every place sends its gradient to the window it saw and to the kernel.

    Args:
        dout: (N, F, *O).

    Returns:
        dx like x, dw like w, db (F,) or None.

    >>> import numpy as np
    >>> cache = (np.array([[[1.0, 2.0, 3.0]]]), np.array([[[1.0, -1.0]]]), None, {"stride": 1, "pad": 0})
    >>> conv_backward_naive(np.array([[[10.0, 20.0]]]), cache)[0]
    array([[[ 10.,  10., -20.]]])
    """
    x, w, b, conv_param = cache
    xp, where = array_namespace(dout), geometry(x, w, conv_param)
    x_padded = pad(x, where.widths)
    dx_padded, dw = zeros(x, x_padded.shape), zeros(w, w.shape)
    for place in product(*map(range, where.out)):
        for inputs, outputs in _shares(x, w, where.groups):
            at = (slice(None), inputs, *_window(place, where))
            upstream = dout[(slice(None), outputs, *place)]  # (N, F/g)
            dw[outputs] = dw[outputs] + xp.tensordot(upstream, x_padded[at], axes=([0], [0]))
            dx_padded[at] = dx_padded[at] + xp.tensordot(upstream, w[outputs], axes=([1], [0]))
    return crop(dx_padded, where.widths), dw, _bias_gradient(dout, b)


def conv_forward(
    x: Array, w: Array, b: Array | None = None, conv_param: Mapping[str, Any] | None = None
) -> tuple[Array, tuple]:
    """All windows gathered, then one matrix product (im2col).

    Args:
        x: (N, C, *S), S of one, two or three sides.
        w: (F, C / groups, *K).
        b: (F,) or None.
        conv_param: stride, pad, dilation (each a number or one an axis) and groups.

    Returns:
        out (N, F, *O), and the cache.

    Raises:
        UserError: shapes or settings that do not go together.

    >>> import numpy as np
    >>> x = np.array([[[1.0, 2.0, 3.0, 4.0]]])
    >>> conv_forward(x, np.array([[[1.0, -1.0]]]), None, {"stride": 2, "pad": 0})[0]
    array([[[-1., -1.]]])
    """
    xp, where = array_namespace(x, w), geometry(x, w, conv_param)
    windows = unfold(pad(x, where.widths), where.kernel, where.stride, where.dilation, where.out)  # (N, C, K, *O)
    columns = xp.reshape(windows, (x.shape[0], where.groups, -1, prod(where.out)))  # (N, g, C/g K, O)
    rows = xp.reshape(w, (where.groups, w.shape[0] // where.groups, -1))  # (g, F/g, C/g K)
    out = xp.reshape(rows @ columns, (x.shape[0], w.shape[0], *where.out))  # (N, F, *O)
    return _with_bias(out, b), (tuple(x.shape), columns, w, b, where)


def conv_backward(dout: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """Two matrix products, and the windows' gradients added back where their pixels came from.

    Args:
        dout: (N, F, *O).

    Returns:
        dx like x, dw like w, db (F,) or None.

    >>> import numpy as np
    >>> _, cache = conv_forward(np.array([[[1.0, 2.0, 3.0]]]), np.array([[[1.0, -1.0]]]))
    >>> conv_backward(np.array([[[10.0, 20.0]]]), cache)[0]
    array([[[ 10.,  10., -20.]]])
    """
    shape, columns, w, b, where = cache
    xp = array_namespace(dout)
    rows = xp.reshape(w, (where.groups, w.shape[0] // where.groups, -1))  # (g, F/g, C/g K)
    upstream = xp.reshape(dout, (shape[0], where.groups, w.shape[0] // where.groups, -1))  # (N, g, F/g, O)
    dw = xp.reshape(xp.sum(upstream @ xp.matrix_transpose(columns), axis=0), w.shape)
    dcolumns = xp.matrix_transpose(rows) @ upstream  # (N, g, C/g K, O)
    dwindows = xp.reshape(dcolumns, (shape[0], shape[1], prod(where.kernel), *where.out))
    dx_padded = fold(dwindows, where.padded, where.kernel, where.stride, where.dilation)
    return crop(dx_padded, where.widths), dw, _bias_gradient(dout, b)


conv_forward_im2col, conv_backward_im2col = conv_forward, conv_backward
conv_forward_fast, conv_backward_fast = conv_forward, conv_backward


def _shares(x: Array, w: Array, groups: int) -> list[tuple[slice, slice]]:
    """For each group, its input channels and its filters."""
    inputs, outputs = x.shape[1] // groups, w.shape[0] // groups
    return [(slice(g * inputs, (g + 1) * inputs), slice(g * outputs, (g + 1) * outputs)) for g in range(groups)]


def _window(place: tuple[int, ...], where: Geometry) -> tuple[slice, ...]:
    """The pixels of the padded input that the output at `place` sees."""
    start = [o * s for o, s in zip(place, where.stride, strict=True)]
    return tuple(slice(a, a + d * (k - 1) + 1, d) for a, k, d in zip(start, where.kernel, where.dilation, strict=True))


def _with_bias(out: Array, b: Array | None) -> Array:
    return out if b is None else out + array_namespace(b).reshape(b, (-1, *[1] * (out.ndim - 2)))


def _bias_gradient(dout: Array, b: Array | None) -> Array | None:
    return None if b is None else array_namespace(dout).sum(dout, axis=(0, *range(2, dout.ndim)))
