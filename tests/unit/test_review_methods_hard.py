"""Methods that prefer hard or easy examples: hard first, importance, self-paced, SuperLoss, Selective-Backprop."""

import math

import numpy as np
import pytest
import torch
from scipy.special import lambertw

from engram.errors import UserError
from engram.review.ledger import Ledger
from engram.review.methods import build
from engram.review.methods.selective_backprop import distribution
from engram.review.methods.super_loss import confidence, lambert
from engram.review.reviewer import Reviewer
from rounds import counted, ledger_of, moment


def test_hard_first_takes_the_new_and_then_the_largest_losses():
    ledger = ledger_of([1.0, 4.0, 3.0, 2.0, 0.0], visits=[1, 1, 1, 1, 0])
    method = build("hard_first")
    assert sorted(method.choose(ledger, moment(3)).indices.tolist()) == [1, 2, 4]
    assert method.choose(ledger, moment(1)).indices.tolist() == [4]
    assert counted(method, ledger_of([1.0] * 10), 3) == pytest.approx([0.3] * 10, abs=0.06)
    hardest = method.choose(ledger_of([float(value) for value in range(100)]), moment(50)).indices.tolist()
    assert sorted(hardest) == list(range(50, 100))
    assert hardest != sorted(hardest, reverse=True)
    assert method.plan(10, 12) == [5, 5, 2]


def test_importance_visits_in_proportion_to_the_last_loss():
    ledger = ledger_of([1.0, 2.0, 3.0, 4.0], recall=[0.9, 0.9, 0.6, 0.6])
    method = build("importance", {"floor": 0.0})
    assert counted(method, ledger, 1, 600) == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.08)
    by_recall = build("importance", {"floor": 0.0, "score": "recall"})
    assert counted(by_recall, ledger, 1, 600) == pytest.approx([0.1, 0.1, 0.4, 0.4], abs=0.08)
    floored = build("importance", {"floor": 0.2})
    assert counted(floored, ledger, 1, 600)[0] == pytest.approx(0.2, abs=0.06)


def test_importance_weights_are_the_inverse_chances():
    ledger = ledger_of([1.0, 2.0, 3.0, 4.0])
    for seed in range(10):
        round_ = build("importance", {"floor": 0.0}).choose(ledger, moment(2, seed=seed))
        ratio = ledger.loss[round_.indices] * round_.weights
        assert ratio[0] == pytest.approx(float(ratio[1]))
        assert round_.weights.mean() == pytest.approx(1.0)
        half = build("importance", {"floor": 0.0, "exponent": 0.5}).choose(ledger, moment(2, seed=seed))
        ratio = ledger.loss[half.indices].sqrt() * half.weights
        assert ratio[0] == pytest.approx(float(ratio[1]))
    assert build("importance", {"exponent": 0}).choose(ledger, moment(2)).weights is None


def test_importance_begins_with_everything_and_prefers_the_new():
    assert build("importance", {"save": 0.6}).plan(10, 23) == [10, 4, 4, 4, 1]
    assert build("importance").plan(10, 4) == [4]
    assert build("importance").choose(Ledger(5), moment(5)).weights is None
    ledger = ledger_of([0.2, 0.2, 0.2, 0.0], visits=[1, 1, 1, 0])
    assert counted(build("importance", {"floor": 0.0}), ledger, 1, 300)[3] == pytest.approx(1 / 1.6, abs=0.12)
    hard = ledger_of([6.0, 2.0, 0.0], visits=[1, 1, 0])
    assert counted(build("importance", {"floor": 0.0}), hard, 1, 300)[2] == pytest.approx(6 / 14, abs=0.12)
    assert counted(build("importance", {"floor": 0.0}), ledger_of([-1.0, 2.0]), 1, 20) == [0.0, 1.0]
    assert counted(build("importance"), ledger_of([0.0, 0.0]), 1, 300) == pytest.approx([0.5, 0.5], abs=0.12)


