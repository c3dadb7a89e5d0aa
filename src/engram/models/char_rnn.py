"""Networks that write: which character comes next, at every place of a text, from all that came before.

The idea: the text is its own teacher. At each step the network sees one character, and its scores for the next are
compared with the one that came. Writing is the same network fed with what it has just drawn, one character at a time,
from the state where it stood.

    x_t = E[token_t]            h_t = recurrent(x_t, h_{t-1})            scores_t = W h_t + b
    loss = mean over t of -log softmax(scores_t)[token_{t+1}]            nats a character; / ln 2 bits a character

E is the identity for one-hot input (`embedding=None`), otherwise a table that is learned. Both are the same linear map:
W_ih applied to a row of E is a column of W_ih E^T, so that a table is a W_ih of rank at most `embedding`. With the some
hundred characters of a language either costs next to nothing (`layers/recurrent/token_input.py`); with thousands of
words a table saves work and shares strength.

Helps: with little text and little memory, whatever the length: each step costs the same. Hurts: steps cannot run side
by side, and what was said long ago has to fit into the state. The vanilla network spells and forgets; LSTM and GRU
close quotes and brackets (Karpathy, Johnson, Fei-Fei 2015, arXiv:1506.02078, section 4).

Karpathy's settings: char-rnn's defaults are 2 layers of 128 units, one-hot, RMSProp at 2e-3, chunks of 50 characters,
batches of 50, gradients clipped by value at 5, weights uniform within ±0.08. Graves': 1 layer of 1000 units, or 7
of 700 with a way past every layer from the input and to the output. Where we differ: no such ways past; orthogonal
recurrent weights, and forget gates that start open; a head that starts within ±1/sqrt(H) as torch's; and one-hot
input weights of deviation 1. A one-hot input has one value that is not 0, whatever V, so that is its fan-in. Within
torch's ±1/sqrt(H), or the ±0.08 of char-rnn, the first states are near 0 and it learns nothing but how frequent each
character is for its first hundred steps and more.

Karpathy 2015, The unreasonable effectiveness of recurrent neural networks, and its program char-rnn (MIT licence);
Graves 2013, Generating sequences with recurrent neural networks, arXiv:1308.0850, sections 2 and 3; Sutskever, Martens,
Hinton 2011, Generating text with recurrent neural networks.
"""

from typing import Any

from torch import Tensor, nn

from engram.errors import UserError
from engram.layers.recurrent import GRU, LSTM, RNN, Stack
from engram.layers.recurrent.stack import State
from engram.layers.recurrent.token_input import is_watched, one_hot
from engram.registry import register


