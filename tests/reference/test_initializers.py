"""Every initializer against its formula as a distribution, torch's own where there is one, and the course's numbers."""

import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from engram import initializers, models, registry
from engram.errors import UserError
from engram.initializers.layers import Given, fan_in, fan_out, gain, gains, outputs_of

NAMES = registry.names("initializer")
WORDS = [*(name for name in NAMES if name not in ("bias", "grow", "zero_gamma")), "bias:0.1"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixed(dimensions: int = 2) -> nn.Module:
    """Every kind of layer, with groups, a stride and a transposed convolution."""
    convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
    transposed = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dimensions]
    norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dimensions]
    return nn.Sequential(
        convolution(4, 8, 3, padding=1), norm(8), nn.ReLU(),
        convolution(8, 8, 3, padding=1, groups=2), nn.Tanh(),
        transposed(8, 6, 4, stride=2, padding=1), nn.LeakyReLU(0.3),
        nn.Flatten(), nn.Linear(6 * 8**dimensions, 12, bias=False), nn.ReLU(), nn.Linear(12, 5),
    )  # fmt: skip


def batch(dimensions: int = 2) -> torch.Tensor:
    return torch.randn(16, 4, *(4,) * dimensions, generator=generator(7))


# The contract: every word on any network.


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("word", WORDS)
def test_it_works_on_every_kind_of_layer(word, dimensions):
    net = mixed(dimensions)
    net[1].weight.data.fill_(3.0)
    (line,) = initializers.apply(net, word, rng=generator(), batch=batch(dimensions))
    assert line.startswith(f"{word.partition(':')[0]}: ")
    assert all(torch.isfinite(p).all() for p in net.parameters())
    assert (net[1].weight == 3.0).all()  # a normalisation is none of its business
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert net.training


@pytest.mark.parametrize("word", WORDS)
def test_the_weights_come_from_the_generator_alone(word):
    ends = []
    for seed, noise in ((1, 0), (1, 5), (2, 0)):
        torch.manual_seed(3)
        net = mixed()
        torch.manual_seed(noise)
        initializers.apply(net, word, rng=generator(seed), batch=batch())
        ends.append(net.state_dict())
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
    random = word not in ("zeros", "constant", "bias:0.1")
    assert random == any(not torch.equal(value, ends[2][key]) for key, value in ends[0].items())


@pytest.mark.parametrize("word", WORDS)
def test_without_a_generator_torch_s_own_is_drawn_from(word):
    ends = []
    for _ in range(2):
        torch.manual_seed(3)
        net = mixed()
        initializers.apply(net, word, batch=batch())
        ends.append(net.state_dict())
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


@pytest.mark.parametrize("name", NAMES)
def test_its_card_is_complete(name):
    entry = registry.find("initializer", name)
    assert entry.summary.endswith(".")
    assert entry.paper
    assert 1980 < (entry.year or 0) < 2100
    assert ">>>" in (entry.build.__doc__ or "")


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"bias", "near_identity", "grow", "zero_gamma"}))
def test_biases_are_zero_where_it_sets_weights_and_says_so(name):
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    (line,) = initializers.apply(net, name, batch=torch.randn(8, 4))
    assert (net[1].bias == 0).all()
    assert "biases 0" in line or name == "lsuv"


def test_shared_weights_are_drawn_once():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    drawn = generator()
    assert initializers.apply(net, "normal", rng=drawn) == ["normal: weights of 1 layer, biases 0"]
    torch.testing.assert_close(net[0].weight, torch.empty(4, 4).normal_(0, 0.01, generator=generator()))


def test_words_act_in_their_order():
    net = nn.Linear(3, 2)
    initializers.apply(net, ["bias:1", "constant:2"])
    assert net.bias.tolist() == [0.0, 0.0]
    initializers.apply(net, "constant:2,bias:1")
    assert net.bias.tolist() == [1.0, 1.0]
    assert initializers.apply(net, "none") == []


# Distributions. A sample's variance over n values is off by a share of sqrt(2 / n) (normal): five of those are allowed.

