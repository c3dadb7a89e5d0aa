"""BLEU-1 to BLEU-4: how much of what was written, in runs of up to four words, stands in a reference.

Over the whole corpus, with the count of a run clipped at the most that one reference has of it:

    p_n = Σ clipped / Σ all,    BP = min(1, exp(1 - r / c)),    BLEU-N = BP exp(1/N Σ_n log p_n)

c is the length of all sentences together, r that of the references, for each sentence the one closest in length (of two
as close the shorter). The brevity penalty stands in for recall, which several references cannot give.

A score of the corpus, not of sentences: their mean is another number, and a sentence without a run of four in common
would be 0. No smoothing: where no run of n words is found anywhere, BLEU-n is 0. Precise wording counts and meaning
does not; compare only scores with the same tokenisation. Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation
of Machine Translation", sections 2.1.1 (clipping), 2.2.2 (brevity), 2.3. The COCO evaluation's is the same, with 1e-15
in place of 0.
"""

import math
from collections import Counter
from collections.abc import Sequence

from engram.text.scores.ngrams import ngrams
from engram.text.scores.pairs import pairs

LONGEST = 4


def bleu(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, float, float, float]:
    """BLEU-1, -2, -3 and -4 of a corpus, 0 to 1.

    Args:
        candidates: N sentences.
        references: N lists of one or more sentences.

    Raises:
        UserError: see `engram.text.scores.pairs`.

    The paper's example of clipping, two of seven words:

    >>> one, *_ = bleu(["the the the the the the the"], [["The cat is on the mat.", "There is a cat on the mat."]])
    >>> round(one * 7, 6)
    2.0
    """
    matched, written = [0] * LONGEST, [0] * LONGEST
    length = closest = 0
    for pair in pairs(candidates, references):
        length += len(pair.candidate)
        closest += min((abs(len(words) - len(pair.candidate)), len(words)) for words in pair.references)[1]
        for n in range(1, LONGEST + 1):
            own = ngrams(pair.candidate, n)
            most: Counter[tuple[str, ...]] = Counter()
            for words in pair.references:
                most |= ngrams(words, n)  # the larger of the two counts
            matched[n - 1] += (own & most).total()  # the smaller of the two
            written[n - 1] += own.total()
    brevity = min(1.0, math.exp(1 - closest / length)) if length else 0.0
    logs = [math.log(found / of) if found else -math.inf for found, of in zip(matched, written, strict=True)]
    one, two, three, four = (brevity * math.exp(sum(logs[:n]) / n) for n in range(1, LONGEST + 1))
    return one, two, three, four
