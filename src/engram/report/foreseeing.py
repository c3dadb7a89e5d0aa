"""The verdict on a network that foresees words: one that writes, or one that captions.

Its figure is the loss, in nats a character or a word, and what that means: e to the loss is among how many equally
likely ones it is as unsure. No HTML here, as in `engram.report.verdict`.
"""

import math
from collections.abc import Mapping
from typing import Any

from engram.report.run_folder import SPLITS, Run, finite
from engram.report.words import number

Figure = tuple[str, str, str]  # name, value, hint


def figures_of(run: Run) -> tuple[Mapping[str, Any], str]:
    """(figures of the best weights, split): of an evaluation, else of the best pass; {} where nothing was measured."""
    for split in () if run.state == "training" else SPLITS:  # an evaluation there is of before it was resumed
        if split in run.evaluations:
            return run.evaluations[split].summary, split
    best = run.best or next((epoch for epoch in reversed(run.epochs) if epoch.get("validation")), {})
    return best.get("validation") or {}, "validation"


def unit_of(run: Run) -> str:
    """What is foreseen at each step: a character, a byte or a word."""
    return str((run.recipe.get("text") or {}).get("unit") or "word")


def known(run: Run) -> str:
    """What it has come to, to stand behind "it foresees"; nothing where nothing was measured."""
    figures, split = figures_of(run)
    loss = finite(figures.get("loss"))
    if loss is None:
        return ""
    among = number(math.exp(min(loss, 50.0)))
    told = (
        f"each {unit_of(run)} of the {split} {'text' if run.task == 'write' else 'captions'} of {run.data} with "
        f"{number(loss)} nats, as unsure as among {among} equally likely ones"
    )
    bleu, cider = finite(figures.get("bleu4")), finite(figures.get("cider"))
    if bleu is None:
        return told
    also = "" if cider is None else f" and CIDEr {number(cider)}"
    return f"{told}; its own sentences reach BLEU-4 {number(100 * bleu)}{also}"


def tiles(run: Run) -> list[Figure]:
    """The figures that stand largest on the page."""
    figures, split = figures_of(run)
    names = [
        ("loss", 1.0, f"{split} loss", f"nats a {unit_of(run)}, of the best weights"),
        ("bits_per_character", 1.0, "bits a character", "2 to this power: among how many it is unsure"),
        ("perplexity", 1.0, "perplexity", "equally likely ones it is as unsure among"),
        ("bleu4", 100.0, "BLEU-4", "of 100: groups of four words that people wrote too"),
        ("cider", 1.0, "CIDEr", "of 10: likeness to what people wrote"),
    ]
    shown = [(name, key, scale, hint) for key, scale, name, hint in names if finite(figures.get(key)) is not None]
    return [(name, number(scale * figures[key]), hint) for name, key, scale, hint in shown]
