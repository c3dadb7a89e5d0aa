"""What `engram data` says of a text to write from, of pictures with captions, and of labelled steps."""

from collections import Counter
from typing import Any

from engram.recipe import Recipe

SHOWN = 12


def look(recipe: Recipe, *, json: bool) -> int:
    """Read the data of a recipe that is not of classes, and say what they hold.

    Raises:
        UserError: no such data, or none that can be used.
    """
    import json as jsonlib

    cards = {"write": text_card, "caption": captions_card, "label": steps_card}
    card = cards[recipe.task](recipe)
    if json:
        print(jsonlib.dumps(card, ensure_ascii=False))
    elif recipe.task == "write":
        tell(card)
    elif recipe.task == "label":
        tell_steps(card)
    else:
        from engram.data.captions.caption_card import text_of

        print(text_of(card))
    return 0


def captions_card(recipe: Recipe) -> dict[str, Any]:
    """The card of pictures with captions; see `engram.data.captions.caption_card`."""
    import torch

    from engram.data.captions.caption_card import caption_card
    from engram.data.captions.open_captions import open_captions
    from engram.data.captions.prepare_captions import prepare_captions

    source = open_captions(recipe.data.path)
    text, device = recipe.text, torch.device("cpu")
    return caption_card(
        prepare_captions(source, recipe.data, seed=recipe.seed, device=device, least=text.least, longest=text.longest)
    )


def steps_card(recipe: Recipe) -> dict[str, Any]:
    """How many signals of labelled steps there are, of what length, and how often each class is named."""
    from engram.data.step_labels import hold_out, open_step_labels

    found = hold_out(open_step_labels(recipe.data.path), recipe.data.validation, recipe.seed)
    names = range(len(found.classes))
    return {
        "task": "label",
        "path": found.path,
        "kind": found.kind,
        "classes": list(found.classes),
        "signals": {split: list(own.shape) for split, own in found.signals.items()},
        "counts": {split: [int((own == index).sum()) for index in names] for split, own in found.labels.items()},
        "left_out": {split: int((own < 0).sum()) for split, own in found.labels.items()},
    }


def tell_steps(card: dict[str, Any]) -> None:
    """The card of labelled steps as `engram data` prints it."""
    print(f"{'data':<12}{card['path']} ({card['kind']})")
    for split, (count, channels, length) in card["signals"].items():
        print(f"{split:<12}{count:,} signals of {channels} channels and {length} steps")
    print(f"\n{'class':<12}" + "".join(f"{split:>12}" for split in card["counts"]))
    for index, name in enumerate(card["classes"]):
        print(f"{name:<12}" + "".join(f"{counts[index]:>12,}" for counts in card["counts"].values()))
    print(f"{'not counted':<12}" + "".join(f"{number:>12,}" for number in card["left_out"].values()))


def text_card(recipe: Recipe) -> dict[str, Any]:
    """How long a text is and what it is made of.

    Beside the splits' characters: different characters and words of the training text with how often the most frequent
    occur, and what the other splits hold that the training text lacks.
    """
    from engram.data.texts import open_texts, split_off
    from engram.text.words import of_sentence

    found = split_off(open_texts(recipe.data.path), validation=recipe.data.validation, test=recipe.text.test)
    splits = {name: text for name in ("train", "validation", "test") if (text := getattr(found, name)) is not None}
    letters, words = Counter(found.train), Counter(of_sentence(found.train))
    lengths = sorted(map(len, found.train.splitlines()))
    return {
        "task": "write",
        "path": found.path,
        "kind": found.kind,
        "splits": {name: len(text) for name, text in splits.items()},
        "bytes": {name: len(text.encode()) for name, text in splits.items()},
        "characters": letters.most_common(),
        "different_words": len(words),
        "words": words.most_common(SHOWN),
        "lines": len(lengths),
        "median_line": lengths[len(lengths) // 2] if lengths else 0,
        "only_elsewhere": "".join(sorted(set("".join(splits.values())) - set(found.train))),
        "notes": list(found.notes),
    }


def tell(card: dict[str, Any]) -> None:
    """The card of a text as `engram data` prints it."""
    splits = ", ".join(f"{number:,} {name}" for name, number in card["splits"].items())
    frequent = " ".join(f"{letter!r} {number:,}" for letter, number in card["characters"][:8])
    rows = [
        ("data", f"{card['path']} ({card['kind']})"),
        ("characters", f"{splits}; {len(card['characters'])} different ones in training"),
        ("frequent", frequent),
        ("words", f"{card['different_words']:,} different ones in training"),
        ("", " ".join(f"{word} {number:,}" for word, number in card["words"][:8])),
        ("lines", f"{card['lines']:,}, the median {card['median_line']} characters long"),
    ]
    if card["only_elsewhere"]:
        rows.append(("unknown", f"not in the training text: {card['only_elsewhere']!r}"))
    rows += [("note", note) for note in card["notes"]]
    for label, told in rows:
        print(f"{label:<12}{told}")