SIZED = [
    ("lecun", lambda m: 1 / fan_in(m)),
    ("lecun:uniform", lambda m: 1 / fan_in(m)),
    ("lecun:gain=3", lambda m: 9 / fan_in(m)),
    ("xavier", lambda m: 2 / (fan_in(m) + fan_out(m))),
    ("xavier:normal", lambda m: 2 / (fan_in(m) + fan_out(m))),
    ("glorot:normal:2", lambda m: 8 / (fan_in(m) + fan_out(m))),
    ("he:activation=relu", lambda m: 2 / fan_in(m)),
    ("he:out:activation=relu", lambda m: 2 / fan_out(m)),
    ("he:in:uniform:relu", lambda m: 2 / fan_in(m)),
    ("normal:0.3", lambda m: 0.09),
    ("alexnet", lambda m: 1e-4),
    ("uniform:0.3", lambda m: 0.03),
    ("uniform", lambda m: 1 / (3 * fan_in(m))),
    ("googlenet", lambda m: 1 / fan_in(m)),
    ("truncated_normal:0.5", lambda m: 0.25 * 0.7737413),
    ("sparse:20:0.5", lambda m: 20 / fan_in(m) * 0.25 if not isinstance(m, nn.ConvTranspose2d) else 20 / 512 * 0.25),
]
SHAPES = {
    "linear": lambda: nn.Linear(200, 300),
    "convolution": lambda: nn.Conv2d(32, 64, 3),
    "grouped": lambda: nn.Conv2d(64, 96, 3, groups=2),
    "transposed": lambda: nn.ConvTranspose2d(32, 64, 4, stride=2),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("word", "variance"), SIZED, ids=lambda v: v if isinstance(v, str) else "")
def test_weights_have_its_variance(word, variance, shape):
    layer = SHAPES[shape]()
    net = nn.Sequential(layer, nn.Linear(2, 2))
    initializers.apply(net, word, rng=generator())
    values = layer.weight.detach().double()
    expected, many = variance(layer), values.numel()
    fourth = 3 * fan_in(layer) / 20 if word.startswith("sparse") else 3  # its kurtosis is larger
    assert values.square().mean().item() == pytest.approx(expected, rel=5 * math.sqrt(max(fourth, 3) / many))
    assert abs(values.mean().item()) < 5 * math.sqrt(expected / many)


@pytest.mark.parametrize(
    ("word", "kind"), [("he", "normal"), ("he:in:uniform", "uniform"), ("truncated_normal", "cut")]
)
def test_the_distribution_has_its_shape(word, kind):
    net = nn.Linear(500, 400)
    initializers.apply(net, word, rng=generator())
    w = net.weight.detach().double()
    shares = [(w.abs() < part * w.std()).double().mean().item() for part in (0.5, 1.0, 1.6)]
    box = [part / math.sqrt(3) for part in (0.5, 1.0, 1.6)]
    normal = [math.erf(part / math.sqrt(2)) for part in (0.5, 1.0, 1.6)]
    whole = math.erf(2 / math.sqrt(2))
    cut = [math.erf(part * 0.8796257 / math.sqrt(2)) / whole for part in (0.5, 1.0, 1.6)]
    assert shares == pytest.approx({"normal": normal, "uniform": box, "cut": cut}[kind], abs=0.006)


@pytest.mark.parametrize(
    ("word", "theirs"),
    [
        ("xavier", lambda w, g: nn.init.xavier_uniform_(w, generator=g)),
        ("xavier:normal", lambda w, g: nn.init.xavier_normal_(w, generator=g)),
        ("he", lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=g)),
        ("he:out:uniform", lambda w, g: nn.init.kaiming_uniform_(w, mode="fan_out", nonlinearity="relu", generator=g)),
        ("normal:0.2", lambda w, g: nn.init.normal_(w, std=0.2, generator=g)),
        ("uniform:0.2", lambda w, g: nn.init.uniform_(w, -0.2, 0.2, generator=g)),
        ("truncated_normal:0.2", lambda w, g: nn.init.trunc_normal_(w, std=0.2, a=-0.4, b=0.4, generator=g)),
        ("orthogonal:1.5", lambda w, g: nn.init.orthogonal_(w, 1.5, generator=g)),
    ],
)
@pytest.mark.parametrize("layer", [nn.Linear(7, 5), nn.Linear(5, 7), nn.Conv2d(3, 5, 3), nn.Conv1d(2, 9, 3)])
def test_it_gives_torch_s_own_values(word, theirs, layer):
    net = nn.Sequential(layer, nn.ReLU(), nn.Linear(2, 2))
    initializers.apply(net, word, rng=generator())
    expected = theirs(torch.empty_like(layer.weight), generator())
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=1e-5, atol=1e-6)


