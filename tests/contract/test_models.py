"""What every registered network keeps to. The registry is asked for its names: a new file is tested by being there."""

import copy
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import accounting, models, registry
from engram.errors import UserError
from engram.layers.auxiliary import Scores

NAMES = registry.names("model")
MILLION = 1_000_000
CLASSES = 7
MOST_PASSES = 40


def heavy(name: str) -> bool:
    return registry.find("model", name).facts["macs"] > 100 * MILLION


def computes(name: str) -> bool:
    """Larger ones are counted on the meta device only: their small sisters are made of the same blocks."""
    facts = registry.find("model", name).facts
    return facts["parameters"] <= 30 * MILLION and facts["macs"] <= 300 * MILLION


BY_WEIGHT = [pytest.param(name, marks=pytest.mark.slow) if heavy(name) else name for name in NAMES if computes(name)]
MODULES = sorted({registry.find("model", name).build.__module__ for name in NAMES})


@dataclass(frozen=True)
class Built:
    """A network for its smallest inputs, with a batch of them."""

    entry: registry.Entry
    shape: tuple[int, ...]
    net: nn.Module
    x: Tensor


@pytest.fixture(scope="module", params=BY_WEIGHT)
def built(request: pytest.FixtureRequest) -> Built:
    entry = registry.find("model", request.param)
    axes = len(entry.facts["input"]) - 1  # a network for signals has one
    shape = (entry.facts["input"][0], *[max(entry.facts["smallest"], 4)] * axes)
    net = models.build(entry.name, shape=shape, num_classes=CLASSES, rng=generator(0))
    return Built(entry, shape, net, torch.randn(4, *shape, generator=generator(1)))


@pytest.mark.parametrize("name", NAMES)
def test_declares_its_exact_costs(name: str) -> None:
    facts = registry.find("model", name).facts
    with torch.device("meta"):
        net = models.build(name, shape=facts["input"], num_classes=facts["num_classes"])
    costs = accounting.account(net, facts["input"])
    assert (costs.parameters, costs.macs) == (facts["parameters"], facts["macs"])
    assert costs.output == (facts["num_classes"],)


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is_and_where_it_is_from(name: str) -> None:
    entry = registry.find("model", name)
    assert entry.summary.endswith(".")
    assert entry.year is not None
    assert str(entry.year) in entry.paper
    module = __import__(entry.build.__module__, fromlist=["_"])
    assert len(module.__doc__) > 500  # the method's card


@pytest.mark.parametrize("name", NAMES)
def test_is_a_function_of_the_package(name: str) -> None:
    assert getattr(models, name) is registry.find("model", name).build


@pytest.mark.parametrize("module", MODULES)
def test_every_family_has_a_form_for_small_images_that_trains_in_minutes(module: str) -> None:
    family = [registry.find("model", name) for name in NAMES]
    family = [entry for entry in family if entry.build.__module__ == module]
    small = [entry.facts for entry in family if entry.facts.get("small")]
    assert small, f"{module} has no entry with small=True"
    for facts in small:
        assert 28 <= facts["input"][1] <= 32
        assert facts["macs"] <= 80 * MILLION
    assert any(computes(entry.name) for entry in family)  # its blocks are run by the tests below


def test_forward_and_backward_are_finite(built: Built) -> None:
    net = copy.deepcopy(built.net).train()
    waiting = {name for name, _ in net.named_parameters()}
    torch.manual_seed(0)
    for _ in range(MOST_PASSES):  # a part that is left out at random comes in sooner or later
        scores = net(built.x)
        every = (scores.main, *scores.auxiliary) if isinstance(scores, Scores) else (scores,)
        assert all(one.shape == (4, CLASSES) for one in every)
        sum(F.cross_entropy(one, torch.tensor([0, 1, 2, 3])) for one in every).backward()
        waiting -= {name for name, p in net.named_parameters() if p.grad is not None}
        if not waiting:
            break
    assert not waiting, "these have no part in the loss"
    for name, p in net.named_parameters():
        assert torch.isfinite(p.grad).all(), name
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_gives_plain_scores_when_it_is_evaluated(built: Built) -> None:
    net = copy.deepcopy(built.net).eval()
    with torch.no_grad():
        scores = net(built.x)
    assert isinstance(scores, Tensor)
    assert scores.shape == (4, CLASSES)


def test_state_dict_round_trip(built: Built) -> None:
    other = models.build(built.entry.name, shape=built.shape, num_classes=CLASSES, rng=generator(5))
    assert not torch.equal(next(other.parameters()), next(built.net.parameters()))
    other.load_state_dict(built.net.state_dict())
    assert torch.equal(trained(other, built.x), trained(copy.deepcopy(built.net), built.x))


