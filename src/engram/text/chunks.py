"""A long text in chunks for truncated back-propagation through time.

The text is laid out as B rows, each a stretch of it, and cut across into chunks of T tokens. Chunk k + 1 goes on where
chunk k stood, in the same row, so that the state at the end of one is the state at the beginning of the next: carried
over as a number, detached, so that no gradient crosses.

    text      0 1 2 3 4 5 6 7 8 9 ...         B = 2, T = 3
    row 0     0 1 2 | 3 4 5                   x of chunk 0:  0 1 2    y:  1 2 3
    row 1     6 7 8 | 9 10 11                                6 7 8        7 8 9

Without overlap the first target of a chunk is learnt with a gradient that reaches back one step, the last one with T.
With an overlap of h tokens each chunk begins h tokens before the last one ended: they are read again, their targets are
*not counted again* (`counted_from`), and every counted target has at least h + 1 steps behind it, but for those of
chunk 0. It costs T / (T - h) times the work. The state to carry is then that after `carry` tokens, not after all T.

Every token is a target exactly once a pass. What does not fill a last column of B, fewer than B tokens at the end of
the text, is left over, and told; the last chunk may be shorter.

Williams and Peng 1990, "An efficient gradient-based algorithm for on-line training of recurrent network trajectories",
section 5: BPTT(h; h'), gradients h steps back, every h' steps; here h = T and h' = T - overlap. Mikolov et al. 2010.
Full back-propagation is one chunk of the length of a row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from engram.errors import UserError


@dataclass(frozen=True)
class Chunk:
    """Some columns of all rows.

    Args:
        index: which chunk of the pass; before chunk 0 the state is that of a beginning.
        x: (B, t) int64, the tokens read.
        y: (B, t) int64, the token that follows each.
        counted_from: column of the first target that no chunk before has counted.
        carry: how many columns to read until the state that the next chunk begins with.
    """

    index: int
    x: Tensor
    y: Tensor
    counted_from: int
    carry: int

    @property
    def counted(self) -> Tensor:
        """(B, t - counted_from) the targets that count."""
        return self.y[:, self.counted_from :]


class Chunks:
    """Passes over a text, chunk by chunk, in order; where it stands is its state.

    Nothing is copied: rows and chunks are views on `tokens` (of int64; narrower integers, which save memory, are
    widened a chunk at a time).

    Args:
        tokens: (N,) integers, on any device.
        rows: B, parallel stretches of the text.
        length: T, tokens in a chunk.
        overlap: tokens at the beginning of a chunk that the one before has read too; 0 up to length - 1.

    Raises:
        UserError: the text has no token for each row and one to follow, or a setting is out of range.

    >>> import torch
    >>> chunks = Chunks(torch.arange(14), rows=2, length=4, overlap=1)
    >>> len(chunks), chunks.left_over
    (2, 1)
    >>> for chunk in chunks:
    ...     print(chunk.x.tolist(), chunk.counted.tolist())
    [[0, 1, 2, 3], [6, 7, 8, 9]] [[1, 2, 3, 4], [7, 8, 9, 10]]
    [[3, 4, 5], [9, 10, 11]] [[5, 6], [11, 12]]
    """

    def __init__(self, tokens: Tensor, *, rows: int, length: int, overlap: int = 0) -> None:
        if tokens.dim() != 1 or tokens.is_floating_point():
            raise ValueError(f"tokens are one row of integers, not {tuple(tokens.shape)} of {tokens.dtype}")
        for name, value in (("rows", rows), ("length", length)):
            if value < 1:
                raise UserError(f"{name} {value} is out of range", allowed="1 or more")
        if not 0 <= overlap < length:
            raise UserError(f"overlap {overlap} is out of range", allowed=f"0 to {length - 1}, less than the length")
        if len(tokens) <= rows:
            most = f"{len(tokens) - 1} rows or fewer" if len(tokens) > 1 else "a text of 2 tokens or more"
            raise UserError(f"a text of {len(tokens)} tokens is too short for {rows} rows", allowed=most)
        self.tokens, self.rows, self.length, self.overlap = tokens, rows, length, overlap
        self.columns = (len(tokens) - 1) // rows
        self.position = 0
        used = self.columns * rows
        self._x = tokens[:used].view(rows, self.columns)
        self._y = tokens[1 : used + 1].view(rows, self.columns)

    @property
    def left_over(self) -> int:
        """Tokens at the end of the text that are never a target."""
        return len(self.tokens) - 1 - self.columns * self.rows

    @property
    def stride(self) -> int:
        """New tokens a chunk."""
        return self.length - self.overlap

    def __len__(self) -> int:
        """Chunks in a pass."""
        return max(1, -(-(self.columns - self.overlap) // self.stride))

    def __getitem__(self, index: int) -> Chunk:
        """Chunk `index` of a pass; does not move where this stands."""
        if not 0 <= index < len(self):
            raise IndexError(f"chunk {index} of {len(self)}")
        columns = slice(index * self.stride, index * self.stride + self.length)
        x, y = self._x[:, columns].long(), self._y[:, columns].long()
        return Chunk(index, x, y, self.overlap if index else 0, min(self.stride, x.shape[1]))

    def __iter__(self) -> Iterator[Chunk]:
        """The rest of this pass; the next one begins anew."""
        while self.position < len(self):
            index = self.position
            self.position += 1  # before it is given out: a state saved while it is in use says that it is done
            yield self[index]
        self.position = 0

    def state_dict(self) -> dict[str, int]:
        """Where this stands: `position`, chunks given out in this pass, and what the position means."""
        return {"position": self.position, **self._cut()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            UserError: it belongs to another text or is cut otherwise.
        """
        for name, value in self._cut().items():
            if state.get(name) != value:
                raise UserError(f"the state was saved with {name} {state.get(name)}", allowed=f"{name} {value}")
        if not 0 <= state["position"] <= len(self):
            raise UserError(f"position {state['position']} is out of range", allowed=f"0 to {len(self)}")
        self.position = int(state["position"])

    def __str__(self) -> str:
        left = f"; {self.left_over} at the end left over" if self.left_over else ""
        return f"{len(self.tokens)} tokens: {self.rows} rows, {len(self)} chunks of {self.length}{left}"

    def _cut(self) -> dict[str, int]:
        return {"tokens": len(self.tokens), "rows": self.rows, "length": self.length, "overlap": self.overlap}


def split(tokens: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """A text's beginning to train on and its last `share` to validate on, as views.

    By position: sentences next to each other are alike, and a random split would be too easy.

    Raises:
        UserError: not both have a token and one to follow.

    >>> import torch
    >>> [part.tolist() for part in split(torch.arange(10), 0.2)]
    [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9]]
    """
    held_out = round(len(tokens) * share)
    if min(held_out, len(tokens) - held_out) < 2:
        raise UserError(
            f"a share of {share} of {len(tokens)} tokens leaves {len(tokens) - held_out} to train on and {held_out} "
            "to validate on",
            allowed="2 or more of each",
        )
    return tokens[: len(tokens) - held_out], tokens[len(tokens) - held_out :]
