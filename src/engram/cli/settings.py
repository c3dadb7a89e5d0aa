"""Recipe settings among the words of a command line: `--optimizer.lr 1e-3`, `--epochs=20`, `--optimizer.decay_all`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engram import recipe
from engram.recipe import options

OWN = ("recipe", "plan", "json", "tensorboard", "fix", "help", "version")
"""Options of the verbs themselves; every other option names a setting of the recipe."""

WITH_A_VALUE = ("recipe", "tensorboard")
"""Those of them that are followed by a word."""


def split(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The words that are not recipe settings, and the settings as dotted name -> text.

    A name alone means true; of a name given twice the last counts, so that a script's words can be added to.

    >>> split(["train", "--plan", "--optimizer.lr", "1e-3", "--epochs=2"])
    (['train', '--plan'], {'optimizer.lr': '1e-3', 'epochs': '2'})
    """
    rest: list[str] = []
    settings: dict[str, str] = {}
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name in OWN:
            rest.append(word)
            if name in WITH_A_VALUE and not equals and queue:
                rest.append(queue.pop(0))
            continue
        if not equals:
            value = queue.pop(0) if queue and not queue[0].startswith("--") else "true"
        settings[name] = value
    return rest, settings


def refuse_unknown(verb: str, command: Callable[..., Any], settings: Mapping[str, str]) -> None:
    """Refuse what is neither a setting of the recipe nor an option of the verb, of which it may be one mistyped.

    Raises:
        UserError: as said, with the nearest of both.
    """
    own = [option for option in recipe.options_of(command) if option != "settings"]
    recipe.refuse_unknown(settings, where=f"engram {verb}", own=own, then=f"engram {verb} --help lists them")


def list_all(task: str) -> None:
    """Every setting of the recipe with its sentence and a task's default, below a verb's own help."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    title = f"Settings of the recipe, as --task {task} has them"
    table = Table(box=box.ROUNDED, show_header=False, title=title, title_justify="left", expand=True)
    table.add_column(no_wrap=True, style="cyan")
    table.add_column(ratio=1)
    for name, about, default in options(task):
        shown = f" [dim]{escape(f'[{default}]')}[/dim]" if default else ""
        table.add_row(f"--{name}", escape(about) + shown)
    Console(highlight=False).print(table)
