"""Recurrent networks to read and to train with: one cell a file, and the stack that walks it over time.

    rnn    h = tanh(W x + U h + b)                        one matrix product again and again: forgets, or explodes
    lstm   c = f c + i g,  h = o tanh(c)                  a memory that is added to
    gru    h = (1 - z) n + z h                            the same idea with one state

`RNN`, `LSTM` and `GRU` are torch's `nn.RNN`, `nn.LSTM` and `nn.GRU`, names of weights included, with the settings that
torch lacks and with a look inside. `by_name` finds them by word.

>>> list(by_name("lstm")(input_size=3, hidden_size=5).state_dict())
['weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0']
"""

from engram.errors import unknown
from engram.layers.recurrent.gru import GRU
from engram.layers.recurrent.lstm import LSTM
from engram.layers.recurrent.rnn import RNN
from engram.layers.recurrent.stack import Stack

__all__ = ["GRU", "LSTM", "RNN", "Stack", "by_name"]

KINDS: dict[str, type[Stack]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


def by_name(kind: str) -> type[Stack]:
    """The class of that name.

    Raises:
        UserError: the name is not known.

    >>> by_name("gru").__name__
    'GRU'
    """
    if kind not in KINDS:
        raise unknown("recurrent layer", kind, KINDS)
    return KINDS[kind]
