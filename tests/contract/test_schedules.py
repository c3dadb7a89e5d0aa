"""What every registered schedule keeps: a factor for every step of every run, one peak of 1, a rising warm-up."""

import inspect
import math
from itertools import pairwise

import pytest

from engram import registry, schedules
from engram.errors import UserError

NAMES = registry.names("schedule")
ENDS = {
    "constant": 1.0,
    "step": 0.5**9,
    "exponential": 0.01,
    "inverse": 0.05,
    "polynomial": 0.0,
    "cosine": 0.0,
    "cosine_restarts": 0.0,
    "one_cycle": 0.0,
}
"""Where each comes to as a long run ends, as its card says."""


def test_the_issue_s_schedules_are_there():
    assert set(NAMES) >= set(ENDS)


@pytest.mark.parametrize("name", NAMES)
def test_its_card_is_complete(name):
    entry = registry.find("schedule", name)
    assert entry.paper
    assert 1900 < (entry.year or 0) < 2100
    assert entry.summary.endswith(".")
    assert "f = " in (inspect.getdoc(entry.build) or "")
    assert ">>>" in (inspect.getdoc(entry.build) or "")
    assert "warmup" in inspect.signature(entry.build).parameters


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("total", [1, 2, 3, 7, 10, 97, 1000])
@pytest.mark.parametrize("warmup", [0, 0.1, 0.999, 1, 3, 5000])
def test_every_step_has_a_factor_between_0_and_1_and_one_is_the_peak(name, total, warmup):
    factor = schedules.build(name, {"warmup": warmup})
    factors = [factor(step, total) for step in range(total)]
    assert all(isinstance(value, float) and math.isfinite(value) and 0 < value <= 1 for value in factors)
    first = min(round(warmup * total if warmup < 1 else warmup), total - 1)
    assert factors.index(1.0) == first
    assert all(a < b for a, b in pairwise(factors[: first + 1]))
    assert name == "cosine_restarts" or all(a >= b for a, b in pairwise(factors[first:]))


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("warmup", [0, 0.3])
def test_it_ends_where_it_says(name, warmup):
    factor = schedules.build(name, {"warmup": warmup})
    assert factor(99_999, 100_000) == pytest.approx(ENDS[name], abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_function_of_the_step_alone(name):
    factor = schedules.build(name)
    forward = [factor(step, 50) for step in range(50)]
    backward = [factor(step, 50) for step in reversed(range(50))]
    assert forward == backward[::-1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("step", [-1, 10, 11])
def test_a_step_outside_the_run_is_a_mistake_of_the_caller(name, step):
    with pytest.raises(ValueError, match="not one of a run of 10"):
        schedules.build(name)(step, 10)


@pytest.mark.parametrize("name", NAMES)
def test_it_refuses_an_unknown_setting_and_names_the_nearest(name):
    with pytest.raises(UserError) as caught:
        schedules.build(name, {"warm_up": 0.1})
    assert caught.value.nearest == "warmup"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), float("inf"), "long", None, True])
def test_it_refuses_a_warmup_that_is_none(name, value):
    with pytest.raises(UserError) as caught:
        schedules.build(name, {"warmup": value})
    assert f"{name}: warmup cannot be {value!r}" in str(caught.value)
    assert "share of the run" in str(caught.value)
