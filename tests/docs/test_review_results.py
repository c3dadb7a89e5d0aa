"""What docs/review.md and review_results.md say at a glance is what bench/results/ holds."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"

# the scripts of bench/ import each other by bare names: nothing of that stays behind for other tests
sys.path.insert(0, str(ROOT / "bench" / "review"))
import glance  # noqa: E402
import streams  # noqa: E402
import table  # noqa: E402

sys.path.remove(str(ROOT / "bench" / "review"))
for name in ("glance", "stream_ideas", "stream_workloads", "streams", "table", "workloads"):
    del sys.modules[name]


def run(arm, seed, accuracy):
    return {"arm": arm, "seed": seed, "test.accuracy": accuracy}


def test_the_page_has_the_figures_of_the_results():
    page = (ROOT / "docs" / "review_results.md").read_text(encoding="utf-8")
    for line in glance.pairs(RESULTS).splitlines():
        assert line in page, "make it anew: python bench/review/run.py table"
    page = (ROOT / "docs" / "review.md").read_text(encoding="utf-8")
    for line in glance.all_to_full(RESULTS).splitlines():
        assert line in page, "make it anew: python bench/review/run.py table"


def test_the_page_has_the_figures_of_the_streams():
    page = (ROOT / "docs" / "review_results.md").read_text(encoding="utf-8")
    for line in streams.page().splitlines():
        assert line in page, "make it anew: python bench/review/streams.py table"


def test_pairs_are_of_the_same_seeds_and_stars_are_counted(tmp_path):
    runs = [run("shuffle", seed, 0.5 + 0.1 * seed) for seed in range(3)]
    runs += [run("forgetting_curve", seed, 0.51 + 0.1 * seed + 0.001 * (seed == 1)) for seed in range(3)]
    runs += [run("permuted", 0, 0.9), run("permuted", 1, None)]  # one pair is none
    told = {"budgets": {"0.5": {"runs": runs}}}
    (tmp_path / "review_mnist.json").write_text(json.dumps(told), encoding="utf-8")
    lines = glance.pairs(tmp_path).splitlines()
    assert lines[2] == "| MNIST, LeNet-5 | 50% | +1.03 (+0.89 to +1.18) * |  |  |  |  |  |"
    assert lines[3].startswith("| with a star | | 1 ahead, 0 behind, of 1 | 0 ahead, 0 behind, of 0 |")


def test_what_was_decided_again_takes_the_place_of_what_was_before(tmp_path):
    for name, gain in (("mnist", 0.1), ("mnist-auto", 0.2)):
        runs = [run("shuffle", seed, 0.5) for seed in range(2)] + [run("auto", seed, 0.5 + gain) for seed in range(2)]
        told = {"budgets": {"1.0": {"runs": runs}}}
        (tmp_path / f"review_{name}.json").write_text(json.dumps(told), encoding="utf-8")
    assert "| +20.00 (+20.00 to +20.00)" in glance.pairs(tmp_path)
    assert "+10.00" not in glance.pairs(tmp_path)
    assert "| 0 ahead, 0 behind, of 1 | 0 ahead, 0 behind, of 0 |" in glance.pairs(tmp_path)  # counted once


def test_visits_to_the_full_run():
    ours = {"0.5": (0.80, 0.81), "1.0": (0.90, 0.91)}
    budgets = {
        budget: {
            "runs": [
                *(run("forgetting_curve", seed, one) for seed, one in enumerate(values)),
                *(run("shuffle", seed, 0.85 + 0.01 * seed) for seed in range(2) if budget == "1.0"),
                *(run("infobatch", seed, 0.5) for seed in range(2)),
                *(run("auto", seed, 0.99) for seed in range(2)),
                *(run("permuted", seed, 0.9) for seed in range(2) if budget == "0.5"),  # not with all visits
            ]
        }
        for budget, values in ours.items()
    }
    lines = table.to_full(budgets).splitlines()
    assert lines[2:] == [
        "| forgetting_curve | 75 (75 to 75) |",
        "| infobatch | > 100 (> 100 to > 100) |",
        "| auto | < 50 (< 50 to < 50) |",
    ]


def test_the_first_crossing_counts():
    assert table.reached([0.25, 0.5, 1.0], [0.5, 0.9, 0.7], 0.7) == pytest.approx(0.375)
