"""Resident and streamed pools give the same batches; damaged examples are named, and memory is as promised."""

import multiprocessing
import os
import signal
from itertools import count, islice

import numpy as np
import pytest
import torch

from engram.data import decoding, pool, pool_streamed
from engram.data.examples import Examples, Unreadable
from engram.data.form import Form
from engram.data.open import open_source
from engram.data.pool_streamed import StreamedPool
from engram.errors import UserError

CPU = torch.device("cpu")


class Pictures(Examples):
    """Colour pictures of one size, some of which cannot be decoded."""

    def __init__(self, count=40, damaged=(), size=(6, 5), channels=3):
        self.labels = np.arange(count, dtype=np.int64) % 4
        self.pixels = np.random.default_rng(0).integers(0, 256, (count, channels, *size), np.uint8)
        self.damaged = set(damaged)

    def name(self, index):
        return f"picture {index}"

    def read(self, index, at_least=None):
        if index in self.damaged:
            raise Unreadable(self.name(index), "truncated")
        return self.pixels[index]


ROWS = np.array([3, 1, 20, 7, 30, 12, 5], np.int64)
BATCHES = [torch.tensor([0, 6, 2]), torch.tensor([5, 5]), torch.tensor([4])]


@pytest.mark.parametrize("workers", [0, 2])
def test_resident_and_streamed_give_the_same_batches(workers):
    examples = Pictures()
    form = Form((3, 6, 5), pictures=True)
    resident, failed = pool.fill(examples, ROWS, form, CPU)
    streamed = StreamedPool(examples, ROWS, form, CPU, workers)
    assert not failed
    assert len(resident) == len(streamed) == 7
    assert resident.shape == streamed.shape == (3, 6, 5)
    assert resident.nbytes == 7 * 3 * 6 * 5
    for indices, (x, y), (other_x, other_y) in zip(
        BATCHES, resident.batches(BATCHES), streamed.batches(BATCHES), strict=True
    ):
        torch.testing.assert_close(x, other_x, rtol=0, atol=0)
        torch.testing.assert_close(y, other_y, rtol=0, atol=0)
        np.testing.assert_array_equal(x.numpy(), examples.pixels[ROWS[indices.numpy()]])
        np.testing.assert_array_equal(y.numpy(), examples.labels[ROWS[indices.numpy()]])
        assert x.dtype == torch.uint8
        assert x.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(resident.pictures([2, 0]), examples.pixels[ROWS[[2, 0]]])
    np.testing.assert_array_equal(streamed.pictures([2, 0]), examples.pixels[ROWS[[2, 0]]])
    assert resident.name(1) == streamed.name(1) == "picture 1"
    assert resident.name(0) == "picture 3"


