"""What an earlier run remembered of the same examples, and the part of them that its scores choose."""

from pathlib import Path

import torch
from torch import Tensor

from engram.errors import UserError
from engram.review import export
from engram.review.ledger import Ledger
from engram.review.method import Moment
from engram.review.methods._subset import Subset


def earlier(method: str, path: str) -> Ledger:
    """The ledger that an earlier run exported.

    Raises:
        UserError: no path, no file there, or no whole ledger in it.
    """
    then = "train once with any review, and give the ledger.parquet of its run folder"
    if not path:
        raise UserError(f"{method} needs the ledger of an earlier run as `scores`", then=then)
    if not Path(path).is_file():
        raise UserError(f"{method}: there is no file {path}", then=then)
    return export.read(path)


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
