"""CIDEr-D: how like people's captions a sentence is, in the words that tell this picture from others.

Runs of n words (n = 1 to 4) are weighed by tf-idf: how often in the sentence, times log(pictures / pictures whose
references have it). "a" and "of" weigh next to nothing, "giraffe" much. With the weights g_n(c), g_n(s):

    CIDEr-D_n = 10 / m Σ_j exp(-(l(c) - l(s_j))² / 2σ²) min(g_n(c), g_n(s_j)) · g_n(s_j) / (|g_n(c)| |g_n(s_j)|)
    CIDEr-D = mean over n,   σ = 6

for m references s_j. The minimum and the Gaussian of the lengths keep a sentence from gaining by repeating words. From
0 to 10; people reach about 1 on COCO. The weights come from the references of the pictures that are scored, so the
score of one sentence depends on the others, and needs at least two pictures.

Vedantam et al. 2015, "CIDEr: Consensus-based Image Description Evaluation", arXiv 1411.5726, sections 3 and 6 (the -D).
Without stemming, as in the COCO evaluation.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from engram.errors import UserError
from engram.text.scores.ngrams import ngrams
from engram.text.scores.pairs import pairs

LONGEST = 4

Weights = dict[tuple[str, ...], float]


def cider_d(candidates: Sequence[str], references: Sequence[Sequence[str]], *, sigma: float = 6.0) -> float:
    """The mean of all sentences, 0 to 10; see `cider_d_each`."""
    each = cider_d_each(candidates, references, sigma=sigma)
    return sum(each) / len(each)


def cider_d_each(candidates: Sequence[str], references: Sequence[Sequence[str]], *, sigma: float = 6.0) -> list[float]:
    """CIDEr-D of each sentence, 0 to 10.

    Args:
        candidates: N sentences, of N pictures.
        references: N lists of one or more sentences.
        sigma: words, how much a length may differ.

    Raises:
        UserError: fewer than two pictures; or see `engram.text.scores.pairs`.

    Neither sentence has a run of four words, so a quarter is missing:

    >>> [round(one, 6) for one in cider_d_each(["a red square", "a blue dot"], [["a red square"], ["a blue dot"]])]
    [7.5, 7.5]
    """
    cut = pairs(candidates, references)
    if len(cut) < 2:
        raise UserError("CIDEr-D of one picture alone is undefined", allowed="two or more, to tell words apart by")
    seen: Counter[tuple[str, ...]] = Counter()  # in the references of how many pictures
    for pair in cut:
        seen.update({run for words in pair.references for n in range(1, LONGEST + 1) for run in ngrams(words, n)})
    rarity = {run: math.log(len(cut) / number) for run, number in seen.items()}
    other = math.log(len(cut))  # what no reference has counts as seen once
    scores = []
    for pair in cut:
        total = 0.0
        for words in pair.references:
            nearness = math.exp(-((len(pair.candidate) - len(words)) ** 2) / (2 * sigma**2))
            for n in range(1, LONGEST + 1):
                own, theirs = (_weights(side, n, rarity, other) for side in (pair.candidate, words))
                total += nearness * _likeness(own, theirs)
        scores.append(10 * total / (LONGEST * len(pair.references)))
    return scores


def _weights(words: Sequence[str], n: int, rarity: Mapping[tuple[str, ...], float], other: float) -> Weights:
    """tf-idf of each run; counts as they are, since the norm takes the length out."""
    return {run: count * rarity.get(run, other) for run, count in ngrams(words, n).items()}


def _likeness(own: Weights, theirs: Weights) -> float:
    """The cosine of two sets of weights, the candidate's clipped at the reference's."""
    product = sum(min(weight, theirs[run]) * theirs[run] for run, weight in own.items() if run in theirs)
    norms = math.hypot(*own.values()) * math.hypot(*theirs.values())
    return product / norms if norms else 0.0
