"""How far a recurrent network's gradient reaches back, and what its matrices do: against closed forms and torch."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from engram.errors import UserError
from engram.layers.recurrent import GRU, LSTM, RNN, Stack
from engram.models.char_rnn import char_gru, char_lstm, char_rnn
from engram.models.recurrent import SequenceClassifier
from engram.recurrence import adding, copying, spectrum
from engram.recurrence.gates import saturation
from engram.recurrence.horizon import horizon, reaches
from engram.recurrence.past_gradient import past_gradient, the_stack
from engram.recurrence.span import spans


def last_only(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A loss for every sample: its scores, added up."""
    return scores.sum(1) + 0 * y


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_linear_orthogonal_network_fades_and_grows_by_powers(factor: float) -> None:
    """With small states tanh is the identity, and every step back multiplies by the orthogonal matrix's factor."""
    torch.manual_seed(0)
    net = SequenceClassifier(RNN(1, 6, orthogonal=True), num_classes=1).double()
    with torch.no_grad():
        net.recurrent.weight_hh_l0 *= factor
        for bias in net.recurrent.weights_of(0)[2:]:
            bias.zero_()
    x = torch.zeros(3, 1, 60, dtype=torch.float64)
    found = past_gradient(net, x, torch.zeros(3), last_only)
    head = float(net.head.weight.detach().norm())
    expected = head * factor ** np.arange(59, -1, -1.0)
    np.testing.assert_allclose(found.last["h"][0], expected, rtol=1e-5)  # drawn in 32 bits
    np.testing.assert_allclose(found.mean["h"], found.last["h"])  # many to one: there is one loss


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
def test_the_gradient_is_that_of_a_state_put_in_by_hand(kind: type[Stack]) -> None:
    """Torch's fused kernel starts from the state at step t, a leaf: the gradient there is what is asked for."""
    torch.manual_seed(1)
    stack = kind(3, 5).double()
    net = SequenceClassifier(stack, num_classes=4).double()
    x, y = torch.randn(2, 3, 9, dtype=torch.float64), torch.tensor([1, 3])
    found = past_gradient(net, x, y)
    for t in (0, 4, 7):
        steps = x.movedim(2, 1)
        _, state = stack(steps[:, : t + 1])
        states = [one.detach().requires_grad_() for one in (state if isinstance(state, tuple) else (state,))]
        output, _ = stack(steps[:, t + 1 :], tuple(states) if len(states) > 1 else states[0])
        loss = nn.functional.cross_entropy(net.head(output[:, -1]), y, reduction="sum")
        gradients = dict(zip(stack.states, torch.autograd.grad(loss, states), strict=True))
        if "c" in gradients:  # what c gives to the h of its own step, o tanh(c), is a way on as well
            h, c = states
            gradients["c"] = gradients["c"] + gradients["h"] * (h / c.tanh()) * (1 - c.tanh() ** 2)
        for name, gradient in gradients.items():
            np.testing.assert_allclose(found.last[name][0, t], gradient[0].detach().norm(dim=1).mean(), rtol=1e-9)


def test_states_of_lower_layers_are_heard_through_the_upper_ones() -> None:
    """At the last step, the lower layer's h reaches the loss only through the upper layer's step."""
    torch.manual_seed(2)
    net = char_gru(4, hidden_size=3, depth=2).double()
    tokens = torch.randint(4, (1, 7))
    found = past_gradient(net, tokens[:, :-1], tokens[:, 1:])
    inside = net.recurrent.gates(net.inputs(tokens[:, :-1]))["h"].detach()
    below = inside[0, :, -1].requires_grad_()
    upper = net.recurrent.step(below, (inside[1, :, -2],), net.recurrent.weights_of(1))["h"]
    loss = nn.functional.cross_entropy(net.head(upper), tokens[:, -1])
    np.testing.assert_allclose(found.last["h"][0, -1], float(torch.autograd.grad(loss, below)[0].norm()), rtol=1e-9)


def test_the_mean_over_steps_is_the_gradient_of_the_mean_loss() -> None:
    """The last state of the last layer is in the loss of the last step alone, a T-th of the mean."""
    torch.manual_seed(3)
    net = char_lstm(4, hidden_size=3, depth=1).double()
    tokens = torch.randint(4, (5, 9))
    found = past_gradient(net, tokens[:, :-1], tokens[:, 1:])
    np.testing.assert_allclose(found.mean["h"][0, -1] * 8, found.last["h"][0, -1], rtol=1e-9)
    assert found.mean["h"][0, 0] > found.last["h"][0, 0]  # the first step's own loss is right there


