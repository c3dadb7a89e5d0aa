"""Rules of sequences against torch's own operators, forward and backward, in float64; the same numbers from NumPy."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import rules
from engram.errors import UserError
from engram.rules.function import function, loss_function

TOLERANCE = {"rtol": 1e-11, "atol": 1e-12}
N, T, D, H, V = 2, 4, 3, 5, 7


def recurrent(kind: str, order: list[int], inputs: list[Tensor]) -> Tensor:
    """torch's recurrent network with the course's weights: transposed, blocks of columns in torch's order."""
    x, h0, Wx, Wh, b, *c0 = inputs
    net = getattr(nn, kind)(D, H, batch_first=True, dtype=torch.float64)
    two = b if b.ndim == 2 else torch.stack([b, torch.zeros_like(b)])
    own = {"weight_ih_l0": Wx.T, "weight_hh_l0": Wh.T, "bias_ih_l0": two[0], "bias_hh_l0": two[1]}
    weights = {name: torch.cat([value.chunk(len(order))[k] for k in order]) for name, value in own.items()}
    first = h0[None]
    state = (first, c0[0][None] if c0 else torch.zeros_like(first)) if kind == "LSTM" else first
    return torch.func.functional_call(net, weights, (x, state))[0]


def cell(x: Tensor, h: Tensor, c: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM out of torch's cell, whose order is i, f, g, o."""
    turned = [torch.cat([value.chunk(4)[k] for k in (0, 1, 3, 2)]) for value in (Wx.T, Wh.T, b)]
    return torch.func.functional_call(
        nn.LSTMCell(x.shape[1], H, dtype=torch.float64),
        dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), (*turned, torch.zeros_like(b)), strict=True)),
        (x, (h, c)),
    )


def gated_before(x: Tensor, h: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor) -> Tensor:
    """Cho et al., equations 5 to 8: the reset gate acts on the state before the matrix."""
    (xr, xz, xn), (Wr, Wz, Wn) = (x @ Wx + b).chunk(3, -1), Wh.chunk(3, 1)
    r, z = torch.sigmoid(xr + h @ Wr), torch.sigmoid(xz + h @ Wz)
    return z * h + (1 - z) * torch.tanh(xn + (r * h) @ Wn)


def unrolled(step: Callable[..., Tensor], x: Tensor, h: Tensor, *weights: Tensor) -> Tensor:
    states = []
    for now in x.unbind(1):
        h = step(now, h, *weights)
        states.append(h)
    return torch.stack(states, 1)


