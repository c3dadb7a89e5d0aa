"""The loader feeds anyone's loop: any data set, any collate, any workers, and grades find their examples."""

import io
import math
from datetime import timedelta

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from engram.errors import UserError
from engram.review import export, methods
from engram.review.export import read_examples
from engram.review.loader import ReviewLoader
from engram.review.sampler import UNITS, ReviewSampler


class Numbers(Dataset):
    """Example i is i."""

    def __init__(self, count=40, targets=None):
        self.count = count
        if targets is not None:
            self.targets = targets

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return float(index), index % 4


def losses_of(x, step):
    return torch.sin(x.float() * 1.7 + step).abs() * 2


def drive(loader, passes=None):
    """Every pass graded; the examples that came, a list a pass."""
    came = []
    for _ in range(loader.rounds if passes is None else passes):
        came.append([])
        for x, _ in loader:
            loader.grade(losses_of(x, len(came)))
            came[-1] += x.long().tolist()
    return came


def visits_of(loader):
    return loader.ledger.visits.tolist()


@pytest.mark.parametrize("method", ["shuffle", "forgetting_curve"])
@pytest.mark.parametrize("workers", [0, 2])
def test_every_grade_finds_its_examples(method, workers):
    loader = ReviewLoader(Numbers(), batch_size=8, epochs=4, method=method, num_workers=workers)
    came = drive(loader)
    assert sum(map(len, came)) == 4 * 40
    assert loader.finished
    counts = torch.bincount(torch.tensor([x for xs in came for x in xs]), minlength=40)
    assert visits_of(loader) == counts.tolist()
    expected = {x: float(losses_of(torch.tensor(float(x)), number + 1)) for number, xs in enumerate(came) for x in xs}
    assert loader.ledger.loss.tolist() == pytest.approx([expected[x] for x in range(40)])


def test_workers_change_nothing():
    alone, helped = (
        drive(
            ReviewLoader(Numbers(), batch_size=8, epochs=4, seed=2, num_workers=workers, persistent_workers=workers > 0)
        )
        for workers in (0, 2)
    )
    assert alone == helped


def test_epochs_count_visits_whatever_the_method():
    for method in ("shuffle", "forgetting_curve"):
        loader = ReviewLoader(Numbers(), batch_size=8, epochs=3, method=method)
        steps = sum(1 for _ in range(loader.rounds) for x, _ in loader if loader.grade(losses_of(x, 0)) is not None)
        assert steps == loader.total_steps == 15
        assert loader.epoch == 3
        assert list(loader) == []  # passes after the last step are empty


def test_a_forgotten_example_comes_back_sooner():
    """Examples below 20 always fail, the others never do: the former are visited the more often."""
    loader = ReviewLoader(Numbers(), batch_size=4, epochs=8, settings={"leeches": False, "tail": 0.0})
    for _ in range(loader.rounds):
        for x, _ in loader:
            loader.grade(torch.where(x < 20, 3.0, 0.01))
    visits = torch.tensor(visits_of(loader))
    assert visits[:20].min() > 1.5 * visits[20:].float().mean()
    assert visits[20:].min() >= 1


def test_the_loss_to_minimise_is_the_weighted_mean():
    loader = ReviewLoader(Numbers(), batch_size=10, epochs=2, settings={"exponent": 1.0, "tail": 0.0, "save": 0.5})
    drive(loader, 1)
    x, _ = next(iter(loader))
    weights = loader.sampler.reviewer.weights[: len(x)]
    assert weights.min() < weights.max()
    losses = torch.rand(len(x), requires_grad=True)
    mean = loader.grade(losses)
    assert float(mean.detach()) == pytest.approx(float((weights * losses.detach()).mean()))
    mean.backward()
    torch.testing.assert_close(losses.grad, weights / len(x))


def test_any_data_set_and_any_collate():
    parts = ConcatDataset([Subset(Numbers(20), range(5, 15)), TensorDataset(torch.arange(6.0), torch.zeros(6))])
    loader = ReviewLoader(parts, batch_size=4, epochs=2, collate_fn=lambda rows: {"x": [row[0] for row in rows]})
    seen = []
    for _ in range(loader.rounds):
        for batch in loader:
            seen += [float(x) for x in batch["x"]]
            loader.grade(torch.ones(len(batch["x"])))
    assert len(seen) == 32
    assert loader.sampler.labels is None


@pytest.mark.parametrize("stop", [1, 5, 7, 12])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_loader_goes_on_and_batches_read_ahead_are_not_lost(stop, workers):
    def made():
        return ReviewLoader(Numbers(), batch_size=8, epochs=4, seed=5, num_workers=workers)

    def upto(loader, most):
        came = []
        for _ in range(loader.rounds):
            for x, _ in loader:
                came.append(x.tolist())
                loader.grade(losses_of(x, loader.sampler.reviewer.steps))
                if len(came) == most:
                    return came
        return came

    whole = upto(made(), 10**9)
    first = made()
    begun = upto(first, stop)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = made()
    second.load_state_dict(torch.load(file, weights_only=True))
    assert begun + upto(second, 10**9) == whole


