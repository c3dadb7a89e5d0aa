"""Pruning by an earlier run's ledger: forgetting events and EL2N."""

from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import torch

import engram
from engram.errors import UserError
from engram.review import export
from engram.review.ledger import COLUMNS, Ledger
from engram.review.methods import build
from engram.review.sampler import ReviewSampler
from rounds import moment


def written(path: Path, order: list[int] | None = None, **columns: list[float]) -> str:
    """An exported ledger; columns that are not given are 1."""
    rows = len(next(iter(columns.values())))
    order = order or list(range(rows))
    table = {"index": order}
    for name in COLUMNS:
        values = columns.get(name, [1] * rows)
        table[name] = [values[index] for index in order]
    parquet.write_table(arrow.table(table), path / "ledger.parquet")
    return str(path / "ledger.parquet")


def kept(name: str, path: str, quota: int, examples: int, seeds: int = 40, **settings: float) -> list[set[int]]:
    parts = []
    for seed in range(seeds):
        method = build(name, {"scores": path, **settings})
        parts.append(set(method.choose(Ledger(examples), moment(quota, seed=seed)).indices.tolist()))
    return parts


def test_the_most_forgotten_are_kept_and_the_never_learned_above_them(tmp_path):
    #           forgotten   never forgotten   never learned
    lapses = [3, 1, 2, 1, 5, 0, 0, 0, 0, 0]
    streak = [0, 4, 0, 2, 1, 9, 9, 9, 9, 0]
    path = written(tmp_path, [4, 9, 0, 3, 1, 2, 5, 8, 7, 6], lapses=lapses, streak=streak)
    assert set.union(*kept("forgetting_events", path, 3, 10, keep=0.3)) == {9, 4, 0}
    ties = kept("forgetting_events", path, 7, 10)
    assert all({0, 1, 2, 3, 4, 9} < part for part in ties)
    assert set().union(*ties) == set(range(10))
    method = build("forgetting_events", {"scores": path})
    rounds = [method.choose(Ledger(10), moment(7, seed=seed)).indices.tolist() for seed in range(4)]
    assert len({frozenset(round_) for round_ in rounds}) == 1
    assert len({tuple(round_) for round_ in rounds}) == 4


def test_an_example_whose_last_visit_was_right_was_learned(tmp_path):
    path = written(tmp_path, lapses=[0, 0, 1], streak=[1, 0, 0])
    assert kept("forgetting_events", path, 1, 3, keep=0.3) == [{1}] * 40
    assert set.union(*kept("forgetting_events", path, 2, 3, keep=0.6)) == {1, 2}


def test_the_largest_errors_are_kept(tmp_path):
    path = written(tmp_path, recall=[0.9, 0.1, 0.5, 0.8, 1.0], visits=[3, 3, 3, 3, 0])
    assert kept("el2n", path, 2, 5, keep=0.4) == [{1, 4}] * 40
    method = build("el2n", {"scores": path, "keep": 1.0})
    scores = method.scores.tolist()
    # for two classes p = (0.9, 0.1): the error is (0.1, -0.1)
    assert scores[0] == pytest.approx((0.1**2 + 0.1**2) ** 0.5, abs=1e-3)  # grades are kept in half precision
    assert scores[4] == float("inf")
    assert kept("el2n", path, 2, 5)[0] == {1, 4}


def test_published_shares_are_the_defaults_and_plan_the_rounds(tmp_path):
    path = written(tmp_path, recall=[0.5] * 10)
    assert build("forgetting_events", {"scores": path}).plan(10, 15) == [7, 7, 1]
    assert build("el2n", {"scores": path}).plan(10, 15) == [5, 5, 5]
    assert build("el2n", {"scores": path, "keep": 0.2}).least_share == 0.2


def test_new_examples_are_kept(tmp_path):
    path = written(tmp_path, recall=[0.9, 0.1, 0.5, 0.8])
    method, ledger = build("el2n", {"scores": path}), Ledger(4)
    method.choose(ledger, moment(2))
    ledger.grow(6)
    assert set(method.choose(ledger, moment(4)).indices.tolist()) == {1, 2, 4, 5}


