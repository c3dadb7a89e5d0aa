"""Recipe settings among the words of a command line: `--optimizer.lr 1e-3`, `--epochs=20`, `--optimizer.decay_all`."""

from collections.abc import Sequence

from engram.errors import UserError

OWN = ("recipe", "plan", "json", "help", "version")
"""Options of the verbs themselves; every other option names a setting of the recipe."""


def split(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The words that are not recipe settings, and the settings as dotted name -> text. A name alone means true.

    Raises:
        UserError: a setting given twice.

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
            if name == "recipe" and not equals and queue:
                rest.append(queue.pop(0))
            continue
        if not equals:
            value = queue.pop(0) if queue and not queue[0].startswith("--") else "true"
        if name in settings:
            raise UserError(f"--{name} is given twice: {settings[name]} and {value}")
        settings[name] = value
    return rest, settings
