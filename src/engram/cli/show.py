"""`engram show`: what there is to choose from, and everything about one of it."""

from typing import TYPE_CHECKING, Any

from engram.cli.printing import WIDE, console, count, plain, size

if TYPE_CHECKING:
    from engram.registry import Entry

KINDS = (
    "models",
    "writers",
    "captioners",
    "initializers",
    "optimizers",
    "schedules",
    "regularizers",
    "augmentations",
    "sources",
    "reviews",
    "memories",
    "diagnoses",
    "attributions",
)
CLAIMS = "claims"
DOTTED = {kind: kind for kind in ("model", "optimizer", "schedule", "review")} | {
    "writer": "model",
    "captioner": "model",
}
"""Kinds whose settings are dotted options, and of what; those of the others are part of a word, as in `crop:4`."""


def show(kind: str = "", pattern: str = "*", /, *, language: str = "en", json: bool = False) -> int:
    """Show what there is: models, optimizers, augmentations and more, one alone with its whole card; and the claims.

    Parameters
    ----------
    kind
        models, writers, captioners, initializers, optimizers, schedules, regularizers, augmentations, sources, reviews,
        memories, diagnoses, attributions, or claims: what the notes say that all this grew from, and whether it is so.
    pattern
        A name, or a pattern such as "*res*" (in quotes, so that the shell leaves it alone); of claims a number such as
        N34, a verdict or a topic.
    language
        Of the claims: en or zh.
    json
        One JSON object a line instead of text.
    """
    import json as jsonlib

    from engram import registry
    from engram.errors import unknown

    singulars = {registry.plural(one): one for one in registry.HOMES}
    if not kind:
        contents({word: registry.names(singulars[word]) for word in KINDS})
        return 0
    if kind in (CLAIMS, "claim"):
        from engram.cli import show_claims

        return show_claims.show(pattern, language=language, json=json)
    singular = singulars.get(kind, kind)
    if registry.plural(singular) not in KINDS:
        raise unknown("kind", kind, [*KINDS, CLAIMS], then="engram show")
    names = registry.names(singular, pattern)
    if not names and pattern != "*":
        registry.find(singular, pattern)  # says what the nearest is; a file of one's own is found
        names = [pattern]
    entries = [registry.find(singular, name) for name in names]
    if json:
        for entry in entries:
            print(jsonlib.dumps(facts_of(entry), ensure_ascii=False, default=str))
    elif not entries:
        print(f"there are no {registry.plural(singular)}")
    elif len(entries) == 1:
        card(entries[0])
    else:
        overview(entries)
    return 0


def contents(names: dict[str, list[str]]) -> None:
    """What can be shown, with the first names of each kind."""
    from engram.claims import claims

    for word, known in names.items():
        few = ", ".join(known[:6]) + (" …" if len(known) > 6 else "")
        print(f"{word:<15}{few or 'none'}   engram show {word}")
    print(f"{CLAIMS:<15}{len(claims())} sentences of the notes, right or wrong   engram show {CLAIMS}")


def facts_of(entry: "Entry") -> dict[str, Any]:
    """Everything the registry knows of an entry that can be written down."""
    facts = {key: value for key, value in entry.facts.items() if not callable(value)}
    if entry.kind == "model":
        from engram.cli.network_memory import training_memory

        facts["training_memory"] = training_memory(entry)
    return {
        "name": entry.name,
        "kind": entry.kind,
        "summary": entry.summary,
        "paper": entry.paper,
        "year": entry.year,
        "settings": settings_of(entry),
        **({"settings_of_every_method": course()} if entry.kind == "review" else {}),
        **facts,
    }


def settings_of(entry: "Entry") -> dict[str, Any]:
    """What a person can set, with its default; what the data decides is left out."""
    import inspect

    filled_in = (
        "num_classes", "in_channels", "image_size", "dimensions", "vocabulary", "shape", "parameters", "size", "mean",
        "palette", "history", "net", "x", "y", "path", "progress",
    )  # fmt: skip
    parameters = inspect.signature(entry.build).parameters.values()
    return {
        one.name: None if one.default is one.empty else one.default
        for one in parameters
        if one.name not in filled_in and one.kind is not one.VAR_KEYWORD
    }


