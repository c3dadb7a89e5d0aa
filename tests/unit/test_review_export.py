"""The ledger as a file that other programs read, and back."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from engram.errors import UserError
from engram.review import export
from engram.review.ledger import COLUMNS, Ledger, Observed
from engram.review.memory import build


def filled():
    ledger = Ledger(5)
    indices = torch.tensor([1, 3, 4])
    for clock in (0.5, 1.5):
        losses = torch.tensor([0.1, 2.0, 0.4]) * clock
        seen = Observed(indices, losses, torch.exp(-losses), torch.full((3,), clock), torch.zeros(3).long())
        ledger.record(seen, build("fsrs"))
    return ledger


def test_it_comes_back_whole_in_any_order(tmp_path):
    ledger, due = filled(), torch.tensor([0.0, 1.5, 0.0, 2.5, 3.5])
    export.write(ledger, tmp_path / "a.parquet", due=due, names=list("abcde"), labels=torch.arange(5))
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["index", *COLUMNS, "due", "name", "label"]
    assert table.column("due").to_pylist() == due.tolist()
    assert table.column("name").to_pylist() == list("abcde")
    assert table.column("label").to_pylist() == [0, 1, 2, 3, 4]
    pq.write_table(table.take(pa.array([3, 0, 4, 1, 2])), tmp_path / "b.parquet")
    back = export.read(tmp_path / "b.parquet")
    for name in COLUMNS:
        assert torch.equal(getattr(back, name), getattr(ledger, name)), name


def test_what_is_no_ledger_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read as a ledger"):
        export.read(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(UserError, match="cannot be read as a ledger"):
        export.read(tmp_path / "text.parquet")
    export.write(filled(), tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    pq.write_table(table.drop_columns(["streak"]), tmp_path / "b.parquet")
    with pytest.raises(UserError, match="it has no column 'streak'"):
        export.read(tmp_path / "b.parquet")
    pq.write_table(table.slice(1), tmp_path / "c.parquet")
    with pytest.raises(UserError, match="no whole ledger"):
        export.read(tmp_path / "c.parquet")
