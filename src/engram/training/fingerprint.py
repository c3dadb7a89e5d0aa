"""What tells a run's data from other data: kept with its state, so that no run goes on with others unnoticed.

Of each split: how many examples, and digests of their names, their labels and their content. The content is never read
through for it: of arrays it is the bytes, of those above 256 MiB the bytes of examples evenly spread; of pictures in
files or tables the sizes of what is stored, of at most 10,000 files; of anything else some examples evenly spread. So a
file that keeps its name, its label and its size is not noticed, and an edited one may not be in a very large set.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram.data.examples import Examples
from engram.data.pool import ResidentPool
from engram.data.pool_streamed import StreamedPool
from engram.review.ledger import fingerprint

MOST_BYTES = 2**28
MOST_FILES = 10_000
MOST_READ = 32
BLOCK = 512  # examples that are copied at once

Part = dict[str, int | str]
"""What is known of a split: `examples` is a number, all else are digests by what they are of."""
Fingerprint = dict[str, Part]


def of_pools(classes: Sequence[str], pools: Mapping[str, ResidentPool | StreamedPool | None]) -> Fingerprint:
    """Of splits of pictures, signals or volumes, resident or streamed alike; splits that are not there are left out."""
    found: Fingerprint = {"classes": {"examples": len(classes), "names": _digest(_texts(classes))}}
    return found | {name: of_pool(pool) for name, pool in pools.items() if pool is not None}


def of_pool(pool: ResidentPool | StreamedPool) -> Part:
    return {
        "examples": len(pool),
        "names": _digest(_texts(map(pool.name, range(len(pool))))),
        "labels": fingerprint(len(pool), pool.labels),
        "content": _digest(_content(pool.examples, pool.rows)),
    }


def of_arrays(content: NDArray[Any], labels: NDArray[Any]) -> Part:
    """Of examples that are one array, with labels that are another."""
    every = np.arange(len(content))
    return {
        "examples": len(content),
        "labels": _digest(_bytes(labels, every)),
        "content": _digest(_bytes(content, every)),
    }


def of_texts(texts: Iterable[str]) -> str:
    """The digest of texts, in their order.

    >>> of_texts(["ab", "c"]) == of_texts(["a", "bc"])
    False
    """
    return _digest(_texts(texts))


def differences(before: Mapping[str, Mapping[str, int | str]], now: Mapping[str, Part]) -> list[str]:
    """In words, what is other now; what only one of the two has measured is not compared.

    >>> differences({"train": {"examples": 9, "labels": "a"}, "test": {}}, {"train": {"examples": 9, "labels": "b"}})
    ['train has other labels', 'test is gone']
    >>> differences({"train": {"examples": 1500}}, {"train": {"examples": 1437}, "test": {}})
    ['train has 1,437 examples, not 1,500', 'test is new']
    """
    told = []
    for split in [*before, *(split for split in now if split not in before)]:
        if split not in before or split not in now:
            told.append(f"{split} is {'new' if split in now else 'gone'}")
            continue
        was, is_now = before[split], now[split]
        other = [name for name in was if name in is_now and was[name] != is_now[name]]
        if "examples" in other:
            thing = "" if split == "classes" else " examples"
            told.append(f"{split} has {is_now['examples']:,}{thing}, not {was['examples']:,}")
        elif other:
            *first, last = other
            told.append(f"{split} has other {', '.join(first)}{' and ' if first else ''}{last}")
    return told


def _content(examples: Examples, rows: NDArray[np.int64]) -> Iterator[bytes]:
    whole = examples.array()
    if whole is not None:
        yield from _bytes(whole, rows)
        return
    some = _spread(rows, MOST_FILES)
    sizes = [examples.size_of(int(row)) for row in some]
    if None not in sizes:
        yield np.array(sizes, np.int64).tobytes()
        return
    for row in _spread(rows, MOST_READ):
        one = examples.read(int(row))
        yield from _bytes(one[None], np.zeros(1, np.int64))


def _bytes(whole: NDArray[Any], rows: NDArray[np.int64]) -> Iterator[bytes]:
    """Type, shape and bytes of these rows, or of as many evenly spread ones as are not too many."""
    yield f"{whole.dtype} {whole.shape[1:]}".encode()
    each = max(1, whole[:1].nbytes)
    some = _spread(rows, max(1, MOST_BYTES // each))
    for start in range(0, len(some), BLOCK):
        yield whole[some[start : start + BLOCK]].tobytes()


def _spread(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the rows, evenly spread from the first to the last."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _texts(texts: Iterable[str]) -> Iterator[bytes]:
    return (text.encode("utf-8", "surrogateescape") + b"\0" for text in texts)


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]
