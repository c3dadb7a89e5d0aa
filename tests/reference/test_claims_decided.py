"""Sentences of the notes that a small computation decides, and that no other test asks about."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from engram import accounting, models, optimizers
from engram import rules as rule
from engram.layers.drop_path import shares
from engram.regularizers import clip_norm


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_n5_the_sigmoid_s_slope_is_a_quarter_at_most() -> None:
    _, cache = rule.sigmoid_forward(np.array([0.0, 10.0, -10.0]))
    np.testing.assert_allclose(rule.sigmoid_backward(np.ones(3), cache), [0.25, 4.54e-5, 4.54e-5], rtol=1e-3)


@pytest.mark.parametrize(("activation", "gain", "vanishes"), [(torch.sigmoid, 1.0, True), (torch.relu, 2.0, False)])
def test_n6_twenty_sigmoid_layers_leave_nothing_of_the_gradient(activation, gain, vanishes) -> None:
    weights = [(torch.randn(100, 100) * math.sqrt(gain / 100)).requires_grad_() for _ in range(20)]
    x = torch.randn(64, 100)
    for weight in weights:
        x = activation(x @ weight)
    x.square().mean().backward()
    first, last = (float(weight.grad.norm()) for weight in (weights[0], weights[-1]) if weight.grad is not None)
    assert first < 1e-6 * last if vanishes else 0.1 * last < first < 10 * last


def test_n8_tanh_saturates_and_a_relu_can_die() -> None:
    _, cache = rule.tanh_forward(np.array([5.0]))
    assert rule.tanh_backward(np.ones(1), cache)[0] == pytest.approx(1.8e-4, rel=0.02)
    unit = nn.Linear(4, 1)
    nn.init.constant_(unit.bias, -100.0)
    torch.relu(unit(torch.randn(1000, 4))).sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) == 0 for p in unit.parameters())


def test_n10_a_neuron_fires_above_minus_its_bias() -> None:
    unit = nn.Linear(1, 1)
    nn.init.ones_(unit.weight)
    nn.init.constant_(unit.bias, 2.0)
    fired = torch.relu(unit(torch.tensor([[-2.1], [-1.9], [1.9]]))) > 0
    assert fired.flatten().tolist() == [False, True, True]


def exclusive_or(loss: str, *, learned: bool, fixed_at_zero: bool = False) -> float:
    """The share of 400 networks of 4 hidden units that learn it, with Adam, from the same weights in every case."""
    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    y = torch.tensor([0.0, 1, 1, 0])
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int, bound: float) -> Tensor:
        return (2 * torch.rand(shape, generator=generator) - 1) * bound

    w1, b1 = uniform(400, 2, 4, bound=0.5**0.5), uniform(400, 1, 4, bound=0.5**0.5)
    w2, b2 = uniform(400, 4, 1, bound=0.5), uniform(400, 1, 1, bound=0.5)
    if fixed_at_zero:
        b1, b2 = torch.zeros_like(b1), torch.zeros_like(b2)
    weights = [weight.requires_grad_() for weight in ((w1, w2, b1, b2) if learned else (w1, w2))]
    optimizer = torch.optim.Adam(weights, lr=0.03)

    def answers() -> Tensor:
        return (torch.relu(x @ w1 + b1) @ w2 + b2).squeeze(-1)  # (400, 4)

    of = F.binary_cross_entropy_with_logits if loss == "logistic" else F.mse_loss
    for _ in range(600):
        optimizer.zero_grad()
        of(answers(), y.expand(400, 4), reduction="sum").backward()
        optimizer.step()
    return float(((answers() > (0 if loss == "logistic" else 0.5)) == (y > 0)).all(1).float().mean())


def test_n11_learned_thresholds_solve_exclusive_or_more_often_with_the_logistic_loss() -> None:
    assert exclusive_or("logistic", learned=True) == pytest.approx(0.65, abs=0.03)
    assert exclusive_or("logistic", learned=False) == pytest.approx(0.60, abs=0.03)
    assert exclusive_or("logistic", learned=False, fixed_at_zero=True) == pytest.approx(0.49, abs=0.03)


def test_n11_with_the_squared_error_nothing_is_gained() -> None:
    assert exclusive_or("squared", learned=True) < exclusive_or("squared", learned=False, fixed_at_zero=True)


def test_n11_the_gradient_of_a_bias_is_the_sum_of_what_comes_from_above() -> None:
    rng = np.random.default_rng(0)
    x, w, b, above = (rng.normal(size=shape) for shape in ((5, 3), (3, 2), (2,), (5, 2)))
    _, cache = rule.affine_forward(x, w, b)
    np.testing.assert_allclose(rule.affine_backward(above, cache)[2], above.sum(0))


def test_n11_a_bias_before_batch_normalisation_does_nothing() -> None:
    layer, norm = nn.Conv2d(3, 4, 3).double(), nn.BatchNorm2d(4, affine=False).double()
    (norm(layer(torch.randn(8, 3, 6, 6).double())) * torch.randn(8, 4, 4, 4).double()).sum().backward()
    assert layer.bias is not None
    assert layer.bias.grad is not None
    assert layer.weight.grad is not None
    assert float(layer.bias.grad.abs().max()) < 1e-12 * float(layer.weight.grad.abs().max())


def test_n12_two_hidden_units_are_enough_for_exclusive_or_and_none_is_too_few() -> None:
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float)
    hidden = np.maximum(0, np.stack([x.sum(1), x.sum(1) - 1], 1))
    np.testing.assert_array_equal(hidden @ [1, -2], [0, 1, 1, 0])
    angles = np.linspace(0, 2 * np.pi, 721)
    scores = x @ np.stack([np.cos(angles), np.sin(angles)])  # (4, angles)
    thresholds = np.linspace(-2.01, 2.01, 403)
    right = ((scores[..., None] > thresholds) == np.array([0, 1, 1, 0], bool)[:, None, None]).sum(0)
    assert right.max() == 3


def test_n18_charging_for_large_weights_helps_on_new_digits() -> None:
    digits = load_digits()
    rng = np.random.default_rng(0)
    order = rng.permutation(len(digits.target))
    x, y = digits.data[order] / 16, digits.target[order]
    features = np.maximum(0, x @ rng.normal(size=(64, 500)) / 8)
    seen = y[:400].copy()
    wrong = rng.random(400) < 0.2
    seen[wrong] = rng.integers(0, 10, wrong.sum())

    def right(penalty: float) -> float:
        f, targets = features[:400], np.eye(10)[seen]
        weights = f.T @ np.linalg.solve(f @ f.T + penalty * np.eye(400), targets)
        return float(((features[400:] @ weights).argmax(1) == y[400:]).mean())

    assert right(1e-8) == pytest.approx(0.41, abs=0.02)
    assert right(3.0) == pytest.approx(0.94, abs=0.01)


def test_n26_predictions_can_be_averaged_and_weights_cannot() -> None:
    """Five perceptrons on two hundred digits, from five starts: alike, or each with its own third of the pixels."""
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16).float(), torch.tensor(digits.target)

    def trained(seen: Tensor) -> nn.Module:
        net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(net(x[:200] * seen), y[:200]).backward()
            optimizer.step()
        return net

    def right(scores: Tensor) -> float:
        return float((scores.argmax(1) == y[200:]).float().mean())

    def gain(nets: list[nn.Module], masks: list[Tensor]) -> float:
        """Of the mean of their predictions over the mean of their accuracies."""
        with torch.no_grad():
            shares = [net(x[200:] * mask).softmax(1) for net, mask in zip(nets, masks, strict=True)]
            return right(torch.stack(shares).mean(0)) - sum(map(right, shares)) / len(nets)

    everything = [torch.ones(64)] * 5
    thirds = [(torch.rand(64) < 1 / 3).float() for _ in everything]
    alike, different = ([trained(mask) for mask in masks] for masks in (everything, thirds))
    assert 0 <= gain(alike, everything) < 0.01
    assert gain(different, thirds) > 0.05
    states = [net.state_dict() for net in alike]
    mean = {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}
    of_weights = right(torch.func.functional_call(alike[0], mean, (x[200:],)))
    assert of_weights < min(right(net(x[200:])) for net in alike) - 0.2


def test_n29_steps_by_a_parameter_s_own_gradients_do_not_mind_its_scale() -> None:
    """A bowl and the same bowl with its gradient a thousandfold: Adam walks alike, plain descent does not."""

    def path(name: str, scale: float) -> list[float]:
        w = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
        optimizer = optimizers.build(name, nn.ParameterList([w]), {"lr": 1e-4})
        places = []
        for _ in range(20):
            w.grad = scale * w.detach()
            optimizer.step()
            places.append(float(w.detach()))
        return places

    for name in ("adagrad", "rmsprop", "adam"):
        assert path(name, 1000.0) == pytest.approx(path(name, 1.0), abs=1e-6), name
    assert path("sgd", 1000.0) != pytest.approx(path("sgd", 1.0), abs=1e-2)


def test_n30_descent_rests_where_the_gradient_is_zero_and_noise_moves_it_off_a_saddle() -> None:
    def ends(noise: float) -> float:
        generator = torch.Generator().manual_seed(0)
        w = torch.tensor([1.0, 0.0])  # on the ridge of x² − y² + y⁴
        for _ in range(200):
            slope = torch.stack([2 * w[0], -2 * w[1] + 4 * w[1] ** 3])
            w = w - 0.05 * (slope + noise * torch.randn(2, generator=generator))
        return abs(float(w[1]))

    assert ends(0.0) == 0
    assert ends(0.01) == pytest.approx(math.sqrt(0.5), abs=0.05)


def test_n35_rmsprop_s_step_settles_at_the_rate() -> None:
    w = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = optimizers.build("rmsprop", nn.ParameterList([w]), {"lr": 0.01})
    for _ in range(3000):
        before = float(w.detach())
        w.grad = torch.full_like(w, 7.0)
        optimizer.step()
    assert before - float(w.detach()) == pytest.approx(0.01, rel=0.01)


def test_n40_adam_needs_its_rate_to_fall_to_settle() -> None:
    """A bowl in 50 dimensions whose gradient is noisy."""

    def ends(falls: bool) -> float:
        generator = torch.Generator().manual_seed(0)
        w = nn.Parameter(torch.ones(50))
        optimizer = optimizers.build("adam", nn.ParameterList([w]), {"lr": 0.05})
        for step in range(1000):
            optimizers.set_lr(optimizer, 1 - step / 1000 if falls else 1.0)
            w.grad = w.detach() + torch.randn(50, generator=generator)
            optimizer.step()
        return float(w.detach().square().mean())

    assert ends(falls=False) > 5 * ends(falls=True)


def test_n53_an_mlp_does_not_mind_the_order_of_features_and_a_convolution_does() -> None:
    order = torch.randperm(16)
    x = torch.randn(4, 1, 16)
    mlp = models.build("mlp", shape=(1, 16), num_classes=3).eval()
    first = next(layer for layer in mlp.modules() if isinstance(layer, nn.Linear))
    before = mlp(x)
    with torch.no_grad():
        first.weight.copy_(first.weight[:, order])
    torch.testing.assert_close(mlp(x[..., order]), before)
    net = models.build("resnet20", shape=(1, 16), num_classes=3).eval()
    assert not torch.allclose(net(x[..., order]), net(x), rtol=1e-3)


def test_n60_vgg_has_more_parameters_than_alexnet_and_most_of_them_fully_connected() -> None:
    with torch.device("meta"):
        vgg = models.build("vgg16", shape=(3, 224, 224), num_classes=1000)
        alexnet = models.build("alexnet", shape=(3, 227, 227), num_classes=1000)
    total = sum(p.numel() for p in vgg.parameters())
    full = sum(p.numel() for layer in vgg.modules() if isinstance(layer, nn.Linear) for p in layer.parameters())
    assert (total, full) == (138_357_544, 123_642_856)
    assert round(full / total, 3) == 0.894
    assert total > 2 * sum(p.numel() for p in alexnet.parameters())


def test_n63_reductions_make_an_inception_module_three_times_as_cheap() -> None:
    """The lecture's example: 28×28×256 in, branches of 128 (1×1), 192 (3×3) and 96 (5×5) channels, and pooling."""

    def cost(*branches: nn.Module) -> tuple[int, int]:
        accounts = [accounting.account(branch, (256, 28, 28)) for branch in branches]
        assert {one.output[1:] for one in accounts} == {(28, 28)}
        return sum(one.macs for one in accounts), sum(one.output[0] for one in accounts)

    def convolution(channels_in: int, channels_out: int, kernel: int) -> nn.Conv2d:
        return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)

    naive = cost(
        *(convolution(256, width, kernel) for width, kernel in ((128, 1), (192, 3), (96, 5))),
        nn.MaxPool2d(3, stride=1, padding=1),
    )
    reduced = cost(
        convolution(256, 128, 1),
        nn.Sequential(convolution(256, 64, 1), convolution(64, 192, 3)),
        nn.Sequential(convolution(256, 64, 1), convolution(64, 96, 5)),
        nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), convolution(256, 64, 1)),
    )
    assert (round(naive[0] / 1e6, 1), naive[1]) == (854.2, 672)
    assert (round(reduced[0] / 1e6, 1), reduced[1]) == (271.4, 480)


