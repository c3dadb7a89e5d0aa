"""Writing: what a chunk's loss is, and that chunks read one after the other are the row read in one go."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engram import models, optimizers, schedules
from engram.augment.compose import Batch
from engram.data.text_pool import IGNORED, TextPool
from engram.recipe import Device
from engram.review import methods
from engram.review.reviewer import Reviewer
from engram.tasks.write import Write, begin, detached, losses, share_right
from engram.text.chunks import Chunks
from engram.training import device, loop
from engram.training.events import Epoch

CPU = torch.device("cpu")
MACHINE = device.choose(Device(name="cpu", precision="float32", threads="1", allocator="system"), dimensions=1)
V = 5
KINDS = ("char_rnn", "char_gru", "char_lstm")


def writer(kind: str = "char_lstm", seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return models.build_writer(kind, vocabulary=V, settings={"hidden_size": 6, "depth": 2}).double()


def pool_of(length: int, *, tokens: int = 47, rows: int = 3, overlap: int = 0) -> TextPool:
    text = torch.randint(V, (tokens,), generator=torch.Generator().manual_seed(1))
    return TextPool(Chunks(text, rows=rows, length=length, overlap=overlap), CPU)


class Kept(Write):
    """The task, which keeps what each call saw."""

    def measure(self, net: nn.Module, batch: Batch, y: Tensor, part: slice, **more: Any) -> Any:
        found = super().measure(net, batch, y, part, **more)
        kept.append({"chunks": more["indices"][part], "y": y[part], "scores": found.scores.detach(), "found": found})
        return found


kept: list[dict[str, Any]] = []


def run(
    pool: TextPool, net: nn.Module, *, epochs: float = 1.0, lr: float = 0.0, review: str = "in_order", **more: Any
) -> tuple[loop.Parts, loop.State]:
    chunks = pool.chunks
    parts = loop.Parts(
        pool=pool,
        augment=lambda x, rng, dtype: Batch(x),
        factor=schedules.build("constant", {}),
        machine=MACHINE,
        validate=lambda judged: None,
        task=Kept(chunks.stride, chunks.rows),
        **more,
    )
    reviewer = Reviewer(len(pool), methods.build(review), batch_size=chunks.rows, epochs=epochs, labels=pool.labels)
    optimizer = optimizers.build("momentum", net, {"lr": lr, "momentum": 0.0, "weight_decay": 0.0})
    state = loop.build_state(net, optimizer, reviewer, MACHINE)
    kept.clear()
    return parts, state


def rows_of(pool: TextPool) -> tuple[Tensor, Tensor]:
    """(B, columns) of all rows: what is read, and what follows each."""
    chunks = pool.chunks
    used = chunks.columns * chunks.rows
    return chunks.tokens[:used].view(chunks.rows, -1), chunks.tokens[1 : used + 1].view(chunks.rows, -1)


def weights_of(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def some(b: int = 4, t: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores (b, t, V) and targets, of which some do not count, and in the last row none."""
    rng = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(b, t, V, generator=rng, dtype=torch.float64)
    y = torch.randint(V, (b, t), generator=rng)
    y[0, :2], y[1, 3:], y[2, ::2], y[3] = IGNORED, IGNORED, IGNORED, IGNORED
    return scores, y


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_a_loss_is_the_mean_over_the_tokens_that_count(smoothing: float) -> None:
    scores, y = some()
    expected = []
    for row, targets in zip(scores.tolist(), y.tolist(), strict=True):
        total, number = 0.0, 0
        for own, target in zip(row, targets, strict=True):
            if target == IGNORED:
                continue
            logs = [score - math.log(sum(map(math.exp, own))) for score in own]
            total -= (1 - smoothing) * logs[target] + smoothing / V * sum(logs)
            number += 1
        expected.append(total / number if number else 0.0)
    assert expected[3] == 0
    found = losses(scores, y, smoothing=smoothing)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_losses_are_in_32_bits_at_least() -> None:
    scores, y = some()
    half = scores.bfloat16()
    assert losses(half, y).dtype == torch.float32
    torch.testing.assert_close(losses(half, y).double(), losses(half.double(), y), rtol=0, atol=1e-5)


def test_tokens_that_do_not_count_have_no_gradient() -> None:
    scores, y = some()
    scores.requires_grad_()
    losses(scores, y, smoothing=0.1).sum().backward()
    assert scores.grad is not None
    moved = scores.grad.abs().sum(2) > 0
    assert torch.equal(moved, y != IGNORED)