def test_a_pass_that_was_left_goes_on_where_it_was():
    loader = ReviewLoader(Numbers(), batch_size=8, epochs=1, method="shuffle")
    first = next(iter(loader))[0]
    loader.grade(torch.ones(8))
    rest = [x for x, _ in loader if loader.grade(torch.ones(8)) is not None]
    assert sorted(torch.cat([first, *rest]).tolist()) == list(range(40))


def test_grading_twice_or_never_or_wrongly_is_refused():
    loader = ReviewLoader(Numbers(), batch_size=8, epochs=2, method="shuffle")
    with pytest.raises(UserError, match="no batch to grade"):
        loader.grade(torch.ones(8))
    batches = iter(loader)
    next(batches)
    with pytest.raises(UserError, match="losses are of shape 1, the batch has 8") as caught:
        loader.grade(torch.ones(1))
    assert 'reduction="none"' in caught.value.then
    with pytest.raises(UserError, match="is inf"):
        loader.grade(torch.tensor([1.0] * 7 + [float("inf")]))
    loader.grade(torch.ones(8))
    with pytest.raises(UserError, match="graded already"):
        loader.grade(torch.ones(8))
    next(batches)
    with pytest.raises(UserError, match="1 batches were not graded"):
        next(iter(loader))
    loader.skip()
    assert len(loader) == 3
    assert len(loader.sampler.reviewer.pending) == 1


def test_a_data_set_may_grow_and_not_shrink():
    data = Numbers(16)
    loader = ReviewLoader(data, batch_size=4, epochs=6)
    drive(loader, 1)
    data.count = 24
    assert len(loader) == 3  # half of them; asked first, as progress bars do
    came = drive(loader, 1)[0]
    assert set(range(16, 24)) & set(came)
    assert len(loader.ledger) == 24
    data.count = 23
    with pytest.raises(UserError, match="shrunk from 24 to 23"):
        next(iter(loader))


class Held(Numbers):
    """Knows no example beyond those that it holds."""

    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError(index)
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [{}, {"num_workers": 1}, {"num_workers": 1, "persistent_workers": True}])
def test_workers_see_what_has_come(workers):
    data = Held(16)
    loader = ReviewLoader(data, batch_size=4, epochs=6, **workers)
    drive(loader, 1)
    data.count = 24
    assert set(range(16, 24)) & set(drive(loader, 1)[0])


@pytest.mark.parametrize("more", [{}, {"settings": {"save": "auto"}}, {"method": "leitner"}, {"permuted": True}])
def test_a_state_goes_on_exactly_after_growth(more):
    whole = ReviewLoader(data := Numbers(40), batch_size=8, epochs=12, **more)
    drive(whole, 2)
    data.count = 72
    drive(whole, 2)
    next(batches := iter(whole))  # in the middle of a round
    whole.skip()
    batches.close()
    saved = whole.state_dict()
    other = ReviewLoader(Numbers(72), batch_size=8, epochs=12, **more)
    other.load_state_dict(saved)
    assert drive(other, 3) == drive(whole, 3)
    assert torch.equal(other.ledger.recall, whole.ledger.recall)


@pytest.mark.parametrize("more", [{}, {"permuted": True}, {"method": "shuffle"}])
def test_a_state_goes_on_with_what_has_come_since_it_was_saved(more):
    whole = ReviewLoader(data := Numbers(40), batch_size=8, epochs=12, **more)
    drive(whole, 2)
    saved = whole.state_dict()
    data.count = 72
    other = ReviewLoader(Numbers(72), batch_size=8, epochs=12, **more)
    other.load_state_dict(saved)
    assert other.total_steps == whole.total_steps
    assert drive(other, 3) == drive(whole, 3)
    assert set(visits_of(other)) != {0}


def test_labels_that_come_with_the_examples_are_part_of_a_saved_state():
    targets = [0, 1] * 8
    loader = ReviewLoader(data := Numbers(16, targets=targets), batch_size=4, epochs=6)
    drive(loader, 1)
    first = loader.state_dict()
    data.targets, data.count = targets * 2, 32
    drive(loader, 1)
    for saved in (first, loader.state_dict()):
        ReviewLoader(Numbers(32, targets=targets * 2), batch_size=4, epochs=6).load_state_dict(saved)
        with pytest.raises(UserError, match="ledger of another data set"):
            ReviewLoader(Numbers(32, targets=[1, 0] * 16), batch_size=4, epochs=6).load_state_dict(saved)


