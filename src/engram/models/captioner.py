"""Networks that caption: a sentence for a picture, word by word, and where the network looked for each.

The idea: a convolutional network turns the picture into annotations a_1 .. a_L, one for each place of its last map, and
a recurrent network that has been given them is a language model: it foresees each word from those before.

    p(w_1 .. w_n <end> | picture) = Π_t p(w_t | w_0 .. w_{t-1}, picture),     w_0 = <start>

Without attention the picture is seen once, as v = W [a_1 .. a_L] + b:

    captioner_rnn     h_0 = v                    h_t = tanh(W_ih E w_{t-1} + W_hh h_{t-1} + b)    scores = W_o h_t + b_o
    captioner_lstm    v is the first input, before <start>; then an LSTM step for each word

Karpathy and Fei-Fei add v into the tanh of the first step alone; W_hh h_0 is the same, with W_hh v for their v. Vinyals
et al. show it as a word before the words, and found that to show it at every step lets the network overfit. `enters`
chooses either for both.

With attention (Xu et al.) the decoder looks before each word; soft and hard attention, the gate β and draws are in
`engram.layers.attention`:

    h_0 = tanh(W mean a + b), c_0 likewise       z_t = look(a, h_{t-1})
    h_t, c_t = LSTM([E w_{t-1}, z_t], h_{t-1}, c_{t-1})
    deep output:  scores = L_o (E w_{t-1} + L_h h_t + L_z z_t) + b_o;  without it W_o h_t + b_o

Training is by teacher forcing: the network reads the true words whatever it would have said. It then never meets its
own mistakes; with `own` it reads, in that share of the steps, a word drawn from its own scores (scheduled sampling).

Helps: attention with more than one thing in the picture, and where a person wants to see why. Hurts: long sentences
are written step by step, and a captioner says what is likely in its language too where it sees nothing.

The papers' settings: 512 units and words of 512 (Vinyals), 300 to 600 units and a vanilla network (Karpathy), 1000 to
1800 units over 14 x 14 places (Xu). Where we differ: smaller by default, for the scenes that anyone can train on; the
encoder is trained along, from the start (`encoder="conv"`); the whole map is seen and not its mean (`sees`), since the
mean over a map forgets where things were; no doubly stochastic penalty unless asked for; forget gates start open and
recurrent matrices orthogonal.

Vinyals, Toshev, Bengio, Erhan 2015, Show and tell, arXiv:1411.4555, section 3; Karpathy, Fei-Fei 2015, Deep
visual-semantic alignments, arXiv:1412.2306, section 3.2; Xu et al. 2015, Show, attend and tell, arXiv:1502.03044,
section 3.1; Bengio, Vinyals, Jaitly, Shazeer 2015, Scheduled sampling, arXiv:1506.03099, section 2.4.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from engram.errors import UserError
from engram.grammar import choice, number
from engram.layers.attention import HardAttention, SoftAttention
from engram.layers.recurrent import LSTM, RNN
from engram.models.captioner_decoder import ENTERS, SEES, AttentionDecoder, PlainDecoder
from engram.models.captioner_encoder import CONV, Encoder, build_encoder
from engram.models.captioner_network import END, Captioner
from engram.registry import register


@register(
    "captioner",
    paper="Karpathy and Fei-Fei 2015, arXiv:1412.2306, section 3.2",
    year=2015,
    parameters=1_423_044,
    vocabulary=36,
    input=(3, 48, 48),
)
def captioner_rnn(
    vocabulary: int,
    *,
    shape: Sequence[int],
    encoder: str = CONV,
    encoder_weights: str | None = None,
    encoder_layer: str | None = None,
    encoder_halvings: int = 3,
    encoder_settings: Mapping[str, Any] | None = None,
    frozen: bool = False,
    embedding_size: int = 128,
    hidden_size: int = 256,
    depth: int = 1,
    sees: str = "places",
    enters: str = "state",
    drop: float = 0.0,
) -> Captioner:
    """A vanilla recurrent network that has seen the picture once.

    Args:
        vocabulary: V, words that there are.
        shape: (C, H, W) of a picture.
        encoder: `conv`, a small network of its own, or a registered classifier.
        encoder_weights: where the classifier's first weights come from: a file, for whoever trains; none is read here.
        encoder_layer: of a classifier, the module whose output is the map.
        encoder_halvings: of `conv`, how often it halves the picture: 48 pixels become 6 x 6 places after three.
        encoder_settings: of a classifier, what its builder takes.
        frozen: leave the encoder as it is.
        embedding_size: E, values of a word.
        hidden_size: H, units of each layer.
        depth: recurrent layers.
        sees: all `places` side by side, or the `mean` over them.
        enters: the picture comes as the first `state`, or as the first `input`.
        drop: share of values set to zero before the head, and between layers.

    Raises:
        UserError: a name that is not known, a size below 1, a share outside 0 to 1, pictures that are too small.

    >>> import torch
    >>> net = captioner_rnn(30, shape=(3, 48, 48), encoder="resnet20", frozen=True)
    >>> net(torch.zeros(2, 3, 48, 48), torch.tensor([[1, 4, 5], [1, 4, 0]])).scores.shape
    torch.Size([2, 3, 30])
    """
    seen = build_encoder(
        encoder, shape, frozen=frozen, layer=encoder_layer, halvings=encoder_halvings, settings=encoder_settings
    )
    _check(vocabulary, embedding_size, hidden_size, drop)
    recurrent = RNN(embedding_size, hidden_size, depth, drop=drop if depth > 1 else 0.0, orthogonal=True)
    return _plain(vocabulary, seen, recurrent, encoder_weights, sees, enters, drop)


@register(
    "captioner",
    paper="Vinyals et al. 2015, arXiv:1411.4555, section 3",
    year=2015,
    parameters=1_129_540,
    vocabulary=36,
    input=(3, 48, 48),
)
def captioner_lstm(
    vocabulary: int,
    *,
    shape: Sequence[int],
    encoder: str = CONV,
    encoder_weights: str | None = None,
    encoder_layer: str | None = None,
    encoder_halvings: int = 3,
    encoder_settings: Mapping[str, Any] | None = None,
    frozen: bool = False,
    embedding_size: int = 128,
    hidden_size: int = 256,
    depth: int = 1,
    forget_bias: float = 1.0,
    sees: str = "places",
    enters: str = "input",
    drop: float = 0.0,
) -> Captioner:
    """An LSTM whose first word is the picture.

    Args: see `captioner_rnn`, and
        forget_bias: added to the bias that the forget gates start with.
    """
    seen = build_encoder(
        encoder, shape, frozen=frozen, layer=encoder_layer, halvings=encoder_halvings, settings=encoder_settings
    )
    _check(vocabulary, embedding_size, hidden_size, drop)
    recurrent = LSTM(
        embedding_size,
        hidden_size,
        depth,
        drop=drop if depth > 1 else 0.0,
        forget_bias=forget_bias,
        orthogonal=True,
    )
    return _plain(vocabulary, seen, recurrent, encoder_weights, sees, enters, drop)


@register(
    "captioner",
    paper="Xu et al. 2015, arXiv:1502.03044, sections 3.1 and 4.2",
    year=2015,
    parameters=830_917,
    vocabulary=36,
    input=(3, 48, 48),
)
def captioner_soft_attention(
    vocabulary: int,
    *,
    shape: Sequence[int],
    encoder: str = CONV,
    encoder_weights: str | None = None,
    encoder_layer: str | None = None,
    encoder_halvings: int = 3,
    encoder_settings: Mapping[str, Any] | None = None,
    frozen: bool = False,
    embedding_size: int = 128,
    hidden_size: int = 256,
    attention_size: int = 128,
    gate: bool = True,
    deep_output: bool = True,
    forget_bias: float = 1.0,
    drop: float = 0.0,
    penalty: float = 0.0,
) -> Captioner:
    """An LSTM that looks at all places before every word, at each as much as it matters.

    Args: see `captioner_rnn`, and
        attention_size: units of the network that says how much a place matters.
        gate: let the state say how much of the picture it needs.
        deep_output: let the word before and what was seen speak beside the state.
        forget_bias: added to the bias that the forget gate starts with.
        penalty: λ of the doubly stochastic penalty, which asks that every place be looked at as much as any other; the
            paper's for photographs is 1. On scenes, most of which is empty, it draws attention away from the things.
    """
    seen = build_encoder(
        encoder, shape, frozen=frozen, layer=encoder_layer, halvings=encoder_halvings, settings=encoder_settings
    )
    _check(vocabulary, embedding_size, hidden_size, drop)
    attention = SoftAttention(seen.annotations, hidden_size, attention_size, gate=gate)
    terms = {"penalty": number("captioner", "penalty", penalty, 0)}
    return _attending(
        vocabulary, seen, attention, encoder_weights, embedding_size, deep_output, forget_bias, drop, terms
    )


@register(
    "captioner",
    paper="Xu et al. 2015, arXiv:1502.03044, sections 3.1 and 4.1",
    year=2015,
    parameters=830_660,
    vocabulary=36,
    input=(3, 48, 48),
)
def captioner_hard_attention(
    vocabulary: int,
    *,
    shape: Sequence[int],
    encoder: str = CONV,
    encoder_weights: str | None = None,
    encoder_layer: str | None = None,
    encoder_halvings: int = 3,
    encoder_settings: Mapping[str, Any] | None = None,
    frozen: bool = False,
    embedding_size: int = 128,
    hidden_size: int = 256,
    attention_size: int = 128,
    gate: bool = False,
    deep_output: bool = True,
    forget_bias: float = 1.0,
    drop: float = 0.0,
    expected: float = 0.5,
    judged: str = "likeliest",
    reinforce: float = 1.0,
    entropy: float = 0.002,
    penalty: float = 0.0,
) -> Captioner:
    """An LSTM that looks at one place before every word.

    Args: see `captioner_soft_attention`, and
        expected: share of the examples that see the mean of all places while training.
        judged: what is seen while judging, the `likeliest` place or the `expected` mean of all.
        reinforce: λ_r, weight of the gradient through the draws; 1 is that of the expected loss itself.
        entropy: λ_e, weight of the attention's entropy, which keeps it from settling too early.
    """
    seen = build_encoder(
        encoder, shape, frozen=frozen, layer=encoder_layer, halvings=encoder_halvings, settings=encoder_settings
    )
    _check(vocabulary, embedding_size, hidden_size, drop)
    attention = HardAttention(
        seen.annotations, hidden_size, attention_size, gate=gate, expected=expected, judged=judged
    )
    terms = {"penalty": penalty, "reinforce": reinforce, "entropy": entropy}
    terms = {name: number("captioner", name, value, 0) for name, value in terms.items()}
    return _attending(
        vocabulary, seen, attention, encoder_weights, embedding_size, deep_output, forget_bias, drop, terms
    )


def _plain(
    vocabulary: int,
    encoder: Encoder,
    recurrent: RNN | LSTM,
    encoder_weights: str | None,
    sees: str,
    enters: str,
    drop: float,
) -> Captioner:
    decoder = PlainDecoder(
        recurrent,
        places=prod(encoder.size),
        annotation_size=encoder.annotations,
        words=vocabulary,
        sees=choice("captioner", "sees", sees, SEES),
        enters=choice("captioner", "enters", enters, ENTERS),
        drop=drop,
    )
    net = Captioner(vocabulary, encoder, decoder, embedding_size=recurrent.input_size)
    net.encoder_weights = encoder_weights
    return net


def _attending(
    vocabulary: int,
    encoder: Encoder,
    attention: SoftAttention,
    encoder_weights: str | None,
    embedding_size: int,
    deep_output: bool,
    forget_bias: float,
    drop: float,
    terms: Mapping[str, float],
) -> Captioner:
    decoder = AttentionDecoder(
        attention,
        annotation_size=encoder.annotations,
        embedding_size=embedding_size,
        hidden_size=attention.of_state.in_features,
        words=vocabulary,
        deep_output=deep_output,
        forget_bias=forget_bias,
        drop=drop,
    )
    net = Captioner(vocabulary, encoder, decoder, embedding_size=embedding_size, loss_terms=terms)
    net.encoder_weights = encoder_weights
    return net


def _check(vocabulary: int, embedding_size: int, hidden_size: int, drop: float) -> None:
    for name, value, least in (
        ("vocabulary", vocabulary, END + 2),
        ("embedding_size", embedding_size, 1),
        ("hidden_size", hidden_size, 1),
    ):
        number("captioner", name, value, least, whole=True)
    if not 0 <= drop < 1:
        raise UserError(f"drop cannot be {drop}", allowed="a share from 0 up to 1")
