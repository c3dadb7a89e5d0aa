"""A network's layers in `engram show models NAME`: what each gives, costs, sees of the input and holds in memory."""

from typing import TYPE_CHECKING, Any

from engram.cli.printing import WIDE, console, count, plain, size, times

if TYPE_CHECKING:
    from rich.table import Table

    from engram.registry import Entry


def layers(entry: "Entry") -> None:
    """The table of layers for one input of the published size, and the memory that training takes."""
    import torch

    from engram import accounting, models

    shape = tuple(entry.facts["input"])
    with torch.device("meta"):
        net = models.build(entry.name, shape=shape, num_classes=entry.facts.get("num_classes", 10))
    costs = accounting.table(net, shape)
    screen = console()
    wide = screen.width >= WIDE
    screen.print(table_of_layers(costs, wide=wide))
    evaluation = "evaluation: most in memory while the layer runs. " if wide else ""
    screen.print(
        f"sees: pixels of the input that one value depends on, also past its border. {evaluation}training: what it "
        "keeps for the backward pass. Of one input, in float32, without weights.\n"
    )
    weights, gradients = (size(costs["total"][word]) for word in ("weights", "gradients"))
    screen.print(f"A step of training, at its fullest, with {weights} of weights and {gradients} of gradients:")
    screen.print(table_of_training(costs))


def table_of_layers(costs: dict[str, Any], *, wide: bool) -> "Table":
    """A row for each layer; where it is narrow, large counts are rounded, types and evaluation left out."""
    exactly = (lambda number: f"{number:,}") if wide else count
    table = _table(f"one input of {times(costs['input'])}")
    table.add_column("layer", overflow="fold")
    if wide:
        table.add_column("type")
    titles = ["output", "parameters", "multiply-adds" if wide else "MACs", "sees", *(["evaluation"] if wide else [])]
    for title in (*titles, "training"):
        table.add_column(title, justify="right", no_wrap=True)

    def add(row: dict[str, Any], name: str, kind: str) -> None:
        cells = [plain(name), *([kind] if wide else []), times(row["output"])]
        cells += [exactly(row["parameters"]), exactly(row["macs"]), field(row.get("receptive_field", []))]
        table.add_row(*cells, *([size(row["held"])] if wide else []), size(row["kept"]))

    for row in costs["rows"]:
        add(row, row["layer"], row["type"])
    table.add_section()
    add(costs["total"], "total", "")
    return table


def table_of_training(costs: dict[str, Any]) -> "Table":
    """What a step takes at its fullest, by optimiser and size of the batch."""
    total = costs["total"]
    table = _table()
    table.add_column("optimiser")
    table.add_column("keeps", justify="right")
    for one in total["training"]:
        table.add_column("one input" if one["batch"] == 1 else f"batch of {one['batch']}", justify="right")
    for name, kept in total["optimizer"].items():
        table.add_row(name, size(kept), *(size(one[name]) for one in total["training"]))
    return table


def field(axes: list[int]) -> str:
    """How much is seen: one number where it is the same in every direction.

    >>> field([212, 212]), field([5, 3]), field([])
    ('212', '5x3', '')
    """
    return str(axes[0]) if axes and len(set(axes)) == 1 else times(axes)


def _table(title: str | None = None) -> "Table":
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", title=title, title_justify="left")
