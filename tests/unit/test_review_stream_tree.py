"""Batches of any form are columns, and come back in their form."""

from collections import namedtuple

import pytest
import torch

from engram.errors import UserError
from engram.review.stream_tree import columns, joined, rebuilt, taken

Pair = namedtuple("Pair", "left right")


def test_any_form_comes_back():
    tree = [{"x": torch.arange(4.0).view(2, 2), "more": Pair(torch.ones(2), ["a", "b"])}, ("c", None), [b"1", 2.5]]
    parts = columns(tree)
    assert list(parts) == ["0.x", "0.more.0", "0.more.1", "1", "2"]
    back = rebuilt(tree, {path: joined(part, taken(part, torch.tensor([1]))) for path, part in parts.items()})
    assert back[0]["x"].tolist() == [[0, 1], [2, 3], [2, 3]]
    assert isinstance(back[0]["more"], Pair)
    assert back[0]["more"].right == ["a", "b", "b"]
    assert back[1:] == [("c", None, None), [b"1", 2.5, 2.5]]


def test_a_tensor_alone():
    assert list(columns(torch.zeros(3))) == [""]
    assert rebuilt(torch.zeros(3), {"": torch.ones(2)}).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ((torch.zeros(2), torch.zeros(3)), "different numbers of examples: 0 2, 1 3"),
        (torch.tensor(1.0), "the batch is a single number"),
        ({"x": object()}, "x is of type object"),
        ([], "holds no examples"),
        (torch.zeros(0, 3), "holds no examples"),
    ],
)
def test_what_has_no_rows(tree, words):
    with pytest.raises(UserError, match=words):
        columns(tree)
