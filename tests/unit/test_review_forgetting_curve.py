"""The proposal: who is visited follows what is predicted to be forgotten, and the exceptions hold."""

import pytest
import torch

from engram.errors import UserError
from engram.review import methods, selection
from engram.review.ledger import Ledger
from engram.review.method import Moment
from engram.review.methods.forgetting_curve import is_leech, resized, with_class_quotas
from engram.review.reviewer import Reviewer


def moment(**more):
    given = {
        "round": 1,
        "quota": 10,
        "left": 1000,
        "spent": 0.5,
        "clock": 8.0,
        "batch_size": 5,
        "rng": torch.Generator().manual_seed(0),
        "labels": None,
    } | more
    return Moment(**given)


def known(recall, *, last=0.0, strength=7.0, visits=3, streak=1):
    """A ledger whose rows were visited."""
    ledger = Ledger(len(recall))
    ledger.recall[:] = torch.tensor(recall)
    ledger.visits[:], ledger.streak[:] = visits, streak
    ledger.strength[:] = torch.as_tensor(strength, dtype=torch.float32)
    ledger.difficulty[:] = 5.0
    ledger.last[:] = torch.as_tensor(last, dtype=torch.float32)
    return ledger


def drawn(method, ledger, rounds=2000, **more):
    """How often each example was drawn."""
    counts = torch.zeros(len(ledger))
    rng = torch.Generator().manual_seed(1)
    for _ in range(rounds):
        counts[method.choose(ledger, moment(rng=rng, **more)).indices] += 1
    return counts / rounds


def test_predicted_recall_relaxes_from_what_was_known_to_what_the_network_knows_of_any():
    method = methods.build("forgetting_curve", {"memory": "exponential"})
    ledger = known([0.9, 0.9, 0.2, 0.6, 0.0], last=[8.0, 1.0, 1.0, 3.0, 0.0], strength=[7.0, 2.0, 2.0, 4.0, 0.0])
    ledger.visits[4] = 0
    predicted = method.predicted(ledger, 8.0)
    mean = (0.9 + 0.9 + 0.2 + 0.6) / 4
    left = method.memory.left(8.0 - ledger.last, ledger.strength, ledger.difficulty).tolist()
    by_hand = [
        min(value, mean) + (value - min(value, mean)) * share
        for value, share in zip([0.9, 0.9, 0.2, 0.6], left, strict=False)
    ]
    assert predicted[:4].tolist() == pytest.approx(by_hand, abs=1e-3)
    assert predicted[4] == 0
    assert predicted[0] == pytest.approx(0.9, abs=1e-3)  # just seen
    assert mean < predicted[1] < 0.9  # half forgotten
    assert predicted[2] == pytest.approx(0.2, abs=1e-3)  # what was not known cannot be forgotten
    stale = methods.build("forgetting_curve", {"memory": "exponential", "forgetting": False})
    assert stale.predicted(ledger, 8.0)[1] == pytest.approx(0.9, abs=1e-3)


def test_visits_go_by_what_is_predicted_to_be_gone_within_the_floor():
    method = methods.build("forgetting_curve", {"forgetting": False, "leeches": False, "floor": 0.2})
    ledger = known([0.999] * 10 + [0.8] * 5 + [0.6] * 5)
    often = drawn(method, ledger, quota=6)
    # 10 at the floor of .2, and the other 4 visits go 1 : 2 to those with .2 and .4 gone
    assert often[:10].tolist() == pytest.approx([0.2] * 10, abs=0.05)
    assert often[10:15].tolist() == pytest.approx([4 / 15] * 5, abs=0.05)
    assert often[15:].tolist() == pytest.approx([8 / 15] * 5, abs=0.05)


def test_new_examples_come_for_certain():
    ledger = known([0.9] * 20)
    ledger.visits[:3] = 0
    assert drawn(methods.build("forgetting_curve"), ledger, 50, quota=6)[:3].tolist() == [1.0] * 3


@pytest.mark.parametrize("spent", [0.9, 0.95])
def test_the_last_phase_and_the_first_round_are_plain_shuffling(spent):
    method = methods.build("forgetting_curve", {"tail": 0.1, "exponent": 1.0})
    ledger = known([0.1] + [0.99] * 19)
    often = drawn(method, ledger, 2000, spent=spent, quota=10)
    assert often.tolist() == pytest.approx([0.5] * 20, abs=0.06)
    assert method.choose(ledger, moment(spent=spent, quota=10)).weights is None
    assert drawn(method, ledger, 200, spent=0.85, quota=10)[0] > 0.95
    first = method.choose(Ledger(20), moment(spent=0.0, quota=20))
    assert sorted(first.indices.tolist()) == list(range(20))


