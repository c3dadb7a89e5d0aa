"""The loop: one step by hand is one step of the loop, and every event comes when it is due."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from engram import optimizers, schedules
from engram.augment import Batch
from engram.averaging import WeightAverage
from engram.layers.auxiliary import Scores
from engram.recipe import Device
from engram.review import methods
from engram.review.method import Method, Round, whole_passes
from engram.review.reviewer import Reviewer, generator
from engram.tasks.classify import Classify
from engram.training import device, loop
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
    validate, batch_size = changes.pop("validate", lambda judged: None), changes.pop("batch_size", 6)
    review = changes.pop("review", ("shuffle",))
    parts = loop.Parts(
        pool=pool or Numbers(),
        augment=changes.pop("augment", plain),
        factor=schedules.build(schedule, {}),
        machine=MACHINE,
        validate=validate,
        **changes,
    )
    network = net()
    method = methods.build(*review)
    reviewer = Reviewer(len(parts.pool), method, batch_size=batch_size, epochs=epochs, labels=parts.pool.labels)
    built = optimizers.build(optimizer, network, settings or {"lr": 0.1})
    state = loop.build_state(network, built, reviewer, MACHINE)
    if average:
        state.average = WeightAverage(network, average)
    state.rng.manual_seed(0)
    return parts, state


def shuffled(seed, epoch):
    return torch.randperm(20, generator=generator(seed, epoch))


def weights(state):
    return torch.cat([p.detach().flatten() for p in state.net.parameters()])


def test_the_loop_is_the_steps_by_hand():
    parts, state = run(epochs=2, schedule="cosine", task=Classify(0.1), clip_norm=0.5)
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
        batch = shuffled(0, epoch)[6 * place : 6 * place + 6]
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
    for batch in shuffled(0, 0)[:18].split(6):
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
    pool.x[shuffled(0, 0)[8]] = float("inf")  # in the second batch
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


def test_what_every_example_showed_is_remembered():
    parts, state = run(epochs=2)
    losses, order, reviewer = {}, [], state.reviewer
    told, observe = [], reviewer.observe
    reviewer.observe = lambda seen, **more: told.append((reviewer.waiting, seen, more)) or observe(seen, **more)
    for event in loop.train(parts, state):
        if isinstance(event, Step):
            indices, step_losses, more = told[-1]
            losses |= dict(zip(indices.tolist(), step_losses.tolist(), strict=True))
            order += indices.tolist()
            assert float(event.loss) == pytest.approx(float(step_losses.mean()), rel=1e-5)
            assert more["lr"] == event.lr
    ledger = state.reviewer.ledger
    assert order == torch.cat([shuffled(0, 0)[:18], shuffled(0, 1)[:18]]).tolist()
    assert ledger.visits.tolist() == torch.bincount(torch.tensor(order), minlength=20).tolist()
    seen = sorted(losses)
    assert ledger.loss[seen].tolist() == pytest.approx([losses[index] for index in seen])


def test_a_review_changes_what_is_visited_and_weighs_it():
    settings = {"save": 0.5, "exponent": 1.0, "tail": 0.0}
    parts, state = run(epochs=4, review=("forgetting_curve", settings))
    events = list(loop.train(parts, state))
    assert [type(event).__name__ for event in events] == (["Step"] * 3 + ["Epoch"]) * 4 + ["Ended"]
    visits = state.reviewer.ledger.visits
    assert int(visits.sum()) == 72
    assert int(visits.max() - visits.min()) >= 2
    # the weighted mean is what was minimised: a step by hand with the round's weights gives the same weights
    again, fresh = run(epochs=4, review=("forgetting_curve", settings))
    by_hand = None
    for event in loop.train(again, fresh):
        if isinstance(event, Step) and by_hand is not None:
            torch.testing.assert_close(weights(fresh), by_hand)
            break
        if isinstance(event, Epoch) and event.epoch == 1:
            batch = fresh.reviewer.batches()[0]
            share = fresh.reviewer.weights[:6]
            assert float(share.max() - share.min()) > 0.1
            copied = copy.deepcopy(fresh.net)
            optimizer = torch.optim.SGD(copied.parameters(), lr=0.1)
            for mine, theirs in zip(copied.parameters(), fresh.net.parameters(), strict=True):
                buffer = fresh.optimizer.state[theirs].get("momentum_buffer")
                decay = 5e-4 if mine.ndim > 1 else 0.0
                loss = share * F.cross_entropy(copied(again.pool.x[batch]), again.pool.labels[batch], reduction="none")
                (gradient,) = torch.autograd.grad(loss.mean(), [mine])
                optimizer.state[mine] = {"update": 0.9 * buffer + gradient + decay * mine.detach()}
            moved = [p.detach() - 0.1 * optimizer.state[p]["update"] for p in copied.parameters()]
            by_hand = torch.cat([p.flatten() for p in moved])
    assert by_hand is not None


def mix(x, rng, dtype):
    partner = torch.arange(len(x)).roll(1)
    share = torch.tensor([0.9, 0.2, 0.9, 0.2, 0.9, 0.2])
    return Batch(share[:, None] * x + (1 - share)[:, None] * x[partner], partner, share)


def test_of_a_mixed_picture_the_answer_counts_in_the_shares_of_its_labels():
    parts, state = run(epochs=1, augment=mix)
    before = net()
    next(loop.train(parts, state))
    batch = shuffled(0, 0)[:6]
    x, y = mix(parts.pool.x[batch], None, None).x, parts.pool.labels[batch]
    share = torch.tensor([0.9, 0.2, 0.9, 0.2, 0.9, 0.2])
    answers = before(x).argmax(1)
    expected = (share * (answers == y) + (1 - share) * (answers == y.roll(1))).sum()
    assert 0 < float(expected) < 6
    torch.testing.assert_close(state.totals[1], expected)


def test_where_answers_are_what_is_remembered_those_of_a_mixed_picture_are_of_its_larger_part():
    parts, state = run(epochs=1, augment=mix)
    state.reviewer.measure = "correct"
    before = net()
    next(loop.train(parts, state))
    grades = state.reviewer.pending[0][2]
    batch = shuffled(0, 0)[:6]
    answers = before(mix(parts.pool.x[batch], None, None).x).argmax(1)
    right = answers == parts.pool.labels[batch[torch.tensor([0, 0, 2, 2, 4, 4])]]
    assert 0 < int(right.sum()) < 6
    assert grades.tolist() == right.float().tolist()


def test_of_a_mixed_picture_the_larger_part_is_remembered():
    parts, state = run(epochs=1, augment=mix)
    before = net()
    next(loop.train(parts, state))
    indices, losses = state.reviewer.pending[0][:2]
    batch = shuffled(0, 0)[:6]
    places = torch.tensor([0, 0, 2, 2, 4, 4])  # where the share is .2, its partner's
    assert indices.tolist() == batch[places].tolist()
    x = mix(parts.pool.x[batch], None, None).x
    expected = F.cross_entropy(before(x), parts.pool.labels[batch[places]], reduction="none")
    torch.testing.assert_close(losses, expected)


class WithHeads(nn.Module):
    """Two heads; the first one's scores count while training."""

    def __init__(self, weight):
        super().__init__()
        torch.manual_seed(3)
        self.trunk, self.early, self.late = nn.Linear(3, 8), nn.Linear(8, 2), nn.Linear(8, 2)
        self.weight = weight

    def forward(self, x):
        x = self.trunk(x).relu()
        return Scores(self.late(x), (self.early(x),), self.weight) if self.training else self.late(x)


