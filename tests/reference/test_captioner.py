"""Networks that caption: the papers' equations written out, one step at a time beside all at once, and what padding is.

The pictures are small, 6 x 4 pixels and so 3 x 2 places, and all is in float64.
"""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import registry
from engram.errors import UserError
from engram.models.captioner import (
    captioner_hard_attention,
    captioner_lstm,
    captioner_rnn,
    captioner_soft_attention,
)
from engram.models.captioner_network import Captioner, Decoded
from engram.tasks import caption

V, B, T, E, H = 9, 3, 5, 4, 6
SHAPE = (2, 6, 4)
BUILDERS: dict[str, Callable[..., Captioner]] = {
    "rnn": captioner_rnn,
    "lstm": captioner_lstm,
    "soft": captioner_soft_attention,
    "hard": captioner_hard_attention,
}
builders = pytest.mark.parametrize("kind", BUILDERS)
# <start>, then words, then <end> and padding
TOKENS = torch.tensor([[1, 4, 2, 0, 0], [1, 5, 6, 7, 8], [1, 8, 8, 2, 0]])
LENGTHS = torch.tensor([2, 5, 3])


def build(kind: str, *, shape: tuple[int, ...] = SHAPE, **settings: Any) -> Captioner:
    torch.manual_seed(1)
    more = {"attention_size": 5} if kind in ("soft", "hard") else {}
    settings = {"embedding_size": E, "hidden_size": H, "encoder_halvings": 1, **more, **settings}
    return BUILDERS[kind](V, shape=shape, **settings).double()


