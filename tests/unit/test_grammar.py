"""The words a person types: what they mean, and what is said when they mean nothing."""

import pytest

from engram import grammar
from engram.errors import UserError


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("crop:4,flip", ["crop:4", "flip"]),
        (("crop:4", " flip "), ["crop:4", "flip"]),
        (("crop:4,flip", "mixup"), ["crop:4", "flip", "mixup"]),
        ("none", []),
        ("", []),
        ((), []),
    ],
)
def test_split(words, expected):
    assert grammar.split(words) == expected


@pytest.mark.parametrize(
    ("text", "name", "values", "settings"),
    [
        ("flip", "flip", (), {}),
        ("crop:4", "crop", (4,), {}),
        ("resized_crop:0.35:1", "resized_crop", (0.35, 1), {}),
        ("mixup:1e-1", "mixup", (0.1,), {}),
        ("crop:4:reflect", "crop", (4, "reflect"), {}),
        ("crop:4:fill=reflect", "crop", (4,), {"fill": "reflect"}),
        ("crop:padding=-4", "crop", (), {"padding": -4}),
        ("mine.py:blur", "mine.py:blur", (), {}),
        ("a/mine.py:blur:3:edge=x", "a/mine.py:blur", (3,), {"edge": "x"}),
    ],
)
def test_parse(text, name, values, settings):
    assert grammar.parse(text) == grammar.Word(text, name, values, settings)


@pytest.mark.parametrize("text", ["crop:", "crop::4", "crop:padding=", "crop:=4", "crop:fill=edge:4", "crop:a=1:a=2"])
def test_malformed_words_are_refused_by_name(text):
    with pytest.raises(UserError) as told:
        grammar.parse(text)
    assert text in str(told.value)


def test_bind():
    assert grammar.bind(grammar.parse("crop:4:fill=edge"), ("padding", "fill")) == {"padding": 4, "fill": "edge"}
    with pytest.raises(UserError, match="more settings than 'crop' takes"):
        grammar.bind(grammar.parse("crop:4:edge:3"), ("padding", "fill"))
    with pytest.raises(UserError, match="gives 'padding' twice"):
        grammar.bind(grammar.parse("crop:4:padding=3"), ("padding", "fill"))
    with pytest.raises(UserError) as told:
        grammar.bind(grammar.parse("crop:pading=3"), ("padding", "fill"))
    assert told.value.nearest == "padding"
    assert told.value.allowed == "padding, fill"


@pytest.mark.parametrize("value", [-1, 2, "x", True, float("nan"), float("inf"), None])
def test_a_number_out_of_range_names_word_setting_and_range(value):
    with pytest.raises(UserError) as told:
        grammar.number("flip", "probability", value, 0, 1)
    assert str(told.value) == f"flip: probability cannot be {value!r}\n  allowed: a number, from 0 to 1"


def test_number():
    assert grammar.number("w", "s", 0, 0, 1) == 0
    assert grammar.number("w", "s", 1, 0, 1) == 1
    assert grammar.number("w", "s", 10**6, 0) == 10**6
    assert isinstance(grammar.number("w", "s", 3.0, 0, whole=True), int)
    with pytest.raises(UserError, match=r"cannot be 3\.5") as told:
        grammar.number("w", "s", 3.5, 0, whole=True)
    assert told.value.allowed == "a whole number, 0 or more"
    with pytest.raises(UserError) as told:
        grammar.number("w", "s", 0, 0, above=True)
    assert told.value.allowed == "a number, above 0"


def test_choice():
    assert grammar.choice("crop", "fill", "edge", ("mean", "edge")) == "edge"
    with pytest.raises(UserError) as told:
        grammar.choice("crop", "fill", "edg", ("mean", "edge"))
    assert told.value.nearest == "edge"
    assert "crop: fill cannot be 'edg'" in str(told.value)
