"""What a cell could follow in a text: a number for every character, made from the text by plain rules.

Each says what is so once that character has been read, and all but one look at the past alone, as a cell can. The rules
are a reader's, not a parser's: a quote that nobody closes ends with its paragraph, and an apostrophe is none.

    inside quotes        between double quotes, straight or typographic
    position in line     characters since the line began, this one counted; 0 at its end
    bracket depth        round, square and curly brackets that are open
    indentation          blanks at the beginning of the line, so far
    after a newline      the line before has just ended, or this is the first character
    in a word            letters, digits, the underline, an apostrophe inside
    at a space           a blank or a tab
    upper case           an upper-case letter
    in a number          a digit
    position in word     characters of the word so far, 0 outside
    speaker's name       in a line that is a name and a colon, as in plays; whether it is one shows only at its end

Karpathy, Johnson, Fei-Fei 2015, arXiv:1506.02078, section 4.2 and figure 2, found cells that follow quotes, the length
of a line, indentation, comments and conditions.
"""

import re
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from engram.errors import UserError, unknown

OPENING, CLOSING = "([{", ")]}"
SPEAKER = re.compile(r"^[A-Z][\w' -]{0,40}:$", re.MULTILINE)
WORD = re.compile(r"\w+(?:['’]\w+)*")

Rule = Callable[[str], NDArray[np.int64]]


def features(text: str, names: tuple[str, ...] = ()) -> dict[str, NDArray[np.int64]]:
    """Features by name, (characters,) each; those that never change in this text are left out.

    Args:
        names: which of them, in which order; all unless given.

    Raises:
        UserError: an empty text, or a name that is none.

    >>> {name: values.tolist() for name, values in features('("a")').items()}["inside quotes"]
    [0, 1, 1, 0, 0]
    """
    if not text:
        raise UserError("the text is empty", allowed="at least one character")
    for name in names:
        if name not in FEATURES:
            raise unknown("feature of a text", name, FEATURES)
    found = {name: FEATURES[name](text) for name in names or FEATURES}
    return {name: values for name, values in found.items() if (values != values[0]).any()}


def inside_quotes(text: str) -> NDArray[np.int64]:
    """1 from an opening double quote to the character before the closing one.

    >>> inside_quotes('a "b" c').tolist()
    [0, 0, 1, 1, 0, 0, 0]
    """

    def walk() -> Iterator[int]:
        inside, before = False, ""
        for letter in text:
            if letter == '"':
                inside = not inside
            elif letter in "“”":
                inside = letter == "“"
            elif letter == before == "\n":
                inside = False
            before = letter
            yield int(inside)

    return np.fromiter(walk(), np.int64, len(text))


def position_in_line(text: str) -> NDArray[np.int64]:
    """Characters since the last newline.

    >>> position_in_line("ab\\nc").tolist()
    [1, 2, 0, 1]
    """
    return _since(np.array([letter == "\n" for letter in text]))


def bracket_depth(text: str) -> NDArray[np.int64]:
    """Brackets that are open; what closes nothing is passed over, and an empty line closes all.

    >>> bracket_depth("a(b[c])d)").tolist()
    [0, 1, 1, 2, 2, 1, 0, 0, 0]
    """

    def walk() -> Iterator[int]:
        depth, before = 0, ""
        for letter in text:
            if letter in OPENING:
                depth += 1
            elif letter in CLOSING:
                depth = max(0, depth - 1)
            elif letter == before == "\n":
                depth = 0
            before = letter
            yield depth

    return np.fromiter(walk(), np.int64, len(text))


def indentation(text: str) -> NDArray[np.int64]:
    """Blanks at the beginning of the line as far as it is read; a tab counts as four.

    >>> indentation("  a b\\nc").tolist()
    [1, 2, 2, 2, 2, 0, 0]
    """

    def walk() -> Iterator[int]:
        blanks, begun = 0, False
        for letter in text:
            if letter == "\n":
                blanks, begun = 0, False
            elif letter in " \t" and not begun:
                blanks += 4 if letter == "\t" else 1
            else:
                begun = True
            yield blanks

    return np.fromiter(walk(), np.int64, len(text))


def after_a_newline(text: str) -> NDArray[np.int64]:
    """1 at a newline: what comes next begins a line.

    >>> after_a_newline("a\\nb").tolist()
    [0, 1, 0]
    """
    return np.array([letter == "\n" for letter in text]).astype(np.int64)


def in_a_word(text: str) -> NDArray[np.int64]:
    """1 at every character of a word.

    >>> in_a_word("it's 4 u").tolist()
    [1, 1, 1, 1, 0, 1, 0, 1]
    """
    return (position_in_word(text) > 0).astype(np.int64)


def at_a_space(text: str) -> NDArray[np.int64]:
    """1 at a blank or a tab.

    >>> at_a_space("a b").tolist()
    [0, 1, 0]
    """
    return np.array([letter in " \t" for letter in text]).astype(np.int64)


def upper_case(text: str) -> NDArray[np.int64]:
    """1 at an upper-case letter.

    >>> upper_case("aB1").tolist()
    [0, 1, 0]
    """
    return np.array([letter.isupper() for letter in text]).astype(np.int64)


def in_a_number(text: str) -> NDArray[np.int64]:
    """1 at a digit.

    >>> in_a_number("a10").tolist()
    [0, 1, 1]
    """
    return np.array([letter.isdigit() for letter in text]).astype(np.int64)


def position_in_word(text: str) -> NDArray[np.int64]:
    """Characters of the word so far.

    >>> position_in_word("to be").tolist()
    [1, 2, 0, 1, 2]
    """
    places = np.zeros(len(text), np.int64)
    for found in WORD.finditer(text):
        places[found.start() : found.end()] = np.arange(1, found.end() - found.start() + 1)
    return places


def speakers_name(text: str) -> NDArray[np.int64]:
    """1 in a line that holds a name and a colon and nothing else.

    >>> speakers_name("ROMEO:\\nO").tolist()
    [1, 1, 1, 1, 1, 1, 0, 0]
    """
    places = np.zeros(len(text), np.int64)
    for found in SPEAKER.finditer(text):
        places[found.start() : found.end()] = 1
    return places


def _since(at: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Steps since the last place that is marked, or since before the first; 0 there."""
    places = np.arange(1, len(at) + 1)
    return places - np.maximum.accumulate(np.where(at, places, 0))


FEATURES: dict[str, Rule] = {
    "inside quotes": inside_quotes,
    "position in line": position_in_line,
    "bracket depth": bracket_depth,
    "indentation": indentation,
    "after a newline": after_a_newline,
    "in a word": in_a_word,
    "at a space": at_a_space,
    "upper case": upper_case,
    "in a number": in_a_number,
    "position in word": position_in_word,
    "speaker's name": speakers_name,
}
"""By the name that a reader sees."""
