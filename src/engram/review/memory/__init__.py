"""Memory models: how likely an example is still known after a delay, each a published formula, fitted as it is used.

A model keeps two numbers an example and answers for whole tensors at once: `first` and `visit` make the numbers,
`recall` and `interval` read them, `fit` lets the parameters follow what was observed (`model.Memory`).
"""

from collections.abc import Mapping
from typing import Any

from engram import registry
from engram.review.memory.model import FOREVER, Memory
from engram.review.memory.record import RECALLED, Record

__all__ = ["FOREVER", "RECALLED", "Memory", "Record", "build", "published"]


def build(name: str, settings: Mapping[str, Any] | None = None) -> Memory:
    """The memory model of that name.

    Raises:
        UserError: no such model, no such setting, or a value out of its bounds.

    >>> import torch
    >>> memory = build("power_law", {"start": 10})
    >>> strength, difficulty = memory.first(torch.ones(1))
    >>> round(memory.recall(torch.tensor([10.0]), strength, difficulty).item(), 3)
    0.9
    """
    entry = registry.find("memory", name)
    registry.check_settings(entry, settings or {})
    return entry.build(**(settings or {}))


def published(name: str) -> dict[str, float]:
    """The settings that its paper gives for people, where it gives any; the clock's unit is then the paper's.

    >>> published("sm2")["first"]
    1.0
    """
    return dict(registry.find("memory", name).facts.get("published", {}))
