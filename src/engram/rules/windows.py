"""Windows: every place a kernel looks at, gathered side by side, and the way back, which adds up.

The idea: a convolution or a pooling looks at a small window in every place. Gathering all windows into one array turns
the sliding into a plain product or a plain maximum over an axis, at the cost of copying each pixel about as often as
the kernel has places (im2col). The other way, every window's gradient is added back where its pixels came from
(col2im): a pixel that stood in many windows gets the sum, which is what the chain rule asks for.

    windows[b, c, k, o] = x[b, c, o · stride + k · dilation]
    side of the output = (S + pad − dilation (K − 1) − 1) / stride + 1

Both ways run over the kernel's places, not over the windows: nine slices for a 3 x 3 kernel, whatever the image. It
helps wherever memory suffices; for large kernels the transform (FFT) is ahead, for 3 x 3 Winograd's. Axes: any number.

`im2col` arranges the same numbers as the course notes do: a column a window, ready for one matrix product. AlexNet's
first layer, 11 x 11 x 3 at stride 4 on 227 x 227, becomes 363 x 3025.

Chellapilla, Puri, Simard 2006, High performance convolutional neural networks for document processing, section 3;
Stanford CS231n, notes on convolutional networks, "Implementation as matrix multiplication".
"""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

from array_api_compat import array_namespace

from engram.errors import UserError
from engram.rules.arrays import Array, pad, per_axis, zeros


def output_shape(
    sides: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    widths: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> tuple[int, ...]:
    """Sides of what comes out: as many windows as fit.

    Args:
        widths: padding before and after, for each axis.

    Raises:
        UserError: not even one window fits.

    >>> output_shape((227, 227), (11, 11), (4, 4), [(0, 0)] * 2, (1, 1))
    (55, 55)
    """
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    padded = [side + sum(width) for side, width in zip(sides, widths, strict=True)]
    if any(side < needed for side, needed in zip(padded, reach, strict=True)):
        raise UserError(
            f"a window of {' x '.join(map(str, reach))} does not fit into {' x '.join(map(str, padded))}",
            allowed="a smaller kernel, or more padding",
        )
    return tuple((side - needed) // s + 1 for side, needed, s in zip(padded, reach, stride, strict=True))


def places(
    kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], out: Sequence[int]
) -> Iterator[tuple[slice, ...]]:
    """For each place of the kernel, row by row, the pixels that all windows have there.

    >>> [window for window, in places((2,), (3,), (1,), (4,))]
    [slice(0, 10, 3), slice(1, 11, 3)]
    """
    for place in product(*map(range, kernel)):
        starts = [k * d for k, d in zip(place, dilation, strict=True)]
        yield tuple(slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(starts, out, stride, strict=True))


def unfold(
    x: Array, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], out: Sequence[int]
) -> Array:
    """All windows of an array that is padded already.

    Args:
        x: (B, C, *S).
        out: how many windows along each axis.

    Returns:
        (B, C, K, *out), K the places of the kernel, row by row.

    >>> import numpy as np
    >>> unfold(np.array([[[1.0, 2.0, 3.0]]]), (2,), (1,), (1,), (2,))
    array([[[[1., 2.],
             [2., 3.]]]])
    """
    return array_namespace(x).stack([x[(..., *taken)] for taken in places(kernel, stride, dilation, out)], axis=2)


def fold(
    windows: Array, sides: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Array:
    """Windows added up where their values came from: the transpose of `unfold`.

    Args:
        windows: (B, C, K, *out).
        sides: of the padded array.

    Returns:
        (B, C, *sides).

    >>> import numpy as np
    >>> fold(np.ones((1, 1, 2, 2)), (3,), (2,), (1,), (1,))
    array([[[1., 2., 1.]]])
    """
    x = zeros(windows, (*windows.shape[:2], *sides))
    for index, taken in enumerate(places(kernel, stride, dilation, windows.shape[3:])):
        x[(..., *taken)] = x[(..., *taken)] + windows[:, :, index]
    return x


def im2col(
    x: Array, kernel: Sequence[int], *, stride: int | Sequence[int] = 1, pad_by: int | Sequence[int] = 0
) -> Array:
    """Windows as the columns of a matrix, one matrix an image.

    Args:
        x: (B, C, *S).

    Returns:
        (B, C · K, windows).

    >>> import numpy as np
    >>> im2col(np.zeros((1, 3, 227, 227), dtype=np.int8), (11, 11), stride=4).shape
    (1, 363, 3025)
    """
    dimensions = len(kernel)
    stride, margin = per_axis(stride, dimensions, "stride", 1), per_axis(pad_by, dimensions, "pad")
    widths = [(one, one) for one in margin]
    once = (1,) * dimensions
    out = output_shape(x.shape[2:], kernel, stride, widths, once)
    windows = unfold(pad(x, widths), kernel, stride, once, out)  # (B, C, K, *out)
    return array_namespace(x).reshape(windows, (x.shape[0], x.shape[1] * prod(kernel), prod(out)))
