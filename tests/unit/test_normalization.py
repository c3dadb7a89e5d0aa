"""Batch normalisation folded, recalibrated and frozen: against formulas in float64 and on networks of every kind."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import models
from engram.errors import UserError
from engram.normalization import (
    FrozenBatchNorm2d,
    fold_batch_norm,
    freeze_batch_norm,
    recalibrate,
    unfreeze_batch_norm,
)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed))


def lived_in(net: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics, scales and shifts as after training: none of them what it starts as."""
    generator = rng(seed)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.running_mean is not None:
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
            for p in module.parameters():
                nn.init.uniform_(p, 0.5, 1.5, generator=generator)
    return net


def norms(net: nn.Module) -> list[str]:
    return [name for name, module in net.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def check_folded(net: nn.Module, x: Tensor):
    before = copy.deepcopy(net.state_dict())
    net.train()
    result = fold_batch_norm(net, x)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert sorted([*result.folded, *result.left]) == sorted(norms(net))
    assert sorted(norms(result.net)) == sorted(result.left)
    assert not result.net.training
    other = noise(*x.shape, seed=7).to(x.dtype)
    with torch.no_grad():
        expected, given = net.eval()(other), result.net(other)
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-5 * expected.abs().max().clamp(min=1).item())
    return result


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False, "scale"])
@pytest.mark.parametrize("dimensions", [0, 1, 2, 3])
def test_the_folded_weights_are_the_formula(dimensions, affine, bias):
    settings = {"affine": bool(affine), "bias": affine is True}
    if dimensions:
        convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
        layer: nn.Module = convolution(4, 6, 3, stride=2, padding=1, groups=2, bias=bias)
    else:
        layer = nn.Linear(4, 6, bias=bias)
    norm = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dimensions](6, eps=0.01, **settings)
    net = lived_in(nn.Sequential(layer, norm, nn.ReLU())).double()
    net[0].weight.requires_grad_(False)
    result = check_folded(net, noise(2, 4, *[7] * dimensions).double())
    assert result.folded == {"1": "0"}
    scale = (norm.running_var + 0.01) ** -0.5
    scale = scale * norm.weight if affine else scale
    shift = norm.bias if affine is True else 0
    before = layer.bias if bias else 0
    torch.testing.assert_close(
        result.net[0].weight, layer.weight * scale.view(-1, *[1] * (layer.weight.dim() - 1)), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(result.net[0].bias, shift + scale * (before - norm.running_mean), rtol=0, atol=1e-12)
    assert not result.net[0].weight.requires_grad


@pytest.mark.parametrize(
    ("name", "shape", "left"),
    [
        ("resnet20", (3, 16, 16), 0),
        ("resnet20", (3, 16), 0),
        ("resnet20", (2, 8, 8, 8), 0),
        ("plain20", (1, 16, 16), 0),
        ("nin_small", (3, 16, 16), 0),
    ],
)
def test_networks_give_the_same_without_their_norms(name, shape, left):
    net = lived_in(models.build(name, shape=shape, num_classes=5, rng=rng()))
    result = check_folded(net, noise(2, *shape))
    assert len(result.left) == left
    assert len(result.folded) >= 8


def test_an_mlp_gives_the_same_without_its_norms():
    net = models.build(
        "mlp", shape=(1, 6, 6), num_classes=5, settings={"batch_norm": True, "widths": (9, 8)}, rng=rng()
    )
    result = check_folded(lived_in(net), noise(4, 1, 6, 6))
    assert len(result.folded) == 2
    assert not result.left


class PreActivation(nn.Module):
    """x + conv2(relu(norm2(conv1(relu(norm1(x))))))."""

    def __init__(self):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(y)))


def test_of_a_pre_activation_block_only_the_inner_norm_folds():
    net = lived_in(nn.Sequential(nn.Conv2d(3, 4, 3), PreActivation(), PreActivation(), nn.BatchNorm2d(4)))
    result = check_folded(net, noise(2, 3, 8, 8))
    assert result.folded == {"1.norm2": "1.conv1", "2.norm2": "2.conv1"}
    assert set(result.left) == {"1.norm1", "2.norm1", "3"}
    assert result.left["1.norm1"] == "what 0 gives is used elsewhere too"  # the shortcut takes it as well
    assert result.left["3"] == "no convolution or linear layer stands directly before it"


class Concatenated(nn.Module):
    """norm over two convolutions' outputs side by side, as in DenseNet."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Conv2d(3, 2, 3), nn.Conv2d(3, 2, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.cat([self.a(x), self.b(x)], 1))


class Twice(nn.Module):
    def __init__(self, which: str):
        super().__init__()
        self.conv, self.norm, self.which = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), which

    def forward(self, x: Tensor) -> Tensor:
        if self.which == "norm":
            return self.norm(self.norm(self.conv(x)))
        return self.conv(self.norm(self.conv(x)))


class Between(nn.Module):
    """Something without parameters between convolution and norm."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2


