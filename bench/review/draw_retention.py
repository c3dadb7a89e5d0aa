"""Draw what a network still knows of what it is not shown again, beside what Ebbinghaus kept of his syllables.

    python bench/review/draw_retention.py cifar10-16 docs/images/forgetting.svg
    python bench/review/draw_retention.py cifar10-10k-vgg FILE --by difficulty --rates "rate 1" "falling to 0"

Reads bench/results/review_retention_WORKLOAD.json, which `retention.py` writes. A panel each for 1885 and for the
rates at which the network went on learning; time is on a logarithmic axis in all of them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert as vlc
from run import RESULTS

RATES = ("rate 1", "rate 1/4", "rate 1/16")
STREAKS = {"0": "wrong at the last visit", "1-2": "right once or twice in a row", "3+": "right three times or more"}
LINES = ("still in training", "never shown again", *STREAKS.values())
COLOURS = ("#8a8a8a", "#1f5fbf", "#d1495b", "#edae49", "#2a9d8f")
WIDE, HIGH = 220, 260
SHARE = alt.Scale(domain=[0, 100])


def ebbinghaus(told: dict[str, list[float]]) -> alt.LayerChart:
    """His savings against hours."""
    values = [{"at": hours, "kept": kept} for hours, kept in zip(told["hours"], told["savings_percent"], strict=True)]
    ticks = alt.Axis(title="time since learning", values=[1 / 3, 1, 9, 24, 144, 744], grid=False, labelExpr=HOURS)
    line = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X("at:Q", scale=alt.Scale(type="log", domain=[0.2, 1000]), axis=ticks),
        y=alt.Y("kept:Q", scale=SHARE, title="saved or still right, %"),
    )
    drawn = line.mark_line(color="black", strokeWidth=2) + line.mark_circle(color="black", size=35, opacity=1)
    return drawn.properties(width=WIDE, height=HIGH, title="Ebbinghaus 1885: syllables, one subject")


HOURS = "datum.value < 1 ? '20 min' : datum.value < 24 ? datum.value + ' h' : datum.value / 24 + ' d'"
EPOCHS = "datum.value < 1 ? '1/' + 1 / datum.value : datum.value"


def by_streak(arm: dict[str, Any]) -> list[tuple[str, str, list[float]]]:
    """What is still right by how often in a row it had been right before: a line's name, its fate, its shares."""
    return [
        (LINES[0], "trained", arm["control_retained"]),
        (LINES[1], "absent", arm["retained"]),
        *((STREAKS[name], "absent", one["retained"]) for name, one in arm["by_streak"].items()),
    ]


def by_difficulty(arm: dict[str, Any]) -> list[tuple[str, str, list[float]]]:
    """The same by thirds of the loss before, what is absent and what stays in training."""
    return [
        (f"{name} third, {word}", fate, one[key])
        for name, one in arm["by_difficulty"].items()
        for fate, key, word in (("absent", "retained", LINES[1]), ("trained", "control", LINES[0]))
    ]


def network(arm: dict[str, Any], rate: str, by: str) -> alt.Chart:
    """What is still right of what was right at delay 0."""
    lines = by_streak(arm) if by == "streak" else by_difficulty(arm)
    values = [
        {"at": at, "kept": 100 * share, "what": what}
        for what, _, shares in lines
        for at, share in zip(arm["delays"], shares, strict=True)
        if at > 0
    ]
    how = "its rate falling to 0" if rate == "falling to 0" else f"learning on at {rate}"
    names = [what for what, _, _ in lines]
    colours = COLOURS if by == "streak" else [colour for colour in COLOURS[:1:-1] for _ in range(2)]
    dashes = [[4, 3] if fate == "trained" else [1, 0] for _, fate, _ in lines]
    ticks = alt.Axis(title="epochs since the last visit", values=[1 / 64, 1 / 8, 1, 8], grid=False, labelExpr=EPOCHS)
    legend = alt.Legend(
        title=None,
        orient="bottom",
        columns=5 if by == "streak" else 2,
        symbolType="stroke",
        symbolSize=400,
        labelLimit=300,
    )
    return (
        alt.Chart(alt.Data(values=values))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("at:Q", scale=alt.Scale(type="log"), axis=ticks),
            y=alt.Y("kept:Q", scale=SHARE, title=None, axis=alt.Axis(labels=False)),
            color=alt.Color("what:N", scale=alt.Scale(domain=names, range=colours), legend=legend),
            strokeDash=alt.StrokeDash("what:N", scale=alt.Scale(domain=names, range=dashes)),
        )
        .properties(width=WIDE, height=HIGH, title=f"the network, {how}")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("workload")
    parser.add_argument("file", type=Path)
    parser.add_argument("--rates", nargs="+", default=RATES)
    parser.add_argument("--by", choices=("streak", "difficulty"), default="streak", help="what the lines are apart by")
    chosen = parser.parse_args()
    found = json.loads((RESULTS / f"review_retention_{chosen.workload}.json").read_text(encoding="utf-8"))
    panels = [network(found["arms"][rate], rate, chosen.by) for rate in chosen.rates]
    chart = alt.hconcat(ebbinghaus(found["ebbinghaus_1885"]), *panels, spacing=24, background="white")
    chart = chart.configure_view(stroke="#dddddd").configure_title(
        fontSize=12, anchor="start", frame="group", fontWeight="normal"
    )
    chosen.file.write_text(vlc.vegalite_to_svg(chart.to_dict()), encoding="utf-8")


if __name__ == "__main__":
    main()