def test_a_unit_of_a_transposed_convolution_sees_its_share_of_the_kernel():
    """Variance 1 in, variance 1 out, away from the edges, whatever the stride: the fans are the true ones."""
    for layer in (nn.ConvTranspose1d(64, 64, 8, stride=4), nn.Conv1d(64, 64, 5, stride=2, groups=4)):
        initializers.apply(nn.Sequential(layer, nn.Linear(2, 2)), "lecun", rng=generator())
        z = layer(torch.randn(64, 64, 50, generator=generator(1)))[..., 8:-8]
        assert z.var().item() == pytest.approx(1.0, abs=0.05)


def test_backward_fans_keep_the_gradient():
    layer = nn.Conv1d(64, 96, 5, padding=2, groups=4)
    initializers.apply(nn.Sequential(layer, nn.Linear(2, 2)), "he:out:activation=identity", rng=generator())
    x = torch.randn(64, 64, 50, requires_grad=True)
    z = layer(x)
    z.backward(torch.randn(z.shape, generator=generator(1)))
    assert x.grad[..., 4:-4].var().item() == pytest.approx(1.0, abs=0.05)


# Gains.


def test_gains_are_those_of_the_papers():
    assert gain(nn.ReLU()) == pytest.approx(math.sqrt(2), abs=1e-4)
    assert gain(nn.PReLU(init=0.25)) == pytest.approx(math.sqrt(2 / (1 + 0.25**2)), abs=1e-4)
    assert gain(nn.PReLU(3)) == pytest.approx(math.sqrt(2 / (1 + 0.25**2)), abs=1e-4)
    assert gain(nn.RReLU(0.1, 0.3)) == pytest.approx(math.sqrt(2 / (1 + 0.2**2)), abs=1e-4)
    assert gain(nn.SELU()) == pytest.approx(1.0, abs=1e-4)
    assert gain(nn.Tanh()) == pytest.approx(1 / math.sqrt(0.394294), abs=1e-3)
    assert gain(nn.Identity()) == pytest.approx(1.0, abs=1e-6)


def test_the_gain_is_of_what_follows_and_the_scores_have_none():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 4), nn.SELU())
    net.append(nn.Linear(4, 2))
    found = gains(net, Given())
    assert [round(found[key], 3) for key in ("0", "3", "4", "6")] == [1.414, 1.414, 1.0, 1.0]
    assert round(gains(net, Given(), "tanh")["0"], 2) == 1.59
    assert gains(net, Given(outputs=("0", "6")))["0"] == 1.0


def test_a_network_that_calls_relu_itself_is_taken_to():
    found = gains(models.resnet20(), Given())
    assert found["head"] == 1.0
    assert {round(value**2, 3) for key, value in found.items() if key != "head"} == {2.0}


def test_the_scores_come_from_the_head():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
            self.auxiliary = nn.Linear(3, 2)

    assert outputs_of(Net(), Given()) == {"head.2"}
    assert outputs_of(Net(), Given(outputs=("head.2", "auxiliary"))) == {"head.2", "auxiliary"}
    with pytest.raises(UserError, match="no weighted layer 'tail'"):
        outputs_of(Net(), Given(outputs=("tail",)))


# The course's slide: 10 layers of 500 units on normal data; deviations after layers 1, 5 and 10, to 10 %.


def deviations(word: str, f, seed: int = 0) -> list[float]:
    net = nn.Sequential(*(nn.Linear(500, 500) for _ in range(10)), nn.Linear(500, 10))
    initializers.apply(net, word, rng=generator(seed))
    h, found = torch.randn(1000, 500, generator=generator(seed + 1)), []
    with torch.no_grad():
        for layer in net[:10]:
            h = f(layer(h))
            found.append(h.std().item())
    return found


@pytest.mark.parametrize(
    ("word", "f", "expected"),
    [
        ("normal:0.01", torch.tanh, {1: 0.213, 5: 5e-4, 10: 3e-7}),
        ("xavier", torch.tanh, {1: 0.63, 5: 0.32, 10: 0.23}),
        ("xavier", F.relu, {1: 0.59, 10: 0.023}),
        ("he:activation=relu", F.relu, {1: 0.83}),
    ],
)
def test_the_course_s_numbers(word, f, expected):
    found = deviations(word, f)
    for layer, value in expected.items():
        assert found[layer - 1] == pytest.approx(value, rel=0.13 if value == 3e-7 else 0.10)  # two have one digit