def course() -> dict[str, dict[str, Any]]:
    """What can be set beside the settings of any review method: the default, what is allowed, and what it is."""
    from dataclasses import asdict

    from engram.review.course import COURSE

    return {name: asdict(setting) for name, setting in COURSE.items()}


def overview(entries: list["Entry"]) -> None:
    """A table of many entries, a row each."""
    from rich import box
    from rich.table import Table

    is_model = entries[0].kind == "model"
    screen = console()
    wide = screen.width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", padding=(0, 1) if wide else (0, 1, 0, 0))
    table.add_column("name", no_wrap=True)
    if is_model:
        table.add_column("paper", no_wrap=True)
    table.add_column("year", no_wrap=True)
    titles = ("parameters", "multiply-adds", "to train") if wide else ("weights", "MACs", "to train")
    for title in titles if is_model else ():
        table.add_column(title, justify="right", no_wrap=True)
    told = not is_model or wide
    if told:
        table.add_column("what it is")
    for entry in entries:
        cells = [entry.name, *([authors(entry, most=2 if wide else 1)] if is_model else []), str(entry.year or "")]
        cells += costs(entry) if is_model else []
        table.add_row(*map(plain, cells), *([plain(entry.summary)] if told else []))
    screen.print(table)
    if is_model:
        screen.print(
            "multiply-adds (MACs) of one input; to train: memory of a step with one input, in float32 with momentum"
        )


def costs(entry: "Entry") -> list[str]:
    """A network's parameters, multiply-adds and memory to train one input."""
    from engram.cli.network_memory import training_memory

    memory = training_memory(entry)
    counts = [count(entry.facts.get("parameters")), count(entry.facts.get("macs"))]
    return [*counts, "" if memory is None else size(memory)]


def authors(entry: "Entry", *, most: int = 2) -> str:
    """Who wrote it, short enough for a column: all names where there are not more than `most`.

    >>> from engram.registry import find
    >>> authors(find("model", "resnet20")), authors(find("model", "zfnet"))
    ('He et al.', 'Zeiler, Fergus')
    """
    names = entry.paper.partition(str(entry.year))[0].strip(" ,").replace(" and ", ", ").split(", ")
    return f"{names[0]} et al." if len(names) > most else ", ".join(names)


def card(entry: "Entry") -> None:
    """Everything about one entry: what it does, its settings, its paper, its method's card, and a network's layers."""
    import inspect
    import sys

    print(f"{entry.kind} {entry.name}")
    if entry.paper:
        print(f"{entry.paper}{f' ({entry.year})' if entry.year and str(entry.year) not in entry.paper else ''}")
    print(f"\n{without_examples(inspect.getdoc(entry.build) or entry.summary)}")
    settings = settings_of(entry)
    if settings:
        print("\nsettings")
        prefix = f"--{DOTTED[entry.kind]}." if entry.kind in DOTTED else ""
        for name, default in settings.items():
            print(f"  {prefix}{name}  [{default}]")
    if entry.kind == "review":
        print("\nsettings of every method")
        for name, one in course().items():
            print(f"  --review.{name}  [{one['default']}]  {', '.join(one['allowed'])}\n      {one['about']}")
    module = sys.modules.get(entry.build.__module__)
    if module is not None and module.__doc__ and entry.kind != "source":
        text = without_examples(inspect.cleandoc(module.__doc__))
        print("\n" + text.removeprefix(entry.summary).lstrip("\n"))  # many a card begins with the summary
    if entry.kind == "model" and "input" in entry.facts:
        from engram.cli import show_network

        show_network.layers(entry)


def without_examples(text: str) -> str:
    """A docstring without the examples that tests run.

    >>> without_examples("Adds.\\n\\n>" + ">> 1 + 1\\n2\\n\\nMore.")
    'Adds.\\n\\nMore.'
    """
    paragraphs = text.split("\n\n")
    return "\n\n".join(one for one in paragraphs if not one.lstrip().startswith(">>> "))
