"""Of what size and shape the examples of a set are, and in which they are stored and seen by the network."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from engram.data.decoding import available_cores
from engram.data.examples import Examples, Unreadable
from engram.decision import Decision
from engram.errors import UserError
from engram.recipe import Data

LARGEST_OWN = 256  # pixels; pictures that all share a size up to this are seen as they are
LOOKED_AT = 2000  # examples whose sizes decide, drawn from the whole set
LOOKED_AT_PIXELS = 10**9  # of all of these; of photographs of 12 megapixels that are a hundred
ROOM = 8 / 7  # a larger picture is stored this much larger than it is seen, as 256 is to 224: room for crops
DEFAULT_SIDE = 128  # pixels, for pictures of mixed sizes and a network that names no size of its own


def look(examples: Examples, rows: NDArray[np.int64]) -> tuple[tuple[int, ...], NDArray[np.int64], bool]:
    """(the common shape, sizes as found, whether they are pictures) from a look at some of the examples.

    The channels of the common shape are 1 only if every one that was looked at is grey.

    Raises:
        UserError: none of those looked at can be read, or they are no pictures and of several shapes.
    """
    whole = examples.array()
    if whole is not None:
        shape = tuple(int(side) for side in whole.shape[1:])
        return shape, np.broadcast_to(np.array(shape[1:]), (len(rows), len(shape) - 1)), _pictures(shape, whole.dtype)
    shapes: dict[int, tuple[int, ...]] = {}
    failed: list[Unreadable] = []
    pictures = True
    for index, found in _looked_at(examples, rows):
        if isinstance(found, Unreadable):
            failed.append(found)
            continue
        pictures = pictures and _pictures(found.shape, found.dtype)
        shapes[index] = found.shape
    if not shapes:
        raise UserError(f"none of {len(failed):,} examples that were tried can be read: {failed[0]}")
    every = list(shapes.values())
    if pictures:
        return (max(shape[0] for shape in every), *every[0][1:]), np.array([shape[1:] for shape in every]), True
    for index, shape in shapes.items():
        if shape != every[0]:
            one = f"{examples.name(next(iter(shapes)))} is of shape {text(every[0])}"
            raise UserError(
                f"{one}, {examples.name(index)} of {text(shape)}",
                allowed="one shape for all, except pictures of 8 bits, which are resized",
            )
    return every[0], np.array([shape[1:] for shape in every]), False


def _looked_at(examples: Examples, rows: NDArray[np.int64]) -> list[tuple[int, NDArray[np.generic] | Unreadable]]:
    """Examples drawn from the whole set, or what was wrong with them; fewer of large ones, by size and not by time."""

    def read(index: int) -> tuple[int, NDArray[np.generic] | Unreadable]:
        try:
            found = examples.read(index)
        except Unreadable as error:
            return index, error
        return index, np.broadcast_to(found.dtype.type(0), found.shape)  # of its size only, so that none is kept

    drawn = np.random.Generator(np.random.PCG64(0)).permutation(rows)[:LOOKED_AT].tolist()
    found: list[tuple[int, NDArray[np.generic] | Unreadable]] = []
    pixels = 0
    with ThreadPoolExecutor(min(16, available_cores())) as executor:
        for start in range(0, len(drawn), 16):
            some = list(executor.map(read, drawn[start : start + 16]))
            found += some
            pixels += sum(one.size for _, one in some if not isinstance(one, Unreadable))
            if pixels > LOOKED_AT_PIXELS:
                break
    return sorted(found, key=lambda one: one[0])


def _pictures(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    return dtype == np.uint8 and len(shape) == 3 and shape[0] in (1, 3)


def choose(
    first: tuple[int, ...],
    sizes: NDArray[np.int64],
    pictures: bool,
    recipe: Data,
    model_shape: Sequence[int] | None,
    decisions: list[Decision],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(stored, seen) shapes."""
    if not pictures:
        for name in ("image_size", "stored_size"):
            if getattr(recipe, name) is not None:
                raise UserError(f"data.{name} is for pictures; these examples keep their shape", allowed="none")
        return first, first
    one_size = bool((sizes == sizes[0]).all())
    own = tuple(int(side) for side in sizes[0])
    smallest, largest = int(sizes.min()), int(sizes.max())
    if recipe.image_size is not None:
        seen, reason = (recipe.image_size,) * 2, "asked for"
    elif one_size and max(own) <= LARGEST_OWN:
        seen, reason = own, "all pictures have this size"
    elif model_shape is not None and len(model_shape) == 3:
        seen, reason = (int(model_shape[-1]),) * 2, f"the network's own; pictures are {smallest} to {largest} pixels"
    else:
        seen, reason = (DEFAULT_SIDE,) * 2, f"pictures are {smallest} to {largest} pixels"
    decisions.append(Decision("data.image_size", "x".join(map(str, seen)), reason))
    if recipe.stored_size is not None:
        stored, why = (recipe.stored_size,) * 2, "asked for"
        if min(stored) < max(seen):
            raise UserError(
                f"data.stored_size {recipe.stored_size} is below the size the network sees, {max(seen)}",
                allowed=f"{max(seen)} or more",
            )
    elif one_size and own == seen:
        stored, why = seen, "as they are"
    else:
        stored, why = _with_room(max(seen), int(np.median(sizes.min(axis=1))))
    decisions.append(Decision("data.stored_size", "x".join(map(str, stored)), why))
    if first[0] == 1:
        decisions.append(Decision("data.channels", "1", "every picture that was looked at is grey"))
    return (first[0], *stored), (first[0], *seen)


def _with_room(seen: int, typical: int) -> tuple[tuple[int, int], str]:
    """(stored size, why): larger than what the network sees as far as the pictures themselves are.

    Args:
        typical: the median of the pictures' shorter sides.
    """
    room = round(seen * ROOM)
    if typical >= room:
        return (room, room), f"{ROOM:.2f} of what the network sees: room for crops"
    if typical > seen:
        return (typical, typical), "the median picture's shorter side: room for crops without enlarging"
    if typical == seen:
        return (seen, seen), "what the network sees: the median picture is no larger"
    return (
        seen,
        seen,
    ), f"what the network sees; half of the pictures are enlarged to it, from {typical} pixels or less"


def text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
