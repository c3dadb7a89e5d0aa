"""`pictures/filters.npz`, `activations.npz` and `saliency.npz` of a run, read without torch and without trusting them.

`engram.training.inside` writes them.
"""

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram.errors import UserError

Arrays = dict[str, NDArray[Any]]

LARGEST = 128
"""Longest side, in pixels, and the most of anything that such a file may hold."""

FILTERS = {
    "layer": "text",
    "count": "whole",  # filters that the layer has
    "now": "number KCHW",
    "detail_now": "number",  # share of their energy in fine detail
    "chance": "number",  # the same of weights drawn at random
}
BEFORE = {"start": "number KCHW", "detail_start": "number", "moved": "number"}
"""Those of the start of the run, which may be missing, all three together."""
ACTIVATIONS = {
    "layers": "text L",
    "shapes": "whole L3",  # channels, height, width
    "silent": "whole L",  # channels that no example makes active
    "examples": "whole",
    "truth": "text E",
    "predicted": "text E",
    "pixels": "byte EHWC",
}
SALIENCY = {
    "methods": "text M",
    "maps": "byte NMHW",
    "alike": "number M",  # with the maps of the class named second; NaN where that was not asked
    "missing": "text",  # why a method is not among them; of any length
    "samples": "whole",
    "layer": "text",
    "channels": "whole",
    "kinds": "text N",
    "truth": "text N",
    "predicted": "text N",
    "probability": "number N",
    "names": "text N",
    "pixels": "byte NHWC",
}
KINDS = {"text": "U", "whole": "iu", "number": "f", "byte": "u"}


def filters(path: Path) -> Arrays:
    """Filters of the first layer, float (K, C, H, W): `now`, and `start` where it is known.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be read, or holds something else; so for the others.
    """
    found = _load(path)
    form = FILTERS | (BEFORE if set(BEFORE) & set(found) else {})
    return _checked(path, found, form)


def activations(path: Path) -> Arrays:
    """Of each of `layers`, `maps_0` and so on: uint8 (E, channels, H, W), and `channels_0`: which channels they are."""
    found = _load(path)
    form = dict(ACTIVATIONS)
    for place in range(min(len(np.atleast_1d(found.get("layers", ()))), LARGEST)):
        form |= {f"channels_{place}": f"whole {chr(97 + place)}", f"maps_{place}": f"byte E{chr(97 + place)}.."}
    return _checked(path, found, form)


def saliency(path: Path) -> Arrays:
    """Pictures uint8 (N, H, W, C) with their maps uint8 (N, methods, H, W), and what was said of them."""
    return _checked(path, _load(path), SALIENCY)


def _load(path: Path) -> Arrays:
    try:
        # by its bytes: a damaged file would be left open
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, EOFError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"{path.name} could not be read: {str(error) or type(error).__name__}") from None


def _checked(path: Path, found: Arrays, form: Mapping[str, str]) -> Arrays:
    """The arrays of the form, whose equal letters are equal lengths; a dot is any length, a digit is itself."""
    lengths: dict[str, int] = {}
    for name, wanted in form.items():
        if name not in found:
            raise UserError(f"{path.name} holds no pictures of this kind: there is no {name}")
        array = found[name]
        kind, _, letters = wanted.partition(" ")
        free = kind == "text" and not letters and array.ndim <= 1
        if not (free or array.ndim == len(letters)) or array.dtype.kind not in KINDS[kind]:
            raise UserError(f"{path.name}: {name} is {array.dtype} of shape {array.shape}")
        for letter, length in zip(letters, array.shape, strict=free is False):
            expected = int(letter) if letter.isdigit() else lengths.setdefault(letter, length)
            few = 1 <= length <= LARGEST
            if not few or (letter != "." and length != expected):
                raise UserError(f"{path.name}: {name} is of shape {array.shape}, which does not fit the others")
        if (kind == "byte" and array.dtype != np.uint8) or (name == "pixels" and array.shape[3] not in (1, 3)):
            raise UserError(f"{path.name}: {name} is {array.dtype} of shape {array.shape}, and no picture")
    return {name: found[name] for name in form}
