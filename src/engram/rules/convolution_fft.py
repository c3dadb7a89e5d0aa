"""Convolution by the fast Fourier transform: multiply spectra instead of sliding.

The idea: sliding one array over another is, frequency by frequency, a plain product. So transform the image and the
kernel once each, multiply, and transform back. The kernel's spectrum is conjugated because networks do not flip it:

    out = F⁻¹( F(x) · conj F(w) )        dw = F⁻¹( F(x) · conj F(dout) )        dx = F⁻¹( F(dout) · F(w) )

A stride keeps every s-th value of the dense result; on the way back dout gets zeros in between. Dilation puts zeros
into the kernel likewise, and the padded image is as long as the transform, so that nothing wraps around into what is
kept. The cost no longer depends on the size of the kernel: it is ahead for large ones (from about 11 x 11) and for
many channels, behind for the 3 x 3 of today's networks, and most of it is wasted under a stride.

Rounding is that of the transform, about 1e-15 of the largest value in float64; small values beside large ones lose
digits that the direct way keeps. The spectra need float32 or float64.

Mathieu, Henaff, LeCun 2014, Fast training of convolutional networks through FFTs, arXiv:1312.5851, section 2.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from array_api_compat import array_namespace

from engram.rules.arrays import Array, crop, pad, zeros
from engram.rules.convolution import Geometry, geometry


def conv_forward_fft(
    x: Array, w: Array, b: Array | None = None, conv_param: Mapping[str, Any] | None = None
) -> tuple[Array, tuple]:
    """The convolution of `conv_forward`, through spectra.

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
    >>> x = np.array([[[1.0, 2.0, 3.0, 5.0]]])
    >>> conv_forward_fft(x, np.array([[[1.0, -1.0]]]))[0].round(12)
    array([[[-1., -1., -2.]]])
    """
    xp, where = array_namespace(x, w), geometry(x, w, conv_param)
    image = _spectrum(pad(x, where.widths), where)  # (N, C, *freq)
    kernel = _spectrum(_spread(w, where.dilation), where)  # (F, C/g, *freq)
    dense = _dense(_combine(image, xp.conj(kernel), where.groups, "nc fc"), where)
    out = dense[(..., *_kept(where))]  # (N, F, *O)
    if b is not None:
        out = out + xp.reshape(b, (-1, *[1] * len(where.out)))
    return out, (image, kernel, b, where)


def conv_backward_fft(dout: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """The gradients of `conv_backward`, through spectra.

    Args:
        dout: (N, F, *O).

    Returns:
        dx like x, dw like w, db (F,) or None.

    >>> import numpy as np
    >>> _, cache = conv_forward_fft(np.array([[[1.0, 2.0, 3.0]]]), np.array([[[1.0, -1.0]]]))
    >>> conv_backward_fft(np.array([[[10.0, 20.0]]]), cache)[0].round(12)
    array([[[ 10.,  10., -20.]]])
    """
    image, kernel, b, where = cache
    xp = array_namespace(dout)
    spread = zeros(dout, (*dout.shape[:2], *where.padded))
    spread[(..., *_kept(where))] = dout
    upstream = _spectrum(spread, where)  # (N, F, *freq)
    dx = _dense(_combine(upstream, kernel, where.groups, "nf fc"), where)
    dw = _dense(_combine(image, xp.conj(upstream), where.groups, "nc nf"), where)
    reach = tuple(slice(0, d * (k - 1) + 1, d) for k, d in zip(where.kernel, where.dilation, strict=True))
    db = None if b is None else xp.sum(dout, axis=(0, *range(2, dout.ndim)))
    return crop(dx, where.widths), dw[(..., *reach)], db


def _spectrum(x: Array, where: Geometry) -> Array:
    return array_namespace(x).fft.rfftn(x, s=where.padded, axes=_axes(where))


def _dense(spectrum: Array, where: Geometry) -> Array:
    return array_namespace(spectrum).fft.irfftn(spectrum, s=where.padded, axes=_axes(where))


def _axes(where: Geometry) -> tuple[int, ...]:
    return tuple(range(2, 2 + len(where.padded)))


def _spread(w: Array, dilation: Sequence[int]) -> Array:
    """Kernels with zeros in between, so that they are dilated."""
    sides = [d * (k - 1) + 1 for k, d in zip(w.shape[2:], dilation, strict=True)]
    out = zeros(w, (*w.shape[:2], *sides))
    out[(..., *(slice(None, None, d) for d in dilation))] = w
    return out


def _kept(where: Geometry) -> tuple[slice, ...]:
    """The places of the dense result that the stride keeps."""
    return tuple(slice(0, (n - 1) * s + 1, s) for n, s in zip(where.out, where.stride, strict=True))


def _combine(a: Array, b: Array, groups: int, letters: str) -> Array:
    """Products of spectra, summed over the axis they share, group by group.

    Args:
        letters: "nc fc" sums over channels to (N, F), "nf fc" over filters to (N, C), "nc nf" over examples to
            (F, C/g).
    """
    xp = array_namespace(a)
    a = xp.moveaxis(xp.reshape(a, (*a.shape[:2], -1)), -1, 0)  # (freq, rows, columns)
    b, shape = xp.moveaxis(xp.reshape(b, (*b.shape[:2], -1)), -1, 0), b.shape[2:]
    parts = []
    for g in range(groups):
        if letters == "nc nf":
            parts.append(xp.matrix_transpose(_part(b, 2, g, groups)) @ _part(a, 2, g, groups))  # (freq, F/g, C/g)
        elif letters == "nc fc":
            parts.append(_part(a, 2, g, groups) @ xp.matrix_transpose(_part(b, 1, g, groups)))  # (freq, N, F/g)
        else:
            parts.append(_part(a, 2, g, groups) @ _part(b, 1, g, groups))  # (freq, N, C/g)
    together = xp.concat(parts, axis=1 if letters == "nc nf" else 2)
    return xp.reshape(xp.moveaxis(together, 0, -1), (*together.shape[1:], *shape))


def _part(x: Array, axis: int, group: int, groups: int) -> Array:
    size = x.shape[axis] // groups
    return x[(*[slice(None)] * axis, slice(group * size, (group + 1) * size))]
