"""Writes what others' programs say of generated captions; they are made, cut into words and scored without ours.

pip install --no-deps nltk pycocoevalcap rouge-score
pip install numpy absl-py six click joblib regex tqdm defusedxml
python tests/reference/make_caption_scores.py > tests/reference/data/caption_scores.json
"""

import contextlib
import importlib.metadata
import io
import json
import random
import string

from nltk.translate.bleu_score import corpus_bleu
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider_scorer import CiderScorer
from pycocoevalcap.rouge.rouge import Rouge
from rouge_score import rouge_scorer

ARTICLES = ["A", "The", "One", "Some"]
ADJECTIVES = ["red", "small", "old", "white-haired", "striped", "sleepy"]
NOUNS = ["dog", "cat", "man", "giraffe", "woman", "boat", "bus", "child"]
VERBS = ["sits on", "runs past", "looks at", "stands beside", "is near", "jumps over"]
PLACES = ["in the rain", "at night", "on a busy street", "by the sea", ""]
WEIGHTS = [(1,), (1 / 2,) * 2, (1 / 3,) * 3, (1 / 4,) * 4]
ABOUT = (
    "Lower case, punctuation removed, hyphens as blanks. bleu_nltk: corpus_bleu, of candidates of 4 words or more (of "
    "shorter ones it counts a run of 4 that is not there); bleu_coco: pycocoevalcap BleuScorer, "
    "option closest; bleu_cut: both again, of candidates cut at 5 words; rouge_l: pycocoevalcap Rouge, beta 1.2; "
    "rouge_l_first: rouge-score's rougeL fmeasure against the first reference, beta 1; cider_d: pycocoevalcap "
    "CiderScorer, sigma 6 and 2. Made by `python tests/reference/make_caption_scores.py`, which says what to install."
)

rng = random.Random(5)


def sentence(subject: str, verb: str, other: str) -> str:
    words = f"{rng.choice(ARTICLES)} {rng.choice(ADJECTIVES)} {subject} {verb} {rng.choice(ARTICLES).lower()}"
    place = rng.choice(PLACES)
    comma = (", " if rng.random() < 0.3 else " ") if place else ""
    return f"{words} {rng.choice(ADJECTIVES)} {other}{comma}{place}{rng.choice('.!.')}"


def pair() -> tuple[str, list[str]]:
    """A candidate, now and then too short, doubled, copied or beside the point, and its references."""
    subject, other, verb = rng.choice(NOUNS), rng.choice(NOUNS), rng.choice(VERBS)
    references = [sentence(subject, rng.choice([verb, rng.choice(VERBS)]), other) for _ in range(rng.randint(1, 5))]
    own = sentence(subject, verb, other if rng.random() < 0.7 else rng.choice(NOUNS))
    kinds = [own.split(",")[0], " ".join(own.split()[:3]), f"{own} {own}", references[0], "Nothing here"]
    return rng.choices([*kinds, own], [2, 2, 2, 2, 1, 11])[0], references


def cut(text: str) -> list[str]:
    return text.lower().replace("-", " ").translate(str.maketrans("", "", string.punctuation)).split()


def cider(candidates: list[str], references: list[list[str]], sigma: float) -> list[float]:
    scorer = CiderScorer(n=4, sigma=sigma)
    for candidate, own in zip(candidates, references, strict=True):
        scorer += (candidate, own)
    return [float(score) for score in scorer.compute_score()[1]]


def bleu(candidates: list[str], references: list[list[str]]) -> list[float]:
    scorer = BleuScorer(n=4)
    for candidate, own in zip(candidates, references, strict=True):
        scorer += (candidate, own)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints ratios
        return [float(score) for score in scorer.compute_score(option="closest", verbose=0)[0]]


def nltk_bleu(candidates: list[list[str]]) -> list[float]:
    long = [place for place, one in enumerate(candidates) if len(one) >= 4]
    chosen = [theirs[place] for place in long], [candidates[place] for place in long]
    return [corpus_bleu(*chosen, weights=weights) for weights in WEIGHTS]


candidates, references = map(list, zip(*(pair() for _ in range(30)), strict=True))
words, theirs = [cut(one) for one in candidates], [[cut(one) for one in own] for own in references]
joined, joined_theirs = [" ".join(one) for one in words], [[" ".join(one) for one in own] for own in theirs]
short = [one[:5] for one in words]
first = rouge_scorer.RougeScorer(["rougeL"])
versions = [f"{name} {importlib.metadata.version(name)}" for name in ("nltk", "pycocoevalcap", "rouge-score")]
both = list(zip(joined, joined_theirs, strict=True))
found = {
    "about": f"{', '.join(versions)}. {ABOUT}",
    "candidates": candidates,
    "references": references,
    "bleu_nltk": nltk_bleu(words),
    "bleu_coco": bleu(joined, joined_theirs),
    "bleu_cut_nltk": nltk_bleu(short),
    "bleu_cut_coco": bleu([" ".join(one) for one in short], joined_theirs),
    "rouge_l": [float(Rouge().calc_score([one], own)) for one, own in both],
    "rouge_l_first": [first.score(own[0], one)["rougeL"].fmeasure for one, own in both],
    "cider_d": cider(joined, joined_theirs, 6.0),
    "cider_d_sigma_2": cider(joined, joined_theirs, 2.0),
}
print(json.dumps(found, indent=1))
