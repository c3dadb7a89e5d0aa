"""Draw what ways of choosing are worth on every task: how many of shuffling's errors they avoid.

    python bench/review/draw_worth.py docs/images/review_worth.svg

Reads bench/results/review_*.json, which `run.py decide` writes. A panel each for a fixed saving, its permuted control,
`save="auto"` and InfoBatch; a row for each task; a point with its paired 95 % interval for each part of the full run's
visits, hollow where the interval holds zero. Tasks differ in how many errors there are to avoid, so a difference is
drawn as a share of them.
"""

import argparse
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert as vlc
from glance import TASKS, studies
from run import RESULTS
from table import differences, shared

from engram.study.statistics import describe, paired

METHODS = {
    "forgetting_curve": "forgetting curve",
    "permuted": "its control: permuted",
    "auto": 'forgetting curve, save="auto"',
    "infobatch": "InfoBatch",
}
VISITS = {"0.25": "a quarter", "0.5": "half", "0.75": "three quarters", "1.0": "all visits"}
COLOURS = ("#e09f3e", "#3a86c8", "#2a9d8f", "#1d3557")
LIMIT = 25  # per cent; what lies beyond is cut there
WIDE, HIGH = 175, 32


def avoided(runs: list[dict[str, Any]], arm: str) -> dict[str, float] | None:
    """Which share of shuffling's errors a method avoids, in per cent, and the interval; none where it was not run."""
    of, shuffle = ({row["seed"]: row for row in runs if row["arm"] == name} for name in (arm, "shuffle"))
    if len(shared(of, shuffle)) < 2:
        return None
    errors = 1 - describe([row["test.accuracy"] for row in shuffle.values()]).mean
    one = paired(differences(of, shuffle))
    return {
        name: max(-LIMIT, min(LIMIT, 100 * value / errors))
        for name, value in (("mean", one.mean), ("low", one.low), ("high", one.high))
    }


def rows(results: Path) -> list[dict[str, Any]]:
    """A row for each task, method and part of the visits; of one decided twice the later."""
    found = {}
    for task, title in TASKS.items():
        for budget, runs in studies(results, task):
            for arm, method in METHODS.items():
                one = avoided(runs, arm)
                if one is not None:
                    at = {"task": title, "method": method, "visits": VISITS[budget]}
                    found[tuple(at.values())] = {**at, **one, "shown": not one["low"] <= 0 <= one["high"]}
    return list(found.values())


def panel(values: list[dict[str, Any]], method: str, first: bool) -> alt.LayerChart:
    """One method on all tasks."""
    kept = [row for row in values if row["method"] == method]
    tasks = alt.Axis(title=None, labelLimit=260, ticks=False, domain=False) if first else None
    visits = list(VISITS.values())
    base = alt.Chart(alt.Data(values=kept)).encode(
        y=alt.Y("task:N", sort=None, scale=alt.Scale(domain=list(TASKS.values())), axis=tasks),
        yOffset=alt.YOffset("visits:N", sort=None, scale=alt.Scale(domain=visits, paddingOuter=0.6)),
        color=alt.Color(
            "visits:N",
            scale=alt.Scale(domain=visits, range=COLOURS),
            legend=alt.Legend(title=None, orient="bottom", symbolType="circle"),
        ),
    )
    axis = alt.X("low:Q", scale=alt.Scale(domain=[-LIMIT, LIMIT]), title="errors fewer than shuffling, %")
    line = base.mark_rule(strokeWidth=1.5).encode(x=axis, x2="high:Q")
    dots = [
        base.transform_filter(only).mark_point(size=30, opacity=1, strokeWidth=1.5, **look).encode(x="mean:Q")
        for only, look in ((alt.datum.shown, {"filled": True}), (~alt.datum.shown, {"fill": "white"}))
    ]
    zero = alt.Chart(alt.Data(values=[{"at": 0}])).mark_rule(color="black").encode(x="at:Q")
    return alt.layer(zero, line, *dots).properties(width=WIDE, height=HIGH * len(TASKS), title=method)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path)
    chosen = parser.parse_args()
    values = rows(RESULTS)
    panels = [panel(values, method, first=place == 0) for place, method in enumerate(METHODS.values())]
    chart = alt.hconcat(*panels, spacing=16, background="white").configure_view(stroke="#dddddd")
    chart = chart.configure_title(fontSize=12, anchor="start", frame="group", fontWeight="normal")
    chart = chart.configure_axis(gridColor="#eeeeee")
    chosen.file.write_text(vlc.vegalite_to_svg(chart.to_dict()), encoding="utf-8")


if __name__ == "__main__":
    main()