@pytest.mark.parametrize(
    ("word", "root", "on_one_seed"),
    [("he:activation=relu", 1.0, 0.98), ("normal:1", 250.0**5, 7.6e11), ("xavier", 0.5**5, 0.023)],
)
def test_ten_relu_layers_multiply_the_signal_as_theory_says(word, root, on_one_seed):
    """The mean square is multiplied by n Var(w) / 2 a layer, and a share of 1 - 1/π of it is variance.

    After ten layers one draw of the weights is off by 16 %, which is why the course's single number is only bounded.
    """
    found = torch.tensor([deviations(word, F.relu, seed)[9] for seed in range(12)])
    expected = root * math.sqrt(1 - 1 / math.pi)
    assert found.square().mean().sqrt().item() == pytest.approx(expected, rel=0.14)  # three standard errors
    assert found.min() < on_one_seed < found.max()


def test_a_deviation_of_one_saturates_nine_tanh_units_in_ten():
    net = nn.Linear(500, 500)
    initializers.apply(net, "normal:1", rng=generator())
    h = torch.tanh(net(torch.randn(1000, 500, generator=generator(1)).sign()))
    assert (h.abs() > 0.99).double().mean().item() == pytest.approx(0.90, abs=0.02)


def test_units_that_start_alike_stay_alike():
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    x, y = torch.randn(32, 4, generator=generator()), torch.randint(0, 3, (32,), generator=generator())
    for word, alike in (("constant:0.3", True), ("xavier", False)):
        initializers.apply(net, word, rng=generator())
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        for _ in range(20):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
        assert (net[0].weight.std(0).max().item() < 1e-6) == alike
        assert net[0].weight.std().item() > 0.01  # and they have moved


# Orthogonal, sparse.


def test_every_group_is_a_rotation():
    for layer in (nn.Conv2d(8, 12, 3, groups=4), nn.ConvTranspose1d(8, 12, 3, groups=4), nn.Linear(9, 4)):
        initializers.apply(nn.Sequential(layer, nn.Linear(2, 2)), "orthogonal:2", rng=generator())
        for part in layer.weight.detach().flatten(1).chunk(getattr(layer, "groups", 1)):
            short = part @ part.T if part.shape[0] <= part.shape[1] else part.T @ part
            torch.testing.assert_close(short, 4 * torch.eye(len(short)), rtol=0, atol=1e-5)


def test_rotations_are_uniform():
    """The signs of R go into Q: without that the first diagonal value of Q would never be positive."""
    net = nn.Sequential(*(nn.Linear(3, 3) for _ in range(400)))
    initializers.apply(net, "orthogonal", rng=generator())
    first = torch.stack([layer.weight[0, 0] for layer in net]).detach()
    assert abs(first.mean().item()) < 5 / math.sqrt(3 * 400)
    assert first.square().mean().item() == pytest.approx(1 / 3, abs=0.08)


def test_orthogonal_auto_takes_the_gain_of_what_follows():
    net = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    initializers.apply(net, "orthogonal:auto", rng=generator())
    assert [torch.linalg.matrix_norm(net[at].weight, 2).item() for at in (0, 2)] == pytest.approx([2**0.5, 1], 1e-4)


@pytest.mark.parametrize(
    ("layer", "axis"), [(nn.Linear(100, 8), 0), (nn.Conv2d(20, 8, 3), 0), (nn.ConvTranspose1d(100, 8, 3), 1)]
)
def test_sparse_connects_ten_inputs_a_unit_each_as_often(layer, axis):
    net = nn.Sequential(layer, nn.ReLU(), nn.Linear(2, 2))
    seen = torch.zeros_like(layer.weight)
    squares = []
    for seed in range(60):
        initializers.apply(net, "sparse", rng=generator(seed))
        w = layer.weight.detach()
        units = w.movedim(axis, 0).flatten(1)
        assert ((units != 0).sum(1) == 10).all()
        seen += w != 0
        squares.append(w.square().sum() / len(units))
    share = 10 / (seen.numel() / seen.shape[axis])
    assert seen.mean().item() == pytest.approx(60 * share, rel=1e-5)
    assert seen.var().item() == pytest.approx(60 * share * (1 - share), rel=0.25)  # binomial: no place is preferred
    assert torch.stack(squares).mean().item() == pytest.approx(2.0, abs=0.15)  # gain², ten weights of gain² / 10
    assert initializers.apply(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), "sparse")


