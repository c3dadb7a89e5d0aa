"""A network reads a text, and what happens in it is kept: every cell at every character, and how its gates stand.

A long text read from its beginning is a step for every character, one after the other. So it is cut into rows, which
are read side by side; the first characters of a row, where the state still knows nothing, are read and not kept. The
last row ends where the text ends, and so the end of it is a whole passage.

Of an LSTM the cell is kept as tanh(c), which is what can come out of it, within ±1 (as Karpathy et al. colour it); of
the others h.

A vocabulary of bytes takes several steps for some characters, one of words one for several characters: what a text is
at a step is what it is at the last character that the step has read.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engram.errors import UserError
from engram.models.char_rnn import CharRNN
from engram.recurrence.gates import Saturation, saturation
from engram.text.vocabulary import Vocabulary

ROW = 260
"""Steps of a row, about: long enough for a passage, short enough that several are read side by side."""
WARM_UP = 32
"""Steps at the beginning of a row that are not kept."""
PIECE = 64
"""Steps that are in memory with all their gates at a time."""


@dataclass(frozen=True)
class Spelled:
    """A text as steps: the pieces that are read, and the place of the last character of each in `text`."""

    text: str
    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    ends: NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """What was kept.

    Args:
        places: (N,) which steps of the text, in order, row by row.
        cells: (N, layers, H) float32, within ±1.
        gates: how often each was shut and open.
        row: how many of the places in turn are a passage without a gap.
    """

    places: NDArray[np.int64]
    cells: NDArray[np.float32]
    gates: Saturation
    row: int


def spell(vocabulary: Vocabulary, text: str) -> Spelled:
    """The steps in which a vocabulary reads a text.

    Raises:
        UserError: what the vocabulary lacks, or an empty text.

    >>> from engram.text.vocabulary import Bytes, Words
    >>> spell(Bytes(), "né").ends.tolist(), spell(Words.of("to be", style="text"), "to be").ends.tolist()
    ([0, 1, 1], [1, 4])
    """
    if not text:
        raise UserError("the text is empty", allowed="at least one character")
    tokens = vocabulary.encode(text)
    if vocabulary.unit == "byte":
        lengths = [len(letter.encode("utf-8")) for letter in text]
        pieces = [
            piece for letter, length in zip(text, lengths, strict=True) for piece in (letter, *[""] * (length - 1))
        ]
        return Spelled(text, tuple(tokens), tuple(pieces), np.repeat(np.arange(len(text)), lengths))
    names = vocabulary.tokens
    pieces = [names[token] for token in tokens]
    if vocabulary.unit == "word" and "".join(pieces) != text:  # sentences lose their case and marks; or words unknown
        pieces = [piece if place == 0 or piece[:1].isspace() else f" {piece}" for place, piece in enumerate(pieces)]
    if vocabulary.unit == "word":
        text = "".join(pieces)
    else:
        pieces = list(text)  # what stands there, where the vocabulary knows it as unknown
    return Spelled(text, tuple(tokens), tuple(pieces), np.cumsum([len(piece) for piece in pieces]) - 1)


def at_steps(
    spelled: Spelled, features: Mapping[str, NDArray[np.int64]], places: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """Features of the text at those steps; those that are constant there are left out.

    >>> from engram.text.vocabulary import Bytes
    >>> at_steps(spell(Bytes(), "é a"), {"at a space": np.array([0, 1, 0])}, np.arange(4))
    {'at a space': array([0, 0, 1, 0])}
    """
    found = {name: values[spelled.ends[places]] for name, values in features.items()}
    return {name: values for name, values in found.items() if (values != values[0]).any()}


def read(net: CharRNN, tokens: Tensor, *, length: int = ROW, warm_up: int = WARM_UP) -> Reading:
    """Read a text in rows, step by step.

    Args:
        tokens: (N,) integers, the text; what does not fill the rows is left out at its beginning.
        length: steps of a row, at least; all are one row where there are fewer.
        warm_up: steps at the beginning of each that are not kept.

    Raises:
        UserError: a row has no step beyond those that are not kept.

    >>> from engram.models.char_rnn import char_gru
    >>> found = read(char_gru(5, hidden_size=4), torch.arange(61) % 5, length=30, warm_up=10)
    >>> found.cells.shape, found.places[[0, 19, 20, -1]].tolist(), found.row, list(found.gates.open)
    ((40, 2, 4), [11, 30, 41, 60], 20, ['r', 'z'])
    """
    rows = max(1, len(tokens) // length)
    length = len(tokens) // rows
    if length <= warm_up:
        raise UserError(f"a text of {len(tokens)} steps is too short", allowed=f"{warm_up + 1} or more")
    first = len(tokens) - rows * length
    laid = tokens[first:].view(rows, length)
    stack, state = net.recurrent, None
    kept: list[Tensor] = []
    shares: list[tuple[int, Saturation]] = []
    with torch.no_grad():
        for start in range(0, length, PIECE):
            inside = stack.gates(net.inputs(laid[:, start : start + PIECE]), state)  # (layers, rows, t, H) each
            ended = tuple(inside[name][:, :, -1] for name in stack.states)
            state = ended if len(ended) > 1 else ended[0]
            fresh = max(0, warm_up - start)
            if fresh >= inside["h"].shape[2]:
                continue
            inside = {name: value[:, :, fresh:] for name, value in inside.items()}
            cell = inside["c"].tanh() if "c" in inside else inside["h"]
            kept.append(cell.permute(1, 2, 0, 3).float().cpu())  # (rows, t, layers, H)
            shares.append((cell.shape[2], saturation(inside)))
    values = torch.cat(kept, dim=1)  # (rows, length - warm_up, layers, H)
    places = first + np.arange(rows * length).reshape(rows, length)[:, warm_up:]
    return Reading(places.reshape(-1), values.flatten(0, 1).numpy(), _together(shares), places.shape[1])


def _together(shares: list[tuple[int, Saturation]]) -> Saturation:
    """The shares of all pieces, each by its steps."""
    steps = sum(count for count, _ in shares)

    def mean(parts: list[dict[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
        weighed = zip(shares, parts, strict=True)
        summed = [{name: count * value for name, value in part.items()} for (count, _), part in weighed]
        return {name: np.sum([one[name] for one in summed], axis=0) / steps for name in parts[0]}

    return Saturation(mean([one.shut for _, one in shares]), mean([one.open for _, one in shares]))
