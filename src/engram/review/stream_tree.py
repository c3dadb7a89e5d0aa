"""A batch as named columns: what lies at the ends of its nested dictionaries, lists and tuples.

A column is a tensor whose first axis is the examples, or a list of plain values (texts, numbers), one an example:

    (x, {"text": ["a", "b"], "boxes": (boxes, classes)})   ->   0, 1.text, 1.boxes.0, 1.boxes.1

Columns of two batches of one form are joined end to end, and put back into the form they came in.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from engram.errors import UserError

Column = Tensor | list[Any]
PLAIN = (str, bytes, int, float, type(None))


def columns(tree: Any) -> dict[str, Column]:
    """The columns of a batch by their path, in their order.

    Raises:
        UserError: something that has no rows, no column at all, or columns of different lengths.

    >>> {path: len(column) for path, column in columns((torch.zeros(2, 3), {"text": ["a", "b"]})).items()}
    {'0': 2, '1.text': 2}
    """
    found = dict(_walk(tree, ""))
    lengths = {path: len(column) for path, column in found.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{path or 'the batch'} {length}" for path, length in lengths.items())
        raise UserError(f"the parts of this batch have different numbers of examples: {listed}")
    if not found or not next(iter(lengths.values())):
        raise UserError("this batch holds no examples")
    return found


def rebuilt(tree: Any, parts: Mapping[str, Column]) -> Any:
    """The form of `tree` with these columns in it.

    >>> rebuilt([torch.zeros(1), ("a",)], {"0": torch.ones(2), "1": ["b", "c"]})
    [tensor([1., 1.]), ('b', 'c')]
    """
    return _rebuild(tree, "", parts)


def _walk(tree: Any, path: str) -> Iterator[tuple[str, Column]]:
    if isinstance(tree, Tensor):
        if not tree.ndim:
            raise UserError(f"{path or 'the batch'} is a single number", allowed="one row an example")
        yield path, tree
    elif isinstance(tree, list | tuple) and tree and all(isinstance(value, PLAIN) for value in tree):
        yield path, list(tree)
    elif isinstance(tree, Mapping):
        for key, part in tree.items():
            yield from _walk(part, _under(path, key))
    elif isinstance(tree, list | tuple):
        for place, part in enumerate(tree):
            yield from _walk(part, _under(path, place))
    else:
        raise UserError(
            f"{path or 'the batch'} is of type {type(tree).__name__}",
            allowed="tensors, and lists, tuples and dictionaries of them",
            then="turn arrays into tensors: torch.as_tensor(array)",
        )


def _rebuild(tree: Any, path: str, parts: Mapping[str, Column]) -> Any:
    if path in parts:
        column = parts[path]
        return column if isinstance(column, Tensor) or isinstance(tree, list) else tuple(column)
    if isinstance(tree, Mapping):
        return {key: _rebuild(part, _under(path, key), parts) for key, part in tree.items()}
    filled = [_rebuild(part, _under(path, place), parts) for place, part in enumerate(tree)]
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):  # a named tuple
        return type(tree)(*filled)
    return type(tree)(filled)


def _under(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def taken(column: Column, rows: Tensor) -> Column:
    """The rows at these places, in their order."""
    if isinstance(column, Tensor):
        return column[rows.to(column.device)]
    return [column[row] for row in rows.tolist()]


def joined(first: Column, second: Column) -> Column:
    """Two columns end to end, on the device of the first."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.cat([first, second.to(first.device, non_blocking=True)])
    return [*first, *second]
