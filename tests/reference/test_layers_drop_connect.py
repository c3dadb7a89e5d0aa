"""DropConnect: its masks one by one and as a distribution, the paper's moments and inference, layers turned into it."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.errors import UserError
from engram.layers.drop_connect import DropConnect, draw_inputs, masked_linear, moments, sampled_inference


def example(units: int = 2, inputs: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    made = [torch.randn(*shape, dtype=torch.float64, generator=rng) for shape in ((inputs,), (units, inputs), (units,))]
    return made[0], made[1], made[2]


def every_result(x: Tensor, w: Tensor, b: Tensor, keep: float, factor: float) -> tuple[Tensor, Tensor]:
    """The mean and the variance of a unit's input over every mask there is, each with its chance."""
    terms = torch.cat([w * x, b[:, None]], 1)  # (out, in + 1)
    mean, square = torch.zeros(len(w), dtype=w.dtype), torch.zeros(len(w), dtype=w.dtype)
    for mask in itertools.product((0, 1), repeat=terms.shape[1]):
        chance = keep ** sum(mask) * (1 - keep) ** (len(mask) - sum(mask))
        value = factor * (terms * torch.tensor(mask)).sum(1)
        mean, square = mean + chance * value, square + chance * value**2
    return mean, square - mean**2


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("keep", [0.5, 0.8])
def test_the_moments_are_those_over_all_masks(keep: float, scaled: bool) -> None:
    x, w, b = example()
    mean, variance = moments(x, w, b, keep=keep, scaled=scaled)
    expected = every_result(x, w, b, keep, 1 / keep if scaled else 1.0)
    torch.testing.assert_close((mean, variance), expected)
    without, spread = moments(x, w, None, keep=keep, scaled=scaled)
    torch.testing.assert_close((without, spread), every_result(x, w, torch.zeros_like(b), keep, 1 / keep**scaled))


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("per", ["sample", "batch"])
def test_training_has_those_moments(per: str, scaled: bool) -> None:
    """Over many masks, within 5 standard errors of the mean and of the variance."""
    torch.manual_seed(0)
    many = 20_000 if per == "sample" else 3_000
    x, w, b = example(units=3, inputs=20)
    settings = {"keep": 0.7, "per": per, "scaled": scaled}
    if per == "sample":
        y = masked_linear(x.expand(many, 20), w, b, **settings)
    else:
        y = torch.stack([masked_linear(x[None], w, b, **settings)[0] for _ in range(many)])
    mean, variance = moments(x, w, b, keep=0.7, scaled=scaled)
    assert ((y.mean(0) - mean).abs() < 5 * (variance / many).sqrt()).all()
    assert ((y.var(0) / variance - 1).abs() < 5 * (2.5 / many) ** 0.5).all()
    units = torch.corrcoef(y.T) - torch.eye(3, dtype=y.dtype)
    assert units.abs().max() < 5 / many**0.5  # each unit's mask is its own


def test_every_example_has_its_own_mask_or_all_have_one() -> None:
    torch.manual_seed(0)
    x, w = torch.ones(500, 1), torch.ones(1, 1)
    alone = masked_linear(x, w, None, keep=0.5)[:, 0]
    assert set(alone.tolist()) == {0.0, 2.0}
    assert abs((alone > 0).float().mean().item() - 0.5) < 5 * 0.5 / 500**0.5
    together = [masked_linear(x, w, None, keep=0.5, per="batch") for _ in range(50)]
    assert all((y == y[0]).all() for y in together)
    assert {y[0].item() for y in together} == {0.0, 2.0}
    x = torch.ones(20, 50)
    assert len({tuple(row) for row in DropConnect(50, 2)(x).tolist()}) == 20
    torch.testing.assert_close(*DropConnect(50, 2, per="batch")(x)[:2])


