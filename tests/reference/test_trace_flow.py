"""The flow map: lengths as autograd has them, branches that add up, poolings by hand, and a network left as it was."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import models
from engram.errors import UserError
from engram.layers.auxiliary import with_auxiliary_heads
from engram.layers.max_pool import HalvingMaxPool
from engram.trace.flow import flow
from engram.trace.lengths import length
from engram.trace.page import page
from engram.trace.untouched import untouched


class Block(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.conv, self.scale = nn.Conv2d(2, 2, 3, padding=1), scale

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.scale * self.conv(x) + x)


class Network(nn.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.block = Block(scale)
        self.left, self.right = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.stem(x))
        x = torch.cat([self.left(x), self.right(x)], 1)
        return self.head(self.pool(x).mean((2, 3)))


@pytest.fixture
def net() -> Network:
    torch.manual_seed(0)
    return Network().double().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


Y = torch.tensor([0, 3, 1])


def test_what_enters_and_leaves_as_autograd_has_it(net, x):
    found = {part.name: part for part in flow(net, x, Y).parts}
    kept: dict[str, tuple[Tensor, Tensor]] = {}
    for name, module in net.named_modules():
        if name in ("stem", "block", "left", "right", "pool", "head"):
            module.register_full_backward_hook(
                lambda _, sent, came, name=name: kept.__setitem__(name, (came[0], sent[0]))
            )
    F.cross_entropy(net(x.requires_grad_()), Y, reduction="sum").backward()
    assert len(kept) == 6
    for name, (came, sent) in kept.items():
        assert found[name].entering == pytest.approx(length(came), rel=1e-12)
        assert found[name].leaving == pytest.approx(length(sent), rel=1e-12)


def test_the_length_is_that_of_each_example(net, x):
    """Of several examples the mean of what each has alone: it does not grow with the batch."""
    alone = [flow(net, x[one : one + 1], Y[one : one + 1]).parts for one in range(3)]
    for place, part in enumerate(flow(net, x, Y).parts):
        assert part.entering == pytest.approx(np.mean([parts[place].entering for parts in alone]), rel=1e-9)


def test_branches(net, x):
    found = {(one.fork, one.way): one for one in flow(net, x, Y).branches}
    assert set(found) == {
        ("stem", "block.conv"),
        ("stem", "add in block"),
        ("block", "left"),
        ("block", "right"),
    }
    assert found["stem", "add in block"].kind == "shortcut"
    assert found["stem", "block.conv"].kind == "residual"
    assert found["block", "left"].kind == found["block", "right"].kind == "branch"
    for fork in ("stem", "block"):
        assert sum(one.share for key, one in found.items() if key[0] == fork) == pytest.approx(1)
    middle = net.block(net.stem(x)).detach().requires_grad_()
    left, right = net.left(middle), net.right(middle)
    loss = F.cross_entropy(net.head(net.pool(torch.cat([left, right], 1)).mean((2, 3))), Y, reduction="sum")
    above = torch.autograd.grad(loss, [left, right], retain_graph=True)
    for name, part, sent in zip(("left", "right"), (left, right), above, strict=True):
        (by_hand,) = torch.autograd.grad(part, middle, sent, retain_graph=True)
        assert found["block", name].gradient == pytest.approx(length(by_hand), rel=1e-12)


def test_a_residual_path_that_brings_nothing_is_seen(x):
    torch.manual_seed(0)
    rows = flow(Network(scale=1e-4).double().eval(), x, Y).tributaries
    shares = {one.kind: one.share for one in rows if one.join == "block"}
    assert shares["shortcut"] > 0.99
    assert shares["residual"] < 0.01
    assert sum(shares.values()) == pytest.approx(1)


def test_poolings(net, x):
    (found,) = flow(net, x, Y).poolings
    assert (found.name, found.operation, found.windows) == ("pool", "max_pool2d", "3x3")
    assert found.share == pytest.approx(1 / 4), "one of each window of four"
    assert len(found.winners) == 9
    before = torch.cat([net.left(h := net.block(net.stem(x))), net.right(h)], 1)
    _, places = F.max_pool2d(before, 2, return_indices=True)
    winners = {divmod(int(place), 6) for place in places[0, found.channel].flatten()}
    assert {(row, column) for row, column, _ in found.winners} == winners
    assert found.received.shape == (6, 6)
    average = flow(nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(9, 3)).double(), x).poolings[0]
    assert average.share == 1


class Headed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Dropout(0.5))
        self.end = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.two(self.one(x)))


def test_a_pooling_of_our_own_is_one_too():
    """On few channels in channels-last memory it is a function of its own, without gradients inside."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), HalvingMaxPool(2), nn.Flatten(), nn.Linear(18, 3))
    x = torch.randn(1, 1, 6, 6)
    plain = flow(net, x).poolings[0]
    own = flow(net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)).poolings[0]
    assert (own.operation, own.windows, own.share) == (plain.operation, plain.windows, plain.share)
    assert np.allclose(own.received, plain.received, atol=1e-6)


