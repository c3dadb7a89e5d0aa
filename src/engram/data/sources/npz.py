"""Arrays of NumPy: one `.npz`, one a split, or `.npy` files side by side; images, signals and volumes.

Arrays are found by name, in any case and with or without separators: x, images, data, inputs or features for inputs,
y, labels, targets for labels, with train, val, valid, validation or test before or after it: `x_train`,
`test_labels`, `XVal`. Without a split's word they are the training split. `classes` (text) names the classes and
`layout` (text) the axes where they are ambiguous; the rule for axes and numbers stands in `_layouts.py`.
Two arrays of which only one is one-dimensional need no names. Pickled objects are never loaded.

Large arrays stay in their file: they are read example by example (a compressed one is first unpacked into the cache).
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engram.data.examples import Examples, Source
from engram.data.sources._labels import check_lengths, class_indices
from engram.data.sources._layouts import common_layout
from engram.data.sources._names import SPLITS, files_in, listed, split_in
from engram.data.sources._npy import Member, describe_npy, describe_npz
from engram.data.sources._stores import Arrays, Rows, Stored
from engram.errors import UserError
from engram.registry import register

INPUTS = ("x", "image", "images", "data", "input", "inputs", "feature", "features")
TARGETS = ("y", "label", "labels", "target", "targets")
CLASSES = ("classes", "classnames", "labelnames", "targetnames")

NAMES = "x_train, y_train, and if there are any x_validation, y_validation, x_test, y_test"


def recognizes(path: Path) -> bool:
    """A `.npz` or `.npy` file, or a folder that holds some."""
    if path.is_file():
        return path.suffix.lower() in (".npz", ".npy")
    return bool(files_in(path, ".npz", ".npy"))


@register(
    "source",
    recognizes=recognizes,
    order=40,
    accepts="arrays x and y in .npz or .npy",
)
def npz(path: str | Path) -> Source:
    """NumPy arrays of images, signals or volumes, with labels beside them.

    Raises:
        UserError: arrays that cannot be told apart, no labels, NaN, labels out of range, pickled objects, a damaged
            file.
    """
    members = _members(Path(path))
    parts, notes = _sort(str(path), members)
    classes = _class_names(members)
    word = _layout_word(members)
    used = {member.name for pair in parts.values() for member in pair}
    left = [name for name, member in members.items() if member.name not in used and _key(name) not in _SAYINGS]
    if left:
        notes.append(f"left out: {listed(left)}")
    stored = {split: pair[0].load() for split, pair in parts.items()}
    raw = {parts[split][1].name: _whole(parts[split][1].load()) for split in parts}
    labels_of = dict(zip(parts, raw, strict=True))
    names, labels = class_indices(raw, classes)
    check_lengths(
        {parts[split][0].name: rows.shape[0] for split, rows in stored.items()},
        {name: len(values) for name, values in labels.items()},
    )
    inputs = {parts[split][0].name: rows for split, rows in stored.items()}
    layout = common_layout(inputs, word, notes)
    examples: dict[str, Examples] = {
        split: Arrays(rows, layout, labels[labels_of[split]], Rows((parts[split][0].name,), (rows.shape[0],)))
        for split, rows in stored.items()
    }
    return Source(str(path), "npz", names, **examples, notes=tuple(notes))


def _members(path: Path) -> dict[str, Member]:
    """Every array by name; with several files, under the file's own name or its split's."""
    if path.is_file():
        files = [path] if path.suffix.lower() == ".npz" else files_in(path.parent, ".npy")
    else:
        files = files_in(path, ".npz") or files_in(path, ".npy")
    members: dict[str, Member] = {}
    zips = [file for file in files if file.suffix.lower() == ".npz"]
    for file in files:
        if file.suffix.lower() == ".npy":
            members[file.stem] = describe_npy(file)
            continue
        split = split_in(file.stem) if len(zips) > 1 else None
        if len(zips) > 1 and split is None:
            shown = listed([one.name for one in zips])
            raise UserError(f"{path} holds several sets: {shown}", then=f"name one of them: {zips[0]}")
        for member in describe_npz(file):
            own = _key(member.name) in _SAYINGS or split is None
            name = member.name if own else f"{member.name}_{split}"
            members[name] = Member(name, member.shape, member.dtype, member.load)
    return members


def _sort(where: str, members: dict[str, Member]) -> tuple[dict[str, tuple[Member, Member]], list[str]]:
    """Inputs and labels of each split, and notes."""
    roles: dict[tuple[str, str], Member] = {}
    arrays = {name: member for name, member in members.items() if _key(name) not in _SAYINGS}
    for name, member in arrays.items():
        role = _role(name)
        if role is None:
            continue
        if role in roles:
            raise UserError(
                f"{where}: {roles[role].name} and {name} could both be the {role[1]} of the {role[0]} split",
                allowed=NAMES,
                then="store the arrays under these names, the others under names of their own",
            )
        roles[role] = member
    if not roles and len(arrays) == 2:
        one, other = sorted(arrays.values(), key=lambda member: len(member.shape))
        if len(one.shape) == 1 < len(other.shape):
            roles = {("train", "inputs"): other, ("train", "labels"): one}
    notes: list[str] = []
    parts: dict[str, tuple[Member, Member]] = {}
    for split in ("train", "validation", "test"):
        inputs, labels = roles.get((split, "inputs")), roles.get((split, "labels"))
        if inputs is not None and labels is not None:
            parts[split] = inputs, labels
        elif inputs is not None:
            notes.append(f"left out {inputs.name}: it has no labels")
    if "train" not in parts:
        shown = listed([f"{name} {member.dtype} {member.shape}" for name, member in arrays.items()]) or "nothing"
        lacking = "inputs" if ("train", "labels") in roles else "labels"
        both = not {("train", "labels"), ("train", "inputs")} & set(roles)
        raise UserError(
            f"{where}: which arrays are the {'inputs and labels' if both else lacking} cannot be told from {shown}",
            allowed=NAMES,
            then="np.savez_compressed('data.npz', x_train=..., y_train=..., x_test=..., y_test=...)",
        )
    return parts, notes


_SAYINGS = (*CLASSES, "layout")


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _role(name: str) -> tuple[str, str] | None:
    """Split and role of an array by its name."""
    key = _key(name)
    for word in ("", *sorted(SPLITS, key=len, reverse=True)):
        rest = key.removeprefix(word) if key.startswith(word) else key.removesuffix(word)
        for role, words in (("inputs", INPUTS), ("labels", TARGETS)):
            if rest in words:
                return SPLITS.get(word, "train"), role
    return None


def _class_names(members: dict[str, Member]) -> Sequence[str] | None:
    for name, member in members.items():
        if _key(name) in CLASSES and member.dtype.kind in "US" and len(member.shape) == 1:
            return [str(one) for one in _whole(member.load()).astype(str)]
    return None


def _layout_word(members: dict[str, Member]) -> str | None:
    for name, member in members.items():
        if _key(name) == "layout" and member.dtype.kind in "US":
            return str(_whole(member.load()).astype(str).reshape(-1)[0])
    return None


def _whole(rows: "NDArray[np.generic] | Stored") -> NDArray[np.generic]:
    return rows if isinstance(rows, np.ndarray) else np.concatenate(list(rows.chunks()))