# Biases, zero gamma.


def test_biases_go_where_alexnet_had_them():
    convolutions = [nn.Conv2d(3, 3, 3) for _ in range(5)]
    net = nn.Sequential(*convolutions, nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    (line,) = initializers.apply(net, "alexnet", rng=generator())
    assert [layer.bias.mean().item() for layer in net] == [0, 1, 0, 1, 1, 1, 1, 0]
    assert line.endswith("or 1 in: 1, 3, 4, 5, 6")


def test_parallel_towers_count_as_one():
    towers = nn.ModuleList(nn.Sequential(*(nn.Conv1d(2, 2, 3) for _ in range(5))) for _ in range(2))
    net = nn.ModuleDict({"towers": towers, "head": nn.Linear(2, 2)})
    initializers.apply(net, "alexnet")
    assert [[layer.bias.mean().item() for layer in tower] for tower in towers] == [[0, 1, 0, 1, 1]] * 2
    (line,) = initializers.apply(nn.Sequential(nn.Conv1d(2, 2, 3), nn.Linear(2, 2)), "alexnet")
    assert line == "alexnet: weights of 2 layers, biases 0"


def test_biases_go_where_googlenet_had_them():
    net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    initializers.apply(net, "googlenet", rng=generator())
    assert [round(layer.bias.mean().item(), 6) for layer in net] == [0.2, 0.2, 0.0]


def test_bias_leaves_weights_and_norms():
    net = mixed()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    initializers.apply(net, "bias:-0.5")
    changed = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"0.bias", "3.bias", "5.bias", "10.bias"}
    with pytest.raises(UserError, match="no layer of this network has a bias"):
        initializers.apply(nn.Linear(2, 2, bias=False), "bias:1")


@pytest.mark.parametrize("name", ["resnet20", "resnet50"])
def test_zero_gamma_is_what_the_network_s_own_setting_does(name):
    torch.manual_seed(0)
    net = getattr(models, name)()
    torch.manual_seed(0)
    own = getattr(models, name)(zero_gamma=True)
    assert "last normalisation" in initializers.apply(net, "zero_gamma")[0]
    assert all(torch.equal(value, own.state_dict()[key]) for key, value in net.state_dict().items())


