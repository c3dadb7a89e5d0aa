"""What the examples of a split are told by: two arms are judged on the same ones where 16 letters agree.

The letters are of the content, not of the path: a file and its copy agree, a picture that is shown larger agrees with
itself, and text that is read by bytes agrees with the same text read by words. The labels of every example count and,
because decoding a large set again would take as long as an epoch, the input of `LOOKED_AT` of them, evenly apart.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from engram.data.examples import Unreadable
from engram.training.assembled import Assembled

SPLITS = ("train", "validation", "test")
LOOKED_AT = 64
AT_LEAST = 64  # pixels of the shorter side for which photographs are decoded, whatever size the arm trains at


def fingerprints(assembled: Assembled) -> dict[str, str]:
    """The letters of every split that is there."""
    found = {}
    for split in SPLITS:
        pool = getattr(assembled.prepared, split)
        if pool is not None:
            digest = hashlib.sha256(repr(assembled.recipe.task).encode())
            for part in _parts(assembled, split, pool):
                digest.update(part if isinstance(part, bytes) else repr(part).encode())
                digest.update(b"\0")
            found[split] = digest.hexdigest()[:16]
    return found


def _parts(assembled: Assembled, split: str, pool: Any) -> Iterator[Any]:
    """What each task has as the examples of a split and as their answers."""
    prepared = assembled.prepared
    match assembled.recipe.task:
        case "write":
            yield str(getattr(assembled.source, split))
        case "caption":
            yield prepared.references[split]
            yield from _inputs(pool.images)
        case "label":
            yield prepared.classes
            yield _bytes(pool.steps)
            yield _bytes(pool.signals)
        case _:
            yield prepared.classes
            yield _bytes(pool.labels)
            yield from _inputs(pool)


def _inputs(pool: Any) -> Iterator[Any]:
    """Inputs as the source has them, before they are brought to an arm's size."""
    rows = np.asarray(pool.rows)
    for row in rows[np.linspace(0, len(rows) - 1, min(LOOKED_AT, len(rows))).round().astype(int)]:
        with contextlib.suppress(Unreadable):  # a drive that is away for a moment: training will name the file
            read = pool.examples.read(int(row), AT_LEAST)
            yield read.shape
            yield np.ascontiguousarray(read).tobytes()


def _bytes(tensor: Any) -> bytes:
    return tensor.cpu().contiguous().numpy().tobytes()
