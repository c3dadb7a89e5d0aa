"""Averaged passes against the sum over every mask, what is switched on, and what disagreement means."""

import itertools

import pytest
import torch
from torch import nn

from engram.errors import UserError
from engram.layers.drop_block import DropBlock
from engram.layers.drop_connect import DropConnect
from engram.layers.drop_path import DropPath
from engram.layers.dropout import GaussianDropout
from engram.layers.fractional_pool import FractionalMaxPool
from engram.layers.monte_carlo import drawing, draws, monte_carlo
from engram.layers.noise import GaussianNoise
from engram.layers.stochastic_pool import StochasticPool

DRAWING = [
    *(nn.Dropout(), nn.Dropout1d(), nn.Dropout2d(), nn.Dropout3d(), nn.AlphaDropout(), nn.FeatureAlphaDropout()),
    *(nn.RReLU(), DropBlock(), DropConnect(2, 2), DropPath(0.5), GaussianDropout(), GaussianNoise()),
    *(StochasticPool(2), FractionalMaxPool()),
]


def test_it_is_the_mean_over_all_masks() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)).eval()
    x = torch.tensor([[2.0, -1.0, 3.0, 0.5]])
    every = torch.stack([net[1](2 * x * torch.tensor(mask)).softmax(1) for mask in itertools.product((0, 1), repeat=4)])
    averaged = monte_carlo(net, x, passes=3_000)
    mean, deviation = every.mean(0), every.std(0, correction=0)
    assert ((averaged.mean - mean).abs() < 5 * deviation / 3_000**0.5).all()
    torch.testing.assert_close(averaged.deviation, deviation, rtol=0.1, atol=0)
    entropy = -(mean * mean.log()).sum() + (every * every.log()).sum(2).mean()
    assert averaged.disagreement.item() == pytest.approx(entropy.item(), rel=0.1)
    assert not torch.allclose(mean, net(x).softmax(1), atol=0.02)  # what a single pass without masks gives


@pytest.mark.parametrize("layer", DRAWING, ids=lambda layer: type(layer).__name__)
def test_every_layer_that_draws_is_switched_on_alone(layer: nn.Module) -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), layer, nn.Sequential(nn.Linear(3, 3), layer)).eval()
    assert draws(layer)
    with drawing(net) as within:
        assert within is net
        assert [module for module in net.modules() if module.training] == [layer]
    assert not any(module.training for module in net.modules())


def test_what_was_training_trains_again_even_after_an_error() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout()).train()
    net[0].eval()
    with pytest.raises(ZeroDivisionError), drawing(net):
        raise ZeroDivisionError
    assert [module.training for module in net.modules()] == [True, False, True]


def test_normalisations_judge() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.2))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    x = 5 + torch.randn(8, 3)
    averaged = monte_carlo(net, x, passes=5)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert averaged.mean.shape == averaged.deviation.shape == (8, 3)
    assert not averaged.mean.requires_grad
    assert not monte_carlo(net, x, passes=1).deviation.any()  # over the passes there are, not one fewer


def test_where_nothing_draws_all_passes_agree() -> None:
    net = nn.Linear(4, 3)
    x = torch.randn(5, 4)
    averaged = monte_carlo(net, x, passes=4)
    torch.testing.assert_close(averaged.mean, net(x).softmax(1).detach())
    torch.testing.assert_close(averaged.deviation, torch.zeros(5, 3), rtol=0, atol=1e-6)
    torch.testing.assert_close(averaged.disagreement, torch.zeros(5), rtol=0, atol=1e-6)
    assert (averaged.disagreement >= 0).all()  # rounding is not let through


def test_passes_that_contradict_each_other_disagree_by_ln_2() -> None:
    """Two classes, each certain in half of the passes: the mean's entropy is ln 2, that of each pass 0."""
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(1, 2))
    net[1].weight.data.copy_(torch.tensor([[100.0], [-100.0]]))
    net[1].bias.data.copy_(torch.tensor([-100.0, 100.0]))
    torch.manual_seed(0)
    averaged = monte_carlo(net, torch.ones(1, 1), passes=2_000)
    assert averaged.disagreement.item() == pytest.approx(0.6931, abs=2e-3)
    assert averaged.deviation.tolist()[0] == pytest.approx([0.5, 0.5], abs=2e-3)


def test_the_gaussian_of_drop_connect_stays_that() -> None:
    net = nn.Sequential(DropConnect(4, 3, inference="gaussian"))
    with drawing(net):
        assert not net[0].training
    torch.manual_seed(0)
    assert (monte_carlo(net, torch.ones(2, 4), passes=5).disagreement > 0).all()


def test_refuses_no_pass_at_all() -> None:
    for passes in (0, -1, 1.5):
        with pytest.raises(UserError, match=f"passes cannot be {passes}"):
            monte_carlo(nn.Linear(2, 2), torch.ones(1, 2), passes=passes)  # type: ignore[arg-type]
