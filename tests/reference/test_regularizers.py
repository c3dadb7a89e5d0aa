"""Every regulariser word: its effect against a formula or as a distribution, its places, and what it leaves alone."""

import copy
import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import models, registry, regularizers
from engram.errors import UserError
from engram.layers.drop_block import DropBlock
from engram.layers.drop_connect import DropConnect
from engram.layers.drop_path import DropPath
from engram.layers.monte_carlo import draws
from engram.layers.spatial_bias import SpatialBias
from engram.regularizers import build, check
from engram.regularizers.rule import held

NAMES = registry.names("regularizer")
ELSEWHERE = ["early_stopping", "label_smoothing", "mixup"]
STEPS = ["elastic", "gradient_noise", "l1", "l2", "max_norm"]
INSIDE = sorted(set(NAMES) - {*ELSEWHERE, *STEPS})
ANY_NET = sorted(set(NAMES) - {"stochastic_depth"})
MODELS = ["resnet20", "squeezenet_small", "lenet5", "mlp"]


def mixed(dimensions: int = 2) -> nn.Sequential:
    """Every kind of layer, with groups, a transposed convolution and norms."""
    convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
    transposed = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dimensions]
    norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dimensions]
    torch.manual_seed(0)
    return nn.Sequential(
        convolution(4, 8, 3, padding=1), norm(8), nn.ReLU(),
        convolution(8, 8, 3, padding=1, groups=2), nn.PReLU(8),
        convolution(8, 8, 1), nn.LayerNorm((4,) * dimensions),
        transposed(8, 6, 4, stride=2, padding=1, groups=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(6 * 8**dimensions, 12), nn.ReLU(), nn.Linear(12, 5),
    )  # fmt: skip


def batch(dimensions: int = 2, count: int = 6) -> Tensor:
    return torch.randn(count, 4, *(4,) * dimensions, generator=torch.Generator().manual_seed(7))


def model(name: str) -> nn.Module:
    torch.manual_seed(0)
    return models.build(name, shape=(3, 32, 32), num_classes=5)


def seen_before(net: nn.Module, name: str, x: Tensor) -> Tensor:
    """The input with which that layer computes in a forward pass, after everything that stands before it."""
    found = []
    handle = net.get_submodule(name).register_forward_hook(lambda module, given, y: found.append(given[0].detach()))
    net(x)
    handle.remove()
    return found[0]


# The contract: every word on any network.


@pytest.mark.parametrize("name", NAMES)
def test_its_card_is_complete(name):
    entry = registry.find("regularizer", name)
    assert entry.summary.endswith(".")
    assert entry.paper
    assert 1980 < (entry.year or 0) < 2100
    assert entry.facts["acts"] in ("network", "gradient", "weights", "recipe")
    assert ">>>" in (entry.build.__doc__ or "")
    settings = inspect.signature(entry.build).parameters.values()
    assert all(one.default is not one.empty for one in settings)  # the bare word works


def same_but_for_training(net: nn.Module, word: str, x: Tensor) -> None:
    """What it must not change, and that training is changed where the word acts inside."""
    before = {key: value.clone() for key, value in net.state_dict().items()}
    judged = net.eval()(x)
    net.train()
    (line,) = build(word, net).changes
    assert line.startswith(f"{word.partition(':')[0]}: ")
    assert list(net.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert torch.equal(net.eval()(x), judged)
    net.train()
    torch.manual_seed(1)
    one, two = net(x), net(x)
    assert torch.isfinite(one).all()
    assert torch.equal(one, two) == (word.partition(":")[0] not in INSIDE)
    one.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("word", ANY_NET)
def test_names_weights_and_judging_are_as_without_it(word, dimensions):
    same_but_for_training(mixed(dimensions), word, batch(dimensions))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("word", [*INSIDE, "stochastic_depth:0.9:per=sample", "dropout:at=head", "drop_connect:at=all"])
def test_networks_of_the_package(word, name):
    net = model(name)
    for module in net.modules():
        if isinstance(module, nn.Dropout):  # what is seen to draw is the word's
            module.p = 0.0
    lacking = {
        "mlp": ("channel_dropout", "drop_block", "stochastic_depth"),
        "lenet5": ("stochastic_depth",),
        "squeezenet_small": ("drop_connect", "stochastic_depth"),
    }
    if word.partition(":")[0] in lacking.get(name, ()):
        with pytest.raises(UserError):
            build(word, net)
    else:
        same_but_for_training(net, word, torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("word", [one for one in INSIDE if one != "stochastic_depth"])
def test_weights_load_from_a_network_without_it_and_into_one(word):
    plain, changed = mixed(), mixed()
    build(word, changed)
    nn.init.normal_(plain[0].weight)
    changed.load_state_dict(plain.state_dict())
    assert torch.equal(changed.eval()(batch()), plain.eval()(batch()))
    plain.load_state_dict(changed.state_dict())


@pytest.mark.parametrize("word", INSIDE)
def test_what_draws_says_so_and_switches_with_the_network(word):
    net = model("resnet20")

    def drawing() -> list[nn.Module]:
        return [module for module in net.modules() if draws(module) and getattr(module, "drop", 1)]

    assert not drawing()
    build(word, net)
    assert drawing()
    for training in (False, True):
        net.train(training)
        assert all(module.training == training for module in drawing())


def test_a_network_that_judges_goes_on_judging():
    net = mixed().eval()
    judged = net(batch())
    build("dropout,channel_dropout,noise,activation_noise", net)
    assert torch.equal(net(batch()), judged)


@pytest.mark.parametrize("word", [one for one in INSIDE if one != "stochastic_depth"])
def test_a_copy_draws_for_itself(word):
    net = mixed()
    build(word, net)
    copied = copy.deepcopy(net).eval()
    net.train()
    assert torch.equal(copied(batch()), copied(batch()))
    assert not torch.equal(net(batch()), net(batch()))


def test_nothing_asked_for_does_nothing():
    net = mixed()
    before = copy.deepcopy(net.state_dict())
    nothing = build("none", net)
    nothing.regularize(net)
    nothing.constrain(net, 0.1)
    assert (nothing.changes, nothing.settings, nothing.penalty(net).item()) == ((), {}, 0.0)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


# Penalties and constraints.


def weights_of(net: nn.Sequential) -> list[nn.Parameter]:
    return [net[place].weight for place in (0, 3, 5, 7, 10, 12)]


def test_weights_are_those_of_layers_and_each_counts_once():
    net = mixed()
    assert [id(one.p) for one in held(net)] == [id(p) for p in weights_of(net)]
    assert len(held(net, "all")) == len(list(net.parameters())) == 17
    net[12].weight = net[10].weight
    net[0].weight.requires_grad_(False)
    assert len(held(net)) == 4
    assert not held(SpatialBias("unit", channels=3, size=(4, 4)))
    assert len(held(SpatialBias("unit", channels=3, size=(4, 4)), "all")) == 1


@pytest.mark.parametrize("on", ["weights", "all"])
@pytest.mark.parametrize("word", ["l2:0.3", "l1:0.2:subgradient", "elastic:0:0.3"])
def test_the_gradient_is_that_of_the_penalty(word, on):
    net = mixed()
    regularization = build(f"{word}:on={on}", net)
    net(batch()).square().mean().backward()
    data = [p.grad.clone() for p in net.parameters()]
    regularization.regularize(net)
    added = [p.grad - g for p, g in zip(net.parameters(), data, strict=True)]
    chosen = {id(p) for p in (weights_of(net) if on == "weights" else net.parameters())}
    for p in net.parameters():
        p.grad = None
    by_hand = sum(
        0.2 * p.abs().sum() if word.startswith("l1") else 0.5 * 0.3 * p.square().sum()
        for p in net.parameters()
        if id(p) in chosen
    )
    torch.testing.assert_close(regularization.penalty(net), by_hand)
    by_hand.backward()
    for p, g in zip(net.parameters(), added, strict=True):
        torch.testing.assert_close(g, torch.zeros_like(p) if id(p) not in chosen else p.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("word", "slope"), [("l2:0.5", 0.5), ("l1:0.5:subgradient", None)])
def test_a_weight_that_the_loss_forgot_is_pulled_all_the_same(word, slope):
    net = nn.Linear(3, 2)
    build(word, net).regularize(net)
    torch.testing.assert_close(net.weight.grad, net.weight * 0.5 if slope else net.weight.sign() * 0.5)
    assert net.bias.grad is None
    assert not net.weight.grad.requires_grad


def test_l2_is_torch_s_weight_decay_on_the_weights():
    ours, theirs = mixed(), mixed()
    regularization = build("l2:0.1", ours)
    spared = [p for p in theirs.parameters() if all(p is not w for w in weights_of(theirs))]
    groups = [{"params": weights_of(theirs), "weight_decay": 0.1}, {"params": spared}]
    optimizers = torch.optim.SGD(ours.parameters(), 0.05, momentum=0.9), torch.optim.SGD(groups, 0.05, momentum=0.9)
    for _ in range(3):
        for net, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            net(batch()).square().mean().backward()
            if net is ours:
                regularization.regularize(net)
            optimizer.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def test_the_proximal_step_is_the_minimum_of_its_problem():
    """argmin over v of ½ (v - w)² + lr λ |v|, found on a grid."""
    net = nn.Linear(200, 1).double()
    w = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    net.weight.data.copy_(w)
    build("l1:3", net).constrain(net, lr=0.2)
    grid = torch.linspace(-4, 4, 16001, dtype=torch.float64)
    best = grid[(0.5 * (grid - w[:, None]).square() + 0.2 * 3 * grid.abs()).argmin(1)]
    torch.testing.assert_close(net.weight[0], best, rtol=0, atol=3e-4)
    assert 60 < (net.weight == 0).sum() < 120  # of a normal distribution, 45 % lie within 0.6


OBSERVED = torch.tensor([2.0, 0.3, -0.05, -1.5, 0.0, 0.6])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("l1:0.5", [1.5, 0.0, 0.0, -1.0, 0.0, 0.1]),
        ("l2:0.5", [value / 1.5 for value in OBSERVED.tolist()]),
        ("elastic:0.5:1", [0.75, 0.0, 0.0, -0.5, 0.0, 0.05]),
    ],
)
def test_a_fit_of_independent_inputs_has_the_known_solution(word, expected):
    """min over w of ½ ‖w - b‖² + R(w): soft-thresholded, shrunk, or first one and then the other."""
    net = nn.Linear(6, 1, bias=False)
    regularization = build(word, net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    for _ in range(100):
        optimizer.zero_grad()
        (0.5 * (net.weight[0] - OBSERVED).square().sum()).backward()
        regularization.regularize(net)
        optimizer.step()
        optimizer.zero_grad()  # a loop may do this here as well
        regularization.constrain(net, lr=0.3)
    torch.testing.assert_close(net.weight[0].detach(), torch.tensor(expected), rtol=1e-4, atol=1e-5)
    if word != "l2:0.5":
        assert (net.weight[0] == 0).tolist() == [False, True, True, False, True, False]


def test_the_subgradient_gives_no_zeros_where_the_proximal_step_does():
    zeros = {}
    for by in ("proximal", "subgradient"):
        torch.manual_seed(0)
        net = nn.Linear(50, 10)
        regularization = build(f"l1:0.05:{by}", net)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(200):
            x = torch.randn(32, 50)
            optimizer.zero_grad()
            (0.5 * (net(x) - x[:, :10]).square().sum(1).mean()).backward()
            regularization.regularize(net)
            optimizer.step()
            regularization.constrain(net, 0.1)
        zeros[by] = (net.weight == 0).float().mean().item()
    assert zeros["proximal"] > 0.5
    assert zeros["subgradient"] == 0


def test_l1_spares_biases_unless_told_otherwise():
    net = mixed()
    before = [p.detach().clone() for p in net.parameters()]
    build("l1:1", net).constrain(net, lr=100.0)
    chosen = {id(p) for p in weights_of(net)}
    for p, was in zip(net.parameters(), before, strict=True):
        assert (p == 0).all() if id(p) in chosen else torch.equal(p, was)
    build("l1:1:on=all", net).constrain(net, lr=100.0)
    assert all((p == 0).all() for p in net.parameters())


def test_max_norm_is_torch_s_renorm():
    net = mixed()
    before = copy.deepcopy(net)
    regularization = build("max_norm:0.5", net)
    for p in weights_of(before):
        p.data.mul_(0.3 * (1 + torch.arange(p.shape[0])).reshape(-1, *[1] * (p.ndim - 1)))  # some short, some long
    net.load_state_dict(before.state_dict())
    regularization.constrain(net, lr=0.1)
    for place in (0, 3, 5, 10, 12):
        expected = torch.renorm(before[place].weight.detach(), 2, 0, 0.5)
        torch.testing.assert_close(net[place].weight.detach(), expected)
        assert torch.equal(net[place].bias, before[place].bias)
        norms = net[place].weight.detach().flatten(1).norm(dim=1)
        assert norms.max() == pytest.approx(0.5, rel=1e-5)
    assert any((net[place].weight.flatten(1).norm(dim=1) < 0.49).any() for place in (0, 3, 5, 10, 12))
    assert torch.equal(net[1].weight, before[1].weight)
    assert torch.equal(net[6].weight, before[6].weight)
    once = copy.deepcopy(net.state_dict())
    regularization.constrain(net, lr=0.1)
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, once[key])


def test_max_norm_of_a_transposed_convolution_is_by_outputs():
    net = nn.ConvTranspose2d(8, 6, 3, groups=2)
    w = net.weight.detach().clone()
    assert build("max_norm:0.4", net).changes == ("max_norm: 0.4 for each of 6 units of 1 weight",)
    build("max_norm:0.4", net).constrain(net, lr=0.1)
    for unit in range(6):
        group, inside = divmod(unit, 3)
        incoming = w[4 * group : 4 * group + 4, inside]
        expected = incoming * min(1.0, 0.4 / incoming.norm().item())
        torch.testing.assert_close(net.weight[4 * group : 4 * group + 4, inside].detach(), expected)
    assert not torch.equal(net.weight, w)


def test_max_norm_leaves_zeros_and_the_layout_of_memory():
    net = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    net.weight.data[0] = 0
    build("max_norm:0.1", net).constrain(net, lr=0.1)
    assert (net.weight[0] == 0).all()
    assert net.weight[1].detach().norm() == pytest.approx(0.1, rel=1e-5)
    assert net.weight.is_contiguous(memory_format=torch.channels_last)


def test_noise_on_gradients_has_its_deviation_and_goes_to_all_that_moves():
    net = nn.Sequential(nn.Linear(400, 300), nn.BatchNorm1d(300), nn.Linear(300, 400))
    net[2].weight.requires_grad_(False)
    net(torch.randn(4, 400)).sum().backward()
    net[1].bias.grad = None
    before = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    torch.manual_seed(0)
    build("gradient_noise:0.2", net).regularize(net)
    added = {name: p.grad - before[name] for name, p in net.named_parameters() if p.grad is not None}
    assert set(added) == {"0.weight", "0.bias", "1.weight", "2.bias"}
    assert all(g.std() == pytest.approx(0.2, rel=0.2) for g in added.values())
    noise = added["0.weight"]  # 120,000 values: bounds of 5 standard errors
    assert abs(noise.mean()) < 5 * 0.2 / 120_000**0.5
    assert noise.std() == pytest.approx(0.2, rel=5 / 240_000**0.5)
    assert noise.square().square().mean() == pytest.approx(3 * 0.2**4, rel=0.05)  # normal, and not uniform


# In the network: places and distributions.


def test_dropout_before_the_scores_is_inverted():
    net = model("resnet20")
    assert build("dropout:0.3", net).changes == ("dropout: 0.3 before head",)
    x = torch.rand(64, 3, 32, 32)
    values = seen_before(net, "head", x)  # what left the global mean is above 0
    kept = values != 0
    assert kept.float().mean() == pytest.approx(0.7, abs=5 * (0.21 / values.numel()) ** 0.5)
    net.get_submodule("head").before_dropout.p = 0.0
    whole = seen_before(net, "head", x)
    torch.testing.assert_close(values[kept], whole[kept] / 0.7)


def test_dropout_is_set_where_the_authors_have_it():
    net = model("squeezenet_small")
    build("dropout:0.2", net)
    assert [module.p for module in net.modules() if isinstance(module, nn.Dropout)] == [0.2]
    build("dropout:0.4:head", net)
    assert (net.drop.p, net.head.before_dropout.p) == (0.2, 0.4)


def test_dropout_before_linear_layers_but_the_first():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 2))
    assert build("dropout:0.4:linear", net).changes == ("dropout: 0.4 before 3, 5",)
    assert [hasattr(net[place], "before_dropout") for place in (1, 3, 5)] == [False, True, True]