@pytest.mark.parametrize("name", ["forgetting_events", "el2n"])
def test_a_ledger_that_does_not_fit_is_refused(name, tmp_path):
    def refused(path: str, examples: int = 3) -> str:
        with pytest.raises(UserError) as caught:
            build(name, {"scores": path}).choose(Ledger(examples), moment(1))
        assert len(str(caught.value).splitlines()) <= 5
        return str(caught.value)

    assert f"{name} needs the ledger of an earlier run" in refused("")
    assert "there is no file" in refused(str(tmp_path / "none.parquet"))
    assert "ledger.parquet" in refused(str(tmp_path))
    (tmp_path / "text.parquet").write_text("not one", encoding="utf-8")
    assert "cannot be read as a ledger" in refused(str(tmp_path / "text.parquet"))
    path = written(tmp_path, recall=[0.5] * 4)
    assert "is of 4 examples, the data set has 3" in refused(path)
    assert "is of 4 examples, the data set has 5" in refused(path, 5)
    assert "is no whole ledger" in refused(written(tmp_path, [0, 1, 1], recall=[0.5] * 3))
    assert "is no whole ledger" in refused(written(tmp_path, [1, 2], recall=[0.5] * 3))
    parquet.write_table(arrow.table({"index": [0, 1, 2]}), tmp_path / "few.parquet")
    assert "has no column" in refused(str(tmp_path / "few.parquet"))
    none = {name: arrow.array([], arrow.float32()) for name in ("index", *COLUMNS)}
    parquet.write_table(arrow.table(none), tmp_path / "empty.parquet")
    assert "at least one example" in refused(str(tmp_path / "empty.parquet"))
    with pytest.raises(UserError, match="keep cannot be 0"):
        build(name, {"scores": path, "keep": 0})


def named(path: Path, names: list[str] | None, recall: list[float], labels: list[int] | None = None) -> str:
    ledger = Ledger(len(recall))
    ledger.recall[:], ledger.visits[:] = torch.tensor(recall), 1
    labelled = None if labels is None else torch.tensor(labels)
    export.write(ledger, path / "named.parquet", names=names, labels=labelled)
    return str(path / "named.parquet")


def test_examples_are_found_by_name_and_those_that_the_earlier_run_did_not_have_are_kept(tmp_path):
    path = named(tmp_path, list("abcde"), [0.9, 0.1, 0.8, 0.2, 0.7], labels=[0] * 5)
    method = build("el2n", {"scores": path, "keep": 0.5})
    method.meet(["d", "c", "new", "a"])  # another split: fewer, in another order
    moved = method.choose(Ledger(4), moment(2, labels=torch.tensor([1, 1, 1, 1])))
    assert set(moved.indices.tolist()) == {0, 2}
    with pytest.raises(UserError, match="is of other examples: a is one, none of those here"):
        build("el2n", {"scores": path}).meet(["x", "y", "z"])
    same = named(tmp_path, ["a", "a", "a", "a"], [0.9, 0.1, 0.8, 0.2])
    method = build("el2n", {"scores": same})
    method.meet(["x", "y", "z", "w"])  # names that tell nothing apart: by place
    assert set(method.choose(Ledger(4), moment(2)).indices.tolist()) == {1, 3}


def test_a_run_with_another_seed_prunes_the_same_examples(tmp_path):
    own = {"data": "digits", "model": "mlp", "epochs": 1, "clinic": "none"}
    engram.train(**own, seed=0, output=str(tmp_path / "first"))
    scores = {"review": "el2n", "review.scores": str(tmp_path / "first" / "ledger.parquet")}
    engram.train(**own, **scores, seed=1, output=str(tmp_path / "second"))
    first, second = (parquet.read_table(tmp_path / run / "ledger.parquet") for run in ("first", "second"))
    recall = dict(zip(first["name"].to_pylist(), first["recall"].to_pylist(), strict=True))
    visits = dict(zip(second["name"].to_pylist(), second["visits"].to_pylist(), strict=True))
    assert set(recall) != set(visits)  # each seed holds out other examples
    assert all(visits[name] for name in visits.keys() - recall.keys())
    kept = [recall[name] for name in visits.keys() & recall.keys() if visits[name]]
    left = [recall[name] for name in visits.keys() & recall.keys() if not visits[name]]
    assert len(left) > 400
    assert max(kept) <= min(left) + 1e-3


