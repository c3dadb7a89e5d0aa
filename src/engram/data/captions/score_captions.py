"""The three scores of captions at once, as papers report them."""

from collections.abc import Sequence

from engram.text.scores.bleu import bleu
from engram.text.scores.cider import cider_d
from engram.text.scores.rouge import rouge_l


def score_captions(sentences: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """`bleu1` to `bleu4` and `rouge_l`, 0 to 1, and `cider` (CIDEr-D, 0 to 10), which one picture alone has not.

    Args:
        sentences: N, one a picture.
        references: (N,) what people wrote about each.

    Raises:
        UserError: see `engram.text.scores.pairs`.

    >>> said, wrote = ["a seven above a red square", "two dogs"], [["a seven above a red square"], ["a dog", "a cat"]]
    >>> {name: round(value, 2) for name, value in score_captions(said, wrote).items()}
    {'bleu1': 0.75, 'bleu2': 0.79, 'bleu3': 0.85, 'bleu4': 0.89, 'rouge_l': 0.5, 'cider': 5.0}
    """
    found = {f"bleu{order}": value for order, value in enumerate(bleu(sentences, references), 1)}
    found["rouge_l"] = rouge_l(sentences, references)
    if len(sentences) > 1:
        found["cider"] = cider_d(sentences, references)
    return found