def test_the_share_that_is_right_counts_only_what_counts() -> None:
    scores, y = some()
    expected = []
    for row, targets in zip(scores.numpy(), y.tolist(), strict=True):
        right = [int(np.argmax(own)) == target for own, target in zip(row, targets, strict=True) if target != IGNORED]
        expected.append(sum(right) / len(right) if right else 0.0)
    assert 0 < sum(expected) < 3
    np.testing.assert_allclose(share_right(scores, y), expected, atol=1e-7)


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_state_goes_on_exactly_where_a_chunk_follows(pieces: int) -> None:
    rng = torch.Generator().manual_seed(0)
    state = tuple(torch.randn(2, 4, 3, generator=rng) for _ in range(pieces))
    left = {"indices": torch.tensor([4, 5, 6, 7]), "state": state}
    found = begin(left, torch.tensor([4, 9, 6, 4]), slice(None))
    found = found if pieces > 1 else (found,)
    for own, before in zip(found, state, strict=True):
        assert torch.equal(own[:, [0, 2]], before[:, [0, 2]])
        assert not own[:, [1, 3]].any()


def test_a_part_of_a_batch_takes_its_own_rows_of_the_state() -> None:
    state = torch.arange(24.0).view(2, 4, 3) + 1
    left = {"indices": torch.tensor([4, 5, 6, 7]), "state": (state,)}
    found = begin(left, torch.tensor([6, 8]), slice(2, 4))
    assert torch.equal(found[:, 0], state[:, 2])
    assert not found[:, 1].any()


def test_another_number_of_rows_begins_anew() -> None:
    left = {"indices": torch.tensor([4, 5]), "state": (torch.ones(1, 2, 3),)}
    assert begin(left, torch.tensor([4, 5, 6]), slice(None)) is None


def test_parts_are_joined_side_by_side_and_one_without_a_state_leaves_none() -> None:
    parts = [
        {"indices": torch.tensor([first, first + 1]), "state": (torch.full((1, 2, 3), first), torch.zeros(1, 2, 3))}
        for first in (3.0, 7.0)
    ]
    joined = Write(4, 2).join(parts)
    assert joined is not None
    assert joined["indices"].tolist() == [3, 4, 7, 8]
    assert joined["state"][0][0, :, 0].tolist() == [3, 3, 7, 7]
    assert joined["state"][1].shape == (1, 4, 3)
    assert Write(4, 2).join([parts[0], None]) is None
    assert Write(4, 2).join([]) is None


def test_the_smaller_loss_is_the_better_one() -> None:
    rank = Write(4, 2).rank
    assert rank({"loss": 1.0, "accuracy": 0.1}) > rank({"loss": 1.1, "accuracy": 0.9})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("length", "overlap"), [(4, 0), (4, 1), (5, 3), (7, 2), (100, 0)])
def test_a_pass_in_chunks_gives_the_scores_of_the_rows_read_in_one_go(kind: str, length: int, overlap: int) -> None:
    pool, net = pool_of(length, overlap=overlap), writer(kind)
    parts, state = run(pool, net, epochs=2)
    events = list(loop.train(parts, state))
    x, following = rows_of(pool)
    with torch.no_grad():
        whole, _ = net(x, None)
    exact = -whole.log_softmax(2).gather(2, following[..., None])[..., 0]
    steps = len(pool.chunks)
    assert len(kept) == 2 * steps
    for first in (0, steps):  # the second pass begins anew
        seen = torch.zeros(x.shape, dtype=torch.int64)
        for step in kept[first : first + steps]:
            for row, chunk in enumerate(step["chunks"].tolist()):
                index, place = divmod(chunk, pool.chunks.rows)
                begins = index * pool.chunks.stride
                for column, target in enumerate(step["y"][row].tolist()):
                    if target == IGNORED:
                        continue
                    at = begins + column
                    assert target == following[place, at]
                    seen[place, at] += 1
                    torch.testing.assert_close(step["scores"][row, column], whole[place, at], rtol=0, atol=1e-12)
        assert seen.eq(1).all()  # every token once
    epoch = next(event for event in events if isinstance(event, Epoch))
    of_chunks = [float(one) for step in kept[:steps] for one in step["found"].losses]
    assert epoch.train["loss"] == pytest.approx(np.mean(of_chunks), rel=1e-6)
    if length == 100:
        assert epoch.train["loss"] == pytest.approx(float(exact.mean()), rel=1e-6)


