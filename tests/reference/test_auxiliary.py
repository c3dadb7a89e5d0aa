"""Auxiliary heads on any network: where they may stand, found by force; what they add, against a formula."""

import copy
import io
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engram import models, registry
from engram.errors import UserError
from engram.layers.auxiliary import (
    GoogLeNetHead,
    Scores,
    SmallHead,
    check,
    places,
    with_auxiliary_heads,
    without_auxiliary,
)
from engram.layers.places import survey

SMALL = [name for name in registry.names("model") if registry.find("model", name).facts.get("small")]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(name: str, shape: tuple[int, ...] = (3, 32, 32), classes: int = 5, **settings: Any) -> nn.Module:
    return models.build(name, shape=shape, num_classes=classes, settings=settings, rng=rng())


class Plain(nn.Module):
    """Convolutions in a row with a ReLU each, the mean over positions, a linear layer."""

    def __init__(self, depth: int = 6, width: int = 4, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3 if i == 0 else width, width, 3, padding=1) for i in range(depth))
        self.acts = nn.ModuleList(activation() for _ in range(depth))
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        for conv, act in zip(self.convs, self.acts, strict=True):
            x = act(conv(x))
        return self.head(x.mean((2, 3)))


def plain(*, seed: int = 0, **settings: Any) -> Plain:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Plain(**settings).double()


X = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=rng(1))
Y = torch.tensor([0, 1, 2, 3])
SHAPE = (3, 8, 8)


def total(scores: Scores) -> Tensor:
    """The loss that the training loop takes."""
    heads = sum(F.cross_entropy(one, Y) for one in scores.auxiliary)
    return F.cross_entropy(scores.main, Y) + scores.weight * heads


# What they compute.