def test_self_paced_lets_the_limit_grow():
    method = build("self_paced", {"growth": 2.0})
    assert sorted(method.choose(Ledger(4), moment(round_=0)).indices.tolist()) == [0, 1, 2, 3]
    ledger = ledger_of([0.5, 1.0, 1.9, 3.9, 8.1, 100.0])
    sizes = [len(method.choose(ledger, moment(round_=round_)).indices) for round_ in (3, 4, 5, 6, 9, 10, 2000)]
    # the limit is 1.9 in round 3, then 3.8, 7.6, 15.2, 121.6
    assert sizes == [3, 3, 4, 5, 6, 6, 6]
    assert sorted(method.choose(ledger, moment(round_=5)).indices.tolist()) == [0, 1, 2, 3]
    ledger.grow(7)
    assert sorted(method.choose(ledger, moment(round_=5)).indices.tolist()) == [0, 1, 2, 3, 6]
    ledger.loss.fill_(50.0)
    ledger.loss[1:4] = torch.tensor([40.0, 30.0, 20.0])
    assert sorted(method.choose(ledger, moment(round_=3)).indices.tolist()) == [2, 3, 6]  # the easiest half


def test_self_paced_limits_come_from_the_examples_that_were_visited():
    ledger = ledger_of([1.0, 2.0, 3.0, 4.0, 0.0, 0.0], visits=[1, 1, 1, 1, 0, 0])
    method = build("self_paced", {"start": 0.5})
    assert sorted(method.choose(ledger, moment()).indices.tolist()) == [0, 1, 4, 5]
    state = method.state_dict()
    assert state == {"first": 2.0, "begun": 1}
    assert build("self_paced", {"start": 0.25}).least_share == 0.25
    resumed = build("self_paced", {"start": 0.5})
    resumed.load_state_dict(state)
    assert sorted(resumed.choose(ledger, moment(round_=3)).indices.tolist()) == [0, 1, 2, 4, 5]  # 2 * 1.69


def test_lamberts_function_is_scipys():
    ranges = [np.linspace(-0.367, 1, 2001), np.linspace(1, 500, 200), -1 / math.e + np.logspace(-13, -2, 99)]
    y = torch.from_numpy(np.concatenate(ranges))
    assert lambert(y).numpy() == pytest.approx(lambertw(y.numpy()).real, abs=2e-8)
    assert lambert(torch.tensor([-1 / math.e], dtype=torch.float64)).item() == -1


def test_confidence_is_the_least_of_the_super_loss():
    losses = [0.2, 0.9, 1.0, 1.5, 4.0]
    sigmas = np.linspace(0.01, math.e, 200_001)
    for strictness in (1.0, 0.25):
        found = confidence(torch.tensor(losses, dtype=torch.float64), 1.0, strictness).tolist()
        for loss, sigma in zip(losses, found, strict=True):
            best = sigmas[((loss - 1.0) * sigmas + strictness * np.log(sigmas) ** 2).argmin()]
            assert sigma == pytest.approx(best, abs=1e-4) or (loss - 1) / strictness < -2 / math.e
    assert confidence(torch.zeros(1).double(), 1.0, 0.25).item() == pytest.approx(math.e)


def test_the_threshold_is_a_running_average():
    method, rng = build("super_loss"), torch.Generator()
    first, second = torch.tensor([1.0, 3.0]), torch.tensor([4.0, 0.0])
    assert method.weigh(first, rng).tolist() == pytest.approx(confidence(first.double(), 2.0, 1.0).tolist())
    assert method.weigh(second + 5, rng).tolist() == pytest.approx(
        confidence(second.double() + 5, 0.9 * 2.0 + 0.1 * 7.0, 1.0).tolist()
    )
    assert float(method.average) == pytest.approx(2.5)
    fixed = build("super_loss", {"threshold": 1.0, "strictness": 0.25, "rescale": "normalised"})
    expected = confidence(first.double(), 1.0, 0.25)
    assert fixed.weigh(first, rng).tolist() == pytest.approx((expected / expected.mean()).tolist())
    assert fixed.weigh(first, rng).dtype == torch.float32
    assert method.plan(4, 6) == [4, 2]
    assert sorted(method.choose(Ledger(5), moment(5)).indices.tolist()) == list(range(5))


