"""How tokens enter recurrent layers: three ways that are one linear map, and the quickest of them.

The first layer multiplies W_ih with what stands for a token: a one among V zeros, or a learned row of D values.

    rows        x_t = E[token_t],           W_ih x_t                  G H D multiplications a token, G gates
    one-hot     x_t = onehot(token_t),      (W_ih E^T) x_t            G H V
    look up     rows_t = (E W_ih^T)[token_t]                          none

E is the identity where nothing is learned. The product W_ih E^T is made once for each of V tokens and not for each of
the T B in a chunk, so that with the hundred characters of a language a learned row of any width costs what one-hot
costs. The gradients of E and of W_ih come from that of the product.

To look up needs a layer that takes ready-made what enters its gates (`fused_lstm` and its sisters), which torch's does
not. An LSTM layer forward and backward on one core (AMD EPYC, AVX2; float32, 50 rows of 50 tokens, V = 65), in ms:

    H and D      rows     one-hot     look up
    128          31       25          21
    512          380      225         233

So what is quickest depends on V, D and H; see `quickest`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as modules

After = tuple[Tensor, tuple[Tensor, ...]]
"""What layers give: the states of the last one at every step, and those of all after the last step."""


def quickest(tokens: int, vocabulary: int, width: int, hidden_size: int, look_up_from: float) -> str:
    """`rows`, `one-hot` or `look up`.

    Args:
        tokens: in the chunk, T B.
        vocabulary: V.
        width: D; V for one-hot input.
        look_up_from: of H, the least V and D for which a layer of our own is made up for by what it leaves out; more
            than 0 where torch's is quicker.

    >>> quickest(2500, 65, 128, 128, 0.25), quickest(2500, 65, 512, 512, 0.25)
    ('look up', 'one-hot')
    >>> quickest(2500, 10_000, 128, 128, 0.25), quickest(1, 65, 65, 128, 0.25)
    ('rows', 'rows')
    """
    if vocabulary > tokens:  # a table would be more than what it is for
        return "rows"
    if min(vocabulary, width) > look_up_from * hidden_size:
        return "look up"
    return "one-hot" if vocabulary < width else "rows"


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
    return bool(modules._has_any_global_hook()) or any(getattr(part, name) for part in parts for name in hooks)


def torch_layers(layers: nn.RNNBase, x: Tensor, state: tuple[Tensor, ...], weights: list[Tensor]) -> After:
    """torch's own batch-first layers, all or the upper ones, with these weights: (B, T, D) to (B, T, H).

    >>> layers, x = nn.GRU(3, 5, batch_first=True), torch.ones(2, 4, 3)
    >>> torch.equal(torch_layers(layers, x, (torch.zeros(1, 2, 5),), list(layers.parameters()))[0], layers(x)[0])
    True
    """
    how: Any = (weights, True, len(weights) // 4, layers.dropout, layers.training, False, True)
    if layers.mode == "LSTM":
        output, *after = torch.lstm(x, state, *how)
    elif layers.mode == "GRU":
        output, *after = torch.gru(x, state[0], *how)
    else:
        output, *after = torch.rnn_tanh(x, state[0], *how)
    return output, tuple(after)