@pytest.mark.parametrize("weight", [0.0, 0.3, 2.0])
def test_loss_and_gradients_are_the_formula(weight: float) -> None:
    net = with_auxiliary_heads(plain(), "acts.1,acts.3", shape=SHAPE, weight=weight)
    scores = net(X)
    total(scores).backward()
    given = {name: p.grad for name, p in net.named_parameters()}

    p = {name: q.detach().clone().requires_grad_() for name, q in net.named_parameters()}
    x, expected = X, []
    for i in range(6):
        x = F.conv2d(x, p[f"convs.{i}.weight"], p[f"convs.{i}.bias"], padding=1).clamp_min(0)
        if i in (1, 3):
            place = (i - 1) // 2
            mean = x.sum((2, 3)) / 64
            expected.append(mean @ p[f"auxiliary.{place}.linear.weight"].T + p[f"auxiliary.{place}.linear.bias"])
    main = x.mean((2, 3)) @ p["head.weight"].T + p["head.bias"]
    loss = F.cross_entropy(main, Y) + weight * (F.cross_entropy(expected[0], Y) + F.cross_entropy(expected[1], Y))
    loss.backward()
    torch.testing.assert_close(scores.main, main)
    assert len(scores.auxiliary) == 2
    for ours, theirs in zip(scores.auxiliary, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert set(given) == set(p)
    for name, q in p.items():
        torch.testing.assert_close(given[name], q.grad, msg=name)


def test_a_gradient_that_has_vanished_reaches_the_first_layer_again() -> None:
    """24 layers with sigmoids: the first one's gradient grows by more than a thousand times (E2 of the notes)."""
    norms = []
    for where in (None, "0.33,0.66"):
        net = with_auxiliary_heads(plain(depth=24, width=12, activation=nn.Sigmoid), where, shape=SHAPE)
        scores = net(X)
        (total(scores) if isinstance(scores, Scores) else F.cross_entropy(scores, Y)).backward()
        norms.append(net.convs[0].weight.grad.norm().item())
    assert norms[1] / norms[0] > 1e3


def test_weight_may_change_while_it_trains() -> None:
    net = with_auxiliary_heads(plain(), 0.5, shape=SHAPE)
    assert net(X).weight == 0.3
    net.auxiliary.weight = 0.1
    assert net(X).weight == 0.1


def test_small_head_starts_small_and_fair() -> None:
    torch.manual_seed(0)
    head = SmallHead(400, 300)
    assert abs(head.linear.weight.std().item() * math.sqrt(400) - 1) < 0.01
    assert not head.linear.bias.any()
    x = torch.randn(2, 400)
    torch.testing.assert_close(head(x), x @ head.linear.weight.T)


@pytest.mark.parametrize(("side", "windows"), [(14, "paper"), (14, "even"), (9, "paper"), (3, "paper")])
def test_googlenets_head_is_its_formula(side: int, windows: str) -> None:
    torch.manual_seed(0)
    head = GoogLeNetHead(6, 5, windows=windows).double()
    for p in head.parameters():
        if p.dim() == 1:
            nn.init.normal_(p, std=0.1)
    x = torch.randn(2, 6, side, side, dtype=torch.float64)
    if side == 14 and windows == "paper":
        bounds = [(0, 5), (3, 8), (6, 11), (9, 14)]
    else:
        bounds = [(side * i // 4, -(-side * (i + 1) // 4)) for i in range(4)]
    pooled = torch.stack([torch.stack([x[:, :, a:b, c:d].mean((2, 3)) for c, d in bounds], 2) for a, b in bounds], 2)
    state = head.state_dict()
    maps = torch.einsum("bchw,oc->bohw", pooled, state["conv.0.weight"][:, :, 0, 0])
    maps = (maps + state["conv.0.bias"].view(-1, 1, 1)).clamp_min(0)
    hidden = (maps.reshape(2, 2048) @ state["fc1.weight"].T + state["fc1.bias"]).clamp_min(0)
    expected = hidden @ state["fc2.weight"].T + state["fc2.bias"]
    with torch.no_grad():
        torch.testing.assert_close(head.eval()(x), expected)
        head.train()
        head.fc2 = nn.Identity()
        head.drop.p = 0.7
        share = (head(x.expand(20, 2, 6, side, side).reshape(40, 6, side, side)) == 0).double().mean()
        never = (hidden == 0).double().mean()
        expected_share = never + (1 - never) * 0.7
        assert abs(share - expected_share) < 5 * (0.25 / (40 * 1024)) ** 0.5
    assert GoogLeNetHead(6, 5).drop.p == 0.7


def test_googlenets_head_has_the_papers_size() -> None:
    """Of the first, after 512 maps: 512 x 128 + 128, 2048 x 1024 + 1024, 1024 x 1000 + 1000."""
    with torch.device("meta"):
        assert sum(p.numel() for p in GoogLeNetHead(512, 1000).parameters()) == 65_664 + 2_098_176 + 1_025_000


def test_googlenets_head_on_another_network() -> None:
    net = with_auxiliary_heads(build("resnet20"), "0.5", shape=(3, 32, 32), head="googlenet")
    assert isinstance(net.auxiliary[0], GoogLeNetHead)
    assert net(torch.zeros(2, 3, 32, 32)).auxiliary[0].shape == (2, 5)
    own = with_auxiliary_heads(
        build("resnet20"), "0.5", shape=(3, 32, 32), head=lambda channels, classes, axes: SmallHead(channels, classes)
    )
    assert isinstance(own.auxiliary[0], SmallHead)


@pytest.mark.parametrize("name", [name for name in SMALL if name != "lstm"])
def test_goes_on_every_small_network(name: str) -> None:
    facts = registry.find("model", name).facts
    shape = (facts["input"][0], *[max(facts["smallest"], 8)] * (len(facts["input"]) - 1))
    net = with_auxiliary_heads(build(name, shape), 0.5, shape=shape, rng=rng()).train()
    torch.manual_seed(0)
    scores = net(torch.randn(4, *shape))
    total(scores).backward()
    assert [one.shape for one in (scores.main, *scores.auxiliary)] == [(4, 5), (4, 5)]
    for p in net.auxiliary.parameters():
        assert torch.isfinite(p.grad).all()
        assert p.grad.any()


def test_a_network_of_one_recurrent_layer_has_no_place_for_one() -> None:
    shape = (3, 8, 8)
    with pytest.raises(UserError, match="no place that all of its signal passes"):
        with_auxiliary_heads(build("lstm", shape), 0.5, shape=shape)


@pytest.mark.parametrize("dimensions", [1, 3])
@pytest.mark.parametrize("head", ["small", "googlenet"])
def test_signals_and_volumes(dimensions: int, head: str) -> None:
    shape = (2, *[16] * dimensions)
    net = with_auxiliary_heads(build("vgg_small", shape, width=8), 0.5, shape=shape, head=head)
    assert net(torch.zeros(2, *shape)).auxiliary[0].shape == (2, 5)


def test_counts_on_the_meta_device() -> None:
    with torch.device("meta"):
        net = models.build("resnet50", shape=(3, 224, 224), num_classes=1000)
    own = sum(p.numel() for p in net.parameters())
    with_auxiliary_heads(net, "stages.1", shape=(3, 224, 224))
    assert net.auxiliary[0].linear.weight.is_meta
    assert sum(p.numel() for p in net.parameters()) == own + 512 * 1000 + 1000


# Where they may stand.


class Odd(nn.Module):
    """A split whose halves go apart, a module that runs twice, one that does not run, one that gives a pair."""

    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    class Half(nn.Module):
        def forward(self, halves: tuple[Tensor, ...]) -> Tensor:
            return halves[0]

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.loud = nn.ReLU(inplace=True)
        self.part, self.left, self.right = self.Half(), nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 1)
        self.twice, self.never, self.pair = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), self.Pair()
        self.fixed = nn.Conv2d(1, 4, 1)
        self.norm, self.rows, self.head = nn.BatchNorm2d(4), nn.Flatten(0, 1), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.loud(self.first(x))
        halves = x.chunk(2, 1)
        x = self.left(self.part(halves)) + self.right(halves[1])
        x, _ = self.pair(self.twice(self.twice(x)))
        x = self.norm(x + self.fixed(torch.ones_like(x[:, :1].detach())))
        self.rows(x)
        return self.head(x.mean((2, 3)))


OWN = {"plain": Plain, "odd": Odd}
EXAMINED = [*OWN, "resnet20", "lenet5", "mlp"]
EXAMINED += [pytest.param(name, marks=pytest.mark.slow) for name in ("plain20", "squeezenet_small", "alexnet_small")]


@pytest.mark.parametrize("name", EXAMINED)
def test_places_are_those_without_which_nothing_arrives(name: str) -> None:
    """By force: cut the output of each module off and see whether anything of the input still reaches the scores."""
    shape = SHAPE if name in OWN else (3, 32, 32)
    net = (OWN[name]() if name in OWN else build(name)).eval().requires_grad_(False)
    x = torch.randn(2, *shape, generator=rng()).requires_grad_()
    found = [place.name for place in survey(net, shape).cuts]
    same: dict[int, list[str]] = {}  # modules by the tensor that they give
    kept, cut = [], set()

    def see(module: nn.Module, inputs: Any, output: Any, name: str = "") -> None:
        kept.append(output)
        same.setdefault(id(output), []).append(name)

    for one, module in net.named_modules():
        hook = module.register_forward_hook(lambda m, i, y: y.detach() if isinstance(y, Tensor) else y)
        if not net(x).requires_grad:
            cut.add(one)
        hook.remove()
    hooks = [m.register_forward_hook(lambda m, i, y, one=one: see(m, i, y, one)) for one, m in net.named_modules()]
    net(x)
    for hook in hooks:
        hook.remove()
    places_of = survey(net, shape).by_name
    able = {one for one in cut if one and not places_of[one].problem}
    assert set(found) <= able
    for one in able:  # a module that hands on the tensor of another is found under that one's name
        assert any(one in group and set(group) & set(found) for group in same.values()), one
    if name == "odd":
        assert found == ["loud", "norm"]
    elif name == "resnet20":
        assert all("conv" not in one and "norm" not in one for one in found)


def test_a_network_may_overwrite_its_input() -> None:
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
    assert places(net, SHAPE) == ["1", "2"]


def test_a_share_counts_layers_with_weights() -> None:
    """Of 6 convolutions and a linear layer: after the n-th, past its ReLU, n / 7 of the depth."""
    net = plain()
    for n in range(1, 7):
        with_heads = with_auxiliary_heads(copy.deepcopy(net), n / 7, shape=SHAPE)
        assert with_heads.auxiliary.places == (f"acts.{n - 1}",)
    assert with_auxiliary_heads(net, (0.01, 0.99), shape=SHAPE).auxiliary.places == ("acts.0", "acts.5")
    vgg = with_auxiliary_heads(build("vgg_small", top="fc", width=8), 10 / 13, shape=(3, 32, 32))
    assert vgg.auxiliary.places[0] == "top.pool"  # maps, not the vector that they are laid out in


def test_inside_a_branch_by_name() -> None:
    net = with_auxiliary_heads(build("resnet20"), "stages.1.0.conv1", shape=(3, 32, 32))
    assert "stages.1.0.conv1" not in places(build("resnet20"), (3, 32, 32))
    assert net(torch.zeros(2, 3, 32, 32)).auxiliary[0].shape == (2, 5)


def test_heads_stand_in_the_order_of_the_network() -> None:
    net = with_auxiliary_heads(plain(), ("acts.4", 0.3), shape=SHAPE)
    assert net.auxiliary.places == ("acts.1", "acts.4")


# What else must stay as it was.


def test_evaluation_and_own_names_stay() -> None:
    net = build("resnet20").eval()
    x, before = torch.randn(2, 3, 32, 32, generator=rng()), copy.deepcopy(net.state_dict())
    expected, drawn = net(x), torch.get_rng_state()
    with_auxiliary_heads(net, "0.33,0.66", shape=(3, 32, 32), rng=rng(1))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not net.auxiliary.training
    assert torch.equal(net(x), expected)
    state = net.state_dict()
    assert {key for key in state if key not in before} == {key for key in state if key.startswith("auxiliary.")}
    assert all(torch.equal(state[key], tensor) for key, tensor in before.items())
    assert list(without_auxiliary(state)) == list(before)
    build("resnet20").load_state_dict(without_auxiliary(state))
    missing = net.load_state_dict(before, strict=False)
    assert all(key.startswith("auxiliary.") for key in missing.missing_keys)
    assert isinstance(net.train()(x), Scores)


def test_initial_weights_come_from_the_generator() -> None:
    def first(seed: int) -> Tensor:
        return with_auxiliary_heads(plain(), 0.5, shape=SHAPE, rng=rng(seed)).auxiliary[0].linear.weight

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))
    assert first(0).dtype == torch.float64


