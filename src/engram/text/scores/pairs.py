"""Sentences to be judged, each with the references that it is judged by, as words."""

from collections.abc import Sequence
from dataclasses import dataclass

from engram.errors import UserError
from engram.text.words import of_sentence


@dataclass(frozen=True)
class Pair:
    """The words of a sentence and those of its references."""

    candidate: list[str]
    references: list[list[str]]


def pairs(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[Pair]:
    """Lower-case words without punctuation.

    Raises:
        UserError: nothing to judge, as many references as sentences are not there, or one has none with words in it.

    >>> pairs(["A dog."], [["The dog!", "dogs"]])
    [Pair(candidate=['a', 'dog'], references=[['the', 'dog'], ['dogs']])]
    """
    if len(candidates) != len(references):
        raise UserError(f"{len(candidates)} sentences, but references for {len(references)}", allowed="as many of both")
    if not candidates:
        raise UserError("there is no sentence to score", allowed="at least one, with its references")
    made = []
    for place, (candidate, own) in enumerate(zip(candidates, references, strict=True)):
        if isinstance(own, str):
            raise UserError(f"the references of sentence {place} are one text", allowed="a list of sentences")
        words = [cut for reference in own if (cut := of_sentence(reference))]
        if not words:
            raise UserError(f"sentence {place} ({candidate!r}) has no reference", allowed="at least one with a word")
        made.append(Pair(of_sentence(candidate), words))
    return made