def test_n67_one_branch_is_most_of_an_inception_module() -> None:
    """Module 3a, multiply-adds a position: two workers gain at most what the 3×3 branch leaves."""
    branches = [192 * 64, 192 * 96 + 9 * 96 * 128, 192 * 16 + 25 * 16 * 32, 192 * 32]
    assert round(max(branches) / sum(branches), 2) == 0.79
    assert round(sum(branches) / max(branches), 2) == 1.27


def test_n72_stochastic_depth_keeps_40_of_54_blocks() -> None:
    drops = shares(54, 0.5)
    assert sum(1 - drop for drop in drops) == pytest.approx(40.25)


def test_n76_decay_takes_a_weight_towards_zero_and_never_there() -> None:
    w = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([w], lr=0.1, weight_decay=1e-2)
    for _ in range(1000):
        w.grad = torch.zeros_like(w)
        optimizer.step()
    assert float(w.detach()) == pytest.approx((1 - 0.1 * 1e-2) ** 1000)
    assert float(w.detach()) > 0


def test_n77_the_sum_adds_one_to_the_branch_s_gradient() -> None:
    branch = nn.Sequential(nn.Linear(5, 5), nn.Tanh()).double()
    x = torch.randn(5, dtype=torch.float64)
    through = torch.autograd.functional.jacobian(lambda value: value + branch(value), x)
    alone = torch.autograd.functional.jacobian(branch, x)
    torch.testing.assert_close(through, alone + torch.eye(5, dtype=torch.float64))