def test_none_is_none() -> None:
    for where in (None, (), "", "none"):
        net = with_auxiliary_heads(plain(), where, shape=SHAPE)
        assert isinstance(net(X), Tensor)
        assert not hasattr(net, "auxiliary")


@pytest.mark.parametrize("how", ["deepcopy", "file"])
def test_a_copy_has_heads_of_its_own(how: str) -> None:
    net = with_auxiliary_heads(plain(), "0.3,0.7", shape=SHAPE)
    net(X)
    if how == "deepcopy":
        other = copy.deepcopy(net)
    else:
        file = io.BytesIO()
        torch.save(net, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    with torch.no_grad():
        for p in other.auxiliary.parameters():
            p.zero_()
    assert not any(one.any() for one in other(X).auxiliary)
    assert all(one.any() for one in net(X).auxiliary)
    total(other(X)).backward()
    assert all(p.grad is None for p in net.parameters())
    assert all(p.grad is not None for p in other.parameters())


def test_channels_last_and_bfloat16() -> None:
    net = with_auxiliary_heads(build("resnet20"), "0.33,0.66", shape=(3, 32, 32), rng=rng())
    x = torch.randn(8, 3, 32, 32, generator=rng(1))
    exact = net(x)
    net.to(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last)
    for ours, theirs in zip(net(x).auxiliary, exact.auxiliary, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(x).auxiliary
    assert all(one.dtype == torch.bfloat16 for one in rough)
    for ours, theirs in zip(rough, exact.auxiliary, strict=True):
        assert ((ours.float() - theirs).norm() / theirs.norm()) < 0.05


class Checkpointed(nn.Module):
    """Two convolutions within a part whose values are computed again on the way back, and one after it."""

    def __init__(self, use_reentrant: bool | None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.part = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.Tanh())
        self.after = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 5)
        self.use_reentrant = use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.training and self.use_reentrant is not None:
            x = checkpoint(self.part, x, use_reentrant=self.use_reentrant)
        else:
            x = self.part(x)
        return self.head(self.after(x).mean((2, 3)))


def test_parts_that_are_computed_again() -> None:
    gradients = []
    for use_reentrant in (None, False):
        torch.manual_seed(0)
        net = with_auxiliary_heads(Checkpointed(use_reentrant).double(), "stem,part.1,part", shape=SHAPE)
        total(net(X)).backward()
        assert net.auxiliary.read is None
        copy.deepcopy(net)
        gradients.append([p.grad for p in net.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_parts_that_are_computed_again_by_reentry() -> None:
    net = with_auxiliary_heads(Checkpointed(True).double(), "stem,after", shape=SHAPE)
    total(net(X)).backward()
    assert net.part[0].weight.grad.any()
    net = with_auxiliary_heads(Checkpointed(True).double(), "part.1", shape=SHAPE)
    with pytest.raises(UserError, match=r"'part\.1' is inside a part that is checkpointed"):
        net(X)


def test_a_pass_that_failed_leaves_nothing_behind() -> None:
    net = with_auxiliary_heads(plain(), "0.3", shape=SHAPE)
    handle = net.head.register_forward_pre_hook(lambda module, inputs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        net(X)
    assert net.auxiliary.read is None
    copy.deepcopy(net)
    handle.remove()
    assert len(net(X).auxiliary) == 1


def test_what_is_left_out_at_random_has_no_scores() -> None:
    class Sometimes(Plain):
        def forward(self, x: Tensor) -> Tensor:
            x = self.acts[0](self.convs[0](x))
            if not self.training:
                x = x + self.acts[1](self.convs[1](x))
            return self.head(self.convs[2](x).mean((2, 3)))

    net = with_auxiliary_heads(Sometimes().double(), "acts.0,acts.1", shape=SHAPE)
    scores = net(X)
    assert len(scores.auxiliary) == 1
    torch.testing.assert_close(scores.auxiliary[0], net.auxiliary[0](net.acts[0](net.convs[0](X))))


def test_a_network_that_looks_at_values() -> None:
    class Looks(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if x.sum() == 0 else x / x.std())

    assert places(Looks(), SHAPE) == places(Plain(), SHAPE)
    net = Looks().train()
    net.acts[0].eval()
    places(net, SHAPE)
    assert net.training
    assert not net.acts[0].training
    assert not any(module._forward_hooks for module in net.modules())


# Words.


@pytest.mark.parametrize(
    ("words", "parsed"),
    [
        ("0.33,0.66", (0.33, 0.66)),
        (" stages.1 , .5", ("stages.1", 0.5)),
        (0.25, (0.25,)),
        (["0.25", "a,b", 0.5], (0.25, "a", "b", 0.5)),
        ("3,4.relu", ("3", "4.relu")),
        ("1e-1.5", None),
        (None, ()),
        ("none", ()),
    ],
)
def test_words(words: Any, parsed: tuple[str | float, ...] | None) -> None:
    if parsed is None:
        with pytest.raises(UserError):
            check(words)
    else:
        assert check(words) == parsed


@pytest.mark.parametrize(
    "words", ["1.0", "0.0", "-0.5", "1.5", "33%", "a..b", "a b", ".a", "0.5:2", 1, 0, 2.0, float("nan"), True, "a,a"]
)
def test_malformed_words_are_refused_early(words: Any) -> None:
    with pytest.raises(UserError) as refusal:
        check(words)
    assert "twice" in str(refusal.value) or "between 0 and 1, such as 0.5" in str(refusal.value)
    with pytest.raises(UserError):
        check([0.5, "0.5"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"where": "stagse.1"}, "did you mean: stages.1"),
        ({"where": "stagse.1"}, "allowed: a share of the depth such as 0.5, stem.0, stem.1, stem, stages.0.0,"),
        ({"where": "head"}, "no layer with weights comes after it"),
        ({"where": "0.5,0.51"}, "2 auxiliary heads would stand at 1 places: stages.1.1"),
        ({"where": "0.5,stages.1.1"}, "would stand at 1 places"),
        ({"where": "0.5", "weight": -1}, "weight cannot be -1"),
        ({"where": "0.5", "head": "smal"}, "did you mean: small"),
        ({"where": "0.5", "head": None}, "allowed: googlenet, small"),
        ({"where": "50"}, "there is no such module"),
    ],
)
def test_refuses_what_makes_no_sense(settings: dict[str, Any], message: str) -> None:
    net = build("resnet20")
    before = list(net.state_dict())
    with pytest.raises(UserError) as refusal:
        with_auxiliary_heads(net, shape=(3, 32, 32), **settings)
    assert message in str(refusal.value)
    assert len(str(refusal.value).splitlines()) <= 5
    assert list(net.state_dict()) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("first", "what it gives is overwritten afterwards"),
        ("twice", "it runs 2 times"),
        ("never", "it does not run by itself"),
        ("pair", "it does not give (B, C, ...)"),
        ("rows", "it does not give (B, C, ...)"),
        ("fixed", "the input does not reach it"),
    ],
)
def test_says_why_a_place_is_none(where: str, problem: str) -> None:
    with pytest.raises(UserError) as refusal:
        with_auxiliary_heads(Odd(), where, shape=SHAPE)
    assert f"an auxiliary head cannot stand at {where!r}: {problem}" in str(refusal.value)
    assert "0.5, loud, norm" in str(refusal.value)