def test_damaged_examples_are_left_out_and_named():
    examples = Pictures(damaged=(20, 12))
    form = Form((3, 6, 5), pictures=True)
    resident, failed = pool.fill(examples, ROWS, form, CPU)
    assert [one.name for one in failed] == ["picture 20", "picture 12"]
    assert len(resident) == 5
    x, y = next(iter(resident.batches([torch.arange(5)])))
    left = [3, 1, 7, 30, 5]
    np.testing.assert_array_equal(x.numpy(), examples.pixels[left])
    np.testing.assert_array_equal(y.numpy(), examples.labels[left])
    kept, failed = pool.readable(examples, ROWS, form)
    assert kept.tolist() == left
    assert [one.name for one in failed] == ["picture 20", "picture 12"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_breaks_while_training_is_named(workers, monkeypatch):
    monkeypatch.setattr(pool_streamed, "PATIENCE", 0.0)
    streamed = StreamedPool(Pictures(damaged=(20,)), ROWS, Form((3, 6, 5), pictures=True), CPU, workers)
    with pytest.raises(UserError, match="picture 20 can no longer be read: truncated"):
        list(streamed.batches(BATCHES))


def test_a_file_that_was_away_for_a_moment_is_tried_again(monkeypatch):
    waits = []
    monkeypatch.setattr(pool_streamed.time, "sleep", waits.append)

    class Away(Pictures):
        tries = 0

        def read(self, index, at_least=None):
            self.tries += index == 20
            if index == 20 and self.tries == 1:
                raise Unreadable(self.name(index), "stale handle")
            return self.pixels[index]

    examples = Away()
    streamed = StreamedPool(examples, ROWS, Form((3, 6, 5), pictures=True), CPU, 0)
    batches = list(streamed.batches(BATCHES))
    np.testing.assert_array_equal(batches[0][0].numpy(), examples.pixels[ROWS[[0, 6, 2]]])
    assert waits == [pool_streamed.PATIENCE]


def test_a_worker_that_dies_is_an_error_with_a_remedy():
    class Deadly(Pictures):
        def read(self, index, at_least=None):
            if multiprocessing.parent_process() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            return self.pixels[index]

    streamed = StreamedPool(Deadly(), ROWS, Form((3, 6, 5), pictures=True), CPU, 1, method="fork")
    with pytest.raises(UserError, match="ended by the system") as caught:
        list(streamed.batches(BATCHES))
    assert "--data.workers 1" in caught.value.then


def test_batches_go_through_a_pipe_where_shared_memory_is_small(monkeypatch):
    examples = Pictures()
    form = Form((3, 6, 5), pictures=True)
    kinds = []
    for free in (0, 2**40):
        monkeypatch.setattr(pool_streamed.memory, "shared_memory", lambda free=free: free)
        streamed = StreamedPool(examples, ROWS, form, CPU, 1)
        kinds.append(streamed._loader(3).loader.dataset.shared)
        for indices, (x, _) in zip(BATCHES, streamed.batches(BATCHES), strict=True):
            np.testing.assert_array_equal(x.numpy(), examples.pixels[ROWS[indices.numpy()]])
    assert kinds == [False, True]


@pytest.mark.parametrize("workers", [0, 1])
def test_indices_are_drawn_as_they_are_needed_and_may_have_no_end(workers):
    examples = Pictures()
    streamed = StreamedPool(examples, ROWS, Form((3, 6, 5), pictures=True), CPU, workers)
    drawn = []

    def endless():
        for number in count():
            drawn.append(number)
            yield torch.tensor([number % 7, (number + 2) % 7])

    for number, (_, y) in enumerate(islice(streamed.batches(endless()), 5)):
        assert y.tolist() == examples.labels[ROWS[[number % 7, (number + 2) % 7]]].tolist()
    assert len(drawn) <= 5 + workers * pool_streamed.AHEAD
    assert list(streamed.batches([])) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_are_started_anew_stay_and_give_the_same(method):
    source = open_source("digits")
    rows = np.arange(60)
    form = Form((1, 8, 8), pictures=True)
    resident, _ = pool.fill(source.train, rows, form, CPU)
    streamed = StreamedPool(source.train, rows, form, CPU, 1, method=method)
    order = list(torch.randperm(60, generator=torch.Generator().manual_seed(0)).split(16))
    workers = []
    for _ in range(2):
        for (x, y), (other_x, other_y) in zip(resident.batches(order), streamed.batches(order), strict=True):
            assert torch.equal(x, other_x)
            assert torch.equal(y, other_y)
        workers.append([process.pid for process in multiprocessing.active_children()])
    assert workers[0] == workers[1]
    assert len(workers[0]) == 1
    stopped = streamed.batches(order)
    next(stopped)
    inside = list(streamed.batches(order[:2]))  # another pass in the middle of one
    assert torch.equal(inside[1][0], next(islice(resident.batches(order), 1, None))[0])
    stopped.close()
    again = next(iter(streamed.batches(order[3:])))  # and what was left of the first one is gone
    assert torch.equal(again[0], next(iter(resident.batches(order[3:])))[0])


@pytest.mark.parametrize("way", ["alone", "threads", "processes"])
def test_whoever_decodes_the_blocks_come_in_order_and_whole(way, monkeypatch):
    monkeypatch.setattr(decoding, "BLOCK", 0)  # blocks of 16
    examples = Pictures(300, damaged=(17, 18, 250))
    rows = np.random.default_rng(0).permutation(300)
    form = Form((3, 6, 5), pictures=True)
    blocks = list(decoding.blocks(examples, rows, form, way=way))
    assert len(blocks) == 19
    start = 0
    for block in blocks:
        part = rows[start : start + 16]
        np.testing.assert_array_equal(block.stored, examples.pixels[part[block.kept]].transpose(0, 2, 3, 1))
        assert sorted([*block.kept, *block.failed]) == list(range(len(part)))
        assert {int(part[place]) for place in block.failed} == set(part.tolist()) & {17, 18, 250}
        assert all(block.failed[place].why == "truncated" for place in block.failed)
        start += len(part)
    only_which = list(decoding.blocks(examples, rows, form, keep=False, way=way))
    assert [block.kept for block in only_which] == [block.kept for block in blocks]


def test_small_pictures_are_decoded_in_processes_large_ones_in_threads_few_by_nobody_else(monkeypatch):
    monkeypatch.setattr(decoding, "available_cores", lambda: 4)
    assert decoding._way(1e-4, 100) == "alone"
    assert decoding._way(1e-4, 50_000) == "processes"
    assert decoding._way(2e-3, 50_000) == "threads"
    monkeypatch.setattr(decoding, "_is_linux", lambda: False)
    assert decoding._way(1e-4, 50_000) == "alone"
    assert decoding._way(2e-3, 50_000) == "threads"
    monkeypatch.setattr(decoding, "available_cores", lambda: 1)
    assert decoding._way(2e-3, 50_000) == "alone"


def test_threads_run_no_further_ahead_than_a_few_blocks(monkeypatch):
    monkeypatch.setattr(decoding, "BLOCK", 0)
    monkeypatch.setattr(decoding, "available_cores", lambda: 2)
    examples = Pictures(16 * 40)
    begun = set()
    read = examples.read
    monkeypatch.setattr(examples, "read", lambda index, at_least=None: begun.add(index // 16) or read(index))
    blocks = decoding.blocks(examples, np.arange(16 * 40), Form((3, 6, 5), pictures=True), way="threads")
    for _ in range(10):
        next(blocks)
    assert len(begun) <= 10 + 5
    blocks.close()


class Array(Pictures):
    """Examples that lie side by side already, and must not be read one by one."""

    def read(self, index, at_least=None):
        raise AssertionError

    def array(self):
        return self.pixels


def test_what_lies_side_by_side_is_copied_without_a_loop():
    examples = Array()
    resident, failed = pool.fill(examples, ROWS, Form((3, 6, 5), pictures=True), CPU)
    assert not failed
    np.testing.assert_array_equal(resident.pictures(range(7)), examples.pixels[ROWS])
    assert resident.stored.is_contiguous()
    before = examples.pixels.copy()
    resident.stored.zero_()
    np.testing.assert_array_equal(examples.pixels, before)  # the pool is a copy


def test_numbers_that_are_none_are_found_side_by_side_too():
    examples = Array()
    examples.pixels = np.random.default_rng(0).normal(size=(40, 2, 9))
    examples.pixels[7, 1, 3] = np.inf
    resident, failed = pool.fill(examples, ROWS, Form((2, 9), pictures=False), CPU)
    assert [(one.name, type(one).__name__) for one in failed] == [("picture 7", "NotFinite")]
    left = [3, 1, 20, 30, 12, 5]
    assert resident.dtype == torch.float32
    np.testing.assert_array_equal(resident.pictures(range(6)), examples.pixels[left].astype(np.float32))
    assert [resident.name(index) for index in range(6)] == [f"picture {row}" for row in left]


def test_filling_takes_the_set_once(monkeypatch):
    """Blocks go to their places as they come: nothing else of the size of the set is made."""
    monkeypatch.setattr(decoding, "BLOCK", 2**14)
    examples = Pictures(2000, damaged=range(0, 2000, 50), size=(32, 32))
    largest = []
    real = np.empty
    monkeypatch.setattr(np, "empty", lambda *given, **more: largest.append(real(*given, **more)) or largest[-1])
    resident, failed = pool.fill(examples, np.arange(2000), Form((3, 32, 32), pictures=True), CPU)
    assert len(resident) == 1960
    assert len(failed) == 40
    assert max(array.nbytes for array in largest) <= 16 * 32 * 32 * 3
    assert (
        resident.stored.untyped_storage().nbytes() == 2000 * 32 * 32 * 3
    )  # the one tensor, and no copy of what is left


def test_grey_and_colour_and_sizes_are_brought_to_one_form():
    form = Form((3, 4, 4), pictures=True)
    stored = form.read(Pictures(channels=1, size=(8, 6)), 0)
    assert stored.shape == (4, 4, 3)
    assert (stored[..., 0] == stored[..., 2]).all()


def test_decoders_are_told_how_many_pixels_are_used():
    asked = []

    class Asked(Pictures):
        def read(self, index, at_least=None):
            asked.append(at_least)
            return self.pixels[index] if at_least is None or at_least > 5 else self.pixels[index].astype(np.float32)

    Form((3, 6, 5), pictures=True).read(Asked(), 0)
    Form((3, 6, 5), pictures=False).read(Asked(), 0)
    assert asked == [6, None]


def test_signals_keep_their_shape_and_must_be_numbers():
    class Signals(Pictures):
        def read(self, index, at_least=None):
            values = np.full((2, 9 if index == 2 else 8), 0.5, np.float32)
            values[0, 0] = np.nan if index == 1 else index
            return values

    form = Form((2, 8), pictures=False)
    resident, failed = pool.fill(Signals(4), np.arange(4), form, CPU)
    assert [one.why for one in failed] == [
        "it holds values that are infinite or not a number",
        "its shape is 2x9, not 2x8",
    ]
    assert resident.dtype == torch.float32
    x, _ = next(iter(resident.batches([torch.tensor([1])])))
    assert x.shape == (1, 2, 8)
    assert x[0, 0, 0] == 3


def test_reading_is_told_of():
    told = []
    pool.fill(Pictures(150), np.arange(150), Form((3, 6, 5), pictures=True), CPU, lambda *row: told.append(row))
    assert told[-1] == (150, 150)
    assert told == sorted(told)
