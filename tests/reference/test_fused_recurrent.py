"""Layers over a whole sequence at once, and tokens that are looked up, against torch's layers in float64."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engram.layers.recurrent import GRU, LSTM, RNN, Stack, stack
from engram.layers.recurrent.fused_gru import fused_gru
from engram.layers.recurrent.fused_lstm import fused_lstm
from engram.layers.recurrent.fused_rnn import fused_rnn
from engram.layers.recurrent.token_input import is_watched, quickest
from engram.models.char_rnn import CharRNN, char_gru, char_lstm, char_rnn

B, T, D, H, V = 3, 7, 4, 5, 6
EXACT = {"rtol": 1e-12, "atol": 1e-13}
KINDS: dict[str, type[Stack]] = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}
FUSED: dict[str, Callable[..., tuple[Tensor, ...]]] = {"RNN": fused_rnn, "LSTM": fused_lstm, "GRU": fused_gru}
STATES = {"RNN": 1, "LSTM": 2, "GRU": 1}
BUILDERS = {"RNN": char_rnn, "GRU": char_gru, "LSTM": char_lstm}
WAYS = ("rows", "one-hot", "look up")

kinds = pytest.mark.parametrize("kind", KINDS)
ways = pytest.mark.parametrize("way", WAYS)
learned = pytest.mark.parametrize("has_table", [False, True])


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def some_tokens(*shape: int) -> Tensor:
    """All but token 1 occur, most of them more than once."""
    drawn = torch.randint(V - 1, shape, generator=torch.Generator().manual_seed(3))
    return torch.where(drawn == 1, V - 1, drawn)


def weighted(outputs: list[Tensor]) -> Tensor:
    """A sum in which every value has a weight of its own."""
    return sum((one * normal(*one.shape, seed=50 + k)).sum() for k, one in enumerate(outputs))


def layer_inputs(kind: str, *, with_tokens: bool, steps: int = T) -> tuple[Any, ...]:
    """Rows, tokens, W_hh, a GRU's own bias of n, and the state."""
    width = {"RNN": H, "LSTM": 4 * H, "GRU": 3 * H}[kind]
    rows = normal(V, width) if with_tokens else normal(steps, B, width)
    biases = [normal(H, seed=4)] if kind == "GRU" else []
    every = [rows, normal(width, H, seed=1), *biases, *(normal(B, H, seed=seed) for seed in (2, 3)[: STATES[kind]])]
    rows, *others = (one.requires_grad_() for one in every)
    return rows, some_tokens(steps, B) if with_tokens else None, *others


