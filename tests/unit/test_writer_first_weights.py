"""Where a network that writes begins: one-hot input of deviation 1, so that its first states tell characters apart."""

import math

import pytest
import torch

from engram.models import build_writer
from engram.models.char_rnn import CharRNN

V, H = 60, 64
kinds = pytest.mark.parametrize("kind", ["char_rnn", "char_gru", "char_lstm"])


def net_of(kind: str, **settings: object) -> CharRNN:
    torch.manual_seed(0)
    net = build_writer(kind, vocabulary=V, settings={"hidden_size": H, "depth": 2, **settings})
    assert isinstance(net, CharRNN)
    return net


@kinds
def test_what_a_character_adds_has_deviation_1_whatever_the_vocabulary(kind: str) -> None:
    weight = net_of(kind).recurrent.get_parameter("weight_ih_l0").detach().double()
    assert weight.shape[1] == V
    count = weight.numel()
    assert abs(float(weight.mean())) < 5 / math.sqrt(count)
    assert abs(float(weight.var()) - 1) < 5 * math.sqrt(2 / count)
    assert float(weight.abs().max()) > 3  # normal, and not spread evenly within ±√3
    rows = weight.norm(dim=0) / math.sqrt(weight.shape[0])  # of each character
    assert ((rows - 1).abs() < 5 / math.sqrt(2 * weight.shape[0])).all()


@kinds
def test_a_table_and_deeper_layers_begin_within_torch_s_bound(kind: str) -> None:
    bound = 1 / math.sqrt(H)
    for name, net in (("weight_ih_l0", net_of(kind, embedding=10)), ("weight_ih_l1", net_of(kind))):
        weight = net.recurrent.get_parameter(name).detach()
        assert float(weight.abs().max()) <= bound
        assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)
    head = net_of(kind).head.weight.detach()
    assert float(head.abs().max()) <= bound


@kinds
def test_the_first_states_tell_characters_apart(kind: str) -> None:
    with torch.no_grad():
        _, state = net_of(kind, depth=1)(torch.arange(V)[:, None])
    states = (state[0] if isinstance(state, tuple) else state)[0]  # (V, H)
    assert float(torch.pdist(states).min()) > 1