def test_weights_depend_on_the_generator_alone(built: Built) -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again = models.build(built.entry.name, shape=built.shape, num_classes=CLASSES, rng=generator(0))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p, q) for p, q in zip(again.parameters(), built.net.parameters(), strict=True))


@pytest.mark.parametrize("dimensions", [1, 3])  # two are everywhere else
@pytest.mark.parametrize("name", BY_WEIGHT)
def test_computes_in_the_dimensions_it_claims(name: str, dimensions: int) -> None:
    facts = registry.find("model", name).facts
    shape = (2, *[max(facts["smallest"], 4)] * dimensions)
    if dimensions not in facts["dimensions"]:
        with pytest.raises(UserError, match="spatial axes"):
            models.build(name, shape=shape, num_classes=CLASSES)
        return
    device = "meta" if facts["parameters"] > 20 * MILLION else "cpu"
    with torch.device(device):
        net = models.build(name, shape=shape, num_classes=CLASSES)
    scores = net.eval()(torch.ones(2, *shape, device=device))
    scores.sum().backward()
    assert scores.shape == (2, CLASSES)
    unused = {name for name, p in net.named_parameters() if p.grad is None}
    assert unused == {name for name in unused if "auxiliary" in name}  # heads that only training has


def test_refuses_an_input_too_small_and_names_the_smallest(built: Built) -> None:
    smallest = built.entry.facts["smallest"]
    if smallest == 1:
        pytest.skip("takes any size")
    with pytest.raises(UserError, match=f"at least {smallest} pixels") as refusal:
        models.build(built.entry.name, shape=(3, 32, smallest - 1), num_classes=CLASSES)
    assert len(str(refusal.value).splitlines()) <= 5


def test_channels_last_and_bfloat16_agree_with_float32(built: Built) -> None:
    """Deep random networks magnify rounding, each by its own factor, which float32's own error against float64 shows.

    Stated bounds: channels-last errs at most 16 times as much as float32 does, and bfloat16, with 16 bits fewer, at
    most 2^16 times as much.
    """
    if built.entry.facts["parameters"] > 15 * MILLION:
        pytest.skip("seconds long; its shallower sisters are made of the same blocks")
    net = settled(built.net, built.x)
    layout = torch.channels_last if built.x.dim() == 4 else torch.contiguous_format  # signals have no channels-last
    net32, x32 = net.to(memory_format=layout), built.x.contiguous(memory_format=layout)
    with torch.no_grad():
        exact = copy.deepcopy(net).double()(built.x.double())
        error = distance(net(built.x), exact)
        assert distance(net32(x32), exact) <= 16 * error + 1e-6
        with torch.autocast("cpu", torch.bfloat16):
            assert distance(net32(x32), exact) <= 2**16 * error


def test_every_layer_agrees_in_bfloat16(built: Built) -> None:
    """Each layer on float32's own input to it, so that nothing is magnified: within 2 %."""
    if built.entry.facts["parameters"] > 15 * MILLION:
        pytest.skip("seconds long; its shallower sisters are made of the same blocks")
    net = settled(built.net, built.x)
    inputs: list[tuple[nn.Module, Tensor, Tensor]] = []
    leaves = [module for module in net.modules() if not any(module.children())]
    hooks = [leaf.register_forward_hook(lambda m, x, y: inputs.append((m, x[0], first(y).clone()))) for leaf in leaves]
    with torch.no_grad():
        net(built.x)
        for hook in hooks:
            hook.remove()
        for module, x, y in inputs:
            if x.dim() == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                assert distance(first(module(x.bfloat16())), y) <= 0.02, module


def test_unknown_settings_name_the_nearest(built: Built) -> None:
    settings = [
        name for name in registry.inspect.signature(built.entry.build).parameters if name not in models.FILLED_IN
    ]
    with pytest.raises(UserError, match="no setting") as refusal:
        models.build(built.entry.name, shape=built.shape, num_classes=3, settings={settings[0] + "x": 1})
    assert refusal.value.nearest == settings[0]


def first(output: Tensor | tuple) -> Tensor:
    """Recurrent layers give their last state besides."""
    return output[0] if isinstance(output, tuple) else output


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained(net: nn.Module, x: Tensor) -> Tensor:
    """What it gives in training mode, with the same things left out at random."""
    torch.manual_seed(7)
    scores = net.train()(x)
    return scores.main if isinstance(scores, Scores) else scores


def settled(net: nn.Module, x: Tensor) -> nn.Module:
    """A copy for evaluation, with its normalisation fitted to the batch."""
    net = copy.deepcopy(net).train()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        net(x)
    return net.eval()


def distance(a: Tensor, b: Tensor) -> float:
    """Relative, of all values together."""
    a, b = a.double(), b.double()
    return ((a - b).norm() / b.norm().clamp_min(1e-12)).item()