def peepholes(x: Tensor, h: Tensor, c: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Greff et al., section 2: i and f see the old cell, o the new one."""
    i, f, o, g = (x @ Wx + h @ Wh + b).chunk(4, -1)
    new = torch.sigmoid(f + p[1] * c) * c + torch.sigmoid(i + p[0] * c) * g.tanh()
    return torch.sigmoid(o + p[2] * new) * new.tanh(), new


def coupled(x: Tensor, h: Tensor, c: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    i, _, o, g = (x @ Wx + h @ Wh + b).chunk(4, -1)
    new = (1 - torch.sigmoid(i)) * c + torch.sigmoid(i) * g.tanh()
    return torch.sigmoid(o) * new.tanh(), new


def attention(h: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    """torch's own, with one query for each example: keys and values are the places."""
    places = A.flatten(2).mT  # (N, L, H)
    context = F.scaled_dot_product_attention(h[:, None], places, places)[:, 0]
    return context, (places @ h[..., None] / h.shape[1] ** 0.5).softmax(1).view(A.shape[0], *A.shape[2:])


def attentive(x: Tensor, A: Tensor, Wx: Tensor, Wh: Tensor, Wattn: Tensor, b: Tensor) -> Tensor:
    h = c = A.flatten(2).mean(2)
    states = []
    for now in x.unbind(1):
        both = torch.cat([now, attention(h, A)[0]], 1)
        h, c = cell(both, h, c, torch.cat([Wx, Wattn]), Wh, b)
        states.append(h)
    return torch.stack(states, 1)


def attentive_step(x: Tensor, h: Tensor, c: Tensor, Wx: Tensor, Wh: Tensor, b: Tensor, attn: Tensor, Wattn: Tensor):
    return cell(torch.cat([x, attn], 1), h, c, torch.cat([Wx, Wattn]), Wh, b)


@dataclass
class Case:
    """`name` gives the pair; `theirs` takes the same inputs; `settings` go to ours only."""

    name: str
    theirs: Callable[..., Any]
    shapes: list[tuple[int, ...]]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def pair(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        return getattr(rules, f"{self.name}_forward"), getattr(rules, f"{self.name}_backward")

    def inputs(self) -> list[Tensor]:
        rng = torch.Generator().manual_seed(len(self.name))
        return [torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_() for shape in self.shapes]


def weights(gates: int) -> list[tuple[int, ...]]:
    return [(D, gates * H), (H, gates * H), (gates * H,)]


def gru(*inputs: Tensor) -> Tensor:
    return recurrent("GRU", [0, 1, 2], list(inputs))


STEP, STATE, SEQUENCE = (N, D), (N, H), (N, T, D)
TWO_BIASES = [*weights(3)[:2], (2, 3 * H)]
PEEPHOLES = Case("lstm_step", peepholes, [STEP, STATE, STATE, *weights(4), (3, H)])

CASES = [
    Case("temporal_affine", lambda x, w, b: F.linear(x, w.T, b), [SEQUENCE, (D, H), (H,)]),
    Case("rnn_step", lambda x, h, Wx, Wh, b: (x @ Wx + h @ Wh + b).tanh(), [STEP, STATE, *weights(1)]),
    Case("rnn", lambda *all: recurrent("RNN", [0], list(all)), [SEQUENCE, STATE, *weights(1)]),
    Case("lstm_step", cell, [STEP, STATE, STATE, *weights(4)]),
    Case("lstm_step", coupled, [STEP, STATE, STATE, *weights(4)], {"coupled": True}),
    Case("lstm", lambda *all: recurrent("LSTM", [0, 1, 3, 2], list(all)), [SEQUENCE, STATE, *weights(4)]),
    Case("lstm", lambda *all: recurrent("LSTM", [0, 1, 3, 2], list(all)), [SEQUENCE, STATE, *weights(4), STATE]),
    Case("gru_step", gated_before, [STEP, STATE, *weights(3)]),
    Case("gru", lambda *all: unrolled(gated_before, *all), [SEQUENCE, STATE, *weights(3)]),
    Case("gru", gru, [SEQUENCE, STATE, *weights(3)], {"reset": "after"}),
    Case("gru", gru, [SEQUENCE, STATE, *TWO_BIASES], {"reset": "after"}),
    Case(
        "gru_step",
        lambda x, h, *rest: gru(x[:, None], h, *rest)[:, 0],
        [STEP, STATE, *TWO_BIASES],
        {"reset": "after"},
    ),
    Case("dot_product_attention", attention, [STATE, (N, H, 2, 3)]),
    Case("dot_product_attention", attention, [STATE, (N, H, 4)]),
    Case("attention_lstm_step", attentive_step, [STEP, STATE, STATE, *weights(4), STATE, (H, 4 * H)]),
    Case("attention", attentive, [SEQUENCE, (N, H, 2, 3), *weights(4)[:2], (H, 4 * H), (4 * H,)]),
]
NAMES = [f"{number}-{case.name}" for number, case in enumerate(CASES)]


def several(out: Any) -> tuple[Any, ...]:
    return out if isinstance(out, tuple) else (out,)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_equals_torch(case: Case) -> None:
    ours, theirs = case.inputs(), case.inputs()
    outs, expected = several(function(*case.pair)(*ours, **case.settings)), several(case.theirs(*theirs))
    rng = torch.Generator().manual_seed(1)
    upstreams = [torch.randn(out.shape, generator=rng, dtype=torch.float64) for out in outs]
    for out, other in zip(outs, expected, strict=True):
        torch.testing.assert_close(out, other, **TOLERANCE)
    torch.autograd.backward(outs, upstreams)
    torch.autograd.backward(expected, upstreams)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, **TOLERANCE)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_numpy_gives_the_same(case: Case) -> None:
    forward, backward = case.pair
    tensors = [one.detach() for one in case.inputs()]
    *outs, cache = forward(*tensors, **case.settings)
    *outs2, cache2 = forward(*(one.numpy() for one in tensors), **case.settings)
    rng = np.random.default_rng(0)
    upstreams = [rng.standard_normal(tuple(out.shape)) for out in outs]
    gradients = backward(*map(torch.from_numpy, upstreams), cache)
    gradients2 = backward(*upstreams, cache2)
    for mine, mine2 in zip((*outs, *gradients), (*outs2, *gradients2), strict=True):
        assert isinstance(mine2, np.ndarray)
        np.testing.assert_allclose(mine2, mine, **TOLERANCE)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_torch_checks_it_numerically(case: Case) -> None:
    operation = function(*case.pair)
    call = lambda *inputs: operation(*inputs, **case.settings)  # noqa: E731
    assert torch.autograd.gradcheck(call, case.inputs(), fast_mode=True)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_precision_and_inputs_are_left_as_they_are(case: Case, library: str) -> None:
    forward, backward = case.pair
    given = [one.detach().float() for one in case.inputs()]
    inputs = [one.numpy() for one in given] if library == "numpy" else given
    before = [one * 1 for one in inputs]
    *outs, cache = forward(*inputs, **case.settings)
    for array in (*outs, *backward(*outs, cache)):
        assert str(array.dtype).endswith("float32")
    for array, old in zip(inputs, before, strict=True):
        assert np.array_equal(array, old)


def test_peepholes_are_as_published() -> None:
    """The peepholes go in by keyword, so torch's wrapper is not for them."""
    every = PEEPHOLES.inputs()
    outs, given, p = peepholes(*every), every[:-1], every[-1]
    *mine, cache = rules.lstm_step_forward(*given, peephole=p)
    dh, dc = (torch.randn(N, H, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in (0, 1))
    expected = torch.autograd.grad(outs, (*given, p), (dh, dc))
    for out, other in zip(mine, outs, strict=True):
        torch.testing.assert_close(out, other, **TOLERANCE)
    for gradient, other in zip(rules.lstm_step_backward(dh, dc, cache), expected, strict=True):
        torch.testing.assert_close(gradient, other, **TOLERANCE)
    assert len(rules.lstm_step_backward(dh, dc, rules.lstm_step_forward(*given)[2])) == 6


def test_no_words_give_no_rows() -> None:
    out, cache = rules.word_embedding_forward(np.zeros((0, 3), dtype=int), np.ones((V, D)))
    assert out.shape == (0, 3, D)
    assert not rules.word_embedding_backward(out, cache).any()


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_embedding_equals_torch(library: str) -> None:
    rng = torch.Generator().manual_seed(0)
    words = torch.tensor([[0, 3, 3, 1], [3, 6, 0, 0]])  # words repeat, and some never stand
    W = torch.randn(V, D, generator=rng, dtype=torch.float64).requires_grad_()
    expected = F.embedding(words, W)
    upstream = torch.randn(expected.shape, generator=rng, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(expected, W, upstream)
    given = (words.numpy(), W.detach().numpy()) if library == "numpy" else (words, W.detach())
    out, cache = rules.word_embedding_forward(*given)
    dW = rules.word_embedding_backward(upstream.numpy() if library == "numpy" else upstream, cache)
    for mine, other in ((out, expected.detach()), (dW, gradient)):
        assert isinstance(mine, np.ndarray) == (library == "numpy")
        np.testing.assert_allclose(mine, other, **TOLERANCE)
    product = np.eye(V)[words.numpy()] @ W.detach().numpy()
    np.testing.assert_allclose(out, product, **TOLERANCE)
    embed = function(rules.word_embedding_forward, rules.word_embedding_backward)
    assert torch.autograd.gradcheck(lambda W: embed(words, W), W)


MASK = torch.tensor([[True, True, False, True], [True, False, False, False]])


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("masked", [True, False])
def test_temporal_loss_equals_torch(masked: bool, library: str) -> None:
    rng = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(N, T, V, generator=rng, dtype=torch.float64)).requires_grad_()
    y = torch.randint(V, (N, T), generator=rng)
    mask = MASK if masked else None
    each = F.cross_entropy(x.flatten(0, 1), y.flatten(), reduction="none").view(N, T)
    expected = (each * (MASK if masked else 1)).sum() / N
    (gradient,) = torch.autograd.grad(expected, x)
    if library == "numpy":
        loss, dx = rules.temporal_softmax_loss(x.detach().numpy(), y.numpy(), MASK.numpy() if masked else None)
        assert isinstance(dx, np.ndarray)
    else:
        loss, dx = rules.temporal_softmax_loss(x.detach(), y, mask)
        assert torch.autograd.gradcheck(lambda x: loss_function(rules.temporal_softmax_loss)(x, y, mask), x)
    np.testing.assert_allclose(loss, expected.detach(), **TOLERANCE)
    np.testing.assert_allclose(dx, gradient, **TOLERANCE)
    if masked:  # torch's mean is over words, the course's over sequences; nothing is asked of what does not count
        odd = torch.where(MASK, y, -100)
        mean = F.cross_entropy(x.flatten(0, 1), odd.flatten())
        found = rules.temporal_softmax_loss(x.detach(), odd, MASK)[0]
        torch.testing.assert_close(found, mean.detach() * MASK.sum() / N, **TOLERANCE)


def test_temporal_loss_survives_large_scores_and_counts_nothing() -> None:
    x = np.array([[[1000.0, 0.0], [0.0, 1000.0]]])
    loss, dx = rules.temporal_softmax_loss(x, np.array([[1, 1]]))
    assert (loss, dx.tolist()) == (1000.0, [[[1.0, -1.0], [0.0, 0.0]]])
    loss, dx = rules.temporal_softmax_loss(x, np.array([[9, 9]]), np.zeros((1, 2), dtype=bool))
    assert (loss, (dx == 0).all()) == (0, True)


def test_attention_looks_where_the_state_points() -> None:
    A = np.zeros((1, 2, 4, 4))
    A[0, :, 2, 1] = 50.0, -50.0
    context, alpha = rules.dot_product_attention(np.array([[1.0, -1.0]]), A)
    assert alpha[0, 2, 1] == pytest.approx(1)
    np.testing.assert_allclose(context, [[50, -50]])
    _, even = rules.dot_product_attention(np.zeros((1, 2)), A)
    np.testing.assert_allclose(even, 1 / 16)
    large = np.full((1, 2, 4, 4), 1e4)
    assert np.isfinite(rules.dot_product_attention(np.full((1, 2), 1e4), large)[0]).all()


def test_the_gradient_keeps_its_size_along_a_cell_and_not_along_states() -> None:
    """The way back along a cell is a product of forget gates, along states a product of matrices."""
    b = np.array([-50.0, 50.0, -50.0, 0.0])  # writes nothing, keeps all, shows nothing
    one, row = np.ones((1, 1)), np.ones((1, 4))
    (steps, _) = rules.lstm_forward(np.ones((1, 100, 1)), one, row, row, b, one)[1]
    dc = one
    for step in reversed(steps):
        _, _, dc, *_ = rules.lstm_step_backward(0 * one, dc, step)
    assert dc.item() == pytest.approx(1)
    for scale, left in ((0.9, 2.7e-5), (1.0, 1.0), (1.1, 1.4e4)):
        turn = scale * np.array([[0.6, 0.8], [-0.8, 0.6]])  # an orthogonal matrix; at h = 0 the tanh is a line
        _, cache = rules.rnn_forward(np.zeros((1, 101, 1)), np.zeros((1, 2)), np.zeros((1, 2)), turn, np.zeros(2))
        dh = np.zeros((1, 101, 2))
        dh[0, 99, 0] = 1
        assert np.linalg.norm(rules.rnn_backward(dh, cache)[1]) == pytest.approx(left, rel=0.03)


def zeros(*shapes: tuple[int, ...]) -> Any:
    return [np.zeros(shape) for shape in shapes]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rules.rnn_step_forward(*zeros(STEP, STATE, (D, H), (H, H), (1,))), r"rnn: x .*b \(1,\)"),
        (lambda: rules.lstm_forward(*zeros(SEQUENCE, STATE, *weights(3))), "lstm: x"),
        (lambda: rules.lstm_forward(*zeros((N, 0, D), STATE, *weights(4))), r"a sequence \(2, 0, 3\)"),
        (lambda: rules.gru_forward(*zeros(STEP, STATE, *weights(3))), r"a sequence \(2, 3\)"),
        (lambda: rules.rnn_forward(*zeros(STEP, STATE, *weights(1))), r"a sequence \(2, 3\)"),
        (lambda: rules.rnn_step_forward(*zeros(SEQUENCE, STATE, *weights(1))), "rnn: x"),
        (lambda: rules.gru_step_forward(*zeros(STEP, STATE, *weights(3)[:2], (3, 3 * H))), "gru: x"),
        (lambda: rules.gru_step_forward(*zeros(STEP, STATE, *weights(3)), reset="befor"), "reset 'befor' is not known"),
        (lambda: rules.temporal_affine_forward(*zeros(SEQUENCE, (H, V), (V,))), "3 values a step"),
        (lambda: rules.word_embedding_forward(np.array([[-1, 0]]), np.zeros((V, D))), "words from -1 to 0"),
        (lambda: rules.word_embedding_forward(np.array([[V]]), np.zeros((V, D))), "words from 7 to 7"),
        (lambda: rules.temporal_softmax_loss(np.zeros((N, T, V)), np.full((N, T), V)), "words from 7 to 7"),
        (lambda: rules.temporal_softmax_loss(np.zeros((N, V)), np.zeros(N, dtype=int)), "scores"),
        (lambda: rules.dot_product_attention(*zeros(STATE, (N, D, 4, 4))), "attention of a state"),
        (lambda: rules.dot_product_attention(*zeros(STATE, (N, H, 0))), "attention of a state"),
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