def test_another_data_sets_ledger_is_refused():
    loader = ReviewLoader(Numbers(16, targets=[0, 1] * 8), batch_size=4, epochs=2)
    saved = loader.state_dict()
    more = [0, 1] * 7 + [1, 0, 0, 0]
    for data in (
        Numbers(16, targets=[1, 0] * 8), Numbers(20), TensorDataset(torch.zeros(16)), Numbers(14, [0, 1] * 7),
        Numbers(18, more),
    ):  # fmt: skip
        other = ReviewLoader(data, batch_size=4, epochs=2)
        with pytest.raises(UserError, match="ledger of another data set"):
            other.load_state_dict(saved)
        assert not other.ledger.seen.any()
    ReviewLoader(Numbers(16, targets=[0, 1] * 8), batch_size=4, epochs=2).load_state_dict(saved)


class Open(Numbers):
    """Keeps its numbers as torchvision's data sets keep theirs."""

    def __init__(self, values):
        super().__init__(len(values))
        self.data = values


def test_the_ledger_of_other_examples_is_refused_where_they_lie_open():
    zeros, ones, y = torch.zeros(16, 2), torch.ones(16, 2), torch.tensor([0, 1] * 8)
    pairs = [(x, int(label)) for x, label in zip(zeros, y, strict=True)]
    longer = TensorDataset(torch.cat([zeros, ones]), torch.cat([y, y]))
    for kept, other in (
        (TensorDataset(zeros, y), TensorDataset(ones, y)),
        (TensorDataset(zeros, zeros), TensorDataset(ones, zeros)),
        (TensorDataset(zeros, y), TensorDataset(torch.zeros(16, 3), y)),
        (pairs, [(x, 1 - label) for x, label in pairs]),
        (Subset(longer, list(range(16))), Subset(longer, list(range(16, 32)))),
        (ConcatDataset([pairs[:8], pairs[8:]]), ConcatDataset([pairs[:8], [*pairs[:7], (ones[0], 1)]])),
        (Open(zeros.numpy()), Open(ones.numpy())),
        (Open(["a.jpg"] * 16), Open(["b.jpg"] * 16)),
    ):
        saved = ReviewLoader(kept, batch_size=4, epochs=2).state_dict()
        loader = ReviewLoader(other, batch_size=4, epochs=2)
        with pytest.raises(UserError, match="ledger of another data set"):
            loader.load_state_dict(saved)
        assert not loader.ledger.seen.any()
        ReviewLoader(kept, batch_size=4, epochs=2).load_state_dict(saved)
    saved = ReviewLoader(pairs, batch_size=4, epochs=2).state_dict()
    ReviewLoader([*pairs, (ones[0], 0)], batch_size=4, epochs=2).load_state_dict(saved)  # more at its end
    del saved["content"]  # as states were before
    ReviewLoader(pairs, batch_size=4, epochs=2).load_state_dict(saved)


def test_a_state_is_saved_whatever_lies_open_and_nothing_is_asked_for_an_example():
    class Drawing(list):
        def __getitem__(self, index):
            raise AssertionError("asked")

    odd = [
        torch.eye(2).to_sparse(), torch.complex(torch.ones(2), torch.ones(2)).conj(), {"x": 1}, "a", None, b"b",
        torch.zeros(()), torch.tensor([True]), object(), (1, (2.5, [3])),
    ]  # fmt: skip
    for data in (odd, tuple(odd), Drawing([1, 2])):
        loader = ReviewLoader(data, batch_size=1, epochs=1)
        loader.load_state_dict(loader.state_dict())


def test_another_type_of_data_set_is_another_data_set():
    class Others(Numbers):
        pass

    saved = ReviewLoader(Numbers(16), batch_size=4, epochs=2).state_dict()
    with pytest.raises(UserError, match="ledger of another data set"):
        ReviewLoader(Others(16), batch_size=4, epochs=2).load_state_dict(saved)


def test_the_ledger_of_tensors_with_other_labels_is_refused():
    x, y = torch.zeros(4, 2), torch.tensor([0, 2, 1, 0])
    saved = ReviewLoader(TensorDataset(x, y), batch_size=2, epochs=1).state_dict()
    with pytest.raises(UserError, match="ledger of another data set"):
        ReviewLoader(TensorDataset(x, y.flip(0)), batch_size=2, epochs=1).load_state_dict(saved)


def test_what_compares_the_examples_of_a_batch_is_refused_where_batches_are_the_units():
    with pytest.raises(UserError, match="compares the losses of a batch"):
        ReviewLoader(Numbers(16), batch_size=4, epochs=2, unit="batch", measure="relative")
    with pytest.raises(UserError, match="selective_backprop leaves out examples of a batch"):
        ReviewLoader(Numbers(16), batch_size=4, epochs=2, unit="batch", method="selective_backprop")


def test_the_state_of_bundled_batches_is_not_one_of_single_examples():
    saved = ReviewLoader(Numbers(16), batch_size=4, epochs=2, unit="batch").state_dict()
    with pytest.raises(UserError, match="its unit is 'batch', not 'example'"):
        ReviewLoader(Numbers(16), batch_size=4, epochs=2).load_state_dict(saved)


