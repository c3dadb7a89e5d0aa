"""A stream is reviewed as its method says, every grade finds its example, and a saved stream goes on bit by bit."""

import io
from types import SimpleNamespace

import pytest
import torch

import engram
from engram.errors import UserError
from engram.review import stream_methods
from engram.review.ledger import COLUMNS, Ledger
from engram.review.stream import FIT_ROWS, ReviewStream
from engram.review.stream_methods import Held, chances, highest, predicted


def losses_of(x, step):
    return torch.sin(x.float() * 1.7 + step).abs() * 2


def go(stream, batches=range(12), size=6, extra=None):
    """Batches of examples numbered as they come; the numbers of every mixed batch."""
    came = []
    for number in batches:
        x = torch.arange(number * size, (number + 1) * size)
        mixed, labels = stream.mix(x, (x // 20) % 5)
        assert ((mixed // 20) % 5 == labels).all()
        stream.grade(losses_of(mixed, number), **(extra or {}))
        came.append(mixed.tolist())
    return came


def rows(ledger):
    return {name: getattr(ledger, name).tolist() for name in COLUMNS}


def held(losses=None, *, arrival=None, labels=None, coming=None, quota=2, count=6, clock=2.0, seed=0, **columns):
    ledger = Ledger(count)
    ledger.visits += 1
    if losses is not None:
        ledger.loss = torch.as_tensor(losses)
    for name, values in columns.items():
        setattr(ledger, name, torch.as_tensor(values).to(COLUMNS[name]))
    return Held(
        ledger,
        torch.arange(count) if arrival is None else torch.as_tensor(arrival),
        torch.zeros(count).long() if labels is None else torch.as_tensor(labels),
        coming,
        quota,
        clock,
        torch.Generator().manual_seed(seed),
    )


def test_the_top_of_the_package_has_it():
    assert engram.ReviewStream is ReviewStream


@pytest.mark.parametrize("method", ["recent", "uniform", "forgetting_curve", "due", "loss"])
def test_a_batch_is_its_own_examples_and_then_remembered_ones(method):
    came = go(ReviewStream(capacity=30, method=method))
    assert came[0] == list(range(6))
    for number, mixed in enumerate(came[1:], 1):
        assert mixed[:6] == list(range(6 * number, 6 * number + 6))
        assert len(mixed) == 12
        assert len(set(mixed)) == 12
        assert max(mixed[6:]) < 6 * number


@pytest.mark.parametrize(("review", "reviewed"), [(0.0, 0), (0.25, 2), (0.5, 6), (0.75, 18)])
def test_the_share_that_is_reviewed(review, reviewed):
    assert len(go(ReviewStream(store="all", method="uniform", review=review))[-1]) == 6 + reviewed


def test_none_reviews_nothing_and_keeps_the_ledger():
    stream = ReviewStream(capacity=30, method="none")
    assert {len(mixed) for mixed in go(stream)} == {6}
    assert stream.ledger.visits.tolist() == [1] * 30


def test_every_grade_finds_its_example():
    stream = ReviewStream(capacity=20, method="uniform", seed=3)
    last, count = {}, {}
    for number in range(20):
        x = torch.arange(number * 6, number * 6 + 6)
        mixed = stream.mix(x)
        assert stream.reviewed == len(mixed) - 6
        stream.grade(losses_of(mixed, number))
        for one in mixed.tolist():
            last[one] = (float(losses_of(torch.tensor(one), number)), number)
            count[one] = count.get(one, 0) + 1
    ledger, numbers = stream.ledger, stream.store.rows[""][:20].tolist()
    assert stream.store.arrival[:20].tolist() == numbers
    assert ledger.loss.tolist() == pytest.approx([last[one][0] for one in numbers])
    assert ledger.visits.tolist() == [count[one] for one in numbers]  # a place given away begins anew
    assert max(ledger.visits.tolist()) > 2
    clocks = [0.0] + [(6 + 12 * before) / 20 for before in range(19)]
    assert ledger.last.tolist() == pytest.approx([clocks[last[one][1]] for one in numbers])
    assert (len(stream), stream.seen, stream.steps) == (20, 120, 20)


@pytest.mark.parametrize("method", list(stream_methods.METHODS))
def test_the_same_seed_gives_the_same_stream_and_no_other_draw_is_touched(method):
    before = torch.random.get_rng_state()
    first, again, other = (go(ReviewStream(capacity=25, method=method, seed=seed)) for seed in (4, 4, 5))
    assert first == again
    assert (first != other) == (method != "none")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_recent_takes_the_newest():
    assert sorted(go(ReviewStream(store="all", method="recent"))[5][6:]) == list(range(24, 30))


def test_loss_takes_the_largest():
    assert sorted(stream_methods.LargestLoss().choose(held([1.0, 5, 2, 0, 4, 3])).tolist()) == [1, 4]


def test_uniform_takes_any():
    counts = torch.zeros(6)
    for seed in range(600):
        counts[stream_methods.Uniform().choose(held(seed=seed))] += 1
    assert (counts - 200).abs().max() < 4 * (600 * (1 / 3) * (2 / 3)) ** 0.5


def test_equal_ones_are_taken_at_random():
    drawn = {tuple(sorted(highest(torch.zeros(6), held(seed=seed)).tolist())) for seed in range(40)}
    assert len(drawn) > 8


def test_predicted_recall_relaxes_to_what_is_known_on_average():
    memory = stream_methods.build("due", {"memory": "exponential"}).memory
    given = held(clock=7.0, count=3, recall=[1.0, 0.5, 0.0], strength=[7.0] * 3, difficulty=[1.0] * 3)
    assert predicted(given, memory).tolist() == pytest.approx([0.5 + 0.5 * 0.9, 0.5, 0.0], abs=1e-3)
    assert predicted(given, None).tolist() == [1.0, 0.5, 0.0]


def test_due_takes_the_lowest_predicted_recall():
    given = held(
        clock=9.0, recall=[0.9] * 3 + [0.2] * 3, strength=[1.0, 9, 9, 9, 9, 9], difficulty=[1.0] * 6, last=[8.0] * 6
    )
    method = stream_methods.Due(memory="exponential")
    assert 0 not in method.choose(given).tolist()  # its average grade is above what is lost of it
    fading = held(clock=9.0, recall=[0.9] * 4 + [0.2] * 2, strength=[1.0, 9, 1, 9, 9, 9], difficulty=[1.0] * 6, quota=4)
    assert sorted(method.choose(fading).tolist()) == [0, 2, 4, 5]


def test_the_forgetting_curve_draws_by_what_is_lost():
    method = stream_methods.ForgettingCurve(memory="exponential", floor=0.3, sharpness=2.0, forgetting=False)
    recall = [0.9, 0.9, 0.7, 0.7, 0.5, 0.5]
    lost = (1 - torch.tensor(recall).half().double()) ** 2
    wanted = 2 * (0.7 * lost / lost.sum() + 0.3 / 6)
    counts, runs = torch.zeros(6), 1200
    for seed in range(runs):
        chosen = method.choose(held(recall=recall, seed=seed))
        assert len(chosen.unique()) == 2
        counts[chosen] += 1
    sd = (runs * wanted * (1 - wanted)) ** 0.5
    assert ((counts - runs * wanted) / sd).abs().max() < 4


def test_what_is_forgotten_in_the_meantime_is_more_likely():
    def share(**settings):
        method = stream_methods.ForgettingCurve(memory="exponential", floor=0.0, **settings)
        hits = 0
        for seed in range(200):
            given = held(
                clock=50.0,
                recall=[0.9] * 5 + [0.3],
                last=[0.0] + [49.9] * 5,
                strength=[5.0] * 6,
                difficulty=[1.0] * 6,
                quota=1,
                seed=seed,
            )
            hits += int(0 in method.choose(given).tolist())
        return hits / 200

    assert share() > share(forgetting=False) + 0.04


def test_coming_classes_are_left_out():
    method = stream_methods.ForgettingCurve(floor=0.0, forgetting=False)
    given = {"recall": [0.5] * 6, "labels": [0, 1, 2, 0, 1, 2]}
    assert sorted(method.choose(held(coming=torch.tensor([1, 2, 1]), **given)).tolist()) == [0, 3]


def test_coming_classes_lose_a_share():
    method = stream_methods.ForgettingCurve(floor=0.0, coming=0.75, forgetting=False)
    counts, runs = torch.zeros(6), 800
    for seed in range(runs):
        given = held(recall=[0.5] * 6, labels=[0] * 3 + [1] * 3, coming=torch.tensor([1]), quota=1, seed=seed)
        counts[method.choose(given)] += 1
    assert abs(counts[3:].sum() - runs / 5) < 4 * (runs * 0.2 * 0.8) ** 0.5


@pytest.mark.parametrize("coming", [None, torch.tensor([0, 1])])
def test_where_all_classes_come_or_none_is_known_none_is_left_out(coming):
    method = stream_methods.ForgettingCurve(floor=0.0, forgetting=False)
    for seed in range(20):
        given = held(recall=[1.0, 0.5, 1, 1, 1, 0.5], labels=[0, 0, 0, 1, 1, 1], coming=coming, seed=seed)
        assert sorted(method.choose(given).tolist()) == [1, 5]


def test_chances():
    assert chances(torch.zeros(4), 2, 0.3).tolist() == [0.5] * 4
    assert chances(torch.tensor([1.0, 0, 0, 0]), 2, 0.0).tolist() == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3])
    assert chances(torch.tensor([8.0, 1, 1, 1]), 2, 0.1).max() == 1
    assert chances(torch.tensor([8.0, 1, 1, 1]), 2, 0.1).sum() == pytest.approx(2)


def test_the_mean_and_its_weights():
    stream = ReviewStream(capacity=4)
    stream.mix(torch.zeros(3))
    losses = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    assert stream.grade(losses) == 3
    stream.mix(torch.zeros(3))
    with pytest.raises(UserError, match="weights that cannot be used"):
        stream.grade(torch.ones(6), weights=torch.tensor([1.0, 1, 1, 1, 1, -1]))
    with pytest.raises(UserError, match="6 numbers"):
        stream.grade(torch.ones(6), weights=torch.ones(3))
    with pytest.raises(UserError, match="not all 0"):
        stream.grade(torch.ones(6), weights=torch.zeros(6))
    stream.skip()
    stream.mix(torch.zeros(1))
    mean = stream.grade(losses[:2], weights=torch.tensor([3.0, 1.0]))
    assert mean.item() == pytest.approx(1.25)
    mean.backward()
    assert losses.grad.tolist() == [0.75, 0.25, 0.0]


def test_answers_count_where_recall_is_measured_so():
    stream = ReviewStream(capacity=4, measure="correct")
    stream.mix(torch.zeros(2))
    with pytest.raises(UserError, match="correct is of shape 3, the batch has 2"):
        stream.grade(torch.ones(2), correct=torch.tensor([True] * 3))
    stream.grade(torch.ones(2), correct=torch.tensor([True, False]))
    assert stream.ledger.recall.tolist() == [1, 0]


def test_the_clock():
    def clocks(**settings):
        stream = ReviewStream(capacity=30, method="uniform", **settings)
        go(stream, range(1))
        first = stream.clock
        go(stream, range(1, 3), extra={"lr": 0.1} if settings.get("clock") == "updates" else None)
        second = stream.clock - first
        go(stream, range(3, 4), extra={"lr": 0.05})
        return round(30 * first, 6), round(30 * second, 6), round(30 * (stream.clock - first - second), 6)

    assert clocks(clock="visits") == (6, 24, 12)
    assert clocks(clock="steps") == (6, 24, 12)
    assert clocks(clock="updates") == (6, 24, 6)
    assert clocks(clock="visits", unit=60.0) == (3, 12, 6)
    assert ReviewStream(store="all").unit == 2000


@pytest.mark.parametrize(("clock", "visits"), [("steps", 12), ("updates", 12), ("visits", 4)])
def test_a_smaller_batch_is_as_much_time_as_a_full_one(clock, visits):
    whole, saved = (ReviewStream(capacity=30, method="uniform", clock=clock) for _ in range(2))
    go(whole, range(3))
    saved.load_state_dict(whole.state_dict())
    for stream in (whole, saved):
        before = stream.clock
        stream.mix(torch.arange(2), torch.arange(2))
        stream.grade(torch.ones(4))
        assert 30 * (stream.clock - before) == pytest.approx(visits)


def test_the_rate_is_the_optimizers():
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.2}])
    stream = ReviewStream(capacity=6, optimizer=optimizer)
    go(stream, range(1))
    optimizer.param_groups[0]["lr"] = 0.05
    before = stream.clock
    go(stream, range(1, 2))
    assert stream.clock - before == pytest.approx(12 / 6 / 4)


