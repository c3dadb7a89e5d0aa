"""Moments out of the arrays of a run folder: what `arrays` kept, in the form in which diagnoses read it.

So a page draws from the same functions and thresholds as the diagnoses judge by.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram.clinic.arrays import LAYER, WEIGHT
from engram.clinic.measured import Layer, Moment, Weights

Arrays = Mapping[str, NDArray[Any]]


def layered(arrays: Arrays) -> tuple[Moment, ...]:
    """The moments at which layers were measured, oldest first; none where there are no arrays.

    >>> from engram.clinic.arrays import to_arrays
    >>> from engram.clinic.measured import History
    >>> relu = Layer("relu", "ReLU", 0, 0.5, 0.25, 3.0, 0.5, None, units=4, dead=1, probed=1024)
    >>> layered(to_arrays(History((Moment(7, layers=(relu,)),))))[0].layers[0] == relu
    True
    """
    if not arrays:
        return ()
    columns = list(zip(*(arrays[f"layer_{name}"].tolist() for name in ("name", "kind", "depth", "units")), strict=True))
    rows = zip(
        arrays["layer_step"].tolist(), arrays["layer_probed"].tolist(), _rows(arrays, "layer", LAYER), strict=True
    )
    return tuple(Moment(step, layers=tuple(_layers(columns, numbers, probed))) for step, probed, numbers in rows)


def weighed(arrays: Arrays) -> tuple[Moment, ...]:
    """The moments at which weights were measured, oldest first; none where there are no arrays."""
    if not arrays:
        return ()
    shapes = [
        tuple(int(side) for side in shape.split(" × ") if side.isdecimal()) for shape in arrays["weight_shape"].tolist()
    ]
    known = (arrays[f"weight_{name}"].tolist() for name in ("name", "kind", "trainable"))
    columns = list(zip(*known, shapes, strict=True))
    return tuple(
        Moment(step, weights={one.name: one for one in _weights(columns, numbers)})
        for step, numbers in zip(arrays["weight_step"].tolist(), _rows(arrays, "weight", WEIGHT), strict=True)
    )


def _layers(columns: list[tuple[Any, ...]], numbers: list[list[float]], probed: int) -> Iterator[Layer]:
    for (name, kind, depth, units), (mean, std, largest, zeros, *rest) in zip(columns, numbers, strict=True):
        gradient, dead, saturated = map(_known, rest)
        if not math.isnan(std):  # it was not called then
            count = None if dead is None or math.isinf(dead) else round(dead * units)
            yield Layer(
                name, kind, depth, mean, std, largest, zeros, gradient, units, count, saturated,
                probed if count is not None else 0,
            )  # fmt: skip


def _weights(columns: list[tuple[Any, ...]], numbers: list[list[float]]) -> Iterator[Weights]:
    for (name, kind, trainable, shape), (norm, gradient, update) in zip(columns, numbers, strict=True):
        if not math.isnan(norm):
            yield Weights(name, kind, shape, trainable, True, norm, _known(gradient), _known(update))


def _rows(arrays: Arrays, of: str, measures: Iterable[str]) -> list[list[list[float]]]:
    """By moment and by layer or parameter, the numbers that were measured of it."""
    return np.stack([arrays[f"{of}_{name}"] for name in measures], axis=-1).tolist()


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number
