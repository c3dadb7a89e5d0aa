"""Networks that write: torch's own modules put together by hand, one-hot beside a table, and a text carried over."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.errors import UserError
from engram.models.char_rnn import CharRNN, char_gru, char_lstm, char_rnn

V, B, T = 11, 3, 7
BUILDERS = {"RNN": char_rnn, "GRU": char_gru, "LSTM": char_lstm}
builders = pytest.mark.parametrize("kind", BUILDERS)


def tokens(batch: int = B, steps: int = T, seed: int = 0) -> Tensor:
    return torch.randint(V, (batch, steps), generator=torch.Generator().manual_seed(seed))


def build(kind: str, **settings: object) -> CharRNN:
    torch.manual_seed(1)
    return BUILDERS[kind](V, hidden_size=6, **settings).double()


@builders
def test_is_torchs_layers_and_a_linear_one(kind: str) -> None:
    net = build(kind, depth=3)
    theirs = getattr(nn, kind)(V, 6, 3, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict(net.recurrent.state_dict())
    scores, state = net(tokens())
    x, expected = theirs(torch.eye(V, dtype=torch.float64)[tokens()])
    torch.testing.assert_close((scores, state), (x @ net.head.weight.T + net.head.bias, expected))
    assert scores.shape == (B, T, V)


@builders
def test_one_hot_and_a_table_are_the_same_linear_map(kind: str) -> None:
    """W_ih E^T on one-hot input is W_ih on rows of E: same scores, and the one gradient is the other's by the chain."""
    table = build(kind, embedding=4)
    one_hot = build(kind)
    weights = {name.removeprefix("recurrent."): value for name, value in table.state_dict().items()}
    E, W = weights.pop("embedding.weight"), weights["weight_ih_l0"]
    one_hot.load_state_dict({**table.state_dict(), "recurrent.weight_ih_l0": W @ E.T}, strict=False)
    assert one_hot.recurrent.weights_of(0).ih.shape[1] == V
    assert table.recurrent.weights_of(0).ih.shape[1] == 4
    given = [net(tokens())[0] for net in (one_hot, table)]
    torch.testing.assert_close(*given)
    for scores in given:
        F.cross_entropy(scores.flatten(0, 1), tokens(seed=1).flatten()).backward()
    slope = one_hot.recurrent.weights_of(0).ih.grad
    torch.testing.assert_close(table.recurrent.weights_of(0).ih.grad, slope @ E)
    torch.testing.assert_close(table.embedding.weight.grad, slope.T @ W)


@builders
def test_a_text_in_two_parts_is_the_text_in_one(kind: str) -> None:
    net = build(kind, depth=2)
    whole, end = net(tokens())
    first, state = net(tokens()[:, :4])
    second, last = net(tokens()[:, 4:], state)
    torch.testing.assert_close((torch.cat([first, second], 1), last), (whole, end))


def test_texts_of_unlike_lengths_do_not_see_their_padding() -> None:
    net = build("LSTM", depth=2)
    scores, (h, c) = net(tokens(), None, torch.tensor([7, 2, 5]))
    alone, (h1, c1) = net(tokens()[1:2, :2])
    torch.testing.assert_close((scores[1:2, :2], h[:, 1:2], c[:, 1:2]), (alone, h1, c1))


def test_dropout_is_between_layers_and_before_the_head() -> None:
    net = build("LSTM", depth=2, drop=0.5)
    assert (net.recurrent.dropout, net.drop.p) == (0.5, 0.5)
    one = build("LSTM", depth=1, drop=0.5)
    assert (one.recurrent.dropout, one.drop.p) == (0.0, 0.5)
    torch.manual_seed(0)
    assert not torch.allclose(one(tokens())[0], one(tokens())[0])
    torch.testing.assert_close(one.eval()(tokens())[0], one(tokens())[0])


def test_settings_reach_the_layers() -> None:
    def made(**settings: object) -> dict[str, Tensor]:
        return build("LSTM", depth=2, **settings).recurrent.state_dict()

    for layer in range(2):
        added = made()[f"bias_ih_l{layer}"] - made(forget_bias=0.0)[f"bias_ih_l{layer}"]
        torch.testing.assert_close(added, torch.zeros(24, dtype=torch.float64).index_fill(0, torch.arange(6, 12), 1.0))
    for kind in BUILDERS:
        for gate in build(kind).recurrent.weights_of(0).hh.detach().split(6):
            torch.testing.assert_close(gate @ gate.T, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-6)
        gate = build(kind, orthogonal=False).recurrent.weights_of(0).hh.detach()[:6]
        assert not torch.allclose(gate @ gate.T, torch.eye(6, dtype=torch.float64), atol=1e-2)
        assert len(build(kind, depth=2, layer_norm=True).recurrent.norms) == 2


@builders
def test_learns_what_follows_what(kind: str) -> None:
    """A text in which two characters back decide: 0 after "0 ?", 1 after "1 ?"; chance is ln 2 at every third place."""
    torch.manual_seed(0)
    net = BUILDERS[kind](3, hidden_size=16, depth=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    bits = torch.randint(2, (16, 5), generator=torch.Generator().manual_seed(2))
    text = torch.stack([bits, torch.full_like(bits, 2), bits], 2).flatten(1)
    for _ in range(40):
        scores = net(text[:, :-1])[0]
        loss = F.cross_entropy(scores.mT, text[:, 1:], reduction="none")
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    assert loss[:, 1::3].mean() < 0.1 * math.log(2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"vocabulary": 0}, "vocabulary cannot be 0"),
        ({"embedding": 0}, "embedding cannot be 0"),
        ({"drop": 1.0, "depth": 1}, "drop cannot be 1.0"),
        ({"hidden_size": 0}, "hidden_size cannot be 0"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        char_lstm(**{"vocabulary": V, **settings})