def test_a_loss_s_place_among_the_last_ones():
    history = torch.tensor([3.0, 1.0, 1.0, 2.0])
    places = distribution(torch.tensor([0.0, 1.0, 2.5, 3.0, 9.0]), history).tolist()
    assert places == [0.0, 0.25, 0.75, 0.875, 1.0]


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_selective_backprop_takes_by_the_power_of_the_place(beta):
    method, rng = build("selective_backprop", {"beta": beta, "history": 1000}), torch.Generator().manual_seed(0)
    method.losses = torch.arange(1000.0)
    shares = torch.zeros(4)
    batch = torch.tensor([199.5, 499.5, 799.5, 5000.0])
    for _ in range(1000):
        method.losses = torch.arange(1000.0)
        shares += (method.weigh(batch, rng) > 0) / 1000
    # four of the thousand have made place for the batch itself, the largest counts half
    expected = [(value / 1000) ** beta for value in (196.5, 497.5, 798.5, 999.5)]
    assert shares.tolist() == pytest.approx(expected, abs=0.06)


def test_selective_backprop_steps_by_the_mean_of_what_it_takes():
    method, rng = build("selective_backprop"), torch.Generator().manual_seed(0)
    for _ in range(20):
        weights = method.weigh(torch.rand(16, generator=rng), rng)
        taken = weights > 0
        assert weights.mean() == pytest.approx(1.0)
        assert weights[taken].tolist() == pytest.approx([16 / int(taken.sum())] * int(taken.sum()))
    assert method.losses.shape == (320,)


def test_selective_backprop_remembers_the_last_losses_and_takes_at_least_one():
    method, rng = build("selective_backprop", {"beta": 50, "history": 6}), torch.Generator().manual_seed(0)
    method.weigh(torch.tensor([1.0, 2.0, 3.0, 4.0]), rng)
    weights = method.weigh(torch.tensor([0.1, 0.3, 0.2]), rng)
    assert method.losses.tolist() == pytest.approx([2.0, 3.0, 4.0, 0.1, 0.3, 0.2])
    assert weights.tolist() == [0.0, 3.0, 0.0]


def test_the_forward_pass_is_charged():
    def charge(**settings) -> float:
        return build("selective_backprop", settings).charge

    assert charge() == pytest.approx(1 / 3 + 1 / 2 * 2 / 3)
    assert charge(beta=2) == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)
    assert charge(forwards=2) == pytest.approx(1 / 3 + 1 / 2)
    assert charge(beta=0) == pytest.approx(1)
    assert charge(form="rank") == pytest.approx(0.8 + 0.2 * 2 / 3)
    assert charge(form="rank", forwards=2) == pytest.approx(0.8 + 0.2 * 5 / 6)
    assert charge(form="rank", interrupt=0, start=0, end=1, keep=0.25) == pytest.approx(1 / 3 + 1 / 6)
    assert charge(form="rank", start=0.9, end=0.5) == 1.0


def test_the_rank_form_keeps_exactly_half_by_rank():
    method = build("selective_backprop", {"form": "rank", "interrupt": 0, "start": 0.0, "keep": 0.25})
    method.choose(Ledger(8), moment(8))
    rng, shares = torch.Generator().manual_seed(0), torch.zeros(8)
    losses = torch.tensor([5.0, 1.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0])
    for _ in range(1500):
        weights = method.weigh(losses, rng)
        assert sorted(weights.tolist()) == [0.0] * 6 + [4.0] * 2
        shares += (weights > 0) / 1500
    # numpy's draw without replacement with the same chances
    chances = ((np.arange(8) + 0.5) / 8) ** 3
    draw, expected = np.random.default_rng(0), np.zeros(8)
    for _ in range(4000):
        expected[draw.choice(8, 2, replace=False, p=chances / chances.sum())] += 1 / 4000
    assert shares[losses.argsort()].tolist() == pytest.approx(expected.tolist(), abs=0.05)