def test_auxiliary_heads_speak_and_nothing_else_changes():
    torch.manual_seed(0)
    net = Headed()
    with_auxiliary_heads(net, "one", shape=(1, 8, 8))
    net.eval()
    x, state = torch.randn(1, 1, 8, 8), {name: one.clone() for name, one in net.state_dict().items()}
    before = net(x)
    found = flow(net, x)
    ways = {one.way: one for one in found.branches}
    assert ways["auxiliary"].kind == "auxiliary"
    assert ways["two"].kind == "branch"
    assert ways["auxiliary"].share + ways["two"].share == pytest.approx(1)
    assert not any(module.training for module in net.modules())
    assert all(torch.equal(one, state[name]) for name, one in net.state_dict().items())
    assert torch.equal(net(x), before)


@pytest.mark.parametrize("training", [False, True])
def test_the_network_is_left_as_it_was(training):
    torch.manual_seed(0)
    net = models.build("resnet20", shape=(3, 8, 8), num_classes=10).train(training)
    net.stages[0].train(not training)
    modes = {name: module.training for name, module in net.named_modules()}
    state = {name: one.clone() for name, one in net.state_dict().items()}
    versions = {name: p._version for name, p in net.named_parameters()}
    x, random = torch.randn(2, 3, 8, 8), torch.get_rng_state()
    flow(net, x, torch.tensor([1, 2]))
    assert torch.equal(torch.get_rng_state(), random)
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert all(torch.equal(one, state[name]) for name, one in net.state_dict().items())
    assert {name: p._version for name, p in net.named_parameters()} == versions
    assert all(p.grad is None for p in net.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_untouched_puts_a_replaced_buffer_back():
    net = nn.BatchNorm1d(2)
    held = net.running_mean

    def upset() -> None:
        with untouched(net):
            net.running_mean = torch.ones(2)
            held.fill_(7)
            net.eval()
            raise KeyError

    with pytest.raises(KeyError):
        upset()
    assert net.running_mean is held
    assert held.tolist() == [0, 0]
    assert net.training


def test_a_module_that_runs_twice_and_one_that_hands_through():
    torch.manual_seed(0)
    shared = nn.Linear(4, 4)
    found = flow(nn.Sequential(shared, nn.Identity(), shared, nn.Linear(4, 3)), torch.randn(2, 4))
    assert [part.name for part in found.parts] == ["", "0 (1)", "1", "0 (2)", "3"]
    assert found.parts[2].entering is None
    assert found.parts[1].entering == pytest.approx(found.parts[3].leaving)


class Last(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 3, batch_first=batch_first)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x if self.rnn.batch_first else x.transpose(0, 1))
        return self.head(out[:, -1] if self.rnn.batch_first else out[-1])


@pytest.mark.parametrize("batch_first", [True, False])
def test_time_steps(batch_first):
    torch.manual_seed(0)
    net, x = Last(batch_first).double(), torch.randn(3, 9, 2, dtype=torch.float64)
    (steps,) = flow(net, x, torch.tensor([0, 1, 1])).steps
    wanted = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(net(wanted), torch.tensor([0, 1, 1]), reduction="sum"), wanted)
    assert steps.gradients == pytest.approx([length(gradient[:, step]) for step in range(9)], rel=1e-9)
    assert steps.gradients[0] < 0.1 * steps.gradients[-1], "a plain recurrent layer forgets"


def test_as_text_and_as_json(net, x):
    found = flow(net, x, Y)
    told = str(found)
    assert "gradient enters" in told
    assert "add in block" in told
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["loss"] == pytest.approx(found.loss)
    net.head.weight.data.fill_(math.nan)
    json.dumps(flow(net, x, Y).to_dict(), allow_nan=False)


def test_the_page(net, x):
    drawn = page(flow(net, x, Y))
    assert drawn.startswith("<!doctype html>")
    for heading in ("The gradient by depth", "Which way it came", "Who received it in the poolings", "What was joined"):
        assert heading in drawn
    assert drawn.count('class="winner"') == 9
    assert "<script" not in drawn
    net.head.weight.data.fill_(math.nan)
    assert "<h1>" in page(flow(net, x, Y))
    assert "<h1>" in page(flow(nn.Linear(3, 2), torch.randn(1, 3)))


def test_another_loss(net, x):
    found = flow(net, x, loss=lambda given, y: given[:, 2].sum())
    assert found.loss == pytest.approx(net(x)[:, 2].sum().item())


def test_bad_input(net, x):
    with pytest.raises(UserError, match="no scores"):
        flow(net.stem, x)
    with pytest.raises(UserError, match="y does not fit"):
        flow(net, x, torch.tensor([0, 1]))
    with pytest.raises(UserError, match="y does not fit"):
        flow(net, x, torch.tensor([0, 1, 9]))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
