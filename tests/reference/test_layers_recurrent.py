"""Recurrent cells against torch's fused layers in float64, forward and backward; layer normalisation by its formula."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from engram.clinic.diagnoses.gradient_through_time import horizons
from engram.clinic.subject import Subject
from engram.errors import UserError
from engram.layers.recurrent import GRU, LSTM, RNN, Stack, by_name

B, T, D, H = 4, 6, 3, 5
KINDS = {"rnn": (RNN, nn.RNN), "lstm": (LSTM, nn.LSTM), "gru": (GRU, nn.GRU)}
INSIDE = {"rnn": ["h"], "lstm": ["i", "f", "o", "g", "c", "h"], "gru": ["r", "z", "n", "h"]}
LENGTHS = torch.tensor([4, 6, 1, 4])
EXACT = {"rtol": 1e-12, "atol": 1e-13}

kinds = pytest.mark.parametrize("kind", KINDS)
depths = pytest.mark.parametrize("depth", [1, 2, 3])
ways = pytest.mark.parametrize("readable", [False, True])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=rng(seed))


def pair(kind: str, depth: int = 1, *, readable: bool = True, drop: float = 0.0) -> tuple[Stack, nn.RNNBase]:
    """Ours with the weights of torch's, whose biases differ from gate to gate."""
    ours, theirs = KINDS[kind]
    module = theirs(D, H, depth, batch_first=True, dropout=drop, dtype=torch.float64)
    with torch.no_grad():
        for seed, p in enumerate(module.parameters()):
            p.copy_(normal(*p.shape, seed=seed))
    own = ours.from_torch(module)
    own.readable = readable
    return own, module


def state_for(kind: str, depth: int, *, seed: int = 90) -> Any:
    h, c = (normal(depth, B, H, seed=one).requires_grad_() for one in (seed, seed + 1))
    return (h, c) if kind == "lstm" else h


def leaves(state: Any) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else list(state)


def gradients(output: Tensor, state: Any, wanted: list[Tensor]) -> tuple[Tensor, ...]:
    """Of a sum in which every value of the output and of the last state has a weight of its own."""
    every = [output, *leaves(state)]
    total = sum((one * normal(*one.shape, seed=50 + k)).sum() for k, one in enumerate(every))
    return torch.autograd.grad(total, wanted)


def agree(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, **EXACT)


@ways
@depths
@kinds
def test_is_torchs_layer_forward_and_backward(kind: str, depth: int, readable: bool) -> None:
    own, module = pair(kind, depth, readable=readable)
    found = []
    for net in (own, module):
        x, state = normal(B, T, D, seed=70).requires_grad_(), state_for(kind, depth)
        output, last = net(x, state)
        found.append((output, last, gradients(output, last, [x, *leaves(state), *net.parameters()])))
    agree(*found)


@kinds
def test_without_a_state_it_begins_at_zero(kind: str) -> None:
    own, module = pair(kind, 2)
    agree(own(normal(B, T, D)), module(normal(B, T, D)))


@ways
@pytest.mark.parametrize("depth", [1, 2])
@kinds
def test_lengths_are_torchs_packed_sequences(kind: str, depth: int, readable: bool) -> None:
    """T is one more than the longest, so that the output must be padded too."""
    own, module = pair(kind, depth, readable=readable)
    x, state = normal(B, T + 1, D, seed=70).requires_grad_(), state_for(kind, depth)
    output, last = own(x, state, LENGTHS)
    other, reference = normal(B, T + 1, D, seed=70).requires_grad_(), state_for(kind, depth)
    packed, expected = module(pack_padded_sequence(other, LENGTHS, batch_first=True, enforce_sorted=False), reference)
    unpacked = pad_packed_sequence(packed, batch_first=True, total_length=T + 1)[0]
    agree((output, last), (unpacked, expected))
    ours = gradients(output, last, [x, *leaves(state), *own.parameters()])
    agree(ours, gradients(unpacked, expected, [other, *leaves(reference), *module.parameters()]))
    assert not ours[0][0, 4:].any()  # padding has no gradient
    assert not output[2, 1:].any()