class Block(nn.Module):
    """Pre-activation: what the branch ends with is a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(), nn.Conv1d(4, 4, 3, padding=1))
        self.shortcut = nn.Sequential(nn.Conv1d(4, 4, 1), nn.BatchNorm1d(4))

    def forward(self, x):
        return self.shortcut(x) + self.branch(x)


def test_blocks_start_as_their_shortcut_and_still_learn():
    net = nn.Sequential(Block(), Block())
    (line,) = initializers.apply(net, "zero_gamma")
    assert line == "zero_gamma: 2 blocks by their last convolution or linear layer"
    x = torch.randn(8, 4, 5, generator=generator())
    torch.testing.assert_close(net(x), net[1].shortcut(net[0].shortcut(x)))
    net(x).square().sum().backward()
    assert all(block.branch[2].weight.grad.abs().sum() > 0 for block in net)


@pytest.mark.parametrize("name", ["plain20", "lenet5"])
def test_zero_gamma_refuses_a_network_without_shortcuts(name):
    with pytest.raises(UserError, match="no residual blocks"):
        initializers.apply(getattr(models, name)(), "zero_gamma")


# LSUV.


def test_lsuv_gives_every_layer_variance_one():
    net, x = mixed(), 5 * batch() + 1
    (line,) = initializers.apply(net, "lsuv:0.05", rng=generator(), batch=x)
    assert line == "lsuv: variance 1 in 5 of 5 layers"
    h = x
    for layer in net:
        h = layer(h)
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            assert abs(h.var(correction=0).item() - 1) < 0.05
    assert 0.9 < torch.linalg.cond(net[10].weight.detach()).item() < 1.001  # orthogonal still


def test_lsuv_leaves_statistics_modes_and_dropout_as_they_were():
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3), nn.Linear(3, 2))
    net[4].eval()
    initializers.apply(net, "lsuv", rng=generator(), batch=100 * torch.randn(50, 4, generator=generator()))
    assert (net[1].running_var == 1).all()
    assert net[1].num_batches_tracked == 0
    assert [module.training for module in net] == [True, True, True, True, False]
    assert not any(module._forward_hooks for module in net)
    net[2].eval()
    h = net[:4](100 * torch.randn(50, 4, generator=generator()))
    assert abs(h.var(correction=0).item() - 1) < 0.1


def test_lsuv_follows_the_signal_and_not_the_order_of_making():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.body, self.unused = nn.Linear(6, 2), nn.Linear(4, 6), nn.Linear(3, 3)

        def forward(self, x):
            return self.head(torch.sin(3 * self.body(x)))

    net, x = Backwards(), 9 * torch.randn(100, 4, generator=generator())
    assert initializers.apply(net, "lsuv", rng=generator(), batch=x) == ["lsuv: variance 1 in 2 of 3 layers"]
    assert abs(net(x).var(correction=0).item() - 1) < 0.1
    torch.testing.assert_close(net.unused.weight @ net.unused.weight.T, torch.eye(3))


def test_lsuv_gives_up_on_a_signal_that_is_none():
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
    assert initializers.apply(net, "lsuv", batch=torch.zeros(5, 4)) == ["lsuv: variance 1 in 0 of 2 layers"]
    with pytest.raises(UserError, match="initializer lsuv measures"):
        initializers.apply(net, "he,lsuv")


# Near identity, and growing.


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Linear(6, 6), torch.randn(3, 6)),
        (nn.Conv1d(6, 6, 5, padding=2), torch.randn(3, 6, 9)),
        (nn.Conv2d(6, 6, (3, 1), padding=(1, 0), groups=3), torch.randn(3, 6, 4, 5)),
        (nn.Conv3d(6, 6, 3, padding=1, groups=6), torch.randn(3, 6, 4, 5, 3)),
        (nn.ConvTranspose2d(6, 6, 3, padding=1, groups=2), torch.randn(3, 6, 4, 5)),
    ],
)
def test_a_near_identity_without_noise_is_one(layer, x):
    net = nn.Sequential(layer, nn.Linear(2, 2))
    initializers.apply(net, "near_identity:0")
    torch.testing.assert_close(layer(x), x)
    initializers.apply(net, "near_identity:0.3", rng=generator())
    assert (layer(x) - x).std() > 0.1


def test_near_identity_says_which_layers_it_cannot_change():
    layers = [nn.Conv1d(4, 4, 3), nn.Conv1d(4, 4, 2), nn.Conv1d(4, 4, 3, stride=2), nn.Conv1d(4, 5, 3), nn.Linear(3, 3)]
    net = nn.Sequential(*layers)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert initializers.apply(net, "near_identity") == ["near_identity: 1 of 5 layers, noise 0.01"]
    changed = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"0.weight", "0.bias"}
    noise = net[0].weight.detach().clone()
    noise[range(4), range(4), 1] -= 1.0
    assert noise.std().item() == pytest.approx(0.01, rel=0.5)
    with pytest.raises(UserError, match="can pass on its input"):
        initializers.apply(net[1:], "near_identity")


def stack(depth: int, *, norm: bool = False, width: int = 6) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(depth):
        layers.append(nn.Conv2d(3 if number == 0 else width, width, 3, padding=1))
        layers += [nn.BatchNorm2d(width), nn.ReLU()] if norm else [nn.ReLU()]
    head = [nn.Flatten(), nn.Linear(width * 16, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 5)]
    return nn.Sequential(*layers, *head)


@pytest.mark.parametrize("kind", ["folder", "safetensors", "torch"])
def test_growing_copies_the_ends_and_leaves_the_middle(tmp_path, kind):
    shallow, deep = stack(6), stack(12)  # names of two digits: 10 comes after 9
    where = {"folder": "weights/best.safetensors", "safetensors": "a.safetensors", "torch": "a.pt"}[kind]
    path = tmp_path / where
    path.parent.mkdir(exist_ok=True)
    (torch.save if kind == "torch" else save_file)(shallow.state_dict(), path)
    before = {key: value.clone() for key, value in deep.state_dict().items()}
    (line,) = initializers.apply(deep, f"grow:{tmp_path if kind == 'folder' else path}")
    assert line == f"grow: 0, 2, 4, 6, 29, 27, 25 from {path.name}; the other 8 stay"
    pairs = {0: 0, 2: 2, 4: 4, 6: 6, 25: 13, 27: 15, 29: 17}
    for place, layer in enumerate(deep):
        for key, value in layer.state_dict().items():
            held = shallow.state_dict()[f"{pairs[place]}.{key}"] if place in pairs else before[f"{place}.{key}"]
            assert torch.equal(value, held)


def test_growing_near_the_identity_computes_what_the_shallow_network_does(tmp_path):
    shallow, deep = stack(4, norm=True), stack(9, norm=True)
    x = torch.randn(8, 3, 4, 4, generator=generator())
    shallow(x)  # its statistics move
    torch.nn.init.normal_(shallow[1].weight)
    save_file(shallow.state_dict(), tmp_path / "shallow.safetensors")
    words = f"grow:{tmp_path}/shallow.safetensors:rest=near_identity:noise=0"
    assert initializers.apply(deep, words)[0].endswith("; 5 near the identity")
    torch.testing.assert_close(deep.eval()(x), shallow.eval()(x), rtol=1e-3, atol=1e-4)
    initializers.apply(deep, f"{words[:-1]}0.5:first=2:last=1", rng=generator())
    assert not torch.allclose(deep(x), shallow(x), atol=0.01)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (":first=7", "first=7, but network and shallow.safetensors have 4 convolutions in common"),
        (":last=4", "last=4, but network and shallow.safetensors have 3 linear layers in common"),
        (":rest=go", "rest cannot be 'go'"),
        (":first=-1", "first cannot be -1"),
    ],
)
def test_growing_refuses_what_does_not_fit(tmp_path, settings, message):
    save_file(stack(4).state_dict(), tmp_path / "shallow.safetensors")
    with pytest.raises(UserError) as caught:
        initializers.apply(stack(6), f"grow:{tmp_path}/shallow.safetensors{settings}")
    assert message in str(caught.value)


def test_growing_from_another_network_changes_nothing(tmp_path):
    save_file(stack(4, width=5).state_dict(), tmp_path / "other.safetensors")
    deep = stack(6)
    before = {key: value.clone() for key, value in deep.state_dict().items()}
    with pytest.raises(UserError, match=r"'0' of other.safetensors would be '0', but is \(5, 3, 3, 3\)"):
        initializers.apply(deep, f"grow:{tmp_path}/other.safetensors")
    assert all(torch.equal(value, before[key]) for key, value in deep.state_dict().items())


class Harmful:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    "content", [b"torn", {"a": Harmful()}, {"a": 3}, [torch.zeros(1)]], ids=lambda v: type(v).__name__
)
def test_growing_reads_tensors_and_nothing_else(tmp_path, content, capsys):
    path = tmp_path / "file.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match=r"damaged|no state dict"):
        initializers.apply(stack(4), f"grow:{path}")
    assert "run" not in capsys.readouterr().out


# What is refused, before anything is built.


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("hee", "did you mean: he"),
        ("he:fan=through", "fan cannot be 'through'"),
        ("he:activation=rlu", "did you mean: relu"),
        ("he:gain=2", "'he' has no setting 'gain'"),
        ("xavier:box", "distribution cannot be 'box'"),
        ("lecun:gain=0", "gain cannot be 0"),
        ("normal:-1", "std cannot be -1"),
        ("truncated_normal:0", "std cannot be 0"),
        ("uniform:wide", "bound cannot be 'wide'"),
        ("sparse:2.5", "connections cannot be 2.5"),
        ("orthogonal:big", "gain cannot be 'big'"),
        ("lsuv:0", "tolerance cannot be 0"),
        ("bias", "'bias': "),
        ("grow", "'grow': "),
        ("grow:nowhere", "there are no weights nowhere"),
        ("near_identity:-1", "noise cannot be -1"),
        ("constant:x", "value cannot be 'x'"),
    ],
)
def test_a_word_that_cannot_be_used_is_refused_by_itself(word, message):
    with pytest.raises(UserError) as caught:
        initializers.check(f"he,{word}")
    assert message in str(caught.value)


def test_nothing_changes_where_a_later_word_is_refused():
    net = nn.Linear(3, 3)
    before = net.weight.clone()
    with pytest.raises(UserError):
        initializers.apply(net, "zeros,lsuv")
    assert torch.equal(net.weight, before)
    with pytest.raises(UserError, match="no convolution and no linear layer"):
        initializers.apply(nn.ReLU(), "he")
    with pytest.raises(UserError, match="before its first input"):
        initializers.apply(nn.LazyLinear(3), "he")
