"""How tokens enter recurrent layers: three ways that are one linear map, and the quickest of them.

The first layer multiplies W_ih with what stands for a token: a one among V zeros, or a learned row of D values.

    rows        x_t = E[token_t],           W_ih x_t                  G H D multiplications a token, G gates
    one-hot     x_t = onehot(token_t),      (W_ih E^T) x_t            G H V
    look up     rows_t = (E W_ih^T)[token_t]                          none

E is the identity where nothing is learned. The product W_ih E^T is made once for each of V tokens and not for each of
the T B in a chunk, so that with the hundred characters of a language a learned row of any width costs what one-hot
costs. The gradients of E and of W_ih come from that of the product.

To look up needs a layer that takes ready-made what enters its gates, which torch's does not (`fused_lstm`). An LSTM
layer forward and backward on one core (AMD EPYC, AVX2; float32, 50 rows of 50 tokens, V = 65), in ms:

    H and D      rows     one-hot     look up
    128          31       25          21
    512          380      225         233

So what is quickest depends on V, D and H; see `quickest`.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as modules

OverTime = Callable[[Tensor, Tensor], tuple[Tensor, tuple[Tensor, ...]]]
"""The first layer on a table of what enters its gates from the input, (V, G H), and tokens (T, B): (T, B, H), state."""

LOOK_UP_FROM = 0.25
"""Of H: the least V and D for which a layer of our own, slower than torch's, is made up for by what it leaves out."""


def quickest(tokens: int, vocabulary: int, width: int, hidden_size: int, *, can_look_up: bool) -> str:
    """`rows`, `one-hot` or `look up`.

    Args:
        tokens: in the chunk, T B.
        vocabulary: V.
        width: D; V for one-hot input.
        can_look_up: the layer takes what enters its gates ready-made.

    >>> quickest(2500, 65, 128, 128, can_look_up=True), quickest(2500, 65, 512, 512, can_look_up=True)
    ('look up', 'one-hot')
    >>> quickest(2500, 10_000, 128, 128, can_look_up=True), quickest(1, 65, 65, 128, can_look_up=True)
    ('rows', 'rows')
    """
    if vocabulary > tokens:  # a table would be more than what it is for
        return "rows"
    if can_look_up and min(vocabulary, width) > LOOK_UP_FROM * hidden_size:
        return "look up"
    return "one-hot" if vocabulary < width else "rows"


def read_tokens(
    layers: nn.RNNBase,
    tokens: Tensor,
    state: tuple[Tensor, ...],
    table: Tensor | None = None,
    over_time: OverTime | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What batch-first `layers` make of one-hot tokens, or of rows of a table.

    Args:
        layers: torch's, one direction, with biases.
        tokens: (B, T) integers below V.
        state: (layers, B, H), one or two of them.
        table: E, (V, D).
        over_time: how the first layer looks up; None where it cannot.

    Returns:
        (B, T, H), and the state after the last step.

    >>> layers = nn.LSTM(3, 5, batch_first=True)
    >>> output, (h, c) = read_tokens(layers, torch.tensor([[2, 0, 1, 1]]), (torch.zeros(1, 1, 5),) * 2)
    >>> torch.equal(output, layers(torch.eye(3)[[2, 0, 1, 1]][None])[0])
    True
    """
    weights: list[Any] = list(layers._flat_weights)
    vocabulary = layers.input_size if table is None else len(table)
    can_look_up = over_time is not None
    way = quickest(tokens.numel(), vocabulary, layers.input_size, layers.hidden_size, can_look_up=can_look_up)
    if way == "rows":
        return _run(
            layers, one_hot(tokens, weights[0]) if table is None else F.embedding(tokens, table), state, weights
        )
    if table is not None:
        weights[0] = F.linear(weights[0], table)  # (G H, V)
    if way == "one-hot" or over_time is None:
        return _run(layers, one_hot(tokens, weights[0]), state, weights)
    x, after = over_time(weights[0].T, tokens.T.contiguous())  # (T, B, H)
    x, after = x.transpose(0, 1), tuple(one[None] for one in after)
    if layers.num_layers == 1:
        return x, after
    x = F.dropout(x, layers.dropout, layers.training)
    x, others = _run(layers, x, tuple(one[1:] for one in state), weights[4:])
    return x, tuple(torch.cat(both) for both in zip(after, others, strict=True))


def one_hot(tokens: Tensor, like: Tensor) -> Tensor:
    """A one for each token among zeros, as many as `like` has columns, of its type.

    >>> one_hot(torch.tensor([2, 0]), torch.zeros(5, 3))
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    return F.one_hot(tokens.long(), like.shape[1]).to(like.dtype)


def is_watched(*parts: nn.Module) -> bool:
    """Whether hooks wait for what enters or leaves one of the modules, which then has to be made.

    >>> layer = nn.Linear(1, 1)
    >>> is_watched(layer), bool(layer.register_forward_hook(print)), is_watched(layer)
    (False, True, True)
    """
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return modules._has_any_global_hook() or any(getattr(part, name) for part in parts for name in hooks)


def _run(
    layers: nn.RNNBase, x: Tensor, state: tuple[Tensor, ...], weights: list[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """torch's own layers with these weights, (B, T, D) to (B, T, H)."""
    how: Any = (weights, True, len(weights) // 4, layers.dropout, layers.training, False, True)
    if layers.mode == "LSTM":
        output, *after = torch.lstm(x, state, *how)
    elif layers.mode == "GRU":
        output, *after = torch.gru(x, state[0], *how)
    else:
        output, *after = torch.rnn_tanh(x, state[0], *how)
    return output, tuple(after)