def test_auxiliary_heads_add_their_loss_and_nothing_else():
    parts, state = run(epochs=1, optimizer="sgd", batch_size=20, settings={"lr": 0.1, "weight_decay": 0.0})
    state.net = WithHeads(0.3)
    state.optimizer = optimizers.build("sgd", state.net, {"lr": 0.1, "weight_decay": 0.0})
    by_hand, x, y = WithHeads(0.3), parts.pool.x, parts.pool.labels
    given = by_hand(x)
    main = F.cross_entropy(given.main, y)
    (main + 0.3 * F.cross_entropy(given.auxiliary[0], y)).backward()
    seen = loop.update(parts, state, x, y)
    for ours, theirs in zip(state.net.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(seen.loss, main.detach())  # what is told and remembered is the last head's
    torch.testing.assert_close(seen.losses, F.cross_entropy(given.main, y, reduction="none").detach())


class TakesLoss(torch.optim.SGD):
    """Differentiates the loss itself, twice a step."""

    needs_loss = True

    def step(self, loss_of):
        (first, scores), (second, _) = loss_of(), loss_of()
        self.scores = scores.shape
        self.evaluations = (first.item(), second.item())
        weights = self.param_groups[0]["params"]
        for p, g in zip(weights, torch.autograd.grad(second, weights), strict=True):
            p.data -= 0.1 * g
        return first.detach()


def test_an_optimiser_may_take_the_loss_and_sees_one_function_in_a_step():
    parts, state = run(epochs=1)
    torch.manual_seed(5)
    state.net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    state.optimizer = TakesLoss(state.net.parameters(), lr=0.1)
    by_hand = copy.deepcopy(state.net)
    x, y = parts.pool.x, parts.pool.labels
    torch.manual_seed(11)
    loss = F.cross_entropy(by_hand(x), y)
    stands = torch.get_rng_state()
    loss.backward()
    torch.manual_seed(11)
    seen = loop.update(parts, state, x, y)
    assert state.optimizer.evaluations == (loss.item(), loss.item())  # the same units were dropped
    assert state.optimizer.scores == (len(y), 2)  # from which a Gauss-Newton product is made
    assert torch.equal(torch.get_rng_state(), stands)
    torch.testing.assert_close(seen.loss, loss.detach())
    assert len(seen.losses) == 20  # the first evaluation's
    for ours, p in zip(state.net.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours.detach(), p.detach() - 0.1 * p.grad)


class Weighs(Method):
    """Weighs by an example's place in what it was given, the more the more often it was asked."""

    def __init__(self):
        self.given = []

    def plan(self, steps_per_pass, total_steps):
        return whole_passes(steps_per_pass, total_steps)

    def choose(self, ledger, moment):
        return Round(torch.arange(len(ledger)), torch.arange(1.0, len(ledger) + 1), normalise=False)

    def weigh(self, losses, rng):
        self.given.append(losses)
        return len(self.given) + torch.arange(len(losses))


@pytest.mark.parametrize(("name", "accumulate"), [("lbfgs", 1), ("lbfgs", 3), ("loss", 1), ("momentum", 1)])
def test_a_method_weighs_a_batch_once_a_step_however_often_it_is_evaluated(name, accumulate):
    settings = {"lr": 0.1} if name == "momentum" else {}
    parts, state = run(epochs=2, optimizer="sgd" if name == "loss" else name, settings=settings, accumulate=accumulate)
    if name == "loss":
        state.optimizer = TakesLoss(state.net.parameters(), lr=0.1)
    state.reviewer.method = method = Weighs()
    told = [event for event in loop.train(parts, state) if isinstance(event, Step)]
    assert len(told) == 6
    assert len(method.given) == 6 * accumulate
    first = torch.cat(method.given[:accumulate])  # and the ones it takes are those of the first evaluation
    torch.testing.assert_close(first, F.cross_entropy(net()(parts.pool.x[:6]), parts.pool.labels[:6], reduction="none"))


def test_a_search_sees_one_function_and_it_is_the_weighted_one():
    parts, state = run(epochs=1, batch_size=20)
    state.reviewer.method = Weighs()
    state.optimizer = TakesLoss(state.net.parameters(), lr=0.1)
    losses = F.cross_entropy(state.net(parts.pool.x), parts.pool.labels, reduction="none")
    list(loop.train(parts, state))
    weights = torch.arange(1.0, 21.0) * torch.arange(1.0, 21.0)  # the round's times the method's
    assert state.optimizer.evaluations == pytest.approx([(weights * losses).mean().item()] * 2)


def test_the_parts_of_a_batch_weigh_as_the_round_says():
    parts, state = run(epochs=1, accumulate=3)
    state.reviewer.method = Weighs()
    state.reviewer.method.weigh = lambda losses, rng: None
    next(loop.train(parts, state))
    by_hand = net()
    losses = F.cross_entropy(by_hand(parts.pool.x[:6]), parts.pool.labels[:6], reduction="none")
    (torch.arange(1.0, 7.0) * losses).mean().backward()
    for ours, theirs in zip(state.net.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_what_counts_as_recalled_may_be_what_was_named_right():
    parts, state = run(epochs=1)
    state.reviewer.measure = "correct"
    named = net()(parts.pool.x).argmax(1) == parts.pool.labels
    next(loop.train(parts, state))
    indices, _, grades = state.reviewer.pending[0][:3]
    assert 0 < int(named[indices].sum()) < 6
    assert grades.tolist() == named[indices].float().tolist()


def test_regularisers_act_between_the_gradient_and_the_clipping_and_after_the_step():
    seen = []

    def regularize(net):
        seen.append(net[0].weight.grad.norm().item())
        net[0].weight.grad += 100.0

    def constrain(net, lr):
        seen.append(lr)
        net[2].bias.data.fill_(7.0)

    parts, state = run(epochs=1, clip_norm=1.0, regularize=regularize, constrain=constrain)
    loop.update(parts, state, parts.pool.x, parts.pool.labels)
    assert seen[0] < 10
    assert seen[1] == 0.1
    clipped = torch.cat([p.grad.flatten() for p in state.net.parameters()]).norm()
    torch.testing.assert_close(clipped, torch.tensor(1.0), rtol=1e-4, atol=0)
    assert state.net[2].bias.tolist() == [7.0, 7.0]


def test_weights_are_not_moved_where_no_step_was_made():
    moved = []
    parts, state = run(epochs=1, constrain=lambda net, lr: moved.append(lr))
    with torch.no_grad():
        state.net[0].weight.fill_(float("inf"))
    loop.update(parts, state, parts.pool.x, parts.pool.labels)
    assert moved == []