def test_a_look_back_leaves_the_network_as_it_was() -> None:
    torch.manual_seed(4)
    net = char_rnn(4, hidden_size=3, depth=2, drop=0.5).train()
    net.head.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    tokens = torch.randint(4, (2, 6))
    state = torch.get_rng_state()
    past_gradient(net, tokens[:, :-1], tokens[:, 1:])
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert net.training
    assert not net.recurrent.readable
    assert "step" not in vars(net.recurrent)
    assert not net.head.weight.requires_grad
    assert all(p.grad is None for p in net.parameters())


def test_frozen_layers_have_a_past_as_well() -> None:
    torch.manual_seed(5)
    net = char_gru(4, hidden_size=3, depth=1)
    tokens = torch.randint(4, (2, 6))
    free = past_gradient(net, tokens[:, :-1], tokens[:, 1:]).last["h"]
    np.testing.assert_array_equal(
        past_gradient(net.requires_grad_(False), tokens[:, :-1], tokens[:, 1:]).last["h"], free
    )
    assert free.min() > 0


def test_what_has_no_stack_is_refused() -> None:
    for net in (nn.Linear(1, 1), nn.ModuleList([RNN(1, 2), RNN(1, 2)])):
        with pytest.raises(UserError, match="recurrent stack"):
            the_stack(net)

    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = RNN(1, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 0]

    with pytest.raises(UserError, match="fed with whole sequences"):
        past_gradient(Aside(), torch.zeros(2, 1, 5), torch.zeros(2, dtype=torch.long))


def test_horizons() -> None:
    fading = 0.5 ** np.arange(20.0)[::-1]
    assert horizon(fading, 0.5) == 1  # half is reached, not passed, one step back
    assert horizon(fading, 0.01) == 6  # 1/64, and 1/128 is less
    assert horizon(np.ones(5)) is None
    assert horizon([math.nan, math.nan, 1.0]) == 0
    assert horizon([1.0, 0.0]) == 0
    assert horizon([0.0, 5.0, 0.001, 1.0], 0.01) == 0  # what comes back is not reached without a gap
    assert reaches(np.ones(5), 4) is True
    assert reaches(np.ones(5), 5) is None
    assert reaches(fading, 7) is False
    for norms, share in (([], 0.5), ([1.0], 0.0), ([1.0], 1.0)):
        with pytest.raises(UserError):
            horizon(norms, share)


def test_adding_is_two_marked_numbers_one_in_each_half() -> None:
    x, y = adding.adding(11, 4000, torch.Generator().manual_seed(0))
    marks = x[:, :, 1]
    assert (marks.sum(1) == 2).all()
    assert (marks[:, :5].sum(1) == 1).all()
    torch.testing.assert_close((x[:, :, 0] * marks).sum(1), y)
    assert marks.sum(0).min() > 4000 / 6 * 0.8  # every place of a half is drawn
    # the variance of a sum of two even numbers; its own standard error is 1/6 sqrt(1.4 / 4000)
    assert abs(float((y - 1).square().mean()) - adding.ALWAYS_ONE) < 4 * math.sqrt(1.4 / 4000) / 6


def test_copying_is_what_was_read_after_the_delay() -> None:
    x, y = copying.copying(7, 50, torch.Generator().manual_seed(0))
    assert x.shape == y.shape == (50, 27)
    assert torch.equal(x[:, :10], y[:, 17:])
    assert (x[:, 10:16] == copying.BLANK).all()
    assert (x[:, 16] == copying.GO).all()
    assert (x[:, 17:] == copying.BLANK).all()
    assert (y[:, :17] == copying.BLANK).all()
    assert x[:, :10].unique().tolist() == list(range(8))
    # who is sure of the blanks and gives each symbol an eighth
    scores = torch.full((50, 27, 10), -1e4)
    scores[:, :17, copying.BLANK] = 0
    scores[:, 17:, :8] = 0
    loss = nn.functional.cross_entropy(scores.movedim(2, 1), y)
    assert float(loss) == pytest.approx(copying.memoryless(7), rel=1e-5)
    assert (copying.needed(7), copying.copying(3, 1, torch.Generator(), length=1)[0].shape) == (17, (1, 5))


