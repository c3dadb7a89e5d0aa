"""Labels as people store them (numbers, names, one-hot rows) turned into class indices, or refused by row.

Numbers without class names must be 0..K-1 or 1..K, every one of them present in the training split. A gap is refused
rather than closed, because a single corrupted label would otherwise become a class of its own.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engram.data.sources._names import listed, natural
from engram.errors import UserError, nearest

Labels = NDArray[np.int64]


def class_indices(
    raw: Mapping[str, NDArray[np.generic]],
    classes: Sequence[str] | None = None,
    *,
    row: Callable[[str, int], str] = lambda name, index: f"{name}[{index}]",
) -> tuple[tuple[str, ...], dict[str, Labels]]:
    """Class names, and the index of each label, int64 (N,), for each array.

    Args:
        raw: label arrays by the name errors call them; the first is the training split's.
        classes: names in the order of their numbers, where the data brings them.
        row: how errors call one label.

    Raises:
        UserError: negative, out of range, no whole number, empty, or a class that the training split lacks.

    >>> class_indices({"y": np.array(["dog", "cat", "dog"])})
    (('cat', 'dog'), {'y': array([1, 0, 1])})
    """
    flat = {name: _flat(name, values) for name, values in raw.items()}
    as_text = {name: values.dtype.kind in "US" for name, values in flat.items()}
    if len(set(as_text.values())) > 1:
        shown = ", ".join(f"{name} {'text' if text else 'numbers'}" for name, text in as_text.items())
        raise UserError(f"labels are of different kinds: {shown}", then="store all of them as numbers or all as text")
    if next(iter(as_text.values())):
        return _by_name(flat, classes, row)
    whole = {name: _whole(name, values, row) for name, values in flat.items()}
    return _numbered(whole, tuple(classes), row) if classes is not None else _counted(whole, row)


def check_lengths(inputs: Mapping[str, int], labels: Mapping[str, int]) -> None:
    """Refuse splits with more inputs than labels or the other way round; both are given in the same order."""
    for (one, count), (other, label_count) in zip(inputs.items(), labels.items(), strict=True):
        if count != label_count:
            raise UserError(f"{one} has {count:,} examples but {other} has {label_count:,} labels")


def _flat(name: str, values: NDArray[np.generic]) -> NDArray[np.generic]:
    """(N,) from (N,), (N, 1) or one-hot (N, K)."""
    if values.dtype.kind not in "biufUS":
        raise UserError(f"{name} holds {values.dtype} labels", allowed="numbers or text")
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim == 2 and values.dtype.kind in "biuf":
        hot = values == 1
        bad = np.flatnonzero((hot.sum(1) != 1) | ((values != 0) & ~hot).any(1))
        if len(bad):
            raise UserError(
                f"{name} is {values.shape[0]:,} x {values.shape[1]}, but row {bad[0]} is not one-hot",
                allowed="one label an example: numbers (N,), text (N,), or one-hot rows (N, K) with a single 1",
            )
        return hot.argmax(1)
    if values.ndim != 1:
        raise UserError(f"{name} has shape {values.shape}", allowed="labels of shape (N,), (N, 1) or one-hot (N, K)")
    return values


def _whole(name: str, values: NDArray[np.generic], row: Callable[[str, int], str]) -> Labels:
    if values.dtype.kind == "f":
        odd = np.flatnonzero(~np.isfinite(values) | (values != np.rint(values)))
        if len(odd):
            raise UserError(f"{row(name, int(odd[0]))} is {values[odd[0]]}, not a whole number", then=_LABELS)
    if values.dtype.kind in "uf" and len(values) and values.max() >= 2**62:
        raise UserError(f"{row(name, int(values.argmax()))} is {values.max()}: out of range", then=_LABELS)
    whole = values.astype(np.int64)
    below = np.flatnonzero(whole < 0)
    if len(below):
        raise UserError(f"{row(name, int(below[0]))} is {whole[below[0]]}: a label cannot be negative", then=_LABELS)
    return whole


def _numbered(
    whole: Mapping[str, Labels], classes: tuple[str, ...], row: Callable[[str, int], str]
) -> tuple[tuple[str, ...], dict[str, Labels]]:
    for name, values in whole.items():
        over = np.flatnonzero(values >= len(classes))
        if len(over):
            raise UserError(
                f"{row(name, int(over[0]))} is {values[over[0]]}: out of range for {len(classes)} class names",
                allowed=f"0 ({classes[0]}) to {len(classes) - 1} ({classes[-1]})" if classes else None,
            )
    return classes, dict(whole)


def _counted(whole: Mapping[str, Labels], row: Callable[[str, int], str]) -> tuple[tuple[str, ...], dict[str, Labels]]:
    """Class names from the numbers themselves."""
    train, *_ = whole
    values = np.unique(whole[train])
    if not len(values):
        raise UserError(f"{train} holds no labels")
    first = 1 if values[0] == 1 else 0  # MATLAB and EMNIST count from one
    expected = np.arange(first, first + len(values))
    if not np.array_equal(values, expected):
        missing = [str(one) for one in np.setdiff1d(np.arange(int(min(values[-1], 10_000))), values)]
        at = row(train, int(np.flatnonzero(whole[train] == values[-1])[0]))
        raise UserError(
            f"labels in {train} go up to {values[-1]} ({at}), but {listed(missing)} never occur",
            allowed="numbers 0 to K-1 or 1 to K, each of them used, or labels that are names",
            then="correct the label, or renumber them: y = np.unique(y, return_inverse=True)[1]",
        )
    for name, labels in whole.items():
        strange = np.flatnonzero((labels < first) | (labels > values[-1]))
        if len(strange):
            raise UserError(
                f"{row(name, int(strange[0]))} is {labels[strange[0]]}, a class that {train} lacks",
                allowed=f"{first} to {values[-1]}",
            )
    return tuple(str(one) for one in values), {name: labels - first for name, labels in whole.items()}


def _by_name(
    flat: Mapping[str, NDArray[np.generic]], classes: Sequence[str] | None, row: Callable[[str, int], str]
) -> tuple[tuple[str, ...], dict[str, Labels]]:
    train, *_ = flat
    text = {name: values.astype(str) if values.dtype.kind == "S" else values for name, values in flat.items()}
    found = {name: np.unique(values, return_inverse=True) for name, values in text.items()}
    names = sorted((str(one) for one in found[train][0]), key=natural) if classes is None else list(classes)
    index = {name: number for number, name in enumerate(names)}
    labels: dict[str, Labels] = {}
    for name, (words, inverse) in found.items():
        for number, word in enumerate(map(str, words)):
            at = row(name, int(np.flatnonzero(inverse == number)[0])) if not word or word not in index else ""
            if not word:
                raise UserError(f"{at} has no label", then="give every example a class, or remove it")
            if word not in index:
                known = "the class names" if classes is not None else train
                raise UserError(f"{at} is {word!r}, a class that {known} lacks", nearest=nearest(word, names))
        labels[name] = np.array([index[str(word)] for word in words], np.int64)[inverse]
    return tuple(names), labels


_LABELS = "labels are whole numbers from 0 on, or names"
