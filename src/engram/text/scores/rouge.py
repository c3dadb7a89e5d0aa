"""ROUGE-L: the longest run of words, in order but with gaps, that a sentence shares with a reference.

With the length of this longest common subsequence, its share of the sentence P and of the reference R:

    F = (1 + β²) P R / (R + β² P)

β = 1.2, as in the COCO evaluation: recall counts more. Of several references the best P and the best R are taken, each
by itself, as there; Lin takes the best F. Needs no choice of n, and rewards word order in the large. Lin 2004, "ROUGE:
A Package for Automatic Evaluation of Summaries", section 3.1, equations 2 to 4.
"""

from collections.abc import Sequence

from engram.text.scores.pairs import pairs


def rouge_l(candidates: Sequence[str], references: Sequence[Sequence[str]], *, beta: float = 1.2) -> float:
    """The mean F of all sentences, 0 to 1; see `rouge_l_each`.

    >>> rouge_l(["a dog"], [["a dog"]])
    1.0
    """
    each = rouge_l_each(candidates, references, beta=beta)
    return sum(each) / len(each)


def rouge_l_each(candidates: Sequence[str], references: Sequence[Sequence[str]], *, beta: float = 1.2) -> list[float]:
    """F of each sentence, 0 to 1.

    Args:
        candidates: N sentences.
        references: N lists of one or more sentences.
        beta: how many times more recall counts than precision.

    Raises:
        UserError: see `engram.text.scores.pairs`.

    Lin's example, of which only the first keeps the order:

    >>> said = ["police kill the gunman", "the gunman kill police"]
    >>> rouge_l_each(said, [["police killed the gunman"]] * 2, beta=1.0)
    [0.75, 0.5]
    """
    scores = []
    for pair in pairs(candidates, references):
        common = [longest_common(pair.candidate, words) for words in pair.references]
        if not max(common):
            scores.append(0.0)
            continue
        precision = max(common) / len(pair.candidate)
        recall = max(length / len(words) for length, words in zip(common, pair.references, strict=True))
        scores.append((1 + beta**2) * precision * recall / (recall + beta**2 * precision))
    return scores


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence.

    >>> longest_common("abcde", "axcye")
    3
    """
    row = [0] * (len(other) + 1)  # row[j]: of what was read of `one` and the first j of `other`
    for item in one:
        diagonal = 0
        for place, against in enumerate(other, 1):
            above = row[place]
            row[place] = diagonal + 1 if item == against else max(above, row[place - 1])
            diagonal = above
    return row[-1]