def test_the_plan_has_a_first_pass_rounds_of_the_quota_and_the_last_phase():
    method = methods.build("forgetting_curve", {"save": 0.75, "tail": 0.1})
    assert method.plan(20, 200) == [20, *[5] * 32, 20]
    assert method.plan(20, 15) == [15]
    assert sum(method.plan(20, 50)) == 50
    assert methods.build("forgetting_curve", {"save": "auto"}).plan(20, 200) is None


def test_a_window_cuts_the_rounds_and_their_floor():
    own = {"save": 0.6, "window": 0.25, "floor": 0.4, "forgetting": False, "leeches": False}
    method = methods.build("forgetting_curve", own)
    assert method.plan(20, 200) == [20, *[2] * 80, 20]  # a quarter of 8 steps
    often = drawn(method, known([1.0] * 10 + [0.0] * 10), quota=4)
    assert often[:10].tolist() == pytest.approx([0.1] * 10, abs=0.03)
    assert often[10:].tolist() == pytest.approx([0.3] * 10, abs=0.03)


def test_weights_undo_the_probabilities():
    method = methods.build("forgetting_curve", {"forgetting": False, "leeches": False, "exponent": 1.0})
    ledger = known([0.9] * 10 + [0.6] * 10)
    chosen = method.choose(ledger, moment(quota=10))
    hard = chosen.indices >= 10
    ratio = chosen.weights[~hard].mean() / chosen.weights[hard].mean()
    assert float(ratio) == pytest.approx(4, rel=0.01)
    assert float(chosen.weights.mean()) == pytest.approx(1)
    assert methods.build("forgetting_curve").choose(ledger, moment()).weights is None


def test_leeches_are_visited_like_the_average_of_the_others():
    ledger = known([0.95] * 10 + [0.5] * 9 + [0.05])
    ledger.visits[19], ledger.streak[19] = 9, 0
    assert is_leech(ledger).tolist() == [False] * 19 + [True]
    held = drawn(methods.build("forgetting_curve", {"forgetting": False}), ledger, quota=6)
    free = drawn(methods.build("forgetting_curve", {"forgetting": False, "leeches": False}), ledger, quota=6)
    assert float(held[19]) == pytest.approx(float(held[:19].mean()), abs=0.05)
    assert free[19] > 1.5 * held[19]
    for change in ({"visits": 3}, {"streak": 1}, {"recall": 0.4}):
        other = known([0.95] * 10 + [0.5] * 9 + [0.05])
        other.visits[19], other.streak[19] = 9, 0
        for name, value in change.items():
            getattr(other, name)[19] = value
        assert not is_leech(other).any(), change
    ignorant = known([0.3] * 19 + [0.05], visits=9, streak=0)  # where nothing is learned yet, nothing is a leech
    assert not is_leech(ignorant).any()
    assert not is_leech(Ledger(3)).any()


def noisy(wrong=8):
    """Twenty examples visited often, of which the last ones cost as two groups do and were never recalled."""
    ledger = known([0.9] * (20 - wrong) + [0.05] * wrong, visits=9)
    ledger.smoothed[: 20 - wrong], ledger.smoothed[20 - wrong :] = 0.1, 3.0
    ledger.streak[20 - wrong :] = 0
    return ledger


def test_suspects_are_visited_at_the_floor_and_not_in_the_last_phase():
    ledger = noisy()
    suspending = methods.build("forgetting_curve", {"forgetting": False, "suspend": True})
    assert drawn(suspending, ledger, quota=8)[12:].tolist() == pytest.approx([0.1] * 8, abs=0.03)
    assert drawn(methods.build("forgetting_curve", {"forgetting": False}), ledger, quota=8)[12:].min() > 0.3
    last = suspending.choose(ledger, moment(spent=0.95, quota=20)).indices
    assert torch.bincount(last, minlength=20)[12:].sum() == 0
    assert sorted(torch.bincount(last, minlength=20)[:12].tolist()) == [1] * 4 + [2] * 8  # the quota all the same
    ledger.lapses[19] = 1  # recalled since
    assert drawn(suspending, ledger, quota=8)[19] > 0.5
    sizes = []
    for suspend in (True, False):
        settings = {"forgetting": False, "suspend": suspend, "save": "auto", "retention": 0.8}
        one = moment(quota=20, left=100, batch_size=1)
        sizes.append(len(methods.build("forgetting_curve", settings).choose(noisy(), one).indices))
    assert sizes == [3, 8]  # a fifth at least: suspects do not count as forgotten


