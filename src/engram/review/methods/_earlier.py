"""What an earlier run remembered of the same examples: the ledger it exported."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
from torch import Tensor

from engram.errors import UserError
from engram.review.method import Moment
from engram.review.methods._subset import Subset


def read_ledger(method: str, path: str, columns: Sequence[str]) -> dict[str, Tensor]:
    """Columns of an exported ledger in the order of its examples, float64.

    Raises:
        UserError: no path, no Parquet file there, a column is missing, or its rows are not those of a whole data set.
    """
    export = "train once with any review, and give the ledger.parquet of its run folder"
    if not path:
        raise UserError(f"{method} needs the ledger of an earlier run as `scores`", then=export)
    if not Path(path).is_file():
        raise UserError(f"{method}: there is no file {path}", then=export)
    try:
        names = pyarrow.parquet.read_schema(path).names
        missing = [name for name in ("index", *columns) if name not in names]
        table = {} if missing else pyarrow.parquet.read_table(path, columns=["index", *columns]).to_pydict()
    except (pyarrow.ArrowException, OSError) as fault:
        raise UserError(f"{method}: {path} is no Parquet file that can be read: {fault}".splitlines()[0]) from fault
    if missing:
        raise UserError(f"{method}: {path} has no column {', '.join(missing)}", allowed="a ledger that engram exported")
    indices = np.asarray(table["index"])
    if not len(indices) or not np.array_equal(np.sort(indices), np.arange(len(indices))):
        raise UserError(
            f"{method}: the rows of {path} are not those of a whole data set",
            allowed=f"each example once, index 0 to {max(0, len(indices) - 1)}",
        )
    order = np.argsort(indices)
    return {name: torch.from_numpy(np.asarray(table[name], dtype=np.float64)[order]) for name in columns}


class Scored(Subset):
    """The examples with the highest scores of an earlier run; equal ones at random, new ones always."""

    def __init__(self, *, name: str, path: str, scores: Tensor, keep: float) -> None:
        super().__init__(share=keep)
        self.name, self.path, self.scores = name, path, scores

    def pick(self, examples: int, number: int, moment: Moment) -> Tensor:
        if examples != len(self.scores):
            raise UserError(
                f"{self.name}: {self.path} is of {len(self.scores):,} examples, the data set has {examples:,}",
                allowed="the ledger of the same data set",
            )
        order = torch.randperm(examples, generator=moment.rng)
        return order[torch.argsort(self.scores[order], descending=True, stable=True)[:number]]

    def pick_new(self, examples: int, number: int, moment: Moment) -> Tensor:
        return torch.arange(examples)
