"""What is a switch, and what is said of a value that is none."""

import inspect

import pytest

from engram import registry, switches
from engram.errors import UserError
from engram.grammar import switch


@pytest.mark.parametrize(
    ("value", "nearest"),
    [("no", "false"), ("False", "false"), ("OFF", "false"), (0, "false"), ("yes", "true"), ("ture", "true")],
)
def test_a_refused_switch_names_the_nearest(value, nearest):
    with pytest.raises(UserError) as told:
        switch("rs2", "replacement", value)
    assert str(told.value) == (
        f"rs2: replacement cannot be {value!r}\n  allowed: true or false\n  did you mean: {nearest}"
    )


def test_a_switch_may_know_words_and_none():
    assert switch("w", "s", "auto", "auto") == "auto"
    assert switch("w", "s", None, None) is None
    with pytest.raises(UserError) as told:
        switch("w", "s", "atuo", "auto", None)
    assert (told.value.allowed, told.value.nearest) == ("auto, none, true or false", "auto")


def refused(annotation, default, value) -> bool:
    parameter = inspect.Parameter("s", inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
    try:
        switches.check("w", parameter, value)
    except UserError:
        return True
    return False


def test_what_is_a_switch_the_signature_says():
    empty = inspect.Parameter.empty
    for annotation in (bool, "bool", "bool | None", bool | None):
        assert refused(annotation, True, "no")
        assert not refused(annotation, True, False)
    assert refused(bool, empty, None)
    assert not refused(bool | None, empty, None)
    assert not refused("None | bool", empty, None)
    assert not refused(bool | str, "auto", "no")  # its builder knows the words
    assert not refused(float, 0.5, "no")
    assert not refused(empty, 0.5, "no")


def test_without_an_annotation_a_default_says_it_and_other_words_may_have_a_meaning(tmp_path):
    (tmp_path / "mine.py").write_text("def net(num_classes, norm=False, **more): ...\n")
    entry = registry.find("model", f"{tmp_path / 'mine.py'}:net")
    for value in (True, False, "batch", 0.5):
        registry.check_settings(entry, {"norm": value, "anything": "no"})
    for value in ("no", "False", "on"):
        with pytest.raises(UserError, match="norm cannot be"):
            registry.check_settings(entry, {"norm": value})
