"""Winograd's convolution F(2 x 2, 3 x 3): four outputs of a 3 x 3 kernel for 16 multiplications instead of 36.

The idea: two neighbouring outputs of a kernel of three share most of their inputs. Add and subtract inputs first, and
four products are enough where the definition takes six; in two dimensions 16 instead of 36, a saving of 2.25. With d
a tile of 4 x 4 inputs, g the kernel, and the sum over channels done between the transforms:

    Y = Aᵀ [ Σ_c (G g Gᵀ) ⊙ (Bᵀ d B) ] A

    Bᵀ = 1  0 -1  0        G = 1   0   0        Aᵀ = 1  1  1  0
         0  1  1  0            ½   ½   ½             0  1 -1 -1
         0 -1  1  0            ½  -½   ½
         0  1  0 -1            0   0   1

Tiles overlap by two and are laid at every second place. Everything is linear in d and in g, so each step back is the
transpose of the step forward. The products of all tiles at one of the 16 places are one matrix product over channels.

It suits 3 x 3 kernels at stride 1, the bulk of VGG and ResNet, and is what GPU libraries choose there. The additions
cost a digit or so of float32 (larger tiles cost more, which is why 2 x 2 is the one kept here); strides, dilation and
other kernels need the other ways. Groups are left out.

Lavin and Gray 2016, Fast algorithms for convolutional neural networks, arXiv:1509.09308, section 4.1.
"""

from collections.abc import Mapping
from typing import Any

from array_api_compat import array_namespace

from engram.errors import UserError
from engram.rules.arrays import Array, crop, like, pad, per_axis
from engram.rules.windows import fold, output_shape, unfold

INPUT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))  # Bᵀ
KERNEL = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))  # G
OUTPUT = ((1, 1, 1, 0), (0, 1, -1, -1))  # Aᵀ
TILE = {"kernel": (4, 4), "stride": (2, 2), "dilation": (1, 1)}


def conv_forward_winograd(
    x: Array, w: Array, b: Array | None = None, conv_param: Mapping[str, Any] | None = None
) -> tuple[Array, tuple]:
    """The convolution of `conv_forward` for 3 x 3 kernels at stride 1.

    Args:
        x: (N, C, H, W).
        w: (F, C, 3, 3).
        b: (F,) or None.
        conv_param: pad, a number or one an axis; a stride only of 1.

    Returns:
        out (N, F, H + 2 pad - 2, W + 2 pad - 2), and the cache.

    Raises:
        UserError: another kernel, stride, dilation or groups.

    >>> import numpy as np
    >>> conv_forward_winograd(np.ones((1, 1, 3, 4)), np.ones((1, 1, 3, 3)))[0]
    array([[[[9., 9.]]]])
    """
    given = dict(conv_param or {})
    margin = per_axis(given.pop("pad", 0), 2, "pad")
    if tuple(w.shape[2:]) != (3, 3) or any(value not in (1, (1, 1), [1, 1]) for value in given.values()):
        raise UserError(
            f"Winograd's convolution with a kernel {tuple(w.shape[2:])} and {conv_param}",
            allowed="kernels of 3 x 3 at stride 1, without dilation or groups; pad as you like",
            then="conv_forward does all of them",
        )
    xp = array_namespace(x, w)
    out = output_shape(x.shape[2:], (3, 3), (1, 1), [(one, one) for one in margin], (1, 1))
    widths = [(one, one + side % 2) for one, side in zip(margin, out, strict=True)]  # an even number of outputs
    tiles = [(side + 1) // 2 for side in out]
    padded = pad(x, widths)
    d = unfold(padded, **TILE, out=tiles)  # (N, C, 16, *tiles)
    d = _both_sides(like(x, INPUT), _places_last(d, 4))  # (N, C, *tiles, 4, 4)
    g = _both_sides(like(w, KERNEL), w)  # (F, C, 4, 4)
    v = xp.permute_dims(d, (4, 5, 2, 3, 0, 1))  # (4, 4, *tiles, N, C)
    u = xp.permute_dims(g, (2, 3, 1, 0))[:, :, None, None]  # (4, 4, 1, 1, C, F)
    m = xp.permute_dims(v @ u, (4, 5, 2, 3, 0, 1))  # (N, F, *tiles, 4, 4)
    y = _both_sides(like(x, OUTPUT), m)  # (N, F, *tiles, 2, 2)
    y = xp.reshape(xp.permute_dims(y, (0, 1, 2, 4, 3, 5)), (*y.shape[:2], 2 * tiles[0], 2 * tiles[1]))
    y = y[:, :, : out[0], : out[1]]  # (N, F, *out)
    if b is not None:
        y = y + xp.reshape(b, (-1, 1, 1))
    return y, (v, u, b, widths, tuple(padded.shape[2:]), tiles)


def conv_backward_winograd(dout: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """Each step of the way forward, transposed, in reverse order.

    Returns:
        dx like x, dw like w, db (F,) or None.

    >>> import numpy as np
    >>> _, cache = conv_forward_winograd(np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3)), np.ones(1))
    >>> conv_backward_winograd(np.full((1, 1, 1, 1), 5.0), cache)[2]
    array([5.])
    """
    v, u, b, widths, padded, tiles = cache
    xp = array_namespace(dout)
    whole = pad(dout, [(0, 2 * n - side) for n, side in zip(tiles, dout.shape[2:], strict=True)])
    dy = xp.reshape(whole, (*dout.shape[:2], tiles[0], 2, tiles[1], 2))
    dy = xp.permute_dims(dy, (0, 1, 2, 4, 3, 5))  # (N, F, *tiles, 2, 2)
    dm = xp.permute_dims(_both_sides(like(dout, OUTPUT).T, dy), (4, 5, 2, 3, 0, 1))  # (4, 4, *tiles, N, F)
    du = xp.sum(xp.matrix_transpose(v) @ dm, axis=(2, 3))  # (4, 4, C, F)
    dw = _both_sides(like(dout, KERNEL).T, xp.permute_dims(du, (3, 2, 0, 1)))  # (F, C, 3, 3)
    dv = xp.permute_dims(dm @ xp.matrix_transpose(u), (4, 5, 2, 3, 0, 1))  # (N, C, *tiles, 4, 4)
    dd = _both_sides(like(dout, INPUT).T, dv)
    dd = xp.reshape(xp.permute_dims(dd, (0, 1, 4, 5, 2, 3)), (*dd.shape[:2], 16, *tiles))
    db = None if b is None else xp.sum(dout, axis=(0, 2, 3))
    return crop(fold(dd, padded, **TILE), widths), dw, db


def _both_sides(matrix: Array, x: Array) -> Array:
    """matrix · x · matrixᵀ on the last two axes."""
    return matrix @ x @ matrix.T


def _places_last(windows: Array, side: int) -> Array:
    """(N, C, side², *tiles) to (N, C, *tiles, side, side)."""
    xp = array_namespace(windows)
    batch, channels, _, *tiles = windows.shape
    return xp.permute_dims(xp.reshape(windows, (batch, channels, side, side, *tiles)), (0, 1, 4, 5, 2, 3))
