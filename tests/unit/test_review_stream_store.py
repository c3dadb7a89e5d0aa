"""What is kept of a stream: every example with the probability its store promises, in places that stay its own."""

import pytest
import torch

from engram.errors import UserError
from engram.review.stream_store import Store, algorithm_r, fair_shares, largest_by_class


def filled(store, sizes, labels=None, seed=0):
    """The store after batches of these sizes; example i is i."""
    rng, first = torch.Generator().manual_seed(seed), 0
    for size in sizes:
        x = torch.arange(first, first + size)
        store.add({"0": x}, None if labels is None else labels[x], rng)
        first += size
    return store


def kept(store):
    return store.rows["0"][: store.held]


def test_every_example_is_kept_with_the_same_probability():
    capacity, sizes, runs = 8, (5, 5, 1, 9, 20), 1500
    rng, counts = torch.Generator().manual_seed(1), torch.zeros(40)
    for _ in range(runs):
        at, seen = torch.full((capacity,), -1), 0
        for size in sizes:
            chosen, places = algorithm_r(seen, capacity, size, rng)
            at[places] = seen + chosen
            seen += size
        counts[at] += 1
    chance = capacity / 40
    sd = (runs * chance * (1 - chance)) ** 0.5
    assert counts.sum() == runs * capacity
    assert ((counts - runs * chance) / sd).abs().max() < 4


def test_a_batch_draws_as_its_examples_would_one_by_one():
    together = algorithm_r(3, 5, 30, torch.Generator().manual_seed(3))
    rng, at = torch.Generator().manual_seed(3), {}
    draws = torch.rand(30, dtype=torch.float64, generator=rng)
    for place in range(30):
        number = 3 + place
        slot = number if number < 5 else int(draws[place] * (number + 1))
        if slot < 5:
            at[slot] = place
    pairs = sorted((place, slot) for slot, place in at.items())
    assert list(zip(*(part.tolist() for part in together), strict=True)) == pairs


@pytest.mark.parametrize(
    ("counts", "capacity", "shares"),
    [
        ([10, 2, 10], 12, [5, 2, 5]),
        ([10, 2, 10], 13, [6, 2, 5]),
        ([2, 10, 10], 13, [2, 6, 5]),
        ([1, 1], 5, [1, 1]),
        ([4, 4, 4], 2, [1, 1, 0]),
        ([7], 3, [3]),
        ([3, 4], 6, [3, 3]),
    ],
)
def test_places_are_shared_evenly(counts, capacity, shares):
    assert fair_shares(torch.tensor(counts), capacity).tolist() == shares


def test_a_class_keeps_its_largest():
    keys, labels = torch.tensor([1.0, 9, 5, 7, 3, 2]), torch.tensor([4, 4, 4, 4, 2, 2])
    assert largest_by_class(keys, labels, 4).tolist() == [False, True, False, True, True, True]


def test_a_balanced_reservoir_samples_each_class_evenly():
    labels = torch.cat([torch.zeros(30), torch.ones(4), torch.full((20,), 2)]).long()
    counts, runs = torch.zeros(54), 400
    for seed in range(runs):
        store = filled(Store(12, balanced=True), (7, 20, 7, 10, 10), labels, seed)
        assert torch.bincount(store.labels[:12]).tolist() == [4, 4, 4]
        assert store.labels[:12].tolist() == labels[kept(store)].tolist()
        counts[kept(store)] += 1
    assert (counts[30:34] == runs).all()
    for part in (counts[:30], counts[34:]):
        chance = 4 / len(part)
        assert ((part - runs * chance) / (runs * chance * (1 - chance)) ** 0.5).abs().max() < 4


def test_a_ring_keeps_the_newest():
    assert sorted(kept(filled(Store(5, kind="ring"), (3, 4, 2))).tolist()) == [4, 5, 6, 7, 8]


def test_a_balanced_ring_keeps_the_newest_of_each_class():
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 1, 2])
    store = filled(Store(5, kind="ring", balanced=True), (4, 3, 3), labels)
    assert sorted(kept(store).tolist()) == [1, 2, 7, 8, 9]


def test_all_are_kept_in_their_order():
    store = filled(Store(3, kind="all"), (300, 1, 400))
    assert kept(store).tolist() == store.arrival[: store.held].tolist() == list(range(701))
    assert store.capacity is None


@pytest.mark.parametrize("kind", ["reservoir", "ring"])
def test_who_stays_keeps_its_place(kind):
    store = filled(Store(6, kind=kind), (6,))
    before = kept(store).clone()
    chosen, places = store.add({"0": torch.arange(6, 10)}, None, torch.Generator().manual_seed(5))
    after = kept(store)
    assert (after[places] == 6 + chosen).all()
    assert len(places) == len(places.unique()) == len(chosen) > 0
    others = torch.ones(6, dtype=torch.bool)
    others[places] = False
    assert (after[others] == before[others]).all()
    assert store.arrival[:6].tolist() == after.tolist()
    assert (store.held, store.seen) == (6, 10)


def test_places_are_made_as_they_are_needed_and_never_more():
    store = Store(1000)
    assert filled(store, (10,)).made == 256
    assert filled(Store(1000), (300,)).made == 300
    assert filled(Store(1000), (10, 400, 900)).made == 1000
    assert filled(Store(100), (10,)).made == 100


def test_a_saved_store_goes_on_alike():
    one = filled(Store(20, balanced=True), (30,), torch.arange(30) % 3)
    other = Store(20, balanced=True)
    other.load_state_dict(one.state_dict())
    for store in (one, other):
        store.add({"0": torch.arange(30, 60)}, torch.arange(30) % 2, torch.Generator().manual_seed(9))
    assert kept(one).tolist() == kept(other).tolist()
    assert one.labels.tolist() == other.labels.tolist()
    assert one.keys.tolist() == other.keys.tolist()
    assert (one.held, one.seen, one.made) == (other.held, other.seen, other.made)


def test_what_is_kept_is_a_copy_without_its_graph():
    x = torch.ones(2, requires_grad=True)
    store = Store(4)
    store.add({"0": x * 2}, None, torch.Generator())
    assert not store.rows["0"].requires_grad


@pytest.mark.parametrize(("capacity", "kind"), [(0, "reservoir"), (None, "ring"), (1.5, "ring"), (True, "reservoir")])
def test_a_capacity_that_is_none(capacity, kind):
    with pytest.raises(UserError, match="capacity cannot be"):
        Store(capacity, kind=kind)


def test_a_store_that_does_not_exist():
    with pytest.raises(UserError) as caught:
        Store(4, kind="resevoir")
    assert caught.value.nearest == "reservoir"


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({"1": torch.zeros(2, 3)}, "has the parts 1, those before it had 0"),
        ({"0": torch.zeros(2, 4)}, "part 0 has rows of 4 float32, before they were of 3 float32"),
        ({"0": torch.zeros(2, 3).double()}, "3 float64"),
        ({"0": ["a", "b"]}, "plain values"),
    ],
)
def test_a_batch_of_another_form(batch, words):
    store = Store(4)
    store.check(batch)  # the first may have any
    store.add({"0": torch.zeros(2, 3)}, None, torch.Generator())
    with pytest.raises(UserError, match=words):
        store.check(batch)