def test_words_again_change_what_is_there_and_add_nothing():
    net = mixed()
    words = "dropout:0.9,channel_dropout:0.9,noise:9,activation_noise:9,drop_block:0.9,drop_connect:0.9"
    build(words, net)
    build("dropout:0,channel_dropout:0,noise:0,activation_noise:0,drop_block:0,drop_connect:0", net)
    net.train()
    assert torch.equal(net(batch()), mixed().train()(batch()))
    before = [len(module._forward_pre_hooks) for module in net.modules()]
    build(words, net)
    assert [len(module._forward_pre_hooks) for module in net.modules()] == before


class Auxiliary(nn.Module):
    """A head on the way, with dropout of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 8)
        self.auxiliary1 = nn.Sequential(nn.Dropout(0.7), nn.Linear(8, 3))
        self.head = nn.Linear(8, 3)


def test_auxiliary_heads_keep_their_own():
    net = Auxiliary()
    assert build("dropout:0.2", net).changes == ("dropout: 0.2 before head",)
    assert net.auxiliary1[0].p == 0.7
    assert build("drop_connect:0.2", net).changes[0].startswith("drop_connect: 0.2 of the connections of body;")
    assert type(net.auxiliary1[1]) is type(net.head) is nn.Linear
    assert build("activation_noise:0.2", net).changes[0].endswith("before head")


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_channel_dropout_silences_whole_maps_before_inner_convolutions(dimensions):
    net = mixed(dimensions)
    net[2] = nn.Identity()  # of the normalised values none is 0
    assert build("channel_dropout:0.25", net).changes == ("channel_dropout: 0.25 before 3",)
    torch.manual_seed(0)
    x = seen_before(net, "3", batch(dimensions, count=400)).flatten(2)  # (B, 8, pixels)
    silent = (x == 0).all(2)
    assert torch.equal(silent, (x == 0).any(2))  # a map is silent whole
    assert silent.float().mean() == pytest.approx(0.25, abs=5 * (0.1875 / silent.numel()) ** 0.5)
    assert len({tuple(row) for row in silent.tolist()}) > 20  # each example its own


def test_channel_dropout_on_residual_networks_stands_in_the_branches():
    net = model("resnet20")
    build("channel_dropout:0.2", net)
    having = [name for name, module in net.named_modules() if hasattr(module, "before_channel_dropout")]
    assert len(having) == 18
    assert all(".conv" in name for name in having)
    fewer = model("resnet20")
    build("channel_dropout:0.2:deepest=0.25", fewer)
    assert [name for name, module in fewer.named_modules() if hasattr(module, "before_channel_dropout")] == having[13:]


def test_convolutions_of_one_pixel_where_there_are_no_others():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 1), nn.Flatten(), nn.Linear(8, 2))
    assert build("channel_dropout", net).changes == ("channel_dropout: 0.1 before 1",)


def test_drop_block_stands_before_the_deeper_half():
    net = model("resnet20")
    build("drop_block:0.3:2", net)
    having = [name for name, module in net.named_modules() if isinstance(module, DropBlock)]
    assert having[0] == "stages.1.1.conv2.before_drop_block"
    assert len(having) == 9
    x = seen_before(net, "stages.2.0.conv2", torch.rand(16, 3, 32, 32))
    net.eval()
    whole = seen_before(net, "stages.2.0.conv2", torch.rand(16, 3, 32, 32))
    silent = (x == 0).float().mean() - (whole == 0).float().mean() * (x != 0).float().mean()
    assert silent > 0.05
    build("drop_block:0.2:3", net)
    blocks = [module for module in net.modules() if isinstance(module, DropBlock)]
    assert [(block.drop, block.side) for block in blocks] == [(0.2, 3)] * 9


def test_drop_connect_on_hidden_linear_layers_or_the_only_one():
    net = mixed()
    (line,) = build("drop_connect:0.3:batch", net).changes
    assert line == "drop_connect: 0.3 of the connections of 10; masks of 18.5 kB a batch"
    assert (net[10].drop, net[10].per, type(net[12])) == (0.3, "batch", nn.Linear)
    for at, expected in (("head", [False, True]), ("all", [True, True])):
        net = mixed()
        build(f"drop_connect:at={at}", net)
        assert [isinstance(net[place], DropConnect) for place in (10, 12)] == expected
    net = model("resnet20")
    build("drop_connect:0.5", net)
    assert isinstance(net.head, DropConnect)


def test_drop_connect_has_the_expected_result_of_the_layer():
    net = nn.Sequential(nn.Linear(30, 3), nn.Linear(3, 2))
    torch.manual_seed(0)
    x = torch.randn(30)
    build("drop_connect:0.4", net)
    y = net[0](x.expand(20_000, 30)).detach()
    expected = F.linear(x, net[0].weight, net[0].bias)
    products = torch.cat([net[0].weight * x, net[0].bias[:, None]], 1)
    deviation = (0.4 / 0.6 * products.square().sum(1)).sqrt()
    assert ((y.mean(0) - expected).abs() < 5 * deviation / 20_000**0.5).all()
    torch.testing.assert_close(y.std(0), deviation.detach(), rtol=0.05, atol=0)


def test_stochastic_depth_leaves_out_deeper_blocks_more_often():
    net = model("resnet20")
    build("stochastic_depth:0.9:sample", net)
    paths = [module for module in net.modules() if isinstance(module, DropPath)]
    torch.testing.assert_close([path.drop for path in paths], [0.1 * number for number in range(1, 10)])
    assert {(path.per, path.scale) for path in paths} == {("sample", "training")}
    build("stochastic_depth:0.2:decay=constant", net)
    assert [path.drop for path in paths] == [0.2] * 9


def test_noise_on_inputs_is_added_and_normal():
    net = nn.Sequential(nn.Flatten(), nn.Linear(400, 2))
    build("noise:0.3", net)
    x = torch.full((250, 1, 20, 20), 2.0)
    torch.manual_seed(0)
    seen = seen_before(net, "1", x) - 2
    many = seen.numel()
    assert abs(seen.mean()) < 5 * 0.3 / many**0.5
    assert seen.std() == pytest.approx(0.3, rel=5 / (2 * many) ** 0.5)
    assert seen.pow(4).mean() == pytest.approx(3 * 0.3**4, rel=0.06)


def test_noise_on_activations_is_in_proportion():
    net = nn.Sequential(nn.Identity(), nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    net[1].weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.0]]))
    build("activation_noise:0.5", net)
    torch.manual_seed(0)
    seen = seen_before(net, "2", torch.ones(50_000, 2))
    assert (seen[:, 1] == 0).all()
    assert seen[:, 0].mean() == pytest.approx(3, abs=5 * 1.5 / 50_000**0.5)
    assert seen[:, 0].std() == pytest.approx(1.5, rel=5 / 100_000**0.5)
    assert torch.equal(seen_before(net, "1", torch.ones(5, 2)), torch.ones(5, 2))


def test_everything_together_trains():
    torch.manual_seed(0)
    net = model("resnet20")
    words = "elastic:1e-5:1e-4,max_norm:1,dropout:0.1,channel_dropout:0.01,drop_block:0.01:3,drop_connect:0.1"
    regularization = build(f"{words},stochastic_depth:0.1,noise:0.05,activation_noise:0.02,gradient_noise:1e-4", net)
    assert len(regularization.changes) == 10
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    y = torch.arange(20) % 5
    x = torch.randn(20, 3, 8, 8) + y.reshape(-1, 1, 1, 1)
    net.train()
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        regularization.regularize(net)
        optimizer.step()
        regularization.constrain(net, 0.05)
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert max(p.flatten(1).norm(dim=1).max().item() for _, p in held(net)) <= 1 + 1e-5
    assert any((p == 0).any() for _, p in held(net))


# The recipe's settings, and what is refused.


def test_settings_that_stand_elsewhere():
    words = ("label_smoothing:0.2", "mixup", "early_stopping", "l2")
    expected = {"training.label_smoothing": 0.2, "augment": ("mixup:0.2",), "training.patience": 5}
    assert regularizers.settings(words) == expected
    built = build(words, mixed())
    assert built.settings == expected
    assert [line.partition(": ")[2] for line in built.changes[:3]] == [
        "sets label_smoothing 0.2",
        "adds mixup:0.2 to augment",
        "sets patience 5",
    ]


def test_the_words_that_are_decay():
    assert regularizers.replaces_decay("l1,elastic,max_norm,dropout") == ["elastic"]
    assert regularizers.replaces_decay("") == []


WRONG = [
    ("droput:0.5", "not known"),
    ("dropout:1", "drop cannot be 1"),
    ("dropout:-0.1", "drop cannot be -0.1"),
    ("dropout:half", "drop cannot be 'half'"),
    ("dropout:0.5:tail", "at cannot be 'tail'"),
    ("dropout:p=0.5", "no setting 'p'"),
    ("channel_dropout:1.5", "drop cannot be 1.5"),
    ("channel_dropout:0.1:0", "deepest cannot be 0"),
    ("drop_block:0.1:0", "side cannot be 0"),
    ("drop_block:0.1:2.5", "side cannot be 2.5"),
    ("drop_block:1", "drop cannot be 1"),
    ("drop_block:0.1:deepest=2", "deepest cannot be 2"),
    ("drop_connect:1", "drop cannot be 1"),
    ("drop_connect:0.5:image", "per cannot be 'image'"),
    ("drop_connect:at=tail", "at cannot be 'tail'"),
    ("stochastic_depth:1", "drop cannot be 1"),
    ("stochastic_depth:0.5:image", "per cannot be 'image'"),
    ("stochastic_depth:decay=square", "decay cannot be 'square'"),
    ("noise:-1", "deviation cannot be -1"),
    ("activation_noise:-1", "deviation cannot be -1"),
    ("gradient_noise:-1", "deviation cannot be -1"),
    ("l1:-1", "strength cannot be -1"),
    ("l1:1e-5:newton", "by cannot be 'newton'"),
    ("l1:on=biases", "on cannot be 'biases'"),
    ("l2:much", "strength cannot be 'much'"),
    ("l2:on=biases", "on cannot be 'biases'"),
    ("elastic:-1", "l1 cannot be -1"),
    ("elastic:0:-1", "l2 cannot be -1"),
    ("elastic:on=biases", "on cannot be 'biases'"),
    ("max_norm:0", "largest cannot be 0"),
    ("label_smoothing:1", "share_spread cannot be 1"),
    ("mixup:0", "strength cannot be 0"),
    ("early_stopping:0", "patience cannot be 0"),
    ("early_stopping:1.5", "patience cannot be 1.5"),
    ("l1:1:proximal:all:5", "more settings"),
    ("l2,l2:1e-3", "given twice"),
    ("l1,elastic", "elastic and l1"),
    ("elastic,l2", "elastic and l2"),
]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_is_refused_before_anything_is_built(words, said):
    with pytest.raises(UserError, match=said):
        check(words)
    net = mixed()
    with pytest.raises(UserError, match=said):
        build(f"dropout:0.1,{words}" if not words.startswith("drop") else words, net)
    assert not any(hasattr(module, "before_dropout") for module in net.modules())


@pytest.mark.parametrize("optimizer", ["lbfgs", "newton", "hessian_free", "bfgs"])
def test_what_a_searching_optimiser_would_not_see(optimizer):
    for word in STEPS:
        with pytest.raises(UserError, match=f"{word} does not go with {optimizer}"):
            check(word, optimizer=optimizer)
    check([*INSIDE, *ELSEWHERE], optimizer=optimizer)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "nesterov_lookahead"])
def test_every_other_optimiser_takes_them_all(optimizer):
    check([name for name in NAMES if name not in ("l1", "l2")], optimizer=optimizer)


IMPOSSIBLE = [
    ("stochastic_depth", lambda: nn.Linear(2, 2), "none"),
    ("channel_dropout", lambda: nn.Linear(2, 2), "none but its first"),
    ("drop_block", lambda: nn.Conv2d(1, 2, 3), "none but its first"),
    ("drop_connect", lambda: nn.Conv2d(1, 2, 3), "no linear layer"),
    ("drop_connect:at=head", lambda: nn.Sequential(nn.Linear(4, 4), nn.Conv2d(1, 2, 3)), "gives scores"),
    ("dropout:at=linear", lambda: nn.Sequential(nn.Linear(2, 2)), "no linear layer but its first"),
    ("dropout", lambda: nn.ReLU(), "no convolution and no linear layer"),
    ("activation_noise", lambda: nn.Linear(2, 2), "single layer"),
    ("l1", lambda: nn.BatchNorm1d(3), "no weights"),
    ("l2", lambda: nn.BatchNorm1d(3), "no weights"),
    ("elastic", lambda: nn.BatchNorm1d(3), "no weights"),
    ("max_norm", lambda: nn.BatchNorm1d(3), "no weights"),
    ("gradient_noise", lambda: nn.ReLU(), "no parameters"),
    ("l2:on=all", lambda: nn.ReLU(), "no parameters"),
]


@pytest.mark.parametrize(("word", "make", "said"), IMPOSSIBLE)
def test_a_network_without_what_the_word_is_about_is_refused(word, make, said):
    with pytest.raises(UserError, match=said):
        build(word, make())
