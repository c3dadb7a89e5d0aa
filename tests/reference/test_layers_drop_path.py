"""Drop path: its expectations in closed form, its distribution, its time, and its place in every residual network."""

import pytest
import torch
from torch import Tensor, nn

from engram import models
from engram.errors import UserError
from engram.layers.drop_path import DropPath, add_stochastic_depth, shares
from engram.models.resnet import Block


def given(net: nn.Module) -> list[DropPath]:
    return [module for module in net.modules() if isinstance(module, DropPath)]


@pytest.mark.parametrize("scale", ["test", "training"])
def test_samples_are_left_out_each_by_itself_and_whole(scale: str) -> None:
    """Of 20,000 the share, and that of two survivors in a row, is within 5 standard deviations."""
    torch.manual_seed(0)
    y = DropPath(0.3, per="sample", scale=scale)(torch.ones(20_000, 2, 3))
    value = y[:, 0, 0]
    assert torch.equal(y, value[:, None, None].expand_as(y))
    torch.testing.assert_close(value.unique(), torch.tensor([0.0, 1.0 if scale == "test" else 1 / 0.7]))
    survives = value > 0
    assert abs(survives.float().mean().item() - 0.7) < 5 * (0.7 * 0.3 / 20_000) ** 0.5
    both = (survives[1:] & survives[:-1]).float().mean().item()
    assert abs(both - 0.49) < 5 * (0.49 * 0.51 / 20_000) ** 0.5


@pytest.mark.parametrize("scale", ["test", "training"])
@pytest.mark.parametrize("way", ["forward", "add"])
def test_a_batch_is_left_out_as_one(scale: str, way: str) -> None:
    torch.manual_seed(0)
    path, seen = DropPath(0.3, per="batch", scale=scale), []
    for _ in range(5_000):
        x = torch.ones(3, 2)
        y = path(x) if way == "forward" else path.add(x, lambda x: x, torch.zeros_like)
        assert (y == y[0, 0]).all()
        seen.append(y[0, 0])
    values = torch.stack(seen)
    torch.testing.assert_close(values.unique(), torch.tensor([0.0, 1.0 if scale == "test" else 1 / 0.7]))
    assert abs((values > 0).float().mean().item() - 0.7) < 5 * (0.7 * 0.3 / 5_000) ** 0.5


@pytest.mark.parametrize("per", ["batch", "sample"])
@pytest.mark.parametrize(("scale", "expected"), [("test", 0.7), ("training", 1.0)])
def test_evaluation_is_the_expectation(per: str, scale: str, expected: float) -> None:
    path = DropPath(0.3, per=per, scale=scale).eval()
    x = torch.randn(4, 3)
    torch.testing.assert_close(path(x), expected * x)
    torch.testing.assert_close(path.add(x, torch.square, torch.negative), expected * x**2 - x)


def test_samples_reach_the_sum_too() -> None:
    torch.manual_seed(0)
    x = torch.ones(2_000, 1)
    y = DropPath(0.3, per="sample", scale="training").add(x, torch.square, torch.negative)
    torch.testing.assert_close(y.unique(), torch.tensor([-1.0, 1 / 0.7 - 1]))


