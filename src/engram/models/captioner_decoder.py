"""What a captioning network writes with: recurrent decoders, without attention and with it.

A decoder begins with the annotations of a picture and takes a word at a time; what it has seen after each it turns into
scores for the next. `PlainDecoder` sees the picture once, before the first word. `AttentionDecoder` looks at it again
for every word. The equations stand in `engram.models.captioner`.

Everything that changes from word to word is a `State` whose tensors have the examples on their first axis, so that
search can choose rows of it; everything that a word gives is a `Step`.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from engram.layers.attention import HardAttention, SoftAttention
from engram.layers.recurrent import LSTM, RNN

ENTERS = ("state", "input")
SEES = ("places", "mean")


class State(NamedTuple):
    """After the words so far; each tensor with B examples first."""

    h: Tensor  # (B, layers, H), with attention (B, H)
    c: Tensor | None = None  # as h, of an LSTM
    annotations: Tensor | None = None  # (B, L, D), with attention
    keys: Tensor | None = None  # (B, L, A), what attention compares the state with
    expected: Tensor | None = None  # (B,) of hard attention, who sees the mean of all places


class Step(NamedTuple):
    """What a word gave; N words, of one step or of many behind each other."""

    x: Tensor  # (N, E) the word, embedded
    h: Tensor  # (N, H)
    context: Tensor | None = None  # (N, D) what was seen of the picture
    attention: Tensor | None = None  # (N, L)
    log_draw: Tensor | None = None  # (N,)
    entropy: Tensor | None = None  # (N,)


Kept = TypeVar("Kept", bound="State | Step")


def joined(steps: Iterable[Step]) -> Step:
    """Several steps behind each other."""
    columns = zip(*steps, strict=True)
    return Step._make(None if column[0] is None else torch.cat(column) for column in columns)


def first_rows(kept: Kept, rows: int) -> Kept:
    """The state, or the step, of the first examples."""
    return type(kept)(*(None if part is None else part[:rows] for part in kept))


class PlainDecoder(nn.Module):
    """A recurrent network that sees the picture once, and then writes from memory.

    Args:
        recurrent: RNN or LSTM layers whose input is E.
        places, annotation_size: L and D of the annotations.
        sees: all `places` side by side, as a fully connected layer does, or the `mean` over them.
        enters: as the first `state`, or as the first `input`, before the start token.
        words: V.
        drop: share of values set to zero before the head while training.
    """

    def __init__(
        self,
        recurrent: RNN | LSTM,
        *,
        places: int,
        annotation_size: int,
        words: int,
        sees: str = "places",
        enters: str = "state",
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.recurrent, self.sees, self.enters = recurrent, sees, enters
        values = recurrent.num_layers * recurrent.hidden_size if enters == "state" else recurrent.input_size
        self.picture = nn.Linear(annotation_size * (places if sees == "places" else 1), values)
        self.drop = nn.Dropout(drop)
        self.head = nn.Linear(recurrent.hidden_size, words)

    def begin(self, annotations: Tensor) -> State:
        """The state before the start token, from annotations (B, L, D)."""
        seen = self.picture(annotations.flatten(1) if self.sees == "places" else annotations.mean(1))  # (B, values)
        rows, layers, units = len(seen), self.recurrent.num_layers, self.recurrent.hidden_size
        h = seen.new_zeros(rows, layers, units) if self.enters == "input" else seen.view(rows, layers, units)
        state = State(h, torch.zeros_like(h) if isinstance(self.recurrent, LSTM) else None)
        return state if self.enters == "state" else self.advance(seen, state)[1]

    def advance(self, x: Tensor, state: State) -> tuple[Step, State]:
        """One word, (B, E) embedded."""
        output, after = self.recurrent(x[:, None], _stacked(state))
        return Step(x, output[:, 0]), _unstacked(after)

    def run(self, x: PackedSequence, state: State) -> Step:
        """All words of sentences of falling lengths at once, through torch's fused layers."""
        output, _ = self.recurrent(x, _stacked(state))
        return Step(x.data, output.data)

    def scores(self, step: Step) -> Tensor:
        """(N, V)."""
        return self.head(self.drop(step.h))


class AttentionDecoder(nn.Module):
    """An LSTM that looks at the picture before every word.

    Args:
        attention: soft or hard, over annotations of D values.
        annotation_size: D.
        embedding_size, hidden_size: E and H.
        words: V.
        deep_output: let the word before and what was seen speak beside the state.
        forget_bias: added to the bias that the forget gate starts with.
        drop: share of values set to zero before the head while training.
    """

    def __init__(
        self,
        attention: SoftAttention,
        *,
        annotation_size: int,
        embedding_size: int,
        hidden_size: int,
        words: int,
        deep_output: bool = True,
        forget_bias: float = 1.0,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.first_h = nn.Linear(annotation_size, hidden_size)  # f_init,h
        self.first_c = nn.Linear(annotation_size, hidden_size)  # f_init,c
        self.cell = nn.LSTMCell(embedding_size + annotation_size, hidden_size)
        with torch.no_grad():
            for gate in self.cell.weight_hh.chunk(4):
                nn.init.orthogonal_(gate)
            self.cell.bias_ih.chunk(4)[1].add_(forget_bias)  # the second of i, f, g, o
        self.of_h = nn.Linear(hidden_size, embedding_size, bias=False) if deep_output else None  # L_h
        self.of_context = nn.Linear(annotation_size, embedding_size, bias=False) if deep_output else None  # L_z
        self.drop = nn.Dropout(drop)
        self.head = nn.Linear(embedding_size if deep_output else hidden_size, words)  # L_o

    def begin(self, annotations: Tensor) -> State:
        """The state before the start token, from annotations (B, L, D)."""
        mean = annotations.mean(1)  # (B, D)
        expected = None
        if isinstance(self.attention, HardAttention):
            expected = self.attention.who_expects(len(mean), mean.device)
        keys = self.attention.keys(annotations)
        return State(self.first_h(mean).tanh(), self.first_c(mean).tanh(), annotations, keys, expected)

    def advance(self, x: Tensor, state: State) -> tuple[Step, State]:
        """One word, (B, E) embedded: look, then write."""
        look = self.attention(state.annotations, state.keys, state.h, state.expected)
        h, c = self.cell(torch.cat([x, look.context], 1), (state.h, state.c))
        return Step(x, h, *look), state._replace(h=h, c=c)

    def run(self, x: PackedSequence, state: State) -> Step:
        """All words of sentences of falling lengths, step by step; who has ended is left out."""
        steps = []
        for words in x.data.split(x.batch_sizes.tolist()):
            step, state = self.advance(words, first_rows(state, len(words)))
            steps.append(step)
        return joined(steps)

    def scores(self, step: Step) -> Tensor:
        """(N, V)."""
        if self.of_h is None or self.of_context is None:
            return self.head(self.drop(step.h))
        return self.head(self.drop(step.x + self.of_h(step.h) + self.of_context(step.context)))


def _stacked(state: State) -> Tensor | tuple[Tensor, Tensor]:
    """As torch's recurrent layers take it, (layers, B, H)."""
    h = state.h.transpose(0, 1).contiguous()
    return h if state.c is None else (h, state.c.transpose(0, 1).contiguous())


def _unstacked(state: Tensor | tuple[Tensor, ...]) -> State:
    if isinstance(state, Tensor):
        return State(state.transpose(0, 1))
    return State(*(part.transpose(0, 1) for part in state))
