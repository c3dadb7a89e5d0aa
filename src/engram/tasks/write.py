"""Going on with a text: the loss of each chunk, and the state that goes from one chunk to the next.

An example is a chunk of T tokens in one of B rows of a long text (`engram.data.text_pool`). Its loss is the mean over
the tokens that count of -log softmax(scores_t)[token_{t+1}], in nats a token.

Truncated back-propagation through time: the state at the end of a chunk is where the next chunk of the same row begins,
carried over as a number, so that no gradient crosses. With an overlap of h tokens the next chunk begins h tokens
before the end of this one, so the state is taken T - h tokens in, and the first h targets of the next are not counted
(`IGNORED`). Whether a chunk follows the one before it is looked up row by row: where it does not, as at the beginning
of a pass, or where a review takes chunks out of their order, it begins with the state of a text's beginning, and an
overlap is then what it reads before the first token that counts.

Williams and Peng 1990, section 5. Karpathy's char-rnn (MIT licence) carries the state likewise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.augment.compose import Batch
from engram.data.text_pool import IGNORED
from engram.tasks.task import Autocast, Measured

Carried = Mapping[str, Any]
"""`indices` (B,): the chunks that go on from it; `state`: tensors (layers, B, H). Plain, so that it can be saved."""


@dataclass(frozen=True)
class Write:
    """Going on with a text, as the loop asks for it.

    Args:
        stride: new tokens a chunk: its length less the overlap.
        rows: rows of the text; chunk n is followed by chunk n + rows.
        smoothing: share of the target spread evenly over the vocabulary.
    """

    stride: int
    rows: int
    smoothing: float = 0.0

    def measure(
        self,
        net: nn.Module,
        batch: Batch,
        y: Tensor,
        part: slice,
        *,
        autocast: Autocast,
        indices: Tensor | None = None,
        carried: Carried | None = None,
        done: float = 0.0,
    ) -> Measured:
        """See `Task`. `y`: (B, T) tokens that follow, `IGNORED` where they do not count."""
        x, targets = batch.x[part], y[part]
        chunks = None if indices is None else indices[part]
        before = None if chunks is None or carried is None else begin(carried, chunks, part)
        with autocast():
            scores, after = net(x[:, : self.stride], before)  # (b, T, V)
            if x.shape[1] > self.stride:
                rest, _ = net(x[:, self.stride :], after)
                scores = torch.cat([scores, rest], dim=1)
        found = losses(scores, targets, smoothing=self.smoothing)
        left = None if chunks is None else {"indices": chunks + self.rows, "state": detached(after)}
        alone = found.detach()
        return Measured(found, alone, alone, share_right(scores, targets), scores, left)

    def join(self, carried: Sequence[Carried | None]) -> Carried | None:
        """The parts' states side by side."""
        kept = [one for one in carried if one is not None]
        if len(kept) < len(carried) or not kept:
            return None
        states = zip(*(one["state"] for one in kept), strict=True)
        return {
            "indices": torch.cat([one["indices"] for one in kept]),
            "state": tuple(torch.cat(list(pieces), dim=1) for pieces in states),
        }

    def rank(self, figures: Mapping[str, float]) -> tuple[float, ...]:
        """The loss: how many characters are guessed right says less."""
        return (-figures["loss"],)


def begin(carried: Carried, chunks: Tensor, part: slice) -> Any:
    """The state with which chunks begin: what was carried where they follow, zeros where they do not.

    Args:
        chunks: (b,) on the CPU.
        part: the rows of the batch that they are.

    >>> left = {"indices": torch.tensor([2, 9]), "state": (torch.ones(1, 2, 3),)}
    >>> begin(left, torch.tensor([2, 3]), slice(None))
    tensor([[[1., 1., 1.],
             [0., 0., 0.]]])
    """
    expected = carried["indices"][part]
    if len(expected) != len(chunks):
        return None
    follows = expected == chunks
    pieces = tuple(piece[:, part] for piece in carried["state"])
    if not follows.all():
        kept = follows.to(pieces[0].device)[None, :, None]
        pieces = tuple(piece.masked_fill(~kept, 0.0) for piece in pieces)
    return pieces if len(pieces) > 1 else pieces[0]


def detached(state: Any) -> tuple[Tensor, ...]:
    """A recurrent state, a tensor or several, as numbers that no gradient crosses."""
    return tuple(one.detach() for one in (state if isinstance(state, tuple) else (state,)))


def losses(scores: Tensor, y: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """The mean loss of each row's tokens that count, in at least 32 bits.

    Args:
        scores: (B, T, V).
        y: (B, T), `IGNORED` where a token does not count; a row without any that counts has the loss 0.

    Returns:
        (B,) nats a token.

    >>> losses(torch.zeros(1, 3, 4), torch.tensor([[1, 2, IGNORED]]))
    tensor([1.3863])
    """
    exact = scores.to(torch.promote_types(scores.dtype, torch.float32)).flatten(0, 1)  # (B T, V)
    each = F.cross_entropy(exact, y.flatten(), reduction="none", ignore_index=IGNORED, label_smoothing=smoothing)
    return each.view_as(y).sum(1) / (y != IGNORED).sum(1).clamp_min(1)


def share_right(scores: Tensor, y: Tensor) -> Tensor:
    """(B,) shares of the tokens that count whose score is the largest.

    >>> share_right(torch.eye(3)[None], torch.tensor([[0, 2, IGNORED]]))
    tensor([0.5000])
    """
    right = (scores.argmax(dim=2) == y).sum(1)
    return right / (y != IGNORED).sum(1).clamp_min(1)
