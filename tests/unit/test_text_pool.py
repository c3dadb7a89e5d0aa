"""A text as a pool: each example is the window of the text that its name says, and every target counts once."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engram.data.text_pool import IGNORED, TextPool
from engram.errors import UserError
from engram.text.chunks import Chunks

CPU = torch.device("cpu")


def pool_of(number: int, rows: int, length: int, overlap: int = 0, dtype: torch.dtype = torch.int64) -> TextPool:
    """Of a text whose tokens are 0, 1, 2 and so on, so that a token says where it stands."""
    return TextPool(Chunks(torch.arange(number, dtype=dtype), rows=rows, length=length, overlap=overlap), CPU)


def every(pool: TextPool, order: Tensor | None = None, size: int = 4) -> tuple[Tensor, Tensor]:
    order = torch.arange(len(pool)) if order is None else order
    x, y = zip(*pool.batches(order.split(size)), strict=True)
    return torch.cat(x), torch.cat(y)


@st.composite
def pools(draw: st.DrawFn) -> TextPool:
    rows, length = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    return pool_of(draw(st.integers(rows + 1, 80)), rows, length, draw(st.integers(0, length - 1)))


@settings(deadline=None, max_examples=60)
@given(pools())
def test_every_target_counts_once_and_is_the_token_that_follows(pool: TextPool) -> None:
    x, y = every(pool)
    counted = y != IGNORED
    assert torch.equal(y[counted], x[counted] + 1)
    assert sorted(y[counted].tolist()) == list(range(1, pool.chunks.columns * pool.chunks.rows + 1))


@settings(deadline=None, max_examples=60)
@given(pools())
def test_an_example_reads_the_tokens_that_its_name_says(pool: TextPool) -> None:
    x, y = every(pool)
    for index in range(len(pool)):
        found = re.fullmatch(r"tokens (\d+) to (\d+)", pool.name(index))
        assert found is not None
        first, last = map(int, found.groups())
        read = last - first + 1
        assert x[index, :read].tolist() == list(range(first, last + 1))
        assert not x[index, read:].any()  # filled up
        assert (y[index, read:] == IGNORED).all()


@settings(deadline=None, max_examples=60)
@given(pools())
def test_it_is_the_chunks_one_row_at_a_time(pool: TextPool) -> None:
    chunks = pool.chunks
    assert len(pool) == len(chunks) * chunks.rows
    x, y = every(pool)
    for index in range(len(pool)):
        chunk = chunks[index // chunks.rows]
        row = index % chunks.rows
        read = chunk.x.shape[1]
        assert torch.equal(x[index, :read], chunk.x[row])
        assert (y[index, : chunk.counted_from] == IGNORED).all()
        assert torch.equal(y[index, chunk.counted_from : read], chunk.counted[row])


def test_worked_out_by_hand() -> None:
    pool = pool_of(16, rows=2, length=4, overlap=2)  # rows 0 to 6 and 7 to 13, and 15 is left over
    x, y = every(pool)
    assert x.tolist() == [
        [0, 1, 2, 3], [7, 8, 9, 10], [2, 3, 4, 5], [9, 10, 11, 12], [4, 5, 6, 0], [11, 12, 13, 0],
    ]  # fmt: skip
    ignored = IGNORED
    assert y.tolist() == [
        [1, 2, 3, 4], [8, 9, 10, 11], [ignored, ignored, 5, 6], [ignored, ignored, 12, 13],
        [ignored, ignored, 7, ignored], [ignored, ignored, 14, ignored],
    ]  # fmt: skip
    assert torch.nn.CrossEntropyLoss().ignore_index == IGNORED


def test_any_order_gives_the_same_examples() -> None:
    pool = pool_of(60, rows=3, length=5, overlap=2)
    x, y = every(pool)
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0))
    mixed = every(pool, order, size=7)
    assert torch.equal(mixed[0], x[order])
    assert torch.equal(mixed[1], y[order])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_narrow_tokens_are_widened_a_batch_at_a_time(dtype: torch.dtype) -> None:
    pool = pool_of(30, rows=2, length=4, dtype=dtype)
    x, y = next(pool.batches([torch.tensor([1, 3])]))
    assert x.dtype == y.dtype == torch.int64
    assert x[0].tolist() == [14, 15, 16, 17]


def test_what_a_pool_says_of_itself() -> None:
    pool = pool_of(30, rows=2, length=5)
    assert pool.shape == (5,)
    assert pool.dtype == torch.int64
    assert len(pool) == len(pool.labels) == 6
    assert not pool.labels.any()
    assert pool.nbytes == 2 * 2 * 15 * 8
    with pytest.raises(UserError, match="a text has no pictures"):
        pool.pictures([0])