@ways
@pytest.mark.parametrize("in_order", [False, True])
@kinds
def test_takes_and_gives_what_torch_packs(kind: str, in_order: bool, readable: bool) -> None:
    own, module = pair(kind, 2, readable=readable)
    lengths = LENGTHS.sort(descending=True).values if in_order else LENGTHS
    packed = pack_padded_sequence(normal(B, T, D), lengths, batch_first=True, enforce_sorted=in_order)
    (ours, state), (theirs, expected) = own(packed), module(packed)
    assert isinstance(ours, PackedSequence)
    agree((ours.data, state), (theirs.data, expected))
    assert torch.equal(ours.batch_sizes, theirs.batch_sizes)
    assert (ours.unsorted_indices is None) == in_order


@kinds
def test_what_is_inside_is_what_torchs_cell_computes(kind: str) -> None:
    """Gates from the weights of torch's own layout, by name; c and h from torch's step-by-step cell."""
    own, module = pair(kind, 1)
    x, state = normal(B, T, D), state_for(kind, 1)
    inside = own.gates(x, state)
    assert list(inside) == INSIDE[kind]
    cell = getattr(nn, f"{type(own).__name__}Cell")(D, H, dtype=torch.float64)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in module.state_dict().items()})
    now = tuple(one[0] for one in leaves(state))
    for t in range(T):
        before = now[0]
        now = leaves(cell(x[:, t], now if kind == "lstm" else now[0]))
        for name, value in zip(("h", "c"), now, strict=False):
            agree(inside[name][0, :, t], value)
        a = F.linear(x[:, t], module.weight_ih_l0, module.bias_ih_l0)
        b = F.linear(before, module.weight_hh_l0, module.bias_hh_l0)
        for k, name in enumerate({"lstm": "ifgo", "gru": "rz", "rnn": ""}[kind]):
            squash = torch.tanh if name == "g" else torch.sigmoid
            agree(inside[name][0, :, t], squash((a + b)[:, k * H : (k + 1) * H]))
        if kind == "gru":
            agree(inside["n"][0, :, t], torch.tanh(a[:, 2 * H :] + inside["r"][0, :, t] * b[:, 2 * H :]))


@kinds
def test_gates_are_of_every_layer_and_of_the_same_run(kind: str) -> None:
    own, _ = pair(kind, 3, readable=False)
    x, state = normal(B, T, D).requires_grad_(), state_for(kind, 3)
    output, last = own(x, state, LENGTHS)
    inside = own.gates(x, state, LENGTHS)
    assert all(value.shape == (3, B, T, H) for value in inside.values())
    agree(inside["h"][-1], output)
    for name, ended in zip(("h", "c"), leaves(last), strict=False):
        agree(torch.stack([inside[name][:, k, steps - 1] for k, steps in enumerate(LENGTHS)], 1), ended)
    assert all(not value[:, 2, 1:].any() for value in inside.values())
    assert torch.autograd.grad(inside["h"][1].sum(), x)[0].any()


@kinds
def test_dropout_is_between_layers_and_draws_as_torch_does(kind: str) -> None:
    own, module = pair(kind, 3, drop=0.5)
    x = normal(B, T, D)
    given = []
    for net in (own, module):
        torch.manual_seed(3)
        given.append(net.train()(x)[0])
    agree(*given)
    assert not torch.allclose(given[0], own.eval()(x)[0])
    agree(own(x)[0], module.eval()(x)[0])


@kinds
def test_the_cell_runs_only_where_it_is_asked_for(kind: str) -> None:
    own = by_name(kind)(D, H)
    steps, step = [], own.step
    own.step = lambda *given: steps.append(given) or step(*given)
    x = torch.zeros(B, T, D)
    packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    calls = (lambda: own(x), lambda: own(x, None, LENGTHS), lambda: own(packed))
    for call in calls:
        call()
    assert not steps
    own.readable = True
    for count, call in enumerate(calls, start=1):
        call()
        assert len(steps) == count * T


@kinds
def test_there_and_back(kind: str) -> None:
    own, module = pair(kind, 2, drop=0.25)
    again = own.eval().to_torch()
    assert type(again) is type(module)
    assert (again.batch_first, again.dropout, again.training) == (True, 0.25, False)
    assert list(again.state_dict()) == list(own.state_dict()) == list(module.state_dict())
    agree(again(normal(B, T, D)), module.eval()(normal(B, T, D)))
    assert own.weights_of(0).ih.data_ptr() != again.weight_ih_l0.data_ptr()
    later = type(own).from_torch(again)
    assert not later.training
    assert later.dropout == 0.25
    assert later.weights_of(0).ih.dtype == torch.float64
    late = KINDS[kind][1](D, H)  # time first
    assert type(own).from_torch(late)(torch.zeros(B, T, D))[0].shape == (B, T, H)


