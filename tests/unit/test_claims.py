"""Every sentence of the notes is answered, in both languages, by code and tests that exist."""

import ast
import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from engram import claims
from engram.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
ALL = pytest.mark.parametrize("claim", claims.claims(), ids=lambda claim: claim.id)
WRONG = {7, 21, 31, 34, 37, 40, 61, 65, 78, 82, 90}
HALF_RIGHT = {8, 10, 14, 15, 22, 26, 33, 47, 53, 60, 64, 68, 70, 73}


def imported(name: str) -> Any:
    """The module, class or function of that dotted name."""
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError as missing:
            if missing.name is None or not name.startswith(missing.name):
                raise
            continue
        for attribute in parts[split:]:
            found = getattr(found, attribute)
        return found
    raise ModuleNotFoundError(name)


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_there_are_all_of_them_once_and_in_order() -> None:
    assert [claim.id for claim in claims.claims()] == [f"N{number}" for number in range(1, 94)]


def test_the_verdicts_are_those_of_the_curriculum() -> None:
    def numbers(verdict: str) -> set[int]:
        return {int(claim.id[1:]) for claim in claims.find(verdict)}

    assert numbers("wrong") == WRONG
    assert numbers("half_right") == HALF_RIGHT
    assert numbers("open") == {11, 18, 41, 58, 80, 87, 92}
    assert numbers("idea") == {50, 67}


@ALL
def test_words_are_known_and_both_languages_are_there(claim: claims.Claim) -> None:
    assert claim.verdict in claims.VERDICTS
    assert claim.topic in claims.topics()
    assert claim.state in claims.STATES
    for texts in (claim.says, claim.truth):
        assert len(texts["en"]) > 20
        assert len(re.findall(r"[一-鿿]", texts["zh"])) > 3
        assert not re.search(r"[一-鿿]", texts["en"])
        assert re.search(r"[。？]”?$", texts["zh"]), "ends as a sentence"
        assert texts["en"].endswith((".", "?"))
        assert not re.search(r"[一-鿿][,;:?!]", texts["zh"]), "Chinese has stops of its own"


@ALL
def test_numbers_are_the_same_in_both_languages(claim: claims.Claim) -> None:
    """What is a number in one text is in the other; words for numbers are left to the reader."""

    def figures(text: str) -> set[str]:
        return {number.replace(",", "") for number in re.findall(r"\d[\d,]*\.\d+|\d[\d,]{3,}|\d+e-?\d+", text)}

    only = figures(claim.truth["en"]) ^ figures(claim.truth["zh"])
    assert only <= SPELLED.get(claim.id, set())


SPELLED = {"N42": {"1.38"}, "N61": {"15.24", "1524", "2400"}, "N73": {"38.6", "33.7", "3860", "3370"}}
"""Numbers that Chinese counts in ten thousands."""


@ALL
def test_what_it_lives_in_can_be_imported(claim: claims.Claim) -> None:
    for name in claim.lives:
        assert name.startswith("engram."), name
        imported(name)


@ALL
def test_what_decides_it_exists(claim: claims.Claim) -> None:
    for word in claim.decided_by:
        if word.startswith("engram "):
            continue
        file, _, name = word.partition("::")
        assert re.fullmatch(r"(tests|bench)/[\w/]+\.py", file), word
        assert (ROOT / file).is_file(), word
        assert not name or name in names_in(file), word


@ALL
def test_what_is_built_lives_somewhere_and_is_decided_by_something(claim: claims.Claim) -> None:
    if claim.state == "built":
        assert claim.decided_by, "nothing decides it"
        assert claim.lives or claim.id in HISTORY, "it lives nowhere"


HISTORY = {"N49"}
"""Who made which framework is told, not computed."""


@pytest.mark.parametrize(("language", "name"), [("en", "claims.md"), ("zh", "claims.zh-CN.md")])
def test_the_page_is_rendered(language: claims.Language, name: str) -> None:
    on_disk = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert on_disk == claims.page(language), "render it: python -m engram.claims"
    assert all(f"### {claim.id} ·" in on_disk for claim in claims.claims())


@pytest.mark.parametrize("word", ["N34", "n34", "34"])
def test_a_claim_is_found_by_its_number(word: str) -> None:
    assert [claim.id for claim in claims.find(word)] == ["N34"]


def test_claims_are_found_by_verdict_and_topic() -> None:
    assert len(claims.find("half right")) == len(claims.find("half-right")) == len(HALF_RIGHT)
    assert [claim.id for claim in claims.find("backward")] == ["N1", "N2", "N3", "N4"]
    assert len(claims.find("*")) == 93


@pytest.mark.parametrize(("word", "nearest"), [("N94", "N9"), ("wrogn", "wrong"), ("networs", "networks")])
def test_an_unknown_word_says_the_nearest(word: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f"'{word}' is not known") as error:
        claims.find(word)
    assert str(error.value.nearest).startswith(nearest)
