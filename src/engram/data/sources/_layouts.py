"""Which axis is which in an array of inputs, and how its numbers become what a network sees.

The rule, by the number of axes and the type; N counts the examples:

    axes  uint8 and other integers           floats
    2     (N, T)     signal, one channel     (N, T)        signal, one channel
    3     (N, H, W)  grey images             (N, C, T)     signals
    4     (N, H, W, C) or (N, C, H, W) with C 1, 3 or 4; integers with neither are volumes (N, D, H, W)
    5     (N, C, D, H, W); (N, D, H, W, C) where only the last axis is 1 or 3

Where both or neither fit, the array says which: a text named `layout` stored beside it, `layout="NCHW"`.

Images come out as uint8: integers up to 255 as they are, uint16 beyond that scaled by 255/65535, truth values as black
and white, four channels composited over white; floats of one or three channels that all lie in 0..1 times 255, whole
floats up to 255 as they are. Everything else (signals, volumes, other floats) comes out as float32, unscaled.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engram.data.images import over_white
from engram.data.sources._names import count, listed
from engram.errors import UserError

LAYOUTS = ("NT", "NCT", "NTC", "NHW", "NHWC", "NCHW", "NDHW", "NCDHW", "NDHWC")
"""Words that an array's `layout` may be."""

LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Range:
    """What the numbers of an array are like."""

    low: float
    high: float
    whole: bool

    def join(self, other: "Range") -> "Range":
        return Range(min(self.low, other.low), max(self.high, other.high), self.whole and other.whole)


@dataclass(frozen=True)
class Layout:
    """How stored rows become (n, C, *S).

    Args:
        axes: one letter an axis as stored.
        change: what happens to the numbers: `same`, `float`, `unit` (0..1 to 0..255), `whole` (cast to 8 bits),
            `deep` (16 bits to 8), `mask` (false, true to 0, 255).
    """

    axes: str
    change: str

    def is_view(self, dtype: np.dtype) -> bool:
        """Whether `apply` leaves the numbers where they lie."""
        return (self.change == "same" or dtype == np.float32) and self.change in ("same", "float")

    def apply(self, rows: NDArray[Any]) -> NDArray[Any]:
        """(n, ...) as stored to (n, C, *S); images keep channels last in memory where they were stored so."""
        if "C" not in self.axes:
            rows = rows[:, None]
        elif self.axes.endswith("C"):
            rows = np.moveaxis(rows, -1, 1)
        if self.change == "float":
            return rows.astype(np.float32, copy=False)
        if self.change == "unit":
            rows = np.rint(rows.astype(np.float32) * 255).astype(np.uint8)
        elif self.change == "whole":
            rows = rows.astype(np.uint8)
        elif self.change == "deep":
            rows = np.rint(rows.astype(np.float32) * (255 / 65535)).astype(np.uint8)
        elif self.change == "mask":
            rows = rows.astype(np.uint8) * np.uint8(255)
        if rows.shape[1] == 4:
            return np.moveaxis(over_white(np.moveaxis(rows, 1, -1)), -1, 1)
        return rows


class Filed(Protocol):
    """An array in a file, a few rows at a time."""

    dtype: np.dtype
    shape: tuple[int, ...]

    def chunks(self) -> Iterator[NDArray[np.generic]]: ...


def common_layout(inputs: Mapping[str, "NDArray[np.generic] | Filed"], word: str | None, notes: list[str]) -> Layout:
    """One layout for all splits, the first of which decides; what was decided is added to `notes`.

    Raises:
        UserError: NaN, another shape or type in another split, or what `layout_of` refuses.
    """
    first, *_ = inputs
    shape, dtype = inputs[first].shape, inputs[first].dtype
    for name, rows in inputs.items():
        if rows.shape[1:] != shape[1:] or rows.dtype.kind != dtype.kind:
            raise UserError(
                f"{first} is {dtype} {shape} but {name} is {rows.dtype} {rows.shape}",
                allowed="the same type and shape in every split, except for the number of examples",
            )
    spread = Range(0, 255, True)  # of uint8, which need not be measured
    measured = False
    for name, rows in inputs.items():
        if rows.dtype == np.uint8 or rows.dtype.kind not in "buif":
            continue
        chunks = [rows] if isinstance(rows, np.ndarray) else rows.chunks()
        own = measure(name, chunks)
        spread, measured = spread.join(own) if measured else own, True
    layout = layout_of(first, dtype, shape, spread, word)
    said = _SAID.get(layout.change)
    if layout.axes == "NCT" and word is None and len(shape) == 3:
        said = f'read as {shape[1]} channels of {shape[2]} samples; for grey images store uint8, or layout="NHW"'
    elif layout.axes == "NDHW" and word is None:
        said = f"read as volumes of {shape[1]} x {shape[2]} x {shape[3]} with one channel"
    if said:
        notes.append(f"{first}: {said}")
    return layout