def test_a_ledger_can_be_kept_as_a_table(tmp_path):
    loader = ReviewLoader(Numbers(16, targets=[0, 1] * 8), batch_size=4, epochs=4)
    drive(loader)
    loader.export(tmp_path / "ledger.parquet")
    assert torch.equal(export.read(tmp_path / "ledger.parquet").visits, loader.ledger.visits)
    assert export.read_examples(tmp_path / "ledger.parquet")[1].tolist() == [0, 1] * 8
    part = ReviewSampler(10, 2, epochs=1, rank=1, world=2)
    part.export(tmp_path / "part.parquet")
    assert export.read_examples(tmp_path / "part.parquet")[0] == [str(index) for index in part.shard.tolist()]


class Drawn(Numbers):
    """A number that each worker draws anew, beside the example's own."""

    def __getitem__(self, index):
        return float(index), torch.rand(())


def test_what_workers_draw_is_the_same_at_the_same_place_in_training():
    def drawn(seed):
        loader = ReviewLoader(Drawn(16), batch_size=4, epochs=2, num_workers=1, seed=seed)
        rows = []
        for _ in range(loader.rounds):
            for x, noise in loader:
                rows.append(noise)
                loader.grade(x.float())
        return torch.cat(rows)

    first = drawn(0)
    torch.rand(3)  # what the global generator was asked in between makes no difference
    assert torch.equal(first, drawn(0))
    assert not torch.equal(first, drawn(1))


def test_arguments_that_no_loader_has_are_refused_with_the_way_to_go():
    with pytest.raises(UserError) as told:
        ReviewLoader(Numbers(), batch_size=4, epochs=2, save=0.7)
    assert "no argument 'save'" in str(told.value)
    assert "settings={'save': ...}" in str(told.value)
    with pytest.raises(UserError, match="no argument 'num_worker'") as told:
        ReviewLoader(Numbers(), batch_size=4, epochs=2, num_worker=2)
    assert told.value.nearest == "num_workers"


def test_labels_are_found_in_what_torch_wraps_around_a_data_set():
    def labels(data):
        found = ReviewLoader(data, batch_size=2, epochs=1).sampler.labels
        return None if found is None else found.tolist()

    x, y = torch.zeros(4, 2), torch.tensor([0, 2, 1, 0])
    pairs, keeps, none = TensorDataset(x, y), Numbers(3, targets=[5, 4, 3]), Numbers(3)
    assert labels(pairs) == [0, 2, 1, 0]
    assert labels(Subset(keeps, [2, 0])) == [3, 5]
    assert labels(Subset(Subset(pairs, range(1, 4)), [1])) == [1]
    assert labels(ConcatDataset([pairs, Subset(keeps, [1])])) == [0, 2, 1, 0, 4]
    pairs.targets = [7, 7, 8, 8]  # what a data set says itself goes before
    assert labels(pairs) == labels(Subset(pairs, range(4))) == [7, 7, 8, 8]
    # no labels where it is not clear that they are classes, or some have none
    for data in (
        TensorDataset(x), TensorDataset(x, y.float()), TensorDataset(x, x.long()), TensorDataset(x, y, torch.arange(4)),
        Subset(none, [0, 1]), ConcatDataset([pairs, none]),
    ):  # fmt: skip
        assert labels(data) is None


def test_what_cannot_be_reviewed_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

    class Endless(Dataset):
        def __getitem__(self, index):
            return index

    with pytest.raises(UserError, match="iterable data set"):
        ReviewLoader(Stream(), batch_size=2, epochs=1)
    with pytest.raises(UserError, match="Endless has no length"):
        ReviewLoader(Endless(), batch_size=2, epochs=1)
    with pytest.raises(UserError, match="holds no examples"):
        ReviewLoader(Numbers(0), batch_size=2, epochs=1)
    with pytest.raises(UserError, match="shuffle is the review's own choice"):
        ReviewLoader(Numbers(), batch_size=2, epochs=1, shuffle=True)
    with pytest.raises(UserError) as caught:
        ReviewLoader(Numbers(), batch_size=2, epochs=1, method="forgeting_curve")
    assert caught.value.nearest == "forgetting_curve"
    with pytest.raises(UserError, match="no setting 'saving'"):
        ReviewLoader(Numbers(), batch_size=2, epochs=1, settings={"saving": 0.3})


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    drive(ReviewLoader(Numbers(), batch_size=8, epochs=2))
    assert torch.equal(before, torch.get_rng_state())


def test_the_clock_follows_the_optimizer():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    loader = ReviewLoader(Numbers(), batch_size=8, epochs=2, method="shuffle", optimizer=optimizer)
    for number, (x, _) in enumerate(loader):
        optimizer.param_groups[0]["lr"] = 0.2 if number < 3 else 0.05
        loader.grade(torch.ones(len(x)))
    assert loader.sampler.reviewer.clock == pytest.approx(0.2 * 3 + 0.05 * 2)