def test_a_long_list_of_places_is_shortened() -> None:
    with pytest.raises(UserError) as refusal:
        with_auxiliary_heads(build("vgg_small", depth=19, width=8), "nowhere", shape=(3, 32, 32))
    assert "features.relu1_1, features.pool1, features.relu2_1" in str(refusal.value)  # the last of each depth
    with pytest.raises(UserError) as refusal:
        with_auxiliary_heads(build("resnet110"), "nowhere", shape=(3, 32, 32))
    assert str(refusal.value).count(",") <= 21
    assert "and more between" in str(refusal.value)


def test_one_set_of_heads_is_enough() -> None:
    net = with_auxiliary_heads(plain(), 0.5, shape=SHAPE)
    with pytest.raises(UserError, match="has auxiliary heads already"):
        with_auxiliary_heads(net, 0.3, shape=SHAPE)


def test_networks_without_a_row_of_scores_are_refused() -> None:
    with pytest.raises(UserError, match="one row of scores"):
        with_auxiliary_heads(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)), 0.5, shape=SHAPE)


def test_a_network_in_parallel_has_no_place_for_a_share() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 5), nn.Linear(3, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) + self.b(x)

    with pytest.raises(UserError, match="no place that all of its signal passes"):
        with_auxiliary_heads(Sum(), 0.5, shape=(3,))


def test_googlenets_head_wants_maps() -> None:
    with pytest.raises(UserError, match="0 spatial axes"):
        with_auxiliary_heads(build("mlp"), 0.5, shape=(3, 32, 32), head="googlenet")