def test_the_rank_form_alternates_in_its_part_of_the_run():
    method, rng = build("selective_backprop", {"form": "rank"}), torch.Generator().manual_seed(0)

    def looks(begun: int, steps: int = 1000) -> list[bool]:
        """The next four batches of 2 in a round that begins after so many steps."""
        left = moment(4, spent=begun / steps, left=2 * (steps - begun))
        assert len(method.choose(Ledger(4), left).indices) == 4
        return [method.weigh(torch.arange(2.0), rng) is not None for _ in range(4)]

    assert looks(496) == [False] * 4
    assert looks(498) == [False, False, True, False]  # the part is entered in the middle of a round
    assert looks(500) == [True, False, True, False]
    assert looks(501) == [False, True, False, True]  # rounds of an odd length do not look more often
    assert looks(897) == [False, True, False, False]  # and left
    assert looks(900) == [False] * 4
    thirds = build("selective_backprop", {"form": "rank", "interrupt": 3})
    thirds.choose(Ledger(4), moment(4, spent=0.5, left=2 * 600))
    assert [thirds.weigh(torch.arange(2.0), rng) is not None for _ in range(4)] == [True, True, False, True]


def test_the_rank_form_decides_for_the_parts_of_a_batch_together():
    method, rng = build("selective_backprop", {"form": "rank"}), torch.Generator().manual_seed(0)
    method.choose(Ledger(12), moment(12, spent=0.5, left=12, batch_size=6))
    parts = [2, 2, 2, 3, 3]  # a batch that looks in three parts, one that does not in two
    looked = [method.weigh(torch.arange(float(part)), rng) is not None for part in parts]
    assert looked == [True, True, True, False, False]


@pytest.mark.parametrize("epochs", [1, 2, 3, 20])
@pytest.mark.parametrize("settings", [{}, {"interrupt": 0}, {"start": 0.1, "end": 0.45, "interrupt": 3, "keep": 0.25}])
@pytest.mark.parametrize("examples", [60, 63, 200])
def test_the_rank_form_looks_at_what_is_charged(epochs, settings, examples):
    method = build("selective_backprop", {"form": "rank", **settings})
    reviewer = Reviewer(examples, method, batch_size=6, epochs=epochs, drop_last=False)
    looked = 0
    while not reviewer.finished:
        for batch in reviewer.batches():
            looked += method.weigh(torch.rand(len(batch)), reviewer.rng) is not None
            reviewer.observe(torch.rand(len(batch)))
    share = 1 / 3 + method.keep * 2 / 3  # what a step that looks costs
    cost = looked * share + reviewer.total_steps - looked
    paid = epochs * reviewer.steps_per_pass
    assert abs(cost - paid) <= 1.0


def test_the_rank_form_goes_on_in_the_middle_of_a_round():
    whole, resumed = (build("selective_backprop", {"form": "rank"}) for _ in range(2))
    whole.choose(Ledger(4), moment(4, spent=0.497, left=2 * 503))
    for _ in range(2):
        whole.weigh(torch.arange(2.0), torch.Generator())
    resumed.load_state_dict(whole.state_dict())
    for method in (whole, resumed):
        looked = [method.weigh(torch.arange(2.0), torch.Generator()) is not None for _ in range(5)]
        assert looked == [False, True, False, True, False]


def test_both_forms_plan_whole_passes():
    method = build("selective_backprop", {"form": "rank"})
    assert (build("selective_backprop", {"form": "rank", "keep": 0.01}).keep) == 0.01
    assert method.plan(4, 6) == build("selective_backprop").plan(4, 6) == [4, 2]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("hard_first", {"share": 0}),
        ("importance", {"score": "losses"}),
        ("importance", {"save": 1}),
        ("importance", {"floor": 2}),
        ("importance", {"exponent": -1}),
        ("self_paced", {"start": 0}),
        ("self_paced", {"growth": 0.9}),
        ("super_loss", {"strictness": 0}),
        ("super_loss", {"threshold": "ln"}),
        ("super_loss", {"memory": 1}),
        ("super_loss", {"rescale": "none"}),
        ("selective_backprop", {"form": "ranks"}),
        ("selective_backprop", {"beta": -1}),
        ("selective_backprop", {"history": 0}),
        ("selective_backprop", {"forwards": 3}),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name, settings):
    with pytest.raises(UserError) as caught:
        build(name, settings)
    assert f"{name}: {next(iter(settings))} cannot be" in str(caught.value)


@pytest.mark.parametrize("settings", [{"keep": 0}, {"start": 2}, {"end": -1}, {"interrupt": 1.5}])
def test_settings_of_the_rank_form_are_refused_by_name(settings):
    with pytest.raises(UserError, match="selective_backprop: "):
        build("selective_backprop", {"form": "rank", **settings})
