"""The data card of captions: how many of what, how long, which words, and what may be wrong with it."""

from collections import Counter
from typing import Any

from engram.data.captions.prepare_captions import PreparedCaptions
from engram.data.comparison import compare
from engram.data.sources._names import count
from engram.text.words import of_sentence

SHOWN = 20


def caption_card(prepared: PreparedCaptions) -> dict[str, Any]:
    """Plain values that JSON can hold.

    `splits` has for each split the pictures, sentences, words a sentence on average, `lengths` (sentences by their
    number of words, from 0), the share of words that are unknown, and, beside training, `repeated`: sentences that
    stand word for word in training too. `pictures` is what `engram.data.comparison` found of pictures that stand in two
    splits or twice in one, and of those without content. `words` are the most frequent ones of training with their
    counts; `warnings` are in plain words, each with what to do, worst first.

    >>> from engram.data.captions.open_captions import open_captions
    >>> from engram.data.captions.prepare_captions import prepare_captions
    >>> import torch
    >>> from engram.recipe import Data
    >>> card = caption_card(prepare_captions(open_captions("scenes:50"), Data(), seed=0, device=torch.device("cpu")))
    >>> card["splits"]["train"]["pictures"], card["splits"]["train"]["sentences"], card["words"][0][0]
    (50, 250, 'a')
    """
    trained = {tuple(of_sentence(one)) for own in prepared.references["train"] for one in own}
    splits: dict[str, dict[str, Any]] = {}
    counts: Counter[str] = Counter()
    for name, pool in prepared.pools().items():
        cut = [of_sentence(one) for own in prepared.references[name] for one in own]
        lengths = Counter(map(len, cut))
        numbers = prepared.numbered[name]
        splits[name] = {
            "pictures": len(pool.images),
            "sentences": len(cut),
            "left_out": len(numbers.too_long),
            "mean_length": round(sum(map(len, cut)) / len(cut), 2),
            "lengths": [lengths[words] for words in range(max(lengths) + 1)],
            "unknown": round(numbers.unknown / numbers.words, 6),
        }
        if name == "train":
            counts.update(word for words in cut for word in words)
            splits[name]["twice"] = len(cut) - len(set(map(tuple, cut)))
        else:
            splits[name]["repeated"] = sum(tuple(words) in trained for words in cut)
    constant, found = compare({name: pool.images for name, pool in prepared.pools().items()}, ("pictures",))
    order = sorted(counts, key=lambda word: (-counts[word], word))
    card = {
        "path": prepared.path,
        "kind": prepared.kind,
        "shape": list(prepared.shape),
        "stored_shape": list(prepared.stored_shape),
        "mean": [round(float(value), 6) for value in prepared.mean],
        "std": [round(float(value), 6) for value in prepared.std],
        "splits": splits,
        "vocabulary": len(prepared.vocabulary),
        "different_words": len(counts),
        "once": sum(number == 1 for number in counts.values()),
        "words": [[word, counts[word]] for word in order[:SHOWN]],
        "unreadable": [{"name": one.name, "why": one.why} for one in prepared.unreadable[:SHOWN]],
        "unreadable_count": len(prepared.unreadable),
        "pictures": {
            "compared": found.compared,
            "of": found.of,
            "constant": constant[:SHOWN],
            "constant_count": len(constant),
            "copies": found.exact[:SHOWN],
            "copies_count": found.exact_count,
            "across": found.across[:SHOWN],
            "across_count": found.across_count,
        },
        "places_known": prepared.places is not None,
        "notes": list(prepared.notes),
    }
    return {**card, "warnings": _warnings(card)}


def _warnings(card: dict[str, Any]) -> list[str]:
    found: list[str] = []
    pictures = card["pictures"]
    if pictures["across_count"]:
        first = " = ".join(pictures["across"][0][:2])
        found.append(
            f"{count(pictures['across_count'], 'picture')} to judge by that an earlier split shows too, or nearly so: "
            f"{first}; take them out of training, or the result will look better than it is"
        )
    if card["unreadable_count"]:
        first = card["unreadable"][0]["name"]
        found.append(
            f"{count(card['unreadable_count'], 'picture')} that could not be read, {first} first; repair or remove them"
        )
    for name, split in card["splits"].items():
        if card["kind"] != "scenes" and split.get("repeated", 0) > split["sentences"] / 2:
            found.append(
                f"more than half of the sentences of {name} stand in training too; a network can score well by rote, "
                "look at the sentences of single pictures"
            )
        if split["unknown"] > 0.05:
            found.append(f"{split['unknown']:.0%} of the words in {name} are unknown; keep rarer words (least)")
    if card["splits"]["train"]["pictures"] < 1000:
        found.append(
            f"{card['splits']['train']['pictures']:,} training pictures are few to learn to see from; "
            "start from a trained encoder"
        )
    return found


def text_of(card: dict[str, Any]) -> str:
    """The card as `engram data` prints it."""
    lines = [f"{'data':<12}{card['path']} ({card['kind']})"]
    lines.append(f"{'size':<12}the network sees {'x'.join(map(str, card['shape']))}")
    lines.append(
        f"{'vocabulary':<12}{card['vocabulary']:,} tokens, of {card['different_words']:,} words in training, "
        f"{card['once']:,} of which occur once"
    )
    lines.append(f"{'frequent':<12}" + " ".join(f"{word} {number:,}" for word, number in card["words"][:8]))
    pictures = card["pictures"]
    lines.append(
        f"{'duplicates':<12}{pictures['copies_count']:,} copies, {pictures['across_count']:,} across splits, "
        f"{pictures['constant_count']:,} of one single value ({pictures['compared']:,} of {pictures['of']:,} compared)"
    )
    heads = ("pictures", "sentences", "words each", "longest", "unknown", "in training")
    lines += ["", " " * 12 + "".join(f"{head:>12}" for head in heads)]
    for name, split in card["splits"].items():
        cells = (
            f"{split['pictures']:,}",
            f"{split['sentences']:,}",
            f"{split['mean_length']:.1f}",
            f"{len(split['lengths']) - 1}",
            f"{split['unknown']:.1%}",
            f"{split['repeated']:,}" if "repeated" in split else "",
        )
        lines.append((f"{name:<12}" + "".join(f"{cell:>12}" for cell in cells)).rstrip())
    for title in ("notes", "warnings"):
        if card[title]:
            lines += ["", title, *(f"  {line}" for line in card[title])]
    return "\n".join(lines)
