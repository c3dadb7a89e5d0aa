"""What goes into a recurrent rule, looked at before it is used: messages in shapes, not from inside a product.

A step takes (N, D) and a state (N, H); its weights hold one block of H columns for each of G gates, so Wx is (D, G H),
Wh (H, G H) and b (G H,): G is 1 for a vanilla network, 3 for a GRU, 4 for an LSTM. A wrong count of gates is the usual
slip, and a bias of one number would go unnoticed through every sum.
"""

from engram.errors import UserError
from engram.rules.arrays import Array


def check_step(
    rule: str, gates: int, x: Array, prev_h: Array, Wx: Array, Wh: Array, b: Array, *, two_biases: bool = False
) -> None:
    """Refuse shapes that do not go together.

    Args:
        gates: blocks of H columns in the weights.
        b: (gates H,).
        two_biases: whether b may also be (2, gates H).

    Raises:
        UserError: naming what was given and what would fit.

    >>> import numpy as np
    >>> check_step("lstm", 4, *map(np.zeros, ((2, 3), (2, 5), (3, 5), (5, 20), (20,))))
    Traceback (most recent call last):
    engram.errors.UserError: lstm: x (2, 3), h (2, 5), Wx (3, 5), Wh (5, 20), b (20,)
      allowed: (N, 3), (N, 5), (3, 20), (5, 20), (20,)
    """
    given = [tuple(one.shape) for one in (x, prev_h, Wx, Wh, b)]
    if x.ndim == prev_h.ndim == 2:
        (N, D), H = given[0], given[1][1]
        columns = gates * H
        lead = (2,) if two_biases and b.ndim == 2 else ()
        if given == [(N, D), (N, H), (D, columns), (H, columns), (*lead, columns)]:
            return
        allowed = f"(N, {D}), (N, {H}), ({D}, {columns}), ({H}, {columns}), ({columns},)"
    else:
        allowed = "x (N, D) and h (N, H) at one step, x (N, T, D) in a sequence"
    named = ", ".join(f"{name} {shape}" for name, shape in zip(("x", "h", "Wx", "Wh", "b"), given, strict=True))
    raise UserError(f"{rule}: {named}", allowed=allowed)


def check_sequence(rule: str, x: Array) -> None:
    """Refuse what is no sequence: without an axis of time, or with nothing along it.

    Raises:
        UserError: x is not (N, T, D) with T from 1 up.
    """
    if x.ndim != 3 or not x.shape[1]:
        raise UserError(f"{rule}: a sequence {tuple(x.shape)}", allowed="(N, T, D), at least one step")
