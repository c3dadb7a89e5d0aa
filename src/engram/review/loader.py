"""A DataLoader that reviews: two lines change in anyone's loop, and nothing in the data set.

    loader = engram.ReviewLoader(dataset, batch_size=128, epochs=10)
    for _ in range(loader.rounds):
        for x, y in loader:
            losses = criterion(net(x), y)                     # reduction="none"
            loader.grade(losses).backward()

`epochs` counts visits: epochs 10 takes as many steps as ten shuffled epochs, and `total_steps` is known before
training, so that any schedule of the learning rate can be laid over it. To save, give fewer epochs. (A method that
looks at examples without learning from them, `selective_backprop`, makes more steps and learns from fewer examples in
each: the work is equal. Where the number of examples is no multiple of `batch_size`, a pass over all of them ends with
a smaller batch and a chosen round does not; so a chosen round visits up to a batch more than its share.
`drop_last=True` makes every batch whole.)
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engram.errors import UserError, nearest
from engram.review.checks import check_state
from engram.review.content import content
from engram.review.labels import are_classes
from engram.review.method import Method
from engram.review.reviewer import generator
from engram.review.sampler import ReviewSampler

TAKEN = ("shuffle", "sampler", "batch_sampler")


class ReviewLoader:
    """Ordinary batches of a map-style data set, a round a pass.

    Args:
        dataset: anything with `__getitem__` and `__len__`; it may grow at its end between rounds.
        batch_size, drop_last: as for `torch.utils.data.DataLoader`.
        epochs: visits of the whole run divided by the number of examples, in steps: see above.
        method, seed, labels, clock, measure, permuted, optimizer, unit: as for `ReviewSampler`. Where no labels are
            given, those of the data set are taken if it has them as `targets` or `labels`, all of them from 0, or is a
            TensorDataset of pairs, or a Subset or ConcatDataset of such. Where the data set grows, labels that are
            given are a list that grows with it.
        settings: of the method, such as `save=0.5`.
        loader: every other argument of DataLoader, such as `num_workers` or `collate_fn`.

    Raises:
        UserError: a data set without a length, an argument that no such loader has, an unknown method or setting.

    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> loader = ReviewLoader(TensorDataset(torch.arange(8.0)), batch_size=4, epochs=2, method="shuffle")
    >>> for _ in range(loader.rounds):
    ...     for (x,) in loader:
    ...         mean = loader.grade(x)
    >>> loader.finished, loader.ledger.visits.tolist()
    (True, [2, 2, 2, 2, 2, 2, 2, 2])
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        *,
        epochs: float,
        method: str | Method = "forgetting_curve",
        seed: int = 0,
        labels: Tensor | Sequence[int] | None = None,
        drop_last: bool = False,
        clock: str = "updates",
        measure: str = "probability",
        permuted: bool = False,
        optimizer: torch.optim.Optimizer | None = None,
        unit: str = "example",
        settings: Mapping[str, Any] | None = None,
        **loader: Any,
    ) -> None:
        _check(loader)
        if settings is not None and not isinstance(settings, Mapping):
            raise UserError(f"settings cannot be {settings!r}", allowed='a dictionary, as {"save": 0.5}')
        self.dataset, self.seed = dataset, seed
        self.given_labels = labels
        self.sampler = ReviewSampler(
            _length(dataset),
            batch_size,
            epochs=epochs,
            method=method,
            seed=seed,
            labels=_labels(dataset) if labels is None else labels,
            drop_last=drop_last,
            clock=clock,
            measure=measure,
            permuted=permuted,
            optimizer=optimizer,
            unit=unit,
            words=(type(dataset).__name__,),
            **(settings or {}),
        )
        self.own_rng = torch.Generator()
        self.rng = loader.pop("generator", None) or self.own_rng  # another's is not seeded anew
        self.round = _Round()
        self.arguments = loader
        self.data = self._reading()
        self.waiting = 0  # batches that were yielded and not yet graded
        self.ahead = 0  # as many waited when the first of this pass was graded: so far the loop reads ahead

    def _reading(self) -> torch.utils.data.DataLoader[Any]:
        return torch.utils.data.DataLoader(self.dataset, batch_sampler=self.round, generator=self.rng, **self.arguments)

    @property
    def rounds(self) -> int:
        """Passes over this loader that make the whole run; passes after the last step are empty."""
        return self.sampler.rounds

    @property
    def total_steps(self) -> int:
        """Steps of the whole run, for the learning rate's schedule."""
        return self.sampler.total_steps

    @property
    def finished(self) -> bool:
        return self.sampler.finished

    @property
    def epoch(self) -> float:
        """Steps so far divided by those of a pass over all examples."""
        return self.sampler.epoch

    @property
    def ledger(self) -> Any:
        """What is remembered of every example, as of the last whole round."""
        return self.sampler.ledger

    def __len__(self) -> int:
        """Batches left of this round, or of the next."""
        self._look_for_more()
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        if self.waiting:
            self._refuse_ungraded()
        self.ahead = 0
        self._look_for_more()
        batches = self.sampler.batches()
        if not batches:
            return
        self.round.lists = [batch.tolist() for batch in batches]
        # worker processes get their seeds from it: the same for the same place in training
        self.own_rng.manual_seed(generator(self.seed, self.sampler.reviewer.steps).initial_seed())
        for batch in self.data:
            self.waiting += 1
            yield batch

    def _refuse_ungraded(self) -> None:
        waiting = self.waiting
        then = "call loader.grade(losses) once for each batch, or loader.skip() where it is left out"
        if self.ahead <= 1:  # graded one by one: they are the last ones that came
            raise UserError(f"{waiting:,} batches were not graded", then=then)
        self.sampler.reviewer.give_up()
        self.waiting = 0
        raise UserError(
            f"{waiting:,} batches were not graded, and which ones is not known: nothing of their round was recorded",
            then=then,
        )

    def _look_for_more(self) -> None:
        """Take in what has come to the end of the data set."""
        length = _length(self.dataset)
        if length != self.sampler.examples:
            self.sampler.grow(length, _labels(self.dataset) if self.given_labels is None else self.given_labels)
            if self.arguments.get("persistent_workers"):  # they hold the data set as it was
                self.data = self._reading()

    def grade(
        self,
        losses: Tensor,
        *,
        correct: Tensor | None = None,
        lr: float | None = None,
        shown: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Record what the oldest ungraded batch showed; the weighted mean of its losses, to minimise.

        Args and errors as for `ReviewSampler.grade`. A loop may read some batches ahead of what it grades, always as
        many: where one more waits than when the first was graded, one went by, and these losses may not be its own.
        """
        self._expect_one()
        if self.waiting > (self.ahead or self.waiting):
            raise UserError(
                "a batch before this one was not graded; nothing was recorded",
                allowed="one grade a batch, in the order they come",
                then="loader.skip() where a batch is left out",
            )
        self.ahead = self.ahead or self.waiting
        weighted = self.sampler.grade(losses, correct=correct, lr=lr, shown=shown, places=places)
        self.waiting -= 1
        return weighted

    def skip(self) -> None:
        """Leave the oldest ungraded batch out: nothing is recorded of it."""
        self._expect_one()
        self.sampler.skip()
        self.waiting -= 1

    def _expect_one(self) -> None:
        if not self.waiting:
            raise UserError(
                "there is no batch to grade: every batch that came was graded already",
                allowed="one grade a batch",
                then="for several losses of one batch, add them before grading",
            )

    def export(self, path: str | Path) -> None:
        """Write the ledger as Parquet, a row an example: see `ReviewSampler.export`."""
        self.sampler.export(path)

    def state_dict(self) -> dict[str, Any]:
        """Everything, also in the middle of a round; batches that came and were not graded come again."""
        return {**self.sampler.state_dict(), "content": content(self.dataset, self.sampler.examples)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse of `state_dict`: the next pass goes on where the saved one was.

        Another data set is known by its length, type and labels, and by what of its examples lies open without reading
        them: tensors, the items of a list, torchvision's arrays or file names (64 examples, evenly over all).

        Raises:
            UserError: the state of another data set, process, method or setting; this one stays as it was.
        """
        check_state(state)
        before = min(int(state.get("examples", 0)), len(self.dataset))
        held = content(self.dataset, before) if before and state.get("content") is not None else None
        if held is not None and held != state["content"]:
            raise UserError(
                f"this is the ledger of another data set: its {before:,} examples are not these",
                allowed="the data set it was kept for, also with more examples at its end",
            )
        self.sampler.load_state_dict(state)
        self.waiting = self.ahead = 0


class _Round:
    """The batches of the round that goes on, as the DataLoader asks for them: one that stays lets its workers stay."""

    def __init__(self) -> None:
        self.lists: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.lists)

    def __len__(self) -> int:
        return len(self.lists)