def test_the_memory_model_follows_the_record():
    stream = ReviewStream(store="all", method="due")
    start = dict(stream.method.memory.parameters)
    steps = FIT_ROWS // 200
    go(stream, range(steps + 1), size=200)
    assert stream.method.memory.parameters == start
    assert len(stream.record) == 200 * steps
    go(stream, range(steps + 1, steps + 2), size=200)
    assert stream.method.memory.parameters != start
    assert len(stream.record) == 0


def test_the_permuted_control_visits_as_many_and_knows_nothing():
    class First(stream_methods.StreamMethod):
        def choose(self, held):
            self.shown = held
            return torch.arange(held.quota)

    plain, permuted = (ReviewStream(capacity=12, method=First(), permuted=permuted) for permuted in (False, True))
    for stream in (plain, permuted):
        for x in torch.arange(12).split(6):
            mixed, _ = stream.mix(x, x % 5)
            stream.grade(losses_of(mixed, 0))
        stream.mix(torch.arange(12, 18), torch.arange(12, 18))
    assert plain.method.shown.arrival.tolist() == list(range(12))
    shown = permuted.method.shown
    assert sorted(shown.arrival.tolist()) == list(range(12))
    assert shown.arrival.tolist() != list(range(12))
    assert shown.ledger.loss.tolist() == permuted.ledger.loss[shown.arrival].tolist()
    assert shown.labels.tolist() == permuted.store.labels[shown.arrival].tolist()
    assert shown.labels.tolist() != permuted.store.labels[:12].tolist()  # each with the example that is shown
    assert permuted.waiting.places.tolist() == [0, 1, 2, 3, 4, 5]
    permuted.skip()
    permuted.mix(torch.arange(12, 18), torch.arange(12, 18))
    assert permuted.method.shown.arrival.tolist() == shown.arrival.tolist()