class CharRNN(nn.Module):
    """Tokens, recurrent layers, scores for the token that follows each.

    Args:
        vocabulary: V, tokens that there are; they are numbered from 0.
        recurrent: layers whose input is V, or `embedding` where that is given.
        embedding: values of a learned table's row; None for one-hot input.
        drop: share of values set to zero on the way into the head while training; that between layers is `recurrent`'s.

    >>> import torch
    >>> net = CharRNN(65, LSTM(65, 128, depth=2))
    >>> scores, state = net(torch.zeros(4, 50, dtype=torch.long))
    >>> scores.shape, state[0].shape
    (torch.Size([4, 50, 65]), torch.Size([2, 4, 128]))
    """

    def __init__(self, vocabulary: int, recurrent: Stack, *, embedding: int | None = None, drop: float = 0.0) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.embedding = None if embedding is None else nn.Embedding(vocabulary, embedding)
        self.recurrent = recurrent
        self.drop = nn.Dropout(drop)
        self.head = nn.Linear(recurrent.hidden_size, vocabulary)

    def forward(
        self, tokens: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Scores of the token after each, and the state after the last.

        Args:
            tokens: (B, T) integers from 0 up to V.
            state: what an earlier call gave, to go on from there; detach it where the gradient shall stop. The start of
                a text unless given.
            lengths: (B,) tokens of each text, from 1 to T; what the head makes of the padding is of no meaning.

        Returns:
            (B, T, V), and the state in the recurrent layers' form.
        """
        if is_watched(*self.children()):  # somebody wants to see what the layers read
            x, state = self.recurrent(self.inputs(tokens), state, lengths)  # (B, T, H)
        else:
            table = None if self.embedding is None else self.embedding.weight
            x, state = self.recurrent(tokens, state, lengths, table)  # (B, T, H)
        return self.head(self.drop(x)), state  # (B, T, V)

    def inputs(self, tokens: Tensor) -> Tensor:
        """What the recurrent layers read: (B, T, V) of zeros with a one each, or (B, T, embedding) rows.

        >>> import torch
        >>> CharRNN(3, RNN(3, 5)).inputs(torch.tensor([[2, 0]]))
        tensor([[[0., 0., 1.],
                 [1., 0., 0.]]])
        """
        return one_hot(tokens, self.head.weight.T) if self.embedding is None else self.embedding(tokens)


@register("writer", paper="Karpathy 2015, The unreasonable effectiveness of recurrent neural networks", year=2015)
def char_rnn(
    vocabulary: int,
    *,
    hidden_size: int = 128,
    depth: int = 2,
    embedding: int | None = None,
    drop: float = 0.0,
    orthogonal: bool = True,
    layer_norm: bool = False,
) -> CharRNN:
    """Vanilla layers that write: the one to compare with.

    Args:
        vocabulary: V, tokens that there are.
        hidden_size: units of each layer.
        depth: recurrent layers.
        embedding: values of a learned row for each token; one-hot without.
        drop: share of values set to zero between layers, and before the head.
        orthogonal: start of the recurrent weights.
        layer_norm: normalise what enters the gates; slower, see `layers/recurrent/gate_norm.py`.

    Raises:
        UserError: a size below 1, a share outside 0 to 1.

    >>> sum(p.numel() for p in char_rnn(65, hidden_size=128, depth=2).parameters())
    66369
    """
    settings: dict[str, Any] = {"orthogonal": orthogonal, "layer_norm": layer_norm}
    return _build(RNN, vocabulary, hidden_size, depth, embedding, drop, settings)


@register("writer", paper="Cho et al. 2014, arXiv:1406.1078, section 2.3; Karpathy 2015", year=2014)
def char_gru(
    vocabulary: int,
    *,
    hidden_size: int = 128,
    depth: int = 2,
    embedding: int | None = None,
    drop: float = 0.0,
    orthogonal: bool = True,
    layer_norm: bool = False,
) -> CharRNN:
    """GRU layers that write.

    Args: see `char_rnn`.

    >>> sum(p.numel() for p in char_gru(65, hidden_size=128, depth=2).parameters())
    182337
    """
    settings: dict[str, Any] = {"orthogonal": orthogonal, "layer_norm": layer_norm}
    return _build(GRU, vocabulary, hidden_size, depth, embedding, drop, settings)


@register("writer", paper="Hochreiter, Schmidhuber 1997; Graves 2013, arXiv:1308.0850; Karpathy 2015", year=2013)
def char_lstm(
    vocabulary: int,
    *,
    hidden_size: int = 128,
    depth: int = 2,
    embedding: int | None = None,
    drop: float = 0.0,
    forget_bias: float = 1.0,
    orthogonal: bool = True,
    layer_norm: bool = False,
) -> CharRNN:
    """LSTM layers that write.

    Args: see `char_rnn`, and
        forget_bias: added to the bias that the forget gates start with.

    >>> sum(p.numel() for p in char_lstm(65, hidden_size=128, depth=2).parameters())
    240321
    """
    settings: dict[str, Any] = {"forget_bias": forget_bias, "orthogonal": orthogonal, "layer_norm": layer_norm}
    return _build(LSTM, vocabulary, hidden_size, depth, embedding, drop, settings)


def _build(
    kind: type[Stack],
    vocabulary: int,
    hidden_size: int,
    depth: int,
    embedding: int | None,
    drop: float,
    settings: dict[str, Any],
) -> CharRNN:
    for name, value in (("vocabulary", vocabulary), ("embedding", 1 if embedding is None else embedding)):
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{name} cannot be {value}", allowed="whole numbers from 1 up")
    if not 0 <= drop < 1:
        raise UserError(f"drop cannot be {drop}", allowed="a share from 0 up to 1")
    between = drop if depth > 1 else 0.0  # with one layer only the head has something before it
    recurrent = kind(vocabulary if embedding is None else embedding, hidden_size, depth, drop=between, **settings)
    if embedding is None:
        nn.init.normal_(recurrent.get_parameter("weight_ih_l0"))
    return CharRNN(vocabulary, recurrent, embedding=embedding, drop=drop)
