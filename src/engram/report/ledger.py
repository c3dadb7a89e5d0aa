"""What is remembered of every training example, as columns of `ledger.parquet`, read without torch.

`engram.review.ledger` says what each column means, and `engram.review.export` writes them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engram.errors import UserError

WHOLE = ("index", "visits", "streak", "lapses", "recent")
REAL = ("last", "loss", "smoothed", "recall")

Columns = Mapping[str, NDArray[Any]]


def read(path: str | Path) -> dict[str, NDArray[Any]]:
    """The columns by name, rows in the order of the examples: those above, and `label` where labels are known.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be read, or is no ledger.
    """
    content = Path(path).read_bytes()
    import pyarrow as pa  # here, so that a page without a ledger does not wait for it
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(content))
        found = {name: table.column(name).to_numpy() for name in (*WHOLE, *REAL)}
        if "label" in table.column_names:
            found["label"] = table.column("label").to_numpy()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UserError(f"{Path(path).name} could not be read: {error}") from None
    kinds = dict.fromkeys((*WHOLE, "label"), "iu") | dict.fromkeys(REAL, "f")
    for name, column in found.items():
        if column.dtype.kind not in kinds[name]:
            raise UserError(f"{Path(path).name} could not be read: its column {name} is {column.dtype}")
    order = np.argsort(found["index"], kind="stable")
    if not np.array_equal(found["index"][order], np.arange(len(order))):
        raise UserError(f"{Path(path).name} could not be read: its indices are not 0 to {len(order) - 1:,}, each once")
    return {name: column[order] for name, column in found.items()}
