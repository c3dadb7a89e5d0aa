"""Pairs of a picture and one of its sentences, a batch at a time; each picture is kept once, not once a sentence.

A pool as `engram.data.pool.Pool` describes it, over a pool of the pictures alone, resident or streamed. Sentences are
always in memory: COCO's 591,753 for training take at most 100 MB.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engram.data.captions.numbered import Numbered
from engram.data.pool import Pool, ResidentPool


class CaptionPool:
    """N pairs, the sentences of a picture one after the other.

    `labels` (N,) say which of its picture's sentences each is, from 0; they are no classes. `picture` (N,) says which
    of the pictures in `images`, the pool of the pictures alone, it belongs to.
    """

    def __init__(self, images: Pool, sentences: Numbered) -> None:
        device = images.labels.device
        self.images = images
        self.picture = torch.from_numpy(sentences.picture)
        self.lengths = torch.from_numpy(sentences.lengths)
        self.tokens = sentences.tokens.to(device)
        self.labels = torch.from_numpy(sentences.order).to(device)
        self.shape, self.dtype = images.shape, images.dtype

    @property
    def nbytes(self) -> int:
        return self.images.nbytes + self.tokens.nbytes

    def __len__(self) -> int:
        return len(self.picture)

    def name(self, index: int) -> str:
        """`1000268201_693b08cb0e.jpg#2`, as Flickr8k counts."""
        return f"{self.images.name(int(self.picture[index]))}#{int(self.labels[index])}"

    def batches(self, indices: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For each int64 CPU tensor of indices: x (B, C, *S) with the channels last in memory, and y int64 (B, T).

        A row of y is `<start>`, the words, `<end>`, and `<padding>` up to the longest sentence of the batch.
        """
        drawn: deque[tuple[Tensor, Tensor]] = deque()  # (indices, where each one's picture stands in the batch read)
        once = not isinstance(self.images, ResidentPool)

        def pictures() -> Iterator[Tensor]:
            for batch in indices:
                own = self.picture[batch]
                wanted, place = own.unique(return_inverse=True)
                if once and len(wanted) < len(own):  # a picture is decoded once, however many of its sentences follow
                    drawn.append((batch, place))
                    yield wanted
                else:
                    drawn.append((batch, torch.empty(0, dtype=torch.int64)))
                    yield own

        for x, _ in self.images.batches(pictures()):
            batch, place = drawn.popleft()
            if len(place):
                x = x.movedim(1, -1).index_select(0, place.to(x.device)).movedim(-1, 1)
            yield x, self.sentences(batch)

    def sentences(self, indices: Tensor) -> Tensor:
        """int64 (B, T) numbers of these sentences, padded to the longest of them."""
        longest = int(self.lengths[indices].max())
        return self.tokens.index_select(0, indices.to(self.tokens.device))[:, :longest].long()

    def pictures(self, indices: Sequence[int]) -> NDArray[Any]:
        return self.images.pictures(self.picture[np.asarray(indices, np.int64)].tolist())
