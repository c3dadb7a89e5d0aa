"""What share of the examples each epoch saw: against visits counted one by one, and across saving and growing."""

import math

import pytest
import torch

from engram.review import methods, summary
from engram.review.epochs import Epochs
from engram.review.reviewer import Reviewer


def driven(method, settings, *, epochs=7.0, examples=60, drop_last=True, stop=10**9):
    """A reviewer whose losses fall, and the examples of every step."""
    made = methods.build(method, settings)
    reviewer = Reviewer(examples, made, batch_size=8, epochs=epochs, drop_last=drop_last, seed=3)
    return reviewer, go_on(reviewer, stop)


def go_on(reviewer, stop=10**9):
    visited = []
    draw = torch.Generator().manual_seed(reviewer.steps)
    while not reviewer.finished and len(visited) < stop:
        for batch in reviewer.batches()[: stop - len(visited)]:
            visited.append(batch.tolist())
            reviewer.grade(3 * torch.rand(len(batch), generator=draw) / (1 + reviewer.steps / 10), lr=0.1)
    return visited


def by_hand(visited, steps_per_pass, examples):
    """Different examples of every so many steps."""
    begins = range(0, len(visited), steps_per_pass)
    return [len({one for step in visited[at : at + steps_per_pass] for one in step}) / examples for at in begins]


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("shuffle", {}),
        ("forgetting_curve", {}),
        ("forgetting_curve", {"save": 0.7, "window": 0.5}),
        ("forgetting_curve", {"save": "auto"}),
        ("fsrs", {}),
    ],
)
def test_every_epoch_saw_what_was_visited_in_it(method, settings, drop_last):
    reviewer, visited = driven(method, settings, drop_last=drop_last)
    reviewer.fold()
    wanted = by_hand(visited, reviewer.steps_per_pass, 60)
    assert reviewer.seen.shares == pytest.approx(wanted)
    told = summary.summarise(reviewer, labels=None, classes=(), name=str)["epochs"]
    assert [row["least"] for row in told] == pytest.approx(wanted, rel=1e-5)
    assert [row["most"] for row in told] == [row["least"] for row in told]
    assert min(wanted) < 0.95 or method == "shuffle"


def test_a_saved_run_goes_on_counting():
    reviewer, before = driven("forgetting_curve", {}, stop=17)  # in the middle of a round and of an epoch
    again, _ = driven("forgetting_curve", {}, stop=0)
    again.load_state_dict(reviewer.state_dict())
    visited = before + go_on(again)
    again.fold()
    assert again.seen.shares == pytest.approx(by_hand(visited, again.steps_per_pass, 60))
    old = {name: value for name, value in reviewer.state_dict().items() if name != "seen"}
    again.load_state_dict(old)
    go_on(again)
    # it was saved before epochs were counted, in the third of them
    assert [math.isnan(share) for share in again.seen.shares[:4]] == [True, True, True, False]
    assert again.seen.shares[3:] == pytest.approx(by_hand(visited, again.steps_per_pass, 60)[3:])


def test_where_the_data_have_grown_epochs_are_longer_and_counted_anew():
    epochs = Epochs(2)
    epochs.add(torch.tensor([0, 1, 0]), torch.tensor([0, 1, 2]), steps_per_pass=2)
    epochs.grow(4)
    epochs.add(torch.tensor([2, 2]), torch.tensor([3, 4]), steps_per_pass=4)
    assert [math.isnan(share) for share in epochs.shares] == [True, False]
    assert epochs.shares[1] == 0.25