def test_what_torch_can_and_these_cannot_is_refused() -> None:
    for kind, settings, said in [
        ("lstm", {"bidirectional": True}, "two directions"),
        ("lstm", {"proj_size": 2}, "a projection"),
        ("gru", {"bias": False}, "no biases"),
        ("rnn", {"nonlinearity": "relu"}, "ReLU"),
    ]:
        ours, theirs = KINDS[kind]
        with pytest.raises(UserError, match=said):
            ours.from_torch(theirs(D, H, **settings))
    with pytest.raises(UserError, match="a GRU is no LSTM"):
        LSTM.from_torch(nn.GRU(D, H))
    with pytest.raises(UserError, match="no layer normalisation"):
        LSTM(D, H, layer_norm=True).to_torch()


def test_the_start_is_torchs_but_for_what_is_asked() -> None:
    def made(kind: type, *settings: Any, **more: Any) -> dict[str, Tensor]:
        torch.manual_seed(5)
        return kind(D, H, *settings, **more).state_dict()

    theirs, ours = made(nn.LSTM, 2), made(LSTM, 2, forget_bias=1.5)
    for layer in range(2):
        name = f"bias_ih_l{layer}"
        added = ours[name] - theirs[name]
        torch.testing.assert_close(added, torch.zeros(4 * H).index_fill(0, torch.arange(H, 2 * H), 1.5))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs if "bias_ih" not in name)
    assert all(torch.equal(value, made(LSTM, 2)[name]) for name, value in theirs.items())


@kinds
def test_recurrent_weights_start_orthogonal_gate_by_gate(kind: str) -> None:
    torch.manual_seed(0)
    own = by_name(kind)(D, H, 2, orthogonal=True)
    for layer in range(2):
        for gate in own.weights_of(layer).hh.detach().split(H):
            torch.testing.assert_close(gate @ gate.T, torch.eye(H))
    assert own.weights_of(0).ih.abs().max() <= H**-0.5  # the others as torch draws them