def pictures(number: int = B, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(number, *shape, generator=torch.Generator().manual_seed(0)).double()


def close(one: Decoded, other: Decoded) -> None:
    for name in ("scores", "attention", "log_draws", "entropies"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=1e-12)


@pytest.mark.parametrize("sees", ["places", "mean"])
@pytest.mark.parametrize("enters", ["state", "input"])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_without_attention_it_is_torchs_layers_with_the_picture_before_the_words(
    kind: str, depth: int, enters: str, sees: str
) -> None:
    net = build(kind, depth=depth, enters=enters, sees=sees).eval()
    decoder = net.decoder
    theirs = getattr(nn, kind.upper())(E, H, depth, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict(decoder.recurrent.state_dict())
    annotations = net.encoder(pictures())  # (B, 6, 128)
    seen = annotations.reshape(B, -1) if sees == "places" else annotations.sum(1) / 6
    picture = seen @ decoder.picture.weight.T + decoder.picture.bias
    words = net.embedding.weight[TOKENS]
    if enters == "input":
        assert picture.shape == (B, E)
        states = theirs(torch.cat([picture[:, None], words], 1))[0][:, 1:]
    else:
        h = torch.stack([picture[:, layer * H : (layer + 1) * H] for layer in range(depth)])
        states = theirs(words, (h, torch.zeros_like(h)) if kind == "lstm" else h)[0]
    expected = states @ decoder.head.weight.T + decoder.head.bias
    found = net(pictures(), TOKENS, torch.full((B,), T))
    torch.testing.assert_close(found.scores, expected)
    assert found.attention is None
    assert found.size == (3, 2)


def test_karpathys_bias_of_the_first_step_is_a_first_state() -> None:
    """h_1 = tanh(W x_1 + U h_0 + b), so that U h_0 is what his equation 14 adds to the first step alone."""
    net = build("rnn").eval()
    weights = net.decoder.recurrent.weights_of(0)
    picture = net.decoder.picture(net.encoder(pictures()).flatten(1))
    x = net.embedding.weight[TOKENS[:, 0]]
    first = torch.tanh(x @ weights.ih.T + weights.bias_ih + weights.bias_hh + picture @ weights.hh.T)
    torch.testing.assert_close(net(pictures(), TOKENS).scores[:, 0], net.decoder.head(first))


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("deep_output", [False, True])
@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_with_attention_it_is_xus_equations(kind: str, deep_output: bool, gate: bool) -> None:
    """Sections 3.1.2 and 4, a picture and a word at a time; hard attention judges by the likeliest place."""
    net = build(kind, deep_output=deep_output, gate=gate).eval()
    decoder, attention = net.decoder, net.decoder.attention
    a_of = net.encoder(pictures())
    found = net(pictures(), TOKENS, LENGTHS)
    cell = decoder.cell
    for b in range(B):
        a = a_of[b]  # (L, D)
        mean = a.sum(0) / len(a)
        h, c = torch.tanh(decoder.first_h(mean)), torch.tanh(decoder.first_c(mean))
        for t in range(LENGTHS[b]):
            x = net.embedding.weight[TOKENS[b, t]]
            inside = a @ attention.of_place.weight.T + attention.of_place.bias + attention.of_state.weight @ h
            energies = torch.tanh(inside) @ attention.score.weight[0]
            alpha = energies.exp() / energies.exp().sum()
            z = alpha @ a if kind == "soft" else a[alpha.argmax()]
            if gate:
                z = torch.sigmoid(attention.gate.weight[0] @ h + attention.gate.bias) * z
            gates = cell.weight_ih @ torch.cat([x, z]) + cell.bias_ih + cell.weight_hh @ h + cell.bias_hh
            i, f, g, o = gates[:H].sigmoid(), gates[H : 2 * H].sigmoid(), gates[2 * H : 3 * H].tanh(), gates[3 * H :]
            c = f * c + i * g
            h = o.sigmoid() * torch.tanh(c)
            said = x + decoder.of_h.weight @ h + decoder.of_context.weight @ z if deep_output else h
            expected = decoder.head.weight @ said + decoder.head.bias
            torch.testing.assert_close(found.attention[b, t], alpha)
            torch.testing.assert_close(found.scores[b, t], expected)
            if kind == "hard":
                torch.testing.assert_close(found.log_draws[b, t], alpha.max().log())
                torch.testing.assert_close(found.entropies[b, t], -(alpha * alpha.log()).sum())


@builders
def test_a_step_at_a_time_is_all_at_once(kind: str) -> None:
    net = build(kind, **({"depth": 2} if kind in ("rnn", "lstm") else {})).eval()
    whole = net(pictures(), TOKENS, torch.full((B,), T))
    state = net.begin(pictures())
    for part in state:
        assert part is None or len(part) == B  # rows can be chosen
    for t in range(T):
        scores, state, attention = net.step(TOKENS[:, t], state)
        torch.testing.assert_close(scores, whole.scores[:, t])
        torch.testing.assert_close(attention, None if whole.attention is None else whole.attention[:, t])


@builders
def test_padding_counts_for_nothing_and_changes_nobody(kind: str) -> None:
    net = build(kind).eval()
    whole = net(pictures(), TOKENS, LENGTHS)
    past = torch.arange(T) >= LENGTHS[:, None]
    for part in (whole.scores, whole.attention, whole.log_draws, whole.entropies):
        if part is not None:
            assert part[past].eq(0).all()
            assert part[~past].ne(0).any()
    other = torch.cat([torch.where(past, 7, TOKENS), torch.full((B, 2), 3)], 1)
    longer = net(pictures(), other, LENGTHS)
    close(whole, Decoded(*(part[:, :T] if isinstance(part, Tensor) else part for part in longer)))
    for b in range(B):
        n = int(LENGTHS[b])
        alone = net(pictures()[b : b + 1], TOKENS[b : b + 1, :n])
        mine = (part[b : b + 1, :n] if isinstance(part, Tensor) else part for part in whole)
        close(alone, Decoded(*mine))


@builders
def test_lengths_are_those_before_the_end(kind: str) -> None:
    net = build(kind).eval()
    close(net(pictures(), TOKENS), net(pictures(), TOKENS, LENGTHS))


@builders
def test_no_gradient_comes_from_padding(kind: str) -> None:
    """The embedding of a word that stands in the padding alone stays as it is."""
    net = build(kind)
    past = torch.arange(T) >= LENGTHS[:, None]
    found = net(pictures(), torch.where(past, 3, TOKENS), LENGTHS)
    found.scores.square().sum().backward()
    assert net.embedding.weight.grad[3].eq(0).all()
    assert net.embedding.weight.grad[8].ne(0).any()


@builders
def test_the_network_s_own_words_are_read_in_place_of_the_true_ones(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every word is its own with a share of 1: as if a sentence of 6 had been given, but for <start>."""
    net = build(kind).eval()
    seen: list[Tensor] = []

    def six(logs: Tensor) -> Tensor:
        seen.append(logs)
        return torch.full((len(logs),), 6)

    monkeypatch.setattr("engram.models.captioner_network.draw", six)
    given = torch.full_like(TOKENS, 6)
    given[:, 0] = 1
    with_own = net(pictures(), TOKENS, LENGTHS, own=1.0)
    close(with_own, net(pictures(), given, LENGTHS))
    rows = LENGTHS.argsort(descending=True)
    for t, logs in enumerate(seen):  # drawn by the scores of the step before, for those that still go on
        expected = with_own.scores[rows, t].log_softmax(1)[: len(logs)]
        torch.testing.assert_close(logs, expected)


def test_own_words_come_in_their_share_and_have_gradients() -> None:
    net = build("lstm")
    torch.manual_seed(0)
    tokens = torch.full((400, 6), 7)
    net.embedding.weight.data[7] = 100.0  # a true word is known by its size
    read: list[Tensor] = []
    before = net.decoder.advance

    def noting(x: Tensor, state: Any) -> Any:
        read.append(x[:, 0])
        return before(x, state)

    net.decoder.advance = noting
    net.decoder.head.bias.data[7] = -1e4  # it is never its own
    net(pictures(400), tokens, torch.full((400,), 6), own=0.3).scores.sum().backward()
    own = torch.stack(read[1:], 1) < 50  # the first is the picture
    assert not own[:, 0].any()
    assert abs(own[:, 1:].double().mean() - 0.3) < 0.04
    assert net.embedding.weight.grad[[3, 4, 5, 6]].ne(0).any(1).all()


@builders
def test_all_learn_from_a_caption(kind: str) -> None:
    """Every parameter has a gradient, a baseline is a buffer, and the state survives saving."""
    net = build(kind, **({"expected": 0.0} if kind == "hard" else {}))
    y = torch.tensor([[4, 2, 0, 0, 0], [5, 6, 7, 8, 2], [8, 8, 2, 0, 0]])
    found = caption.losses_of(net, net(pictures(), TOKENS), y)
    found.objective.mean().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.ne(0).any(), name
    assert ("baseline" in net.state_dict()) == (kind == "hard")
    other = build(kind)
    other.load_state_dict(net.state_dict())
    close(other.eval()(pictures(), TOKENS), copy.deepcopy(net).eval()(pictures(), TOKENS))


def test_drawing_is_torch_s_own_and_dropout_is_before_the_head() -> None:
    for kind in ("hard", "soft", "lstm"):
        net = build(kind, **({} if kind == "hard" else {"drop": 0.5}))
        torch.manual_seed(5)
        first = net(pictures(), TOKENS)
        torch.manual_seed(5)
        close(first, net(pictures(), TOKENS))
        assert not torch.allclose(first.scores, net(pictures(), TOKENS).scores)
    assert build("lstm", depth=2, drop=0.5).decoder.recurrent.dropout == 0.5


def draws_of(monkeypatch: pytest.MonkeyPatch, paths: list[tuple[int, ...]]) -> None:
    """Hard attention draws these places, a path a caption, the longest first."""
    steps = iter(itertools.zip_longest(*paths))

    def next_places(logs: Tensor) -> Tensor:
        return torch.tensor([place for place in next(steps) if place is not None])

    monkeypatch.setattr("engram.layers.attention.draw", next_places)


@pytest.mark.parametrize("gate", [False, True])
def test_the_gradient_of_hard_attention_is_that_of_the_expected_loss(
    gate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two places, captions of two words and of one: all eight draws, each with its probability.

    The estimate's mean over draws is the exact gradient for any baseline, and it varies less with a good one.
    """
    net = build("hard", shape=(2, 2, 4), gate=gate, expected=0.0)
    assert net.encoder.size == (1, 2)
    images, tokens = pictures(2, (2, 2, 4)), torch.tensor([[1, 4], [1, 2]])
    y = torch.tensor([[4, 2], [5, 0]])
    exact: Any = 0.0
    runs = []
    for longer in itertools.product((0, 1), repeat=2):
        for shorter in ((0,), (1,)):
            draws_of(monkeypatch, [longer, shorter])
            decoded = net(images, tokens)
            runs.append((decoded, decoded.log_draws.sum().exp()))
            exact = exact + runs[-1][1] * caption.losses(decoded, y).cross_entropy.sum()
    assert sum(float(p.detach()) for _, p in runs) == pytest.approx(1)
    parameters = list(net.parameters())

    def gradient(of: Tensor) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(of, parameters, retain_graph=True)])

    expected = gradient(exact)
    mean_reward = -float(exact.detach()) / 2
    spread = {}
    for baseline in (0.0, mean_reward, 1.7):
        estimates = [gradient(caption.losses(one, y, baseline=baseline).objective.sum()) for one, _ in runs]
        weights = [p.detach() for _, p in runs]
        mean = sum(p * g for p, g in zip(weights, estimates, strict=True))
        torch.testing.assert_close(mean, expected, rtol=1e-9, atol=1e-12)
        spread[baseline] = sum(float(p * (g - mean).square().sum()) for p, g in zip(weights, estimates, strict=True))
    assert spread[mean_reward] < spread[0.0] < spread[1.7]
    without = sum(
        p.detach() * gradient(caption.losses(one, y, reinforce=0.0).objective.sum() + 0 * one.log_draws.sum())
        for one, p in runs
    )
    assert not torch.allclose(without, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", registry.names("captioner"))
def test_facts(name: str) -> None:
    entry = registry.find("captioner", name)
    net = entry.build(entry.facts["vocabulary"], shape=entry.facts["input"])
    assert sum(p.numel() for p in net.parameters()) == entry.facts["parameters"]
    assert entry.paper
    assert entry.year
    assert entry.summary.endswith(".")
    assert net(torch.zeros(2, *entry.facts["input"]), torch.tensor([[1, 4], [1, 2]])).scores.shape == (2, 2, 36)


@builders
def test_autocast_leaves_the_decoder_in_full_precision_on_the_cpu(kind: str) -> None:
    net = build(kind).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = net(pictures().float(), TOKENS)
        scores, _, _ = net.step(TOKENS[:, 0], net.begin(pictures().float()))
    assert found.scores.dtype == scores.dtype == torch.float32
    found.scores.sum().backward()


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("rnn", {"sees": "all"}, "sees cannot be 'all'"),
        ("lstm", {"enters": "head"}, "enters cannot be 'head'"),
        ("lstm", {"hidden_size": 0}, "hidden_size cannot be 0"),
        ("soft", {"embedding_size": 0}, "embedding_size cannot be 0"),
        ("soft", {"penalty": -1}, "penalty cannot be -1"),
        ("hard", {"reinforce": -1}, "reinforce cannot be -1"),
        ("hard", {"expected": 2}, "expected cannot be 2"),
        ("soft", {"drop": 1.0}, "drop cannot be 1.0"),
        ("soft", {"shape": (8,)}, "a captioner sees pictures"),
        ("soft", {"encoder": "resnet21"}, "resnet21"),
    ],
)
def test_settings_that_cannot_be(kind: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build(kind, **settings)


def test_captions_that_do_not_fit() -> None:
    net = build("soft")
    for tokens, lengths, said in (
        (TOKENS[:2], None, "3 pictures and captions of shape"),
        (TOKENS[0], None, "3 pictures and captions of shape"),
        (TOKENS, torch.tensor([1, 2, 6]), r"lengths of \[1, 2, 6\] for 3 captions"),
        (torch.full_like(TOKENS, 2), None, "lengths of"),
    ):
        with pytest.raises(UserError, match=said):
            net(pictures(), tokens, lengths)
    with pytest.raises(UserError, match="own cannot be 2"):
        net(pictures(), TOKENS, own=2.0)
    with pytest.raises(UserError, match="pictures of"):
        net(pictures(3, (2, 8, 8)), TOKENS)


def test_uniform_scores_cost_ln_v() -> None:
    net = build("soft").eval()
    nn.init.zeros_(net.decoder.head.weight)
    nn.init.zeros_(net.decoder.head.bias)
    y = torch.tensor([[4, 2, 0, 0, 0], [5, 6, 7, 8, 2], [8, 8, 2, 0, 0]])
    found = caption.losses(net(pictures(), TOKENS), y)
    torch.testing.assert_close(found.cross_entropy, torch.full((B,), math.log(V), dtype=torch.float64))
    assert F.cross_entropy(torch.zeros(1, V), torch.tensor([1])).item() == pytest.approx(math.log(V))


@pytest.mark.parametrize("kind", ["lstm", "soft", "hard"])
def test_recurrent_weights_begin_orthogonal_and_forget_gates_open(kind: str) -> None:
    def cell(net: Captioner) -> tuple[Tensor, Tensor]:
        if kind == "lstm":
            return net.decoder.recurrent.weight_hh_l0, net.decoder.recurrent.bias_ih_l0
        return net.decoder.cell.weight_hh, net.decoder.cell.bias_ih

    weight, bias = cell(build(kind))
    for gate in weight.split(H):
        torch.testing.assert_close(gate @ gate.T, torch.eye(H).double(), rtol=0, atol=1e-6)
    added = bias - cell(build(kind, forget_bias=0.0))[1]
    torch.testing.assert_close(added, torch.zeros(4 * H).double().index_fill(0, torch.arange(H, 2 * H), 1.0))


def test_the_vanilla_network_begins_orthogonal_too() -> None:
    weight = build("rnn").decoder.recurrent.weight_hh_l0
    torch.testing.assert_close(weight @ weight.T, torch.eye(H).double(), rtol=0, atol=1e-6)
