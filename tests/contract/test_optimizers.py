"""What every registered optimizer keeps: it builds, trains out of the box, saves, and refuses what it cannot use."""

import copy
import inspect

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from engram import optimizers, registry, schedules
from engram.errors import UserError

NAMES = registry.names("optimizer")


def small_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Conv2d(4, 3, 1),
        nn.Flatten(),
        nn.Linear(3 * 16, 5),
    ).to(memory_format=torch.channels_last)


def closure_on(net: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor, *, outputs=False):
    def loss_of():
        scores = net(x)
        loss = F.cross_entropy(scores, y)
        return (loss, scores) if outputs and getattr(optimizer, "needs_loss", False) else loss

    return closure_of(optimizer, loss_of)


def closure_of(optimizer: torch.optim.Optimizer, loss_of):
    """What its step takes: the loss with its graph, or a closure that runs backward."""

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss

    return loss_of if getattr(optimizer, "needs_loss", False) else closure


def small_data() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(16, 2, 4, 4, generator=rng).contiguous(memory_format=torch.channels_last)
    return x, torch.randint(0, 5, (16,), generator=rng)


def test_the_issue_s_optimizers_are_there():
    by_gradient = {"sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam", "adamax", "nadam", "adamw"}
    assert set(NAMES) >= by_gradient | {"nesterov_lookahead", "newton", "hessian_free", "bfgs", "lbfgs"}


@pytest.mark.parametrize("name", NAMES)
def test_what_its_step_asks_for_is_in_its_facts(name):
    optimizer, facts = optimizers.build(name, small_net()), registry.find("optimizer", name).facts
    asks = getattr(optimizer, "needs_closure", False) or getattr(optimizer, "needs_loss", False) or name == "lbfgs"
    assert facts.get("closure", False) == asks
    assert not facts.get("full_batch", False) or asks


@pytest.mark.parametrize("name", NAMES)
def test_its_card_is_complete(name):
    entry = registry.find("optimizer", name)
    assert entry.summary.endswith(".")
    assert entry.paper
    assert 1900 < (entry.year or 0) < 2100
    parameters = inspect.signature(entry.build).parameters
    assert entry.facts["lr"] == parameters["lr"].default
    assert {"weight_decay", "decay_all"} <= set(parameters)
    assert ">>>" in (inspect.getdoc(entry.build) or "")


@pytest.mark.parametrize("name", NAMES)
def test_its_loss_falls(name):
    net, (x, y) = small_net(), small_data()
    optimizer = optimizers.build(name, net)
    closure = closure_on(net, optimizer, x, y)
    start = closure().item()
    for _ in range(20):
        optimizer.step(closure)
    assert closure().item() < 0.7 * start


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("decay_all", [False, True])
def test_only_decay_moves_a_weight_without_gradient_of_the_data(name, decay_all):
    net = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(1.0)
    optimizer = optimizers.build(name, net, {"weight_decay": 0.1, "decay_all": decay_all, "lr": 0.01})

    optimizer.step(closure_of(optimizer, lambda: sum((p * 0.0).sum() for p in net.parameters())))
    moved = [bool((p < 1.0).all()) for p in net.parameters()]
    assert moved == [True, decay_all, decay_all, decay_all]


@pytest.mark.parametrize("name", NAMES)
def test_its_state_goes_on_where_it_stopped(name):
    x, y = small_data()
    net = small_net()
    optimizer = optimizers.build(name, net)
    for factor in (0.5, 1.0):
        optimizers.set_lr(optimizer, factor)
        optimizer.step(closure_on(net, optimizer, x, y))
    other = small_net(seed=9)
    other.load_state_dict(copy.deepcopy(net.state_dict()))
    resumed = optimizers.build(name, other, {"lr": 123.0})
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, its_net in ((optimizer, net), (resumed, other)):
        optimizers.set_lr(one, 0.3)
        one.step(closure_on(its_net, one, x, y))
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", NAMES)
def test_the_fast_path_is_taken(name):
    group = optimizers.build(name, small_net()).param_groups[0]
    if name in ("sgd", "momentum", "nesterov", "adagrad", "adam", "adamw"):
        assert group["fused"] is True
    elif name == "rmsprop":
        assert group["foreach"] is True


@pytest.mark.parametrize("name", NAMES)
def test_it_refuses_an_unknown_setting_and_names_the_nearest(name):
    with pytest.raises(UserError) as caught:
        optimizers.build(name, small_net(), {"wieght_decay": 0.1})
    assert caught.value.nearest == "weight_decay"
    assert "parameters" not in (caught.value.allowed or "").split(", ")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "fast", None, True])
@pytest.mark.parametrize("setting", ["lr", "weight_decay"])
def test_it_refuses_a_rate_that_is_none(name, setting, value):
    with pytest.raises(UserError) as caught:
        optimizers.build(name, small_net(), {setting: value})
    assert f"{name}: {setting} cannot be {value!r}" in str(caught.value)
    assert caught.value.allowed in ("0 or more", "more than 0")


@pytest.mark.parametrize("name", NAMES)
def test_its_builder_takes_parameters_that_can_be_read_only_once(name):
    x, y = small_data()
    ends = []
    for given in (list, iter):
        net = small_net()
        optimizer = registry.find("optimizer", name).build(given(list(net.parameters())), weight_decay=0.1)
        optimizer.step(closure_on(net, optimizer, x, y))
        ends.append(net.state_dict())
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
    assert not torch.equal(ends[0]["5.weight"], small_net().state_dict()["5.weight"])


@pytest.mark.parametrize("name", NAMES)
def test_it_refuses_a_network_without_weights(name):
    with pytest.raises(UserError, match="no weights"):
        optimizers.build(name, nn.ReLU())


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    data = load_digits()
    x = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return ((x - x.mean()) / x.std())[order], torch.tensor(data.target)[order]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("architecture", "seeds"), [(mlp, range(3)), (cnn, range(1))])
def test_it_trains_out_of_the_box_on_the_digits(name, architecture, seeds, digits):
    x, y = digits
    train, held_out = slice(0, 1437), slice(1437, None)
    facts = registry.find("optimizer", name).facts
    size, epochs = (1437, 5) if facts.get("full_batch", False) else (128, 12)
    if facts.get("whole_matrix", False):  # meant for few weights, and dear on more
        architecture, epochs = linear, 5
        seeds = range(1)
    elif name == "hessian_free":
        epochs = 15 if architecture is mlp else 8
    for seed in seeds:
        torch.manual_seed(seed)
        net = architecture()
        optimizer, factor = optimizers.build(name, net), schedules.build("one_cycle")
        rng = torch.Generator().manual_seed(seed)
        steps = epochs * (1437 // size)
        for step in range(steps):
            if step % (1437 // size) == 0:
                batches = torch.randperm(1437, generator=rng).split(size)
            batch = batches[step % (1437 // size)]
            optimizers.set_lr(optimizer, factor(step, steps))
            optimizer.step(closure_on(net, optimizer, x[train][batch], y[train][batch], outputs=True))
        assert (net(x[held_out]).argmax(1) == y[held_out]).float().mean() > 0.9
