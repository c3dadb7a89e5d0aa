"""Scale at the start, held against gains whose growth is known by hand."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from engram import registry
from engram.clinic.clinic import Clinic
from engram.clinic.finding import Finding
from engram.clinic.measured import History

WIDTH, K = 64, 10


def of_gain(
    depth: int, gain: float, act: Callable[[], nn.Module] = nn.ReLU, between: Callable[[], nn.Module] | None = None
) -> nn.Sequential:
    """Layers of orthogonal weights times √2 and a gain, which keep a rectified signal's scale where the gain is 1."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        one = nn.Linear(WIDTH, WIDTH)
        nn.init.orthogonal_(one.weight, gain * math.sqrt(2))
        nn.init.zeros_(one.bias)
        layers += [one, *([between()] if between else []), act()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, K))


def history_of(net: nn.Module, scale: float = 1.0) -> History:
    rng = torch.Generator().manual_seed(1)
    x = scale * torch.randn(256, WIDTH, generator=rng)
    clinic = Clinic(net, probe=(x, torch.arange(256) % K), level="quick")
    clinic.examine()
    return clinic.history


def found_in(history: History) -> list[Finding]:
    return registry.find("diagnosis", "scale_at_start").build(history)


def test_growth_is_the_product_of_all_layers_the_first_among_them() -> None:
    (found,) = found_in(history_of(of_gain(3, 2.0)))
    assert found.severity == "warning"
    # the first layer's outputs have √2 · 2 times the inputs' scale; each later one twice that of the layer before
    assert found.seen["first"] == pytest.approx(2 * math.sqrt(2), rel=0.1)
    assert found.seen["grown"] == pytest.approx(8 * math.sqrt(2), rel=0.15)
    assert found.seen["ratio"] == pytest.approx(4, rel=0.15)  # which alone says nothing: under its limit of 10
    assert found.seen["decades_a_layer"] == pytest.approx(math.log10(float(found.seen["grown"])) / 3)
    assert "inputs" in found.says
    assert "3 layers on" in found.says


@pytest.mark.parametrize(("depth", "gain"), [(2, 2.0), (5, 1.6), (8, 1.4)])
def test_few_layers_of_a_large_gain_and_many_of_a_small_one(depth: int, gain: float) -> None:
    assert [one.severity for one in found_in(history_of(of_gain(depth, gain)))] == ["warning"]


@pytest.mark.parametrize(("depth", "gain"), [(1, 9.0), (2, 1.0), (3, 1.0), (3, 1.25), (8, 1.0), (8, 1.1)])
def test_weights_of_the_usual_scale_are_well(depth: int, gain: float) -> None:
    assert found_in(history_of(of_gain(depth, gain))) == []


def test_the_inputs_own_scale_is_not_the_weights_fault() -> None:
    assert found_in(history_of(of_gain(3, 1.0), scale=20.0)) == []
    assert len(found_in(history_of(of_gain(3, 2.0), scale=0.3))) == 1


def test_growth_is_not_asked_where_it_is_nothing_or_of_nothing() -> None:
    assert found_in(history_of(of_gain(3, 2.0, nn.Tanh))) == []  # saturation's
    assert found_in(history_of(of_gain(3, 2.0, nn.Sigmoid))) == []
    layer_norm = of_gain(3, 2.0)
    layer_norm[1] = nn.LayerNorm(WIDTH)  # what comes behind begins anew
    assert found_in(history_of(layer_norm)) == []
    assert found_in(history_of(of_gain(3, 2.0), scale=0.01)) == []  # input_scale's


def test_growth_by_training_is_well() -> None:
    history = history_of(of_gain(3, 2.0))
    probe = history.now.probe
    assert probe is not None
    for accuracy, count in ((0.3, 1), (0.4, 0)):
        knowing = replace(history.now, probe=replace(probe, accuracy=accuracy, given=(0.1,) * K))
        assert len(found_in(History((knowing,), history.setup))) == count


def test_shrinking_is_a_matter_of_layers_among_each_other() -> None:
    (found,) = found_in(history_of(of_gain(6, 0.5)))
    assert found.severity == "warning"
    assert found.seen["ratio"] == pytest.approx(0.5**5, rel=0.2)
    assert "5 layers on" in found.says
    assert found_in(history_of(of_gain(3, 0.4))) == []  # 0.16, and small scores are at chance
