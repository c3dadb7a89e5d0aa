"""A text as a pool of chunks, ready to be taken a batch at a time in any order.

The text is laid out in B rows and each row cut into chunks of T tokens (`engram.text.chunks`). Example n is chunk
n // B of row n % B, so that the examples in their order are the rows read on side by side, and n + B follows n.
A target that the chunk before has counted, and what fills up the last chunk of a row, is `IGNORED`.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engram.errors import UserError
from engram.text.chunks import Chunks

IGNORED = -100  # PyTorch's own mark for a target that does not count


class TextPool:
    """The chunks of a split; satisfies `engram.data.pool.Pool`.

    Args:
        tokens: (N,) integers.
        chunks: how they are cut.
        device: where batches go.

    >>> pool = TextPool(Chunks(torch.arange(14), rows=2, length=4, overlap=1), torch.device("cpu"))
    >>> len(pool), pool.name(3)
    (4, 'tokens 9 to 11')
    >>> x, y = next(pool.batches([torch.tensor([0, 2])]))
    >>> x.tolist(), y.tolist()
    ([[0, 1, 2, 3], [3, 4, 5, 0]], [[1, 2, 3, 4], [-100, 5, 6, -100]])
    """

    def __init__(self, chunks: Chunks, device: torch.device) -> None:
        self.chunks, self.device = chunks, device
        number = len(chunks) * chunks.rows
        self.labels = torch.zeros(number, dtype=torch.int64, device=device)  # chunks have no classes
        self.shape: tuple[int, ...] = (chunks.length,)
        self.dtype = torch.int64
        columns = len(chunks) * chunks.stride + chunks.overlap
        used = chunks.columns * chunks.rows
        tokens = chunks.tokens[: used + 1].to(device)
        # rows padded to whole chunks, so that a chunk is one window of its row
        self._x = tokens.new_zeros(chunks.rows, columns)
        self._y = torch.full((chunks.rows, columns), IGNORED, dtype=torch.int64, device=device)
        self._x[:, : chunks.columns] = tokens[:used].view(chunks.rows, -1)
        self._y[:, : chunks.columns] = tokens[1:].view(chunks.rows, -1)
        self._columns = torch.arange(chunks.length, device=device)
        self.nbytes = self._x.nbytes + self._y.nbytes

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Which tokens of the split it reads, counted from 0."""
        chunk, row = divmod(index, self.chunks.rows)
        first = row * self.chunks.columns + chunk * self.chunks.stride
        last = min(first + self.chunks.length, (row + 1) * self.chunks.columns) - 1
        return f"tokens {first} to {last}"

    def batches(self, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For each (B,) tensor of indices: x and y, int64 (B, T)."""
        for batch in indices:
            there = batch.to(self.device, non_blocking=True)
            rows, first = (there % self.chunks.rows)[:, None], there // self.chunks.rows * self.chunks.stride
            columns = first[:, None] + self._columns
            y = self._y[rows, columns]
            if self.chunks.overlap:
                counted = (first == 0)[:, None] | (self._columns >= self.chunks.overlap)
                y = y.masked_fill(~counted, IGNORED)
            yield self._x[rows, columns].long(), y

    def pictures(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """There are none.

        Raises:
            UserError: always.
        """
        raise UserError("a text has no pictures")
