"""The ledger as a Parquet file, a row an example: for pandas, polars, DuckDB, the report, or another run's pruning.

Columns: `index`, those of the ledger, `due` where a memory model says it, and `name` and `label` where they are known.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from engram import atomic
from engram.errors import UserError
from engram.review.ledger import COLUMNS, Ledger


def write(
    ledger: Ledger,
    path: str | Path,
    *,
    due: Tensor | None = None,
    names: Sequence[str] | None = None,
    labels: Tensor | None = None,
) -> None:
    """Write the whole ledger in one step.

    Args:
        due: (N,) clock at which each is to be reviewed, see `Ledger.due`.
        names: of the examples, in their order.
        labels: (N,) classes.

    Raises:
        OSError: it cannot be written; a file that was there stays as it was.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "ledger.parquet"
    >>> write(Ledger(3), path)
    >>> len(read(path))
    3
    """
    columns = {"index": pa.array(range(len(ledger)), pa.int64())}
    for name, dtype in COLUMNS.items():
        column = getattr(ledger, name).cpu()
        columns[name] = pa.array((column.float() if dtype == torch.float16 else column).numpy())
    if due is not None:
        columns["due"] = pa.array(due.cpu().numpy())
    if names is not None:
        columns["name"] = pa.array(list(names), pa.string())
    if labels is not None:
        columns["label"] = pa.array(labels.cpu().numpy())
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, compression="zstd")
    atomic.write(Path(path), file.getvalue())


def read_examples(path: str | Path) -> tuple[list[str] | None, Tensor | None]:
    """Names and (N,) labels of the examples of a ledger that `read` takes, by their indices; None where not told.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "ledger.parquet"
    >>> write(Ledger(2), path, names=["cats/1.jpg", "dogs/1.jpg"])
    >>> read_examples(path)
    (['cats/1.jpg', 'dogs/1.jpg'], None)
    """
    found = pq.read_table(path).sort_by("index")
    names = found.column("name").to_pylist() if "name" in found.column_names else None
    labels = torch.tensor(found.column("label").to_numpy()) if "label" in found.column_names else None
    return names, labels


def read(path: str | Path) -> Ledger:
    """A ledger from its Parquet file; a column that is wider there is brought to its own type.

    Raises:
        UserError: no such file, or no ledger.
    """
    try:
        found = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(
            f"{path} cannot be read as a ledger: {error}", then="a run keeps its own as ledger.parquet"
        ) from None
    missing = [name for name in ("index", *COLUMNS) if name not in found.column_names]
    if missing:
        raise UserError(f"{path} is no ledger: it has no column {missing[0]!r}")
    order = found.column("index").to_numpy()
    if sorted(order.tolist()) != list(range(len(order))):
        raise UserError(f"{path} is no whole ledger: its indices are not 0 to {len(order) - 1:,}, each once")
    ledger = Ledger(len(order))
    for name, dtype in COLUMNS.items():
        values = torch.tensor(found.column(name).to_numpy())
        getattr(ledger, name)[torch.tensor(order)] = values.to(dtype)
    return ledger