def test_the_sampler_serves_a_loader_of_ones_own():
    sampler = ReviewSampler(40, batch_size=8, epochs=3, seed=1, drop_last=True)
    data = DataLoader(Numbers(), batch_sampler=sampler, num_workers=2)
    steps = 0
    for _ in range(sampler.rounds):
        for x, _ in data:
            sampler.grade(losses_of(x, steps))
            steps += 1
    assert steps == sampler.total_steps
    assert sampler.finished
    silent = ReviewSampler(40, batch_size=8, epochs=3)
    list(silent)
    with pytest.raises(UserError, match="went by without being graded"):
        list(silent)


def test_a_sampler_notices_what_is_graded_twice_or_never():
    sampler = ReviewSampler(12, batch_size=4, epochs=3, method="shuffle")
    loader = DataLoader(Numbers(12), batch_sampler=sampler)
    for x, _ in loader:
        sampler.grade(x.float())
        with pytest.raises(UserError, match="every batch that came was graded already"):
            sampler.grade(x.float())
    assert sampler.ledger.loss.tolist() == list(range(12))
    for number, (x, _) in enumerate(loader):
        if number:
            sampler.grade(x.float())
    with pytest.raises(UserError, match="1 of 3 batches of a round went by without being graded"):
        next(iter(loader))


