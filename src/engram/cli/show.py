"""`engram show`: what there is to choose from, and everything about one of it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engram.registry import Entry

KINDS = ("models", "optimizers", "schedules", "augmentations", "sources", "reviews", "memories")


def show(kind: str = "", pattern: str = "*", /, *, json: bool = False) -> int:
    """Show what there is: models, optimizers, schedules, augmentations and more; one alone with its whole card.

    Parameters
    ----------
    kind
        models, optimizers, schedules, augmentations, sources, reviews or memories.
    pattern
        A name, or a pattern such as "*res*" (in quotes, so that the shell leaves it alone).
    json
        One JSON object a line instead of text.
    """
    import json as jsonlib

    from engram import registry
    from engram.errors import unknown

    singulars = {registry.plural(one): one for one in registry.HOMES}
    if not kind:
        for word in KINDS:
            print(f"{word:<15}{', '.join(registry.names(singulars[word])[:6])} …   engram show {word}")
        return 0
    singular = singulars.get(kind, kind)
    if registry.plural(singular) not in KINDS:
        raise unknown("kind", kind, KINDS, then="engram show")
    names = registry.names(singular, pattern)
    if not names:
        registry.find(singular, pattern)  # says what the nearest is; a file of one's own is found
        names = [pattern]
    entries = [registry.find(singular, name) for name in names]
    if json:
        for entry in entries:
            print(jsonlib.dumps(facts_of(entry), ensure_ascii=False, default=str))
    elif len(entries) == 1:
        card(entries[0])
    else:
        overview(entries)
    return 0


def facts_of(entry: "Entry") -> dict[str, Any]:
    """Everything the registry knows of an entry that can be written down."""
    facts = {key: value for key, value in entry.facts.items() if not callable(value)}
    return {
        "name": entry.name,
        "kind": entry.kind,
        "summary": entry.summary,
        "paper": entry.paper,
        "year": entry.year,
        "settings": settings_of(entry),
        **facts,
    }


def settings_of(entry: "Entry") -> dict[str, Any]:
    """What a person can set, with its default; what the data decides is left out."""
    import inspect

    filled_in = ("num_classes", "in_channels", "image_size", "dimensions", "parameters", "size", "mean", "palette")
    parameters = inspect.signature(entry.build).parameters.values()
    return {
        one.name: None if one.default is one.empty else one.default
        for one in parameters
        if one.name not in filled_in and one.kind is not one.VAR_KEYWORD
    }


def overview(entries: list["Entry"]) -> None:
    """A table of many entries, a row each."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    is_model = entries[0].kind == "model"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    for title in ("parameters", "multiply-adds", "input") if is_model else ():
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("year", no_wrap=True)
    table.add_column("what it is")
    for entry in entries:
        facts = entry.facts
        costs = (
            [count(facts.get("parameters")), count(facts.get("macs")), "x".join(map(str, facts.get("input", ())))]
            if is_model
            else []
        )
        table.add_row(entry.name, *costs, str(entry.year or ""), plain(entry.summary))
    Console(highlight=False).print(table)


def card(entry: "Entry") -> None:
    """Everything about one entry: the text of its module, its settings, its paper, and a model's layers."""
    import inspect
    import sys

    print(f"{entry.kind} {entry.name}")
    print(f"{entry.paper}{f' ({entry.year})' if entry.year and str(entry.year) not in entry.paper else ''}\n")
    print(inspect.getdoc(entry.build) or entry.summary)
    settings = settings_of(entry)
    if settings:
        print("\nsettings")
        prefix = "" if entry.kind in ("augmentation", "memory") else f"--{entry.kind}."
        for name, default in settings.items():
            print(f"  {prefix}{name}  [{default}]")
    module = sys.modules.get(entry.build.__module__)
    if module is not None and module.__doc__ and entry.kind != "source":
        print(f"\n{inspect.cleandoc(module.__doc__)}")
    if entry.kind == "model" and "input" in entry.facts:
        layers(entry)


def layers(entry: "Entry") -> None:
    """A model's layers: the shape each gives, its parameters and multiply-adds; and the memory training keeps."""
    import torch
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from engram import accounting, models

    shape = tuple(entry.facts["input"])
    with torch.device("meta"):
        net = models.build(entry.name, shape=shape, num_classes=entry.facts.get("num_classes", 10))
    account = accounting.account(net, shape)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", title=f"one input of {times(shape)}")
    table.add_column("layer")
    table.add_column("type")
    for title in ("output", "parameters", "multiply-adds"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in account.rows:
        table.add_row(row.name, row.kind, times(row.output), f"{row.parameters:,}", f"{row.macs:,}")
    table.add_section()
    table.add_row("total", "", times(account.output), f"{account.parameters:,}", f"{account.macs:,}")
    console = Console(highlight=False)
    console.print(table)
    needed = accounting.memory(net, shape)
    console.print(
        f"training keeps {needed.total(1) / 2**20:,.1f} MiB for one input "
        f"and {needed.total(128) / 2**20:,.0f} MiB for a batch of 128, in float32 with momentum"
    )


def count(number: int | None) -> str:
    """A count short enough for a column.

    >>> count(269722), count(40551040), count(None)
    ('269,722', '40.6 M', '')
    """
    if number is None:
        return ""
    if number < 1_000_000:
        return f"{number:,}"
    return f"{number / 1e6:,.1f} M" if number < 1e9 else f"{number / 1e9:,.2f} G"


def times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def plain(text: str) -> str:
    """Text in which rich sees no markup."""
    from rich.markup import escape

    return escape(text)