def normalized(x: Tensor) -> Tensor:
    """Without torch's operator: mean 0 and variance 1 over the units of one gate."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


@kinds
def test_layer_normalisation_is_its_equations(kind: str) -> None:
    """Ba et al. 2016, equation 4, and the LSTM and GRU of the supplementary material, gate by gate."""
    own = by_name(kind)(D, H, 2, layer_norm=True).double()
    with torch.no_grad():
        for seed, p in enumerate(own.parameters()):
            p.copy_(normal(*p.shape, seed=seed))
    x, state = normal(B, T, D), state_for(kind, 2)
    output, last = own(x, state)
    ended = [[], []]
    for layer in range(2):
        W, U, b, d = own.weights_of(layer)
        gain = {name.split(".")[0]: p for name, p in own.norms[layer].named_parameters() if name.endswith("weight")}
        h, c = (leaves(state) * 2)[0][layer], (leaves(state) * 2)[1][layer]
        rows = []
        for now in x.unbind(1):
            into = [now @ block.T for block in W.split(H)]
            back = [h @ block.T for block in U.split(H)]
            b_, d_ = b.split(H), d.split(H)
            if kind == "rnn":
                h = torch.tanh(normalized(into[0] + back[0]) * gain["sum"][0] + b + d)
            else:
                one = [normalized(into[k]) * gain["input"][k] + b_[k] for k in range(len(into))]
                two = [normalized(back[k]) * gain["state"][k] + d_[k] for k in range(len(into))]
                i, f, g, *o = [p + q for p, q in zip(one, two, strict=True)]
                if kind == "lstm":
                    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                    shown = normalized(c) * gain["cell"][0] + own.norms[layer]["cell"].bias[0]
                    h = torch.sigmoid(o[0]) * torch.tanh(shown)
                else:
                    z, n = torch.sigmoid(f), torch.tanh(one[2] + torch.sigmoid(i) * two[2])
                    h = (1 - z) * n + z * h
            rows.append(h)
        x = torch.stack(rows, 1)
        ended[0].append(h)
        ended[1].append(c)
    agree(output, x)
    for mine, theirs in zip(leaves(last), ended, strict=False):
        agree(mine, torch.stack(theirs))


@kinds
def test_layer_normalisation_starts_at_one_and_ignores_the_scale_of_weights(kind: str) -> None:
    torch.manual_seed(0)
    own = by_name(kind)(D, H, layer_norm=True).double()
    assert all(bool((p == float("weight" in name)).all()) for name, p in own.norms.named_parameters())
    given = []
    for scale in (100, 7):  # so large that the 1e-5 beside the variance is nothing
        with torch.no_grad():
            own.weight_ih_l0.mul_(scale)
            own.weight_hh_l0.mul_(scale)
        given.append(own(normal(B, T, D))[0])
    torch.testing.assert_close(*given, rtol=0, atol=1e-5)
    slopes = torch.autograd.grad(given[1].square().sum(), list(own.parameters()))
    assert all(bool(torch.isfinite(slope).all()) and bool(slope.any()) for slope in slopes)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@kinds
def test_trains_on_the_cpu_in_any_precision_around_it(kind: str, precision: str) -> None:
    """Under autocast, with an input from a layer that obeyed it: as without, up to what bfloat16 lost of the input."""
    torch.manual_seed(0)
    own = by_name(kind)(D, H, 2)
    dtype = getattr(torch, precision)
    x = torch.randn(B, T, D).to(dtype)
    state = torch.zeros(2, B, H, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        state = (state, state) if kind == "lstm" else state
        output, _ = own(x, state)
        inside = own.gates(x, state)["h"][-1]
    assert output.dtype == inside.dtype == torch.float32
    expected = own(x.float())[0]
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(inside, expected)
    output.sum().backward()


@pytest.mark.parametrize("settings", [{}, {"readable": True}, {"layer_norm": True}])
@kinds
def test_the_clinic_measures_how_far_back_the_gradient_reaches(kind: str, settings: dict[str, bool]) -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent, self.head = by_name(kind)(D, H, **settings), nn.Linear(H, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.recurrent(x)[0][:, -1])

    torch.manual_seed(0)
    found = horizons(Subject(Reader(), torch.randn(12, T, D), torch.arange(12) % 3))
    assert found is not None
    one = found["layers"]["recurrent"]
    assert one["kind"] == type(by_name(kind)(D, H)).__name__
    assert len(one["norms"]) == T
    assert one["norms"][0] < one["norms"][-1]
    assert all(norm > 0 for norm in one["norms"])


def test_may_be_copied_saved_and_switched() -> None:
    own, _ = pair("lstm", 2, readable=False)
    other = copy.deepcopy(own)
    other.readable = True
    agree(other(normal(B, T, D)), own(normal(B, T, D)))
    other.load_state_dict({name: value + 1 for name, value in own.state_dict().items()})
    assert not torch.allclose(other(normal(B, T, D))[0], own(normal(B, T, D))[0])
    with torch.no_grad():
        for p, q in zip(own.parameters(), other.parameters(), strict=True):
            p.copy_(q)
    agree(other(normal(B, T, D)), own(normal(B, T, D)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hidden_size": 0}, "hidden_size cannot be 0"),
        ({"depth": 1.5}, "depth cannot be 1.5"),
        ({"depth": 2, "drop": 1.0}, "drop cannot be 1.0"),
        ({"drop": 0.5}, "between layers, and there is one"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        LSTM(**{"input_size": D, "hidden_size": H, **settings})


def test_inputs_that_cannot_be() -> None:
    own = LSTM(D, H)
    x = torch.zeros(B, T, D)
    packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    for call, said in [
        (lambda: own(x[0]), "was given"),
        (lambda: own(x[..., 1:]), "was given"),
        (lambda: own(x[:, :0]), "without steps"),
        (lambda: own.gates(x[:, :0]), "without steps"),
        (lambda: own(x, None, LENGTHS[1:]), "for 4 sequences"),
        (lambda: own(x, None, LENGTHS - 1), "from 1 to 6"),
        (lambda: own(x, None, LENGTHS + 1), "from 1 to 6"),
        (lambda: own(packed, None, LENGTHS), "knows its lengths"),
        (lambda: own.gates(x, torch.zeros(1, B, H)), "a state of"),
        (lambda: by_name("lstn"), "not known"),
    ]:
        with pytest.raises(UserError, match=said):
            call()