def test_a_pass_over_a_sampler_may_be_broken_off():
    sampler = ReviewSampler(12, batch_size=4, epochs=3, method="shuffle")
    loader = DataLoader(Numbers(12), batch_sampler=sampler)
    x, _ = next(iter(loader))
    sampler.grade(x.float())
    assert [len(batch) for batch in sampler] == [4, 4]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_examples_and_make_as_many_steps(world):
    samplers = [ReviewSampler(40, batch_size=4, epochs=4, rank=rank, world=world, seed=7) for rank in range(world)]
    firsts = [sorted(index for batch in sampler for index in batch) for sampler in samplers]
    assert {index for first in firsts for index in first} == set(range(40))
    assert len({len(first) for first in firsts}) == 1
    assert sum(map(len, firsts)) == -(-40 // world) * world
    assert len({sampler.total_steps for sampler in samplers}) == 1
    with pytest.raises(UserError, match="process 0 of"):
        samplers[1].load_state_dict(samplers[0].state_dict())
    with pytest.raises(UserError, match="cannot grow"):
        samplers[0].grow(50)
    with pytest.raises(UserError, match="no process 3 of 3"):
        ReviewSampler(40, batch_size=4, epochs=1, rank=3, world=3)
    with pytest.raises(UserError, match="cannot be shared"):
        ReviewSampler(2, batch_size=4, epochs=1, rank=0, world=3)


def test_batches_may_be_the_units():
    loader = ReviewLoader(Numbers(), batch_size=8, epochs=6, unit="batch", seed=1)
    bundles = {tuple(sorted(bundle.tolist())) for bundle in loader.sampler.bundles}
    assert sorted(index for bundle in bundles for index in bundle) == list(range(40))
    means, steps = {}, 0
    for _ in range(loader.rounds):
        for x, _ in loader:
            came = tuple(sorted(x.long().tolist()))
            assert came in bundles
            losses = torch.where(x < 8, 3.0, 0.1).requires_grad_()
            with pytest.raises(UserError, match="the batch has 8 examples"):
                loader.grade(losses[:7])
            mean = loader.grade(losses)
            assert float(mean.detach()) == pytest.approx(float(losses.detach().mean()))
            means[came] = float(losses.detach().mean())
            steps += 1
    assert steps == loader.total_steps == 30
    assert len(loader.ledger) == 5
    told = {
        tuple(sorted(b.tolist())): float(v) for b, v in zip(loader.sampler.bundles, loader.ledger.loss, strict=True)
    }
    assert told == pytest.approx(means)
    assert int(loader.ledger.visits.sum()) == 30
    with pytest.raises(UserError, match="cannot grow"):
        loader.sampler.grow(41)
    with pytest.raises(UserError) as caught:
        ReviewLoader(Numbers(), batch_size=8, epochs=1, unit="batches")
    assert caught.value.nearest == "batch"


def test_unequal_batches_as_units_and_how_many_were_right():
    sampler = ReviewSampler(10, batch_size=4, epochs=1, unit="batch", measure="correct", method="shuffle")
    lengths = []
    for batch in sampler:
        lengths.append(len(batch))
        sampler.grade(torch.ones(len(batch)), correct=torch.tensor([True] * 3 + [False])[: len(batch)])
    assert sorted(lengths) == [2, 4, 4]
    assert sampler.ledger.recall.tolist() == [1.0, 1.0, 1.0]
    assert len(ReviewSampler(10, batch_size=4, epochs=1, unit="batch", drop_last=True).bundles) == 2


def share(rank, world, store, folder):
    """One process of two: a model under DistributedDataParallel, fed by its own part of the examples."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    torch.manual_seed(0)
    net = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 4))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    loader = ReviewLoader(Numbers(40), batch_size=4, epochs=4, seed=3, optimizer=optimizer)
    for _ in range(loader.rounds):
        for x, y in loader:
            losses = torch.nn.functional.cross_entropy(net(x.float()[:, None] / 40), y, reduction="none")
            loader.grade(losses).backward()
            optimizer.step()
            optimizer.zero_grad()
    told = {"visits": loader.ledger.visits, "shard": loader.sampler.shard, "steps": loader.sampler.reviewer.steps}
    torch.save({**told, "weight": net.module.weight.detach()}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_one_network_and_their_visits_add_up(tmp_path):
    torch.multiprocessing.spawn(share, (2, tmp_path / "store", tmp_path), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    torch.testing.assert_close(one["weight"], other["weight"], rtol=0, atol=0)
    assert one["steps"] == other["steps"] == 20
    assert sorted(one["shard"].tolist() + other["shard"].tolist()) == list(range(40))
    assert int(one["visits"].sum() + other["visits"].sum()) == 4 * 40
    assert int(one["visits"].min()) >= 1


def gather_a_round(rank, world, store, folder):
    """What each process knows differs, and after every round something is gathered, as a validation does."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=timedelta(seconds=60)
    )
    told = {}
    for method, settings in (("infobatch", {}), ("forgetting_curve", {"save": "auto"}), ("leitner", {})):
        loader = ReviewLoader(Numbers(80), batch_size=2, epochs=10, seed=3, method=method, settings=settings)
        told[method] = []
        for _ in range(loader.rounds):
            steps = 0
            for x, _ in loader:
                loader.grade(torch.full((len(x),), 0.01) if rank else losses_of(x, steps))
                steps += 1
            torch.distributed.all_reduce(torch.tensor(steps))
            told[method].append(steps)
        assert loader.finished
    torch.save(told, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_make_rounds_of_the_same_size_whatever_each_observed(tmp_path):
    torch.multiprocessing.spawn(gather_a_round, (2, tmp_path / "store", tmp_path), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert one == other
    assert all(len(set(rounds)) > 1 for rounds in one.values())  # they do follow what was observed


def test_each_process_draws_for_itself_and_knows_the_labels_of_its_own_part():
    labels = torch.arange(40)
    parts = [ReviewSampler(40, 4, epochs=4, seed=3, labels=labels, rank=rank, world=2) for rank in range(2)]
    for part in parts:
        assert part.reviewer.labels.tolist() == part.shard.tolist()
    places = [torch.cat([torch.searchsorted(part.shard, batch) for batch in part.batches()]) for part in parts]
    assert not torch.equal(*places)  # the same places of either part would tie the parts together


def test_given_labels_grow_with_the_data_set():
    data, labels = Numbers(16), [0, 1] * 8
    loader = ReviewLoader(data, batch_size=4, epochs=6, labels=labels)
    drive(loader, 1)
    data.count = 20
    with pytest.raises(UserError, match="16 labels for 20 examples") as told:
        next(iter(loader))
    assert "a list that grows with it" in str(told.value)
    labels += [2, 2, 2, 2]
    drive(loader, 1)
    assert loader.sampler.reviewer.labels.tolist() == [0, 1] * 8 + [2] * 4
    again = ReviewLoader(data, batch_size=4, epochs=6, labels=labels)
    again.load_state_dict(loader.state_dict())


def test_labels_of_which_some_are_none_are_left_out():
    # as torchvision's STL-10 has them: -1 for pictures without a class
    loader = ReviewLoader(Numbers(16, targets=[-1, *range(15)]), batch_size=4, epochs=2, settings={"suspend": True})
    assert loader.sampler.labels is None
    drive(loader)


def test_labels_of_another_length_are_refused_on_every_process():
    for rank in (0, 1):
        with pytest.raises(UserError, match="9 labels for 10 examples"):
            ReviewSampler(10, 2, epochs=1, labels=torch.zeros(9, dtype=torch.int64), rank=rank, world=2)


def test_labels_that_do_not_fit_what_has_come_leave_a_sampler_as_it_was():
    sampler = ReviewSampler(10, 2, epochs=2, labels=torch.arange(10))
    before = sampler.fingerprint()
    with pytest.raises(UserError, match="10 labels for 12 examples"):
        sampler.grow(12, torch.arange(10))
    assert (sampler.examples, len(sampler.labels), len(sampler.ledger)) == (10, 10, 10)
    assert sampler.fingerprint() == before


def test_a_batch_that_went_by_is_noticed_at_the_next_one():
    loader = ReviewLoader(Numbers(), batch_size=8, epochs=2, method="shuffle")
    for number, (x, _) in enumerate(loader):
        if number == 2:
            continue
        if number == 3:
            with pytest.raises(UserError, match="a batch before this one was not graded") as refused:
                loader.grade(x)
            assert "loader.skip()" in refused.value.then
            loader.skip()
        loader.grade(x)
    assert loader.sampler.reviewer.round_is_over
    seen = loader.ledger.visits > 0
    assert int(seen.sum()) == 32
    assert loader.ledger.loss[seen].tolist() == torch.arange(40.0)[seen].tolist()  # each has its own


def test_a_loop_may_read_ahead_of_what_it_grades():
    loader = ReviewLoader(Numbers(), batch_size=8, epochs=2, method="shuffle")
    for _ in range(loader.rounds):
        batches = iter(loader)
        before, _ = next(batches)
        for x, _ in batches:
            loader.grade(before)
            before = x
        loader.grade(before)
    assert loader.ledger.loss.tolist() == list(range(40))


def test_where_the_first_of_a_round_went_by_nothing_of_it_is_recorded():
    loader = ReviewLoader(Numbers(), batch_size=8, epochs=2, method="shuffle")
    for number, (x, _) in enumerate(loader):
        if number:
            loader.grade(x)
    with pytest.raises(UserError, match="which ones is not known: nothing of their round was recorded"):
        next(iter(loader))
    assert not loader.ledger.seen.any()
    for x, _ in loader:  # the next round
        loader.grade(x)
    assert loader.finished
    assert loader.ledger.loss.tolist() == list(range(40))


def test_a_sampler_that_let_a_batch_go_by_records_nothing_of_the_round_and_one_may_be_skipped():
    sampler = ReviewSampler(12, batch_size=4, epochs=3, method="shuffle")
    for number, batch in enumerate(sampler):
        if number:
            sampler.grade(torch.tensor(batch).float())
    with pytest.raises(UserError, match="nothing of that round was recorded"):
        next(iter(sampler))
    assert not sampler.ledger.seen.any()
    for number, batch in enumerate(sampler):
        sampler.grade(torch.tensor(batch).float()) if number else sampler.skip()
    seen = sampler.ledger.seen
    assert int(seen.sum()) == 8
    assert sampler.ledger.loss[seen].tolist() == torch.arange(12.0)[seen].tolist()
    with pytest.raises(UserError, match="no batch to leave out"):
        sampler.skip()


def test_a_data_set_that_was_smaller_than_a_batch_gets_whole_ones_when_it_has_grown():
    data = Numbers(4)
    loader = ReviewLoader(data, batch_size=16, epochs=40, method="shuffle")
    drive(loader, 1)
    data.count = 40
    sizes = [len(x) for x, _ in loader if loader.grade(torch.ones(len(x))) is not None]
    assert max(sizes) == 16
    again = ReviewLoader(Numbers(40), batch_size=16, epochs=40, method="shuffle")
    again.load_state_dict(loader.state_dict())
    small = ReviewLoader(Numbers(4), batch_size=16, epochs=40, method="shuffle")
    drive(small, 1)
    state = small.state_dict()
    again.load_state_dict(state)
    state["reviewer"]["settings"]["batch_size"] = 4  # as earlier versions saved it
    del state["reviewer"]["batch_size"]
    again.load_state_dict(state)
    assert len(again.ledger) == 40


def test_a_generator_that_is_given_is_not_seeded_anew():
    mine = torch.Generator().manual_seed(5)
    loader = ReviewLoader(Numbers(), batch_size=8, epochs=2, generator=mine)
    drive(loader, 1)
    assert mine.initial_seed() == 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": methods.build("shuffle"), "settings": {"save": 0.9}}, "settings are for methods that are given by"),
        ({"settings": ["save"]}, "settings cannot be"),
        ({"settings": {"classes": True}}, "classes needs to know the class of every example"),
        ({"settings": {"classes": True}, "labels": [0, 1] * 20, "unit": "batch"}, "classes needs to know the class"),
        ({"seed": "3"}, "seed cannot be '3'"),
        ({"seed": 1.5}, "seed cannot be 1.5"),
    ],
)
def test_what_no_loader_can_be_made_of_is_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        ReviewLoader(Numbers(), batch_size=8, epochs=2, **wrong)