def test_without_names_the_labels_have_to_be_the_same(tmp_path):
    path = named(tmp_path, None, [0.9, 0.1, 0.8, 0.2], labels=[0, 1, 0, 1])
    right = build("el2n", {"scores": path}).choose(Ledger(4), moment(2, labels=torch.tensor([0, 1, 0, 1])))
    assert set(right.indices.tolist()) == {1, 3}
    with pytest.raises(UserError, match="as many examples with other labels"):
        build("el2n", {"scores": path}).choose(Ledger(4), moment(2, labels=torch.tensor([0, 1, 1, 0])))
    assert build("el2n", {"scores": path}).choose(Ledger(4), moment(2)).indices.tolist()  # not known here


@pytest.mark.parametrize("name", ["forgetting_events", "el2n"])
def test_each_of_several_processes_takes_the_scores_of_its_own_examples(name, tmp_path):
    hard = [index % 2 for index in range(6)]  # the odd ones are never recalled
    path = written(tmp_path, recall=[1 - value for value in hard], lapses=[9 * value for value in hard])
    method = build(name, {"scores": path, "keep": 0.3})
    method.own(torch.tensor([0, 3, 4]), 6)
    assert method.choose(Ledger(3), moment(1)).indices.tolist() == [1]
    with pytest.raises(UserError, match="is of 6 examples, the data set has 8"):
        build(name, {"scores": path}).own(torch.tensor([0, 3, 4, 7]), 8)
    with pytest.raises(UserError, match="is of single examples, and knows no batch as a whole") as caught:
        build(name, {"scores": path}).own([torch.tensor([0, 3]), torch.tensor([4])], 6)
    assert "unit='example'" in str(caught.value)


def test_the_labels_of_a_process_s_own_examples_have_to_be_the_same(tmp_path):
    path = named(tmp_path, None, [0.9, 0.1, 0.8, 0.2], labels=[0, 1, 0, 1])
    method = build("el2n", {"scores": path})
    method.own(torch.tensor([1, 2]), 4)
    assert method.choose(Ledger(2), moment(1, labels=torch.tensor([1, 0]))).indices.tolist() == [0]
    other = build("el2n", {"scores": path})
    other.own(torch.tensor([1, 2]), 4)
    with pytest.raises(UserError, match="other labels"):
        other.choose(Ledger(2), moment(1, labels=torch.tensor([0, 1])))


def test_the_ledger_of_one_process_is_found_by_the_places_it_names(tmp_path):
    path = named(tmp_path, ["1", "3", "4"], [0.1, 0.8, 0.2])
    method = build("el2n", {"scores": path, "keep": 0.3})
    method.own(torch.tensor([1, 2, 3]), 6)
    assert method.scores.tolist() == pytest.approx([0.9 * 2**0.5, torch.inf, 0.2 * 2**0.5], rel=1e-3)


def test_a_sampler_gives_the_method_its_own_part(tmp_path):
    path = written(tmp_path, recall=[(7 * index % 40) / 40 for index in range(40)])
    for rank in range(2):
        settings = {"world": 2, "rank": rank, "epochs": 2.0, "method": "el2n", "scores": path}
        sampler = ReviewSampler(40, 4, **settings)
        visited = {index for batch in sampler for index in batch}
        lowest = sorted(sampler.shard.tolist(), key=lambda index: 7 * index % 40)[:10]
        assert visited <= set(lowest)
        with pytest.raises(UserError, match="knows no batch as a whole"):
            ReviewSampler(40, 4, unit="batch", **settings)
    with pytest.raises(UserError, match="is of 40 examples, the data set has 44"):
        ReviewSampler(44, 4, **settings)


def test_a_resumed_run_keeps_the_same_part(tmp_path):
    path = written(tmp_path, recall=[0.5] * 20)
    method, resumed = (build("el2n", {"scores": path}) for _ in range(2))
    first = set(method.choose(Ledger(20), moment(10, seed=1)).indices.tolist())
    resumed.load_state_dict(method.state_dict())
    assert set(resumed.choose(Ledger(20), moment(10, seed=2)).indices.tolist()) == first
    assert torch.equal(resumed.kept, method.kept)
