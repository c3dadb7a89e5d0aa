"""What an earlier run remembered of the same examples, and the part of them that its scores choose."""

from collections.abc import Sequence
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
    path = str(path)  # a file may be named by a number
    if not path:
        raise UserError(f"{method} needs the ledger of an earlier run as `scores`", then=then)
    if not Path(path).is_file():
        raise UserError(f"{method}: there is no file {path}", then=then)
    return export.read(path)


class Scored(Subset):
    """The examples with the highest scores of an earlier run; equal ones at random, new ones always.

    Where the examples have names, as in `engram train`, they are found by them: another seed holds out others for
    validation, and the same place is another example then. Those that the earlier run did not have are kept. Without
    names they are taken by place, and their labels have to be the same. Of several processes, each takes the scores of
    its own examples, and keeps its own share of them.
    """

    def __init__(self, *, name: str, path: str, scores: Tensor, keep: float) -> None:
        super().__init__(share=keep)
        self.name, self.path, self.scores = name, path, scores
        self.names, self.labels = export.read_examples(path)

    def meet(self, names: Sequence[str]) -> None:
        self.labels = None  # of a run's ledger they are the task's groups, which need not be classes
        rows = {name: row for row, name in enumerate(self.names or ())}
        if len(rows) < len(self.scores):
            return  # no names, or such as do not tell the examples apart
        places = torch.tensor([rows.get(name, -1) for name in names])
        if not bool((places >= 0).any()):
            raise UserError(
                f"{self.name}: {self.path} is of other examples: {next(iter(rows))} is one, none of those here",
                allowed="the ledger of a run on the same data set",
            )
        self.scores = torch.where(places >= 0, self.scores[places], torch.inf)

    def own(self, rows: Tensor | Sequence[Tensor], examples: int) -> None:
        if not isinstance(rows, Tensor):
            raise UserError(
                f"{self.name}: {self.path} is of single examples, and knows no batch as a whole", then="unit='example'"
            )
        if len(self.scores) == examples:
            self.scores = self.scores[rows]
            self.labels = None if self.labels is None else self.labels[rows]
        elif self.names is not None:  # one process's own part was exported by places, as names
            self.meet([str(row) for row in rows.tolist()])
        else:
            raise self._of_another(examples)

    def _of_another(self, examples: int) -> UserError:
        return UserError(
            f"{self.name}: {self.path} is of {len(self.scores):,} examples, the data set has {examples:,}",
            allowed="the ledger of the same data set",
        )

    def pick(self, examples: int, number: int, moment: Moment) -> Tensor:
        if examples != len(self.scores):
            raise self._of_another(examples)
        before, now = self.labels, moment.labels
        if before is not None and now is not None and before.tolist() != now.tolist():  # whatever their types
            raise UserError(
                f"{self.name}: {self.path} is of as many examples with other labels",
                allowed="the ledger of the same data set, its examples in the same order",
            )
        order = torch.randperm(examples, generator=moment.rng)
        return order[torch.argsort(self.scores[order], descending=True, stable=True)[:number]]

    def pick_new(self, examples: int, number: int, moment: Moment) -> Tensor:
        return torch.arange(examples)
