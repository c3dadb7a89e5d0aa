"""Caption scores against those of nltk, of the COCO evaluation and of Google's rouge-score, and against the papers."""

import json
import math
from pathlib import Path

import pytest

from engram.errors import UserError
from engram.text.scores.bleu import bleu
from engram.text.scores.cider import cider_d, cider_d_each
from engram.text.scores.rouge import longest_common, rouge_l, rouge_l_each

GIVEN = json.loads((Path(__file__).parent / "data" / "caption_scores.json").read_text(encoding="utf-8"))
CANDIDATES, REFERENCES = GIVEN["candidates"], GIVEN["references"]

PAPER = [  # Papineni et al. 2002, example 1
    "It is a guide to action which ensures that the military always obeys the commands of the party.",
    "It is to insure the troops forever hearing the activity guidebook that party direct.",
]
PAPER_REFERENCES = [
    "It is a guide to action that ensures that the military will forever heed Party commands.",
    "It is the guiding principle which guarantees the military forces always being under the command of the Party.",
    "It is the practical guide for the army always to heed the directions of the party.",
]


def long(candidates: list[str]) -> tuple[list[str], list[list[str]]]:
    """Those of four words or more, with their references."""
    chosen = [place for place, one in enumerate(candidates) if len(one.replace("-", " ").split()) >= 4]
    return [candidates[place] for place in chosen], [REFERENCES[place] for place in chosen]


def test_bleu_is_that_of_nltk_and_of_coco():
    assert bleu(CANDIDATES, REFERENCES) == pytest.approx(GIVEN["bleu_coco"], rel=1e-6)  # it adds 1e-9 to each count
    assert bleu(*long(CANDIDATES)) == pytest.approx(GIVEN["bleu_nltk"], rel=1e-12)


def test_short_sentences_pay_the_brevity_penalty():
    short = [" ".join(one.replace("-", " ").split()[:5]) for one in CANDIDATES]
    assert bleu(short, REFERENCES) == pytest.approx(GIVEN["bleu_cut_coco"], rel=1e-6)
    assert bleu(*long(short)) == pytest.approx(GIVEN["bleu_cut_nltk"], rel=1e-12)


def test_bleu_of_the_papers_example():
    # section 2.1.1: 17 of 18 words; 2.1.2: 10 of 17 pairs, and 8 of 14 words, 1 of 13 pairs
    one, two, *_ = bleu(PAPER[:1], [PAPER_REFERENCES])
    assert (one, two) == pytest.approx((17 / 18, math.sqrt(17 / 18 * 10 / 17)), rel=1e-12)
    one, two, three, _ = bleu(PAPER[1:], [PAPER_REFERENCES])
    brevity = math.exp(1 - 16 / 14)  # the closest reference has 16 words
    assert (one, two) == pytest.approx((brevity * 8 / 14, brevity * math.sqrt(8 / 14 * 1 / 13)), rel=1e-12)
    assert three == 0.0


def test_of_references_as_close_the_shorter_counts():
    assert bleu(["a b c"], [["a b", "a b c d"]])[0] == 1.0  # against 4 words it would be exp(-1/3)


def test_bleu_of_nothing_written_is_nothing():
    assert bleu([""], [["a dog"]]) == (0.0, 0.0, 0.0, 0.0)


def test_rouge_l_is_that_of_coco():
    assert rouge_l_each(CANDIDATES, REFERENCES) == pytest.approx(GIVEN["rouge_l"], rel=1e-12)
    assert rouge_l(CANDIDATES, REFERENCES) == pytest.approx(sum(GIVEN["rouge_l"]) / 30, rel=1e-12)


def test_a_reference_with_nothing_in_common_takes_nothing_away():
    assert rouge_l(["a dog"], [["a dog", "one cat"]]) == 1.0


def test_rouge_l_of_one_reference_is_that_of_rouge_score():
    first = [own[:1] for own in REFERENCES]
    assert rouge_l_each(CANDIDATES, first, beta=1.0) == pytest.approx(GIVEN["rouge_l_first"], rel=1e-12)


def test_the_longest_common_subsequence_keeps_order_and_may_have_gaps():
    assert [longest_common(*pair) for pair in (("abcd", "dcba"), ("axbxc", "abc"), ("", "a"), ("aab", "ab"))] == [
        1, 3, 0, 2,
    ]  # fmt: skip


def test_cider_d_is_that_of_coco():
    assert cider_d_each(CANDIDATES, REFERENCES) == pytest.approx(GIVEN["cider_d"], rel=1e-9)
    assert cider_d_each(CANDIDATES, REFERENCES, sigma=2.0) == pytest.approx(GIVEN["cider_d_sigma_2"], rel=1e-9)
    assert cider_d(CANDIDATES, REFERENCES) == pytest.approx(sum(GIVEN["cider_d"]) / 30, rel=1e-9)


def test_what_every_picture_has_tells_none_apart():
    assert cider_d_each(["a", "a"], [["a dog"], ["a cat"]]) == [0.0, 0.0]


def test_what_cannot_be_scored_is_named():
    with pytest.raises(UserError, match="2 sentences, but references for 1"):
        bleu(["a", "b"], [["a"]])
    with pytest.raises(UserError, match="no sentence"):
        rouge_l([], [])
    with pytest.raises(UserError, match=r"sentence 1 .* has no reference"):
        rouge_l(["a", "b"], [["a"], ["!"]])
    with pytest.raises(UserError, match="one text"):
        rouge_l(["a"], ["a"])
    with pytest.raises(UserError, match="one picture alone"):
        cider_d(["a"], [["a"]])