def test_the_bias_drops_as_a_connection_does() -> None:
    torch.manual_seed(0)
    for per in ("sample", "batch"):
        seen = [masked_linear(torch.zeros(4, 1), torch.ones(1, 1), torch.ones(1), keep=0.5, per=per) for _ in range(99)]
        assert set(torch.cat(seen).flatten().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_a_silent_connection_is_neither_changed_nor_taught(per: str) -> None:
    torch.manual_seed(0)
    w = torch.randn(5, 6, requires_grad=True)
    before = w.detach().clone()
    masked_linear(torch.ones(1, 6), w, None, keep=0.5, per=per, scaled=False).sum().backward()
    assert w.grad is not None
    assert set(w.grad.flatten().tolist()) == {0.0, 1.0}  # the mask
    assert torch.equal(w.detach(), before)


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_any_shape_and_no_drop_is_the_linear_layer(per: str) -> None:
    layer = DropConnect(6, 5, drop=0.0, per=per).train()
    x = torch.randn(2, 3, 4, 6)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
    torch.testing.assert_close(masked_linear(x, layer.weight, layer.bias, keep=1.0, per=per), layer(x))
    assert DropConnect(6, 5, per=per)(x).shape == (2, 3, 4, 5)
    assert DropConnect(6, 5, bias=False, per=per)(x[0, 0]).shape == (4, 5)


def test_judging_is_the_expected_input() -> None:
    x = torch.randn(4, 6)
    for scaled, factor in ((True, 1.0), (False, 0.75)):
        layer = DropConnect(6, 5, drop=0.25, scaled=scaled).eval()
        torch.testing.assert_close(layer(x), factor * F.linear(x, layer.weight, layer.bias))
        torch.manual_seed(0)
        mean = layer.train()(x.repeat(3_000, 1)).view(3_000, 4, 5).mean(0)
        torch.testing.assert_close(mean, layer.eval()(x), rtol=0, atol=0.1)


def test_the_papers_inference_is_the_mean_of_a_normal_distribution() -> None:
    """E[relu(u)] = mean Phi(mean / deviation) + deviation phi(mean / deviation) for a normal u."""
    torch.manual_seed(0)
    x, w, b = example(units=4, inputs=30)
    r = sampled_inference(x[None], w, b, torch.relu, keep=0.5, draws=40_000)[0]
    mean, variance = moments(x, w, b, keep=0.5)
    z = mean / variance.sqrt()
    density = torch.exp(-z.square() / 2) / (2 * torch.pi) ** 0.5
    expected = mean * torch.special.ndtr(z) + variance.sqrt() * density
    assert ((r - expected).abs() < 5 * (variance / 40_000).sqrt()).all()
    assert (r > torch.relu(mean)).all()  # what multiplying by keep would give


def test_it_comes_closer_to_all_masks_than_the_expected_input_does() -> None:
    torch.manual_seed(0)
    x, w, b = example(units=40, inputs=100)
    truth = torch.relu(masked_linear(x.expand(4_000, 100), w, b, keep=0.5)).mean(0)
    sampled = sampled_inference(x[None], w, b, torch.relu, keep=0.5, draws=4_000)[0]
    expected = torch.relu(F.linear(x, w, b))
    assert (sampled - truth).abs().mean() < 0.2 * (expected - truth).abs().mean()


def test_draws_have_the_moments_and_a_normal_shape() -> None:
    torch.manual_seed(0)
    x, w, b = example(units=2, inputs=3)
    mean, variance = moments(x, w, b, keep=0.5, scaled=False)
    draws = draw_inputs(x, w, b, keep=0.5, scaled=False, draws=40_000)
    assert draws.shape == (40_000, 2)
    z = (draws - mean) / variance.sqrt()
    assert (z.mean(0).abs() < 5 / 40_000**0.5).all()
    assert ((z.var(0) - 1).abs() < 5 * (2 / 40_000) ** 0.5).all()
    assert ((z.pow(4).mean(0) - 3).abs() < 5 * (96 / 40_000) ** 0.5).all()


def test_a_layer_can_judge_by_draws() -> None:
    layer = DropConnect(30, 4, inference="gaussian").eval()
    x = torch.randn(1, 30)
    assert layer.draws_while_judging
    assert not DropConnect(30, 4).draws_while_judging
    assert not DropConnect(30, 4, drop=0.0, inference="gaussian").draws_while_judging
    torch.manual_seed(0)
    y = torch.stack([layer(x)[0] for _ in range(2_000)]).detach()
    mean, variance = moments(x[0], layer.weight, layer.bias, keep=0.5)
    assert ((y.mean(0) - mean).abs() < 5 * (variance / 2_000).sqrt()).all()
    torch.testing.assert_close(y.var(0), variance.detach(), rtol=0.15, atol=0)


def test_a_linear_layer_becomes_one_where_it_stands() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    weights, held = copy.deepcopy(net.state_dict()), net[0]
    assert DropConnect.into(net[0], drop=0.4, per="batch", scaled=False, inference="gaussian") is held
    assert isinstance(net[0], DropConnect)
    assert (net[0].drop, net[0].per, net[0].scaled, net[0].inference) == (0.4, "batch", False, "gaussian")
    assert list(net.state_dict()) == list(weights)
    assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())
    DropConnect.into(net[0], drop=0.1)
    assert (net[0].drop, net[0].per, net[0].scaled, net[0].inference) == (0.1, "sample", True, "mean")
    assert "drop=0.1, per=sample" in repr(copy.deepcopy(net))


def test_refuses() -> None:
    for drop in (1, -0.1):
        with pytest.raises(UserError, match=f"drop cannot be {drop}"):
            DropConnect(2, 2, drop=drop)
    with pytest.raises(UserError, match="'smaple' is not known"):
        DropConnect(2, 2, per="smaple")
    with pytest.raises(UserError, match="'median' is not known"):
        DropConnect(2, 2, inference="median")
    with pytest.raises(UserError, match="a Conv2d cannot drop connections"):
        DropConnect.into(nn.Conv2d(1, 1, 1), drop=0.5)  # type: ignore[arg-type]