@pytest.mark.parametrize("method", list(stream_methods.METHODS))
@pytest.mark.parametrize("store", ["reservoir", "ring", "all"])
def test_a_saved_stream_goes_on_bit_by_bit(method, store):
    def made():
        return ReviewStream(capacity=25, method=method, store=store, seed=6, clock="visits")

    whole, first, second = made(), made(), made()
    wanted = go(whole, range(14))
    go(first, range(6))
    first.mix(torch.arange(36, 42), torch.arange(6))  # mixed and not graded: it comes again
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert go(second, range(6, 14)) == wanted[6:]
    assert rows(second.ledger) == rows(whole.ledger)
    assert second.state_dict()["method"] == whole.state_dict()["method"]
    assert second.clock == whole.clock
    assert second.record.grade.tolist() == whole.record.grade.tolist()


def test_an_empty_stream_is_saved_too():
    stream = ReviewStream(capacity=9)
    stream.load_state_dict(ReviewStream(capacity=9).state_dict())
    assert go(stream, range(2))[0] == list(range(6))


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"capacity": 26}, "capacity"),
        ({"method": "due"}, "method"),
        ({"floor": 0.3}, "floor"),
        ({"seed": 1}, "seed"),
        ({"review": 0.4}, "review"),
        ({"store": "ring"}, "store"),
        ({"permuted": True}, "permuted"),
        ({"balanced": True}, "balanced"),
        ({"unit": 3.0}, "unit"),
        ({"clock": "steps"}, "clock"),
        ({"measure": "correct"}, "measure"),
    ],
)
def test_the_state_of_another_stream(settings, word):
    saved = ReviewStream(capacity=25).state_dict()
    other = ReviewStream(**{"capacity": 25, **settings})
    go(other, range(2))
    before = rows(other.ledger)
    with pytest.raises(UserError, match=f"its {word} is"):
        other.load_state_dict(saved)
    assert rows(other.ledger) == before


