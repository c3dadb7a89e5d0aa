"""Numbers in words."""

import pytest
from scipy.stats import binomtest

from engram.report import words


@pytest.mark.parametrize(("right", "examples"), [(0, 10), (7, 7), (88, 100), (1, 1000), (4999, 10_000)])
def test_the_interval_is_scipys_wilson_interval(right: int, examples: int) -> None:
    expected = binomtest(right, examples).proportion_ci(0.95, method="wilson")
    assert words.interval(right / examples, examples) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_of_no_examples_nothing_is_known() -> None:
    assert words.interval(0.0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (9.96, "10.0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (60, "1 min"),
        (3599, "59 min 59 s"),
        (3600, "1 h"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert words.duration(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.1, "0.1"), (100, "100"), (99.96, "100"), (12345.6, "12,346"), (-0.05, "-0.05"), (1e12, "1e+12"), (None, "–")],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert words.number(value) == shown


def test_a_time_left_is_no_more_exact_than_it_is_known() -> None:
    assert [words.about(seconds) for seconds in (9, 11, 89, 91, 3605)] == [
        "a few seconds",
        "about 20 s",
        "about 90 s",
        "about 2 min",
        "about 1 h",
    ]


def test_amounts_and_lists() -> None:
    assert words.plural(1, "class", "classes") == "1 class"
    assert words.plural(1437, "example") == "1,437 examples"
    assert words.plural(2.5, "epoch") == "2.5 epochs"
    assert words.big(999) == "999"
    assert words.big(5.27e9, "FLOP") == "5.27\u202fGFLOP"
    assert words.listed(["a"]) == "a"
    assert words.percent(1.0, 0) == "100\u202f%"