def by_torchs_cell(kind: str, rows: Tensor, tokens: Tensor | None, hh: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """torch's cell, which multiplies what enters with a matrix: here the identity."""
    none, identity = rows.new_zeros(len(hh)), torch.eye(len(hh), dtype=rows.dtype)
    h, bias = others[0], none
    if kind == "GRU":
        bias, h = torch.cat([none[: 2 * H], others[0]]), others[1]
    c = others[-1]
    every = []
    for now in (rows if tokens is None else rows[tokens]).unbind():
        if kind == "LSTM":
            h, c = torch.lstm_cell(now, (h, c), identity, hh, none, bias)
        else:
            h = {"RNN": torch.rnn_tanh_cell, "GRU": torch.gru_cell}[kind](now, h, identity, hh, none, bias)
        every.append(h)
    return (torch.stack(every), h, c) if kind == "LSTM" else (torch.stack(every), h)


def learning(given: tuple[Any, ...]) -> list[Tensor]:
    return [one for one in given if isinstance(one, Tensor) and one.requires_grad]


@pytest.mark.parametrize("with_tokens", [False, True])
@pytest.mark.parametrize("asked", ["yhc", "y", "h", "c", "hc"])
@kinds
def test_is_torchs_cell_forward_and_backward(kind: str, asked: str, with_tokens: bool) -> None:
    """Whichever of the outputs the loss is made of; a state that nobody uses has no gradient."""
    found = []
    for walk in (FUSED[kind], partial(by_torchs_cell, kind)):
        given = layer_inputs(kind, with_tokens=with_tokens)
        outputs = walk(*given)
        used = [output for name, output in zip("yhc", outputs, strict=False) if name in asked] or [outputs[0]]
        found.append((outputs, torch.autograd.grad(weighted(used), learning(given))))
    torch.testing.assert_close(*found, **EXACT)


@pytest.mark.parametrize("with_tokens", [False, True])
@kinds
def test_has_gradients_and_gradients_of_gradients(kind: str, with_tokens: bool) -> None:
    given = layer_inputs(kind, with_tokens=with_tokens, steps=3)

    def walk(rows: Tensor, *others: Tensor) -> Any:
        return FUSED[kind](rows, given[1], *others)

    assert torch.autograd.gradcheck(walk, learning(given), fast_mode=True)
    assert torch.autograd.gradgradcheck(walk, learning(given), fast_mode=True)


def test_gradient_of_a_gradient_keeps_inputs_apart_that_come_from_one_another() -> None:
    """h is made from the rows: its part belongs to h here, and reaches the rows by the way outside."""
    found = []
    for walk in (FUSED["LSTM"], partial(by_torchs_cell, "LSTM")):
        rows, _, hh, _, c = layer_inputs("LSTM", with_tokens=False)
        slope = torch.autograd.grad(weighted(list(walk(rows, None, hh, rows[0, :, :H], c))), rows, create_graph=True)[0]
        found.append((slope, torch.autograd.grad(slope.square().sum(), (rows, hh))))
    torch.testing.assert_close(*found, **EXACT)


@kinds
def test_leaves_what_it_was_given_and_what_it_kept_as_it_was(kind: str) -> None:
    given = layer_inputs(kind, with_tokens=False)
    before = [one.clone() for one in learning(given)]
    total = weighted(list(FUSED[kind](*given)))
    first, second = (torch.autograd.grad(total, learning(given), retain_graph=True) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(before, learning(given), strict=True))


@kinds
def test_with_frozen_weights_it_still_passes_the_gradient_on(kind: str) -> None:
    rows, tokens, *others = layer_inputs(kind, with_tokens=True)
    frozen = [one.detach() for one in others]
    expected, found = (
        torch.autograd.grad(weighted(list(FUSED[kind](rows, tokens, *more))), rows) for more in (others, frozen)
    )
    torch.testing.assert_close(found, expected, **EXACT)


@kinds
def test_in_float32_it_is_near_float64(kind: str) -> None:
    """Large and small arguments of the squashing functions, which tanh by way of σ must survive."""
    for scale in (1e-3, 1.0, 30.0):
        rows, _, *others = layer_inputs(kind, with_tokens=False)
        rows, *others = (one.detach() * scale for one in (rows, *others))
        exact = FUSED[kind](rows, None, *others)
        single = FUSED[kind](rows.float(), None, *(one.float() for one in others))
        for one, other in zip(single, exact, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Take one way, whatever is quickest; the list grows with every call."""

    def force(way: str) -> list[str]:
        taken: list[str] = []
        monkeypatch.setattr(stack, "quickest", lambda *_: taken.append(way) or way)
        return taken

    return force


def built(kind: str, depth: int, *, has_table: bool, drop: float = 0.0) -> tuple[Stack, Tensor | None]:
    torch.manual_seed(2)
    layers = KINDS[kind](D if has_table else V, H, depth, drop=drop).double()
    return layers, normal(V, D, seed=9).requires_grad_() if has_table else None


def state_for(kind: str, depth: int) -> tuple[Tensor, ...]:
    return tuple(normal(depth, B, H, seed=30 + k).requires_grad_() for k in range(2 if kind == "LSTM" else 1))


def leaves(state: Any) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else list(state)


@learned
@ways
@pytest.mark.parametrize("depth", [1, 3])
@kinds
def test_tokens_are_the_rows_that_stand_for_them(
    kind: str, depth: int, way: str, has_table: bool, forced: Callable[[str], list[str]]
) -> None:
    taken = forced(way)
    layers, table = built(kind, depth, has_table=has_table)
    theirs = getattr(torch.nn, kind)(layers.input_size, H, depth, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict(layers.state_dict())
    found = []
    for net in (layers, theirs):
        state = state_for(kind, depth)
        given = state if kind == "LSTM" else state[0]
        rows = torch.eye(V, dtype=torch.float64) if table is None else table
        tokens = some_tokens(B, T)
        output, last = net(tokens, given, None, table) if net is layers else net(rows[tokens], given)
        wanted = [*net.parameters(), *state, *([] if table is None else [table])]
        found.append((output, leaves(last), torch.autograd.grad(weighted([output, *leaves(last)]), wanted)))
    torch.testing.assert_close(*found, **EXACT)
    assert taken == [way]


@learned
@kinds
def test_ways_draw_the_same_dropout(kind: str, has_table: bool, forced: Callable[[str], list[str]]) -> None:
    layers, table = built(kind, 3, has_table=has_table, drop=0.5)
    given = []
    for way in WAYS:
        forced(way)
        torch.manual_seed(7)
        given.append(layers(some_tokens(B, T).byte(), None, None, table)[0])
    torch.testing.assert_close(given[0], given[1], **EXACT)
    torch.testing.assert_close(given[0], given[2], **EXACT)
    assert not torch.allclose(given[0], layers.eval()(some_tokens(B, T), None, None, table)[0])


def test_what_is_quickest() -> None:
    def way(V: int, D: int, H: int, tokens: int = 2500, look_up_from: float = 0.25) -> str:
        return quickest(tokens, V, D, H, look_up_from)

    assert way(65, 65, 128) == way(65, 128, 128) == way(256, 512, 512) == way(65, 16, 512, look_up_from=0) == "look up"
    assert way(65, 512, 512) == way(30, 128, 128) == "one-hot"
    assert way(65, 65, 512) == way(65, 16, 128) == "rows"
    assert way(2501, 9000, 128) == way(65, 128, 128, tokens=64) == way(65, 16, 512, tokens=64, look_up_from=0) == "rows"


@pytest.mark.parametrize(("kind", "own"), [("RNN", True), ("GRU", True), ("LSTM", False)])
def test_layers_of_our_own_run_where_they_are_quicker(kind: str, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layers, _ = built(kind, 3, has_table=True)
    calls: list[int] = []
    over_time = layers.over_time
    monkeypatch.setattr(layers, "over_time", lambda *given: calls.append(1) or over_time(*given))
    layers(normal(B, T, D))
    assert len(calls) == 3 * own
    layers(normal(B, 3, D))  # too short to be worth it
    with torch.no_grad():
        layers(normal(B, T, D))
    assert len(calls) == 3 * own


@kinds
def test_where_something_else_is_wanted_it_is_rows(kind: str, forced: Callable[[str], list[str]]) -> None:
    taken = forced("look up")
    layers, table = built(kind, 2, has_table=True)
    tokens, lengths = some_tokens(B, T), torch.tensor([7, 2, 5])
    expected = layers(F.embedding(tokens, table))[0]
    normed = KINDS[kind](D, H, layer_norm=True).double()
    readable = KINDS[kind](D, H, 2, readable=True).double()
    readable.load_state_dict(layers.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(layers(tokens, None, None, table)[0], expected, **EXACT)
    torch.testing.assert_close(readable(tokens, None, None, table)[0], expected, **EXACT)
    torch.testing.assert_close(
        layers(tokens, None, lengths, table), layers(F.embedding(tokens, table), None, lengths), **EXACT
    )
    torch.testing.assert_close(normed(tokens, None, None, table), normed(F.embedding(tokens, table)), **EXACT)
    through = torch.func.vjp(lambda table: layers(tokens, None, None, table)[0], table.detach())[0]
    torch.testing.assert_close(through, expected, **EXACT)
    assert not taken


def test_autocast_leaves_the_layers_as_they_are(forced: Callable[[str], list[str]]) -> None:
    taken = forced("look up")
    torch.manual_seed(0)
    layers = LSTM(V, H, 2)
    outputs = []
    for enabled in (False, True):
        layers.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            state = (torch.zeros(2, B, H, dtype=torch.bfloat16 if enabled else torch.float32),) * 2
            output = layers(some_tokens(B, T), state)[0]
            output.sum().backward()
        outputs.append((output, [p.grad.clone() for p in layers.parameters() if p.grad is not None]))
    torch.testing.assert_close(*outputs)
    assert len(taken) == 2


@learned
@pytest.mark.parametrize("kind", BUILDERS)
def test_networks_that_write_show_what_they_read_to_who_asks(kind: str, has_table: bool) -> None:
    torch.manual_seed(1)
    net: CharRNN = BUILDERS[kind](V, hidden_size=H, embedding=D if has_table else None).double()
    tokens, seen = some_tokens(B, T), []
    scores, state = net(tokens)
    handle = net.recurrent.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    assert is_watched(*net.children())
    watched, other = net(tokens)
    handle.remove()
    torch.testing.assert_close((scores, leaves(state)), (watched, leaves(other)), **EXACT)
    torch.testing.assert_close(seen[0], net.inputs(tokens), **EXACT)
    assert not is_watched(*net.children())
    assert seen[0].shape == (B, T, D if has_table else V)