def test_a_sampler_wants_the_number_of_examples():
    with pytest.raises(UserError, match="Numbers is no number of examples") as refused:
        ReviewSampler(Numbers(), 16, epochs=2)
    assert refused.value.allowed == "len(dataset)"


@pytest.mark.parametrize("lr", [math.inf, math.nan, -1.0, "x", True])
def test_a_learning_rate_by_which_no_clock_goes_is_refused(lr):
    loader = ReviewLoader(Numbers(), batch_size=8, epochs=2)
    x, _ = next(iter(loader))
    with pytest.raises(UserError, match="lr cannot be"):
        loader.grade(torch.ones(len(x)), lr=lr)
    loader.grade(torch.ones(len(x)), lr=0.0)
    assert math.isfinite(loader.sampler.reviewer.clock)


def test_an_answer_is_right_or_wrong():
    for loader in (ReviewLoader(Numbers(), batch_size=8, epochs=2, measure="correct", unit=unit) for unit in UNITS):
        x, _ = next(iter(loader))
        for wrong in (torch.full((8,), math.nan), torch.full((8,), 0.5)):
            with pytest.raises(UserError, match="neither right nor wrong"):
                loader.grade(torch.ones(len(x)), correct=wrong)
        with pytest.raises(UserError, match="correct is of shape list, the batch has 8 examples"):
            loader.grade(torch.ones(len(x)), correct=[True] * 8)
        loader.grade(torch.ones(len(x)), correct=torch.ones(8))


