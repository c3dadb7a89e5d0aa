"""`engram data`: look at a data set before training on it."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engram.data.card import Card


def data(
    path: str = "digits",
    /,
    *,
    task: str = "classify",
    sheet: Path | None = None,
    json: bool = False,
    image_size: int | None = None,
    validation: float = 0.1,
    seed: int = 0,
) -> int:
    """Say what a data set holds and what may be wrong with it: counts, sizes, damaged files, duplicates, imbalance.

    Parameters
    ----------
    path
        A folder, a file, or one of the names digits, mnist, fashion_mnist, cifar10, cifar100; a text; captions.
    task
        What it is for: classify, write (a text), caption (pictures with sentences) or label (every step).
    sheet
        Where to write a PNG with pictures of each class.
    json
        The whole card as JSON instead of text.
    image_size
        Side of the square the network would see, pixels.
    validation
        Share of the training split that would be held out.
    seed
        Of that split.
    """
    import json as jsonlib

    import torch

    from engram import atomic
    from engram.cli.console import open_console
    from engram.data.card import make_card, sheet_of_classes
    from engram.data.open import open_source
    from engram.data.prepare import prepare
    from engram.recipe import build

    settings = {"data": path, "data.image_size": image_size, "data.validation": validation, "seed": seed}
    recipe = build({"task": task, **settings}, where="engram data")
    if task != "classify":
        from engram.cli.data_words import look

        return look(recipe, json=json)
    with open_console(json=json) as console:

        def reading(done: int, total: int) -> None:
            console.progress("reading", done, total)

        source = open_source(recipe.data.path, progress=lambda done, total: console.progress("copying", done, total))
        prepared = prepare(source, recipe.data, seed=seed, device=torch.device("cpu"), progress=reading)
        card = make_card(prepared, source)
    if json:
        print(jsonlib.dumps(card.to_dict(), ensure_ascii=False))
    else:
        tell(card)
    if sheet is not None:
        picture = sheet_of_classes(prepared)
        if picture is None:
            print("no sheet: these examples are no pictures")
        else:
            atomic.write(sheet, picture)
            print(f"{'sheet':<12}{sheet}")
    return 0


def tell(card: "Card") -> None:
    """The card as text."""

    def say(label: str, text: str) -> None:
        print(f"{label:<12}{text}")

    splits = ", ".join(f"{sum(counts):,} {name}" for name, counts in card.counts.items())
    say("data", f"{card.path} ({card.kind})")
    say("examples", f"{splits}; {len(card.classes)} classes")
    sizes = card.sizes
    span = f"{times(sizes['smallest'])} to {times(sizes['largest'])}" if sizes["smallest"] != sizes["largest"] else ""
    say("size", f"{span or times(sizes['smallest'])}; the network sees {times(card.shape)}, {card.dtype}")
    say("mean", " ".join(f"{value:.2f}" for value in card.mean))
    say("deviation", " ".join(f"{value:.2f}" for value in card.std))
    say("imbalance", f"{card.imbalance:.1f} to 1; as varied as {card.effective_classes:.1f} equal classes")
    found = card.duplicates
    say(
        "duplicates",
        f"{found.exact_count:,} copies, {found.near_count:,} near, {found.across_count:,} across splits, "
        f"{found.conflicting_count:,} with two labels ({found.compared:,} compared)",
    )
    print()
    width = max(len(name) for name in card.classes)
    print(f"{'class':<{width}}  " + "  ".join(f"{name:>10}" for name in card.counts))
    for index, name in enumerate(card.classes):
        print(f"{name:<{width}}  " + "  ".join(f"{counts[index]:>10,}" for counts in card.counts.values()))
    listed("could not be read", [f"{one['name']}: {one['why']}" for one in card.unreadable], card.unreadable_count)
    listed("in more than one split", [" = ".join(group) for group in found.across], found.across_count)
    listed("two labels", [" = ".join(group) for group in found.conflicting], found.conflicting_count)
    listed("copies", [" = ".join(group) for group in found.exact], found.exact_count)
    listed("nearly the same", [" ~ ".join(pair) for pair in found.near], found.near_count)
    listed("one single value", card.constant, card.constant_count)
    listed("notes", card.notes, len(card.notes))
    listed("warnings", [str(one) for one in card.warnings], len(card.warnings))


def listed(title: str, rows: list[str], count: int) -> None:
    """A titled list, which says how many more there are than it shows."""
    if not rows:
        return
    print(f"\n{title}")
    for row in rows:
        print(f"  {row}")
    if count > len(rows):
        print(f"  and {count - len(rows):,} more")


def times(sides: list[int]) -> str:
    return "x".join(map(str, sides))
