"""The loop: one step by hand is one step of the loop, and every event comes when it is due."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from engram import optimizers, schedules
from engram.augment import Batch
from engram.averaging import WeightAverage
from engram.recipe import Device
from engram.training import device, loop, order
from engram.training.events import Ended, Epoch, NotFinite, Step

MACHINE = device.choose(Device(name="cpu", precision="float32", threads="1", allocator="system"), dimensions=1)


class Numbers:
    """A pool of float vectors."""

    def __init__(self, count=20, seed=0):
        rng = torch.Generator().manual_seed(seed)
        self.x = torch.randn(count, 3, generator=rng)
        self.labels = (self.x.sum(1) > 0).long()
        self.shape, self.dtype, self.nbytes = (3,), torch.float32, 0

    def __len__(self):
        return len(self.labels)

    def name(self, index):
        return str(index)

    def pictures(self, indices):
        raise NotImplementedError

    def batches(self, indices):
        for batch in indices:
            yield self.x[batch], self.labels[batch]


def plain(x, rng, dtype):
    return Batch(x.to(dtype))


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))


def run(epochs=2.0, *, optimizer="momentum", settings=None, schedule="constant", pool=None, average=None, **changes):
    validate = changes.pop("validate", lambda judged: None)
    parts = loop.Parts(
        pool=pool or Numbers(),
        augment=changes.pop("augment", plain),
        factor=schedules.build(schedule, {}),
        machine=MACHINE,
        validate=validate,
        seed=0,
        epochs=epochs,
        batch_size=changes.pop("batch_size", 6),
        **changes,
    )
    network = net()
    state = loop.build_state(network, optimizers.build(optimizer, network, settings or {"lr": 0.1}), MACHINE)
    if average:
        state.average = WeightAverage(network, average)
    state.rng.manual_seed(0)
    return parts, state


def weights(state):
    return torch.cat([p.detach().flatten() for p in state.net.parameters()])


def test_the_loop_is_the_steps_by_hand():
    parts, state = run(epochs=2, schedule="cosine", label_smoothing=0.1, clip_norm=0.5)
    by_hand = net()
    optimizer = torch.optim.SGD(
        [
            {"params": [p for p in by_hand.parameters() if p.ndim > 1], "weight_decay": 5e-4},
            {"params": [p for p in by_hand.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=0.1,
        momentum=0.9,
    )
    pool, factor = Numbers(), schedules.build("cosine", {})
    losses = []
    for step in range(6):
        epoch, place = divmod(step, 3)
        batch = order.shuffled(20, seed=0, epoch=epoch)[6 * place : 6 * place + 6]
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * factor(step, 6)
        optimizer.zero_grad()
        loss = F.cross_entropy(by_hand(pool.x[batch]), pool.labels[batch], label_smoothing=0.1)
        loss.backward()
        nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    told = [event for event in loop.train(parts, state) if isinstance(event, Step)]
    torch.testing.assert_close([event.loss.item() for event in told], losses, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(weights(state), torch.cat([p.detach().flatten() for p in by_hand.parameters()]))
    assert [event.lr for event in told] == pytest.approx([0.1 * factor(step, 6) for step in range(6)])


def test_events_come_when_they_are_due():
    parts, state = run(epochs=2.5)
    names = [type(event).__name__ for event in loop.train(parts, state)]
    assert names == ["Step"] * 3 + ["Epoch"] + ["Step"] * 3 + ["Epoch"] + ["Step"] * 2 + ["Epoch", "Ended"]


def test_training_figures_are_of_the_batches_as_they_were_met():
    parts, state = run(epochs=1)
    events = list(loop.train(parts, state))
    steps = [event for event in events if isinstance(event, Step)]
    epoch = next(event for event in events if isinstance(event, Epoch))
    assert epoch.train["loss"] == pytest.approx(sum(event.loss.item() for event in steps) / 3, rel=1e-5)
    judge, fresh = run(epochs=1)
    correct = 0
    for event in loop.train(judge, fresh):
        if isinstance(event, Step) and event.step == 3:
            break
    # accuracy by hand: replay the steps and count before each update
    replay_parts, replay = run(epochs=1)
    for batch in order.batches(order.shuffled(20, seed=0, epoch=0), 6):
        x, y = replay_parts.pool.x[batch], replay_parts.pool.labels[batch]
        correct += int((replay.net(x).argmax(1) == y).sum())
        loop.update(replay_parts, replay, x, y)
    assert epoch.train["accuracy"] == pytest.approx(correct / 18)


def test_micro_batches_give_the_whole_batch_s_gradient():
    def mix(x, rng, dtype):
        partner = torch.randperm(len(x), generator=rng)
        return Batch(0.7 * x + 0.3 * x[partner], partner, torch.full((len(x),), 0.7))

    whole_parts, whole = run(augment=mix)
    split_parts, split = run(augment=mix, accumulate=4)
    list(loop.train(whole_parts, whole))
    list(loop.train(split_parts, split))
    torch.testing.assert_close(weights(whole), weights(split), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stop", range(1, 9))
def test_going_on_from_any_event_ends_at_the_same_weights(stop):
    def noisy(x, rng, dtype):
        return Batch(x + torch.randn(x.shape, generator=rng))

    settings = {"epochs": 2, "augment": noisy, "average": 0.9, "schedule": "one_cycle"}
    whole_parts, whole = run(**settings)
    list(loop.train(whole_parts, whole))
    parts, state = run(**settings)
    for number, _ in enumerate(loop.train(parts, state), 1):
        if number == stop:
            break
    saved = copy.deepcopy(state)  # as a saved state would be
    saved.rng.set_state(state.rng.get_state())
    events = list(loop.train(parts, saved))
    assert torch.equal(weights(whole), weights(saved))
    assert isinstance(events[-1], Ended)
    assert sum(isinstance(event, Epoch) for event in events) == (2 if stop < 4 else 1 if stop < 8 else 0)


def test_the_best_weights_and_early_stopping():
    figures = iter([0.5, 0.7, 0.7, 0.6, 0.9])

    def validate(judged):
        return {"loss": 1.0, "accuracy": next(figures)}

    parts, state = run(epochs=9, validate=validate, patience=2)
    events = list(loop.train(parts, state))
    assert [event.best for event in events if isinstance(event, Epoch)] == [True, True, False, False]
    assert events[-1] == Ended(12, "early_stopping")
    assert state.best["epoch"] == 2
    assert list(loop.train(parts, state)) == [Ended(12, "early_stopping")]  # and it stays stopped


def test_of_equal_accuracy_the_smaller_loss_is_better():
    losses = iter([1.0, 0.8, 0.9])
    parts, state = run(epochs=3, validate=lambda judged: {"loss": next(losses), "accuracy": 0.5})
    assert [event.best for event in loop.train(parts, state) if isinstance(event, Epoch)] == [True, True, False]


def test_a_loss_that_is_not_finite_stops_before_the_update():
    pool = Numbers()
    pool.x[order.shuffled(20, seed=0, epoch=0)[8]] = float("inf")  # in the second batch
    parts, state = run(epochs=2, pool=pool)
    seen = []
    for event in loop.train(parts, state):
        seen.append(event)
        if isinstance(event, Step):
            before = weights(state)
    assert isinstance(seen[-1], NotFinite)
    assert seen[-1].step == 2
    assert torch.equal(before, weights(state))
    assert torch.isfinite(weights(state)).all()


def test_the_averaged_weights_are_the_ones_judged():
    judged = []

    def validate(network):
        judged.append(torch.cat([p.detach().flatten().clone() for p in network.parameters()]))
        return {"loss": 1.0, "accuracy": 0.5}

    parts, state = run(epochs=1, validate=validate, average=0.99)
    list(loop.train(parts, state))
    assert not torch.equal(judged[0], weights(state))
    with state.judged_net() as network:
        assert torch.equal(judged[0], torch.cat([p.detach().flatten() for p in network.parameters()]))


def test_full_batches_with_a_closure():
    parts, state = run(epochs=8, optimizer="lbfgs", settings={}, batch_size=20)
    steps = [event for event in loop.train(parts, state) if isinstance(event, Step)]
    assert len(steps) == 8
    assert steps[-1].loss < 0.1 * steps[0].loss
    epoch_examples = 20
    assert all(event.examples == epoch_examples for event in steps)


def test_batches_cover_each_pass_once_and_leave_out_only_the_remainder():
    indices = order.shuffled(20, seed=3, epoch=1)
    batches = order.batches(indices, 6)
    assert [len(batch) for batch in batches] == [6, 6, 6]
    assert len(torch.cat(batches).unique()) == 18
    assert torch.equal(torch.cat(order.batches(indices, 50)), indices)
    assert not torch.equal(order.shuffled(20, seed=3, epoch=1), order.shuffled(20, seed=3, epoch=2))
    assert not torch.equal(order.shuffled(20, seed=3, epoch=1), order.shuffled(20, seed=4, epoch=0))
