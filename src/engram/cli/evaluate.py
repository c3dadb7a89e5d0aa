"""`engram evaluate`: judge a trained network on data, its own or other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def evaluate(
    run: Path, /, *, data: str | None = None, split: str = "test", views: str | None = None, json: bool = False
) -> int:
    """Judge a trained network: accuracy, loss, calibration, and each class by itself.

    Parameters
    ----------
    run
        A run's folder, or a weights file that Engram has written.
    data
        What to judge it on; without it, the data it was trained on.
    split
        test, validation or train; where the data have no test split, all of them are taken.
    views
        Test-time averaging, such as flip or crops:5.
    json
        The figures as JSON instead of text.
    """
    import json as jsonlib

    from engram.training.judge import judge

    summary, where = judge(run, data=data, split=split, views=views)
    if json:
        print(jsonlib.dumps(summary, ensure_ascii=False))
        return 0
    if "task" in summary:
        tell(summary, run, where)
        return 0
    print(f"{'judged':<12}{run} on {where}: {summary['examples']:,} examples")
    print(f"{'accuracy':<12}{100 * summary['accuracy']:.2f} %")
    if summary["top5"] is not None:
        print(f"{'top 5':<12}{100 * summary['top5']:.2f} %")
    print(f"{'loss':<12}{summary['loss']:.4f}")
    print(f"{'calibration':<12}off by {100 * summary['ece']:.2f} points on average\n")
    width = max(len(one["name"]) for one in summary["per_class"])
    print(f"{'class':<{width}}  examples  precision   recall      f1")
    for one in summary["per_class"]:
        figures = "  ".join(f"{100 * one[key]:6.1f} %" for key in ("precision", "recall", "f1"))
        print(f"{one['name']:<{width}}  {one['examples']:8,}   {figures}")
    return 0


def tell(summary: Mapping[str, Any], run: Path, where: str) -> None:
    """The figures of a network that foresees words, a line each."""
    what = {"write": "tokens", "label": "steps"}.get(summary["task"]) or f"captions of {summary['pictures']:,} pictures"
    print(f"{'judged':<12}{run} on {where}: {summary['examples']:,} {what}")
    if summary["task"] == "write":
        nats, bits = summary["nats_per_character"], summary["bits_per_character"]
        print(f"{'loss':<12}{nats:.4f} nats, {bits:.4f} bits a character; {summary['loss']:.4f} nats a token")
    else:
        print(f"{'loss':<12}{summary['loss']:.4f} nats a {'word' if summary['task'] == 'caption' else 'step'}")
    if "perplexity" in summary:
        print(f"{'perplexity':<12}{summary['perplexity']:.3f}")
    print(f"{'right':<12}{100 * summary['accuracy']:.2f} % had the largest score")
    if summary["task"] == "caption":
        bleu = ", ".join(f"{100 * summary[f'bleu{order}']:.1f}" for order in range(1, 5))
        cider = f", CIDEr {summary['cider']:.3f}" if "cider" in summary else ""
        print(f"{'sentences':<12}BLEU-1 to 4 {bleu}, ROUGE-L {100 * summary['rouge_l']:.1f}{cider}")
    looked = summary.get("attention")
    if looked and looked["words"]:
        share, chance, hit, by_chance = (
            f"{100 * looked[key]:.0f} %" for key in ("mass", "area", "pointed", "pointed_by_chance")
        )
        print(f"{'attention':<12}{share} on what a word names, by chance {chance}; sharpest there {hit}, {by_chance}")