def test_suspects_are_no_leeches_and_a_class_not_learned_yet_is_not_suspected():
    ledger = noisy(5)
    ledger.lapses[19] = 1  # once recalled: a leech, and no suspect
    method = methods.build("forgetting_curve", {"forgetting": False, "suspend": True})
    often = drawn(method, ledger, quota=8)
    assert often[15:19].tolist() == pytest.approx([0.1] * 4, abs=0.03)
    assert often[19] == pytest.approx(float(often[:15].mean()), abs=0.03)  # as often as those that are neither
    rare = (torch.arange(20) >= 15).long()
    assert drawn(method, ledger, quota=8, labels=rare)[15:].min() > 0.3


def test_by_default_suspects_are_left_out_where_the_classes_are_known():
    method, off = (methods.build("forgetting_curve", {"forgetting": False} | more) for more in ({}, {"suspend": False}))
    classes = torch.tensor([0, 1] * 10)
    assert drawn(method, noisy(), quota=8, labels=classes)[12:].tolist() == pytest.approx([0.1] * 8, abs=0.03)
    assert drawn(method, noisy(), quota=8)[12:].min() > 0.3
    assert drawn(off, noisy(), quota=8, labels=classes)[12:].min() > 0.3
    for suspend in (0.5, "yes", None):
        with pytest.raises(UserError, match=f"suspend cannot be {suspend!r}"):
            methods.build("forgetting_curve", {"suspend": suspend})


def test_where_losses_are_no_two_groups_nothing_is_suspended():
    ledger = known(torch.linspace(0.05, 0.95, 20).tolist(), visits=9, streak=0)
    ledger.smoothed[:] = torch.linspace(3, 0.05, 20)
    plain = methods.build("forgetting_curve", {"forgetting": False})
    suspending = methods.build("forgetting_curve", {"forgetting": False, "suspend": True})
    assert torch.equal(drawn(suspending, ledger, 50), drawn(plain, ledger, 50))


def test_auto_follows_saturation_by_itself():
    method = methods.build("forgetting_curve", {"save": "auto", "forgetting": False})
    sizes = [
        len(method.choose(known([0.5] * some + [0.99] * (100 - some)), moment(quota=100, left=1000)).indices)
        for some in (100, 61, 7, 0)
    ]
    assert sizes == [100, 65, 20, 20]  # what is below the retention, in whole batches, and never under a fifth
    assert len(method.choose(known([0.5] * 100), moment(quota=30, left=30)).indices) == 30
    assert method.least_share == pytest.approx(0.2)


def test_a_round_of_auto_that_does_not_fit_is_cut_and_not_chosen_more_narrowly():
    method = methods.build("forgetting_curve", {"save": "auto", "forgetting": False, "leeches": False})
    ledger = known([0.0] * 30 + [0.7] * 30 + [0.99] * 40)
    whole = drawn(method, ledger, 500, quota=100, left=1000)
    cut = drawn(method, ledger, 2000, quota=30, left=30)  # of 60 in all, so 6 are left for the last phase
    assert float(whole.sum()) == pytest.approx(60)
    assert float(cut.sum()) == pytest.approx(25)
    assert cut.tolist() == pytest.approx((whole * 25 / 60).tolist(), abs=0.06)
    without = methods.build("forgetting_curve", {"save": "auto", "forgetting": False, "tail": 0.0})
    assert len(without.choose(ledger, moment(quota=30, left=30)).indices) == 30
    weighted = methods.build("forgetting_curve", {"save": "auto", "forgetting": False, "exponent": 1.0})
    assert len(weighted.choose(ledger, moment(quota=30, left=30)).weights) == 25


def test_where_auto_leaves_next_to_nothing_out_the_end_is_one_pass():
    for known_from, expected in ((400, [400, 400, 200]), (361, [400, 370, 230]), (350, [400, 350, 150, 100])):
        reviewer = Reviewer(400, methods.build("forgetting_curve", {"save": "auto"}), batch_size=10, epochs=2.5, seed=0)
        sizes = []
        while not reviewer.finished:
            batches = reviewer.batches()
            sizes.append(len(torch.cat(batches)))
            for batch in batches:
                reviewer.grade(torch.where(batch < known_from, 3.0, 0.001))
        assert sizes == expected


@pytest.mark.parametrize(("save", "epochs"), [(0.5, 2.6), (0.5, 2.65), ("auto", 2.5), ("auto", 2.6), ("auto", 4.0)])
def test_the_last_tenth_of_all_steps_is_plain_shuffling_however_long_the_rounds_before(save, epochs):
    method = methods.build("forgetting_curve", {"save": save, "leeches": False})
    reviewer = Reviewer(400, method, batch_size=10, epochs=epochs, seed=0)
    weak = torch.arange(400) < 200
    begun, shares = [], []
    while not reviewer.finished:
        begun.append(reviewer.steps)
        batches = reviewer.batches()
        shares.append(float(weak[torch.cat(batches)].float().mean()))
        for batch in batches:
            reviewer.grade(torch.where(weak[batch], 3.0, 0.01))
    tail = round(0.1 * reviewer.total_steps)
    last = next(place for place, step in enumerate(begun) if reviewer.total_steps - step - tail < 8)
    assert reviewer.total_steps - begun[last] >= tail
    assert save == "auto" or reviewer.total_steps - begun[last] == tail  # of a round for auto, a fifth is the least
    assert min(shares[1:last]) > 0.6
    assert max(shares[last:]) < 0.6
    assert len(begun) <= reviewer.rounds


