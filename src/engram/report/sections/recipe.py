"""What was run: the settings that differ from the defaults, the command, and the recipe whole."""

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from engram.recipe import Recipe, dumps
from engram.report.markup import Markup, join, table, tag
from engram.report.run_folder import Run, text

ORDER = 80
TITLE = "Recipe"

LONGEST = 20_000


def section(run: Run) -> Markup | None:
    if not run.recipe_text and not run.command:
        return None
    differing = list(changed(run.recipe))
    return join(
        [
            tag("h3", "Command"),
            tag("pre", text(run.command, limit=LONGEST), tabindex=0) if run.command else None,
            table("Set otherwise than by default", ("setting", "here", "by default"), differing) if differing else None,
            tag(
                "details",
                tag("summary", "The whole recipe"),
                tag("pre", text(run.recipe_text, limit=LONGEST), tabindex=0),
            ),
        ]
    )


def changed(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(setting, value, default) of every setting that differs; a default that is none is a dash."""
    usual = flat(tomllib.loads(dumps(Recipe())))
    for name, value in flat(recipe).items():
        if value != usual.get(name) and name != "output":
            yield text(name), text(value), text(usual.get(name, "–"))


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names.

    >>> flat({"optimizer": {"lr": 0.1}})
    {'optimizer.lr': 0.1}
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
