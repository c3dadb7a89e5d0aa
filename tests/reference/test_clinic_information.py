"""The two diagnoses that only inform: how much of a gradient is noise, and whether first filters still look like it."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from engram import recipe, registry
from engram.clinic.clinic import Clinic
from engram.clinic.diagnoses.gradient_noise import noise_scale
from engram.clinic.diagnoses.noisy_filters import filters, roughness
from engram.clinic.measured import History, Moment, Setup
from engram.clinic.subject import Subject


def diagnose(name, history):
    return registry.find("diagnosis", name).build(history)


# gradient noise


def test_signal_and_noise_are_those_of_the_single_gradients():
    torch.manual_seed(0)
    net, x, y = nn.Linear(50, 10), torch.randn(128, 50) + 0.3, torch.arange(128) % 2
    single = []
    for one, label in zip(x.double(), y, strict=True):  # example by example, in float64
        weight, bias = (p.detach().double().requires_grad_() for p in net.parameters())
        F.cross_entropy((weight @ one + bias)[None], label[None]).backward()
        single.append(torch.cat([weight.grad.flatten(), bias.grad]))
    gradients = torch.stack(single)
    noise = gradients.var(0).sum().item()
    signal = gradients.mean(0).square().sum().item() - noise / len(x)  # the mean of a sample is longer by its noise
    found = noise_scale(Subject(net, x, y))
    assert found["examples"] == 128
    assert found["noise"] == pytest.approx(noise, rel=0.1)
    assert found["signal"] == pytest.approx(signal, rel=0.15)
    assert found["noise_scale"] == pytest.approx(found["noise"] / found["signal"])


def test_examples_that_agree_have_no_noise():
    torch.manual_seed(0)
    x, y = torch.randn(1, 5).expand(128, 5).clone(), torch.zeros(128, dtype=torch.long)
    assert noise_scale(Subject(nn.Linear(5, 3), x, y)) is None or noise_scale(Subject(nn.Linear(5, 3), x, y))[
        "noise_scale"
    ] == pytest.approx(0, abs=1e-4)


def test_a_probe_too_small_for_two_sizes_says_nothing():
    assert noise_scale(Subject(nn.Linear(5, 3), torch.randn(31, 5), torch.zeros(31, dtype=torch.long))) is None


def noisy(scale, batch, *, lr=0.1, times=3):
    own = {"gradient_noise": {"noise_scale": scale}}
    moments = tuple(Moment(step, 1.0, lr, own=own) for step in range(1, times + 1))
    return diagnose("gradient_noise", History(moments, Setup(batch_size=batch, lr=0.1)))


def test_it_is_told_of_a_batch_far_below_while_the_rate_is_high():
    [found] = noisy(500.0, 2)
    assert (found.severity, found.remedy.change) == ("information", {"batch_size": 512})
    assert f"{math.sqrt(2 / 500):.2g} of the noise" in found.says
    assert recipe.build(dict(found.remedy.change)).training.batch_size == 512
    assert noisy(500.0, 64) == []
    assert noisy(500.0, 2, lr=0.04) == []  # the rate has fallen, and with it what noise does
    assert noisy(500.0, 2, times=2) == []
    assert noisy(math.inf, 2)[0].remedy.change == {"batch_size": 1024}


def test_the_clinic_asks_at_level_full():
    torch.manual_seed(0)
    x, y = torch.randn(256, 6), torch.randint(4, (256,))  # nothing to learn: all of it is noise
    net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    found = set()
    for level in ("standard", "full"):
        clinic = Clinic(net, optimizer, probe=(x, y), level=level, setup=Setup(batch_size=1))
        for step in range(40):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x[step : step + 1]), y[step : step + 1])
            loss.backward()
            optimizer.step()
            found |= {(level, one.diagnosis) for one in clinic.step(loss)}
        clinic.close()
    assert ("full", "gradient_noise") in found
    assert ("standard", "gradient_noise") not in found


# noisy filters


def test_roughness_by_hand():
    filter_ = torch.tensor([[[1.0, -1.0, 1.0, -1.0, 0.0]]])
    variance = 4 / 5  # the mean is 0
    steps = (4 + 4 + 4 + 1) / 4
    assert roughness(filter_) == pytest.approx(steps / (2 * variance * 5 / 4))
    assert roughness(torch.ones(2, 3, 5, 5)) == 0.0


def test_noise_is_1_and_what_is_smooth_far_less():
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(200, 3, 7, 7, generator=rng)
    assert roughness(noise) == pytest.approx(1.0, abs=0.02)
    assert roughness(noise + 100.0) == pytest.approx(1.0, abs=0.02)  # the mean of a filter does not count
    assert roughness(F.avg_pool2d(noise, 3, 1, 1)) < 0.5


def examined(weight, *, step=100):
    net = nn.Sequential(nn.Conv2d(1, 32, weight.shape[-1]), nn.Flatten(), nn.LazyLinear(3))
    net(torch.zeros(1, 1, 12, 12))
    net[0].weight.data.copy_(weight)
    own = filters(Subject(net, torch.zeros(2, 1, 12, 12), torch.zeros(2, dtype=torch.long)))
    moment = Moment(step, own={"noisy_filters": own} if own is not None else {})
    return diagnose("noisy_filters", History((moment,)))


def test_it_is_told_of_filters_that_look_like_noise_after_training():
    noise = torch.randn(32, 1, 7, 7, generator=torch.Generator().manual_seed(0))
    [found] = examined(noise)
    assert (found.severity, found.where, found.step) == ("information", ("0",), 100)
    assert examined(noise, step=0) == []  # they were drawn, and not trained
    assert examined(F.avg_pool2d(noise, 3, 1, 1)) == []
    assert examined(noise[..., :3, :3]) == []  # the best edges of 3 x 3 are as rough


def test_a_network_without_a_convolution_has_none():
    assert filters(Subject(nn.Linear(4, 2), torch.zeros(2, 4), torch.zeros(2, dtype=torch.long))) is None
