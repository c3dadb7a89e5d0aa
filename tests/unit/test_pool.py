"""Resident and streamed pools give the same batches; damaged examples are named, and memory is as promised."""

import numpy as np
import pytest
import torch

from engram.data import pool
from engram.data.examples import Examples, Unreadable
from engram.data.pool import Form, ResidentPool, StreamedPool
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
def test_a_file_that_breaks_while_training_is_named(workers):
    streamed = StreamedPool(Pictures(damaged=(20,)), ROWS, Form((3, 6, 5), pictures=True), CPU, workers)
    with pytest.raises(UserError, match="picture 20 can no longer be read: truncated"):
        list(streamed.batches(BATCHES))


def test_grey_and_colour_and_sizes_are_brought_to_one_form():
    form = Form((3, 4, 4), pictures=True)
    stored = form.read(Pictures(channels=1, size=(8, 6)), 0)
    assert stored.shape == (4, 4, 3)
    assert (stored[..., 0] == stored[..., 2]).all()


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


def test_the_budget_is_asked_for_or_half_of_what_is_free(monkeypatch):
    assert pool.budget(0.5, CPU) == 2**29
    monkeypatch.setattr(pool, "free_memory", lambda: 1000)
    assert pool.budget(None, CPU) == 500
    assert isinstance(ResidentPool(Pictures(), ROWS, torch.zeros(7, 6, 5, 3, dtype=torch.uint8), CPU).nbytes, int)