def test_nothing_is_changed_by_losses_that_cannot_be_used():
    stream = ReviewStream(capacity=25)
    with pytest.raises(UserError, match="no batch to grade"):
        stream.grade(torch.zeros(6))
    with pytest.raises(UserError, match="no batch to leave out"):
        stream.skip()
    go(stream, range(3))
    with pytest.raises(UserError, match="graded already"):
        stream.grade(torch.zeros(12))
    x = torch.arange(18, 24)
    mixed, _ = stream.mix(x, x)
    before = rows(stream.ledger), stream.seen, stream.clock
    for wrong, words in (
        (torch.zeros(6), "shape 6, the batch has 12 examples, 6 of them reviewed"),
        (torch.zeros(12, 1), "shape 12x1"),
        (torch.tensor(1.0), "a single number"),
        (torch.tensor([0.0] * 11 + [torch.inf]), "place 11 in the batch is inf"),
    ):
        with pytest.raises(UserError, match=words):
            stream.grade(wrong)
    with pytest.raises(UserError, match="was not graded"):
        stream.mix(x, x)
    assert (rows(stream.ledger), stream.seen, stream.clock) == before
    stream.grade(losses_of(mixed, 3))
    assert stream.seen == 24


def test_a_batch_that_is_left_out_is_not_kept():
    stream = ReviewStream(capacity=25)
    go(stream, range(2))
    stream.mix(torch.arange(6), torch.arange(6))
    stream.skip()
    assert stream.seen == 12
    assert stream.steps == 3
    go(stream, range(2, 4))