def test_a_branch_left_out_is_not_computed() -> None:
    torch.manual_seed(0)
    calls, outputs = 0, []

    def branch(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return x

    path = DropPath(0.5, per="batch", scale="test")
    for _ in range(100):
        outputs.append(path.add(torch.ones(1), branch, torch.zeros_like).item())
    assert calls == sum(outputs)
    assert 25 < calls < 75


def test_without_a_share_nothing_is_drawn_or_left_out() -> None:
    before = torch.get_rng_state()
    x = torch.randn(3)
    state = torch.get_rng_state()
    path = DropPath(per="batch", scale="test")
    assert torch.equal(path(x), x)
    assert torch.equal(path.add(x, torch.square, torch.negative), x**2 - x)
    assert torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(before)


def test_shares_grow_linearly_and_forty_and_a_quarter_blocks_are_expected() -> None:
    drops = shares(54, 0.5)
    assert drops == pytest.approx([0.5 * number / 54 for number in range(1, 55)])
    assert 54 - sum(drops) == pytest.approx(40.25)
    assert shares(3, 0.2, "constant") == [0.2, 0.2, 0.2]
    (line,) = add_stochastic_depth(models.build("resnet110", shape=(3, 32, 32), num_classes=10), 0.5)
    assert "54 residual blocks" in line
    assert "40.25 expected" in line


def test_blocks_ran_are_as_expected() -> None:
    """Mean of 400 steps of 54 blocks: within 5 standard deviations of 40.25."""
    torch.manual_seed(0)
    with torch.device("meta"):
        net = models.build("stochastic_depth_110", shape=(3, 32, 32), num_classes=10)
    paths = given(net)
    assert [path.drop for path in paths] == pytest.approx(shares(54, 0.5))
    assert {(path.per, path.scale) for path in paths} == {("batch", "test")}
    x, ran = torch.zeros(1), 0.0
    for _ in range(400):
        ran += sum(path.add(x, torch.ones_like, torch.zeros_like).item() for path in paths)
    deviation = (sum(path.drop * (1 - path.drop) for path in paths) / 400) ** 0.5
    assert abs(ran / 400 - 40.25) < 5 * deviation


def test_the_papers_networks_take_their_settings() -> None:
    settings = {"drop": 0.2, "decay": "constant", "per": "sample", "scale": "training", "shortcut": "B"}
    net = models.build("stochastic_depth_20", shape=(3, 8, 8), num_classes=5, settings=settings)
    assert [(path.drop, path.per, path.scale) for path in given(net)] == [(0.2, "sample", "training")] * 9
    assert "stages.1.0.shortcut.0.weight" in net.state_dict()


@pytest.mark.parametrize(("name", "blocks"), [("preact_resnet_56", 27), ("resnext_small", 9), ("residual_mlp", 8)])
def test_every_residual_family_takes_it(name: str, blocks: int) -> None:
    net = models.build(name, shape=(3, 8, 8), num_classes=5)
    (line,) = add_stochastic_depth(net, 0.5)
    assert f"{blocks} residual blocks" in line
    assert [path.drop for path in given(net)] == pytest.approx(shares(blocks, 0.5))


def test_at_test_every_branch_is_weighed_by_its_share() -> None:
    net = models.build("stochastic_depth_20", shape=(3, 8, 8), num_classes=5).eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        y = net.stem(x)
        for number, block in enumerate(block for stage in net.stages for block in stage):
            assert isinstance(block, Block)
            y = (block.shortcut(y) + (1 - 0.5 * (number + 1) / 9) * block.branch(y)).clamp_min(0)
        torch.testing.assert_close(net(x), net.head(y.mean((2, 3))))


def test_a_network_is_the_sum_of_what_is_left() -> None:
    """With everything but the stem left out, only shortcuts remain, and their branches learn and normalise nothing."""
    net = models.build("resnet20", shape=(3, 8, 8), num_classes=5)
    add_stochastic_depth(net, 1 - 1e-9, decay="constant")
    net(torch.randn(4, 3, 8, 8)).sum().backward()
    assert {name.partition(".")[0] for name, p in net.named_parameters() if p.grad is not None} == {"stem", "head"}
    counts = {name: int(b) for name, b in net.named_buffers() if name.endswith("num_batches_tracked")}
    assert {name for name, count in counts.items() if count} == {"stem.1.num_batches_tracked"}


def test_it_is_put_on_by_name_and_leaves_weights_their_names() -> None:
    torch.manual_seed(0)
    plain = models.build("resnet20", shape=(3, 8, 8), num_classes=5)
    names = list(plain.state_dict())
    add_stochastic_depth(plain, 0.3, per="sample", scale="training")
    assert list(plain.state_dict()) == names
    assert [(path.per, path.scale) for path in given(plain)] == [("sample", "training")] * 9
    x = torch.randn(2, 3, 8, 8)
    before = models.build("resnet20", shape=(3, 8, 8), num_classes=5)
    before.load_state_dict(plain.state_dict())
    with torch.no_grad():  # scaled while training: a trained network is used as it is
        assert torch.equal(plain.eval()(x), before.eval()(x))


@pytest.mark.parametrize("name", ["lenet5", "plain20", "mlp"])
def test_networks_without_residual_branches_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="residual branches"):
        add_stochastic_depth(models.build(name, shape=(1, 28, 28), num_classes=10), 0.5)


@pytest.mark.parametrize("settings", [{"drop": 1.0}, {"drop": -0.1}, {"per": "image"}, {"scale": "always"}])
def test_refuses_what_makes_no_sense(settings: dict) -> None:
    with pytest.raises(UserError):
        DropPath(**settings)
    with pytest.raises(UserError):
        add_stochastic_depth(models.build("resnet20", shape=(3, 8, 8), num_classes=5), **{"drop": 0.5, **settings})


def test_refuses_an_unknown_decay() -> None:
    with pytest.raises(UserError, match="did you mean: linear"):
        shares(3, 0.5, "linea")


def test_costs_are_counted_whole_on_the_meta_device() -> None:
    path = DropPath(1 - 1e-9, per="batch", scale="test")
    assert path.add(torch.zeros(2, device="meta"), lambda x: x.repeat(2), lambda x: x.repeat(2)).shape == (4,)
    calls = []
    path.add(torch.zeros(2, device="meta"), lambda x: calls.append(1) or x, lambda x: x)
    assert calls
