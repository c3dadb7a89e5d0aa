"""Which weights decay, and how the gradient's length is bounded."""

import pytest
import torch
from torch import nn

from engram.regularizers import clip_norm, decay_groups


def test_biases_and_norms_are_not_decayed_and_the_order_is_kept():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(4, 2))
    matrices, vectors = decay_groups(net.parameters(), 0.1)
    assert [p is q for p, q in zip(matrices["params"], (net[0].weight, net[4].weight), strict=True)] == [True] * 2
    spared = (net[0].bias, net[1].weight, net[1].bias, net[2].weight, net[4].bias)
    assert [p is q for p, q in zip(vectors["params"], spared, strict=True)] == [True] * 5
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize(("decay", "decay_all"), [(0.1, True), (0.0, False), (0.0, True)])
def test_one_group_where_all_weights_are_treated_alike(decay, decay_all):
    (group,) = decay_groups(nn.Linear(3, 2).parameters(), decay, decay_all=decay_all)
    assert len(group["params"]) == 2
    assert group["weight_decay"] == decay


@pytest.mark.parametrize(("shape", "decay"), [((3, 2), 0.1), ((3,), 0.0), ((), 0.0)])
def test_an_empty_group_is_left_out(shape, decay):
    (group,) = decay_groups(iter([nn.Parameter(torch.ones(shape))]), 0.1)
    assert group["weight_decay"] == decay


def with_gradients(*values: list[float]) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.zeros(len(value), dtype=torch.float64)) for value in values]
    for p, value in zip(parameters, values, strict=True):
        p.grad = torch.tensor(value, dtype=torch.float64)
    return parameters


def test_a_long_gradient_is_shortened_as_a_whole():
    parameters = with_gradients([3.0, 0.0], [0.0, -4.0, 12.0])
    norm = clip_norm(iter(parameters), 6.5)
    assert norm.item() == pytest.approx(13.0)
    scaled = [round(value, 6) for p in parameters for value in p.grad.tolist()]
    assert scaled == [1.5, 0.0, 0.0, -2.0, 6.0]


def test_a_short_gradient_is_left_as_it_is():
    (p,) = with_gradients([0.3, 0.4])
    assert clip_norm([p], 0.6).item() == pytest.approx(0.5)
    assert p.grad.tolist() == [0.3, 0.4]


def test_without_a_limit_it_measures():
    (p,) = with_gradients([30.0, 40.0])
    assert clip_norm([p], None).item() == pytest.approx(50.0)
    assert p.grad.tolist() == [30.0, 40.0]


def test_weights_without_gradient_count_nothing():
    (p,) = with_gradients([3.0, 4.0])
    frozen = nn.Parameter(torch.ones(2))
    assert clip_norm([frozen, p], 1.0).item() == pytest.approx(5.0)
    assert frozen.grad is None
    assert clip_norm([frozen], 1.0).item() == 0.0


def test_the_norm_stays_a_tensor_so_that_nothing_waits_for_it():
    net = nn.Linear(4, 3, device="meta")
    for p in net.parameters():
        p.grad = torch.empty_like(p)
    norm = clip_norm(net.parameters(), 1.0)  # a value read on the host would raise on the meta device
    assert norm.shape == ()
    assert norm.device.type == "meta"


def test_a_gradient_that_is_not_finite_is_not_hidden():
    (p,) = with_gradients([float("inf"), 1.0])
    assert clip_norm([p], 1.0).item() == float("inf")
    assert not p.grad.isfinite().all()
