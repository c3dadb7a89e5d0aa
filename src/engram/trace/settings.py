"""What an operation was called with beside tensors, short enough to stand beside its name."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from engram.trace.rules import rule_of

USUAL = {
    "stride": (1, None),
    "padding": (0,),
    "dilation": (1,),
    "groups": (1,),
    "count_include_pad": (True,),
    "layers": (1,),
    "dropout": (0.0,),
}
"""What goes without saying."""
INDICES = ("getitem", "setitem", "permute", "transpose", "movedim", "flip", "roll")
"""Of what takes places and not sizes."""
LONGEST = 40
"""Characters."""


def told(name: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> str:
    """The settings of a call for a person.

    >>> import torch
    >>> x = torch.zeros(2)
    >>> told("max_pool2d", [x, (2, 2), None, 1], {"ceil_mode": False})
    '2, padding 1'
    >>> told("getitem", [x, (0, slice(1, None))], {})
    '0, 1:'
    >>> told("multiply", [x, 2.0], {})
    '2'
    """
    known = rule_of(name).settings
    given: list[tuple[str, Any]] = []
    for place, value in enumerate(arguments):
        if known and (place >= len(known) or not known[place]):
            continue
        given.append((known[place] if known else "", value))
    given += [(key, value) for key, value in named.items() if not known or key in known]
    parts: list[str] = []
    for key, value in given:
        text = _short(value, index=name in INDICES)
        if text is None or _plain(value) in USUAL.get(key, ()):
            continue
        shown = key.replace("_", " ") if parts or key not in ("kernel_size", "output", "groups", "equation") else ""
        parts.append(shown if shown and value is True else f"{shown} {text}".strip())
    line = ", ".join(parts)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _plain(value: Any) -> Any:
    """One number for a row of the same, as in a stride of (2, 2)."""
    if isinstance(value, tuple | list) and value and all(isinstance(one, int) and one == value[0] for one in value):
        return value[0]
    return value


def _short(value: Any, *, index: bool) -> str | None:
    """None for what is a tensor, or says nothing."""
    if isinstance(value, Tensor) or value is None or value is False:
        return "None" if index and value is None else None
    if value is True:
        return "true"
    if isinstance(value, slice):
        bounds = ["" if one is None else str(one) for one in (value.start, value.stop)]
        return ":".join([*bounds, *([str(value.step)] if value.step is not None else [])])
    if value is Ellipsis:
        return "…"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int | str):
        return str(value)
    if isinstance(value, tuple | list):
        plain = value if index else _plain(value)
        if not isinstance(plain, tuple | list):
            return _short(plain, index=index)
        parts = [_short(one, index=index) for one in plain]
        return (
            None
            if not parts or None in parts
            else ("x" if not index and len(parts) <= 3 else ", ").join(map(str, parts))
        )
    return str(value).removeprefix("torch.") if type(value).__module__.startswith("torch") else None