def shared_weights() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3))
    net[2].weight = net[0].weight
    return net


class Unused(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return self[0](x)


class Returned(nn.Sequential):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self[0](x)
        return y, self[1](y)


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Concatenated(), "no convolution or linear layer stands directly before it"),
        (nn.Sequential(nn.Conv2d(3, 3, 3), Between(), nn.BatchNorm2d(3)), "no convolution or linear layer"),
        (nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(3)), "no convolution or linear"),
        (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3)), "no convolution or linear layer"),
        (Twice("norm"), "it is used 2 times"),
        (Twice("conv"), "conv before it is used 2 times"),
        (Unused(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)), "it is used 0 times"),
        (Returned(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)), "what 0 gives is used elsewhere too"),
        (shared_weights(), "0 before it shares its weights"),
        (nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)), "no running statistics"),
        (
            nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3)), nn.BatchNorm2d(3)),
            "0 before it is a ParametrizedConv2d",
        ),
        (nn.Sequential(nn.ConvTranspose2d(3, 3, 3), nn.BatchNorm2d(3)), "no convolution or linear layer"),
    ],
)
def test_what_cannot_be_folded_stays_and_says_why(net, reason):
    net = lived_in(net).train()
    result = fold_batch_norm(net, noise(2, 3, 8, 8))
    assert not result.folded
    assert len(result.left) == 1
    assert reason in next(iter(result.left.values()))
    x = noise(2, 3, 8, 8, seed=3)
    for before, after in zip(net.eval()(x), result.net(x), strict=True):
        torch.testing.assert_close(after, before, atol=0, rtol=0)


def test_a_linear_layer_along_another_axis_than_the_norms_channels_is_left():
    net = lived_in(nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)))  # (B, 6, 6): the norm takes the middle axis
    result = fold_batch_norm(net, noise(3, 6, 6))
    assert result.left == {"1": "the channels of 0 and of the norm are different axes"}


class OwnWays(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) + F.conv2d(x, self.conv.weight)


def test_a_network_that_uses_the_weights_in_ways_of_its_own_is_refused():
    with pytest.raises(UserError, match="uses a layer's weights in ways of its own"):
        fold_batch_norm(lived_in(OwnWays()), noise(2, 3, 8, 8))


def test_parameters_that_need_no_gradient_fold_too_and_stay_so():
    net = lived_in(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))).requires_grad_(False)
    result = fold_batch_norm(net, noise(1, 3, 8, 8))
    assert result.folded == {"1": "0"}
    assert not any(p.requires_grad for p in [*net.parameters(), *result.net.parameters()])


def population(net, upto, batches):
    """Mean and unbiased variance of what reaches a layer in evaluation mode, in float64."""
    net.eval()
    with torch.no_grad():
        values = torch.cat([net[:upto](x) for x in batches]).double().transpose(0, 1).flatten(1)
    return values.mean(1), values.var(1, correction=1)


def stack() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(4, 3, 3, bias=False),
        nn.BatchNorm2d(3),
    )
    return lived_in(net).train()


BATCHES = [noise(size, 2, 9, 9, seed=size) * size + size for size in (2, 7, 3)]  # unequal, and unlike each other


def test_the_first_norm_gets_the_statistics_of_the_population():
    net = stack()
    names = recalibrate(net, [(x, torch.zeros(len(x))) for x in BATCHES])
    assert names == ["1", "5"]
    mean, variance = population(net, 1, BATCHES)
    torch.testing.assert_close(net[1].running_mean.double(), mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(net[1].running_var.double(), variance, rtol=1e-5, atol=1e-5)
    assert int(net[1].num_batches_tracked) == 3


def test_in_one_pass_later_norms_see_earlier_ones_normalise_by_their_batch():
    net = stack()
    recalibrate(net, BATCHES)
    seen = []
    for x in BATCHES:
        y = net[0](x)
        mean, variance = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), correction=0, keepdim=True)
        y = (y - mean) / (variance + 1e-5).sqrt() * net[1].weight.view(1, -1, 1, 1) + net[1].bias.view(1, -1, 1, 1)
        seen.append(net[4](F.relu(y)))  # dropout is off
    values = torch.cat(seen).detach().double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(net[5].running_mean.double(), values.mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net[5].running_var.double(), values.var(1), rtol=1e-4, atol=1e-5)


