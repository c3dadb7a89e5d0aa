"""Arrays of a probe's file, read without torch and without trusting them: names, kinds, and lengths that agree."""

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

KINDS = {"text": "U", "whole": "iu", "number": "f", "byte": "u", "flag": "b"}


def load(path: Path) -> Arrays:
    """All arrays of an .npz file.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be read.
    """
    try:
        # by its bytes: a damaged file would be left open
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, EOFError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"{path.name} could not be read: {str(error) or type(error).__name__}") from None


def checked(path: Path, found: Arrays, form: Mapping[str, str], *, largest: int, may_be_empty: str = "") -> Arrays:
    """The arrays of the form: a kind, and letters for the lengths, equal letters for equal lengths.

    Args:
        largest: of any length.
        may_be_empty: letters of lengths that may be 0.

    Raises:
        UserError: one is missing, of another kind or shape, or holds what is not finite.

    >>> arrays = {"step": np.array([0, 5]), "loss": np.array([2.0, 1.0])}
    >>> list(checked(Path("a.npz"), arrays, {"step": "whole M", "loss": "number M"}, largest=10))
    ['step', 'loss']
    """
    lengths: dict[str, int] = {}
    for name, wanted in form.items():
        if name not in found:
            raise UserError(f"{path.name} could not be read: there is no {name} in it")
        array = found[name]
        kind, _, letters = wanted.partition(" ")
        told = f"{path.name} could not be read: {name} is {array.dtype} of shape {array.shape}"
        if array.ndim != len(letters) or array.dtype.kind not in KINDS[kind]:
            raise UserError(told)
        for letter, length in zip(letters, array.shape, strict=True):
            least = 0 if letter in may_be_empty else 1
            expected = int(letter) if letter.isdigit() else lengths.setdefault(letter, length)
            if length != expected or not least <= length <= largest:
                raise UserError(f"{told}, which does not fit the others")
        if kind == "number" and not np.isfinite(array).all():
            raise UserError(f"{path.name} could not be read: {name} holds what is not finite")
    return {name: found[name] for name in form}
