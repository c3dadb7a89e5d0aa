"""The curves against their formulas, worked-out numbers and torch's schedulers."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from engram import schedules
from engram.errors import UserError


def curve(name: str, total: int, **settings) -> list[float]:
    factor = schedules.build(name, settings)
    return [factor(step, total) for step in range(total)]


def torch_s(make, total: int) -> list[float]:
    """The rates torch's scheduler sets from a rate of 1, one for each step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = make(optimizer), []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


FORMULAS = [
    ("constant", {}, lambda t: 1.0),
    ("step", {"every": 7}, lambda t: 0.5 ** (t // 7)),
    ("step", {"every": 0.25, "factor": 0.1}, lambda t: 0.1 ** (t // 10)),
    ("exponential", {}, lambda t: math.exp(-math.log(100) / 40 * t)),
    ("exponential", {"end": 0.5}, lambda t: 0.5 ** (t / 40)),
    ("inverse", {}, lambda t: 1 / (1 + 19 / 40 * t)),
    ("inverse", {"end": 0.2}, lambda t: 1 / (1 + 4 / 40 * t)),
    ("cosine", {}, lambda t: 0.5 * (1 + math.cos(math.pi * t / 40))),
    ("cosine", {"end": 0.3}, lambda t: 0.3 + 0.7 * 0.5 * (1 + math.cos(math.pi * t / 40))),
    ("polynomial", {}, lambda t: (1 - t / 40) ** 2),
    ("polynomial", {"power": 0.5, "end": 0.2}, lambda t: 0.2 + 0.8 * (1 - t / 40) ** 0.5),
    ("cosine_restarts", {"cycles": 1, "end": 0.3}, lambda t: 0.3 + 0.7 * 0.5 * (1 + math.cos(math.pi * t / 40))),
    ("cosine_restarts", {"cycles": 4, "longer": 1}, lambda t: 0.5 * (1 + math.cos(math.pi * (t % 10) / 10))),
    ("one_cycle", {"warmup": 0}, lambda t: 1 - t / 40),
    ("one_cycle", {"warmup": 0, "end": 0.2}, lambda t: 1 - 0.8 * t / 40),
    ("one_cycle", {"warmup": 0, "curve": "cosine", "end": 0.3}, lambda t: 0.65 + 0.35 * math.cos(math.pi * t / 40)),
]


@pytest.mark.parametrize(("name", "settings", "formula"), FORMULAS)
def test_it_is_its_formula(name, settings, formula):
    assert curve(name, 40, **settings) == pytest.approx([formula(t) for t in range(40)], abs=1e-12)


@pytest.mark.parametrize(("name", "settings", "formula"), FORMULAS)
def test_behind_a_warmup_it_is_its_formula_over_the_rest(name, settings, formula):
    expected = [(t + 1) / 11 for t in range(10)] + [formula(t) for t in range(40)]
    for warmup in (10, 0.2):
        assert curve(name, 50, **{**settings, "warmup": warmup}) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "settings", "theirs"),
    [
        ("step", {"every": 6, "factor": 0.3}, lambda o: lr_scheduler.StepLR(o, 6, 0.3)),
        ("step", {"at": (0.5, 0.75), "factor": 0.1}, lambda o: lr_scheduler.MultiStepLR(o, [15, 22], 0.1)),
        ("step", {"at": (4, 9), "factor": 0.2}, lambda o: lr_scheduler.MultiStepLR(o, [4, 9], 0.2)),
        ("exponential", {"end": 0.1}, lambda o: lr_scheduler.ExponentialLR(o, 0.1 ** (1 / 30))),
        ("cosine", {"end": 0.05}, lambda o: lr_scheduler.CosineAnnealingLR(o, 30, 0.05)),
        ("one_cycle", {"warmup": 0}, lambda o: lr_scheduler.LinearLR(o, 1.0, 1e-12, 30)),
        ("constant", {"warmup": 9}, lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 9)),
    ],
)
def test_it_is_torch_s(name, settings, theirs):
    assert curve(name, 30, **settings) == pytest.approx(torch_s(theirs, 30), abs=1e-9)


def test_one_cycle_is_torch_s_between_its_first_and_last_step():
    """torch counts its peak at 0.3 total - 1 and reaches its end on the last step; the shape is the same."""

    def theirs(optimizer):
        return lr_scheduler.OneCycleLR(
            optimizer, 1.0, 41, pct_start=11 / 41, anneal_strategy="linear", div_factor=11, final_div_factor=1e9,
            cycle_momentum=False,
        )  # fmt: skip

    assert curve("one_cycle", 40, warmup=10) == pytest.approx(torch_s(theirs, 40), abs=1e-6)


def test_one_cycle_by_hand():
    assert curve("one_cycle", 8, warmup=0.25) == pytest.approx([1 / 3, 2 / 3, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_the_resnet_paper_s_run():
    factor = schedules.build("step", {"at": (32_000, 48_000), "factor": 0.1, "warmup": 400})
    places = (0, 399, 400, 31_999, 32_000, 47_999, 48_000, 63_999)
    assert [factor(t, 64_000) for t in places] == pytest.approx(
        [1 / 401, 400 / 401, 1, 1, 0.1, 0.1, 0.01, 0.01], rel=1e-12
    )


@pytest.mark.parametrize("total", [10, 30, 70, 110, 190])
def test_a_period_that_is_a_share_drops_on_the_whole_step(total):
    """0.1 * 70 is a little more than 7 in floating point, and the drop must not come a step late."""
    for every in (0.1, 0.3, 0.7):
        factors = curve("step", total, every=every)
        assert factors.index(0.5) == round(every * total)


def test_a_single_place_needs_no_list():
    assert curve("step", 4, at=0.5, factor=0.1) == curve("step", 4, at=[0.5], factor=0.1) == [1.0, 1.0, 0.1, 0.1]


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("step", {"every": 0}, "step: every cannot be 0"),
        ("step", {"every": 2.5}, "whole steps"),
        ("step", {"factor": 0}, "more than 0, at most 1"),
        ("step", {"factor": 1.5}, "more than 0, at most 1"),
        ("step", {"at": (0.5, -3)}, "at cannot be -3"),
        ("step", {"at": "half"}, "at cannot be 'half'"),
        ("exponential", {"end": 0}, "exponential: end cannot be 0"),
        ("exponential", {"end": 2}, "more than 0, at most 1"),
        ("inverse", {"end": 0}, "inverse: end cannot be 0"),
        ("cosine", {"end": -0.1}, "from 0 to 1"),
        ("one_cycle", {"end": 1.1}, "from 0 to 1"),
        ("one_cycle", {"curve": "cosin"}, "did you mean: cosine"),
        ("one_cycle", {"curve": 3}, "allowed: linear, cosine"),
        ("one_cycle", {"end": None}, "one_cycle: end cannot be None"),
    ],
)
def test_a_value_out_of_range_is_refused_with_what_is_allowed(name, settings, words):
    with pytest.raises(UserError) as caught:
        schedules.build(name, settings)
    assert words in str(caught.value)


def test_the_limits_themselves_are_taken():
    assert curve("step", 3, every=1) == [1.0, 0.5, 0.25]
    assert (
        curve("step", 3, every=1, factor=1) == curve("exponential", 3, end=1) == curve("inverse", 3, end=1) == [1.0] * 3
    )
    assert curve("cosine", 3, end=1) == curve("one_cycle", 3, end=1, warmup=0) == [1.0] * 3
    assert curve("constant", 3, warmup=1) == [0.5, 1.0, 1.0]


def test_an_unknown_schedule_is_refused_with_the_nearest():
    with pytest.raises(UserError) as caught:
        schedules.build("onecycle")
    assert caught.value.nearest == "one_cycle"


def test_polynomial_and_restarts_are_torch_s():
    ours = curve("polynomial", 50, power=3.0)
    assert ours == pytest.approx(torch_s(lambda o: lr_scheduler.PolynomialLR(o, 50, power=3.0), 50), abs=1e-6)
    ours = curve("cosine_restarts", 70, cycles=3, longer=2)
    theirs = torch_s(lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=10, T_mult=2), 70)
    assert ours == pytest.approx(theirs, abs=1e-9)
    assert [t for t in range(70) if ours[t] == 1.0] == [0, 10, 30]


def test_restarts_that_grow_by_a_third_fill_the_run():
    ours = curve("cosine_restarts", 1000, cycles=5, longer=4 / 3, warmup=100)
    peaks = [t for t in range(101, 1000) if ours[t] > ours[t - 1]]
    lengths = [b - a for a, b in zip([100, *peaks], [*peaks, 1000], strict=True)]
    assert len(lengths) == 5
    assert [b / a for a, b in pairwise(lengths)] == pytest.approx([4 / 3] * 4, rel=0.03)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("polynomial", "power", 0),
        ("polynomial", "end", 1.5),
        ("cosine_restarts", "cycles", 0),
        ("cosine_restarts", "cycles", 1.5),
        ("cosine_restarts", "longer", 0),
        ("cosine_restarts", "end", -1),
    ],
)
def test_values_they_cannot_use_are_refused(name, setting, value):
    with pytest.raises(UserError, match=f"{setting} cannot be"):
        schedules.build(name, {setting: value})
