"""What became of every training example: counted from a ledger made by hand, whatever order its rows stand in."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engram.report import run_folder
from engram.report.run_folder import Run
from engram.report.sections import examples, forgotten

Make = Callable[..., Path]
ROWS = [  # visits, streak, lapses, label
    (6, 6, 0, 0),
    (6, 2, 1, 0),
    (6, 1, 3, 0),
    (6, 0, 2, 1),
    (6, 0, 0, 1),
    (0, 0, 0, 1),
]


def columns(times: int = 20) -> dict[str, np.ndarray]:
    """The rows so many times over, in an order of their own."""
    visits, streak, lapses, label = np.array(ROWS * times).T
    index = np.random.default_rng(0).permutation(len(visits))
    real = dict.fromkeys(("last", "loss", "smoothed", "recall"), np.full(len(visits), 0.5, np.float32))
    whole = {"visits": visits.astype(np.int16), "streak": streak.astype(np.uint8), "lapses": lapses.astype(np.int16)}
    whole["recent"] = (2**streak - 1).astype(np.int32)
    table = {"index": np.arange(len(visits)), **whole, **real, "label": label}
    return {name: column[index] for name, column in table.items()}


@pytest.fixture
def folder(tmp_path: Path, make_run: Make) -> Path:
    return make_run(tmp_path / "run", epochs=2, classes=["cat", "dog"])


def read(folder: Path, table: dict[str, np.ndarray]) -> Run:
    pq.write_table(pa.table(table), folder / "ledger.parquet")
    return run_folder.read(folder)


def told(run: Run) -> str:
    return str(examples.section(run)).replace("\u202f", " ")


def test_how_the_examples_stand_is_counted(folder: Path) -> None:
    page = told(read(folder, columns()))
    assert (
        "Of the 100 examples visited so far, 60.0 % were recalled at their last visit. 20.0 % were recalled and never "
        "lost again, 40.0 % were lost and learned anew, 20.0 % were known once and are lost now, 20.0 % were never "
        "recalled. Each was visited 6 times."
    ) in page
    assert (
        "40.0 % of the examples were never lost after they had been recalled; the others are drawn. 40.0 % were lost "
        "twice or more, at most 3 times: they are hard, or labelled wrongly."
    ) in page
    (spec,) = [json.loads(one) for one in re.findall('class="spec">(.*?)</script>', page)]
    bars = spec["layer"][0]["data"]["values"]
    assert [(bar["from"] + 0.5, bar["count"]) for bar in bars] == [(1, 20), (2, 20), (3, 20)]


def test_classes_are_told_the_worst_first(folder: Path) -> None:
    page = told(read(folder, columns()))
    assert (
        "The class remembered worst is dog: 0.0 % of its training examples were recalled last time; of cat, 100.0 %."
        in page
    )
    rows = re.findall('<tr><th scope="row">(.*?)</th>(.*?)</tr>', page)
    assert [name for name, _ in rows] == ["dog", "cat"]
    cells = [re.findall("<td.*?>(.*?)</td>", row) for _, row in rows]
    assert cells == [["40", "6", "0.0 %", "50.0 %", "50.0 %"], ["60", "6", "100.0 %", "66.7 %", "0.0 %"]]


def test_without_labels_there_are_no_classes(folder: Path) -> None:
    table = columns()
    del table["label"]
    page = told(read(folder, table))
    assert "100 examples visited so far" in page
    assert "<table" not in page


def test_without_a_ledger_or_a_visit_there_is_no_section(folder: Path) -> None:
    assert examples.section(run_folder.read(folder)) is None
    table = columns()
    assert examples.section(read(folder, table | {"visits": 0 * table["visits"]})) is None


@pytest.mark.parametrize("name", ["index", "visits", "recall", "label"])
def test_a_damaged_ledger_is_a_note(folder: Path, name: str) -> None:
    table = columns()
    for wrong in (np.array(["a"] * len(table[name])), np.full(len(table[name]), np.nan)):
        if name == "recall" and wrong.dtype.kind == "f":
            continue
        run = read(folder, table | {name: wrong})
        assert run.ledger == {}
        assert len(run.notes) == 1
        assert run.notes[0].startswith("ledger.parquet could not be read: ")
    if name != "label":
        del table[name]
        assert read(folder, table).ledger == {}


def test_half_a_ledger_is_a_note(folder: Path) -> None:
    read(folder, columns())
    path = folder / "ledger.parquet"
    whole = path.read_bytes()
    for content in (b"", b"PAR1", whole[: len(whole) // 2], whole[:40] + bytes(40) + whole[80:]):
        path.write_bytes(content)
        run = run_folder.read(folder)
        assert run.ledger == {}
        assert len(run.notes) == 1
    twice = columns()
    twice["index"][0] = twice["index"][1]
    assert "each once" in read(folder, twice).notes[0]


def test_notable_examples_say_how_their_last_visits_went(folder: Path) -> None:
    rows = [
        {"index": index, "name": f"n{index}", "class": "cat", "visits": 6, "lapses": lapses, "recall": 0.5}
        for index, lapses in ((0, 0), (1, 1), (2, 3), (3, 2), (4, 0), (99_999, 1))
    ]
    run = read(folder, columns())
    run = replace(run, review={"examples": 6, "forgotten": {"count": 6, "examples": rows}})
    captions = re.findall("<figcaption>(.*?)</figcaption>", str(forgotten.section(run)))
    found = [re.findall("<span>(.*?)</span>", one)[3:] for one in captions]
    assert found == [
        ["never lost", "recalled 6 times running"],
        ["lost once", "recalled twice running"],
        ["lost 3 times", "recalled now"],
        ["lost twice", "not recalled now"],
        ["never recalled"],
        ["lost once"],
    ]
