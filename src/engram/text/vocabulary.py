"""What a network reads and writes, numbered: characters, bytes or words.

The unit decides what the network must learn by itself. *Characters*: few (65 in tiny Shakespeare), any word can be
written, spelling has to be learnt, sequences are long. *Bytes*: 256 whatever the language, nothing is ever unknown, a
character outside ASCII takes two to four steps. *Words*: short sequences and no misspellings, but a large last layer,
and a word that was rare in training is `<unknown>`.

Special tokens are asked for where a task needs them, and come first, so that `<padding>` is 0:
`<padding>` fills shorter sequences of a batch, `<start>` and `<end>` enclose a sentence of any length, `<unknown>`
stands for whatever the vocabulary lacks.

Karpathy 2015, "The Unreasonable Effectiveness of Recurrent Neural Networks" (characters). Karpathy and Fei-Fei 2015,
arXiv 1412.2306, section 4: words that occur at least 5 times in the training captions.
"""

import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from engram.errors import UserError, nearest, unknown
from engram.text import words as cut

PADDING, START, END, UNKNOWN = "<padding>", "<start>", "<end>", "<unknown>"
SPECIAL = (PADDING, START, END, UNKNOWN)

PLAIN = {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": ".", "\t": " ", "\u00a0": " ", "\r": "\n"}
"""Characters that typesetting puts in place of plain ones."""


@dataclass(frozen=True)
class Vocabulary(ABC):
    """Tokens by index, the special ones first. Never changes once it is built.

    Args:
        special: those of `SPECIAL` that the task needs.
        entries: all other tokens, in order.
    """

    special: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()

    unit: ClassVar[str]

    def __post_init__(self) -> None:
        for word in self.special:
            if word not in SPECIAL:
                raise unknown("special token", word, SPECIAL)
        if len(self.index) < len(self):
            twice = Counter(self.tokens).most_common(1)[0][0]
            raise UserError(f"the vocabulary has {twice!r} twice", allowed="each token once")

    def __len__(self) -> int:
        return len(self.special) + len(self.entries)

    @property
    def tokens(self) -> tuple[str, ...]:
        """All tokens in the order of their indices."""
        return self.special + self.entries

    @cached_property
    def index(self) -> dict[str, int]:
        """Token to index."""
        return {token: place for place, token in enumerate(self.tokens)}

    def special_index(self, token: str) -> int:
        """The index of a special token.

        Raises:
            UserError: this vocabulary was built without it.
        """
        if token not in self.special:
            raise unknown("special token", token, self.special or ["none in this vocabulary"])
        return self.index[token]

    def encode(self, text: str) -> list[int]:
        """The index of each unit of the text, without `<start>` and `<end>`.

        Raises:
            UserError: units that the vocabulary lacks, where it has no `<unknown>`.
        """
        pieces, index = self._cut(text), self.index
        if UNKNOWN in self.special:
            other = index[UNKNOWN]
            return [index.get(piece, other) for piece in pieces]
        try:
            return [index[piece] for piece in pieces]
        except KeyError:
            raise self._lacks(list(dict.fromkeys(piece for piece in pieces if piece not in index))) from None

    def enclose(self, text: str) -> list[int]:
        """The text's indices between `<start>` and `<end>`."""
        return [self.special_index(START), *self.encode(text), self.special_index(END)]

    def decode(self, indices: Iterable[int]) -> str:
        """The text up to the first `<end>`; `<start>` and `<padding>` are left out, `<unknown>` is written."""
        pieces, tokens = [], self.tokens
        for place in indices:
            token = tokens[place]
            if token == END and END in self.special:
                break
            if place >= len(self.special) or token == UNKNOWN:
                pieces.append(token)
        return self._join(pieces)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; `from_dict` is the way back."""
        return {"unit": self.unit, "special": list(self.special), "entries": list(self.entries)}

    @abstractmethod
    def _cut(self, text: str) -> Sequence[str]:
        """The units of a text, as they stand among `entries`."""

    @abstractmethod
    def _join(self, pieces: list[str]) -> str:
        """The reverse of `_cut`."""

    def _lacks(self, pieces: list[str]) -> UserError:
        """The error for units that are not in the vocabulary."""
        shown = ", ".join(map(repr, pieces[:8])) + (f" and {len(pieces) - 8} more" if len(pieces) > 8 else "")
        near = [(piece, self._nearest(piece)) for piece in pieces[:8]]
        return UserError(
            f"the vocabulary of {len(self.entries)} {self.unit}s lacks {shown}",
            allowed=self._allowed(),
            nearest=", ".join(f"{other!r} for {piece!r}" for piece, other in near if other is not None) or None,
        )

    def _nearest(self, piece: str) -> str | None:
        return nearest(piece, self.entries)

    def _allowed(self) -> str | None:
        return None


class Characters(Vocabulary):
    """Each character of a text once, in the order of Unicode.

    >>> letters = Characters.of("hello")
    >>> letters.entries, letters.encode("hole"), letters.decode([1, 0, 2, 3])
    (('e', 'h', 'l', 'o'), [1, 3, 2, 0], 'helo')
    >>> letters.encode("Hé")
    Traceback (most recent call last):
    ...
    engram.errors.UserError: the vocabulary of 4 characters lacks 'H', 'é'
      allowed: ehlo
      did you mean: 'h' for 'H', 'e' for 'é'
    """

    unit = "character"

    @classmethod
    def of(cls, text: str, *, special: Sequence[str] = ()) -> "Characters":
        """The characters that occur in a text.

        Raises:
            UserError: an empty text.
        """
        return cls(tuple(special), tuple(sorted(set(_not_empty(text)))))

    def _cut(self, text: str) -> str:
        return text

    def _join(self, pieces: list[str]) -> str:
        return "".join(pieces)

    def _nearest(self, piece: str) -> str | None:
        bare = unicodedata.normalize("NFKD", piece)[0]  # é is e and an accent
        likely = (PLAIN.get(piece), piece.swapcase(), bare, bare.swapcase())
        return next((letter for letter in likely if letter in self.index), None)

    def _allowed(self) -> str:
        return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in self.entries)


class Bytes(Vocabulary):
    """The 256 bytes of UTF-8: any text, no training text needed.

    What was written may stop within a character, or be no UTF-8 at all: such bytes decode to the mark U+FFFD.

    >>> Bytes().encode("é!"), Bytes().decode([195, 169, 33, 195])
    ([195, 169, 33], 'é!\ufffd')
    """

    unit = "byte"

    def __init__(self, special: Sequence[str] = ()) -> None:
        super().__init__(tuple(special), tuple(map(chr, range(256))))

    def to_dict(self) -> dict[str, Any]:
        return {"unit": self.unit, "special": list(self.special)}

    def _cut(self, text: str) -> str:
        return text.encode("utf-8").decode("latin-1")  # a character for each byte, the one of the same number

    def _join(self, pieces: list[str]) -> str:
        return "".join(pieces).encode("latin-1").decode("utf-8", errors="replace")


@dataclass(frozen=True)
class Words(Vocabulary):
    """Words by falling frequency, those of equal frequency in the order of Unicode.

    Args:
        style: `sentence` (lower case, no punctuation) or `text` (nothing is lost); see engram.text.words.

    >>> few = Words.of(["A dog.", "A cat, a mat!"], at_least=2)
    >>> few.tokens, few.enclose("a dog")
    (('<padding>', '<start>', '<end>', '<unknown>', 'a'), [1, 4, 3, 2])
    >>> few.decode([1, 4, 3, 2, 0, 0])
    'a <unknown>'
    """

    style: str = "sentence"

    unit = "word"

    def __post_init__(self) -> None:
        if self.style not in CUTS:
            raise unknown("style of words", self.style, CUTS)
        super().__post_init__()

    @classmethod
    def of(
        cls,
        texts: str | Iterable[str],
        *,
        at_least: int = 1,
        style: str = "sentence",
        special: Sequence[str] = SPECIAL,
    ) -> "Words":
        """The words that occur at least so often in all the texts together.

        Raises:
            UserError: no word does, or a text is empty.
        """
        if style not in CUTS:
            raise unknown("style of words", style, CUTS)
        texts = [texts] if isinstance(texts, str) else texts
        counts = Counter(word for text in texts for word in CUTS[style](_not_empty(text)))
        kept = sorted((word for word in counts if counts[word] >= at_least), key=lambda word: (-counts[word], word))
        if not kept:
            often = max(counts.values(), default=0)
            raise UserError(f"no word occurs {at_least} times", allowed=f"at_least {often} or less" if often else None)
        return cls(tuple(special), tuple(kept), style)

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "style": self.style}

    def _cut(self, text: str) -> list[str]:
        return CUTS[self.style](text)

    def _join(self, pieces: list[str]) -> str:
        return (" " if self.style == "sentence" else "").join(pieces)


CUTS = {"sentence": cut.of_sentence, "text": cut.of_text}
UNITS: dict[str, type[Vocabulary]] = {kind.unit: kind for kind in (Characters, Bytes, Words)}


def from_dict(data: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary that `to_dict` wrote.

    Raises:
        UserError: it is none, or it is damaged.

    >>> from_dict(Characters.of("ab").to_dict()) == Characters.of("ab")
    True
    """
    unit = data.get("unit") if isinstance(data, Mapping) else None
    if unit not in UNITS:
        raise unknown("unit of a vocabulary", str(unit), UNITS)
    lists = {key: value for key, value in data.items() if key in ("special", "entries")}
    for key, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(token, str) and token for token in value):
            raise UserError(f"{key!r} of the vocabulary is no list of tokens", allowed="a list of texts")
    style = {"style": data["style"]} if "style" in data else {}
    try:
        return UNITS[unit](**{key: tuple(value) for key, value in lists.items()}, **style)
    except TypeError:
        raise UserError(f"a vocabulary of {unit}s has other keys than {', '.join(map(str, data))}") from None


def _not_empty(text: str) -> str:
    if not text:
        raise UserError("the text is empty", allowed="at least one character")
    return text
