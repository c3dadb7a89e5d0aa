"""bench/review/memories.py asks a memory model as the reviewer does, and docs/review_results.md holds what it found."""

import json
import sys
from pathlib import Path

import pytest
import torch

from engram import registry
from engram.review import memory as memory_models
from engram.review import methods
from engram.review.reviewer import Reviewer

ROOT = Path(__file__).resolve().parents[2]

# the scripts of bench/ import each other by bare names: nothing of that stays behind for other tests
sys.path.insert(0, str(ROOT / "bench" / "review"))
import memories  # noqa: E402

sys.path.remove(str(ROOT / "bench" / "review"))
for name in ("memories", "run", "arms", "workloads"):
    del sys.modules[name]


@pytest.fixture(scope="module")
def recorded():
    """A review by the forgetting curve whose losses fall, unevenly, and its log."""
    reviewer = Reviewer(80, methods.build("forgetting_curve"), batch_size=8, epochs=8.0, seed=2)
    log = memories.recording(reviewer)
    draw = torch.Generator().manual_seed(0)
    while not reviewer.finished:
        for batch in reviewer.batches():
            spent = reviewer.steps / reviewer.total_steps
            losses = 3 * torch.rand(len(batch), generator=draw) * (1 - spent) + 0.02
            reviewer.grade(torch.where(batch % 7 == 3, 4.0, losses), lr=0.1)
    reviewer.fold()
    return reviewer, log


def test_a_replay_says_what_the_reviewer_said(recorded):
    reviewer, log = recorded
    assert sum(len(observed) for observed in log) == sum(row["visits"] for row in reviewer.history)
    rounds = memories.replay(log, 80, memory_models.build("fsrs"))
    memories.check(rounds, reviewer.history)
    with pytest.raises(SystemExit, match="differs from the run"):
        memories.check(memories.replay(log, 80, memory_models.build("sm2")), reviewer.history)


def test_all_models_are_asked_the_same(recorded):
    _, log = recorded
    asked = [memories.replay(log, 80, memory_models.build(name)) for name in registry.names("memory")]
    asked.append(memories.replay(log, 80, None))
    for rounds in asked:
        for one, other in zip(rounds, asked[0], strict=True):
            assert torch.equal(one.recalled, other.recalled)
    told = [memories.judge(rounds) for rounds in asked]
    for key in ("count", "constant", "one_constant"):
        assert len({one[key] for one in told}) == 1
    assert len({one["alone_log_loss"] for one in told}) == len(told)
    assert told[0]["constant"] < told[0]["one_constant"]


def test_without_a_model_it_is_the_round_before(recorded):
    """By kind of streak, and none is told before it has come again."""
    _, log = recorded
    first, second, *_ = memories.replay(log, 80, None)
    share = float((log[0].grades >= 0.5).double().mean())
    assert first.alone.tolist() == pytest.approx([share] * len(first.alone))
    known = set(log[0].indices[log[0].grades >= 0.5].tolist())
    again = [one in known for one in log[1].indices.tolist()]
    kept = first.recalled[torch.tensor(again)].double().mean()
    gained = first.recalled[~torch.tensor(again)].double().mean()
    assert {round(one, 6) for one in second.alone.tolist()} <= {round(float(one), 6) for one in (kept, gained)}


def test_the_page_has_the_figures_of_the_results():
    page = (ROOT / "docs" / "review_results.md").read_text(encoding="utf-8")
    made = memories.tables(memories.PATH)
    assert made.count("\n| fsrs | ") == 4
    for line in made.splitlines():
        assert line in page, "make it anew: python bench/review/memories.py table"
    runs = json.loads(memories.PATH.read_text(encoding="utf-8"))["runs"]
    assert {tuple(run["models"]) for run in runs} == {(memories.LAST_ROUND, *registry.names("memory"))}
    assert {(run["task"], run["fed"]) for run in runs} == {
        (task, fed) for task in memories.TASKS for fed in memories.FED
    }


def test_where_next_to_nothing_is_forgotten_there_is_no_skill(tmp_path):
    numbers = {"one_constant": 0.4, "constant": 0.2, "late_constant": 0.001, "late_linked_log_loss": 0.003}
    for how in ("alone", "linked"):
        numbers |= {f"{how}_log_loss": 0.1, f"{how}_calibration_error": 0.02}
    runs = [{"task": "digits", "fed": "shuffle", "seed": 0, "models": {"fsrs": numbers}}]
    (tmp_path / "told.json").write_text(json.dumps({"runs": runs}), encoding="utf-8")
    lines = memories.tables(tmp_path / "told.json").splitlines()
    assert [line for line in lines if line.startswith("| fsrs")] == [
        "| fsrs | 0.1000 / 0.1000 |",
        "| fsrs | 2.00 / 2.00 |",
        "| fsrs | +75.0 / +50.0 |",
        "| fsrs | - |",
    ]