def test_a_batch_of_another_form_is_refused_before_anything():
    stream = ReviewStream(capacity=25)
    go(stream, range(2))
    with pytest.raises(UserError, match="has the parts"):
        stream.mix({"x": torch.zeros(2)})
    go(stream, range(2, 3))


def test_a_form_with_parts_within_parts():
    stream = ReviewStream(store="all", method="recent")
    for number in range(2):
        batch = {"image": torch.full((2, 3, 4), float(number)), "text": [f"a{number}", f"b{number}"]}
        mixed = stream.mix(batch)
        stream.grade(torch.ones(len(mixed["text"])))
    assert mixed["image"].shape == (4, 3, 4)
    assert mixed["image"][:, 0, 0].tolist() == [1, 1, 0, 0]
    assert mixed["text"][:2] == ["a1", "b1"]
    assert sorted(mixed["text"][2:]) == ["a0", "b0"]


def test_classes_are_the_second_of_two_parts_or_said():
    stream = ReviewStream(capacity=8, balanced=True)
    stream.mix([torch.zeros(2), torch.tensor([3, 4])])
    stream.grade(torch.ones(2))
    assert stream.store.labels[:2].tolist() == [3, 4]
    stream.mix([torch.zeros(2), torch.tensor([3, 4])], labels=torch.tensor([8, 9]))
    stream.grade(torch.ones(4))
    assert stream.store.labels[:4].tolist() == [3, 4, 8, 9]
    with pytest.raises(UserError, match="labels are float32 of shape"):
        stream.mix([torch.zeros(2), torch.tensor([3, 4])], labels=torch.zeros(2))
    with pytest.raises(UserError, match="labels are int64 of shape"):
        stream.mix([torch.zeros(2), torch.tensor([3, 4])], labels=torch.zeros(3).long())
    other = ReviewStream(capacity=8, balanced=True)
    for parts in (
        (torch.zeros(2, 3), torch.zeros(2)),
        (torch.zeros(2, dtype=torch.int64),),
        (torch.zeros(2), torch.zeros(2, 1).long()),
        (torch.zeros(2), torch.tensor([3, 4]), torch.tensor([0, 1])),  # the last may be an index, or the classes
        (torch.zeros(2), torch.tensor([0.5, 1.0]), torch.tensor([0, 1])),
    ):
        with pytest.raises(UserError, match="needs classes"):
            other.mix(*parts)


def test_an_index_is_no_class():
    stream = ReviewStream(capacity=6, store="ring", method="none")
    for begin in range(0, 24, 4):
        index = torch.arange(begin, begin + 4)
        stream.mix(torch.zeros(4), index % 2, index)
        stream.grade(torch.ones(4))
    assert sorted(stream.store.rows["2"].tolist()) == list(range(18, 24))  # the newest
    assert stream.store.labels.tolist() == [-1] * 6
    stream.mix(torch.zeros(4), torch.tensor([3, 3, 4, 4]), torch.arange(4), labels=torch.tensor([3, 3, 4, 4]))
    stream.grade(torch.ones(4))
    assert sorted(stream.store.labels.tolist()) == [-1, -1, 3, 3, 4, 4]


