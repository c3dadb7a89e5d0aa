"""`engram evaluate`: judge a trained network on data, its own or other."""

from pathlib import Path


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