def test_n80_scores_become_shares_and_a_low_temperature_the_highest() -> None:
    scores = np.array([[2.0, 1.0, 0.0]])
    np.testing.assert_allclose(rule.softmax(scores), [[0.665, 0.245, 0.090]], atol=5e-4)
    np.testing.assert_allclose(rule.softmax(scores / 0.01), [[1, 0, 0]], atol=1e-12)
    drawn = np.searchsorted(rule.softmax(scores)[0].cumsum(), np.random.default_rng(0).random(20_000), side="right")
    np.testing.assert_allclose(np.bincount(drawn) / 20_000, [0.665, 0.245, 0.090], atol=0.01)


@pytest.mark.parametrize(("scale", "left"), [(0.9, 2.7e-5), (1.0, 1.0), (1.1, 1.4e4)])
def test_n89_the_same_matrix_a_hundred_times(scale: float, left: float) -> None:
    rng = np.random.default_rng(0)
    w = scale * np.linalg.qr(rng.normal(size=(30, 30)))[0]
    gradient = rng.normal(size=30)
    assert np.linalg.norm(np.linalg.matrix_power(w, 100) @ gradient) / np.linalg.norm(gradient) == pytest.approx(
        left, rel=0.03
    )


def test_n82_a_one_hot_vector_times_a_matrix_is_one_of_its_rows() -> None:
    rng = np.random.default_rng(0)
    words, W, above = rng.integers(0, 7, (3, 4)), rng.normal(size=(7, 5)), rng.normal(size=(3, 4, 5))
    one_hot = np.eye(7)[words]
    assert (one_hot.sum(-1) == 1).all()
    rows, cache = rule.word_embedding_forward(words, W)
    np.testing.assert_array_equal(rows, one_hot @ W)
    np.testing.assert_allclose(
        rule.word_embedding_backward(above, cache), np.einsum("ntv,ntd->vd", one_hot, above), atol=1e-12
    )


