"""`probes/surface.npz`: the loss surface that a run has measured, read without torch and without trusting the file."""

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram.errors import UserError

FORM = {
    "a": "A",  # places along the first principal component of the path, which ends at 0
    "b": "B",
    "losses": "BA",
    "steps": "N",  # of the snapshots
    "path": "N2",  # where each lies on the plane
    "off_plane": "N",  # distance from the plane as a share of the distance from the end
    "explained": "2",  # share of the squared distances from the end
    "true": "N",  # loss of the snapshots
    "drawn": "N",  # loss of the plane where they fall on it
    "examples": "",
    "batch_norm": "",
}
"""The arrays and their lengths: equal letters, equal lengths."""
RANDOM = {"random_a": "C", "random_b": "D", "random_losses": "DC"}
"""Those of the random plane, which may be missing, all three together."""
PLACES = {"a", "b", "path", "steps", "explained", "off_plane", "random_a", "random_b", "examples"}
"""The arrays that must be finite; losses need not be."""


def read(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of the file, all of them, of lengths that fit together.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be read, or holds something else.
    """
    try:
        # by its bytes: a damaged file would be left open
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            wanted = FORM | (RANDOM if set(RANDOM) & set(file.files) else {})
            found = {name: file[name] for name in wanted}
    except FileNotFoundError:
        raise
    except KeyError as error:
        raise UserError(f"{path.name} holds no loss surface: {error.args[0]}") from None
    except (OSError, ValueError, TypeError, EOFError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"{path.name} could not be read: {str(error) or type(error).__name__}") from None
    wrong = next((name for name, array in found.items() if not _fits(array, wanted[name], found)), None)
    if wrong is not None:
        kind, shape = found[wrong].dtype, found[wrong].shape
        raise UserError(f"{path.name} holds no loss surface: {wrong} is {kind} of shape {shape}")
    unknown = next((name for name in wanted if name in PLACES and not np.isfinite(found[name]).all()), None)
    if unknown is not None:
        raise UserError(f"{path.name} holds no loss surface: {unknown} is not finite")
    if any((np.diff(found[name]) <= 0).any() for name in ("a", "b", "random_a", "random_b") if name in found):
        raise UserError(f"{path.name} holds no loss surface: its places do not ascend")
    if not 0 <= int(found["batch_norm"]) <= 2:
        raise UserError(f"{path.name} holds no loss surface: batch_norm is {int(found['batch_norm'])}")
    return found


def _fits(array: NDArray[Any], letters: str, found: dict[str, NDArray[Any]]) -> bool:
    lengths = {"2": 2, "A": found["a"].size, "B": found["b"].size, "N": found["steps"].size}
    lengths |= {letter: found[name].size for letter, name in (("C", "random_a"), ("D", "random_b")) if name in found}
    shape = tuple(lengths[letter] for letter in letters)
    long_enough = all(lengths[letter] > 1 for letter in letters)
    return array.shape == shape and array.dtype.kind in "fiu" and long_enough
