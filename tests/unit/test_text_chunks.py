"""Chunks: every target is the next token, every token is one once, rows rebuild the text, and a pass can be resumed."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from engram.errors import UserError
from engram.text.chunks import Chunks, split


@st.composite
def chunked(draw):
    rows, length = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    number = draw(st.integers(rows + 1, 90))
    return Chunks(torch.arange(number), rows=rows, length=length, overlap=draw(st.integers(0, length - 1)))


@given(chunked())
def test_every_target_is_the_next_token_and_counts_once(chunks):
    counted = []
    for chunk in chunks:
        assert torch.equal(chunk.y, chunk.x + 1)  # the text is 0, 1, 2, ...
        assert chunk.x.shape[0] == chunks.rows
        assert 1 <= chunk.x.shape[1] <= chunks.length
        counted += chunk.counted.flatten().tolist()
    assert sorted(counted) == list(range(1, len(chunks.tokens) - chunks.left_over))
    assert chunks.left_over < chunks.rows


@given(chunked())
def test_rows_put_together_are_the_text(chunks):
    rows = torch.cat([chunk.x[:, chunk.counted_from :] for chunk in chunks], dim=1)
    assert torch.equal(rows.flatten(), chunks.tokens[: rows.numel()])
    assert len(chunks.tokens) - rows.numel() == chunks.left_over + 1  # the last one is only a target


@given(chunked())
def test_a_chunk_goes_on_where_the_carried_state_was_taken(chunks):
    every = list(chunks)
    assert [chunk.index for chunk in every] == list(range(len(chunks)))
    for chunk, following in itertools.pairwise(every):
        assert torch.equal(following.x[:, 0], chunk.x[:, 0] + chunk.carry)
        assert torch.equal(following.x[:, : chunks.overlap], chunk.x[:, chunk.carry :][:, : following.x.shape[1]])
        assert chunk.x.shape[1] == chunks.length  # only the last is shorter


@given(chunked(), st.data())
def test_resumed_anywhere_the_rest_of_the_pass_follows(chunks, data):
    whole = [chunk.x.tolist() for chunk in chunks]
    stop = data.draw(st.integers(0, len(chunks)))
    for _, _ in zip(range(stop), chunks, strict=False):
        pass
    other = Chunks(chunks.tokens, rows=chunks.rows, length=chunks.length, overlap=chunks.overlap)
    other.load_state_dict(chunks.state_dict())
    # zip asks for one more chunk only after the range has ended
    assert [chunk.x.tolist() for chunk in other] == whole[stop:]
    assert [chunk.x.tolist() for chunk in other] == whole  # and the next pass is whole


@pytest.mark.parametrize("overlap", [0, 2])
def test_carried_states_are_those_of_the_whole_text(overlap):
    torch.manual_seed(0)
    net, embed = nn.LSTM(4, 6, batch_first=True), nn.Embedding(50, 4)
    chunks = Chunks(torch.arange(50), rows=3, length=5, overlap=overlap)
    whole, _ = net(embed(chunks.tokens[:48].view(3, 16)))
    state, pieces = None, []
    with torch.no_grad():
        for chunk in chunks:
            first, state = net(embed(chunk.x[:, : chunk.carry]), state)
            rest = net(embed(chunk.x[:, chunk.carry :]), state)[0] if chunk.carry < chunk.x.shape[1] else first[:, :0]
            pieces.append(torch.cat([first, rest], dim=1)[:, chunk.counted_from :])
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)


def test_nothing_is_copied():
    tokens = torch.arange(100)
    for chunk in Chunks(tokens, rows=4, length=7, overlap=2):
        for part in (chunk.x, chunk.y):
            assert part.untyped_storage().data_ptr() == tokens.untyped_storage().data_ptr()
    narrow = Chunks(tokens.to(torch.uint8), rows=4, length=7)
    assert narrow.tokens.dtype is torch.uint8
    assert narrow[0].x.dtype is torch.int64


def test_what_is_left_over_is_told():
    assert str(Chunks(torch.arange(103), rows=4, length=10)) == (
        "103 tokens: 4 rows, 3 chunks of 10; 2 at the end left over"
    )
    assert str(Chunks(torch.arange(101), rows=4, length=10)) == "101 tokens: 4 rows, 3 chunks of 10"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": 0}, "rows 0 is out of range"),
        ({"length": 0}, "length 0 is out of range"),
        ({"overlap": 4}, "overlap 4 is out of range"),
        ({"overlap": -1}, "overlap -1 is out of range"),
        ({"rows": 9}, "9 tokens is too short for 9 rows"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Chunks(torch.arange(9), **{"rows": 2, "length": 4, **settings})


def test_a_state_of_another_text_is_refused():
    state = Chunks(torch.arange(30), rows=2, length=4).state_dict()
    for other in (Chunks(torch.arange(31), rows=2, length=4), Chunks(torch.arange(30), rows=2, length=4, overlap=1)):
        with pytest.raises(UserError, match="was saved with"):
            other.load_state_dict(state)
    with pytest.raises(UserError, match="position 5"):
        Chunks(torch.arange(30), rows=2, length=4).load_state_dict({**state, "position": 5})


def test_a_text_is_split_by_position():
    tokens = torch.arange(1000)
    train, validation = split(tokens, 0.1)
    assert (train[-1].item(), validation[0].item(), len(validation)) == (899, 900, 100)
    assert validation.untyped_storage().data_ptr() == tokens.untyped_storage().data_ptr()
    for share in (0.0, 0.001, 0.999, 1.0):
        with pytest.raises(UserError, match="to validate on"):
            split(tokens, share)
