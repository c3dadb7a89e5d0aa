"""Settings that go with every review method: those of the `Reviewer`, which a recipe has under `review` as well."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engram.review.recall import MEASURES
from engram.review.reviewer import CLOCKS, Reviewer


@dataclass(frozen=True)
class Setting:
    """One of them: its default, what it can be, and a sentence."""

    default: Any
    allowed: tuple[str, ...]
    about: str


_PARAMETERS = inspect.signature(Reviewer).parameters

COURSE: Mapping[str, Setting] = {
    name: Setting(_PARAMETERS[name].default, allowed, about)
    for name, allowed, about in (
        (
            "clock",
            CLOCKS,
            "what the time between visits is counted in; updates are visits scaled by the learning rate",
        ),
        (
            "measure",
            MEASURES,
            "what counts as recall; by default it is relative where the task is write or caption",
        ),
        (
            "permuted",
            ("true", "false"),
            "the method sees what is remembered of other examples: the control that knows nothing about them",
        ),
    )
}
"""Name -> setting."""