def test_a_ring_shares_its_places_where_there_are_classes():
    stream = ReviewStream(capacity=6, store="ring", method="none")
    for label in (0, 1, 2):
        stream.mix(torch.zeros(20), torch.full((20,), label))
        stream.grade(torch.ones(20))
    assert torch.bincount(stream.store.labels).tolist() == [2, 2, 2]
    plain = ReviewStream(capacity=6, store="ring", balanced=False, method="none")
    go(plain)
    assert sorted(plain.store.rows["0"].tolist()) == list(range(66, 72))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"review": 1.0}, "review cannot be 1.0"),
        ({"review": -0.1}, "review cannot be"),
        ({"clock": "update"}, "no clock 'update'"),
        ({"measure": "right"}, "cannot be measured by 'right'"),
        ({"method": "uniformly"}, "'uniformly' is not known"),
        ({"flor": 0.1}, "no setting 'flor'"),
        ({"method": "uniform", "floor": 0.1}, "'uniform' has no setting 'floor'"),
        ({"floor": 2.0}, "floor"),
        ({"sharpness": 0.0}, "sharpness"),
        ({"coming": 2.0}, "coming"),
        ({"unit": 0.0}, "unit cannot be 0.0"),
        ({"forgetting": "off"}, "forgetting"),
        ({"permuted": "off"}, "permuted"),
        ({"permuted": True, "method": "uniform"}, "Uniform has no permuted control"),
        ({"permuted": True, "method": "none"}, "NoReview has no permuted control"),
        ({"store": "rin"}, "no store 'rin'"),
        ({"capacity": None}, "capacity cannot be None"),
        ({"method": stream_methods.Uniform(), "floor": 0.1}, "settings are for methods that are given by name"),
    ],
)
def test_settings_that_cannot_be_used(settings, words):
    with pytest.raises(UserError, match=words):
        ReviewStream(**{"capacity": 10, **settings})


def test_a_state_that_is_not_whole_leaves_the_stream_as_it_was():
    stream = ReviewStream(capacity=20, seed=1)
    for x in torch.arange(60.0).split(6):
        mixed = stream.mix(x)
        stream.grade(mixed / 60)
    whole = stream.state_dict()
    other = ReviewStream(capacity=20, seed=1)
    for x in torch.arange(30.0).split(6):
        mixed = other.mix(x)
        other.grade(mixed / 60)
    before = other.state_dict()
    for part, key in (("store", "keys"), ("ledger", "strength"), (None, "highest_lr")):
        broken = {**whole, "store": dict(whole["store"]), "ledger": dict(whole["ledger"])}
        del (broken if part is None else broken[part])[key]
        with pytest.raises(UserError):
            other.load_state_dict(broken)
        assert torch.equal(other.state_dict()["store"]["arrival"], before["store"]["arrival"])
        assert (other.steps, other.clock, len(other), other.seen) == (5, before["clock"], 20, 30)
        assert torch.equal(other.ledger.strength, before["ledger"]["strength"])
    with pytest.raises(UserError, match="NoneType is no state"):
        other.load_state_dict(None)
    other.load_state_dict(whole)
    assert other.seen == 60


def test_losses_and_answers_that_are_none_are_refused():
    stream = ReviewStream(capacity=4, measure="correct")
    stream.mix(torch.zeros(2))
    for losses, kind in (([0.1, 0.1], "list"), (torch.ones(2, dtype=torch.int64), "torch.int64")):
        with pytest.raises(UserError, match=f"losses are {kind}"):
            stream.grade(losses)
    with pytest.raises(UserError, match="correct is of shape list"):
        stream.grade(torch.ones(2), correct=[True, True])
    with pytest.raises(UserError, match="neither right nor wrong"):
        stream.grade(torch.ones(2), correct=torch.tensor([1.0, 0.3]))
    with pytest.raises(UserError, match="lr cannot be inf"):
        stream.grade(torch.ones(2), lr=float("inf"))
    stream.grade(torch.ones(2), correct=torch.tensor([True, False]))


@pytest.mark.parametrize("wrong", [{"review": "x"}, {"unit": "batch"}])
def test_text_is_no_share_and_no_unit(wrong):
    with pytest.raises(UserError, match="cannot be"):
        ReviewStream(capacity=4, **wrong)
