"""Recurrent classifiers of signals and images: against torch's layers, and on a task that needs memory."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import models
from engram.errors import UserError
from engram.models.recurrent import SequenceClassifier

KINDS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
kinds = pytest.mark.parametrize("kind", KINDS)


def build(kind: str, shape: tuple[int, ...], **settings: object) -> SequenceClassifier:
    rng = torch.Generator().manual_seed(0)
    return models.build(kind, shape=shape, num_classes=4, settings={"hidden_size": 6, **settings}, rng=rng).double()


def by_torch(net: SequenceClassifier, kind: str, x: Tensor) -> Tensor:
    """States of torch's layer with the same weights."""
    layer = KINDS[kind](x.shape[2], 6, net.recurrent.num_layers, batch_first=True, dtype=torch.float64)
    layer.load_state_dict(net.recurrent.state_dict())
    return layer(x)[0]


@pytest.mark.parametrize("read", ["last", "mean"])
@kinds
def test_reads_a_signal_to_its_end(kind: str, read: str) -> None:
    net = build(kind, (2, 9), read=read, depth=2)
    x = torch.randn(3, 2, 9, dtype=torch.float64)
    states = by_torch(net, kind, x.mT)
    seen = states[:, 8] if read == "last" else states.sum(1) / 9
    torch.testing.assert_close(net(x), seen @ net.head.weight.T + net.head.bias)


@kinds
def test_reads_an_image_row_by_row(kind: str) -> None:
    net = build(kind, (2, 5, 3))
    x = torch.randn(3, 2, 5, 3, dtype=torch.float64)
    rows = torch.stack([torch.cat([x[:, 0, k], x[:, 1, k]], 1) for k in range(5)], 1)  # channel after channel
    torch.testing.assert_close(net(x), by_torch(net, kind, rows)[:, -1] @ net.head.weight.T + net.head.bias)


def test_any_length_does_for_signals() -> None:
    net = build("lstm", (2, 9))
    assert net(torch.zeros(3, 2, 30, dtype=torch.float64)).shape == (3, 4)


@kinds
def test_settings_reach_the_layers(kind: str) -> None:
    net = build(kind, (2, 9), depth=2, drop=0.5, layer_norm=True)
    assert (net.recurrent.num_layers, net.recurrent.dropout, len(net.recurrent.norms)) == (2, 0.5, 2)
    for settings, is_orthogonal in (({}, True), ({"orthogonal": False}, False)):
        gate = build(kind, (2, 9), **settings).recurrent.weights_of(0).hh.detach()[:6]
        assert torch.allclose(gate @ gate.T, torch.eye(6, dtype=torch.float64), atol=1e-5) == is_orthogonal
    if kind == "lstm":
        bias, open_bias = (
            build(kind, (2, 9), forget_bias=value).recurrent.weights_of(0).bias_ih[6:12] for value in (0.0, 1.0)
        )
        torch.testing.assert_close(open_bias - bias, torch.ones(6, dtype=torch.float64))
        assert torch.equal(build(kind, (2, 9)).recurrent.weights_of(0).bias_ih[6:12], open_bias)


def test_an_unknown_reading() -> None:
    with pytest.raises(UserError, match="read 'middle' is not known"):
        build("gru", (2, 9), read="middle")


@kinds
def test_learns_what_only_the_beginning_says(kind: str) -> None:
    """The class is the sign of the first of 12 samples; the others are noise."""
    torch.manual_seed(0)
    net = models.build(kind, shape=(1, 12), num_classes=2, settings={"hidden_size": 16})
    x = torch.randn(256, 1, 12, generator=torch.Generator().manual_seed(1))
    y = (x[:, 0, 0] > 0).long()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    fresh = torch.randn(256, 1, 12, generator=torch.Generator().manual_seed(2))
    right = (net(fresh).argmax(1) == (fresh[:, 0, 0] > 0)).double().mean()
    assert right > 0.85  # 11 standard deviations above chance