def test_n84_a_state_goes_on_over_the_cut_and_its_gradient_does_not() -> None:
    """Two chunks, the state handed on: outputs as in one, and nothing of a later chunk's loss for an earlier input."""
    rng = np.random.default_rng(0)
    x, h0 = rng.normal(size=(2, 6, 3)), rng.normal(size=(2, 4))
    weights = rng.normal(size=(3, 4)), rng.normal(size=(4, 4)), rng.normal(size=4)
    whole, cache = rule.rnn_forward(x, h0, *weights)
    first, _ = rule.rnn_forward(x[:, :3], h0, *weights)
    second, cut_cache = rule.rnn_forward(x[:, 3:], first[:, -1], *weights)
    np.testing.assert_allclose(np.concatenate([first, second], 1), whole)
    late = np.zeros_like(whole)
    late[:, -1] = 1
    dx, *_ = rule.rnn_backward(late, cache)
    assert np.abs(dx[:, 0]).max() > 1e-6
    dx_of_the_chunk, *_ = rule.rnn_backward(late[:, 3:], cut_cache)
    np.testing.assert_allclose(dx_of_the_chunk, dx[:, 3:])  # all there is: no input before the cut has any


def test_n86_padding_is_masked_and_the_sum_over_time_divided_by_sequences() -> None:
    rng = np.random.default_rng(0)
    scores, words = rng.normal(size=(2, 4, 5)), rng.integers(0, 5, (2, 4))
    mask = np.array([[True, True, True, True], [True, True, False, False]])
    loss, dx = rule.temporal_softmax_loss(scores, words, mask)
    each = -np.log(rule.softmax(scores.reshape(8, 5)))[np.arange(8), words.reshape(8)].reshape(2, 4)
    assert loss == pytest.approx((each[0].sum() + each[1, :2].sum()) / 2)
    assert (dx[1, 2:] == 0).all()