@pytest.mark.parametrize("make", [adding.adding, copying.copying])
def test_problems_without_sequences_are_refused(make) -> None:
    for span, count in ((0, 1), (5, 0)):
        with pytest.raises(UserError, match="out of range"):
            make(span, count, torch.Generator())


def test_spans_stop_at_the_first_that_is_not_solved() -> None:
    tried = spans("gru", "adding", [40, 4], hidden_size=16, steps=100, lr=1e-2)
    assert [(one.span, one.solved) for one in tried] == [(4, True), (40, False)]
    assert tried[0].loss <= 0.3 * adding.ALWAYS_ONE
    assert tried[0].steps <= tried[1].steps == 100
    again = spans("gru", "adding", [4], hidden_size=16, steps=100, lr=1e-2)[0]
    assert (again.loss, again.steps) == (tried[0].loss, tried[0].steps)
    with pytest.raises(UserError, match="did you mean: adding"):
        spans("gru", "addin")
    with pytest.raises(UserError, match="no spans"):
        spans("gru", lengths=[])


@pytest.mark.slow
def test_gates_carry_over_thirty_steps_and_the_vanilla_network_does_not() -> None:
    """As published for much longer sequences: Le et al. 2015, figure 1."""
    assert not spans("rnn", lengths=[30], steps=500)[0].solved
    assert spans("gru", lengths=[30], steps=500)[0].solved


@pytest.mark.parametrize(("kind", "gates"), [(RNN, "h"), (LSTM, "ifgo"), (GRU, "rzn")])
def test_the_largest_singular_values_are_numpys(kind: type[Stack], gates: str) -> None:
    torch.manual_seed(5)
    stack = kind(3, 7, depth=2)
    found = spectrum.of_matrices(stack)
    assert "".join(found.gates) == gates
    for layer in range(2):
        parts = np.split(stack.weights_of(layer).hh.detach().numpy().astype(float), len(gates))
        expected = [np.linalg.svd(part, compute_uv=False)[0] for part in parts]
        np.testing.assert_allclose(found.values[layer], expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_jacobian_of_a_step_has_the_singular_value_of_the_whole_matrix(kind: type[Stack], layer_norm: bool) -> None:
    torch.manual_seed(6)
    stack = kind(3, 4, depth=2, layer_norm=layer_norm).double()
    x = torch.randn(3, 4, dtype=torch.float64)
    state = tuple(torch.randn(3, 4, dtype=torch.float64) for _ in stack.states)
    found = spectrum.of_steps(stack, 1, x, state, turns=300)
    norms = [dict(stack.norms[1].named_children())] if layer_norm else []
    for row in range(3):

        def step(flat: torch.Tensor, row: int = row) -> torch.Tensor:
            before = tuple(one[None] for one in flat.split(4))
            after = stack.step(x[row : row + 1], before, stack.weights_of(1), *norms)
            return torch.cat([after[name][0] for name in stack.states])

        whole = torch.autograd.functional.jacobian(step, torch.cat([one[row] for one in state]))
        assert found[row] == pytest.approx(float(torch.linalg.svdvals(whole)[0]), rel=1e-6)
    few = spectrum.of_steps(stack, 1, x, state)
    assert (few <= found * (1 + 1e-12)).all()
    np.testing.assert_allclose(few, found, rtol=0.02)


def test_saturation_counts_each_gate_of_each_unit() -> None:
    torch.manual_seed(7)
    gates = LSTM(3, 4, depth=2).gates(5 * torch.randn(6, 20, 3))
    found = saturation(gates)
    assert list(found.shut) == list(found.open) == ["i", "f", "o"]
    for name in found.shut:
        values = gates[name].detach().numpy()
        for layer in range(2):
            for unit in range(4):
                one = values[layer, :, :, unit]
                assert found.shut[name][layer, unit] == pytest.approx((one < 0.1).mean())
                assert found.open[name][layer, unit] == pytest.approx((one > 0.9).mean())
    assert saturation(RNN(3, 4).gates(torch.zeros(1, 2, 3))).shut == {}
    with pytest.raises(UserError, match="thresholds"):
        saturation(gates, shut=0.9, opened=0.1)
