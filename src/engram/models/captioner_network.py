"""The network that captions: an encoder, a decoder, and the words between them; read a step at a time or all at once.

Sentences of unlike lengths lie in one batch, padded at their ends, and are packed: the longest first, and at every step
only those that still go on. Padding takes no part, whatever stands there. The method is told in
`engram.models.captioner`, which has the builders.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from engram.errors import UserError
from engram.grammar import number
from engram.layers.attention import HardAttention, draw
from engram.models.captioner_decoder import AttentionDecoder, PlainDecoder, State, Step, first_rows, joined
from engram.models.captioner_encoder import Encoder

PADDING, START, END = 0, 1, 2
"""The first special tokens of a vocabulary of captions, `engram.text.vocabulary.SPECIAL`."""


class Decoded(NamedTuple):
    """What a network foresaw for B captions of T words; 0 past a caption's end."""

    scores: Tensor  # (B, T, V)
    attention: Tensor | None  # (B, T, L) α, None without attention
    size: tuple[int, int]  # h and w: L = h w places, row by row
    log_draws: Tensor | None = None  # (B, T) of hard attention: log α of the drawn place, 0 where none was drawn
    entropies: Tensor | None = None  # (B, T) nats, of hard attention


class Captioner(nn.Module):
    """An encoder and a decoder with words between them.

    Args:
        vocabulary: V, words that there are; `<padding>` is 0, `<start>` 1, `<end>` 2.
        encoder: pictures to annotations.
        decoder: annotations and words to scores.
        embedding_size: E, values of a word.
        loss_terms: the weights in its loss, by the words of `engram.tasks.caption.losses`.

    >>> from engram.models.captioner import captioner_soft_attention
    >>> net = captioner_soft_attention(30, shape=(3, 48, 48))
    >>> decoded = net(torch.zeros(2, 3, 48, 48), torch.tensor([[1, 4, 5], [1, 4, 0]]))
    >>> decoded.scores.shape, decoded.attention.shape, decoded.size
    (torch.Size([2, 3, 30]), torch.Size([2, 3, 36]), (6, 6))
    >>> decoded.attention.sum(2).round().tolist()  # nothing is looked at past the end
    [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]
    """

    def __init__(
        self,
        vocabulary: int,
        encoder: Encoder,
        decoder: PlainDecoder | AttentionDecoder,
        *,
        embedding_size: int,
        loss_terms: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.vocabulary, self.loss_terms = vocabulary, dict(loss_terms or {})
        self.encoder = encoder
        self.embedding = nn.Embedding(vocabulary, embedding_size)
        self.decoder = decoder
        self.encoder_weights: str | None = None  # where its first ones shall come from, see `take_encoder`
        hard = isinstance(decoder, AttentionDecoder) and isinstance(decoder.attention, HardAttention)
        self.baseline: Tensor | None
        self.register_buffer("baseline", torch.zeros(()) if hard else None)  # of the reward, see engram.tasks.caption

    @property
    def attends(self) -> bool:
        """Whether it looks again for every word."""
        return isinstance(self.decoder, AttentionDecoder)

    def forward(self, images: Tensor, tokens: Tensor, lengths: Tensor | None = None, *, own: float = 0.0) -> Decoded:
        """Scores for the word after each, with the true words before it.

        Args:
            images: (B, C, H, W).
            tokens: (B, T) integers, `<start>` w_1 .. w_n, then `<end>` or padding.
            lengths: (B,) tokens of each that are read, from 1 to T. Those before the first `<end>` or padding, unless
                given.
            own: share of the steps after the first that read a word of the network's own.

        Raises:
            UserError: not as many captions as pictures, lengths outside 1 to T, a share outside 0 to 1.
        """
        number("captioner", "own", own, 0, 1)
        lengths = self._lengths(images, tokens, lengths)
        order = lengths.argsort(descending=True, stable=True)
        back = order.argsort().to(tokens.device)
        annotations = self.encoder(images)
        with self._full_precision(annotations):
            rows = order.to(tokens.device)
            words = self.embedding(tokens[rows])  # (B, T, E)
            state = self.decoder.begin(self._as_own(annotations)[rows])
            packed = pack_padded_sequence(words, lengths[order], batch_first=True)
            step = self._with_own_words(packed, state, own) if own else self.decoder.run(packed, state)
            scores = self.decoder.scores(step)  # (N, V), N words in all

            def padded(values: Tensor | None) -> Any:  # (N, *) to (B, T, *)
                if values is None:
                    return None
                whole = PackedSequence(values, packed.batch_sizes)
                return pad_packed_sequence(whole, batch_first=True, total_length=tokens.shape[1])[0][back]

            looked = padded(step.attention), self.encoder.size, padded(step.log_draw), padded(step.entropy)
            return Decoded(padded(scores), *looked)

    def begin(self, images: Tensor) -> State:
        """What decoding starts from, of (B, C, H, W) pictures, before the start token."""
        annotations = self.encoder(images)
        with self._full_precision(annotations):
            return self.decoder.begin(self._as_own(annotations))

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State, Tensor | None]:
        """One word on: scores (B, V) for the next, the state, and α (B, L) by which these scores were found.

        Args:
            tokens: (B,) the words before, `<start>` at first.
            state: after the words before those.
        """
        with self._full_precision(state.h):
            step, state = self.decoder.advance(self.embedding(tokens), state)
            return self.decoder.scores(step), state, step.attention

    def _with_own_words(self, packed: PackedSequence, state: State, own: float) -> Step:
        """Step by step, with words drawn from the scores of the step before in place of some of the true ones."""
        steps: list[Step] = []
        for x in packed.data.split(packed.batch_sizes.tolist()):
            if steps:
                with torch.no_grad():
                    said = draw(self.decoder.scores(first_rows(steps[-1], len(x))).log_softmax(1))  # (n,)
                chosen = torch.rand(len(x), 1, device=x.device) < own
                x = torch.where(chosen, self.embedding(said), x)
            step, state = self.decoder.advance(x, first_rows(state, len(x)))
            steps.append(step)
        return joined(steps)

    def _lengths(self, images: Tensor, tokens: Tensor, lengths: Tensor | None) -> Tensor:
        """(B,) on the CPU, where packing needs them."""
        if tokens.dim() != 2 or len(tokens) != len(images) or not tokens.shape[1]:
            raise UserError(
                f"{len(images)} pictures and captions of shape {tuple(tokens.shape)}",
                allowed=f"({len(images)}, words), a caption for each picture",
            )
        if lengths is None:
            ended = (tokens == END) | (tokens == PADDING)
            lengths = (ended.cumsum(1) == 0).sum(1)
        lengths = lengths.cpu()
        if tuple(lengths.shape) != (len(tokens),) or int(lengths.min()) < 1 or int(lengths.max()) > tokens.shape[1]:
            raise UserError(
                f"lengths of {lengths.tolist()} for {len(tokens)} captions",
                allowed=f"one each, from 1 to {tokens.shape[1]}",
            )
        return lengths

    def _as_own(self, annotations: Tensor) -> Tensor:
        """In the precision of the weights where autocast does not see to it."""
        return annotations.to(self.embedding.weight.dtype) if annotations.device.type == "cpu" else annotations

    def _full_precision(self, x: Tensor) -> Any:
        """Without autocast on the CPU, as the recurrent layers run there; the encoder has run with it."""
        return torch.autocast("cpu", enabled=False) if x.device.type == "cpu" else nullcontext()