def test_n87_drawing_one_place_has_the_gradient_of_the_expected_loss() -> None:
    """REINFORCE over nine places: its mean is the gradient by hand; a baseline leaves the mean and calms it."""
    rng = np.random.default_rng(0)
    scores, losses = rng.normal(size=9), rng.normal(size=9) + 3
    shares = rule.softmax(scores[None])[0]
    exact = shares * (losses - shares @ losses)
    drawn = rng.choice(9, 100_000, p=shares)
    directions = np.eye(9)[drawn] - shares  # the gradient of the logarithm of the share drawn
    plain, calmer = directions * losses[drawn, None], directions * (losses[drawn, None] - shares @ losses)
    for estimate in (plain, calmer):
        assert np.abs(estimate.mean(0) - exact).max() < 5 * estimate.std(0).max() / 100_000**0.5
    assert calmer.var(0).sum() < 0.5 * plain.var(0).sum()


def test_n90_an_open_forget_gate_hands_the_gradient_on_as_it_is() -> None:
    rng = np.random.default_rng(0)
    N, D, H = 2, 3, 4
    b = np.zeros(4 * H)
    b[H : 2 * H] = 50  # the gate that keeps
    inputs = rng.normal(size=(N, D)), rng.normal(size=(N, H)), rng.normal(size=(N, H))
    *_, cache = rule.lstm_step_forward(*inputs, np.zeros((D, 4 * H)), np.zeros((H, 4 * H)), b)
    above = rng.normal(size=(N, H))
    _, _, dprev_c, *_ = rule.lstm_step_backward(np.zeros((N, H)), above, cache)
    np.testing.assert_allclose(dprev_c, above)
    nothing = nn.Parameter(torch.zeros(3))
    nothing.grad = torch.zeros(3)
    assert float(clip_norm([nothing], 1.0)) == 0
    assert (nothing.grad == 0).all()  # which clipping leaves as it is


def test_n91_n92_parameters_of_gated_cells() -> None:
    """10 in, 20 hidden; torch has a second bias."""

    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    lstm, gru = 4 * (20 * (10 + 20) + 20), 3 * (20 * (10 + 20) + 20)
    assert (lstm, gru) == (2480, 1860)
    assert (count(nn.LSTM(10, 20)), count(nn.GRU(10, 20))) == (lstm + 4 * 20, gru + 3 * 20) == (2560, 1920)


def test_n92_a_gru_with_its_gate_open_keeps_state_and_gradient() -> None:
    rng = np.random.default_rng(0)
    b = np.zeros(12)
    b[4:8] = 50  # z
    x, state = rng.normal(size=(2, 3)), rng.normal(size=(2, 4))
    next_h, cache = rule.gru_step_forward(x, state, rng.normal(size=(3, 12)) * 0.1, rng.normal(size=(4, 12)) * 0.1, b)
    np.testing.assert_allclose(next_h, state)
    above = rng.normal(size=(2, 4))
    np.testing.assert_allclose(rule.gru_step_backward(above, cache)[1], above)


def test_n93_who_knows_nothing_loses_the_logarithm_of_the_vocabulary() -> None:
    loss, _ = rule.temporal_softmax_loss(np.zeros((3, 1, 65)), np.zeros((3, 1), int))
    assert loss == pytest.approx(math.log(65))
