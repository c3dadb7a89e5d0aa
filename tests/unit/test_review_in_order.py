"""In order: 0, 1, 2 and so on, round after round, and of a part of a round what was visited least."""

import pytest
import torch

from engram.review.methods import build
from engram.review.reviewer import Reviewer
from rounds import ledger_of, moment


def orders(examples: int, *, batch_size: int, epochs: float, **more: object) -> list[list[int]]:
    """What each round brought, example by example."""
    reviewer = Reviewer(examples, build("in_order"), batch_size=batch_size, epochs=epochs, **more)
    found = []
    while not reviewer.finished:
        found.append([])
        for batch in reviewer.batches():
            assert len(batch) <= batch_size
            found[-1] += batch.tolist()
            reviewer.observe(torch.rand(len(batch), generator=torch.Generator().manual_seed(0)))
    return found


@pytest.mark.parametrize("seed", [0, 5])
def test_every_round_is_the_text_from_its_beginning_to_its_end(seed: int) -> None:
    assert orders(12, batch_size=3, epochs=3, seed=seed) == [list(range(12))] * 3


def test_half_a_pass_is_the_first_half() -> None:
    assert orders(12, batch_size=3, epochs=0.5) == [list(range(6))]


def test_a_last_round_that_is_cut_takes_the_first_of_those_visited_least() -> None:
    assert orders(12, batch_size=3, epochs=2.5) == [list(range(12)), list(range(12)), list(range(6))]
    ledger = ledger_of([1.0] * 8, visits=[2, 1, 2, 1, 1, 2, 1, 2])
    assert build("in_order").choose(ledger, moment(4)).indices.tolist() == [1, 3, 4, 6]
    assert build("in_order").choose(ledger, moment(2)).indices.tolist() == [1, 3]
    assert build("in_order").choose(ledger, moment(6)).indices.tolist() == [0, 1, 2, 3, 4, 6]


def test_what_a_loss_was_changes_nothing() -> None:
    ledger = ledger_of([9.0, 0.1, 5.0, 0.0])
    chosen = build("in_order").choose(ledger, moment(10))
    assert chosen.indices.tolist() == [0, 1, 2, 3]
    assert chosen.weights is None