def test_layer_by_layer_every_norm_gets_what_evaluation_shows_it():
    net = stack()
    assert recalibrate(net, BATCHES, layer_by_layer=True) == ["1", "5"]
    for place in (1, 5):
        mean, variance = population(net, place, BATCHES)
        torch.testing.assert_close(net[place].running_mean.double(), mean, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(net[place].running_var.double(), variance, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        outputs = torch.cat([net.eval()(x) for x in BATCHES]).double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(outputs.mean(1), net[5].bias.double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(outputs.std(1), net[5].weight.double(), rtol=1e-4, atol=1e-4)
    once = stack()
    recalibrate(once, BATCHES)
    assert not torch.allclose(once[5].running_mean, net[5].running_mean, rtol=1e-3)


def test_recalibration_changes_statistics_and_nothing_else():
    net = stack()
    net[2].eval()
    before, modes = copy.deepcopy(net.state_dict()), [module.training for module in net.modules()]
    state = torch.get_rng_state()
    recalibrate(net, BATCHES)
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) == ("running" not in name and "tracked" not in name), name
    assert net[1].track_running_stats
    assert not net[1]._forward_pre_hooks
    assert all(p.grad is None for p in net.parameters())
    again = stack()
    recalibrate(again, [torch.cat(BATCHES)])
    torch.testing.assert_close(again[1].running_var, net[1].running_var)  # however the examples are parted


def test_a_fault_while_recalibrating_leaves_the_network_as_it_was():
    net = stack()
    before = copy.deepcopy(net.state_dict())

    def faulty():
        yield BATCHES[0]
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        recalibrate(net, faulty())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    assert net[5].track_running_stats


def test_recalibration_refuses_what_it_cannot_measure():
    with pytest.raises(UserError, match="no examples came"):
        recalibrate(stack(), [])
    with pytest.raises(UserError, match="no examples came"):
        recalibrate(stack(), iter(BATCHES), layer_by_layer=True)  # gone after the first pass
    with pytest.raises(UserError, match="a batch of 1"):
        recalibrate(nn.Sequential(nn.BatchNorm1d(3)), [torch.zeros(1, 3)])
    batchwise = nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False))
    assert recalibrate(batchwise, BATCHES) == []


@pytest.mark.parametrize(("scale", "dimensions"), [(False, 1), (True, 2), (False, 3)])
def test_a_frozen_norm_is_a_scale_and_a_shift_in_training(scale, dimensions):
    kind = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dimensions - 1]
    net = lived_in(nn.Sequential(kind(3))).double()
    norm = net[0]
    before = copy.deepcopy(net.state_dict())
    assert freeze_batch_norm(net, scale=scale) == ["0"]
    net.train()
    x = noise(4, 3, *[5] * dimensions).double().requires_grad_()
    up = noise(4, 3, *[5] * dimensions, seed=1).double()
    shape = (1, 3, *[1] * dimensions)
    factor = (norm.weight * (norm.running_var + norm.eps) ** -0.5).view(shape)
    y = net(x)
    torch.testing.assert_close(y, factor * (x - norm.running_mean.view(shape)) + norm.bias.view(shape))
    y.backward(up)
    torch.testing.assert_close(x.grad, factor.detach() * up)  # nothing through mean and variance
    axes = (0, *range(2, 2 + dimensions))
    if scale:
        assert norm.weight.grad is None
        assert norm.bias.grad is None
    else:
        torch.testing.assert_close(norm.bias.grad, up.sum(axes))
        normalized = (x - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
        torch.testing.assert_close(norm.weight.grad, (up * normalized).sum(axes).detach())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.state_dict().keys() == before.keys()


def test_a_frozen_network_can_be_copied_saved_folded_and_let_go():
    net = lived_in(models.build("resnet20", shape=(3, 8, 8), num_classes=5, rng=rng()))
    reference = copy.deepcopy(net).eval()
    names = freeze_batch_norm(net, scale=True)
    assert names == norms(net)
    x = noise(4, 3, 8, 8)
    for version in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        version.train()
        torch.testing.assert_close(version(x), reference(x), atol=1e-5, rtol=0)
        assert isinstance(version.get_submodule(names[0]), FrozenBatchNorm2d)
    assert len(fold_batch_norm(net, x).folded) == len(names)
    assert freeze_batch_norm(net) == names  # again changes nothing
    assert unfreeze_batch_norm(net) == names
    norm = net.train().get_submodule(names[0])
    assert type(norm) is nn.BatchNorm2d
    assert norm.training
    assert all(p.requires_grad for p in net.parameters())
    held = norm.running_mean.clone()
    net(x)
    assert not torch.equal(norm.running_mean, held)


class OwnNorm(nn.BatchNorm2d):
    pass


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        (nn.BatchNorm2d(3, track_running_stats=False), "1 keeps no running statistics to hold"),
        (OwnNorm(3), "1 is a OwnNorm, which cannot be held"),
    ],
)
def test_norms_that_cannot_be_held_are_refused_before_any_is(norm, message):
    net = nn.Sequential(nn.BatchNorm2d(3), norm)
    with pytest.raises(UserError, match=message):
        freeze_batch_norm(net)
    assert type(net[0]) is nn.BatchNorm2d