def _length(dataset: Any) -> int:
    if isinstance(dataset, torch.utils.data.IterableDataset):
        raise UserError(
            "an iterable data set has no examples that could be visited again",
            allowed="a data set with __getitem__ and __len__",
            then="engram.ReviewStream reviews data that comes in order",
        )
    try:
        length = len(dataset)
    except TypeError:
        raise UserError(
            f"{type(dataset).__name__} has no length", allowed="a data set with __getitem__ and __len__"
        ) from None
    if not length:
        raise UserError(f"this {type(dataset).__name__} holds no examples")
    return length


def _check(loader: Mapping[str, Any]) -> None:
    """Refuse arguments that DataLoader does not take, or that the review decides."""
    known = [*inspect.signature(ReviewLoader).parameters, *inspect.signature(torch.utils.data.DataLoader).parameters]
    for word in loader:
        if word in TAKEN:
            raise UserError(
                f"{word} is the review's own choice", allowed="method=..., as engram show reviews lists them"
            )
        if word not in known:
            raise UserError(
                f"ReviewLoader has no argument {word!r}",
                allowed="its own, and those of torch.utils.data.DataLoader",
                nearest=nearest(word, known),
                then=f"settings={{{word!r}: ...}} where it is a setting of the method",
            )


def _labels(dataset: Any) -> Tensor | None:
    """The classes of a data set that keeps them, as torchvision's do, also of a part of one or of several together."""
    for name in ("targets", "labels"):
        found = getattr(dataset, name, None)
        if found is None or callable(found):
            continue
        try:
            labels = torch.as_tensor(found)
        except (TypeError, ValueError, RuntimeError):
            continue
        if _are_of(labels, dataset):
            return labels
    if isinstance(dataset, torch.utils.data.Subset):
        whole = _labels(dataset.dataset)
        return None if whole is None else whole[torch.as_tensor(dataset.indices, dtype=torch.long)]
    if isinstance(dataset, torch.utils.data.ConcatDataset):
        parts = [part for one in dataset.datasets if (part := _labels(one)) is not None]
        return torch.cat(parts) if len(parts) == len(dataset.datasets) else None
    if isinstance(dataset, torch.utils.data.TensorDataset) and len(dataset.tensors) == 2:
        return dataset.tensors[1] if _are_of(dataset.tensors[1], dataset) else None
    return None


def _are_of(labels: Tensor, dataset: Any) -> bool:
    """Whether they are a class for each example; -1 stands for none."""
    return labels.shape == (len(dataset),) and are_classes(labels)