def test_classes_keep_half_of_their_share():
    labels = torch.tensor([0] * 10 + [1] * 10)
    method = methods.build("forgetting_curve", {"classes": True, "forgetting": False, "floor": 0.0, "leeches": False})
    ledger = known([0.5] * 10 + [0.99] * 10)
    often = drawn(method, ledger, quota=8, labels=labels)
    assert float(often[10:].sum()) == pytest.approx(2, abs=0.1)
    assert float(often.sum()) == pytest.approx(8)
    without = drawn(
        methods.build("forgetting_curve", {"forgetting": False, "floor": 0.0}), ledger, quota=8, labels=labels
    )
    assert float(without[10:].sum()) < 0.5
    even = torch.full((20,), 0.4, dtype=torch.float64)
    assert torch.equal(with_class_quotas(even, labels, 8), even)


@pytest.mark.parametrize("floor", [0.0, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("seed", range(25))
def test_a_class_s_share_starves_nothing(seed, floor):
    """Sum, floor and half of every class's share, all at once, on scores that differ much between classes."""
    rng = torch.Generator().manual_seed(seed)
    examples, classes = 20 + 10 * seed, 2 + seed % 6
    quota = int(torch.randint(1, examples, (), generator=rng))
    labels = torch.randint(0, classes, (examples,), generator=rng)
    scores = torch.rand(examples, generator=rng) ** 2 * (torch.rand(classes, generator=rng) ** 4)[labels]
    chances = selection.inclusion(scores, quota, floor=floor)
    result = with_class_quotas(chances, labels, quota, floor=floor)
    counts = torch.bincount(labels, minlength=classes).double()
    shares = torch.bincount(labels, weights=result, minlength=classes)
    assert float(result.sum()) == pytest.approx(quota)
    assert float(result.max()) <= 1 + 1e-9
    assert float(result.min()) >= min(floor, quota / examples) - 1e-9
    assert bool((shares >= 0.5 * quota * counts / examples - 1e-6).all())


def test_the_floor_of_a_method_with_classes_holds(monkeypatch):
    asked, draw = [], selection.systematic

    def systematic(chances, rng):
        asked.append(chances)
        return draw(chances, rng)

    monkeypatch.setattr(selection, "systematic", systematic)
    labels, ledger = torch.tensor([0] * 60 + [1] * 60), known([0.1] * 22 + [0.99] * 38 + [0.999] * 60)
    settings = {"forgetting": False, "leeches": False, "suspend": False, "floor": 0.1}
    for classes in (False, True):
        method = methods.build("forgetting_curve", {"classes": classes, **settings})
        method.choose(ledger, moment(quota=30, labels=labels))
    free, kept = (float(chances[60:].sum()) for chances in asked)
    assert free < kept == pytest.approx(7.5)
    assert min(float(chances.min()) for chances in asked) >= 0.1 - 1e-9


def test_what_cannot_come_still_cannot_and_a_floor_too_high_gives_way():
    chances = torch.tensor([0.0, 1.0, 0.1, 0.4, 0.5]).double()
    assert resized(chances, 1.6, floor=0.1).tolist()[0] == 0
    assert resized(chances, 0.2, floor=0.1).tolist() == pytest.approx([0, 0.05, 0.05, 0.05, 0.05])
    assert float(resized(chances, 4.5, floor=0.1).sum()) == pytest.approx(4.5)
    assert resized(chances, 3.0, floor=1.0).sum().item() == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"save": 1.0}, "save cannot be 1.0"),
        ({"save": "much"}, "save cannot be 'much'"),
        ({"floor": 1.5}, "floor cannot be 1.5"),
        ({"tail": -0.1}, "tail cannot be -0.1"),
        ({"exponent": 2.0}, "exponent cannot be 2.0"),
        ({"retention": 1.0}, "retention cannot be 1.0"),
        ({"window": 0.0}, "window cannot be 0.0"),
        ({"window": 1.5}, "window cannot be 1.5"),
        ({"save": "auto", "window": 0.5}, "window cuts rounds that are planned"),
        ({"memory": "fsr"}, "memory 'fsr' is not known"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        methods.build("forgetting_curve", settings)