_SAID = {
    "unit": "floats from 0 to 1, read as images of 0 to 255",
    "whole": "read as images of 0 to 255",
    "deep": "16-bit images, scaled to 8 bits",
    "mask": "truth values, read as black and white",
}


def measure(name: str, chunks: Iterable[NDArray[np.generic]]) -> Range:
    """The range of an array, and a refusal of NaN and infinity.

    Raises:
        UserError: with the first places where a number is missing.
    """
    low, high, whole, start = np.inf, -np.inf, True, 0
    bad: list[str] = []
    number = 0
    for chunk in chunks:
        if chunk.dtype.kind == "f" and not np.isfinite(chunk).all():
            places = np.argwhere(~np.isfinite(chunk))
            number += len(places)
            for place in places[: 3 - len(bad)]:
                index = [int(place[0]) + start, *map(int, place[1:])]
                bad.append(f"[{', '.join(map(str, index))}] is {chunk[tuple(place)]}")
        elif chunk.size:
            low, high = min(low, float(chunk.min())), max(high, float(chunk.max()))
            whole = whole and (chunk.dtype.kind != "f" or bool((chunk == np.rint(chunk)).all()))
        start += len(chunk)
    if number:
        raise UserError(
            f"{name} has {count(number, 'value')} that cannot be used: {listed(bad, 3)}",
            then="remove these examples, or replace the values: np.nan_to_num",
        )
    if max(high, -low) > LARGEST:
        raise UserError(f"{name} has values up to {max(high, -low):g}, more than float32 holds", then="rescale it")
    return Range(low, high, whole)


def layout_of(name: str, dtype: np.dtype, shape: tuple[int, ...], spread: Range, word: str | None = None) -> Layout:
    """The layout of an array of that type and shape, by the rule above or by the `word` stored beside it.

    Raises:
        UserError: the type holds no numbers; the axes are ambiguous; the word does not fit the shape; images out of
            range.
    """
    if dtype.kind not in "buif":
        raise UserError(f"{name} holds {dtype} values", allowed="uint8 images, or float signals and volumes")
    if len(shape) < 2 or 0 in shape[1:]:
        raise UserError(f"{name} has shape {shape}: no inputs", allowed="one of " + ", ".join(LAYOUTS))
    axes = _axes(name, dtype, shape) if word is None else _checked(name, shape, word)
    channels = shape[axes.index("C")] if "C" in axes else 1
    if "H" not in axes or "D" in axes:
        return Layout(axes, "float")
    return Layout(axes, _change(name, dtype, channels, spread))


def _axes(name: str, dtype: np.dtype, shape: tuple[int, ...]) -> str:
    real = dtype.kind == "f"
    if len(shape) == 2:
        return "NT"
    if len(shape) == 3:
        return "NCT" if real else "NHW"
    if len(shape) == 5:
        return "NDHWC" if shape[4] in (1, 3) and shape[1] not in (1, 3) else "NCDHW"
    if len(shape) != 4:
        raise UserError(f"{name} has shape {shape}: {len(shape)} axes", allowed="2 to 5 axes, examples first")
    for sizes in ((1, 3), (4,)):
        first, last = shape[1] in sizes, shape[3] in sizes
        if first != last:
            return "NCHW" if first else "NHWC"
        if first:
            break
    else:
        if not real and min(shape[1:]) > 4:
            return "NDHW"
    raise UserError(
        f"{name} has shape {shape}: which axis is the channel cannot be told",
        allowed="NCHW, NHWC, NDHW",
        then=f'store the layout beside it: np.savez(file, {name}=..., layout="NCHW")',
    )


def _checked(name: str, shape: tuple[int, ...], word: str) -> str:
    axes = word.strip().upper()
    if axes not in LAYOUTS:
        raise UserError(f"layout {word!r} is not known", allowed=", ".join(LAYOUTS))
    if len(axes) != len(shape):
        fitting = [one for one in LAYOUTS if len(one) == len(shape)]
        raise UserError(
            f"layout {word!r} has {len(axes)} axes but {name} has shape {shape}", allowed=", ".join(fitting)
        )
    return axes


def _change(name: str, dtype: np.dtype, channels: int, spread: Range) -> str:
    if channels not in (1, 3, 4) or (channels == 4 and dtype.kind == "f"):
        return "float"
    if dtype == np.uint8:
        return "same"
    if dtype.kind == "b":
        return "mask"
    if dtype.kind == "f":
        if spread.low >= 0 and spread.high <= 1:
            return "unit"
        return "whole" if spread.whole and spread.low >= 0 and spread.high <= 255 else "float"
    if spread.low >= 0 and spread.high <= 255:
        return "whole"
    if dtype == np.uint16:
        return "deep"
    raise UserError(
        f"{name} holds {dtype} images with values from {spread.low:g} to {spread.high:g}",
        allowed="0 to 255 (uint8), or uint16 from 0 to 65535",
        then="convert it to uint8, or to float32 to keep the numbers as they are",
    )