def test_a_review_that_takes_chunks_out_of_order_begins_them_anew() -> None:
    pool, net = pool_of(4), writer()
    parts, state = run(pool, net, epochs=1, review="shuffle")
    list(loop.train(parts, state))
    before: list[int] = [-1] * 3
    fresh = 0
    for step in kept:
        for row, chunk in enumerate(step["chunks"].tolist()):
            if chunk != before[row] + 3:
                fresh += 1
                x, _ = next(pool.batches([torch.tensor([chunk])]))
                with torch.no_grad():
                    alone, _ = net(x, None)
                torch.testing.assert_close(step["scores"][row], alone[0], rtol=0, atol=1e-12)
        before = step["chunks"].tolist()
    assert fresh > 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("overlap", [0, 2])
def test_no_gradient_crosses_from_chunk_to_chunk(kind: str, overlap: int) -> None:
    pool, net = pool_of(5, overlap=overlap), writer(kind)
    parts, state = run(pool, net, lr=0.0)
    order = state.reviewer.batches()
    for batch, (x, y) in zip(order[:2], pool.batches(order[:2]), strict=True):
        handed = state.carried
        loop.update(parts, state, x, y, batch)
        assert state.carried is not None
        assert all(not one.requires_grad and one.grad_fn is None for one in state.carried["state"])
    by_hand = copy.deepcopy(net)
    by_hand.zero_grad(set_to_none=True)
    x, y = next(pool.batches([order[1]]))
    assert handed is not None
    numbers = tuple(one.clone() for one in handed["state"])
    scores, _ = by_hand(x, numbers if len(numbers) > 1 else numbers[0])  # all of the chunk, the overlap too
    losses(scores, y).mean().backward()
    assert y[:, :overlap].eq(IGNORED).all()
    for own, expected in zip(net.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(own.grad, expected.grad, rtol=0, atol=1e-12)


def test_one_chunk_of_the_row_is_full_back_propagation() -> None:
    pool, net = pool_of(15), writer()
    assert len(pool.chunks) == 1
    parts, state = run(pool, net)
    list(loop.train(parts, state))
    whole, truncated = copy.deepcopy(net), copy.deepcopy(net)
    whole.zero_grad(set_to_none=True)
    x, y = rows_of(pool)
    losses(whole(x, None)[0], y).mean().backward()
    for own, expected in zip(net.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(own.grad, expected.grad, rtol=0, atol=1e-12)
    truncated.zero_grad(set_to_none=True)
    before = None
    for part in (slice(0, 5), slice(5, 10), slice(10, 15)):
        scores, after = truncated(x[:, part], before)
        (losses(scores, y[:, part]).mean() / 3).backward()
        before = detached(after)
    differs = [(one.grad - other.grad).abs().max() for one, other in zip(net.parameters(), truncated.parameters())]  # noqa: B905
    assert max(differs) > 1e-4  # and truncated it is another gradient


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_give_the_same_gradient_and_the_same_state(accumulate: int) -> None:
    pool = pool_of(4, tokens=83, rows=5, overlap=1)
    nets = []
    for parts_of_a_batch in (1, accumulate):
        net = writer()
        parts, state = run(pool, net, lr=0.5, epochs=1, accumulate=parts_of_a_batch)
        list(loop.train(parts, state))
        nets.append((net, state.carried, torch.cat([step["found"].losses for step in kept])))
    (one, left, alone), (other, also, together) = nets
    assert not torch.equal(weights_of(one), weights_of(writer()))  # it has moved
    torch.testing.assert_close(weights_of(one), weights_of(other), rtol=0, atol=1e-12)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-12)
    assert torch.equal(left["indices"], also["indices"])
    for own, expected in zip(left["state"], also["state"], strict=True):
        assert own.shape == (2, 5, 6)
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-12)


def test_without_knowing_which_chunks_they_are_nothing_is_carried() -> None:
    pool, net = pool_of(4), writer()
    x, y = next(pool.batches([torch.arange(3)]))
    found = Write(4, 3).measure(net, Batch(x), y, slice(None), autocast=MACHINE.autocast)
    assert found.carried is None


def test_smoothing_reaches_what_is_measured() -> None:
    pool, net = pool_of(4), writer()
    x, y = next(pool.batches([torch.arange(3)]))
    found = Write(4, 3, 0.3).measure(net, Batch(x), y, slice(1, 3), autocast=MACHINE.autocast)
    with torch.no_grad():
        scores, _ = net(x[1:3], None)
    torch.testing.assert_close(found.losses, losses(scores, y[1:3], smoothing=0.3))
    assert not found.losses.requires_grad
    assert found.objective.requires_grad