def test_with_whole_batches_a_loss_that_is_not_finite_is_told_by_its_own_place():
    loader = ReviewLoader(Numbers(), batch_size=8, epochs=2, unit="batch")
    next(iter(loader))
    losses = torch.ones(8)
    losses[5] = math.nan
    with pytest.raises(UserError, match="the loss of place 5 in the batch is nan"):
        loader.grade(losses)


def test_a_bundled_row_of_the_table_names_its_examples(tmp_path):
    loader = ReviewLoader(Numbers(10), batch_size=4, epochs=2, unit="batch")
    drive(loader, 1)
    loader.export(tmp_path / "ledger.parquet")
    names, _ = read_examples(tmp_path / "ledger.parquet")
    assert [[int(one) for one in name.split()] for name in names] == [one.tolist() for one in loader.sampler.bundles]
    shared = ReviewSampler(16, batch_size=4, epochs=2, unit="batch", rank=1, world=2)
    shared.export(tmp_path / "ledger.parquet")
    names, _ = read_examples(tmp_path / "ledger.parquet")
    assert sorted(int(one) for name in names for one in name.split()) == shared.shard.tolist()


def test_what_is_no_state_is_refused():
    loader = ReviewLoader(Numbers(), batch_size=8, epochs=2)
    drive(loader, 1)
    before = visits_of(loader)
    for state, message in ((None, "NoneType is no state"), ({**loader.state_dict(), "rank": 1}, "of process 1 of 1")):
        with pytest.raises(UserError, match=message):
            loader.load_state_dict(state)
    beyond = loader.state_dict()
    beyond["reviewer"]["order"] = torch.full((8,), 40, dtype=torch.int32)
    with pytest.raises(UserError, match="examples that are not 0 to 39"):
        loader.load_state_dict(beyond)
    assert visits_of(loader) == before


def test_a_mixed_picture_is_graded_by_its_larger_part():
    """As mixup does in one's own loop: a weight and a partner for each; the larger part's loss is its own example's."""
    loader = ReviewLoader(Numbers(), batch_size=8, epochs=2, method="shuffle")
    draws = torch.Generator().manual_seed(3)
    shown_to = {}
    for x, _ in loader:
        weight, partner = torch.rand(8, generator=draws), torch.randperm(8, generator=draws)
        one = x.clone().requires_grad_()
        mixed = weight * one + (1 - weight) * one[partner]
        places = torch.where(weight >= 0.5, torch.arange(8), partner)
        mean = loader.grade(mixed, shown=x[places] + 0.25, places=places)
        assert mean.item() == pytest.approx(mixed.mean().item())
        mean.backward()
        assert one.grad.sum().item() == pytest.approx(1.0)
        shown_to |= {int(x[place]): float(x[place]) + 0.25 for place in places}
    assert 20 < len(shown_to) < 40  # some were only ever the smaller part
    assert loader.ledger.seen.nonzero().flatten().tolist() == sorted(shown_to)
    assert loader.ledger.loss[loader.ledger.seen].tolist() == [shown_to[one] for one in sorted(shown_to)]


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_shown_of_a_batch_is_as_much_as_the_batch(unit):
    loader = ReviewLoader(Numbers(), batch_size=8, epochs=2, unit=unit)
    next(iter(loader))
    with pytest.raises(UserError, match="losses are of shape 7, the batch has 8"):
        loader.grade(torch.ones(8), shown=torch.ones(7))
    with pytest.raises(UserError, match="place 2 in the batch is nan"):
        loader.grade(torch.ones(8), shown=torch.tensor([1.0, 1.0, math.nan, 1.0, 1.0, 1.0, 1.0, 1.0]))
    if unit == "example":
        for wrong in (torch.full((8,), 8), torch.full((8,), -1), torch.arange(7), torch.ones(8), [0] * 8):
            with pytest.raises(UserError, match="places are not those of the batch"):
                loader.grade(torch.ones(8), places=wrong)
    loader.grade(torch.ones(8), shown=torch.full((8,), 3.0), places=torch.zeros(8).long())
    assert float(loader.sampler.reviewer.observed().losses.mean()) == 3.0
