"""Preparing data: which sizes are chosen and why, what is measured, and what is refused."""

import numpy as np
import pytest
import torch

from engram.data.examples import Examples, Source, Unreadable
from engram.data.pool_streamed import StreamedPool
from engram.data.prepare import prepare
from engram.errors import UserError
from engram.recipe import Data

CPU = torch.device("cpu")


class Some(Examples):
    """Examples made by a function of the index."""

    def __init__(self, make, count=60, classes=3):
        self.labels = np.arange(count, dtype=np.int64) % classes
        self.make = make

    def name(self, index):
        return f"example {index}"

    def read(self, index, at_least=None):
        made = self.make(index)
        if made is None:
            raise Unreadable(self.name(index), "truncated")
        return made


def source(make, count=60, test=None):
    return Source("here", "made", ("a", "b", "c"), Some(make, count), test=test)


def noise(*shape):
    return lambda index: np.random.default_rng(index).integers(0, 256, shape, np.uint8)


def chosen(prepared):
    return {one.setting: one.value for one in prepared.decisions}


def test_pictures_of_one_size_are_seen_as_they_are():
    prepared = prepare(source(noise(3, 20, 30)), Data(), seed=0, device=CPU, model_shape=(3, 224, 224))
    assert prepared.shape == prepared.stored_shape == (3, 20, 30)
    assert len(prepared.validation) == 6
    assert len(prepared.train) == 54
    assert chosen(prepared)["data.pool"] == "resident"


def test_pictures_of_many_sizes_take_the_networks_with_room_for_crops():
    prepared = prepare(
        source(lambda index: noise(3, 40 + index, 50)(index)), Data(), seed=0, device=CPU, model_shape=(3, 28, 28)
    )
    assert prepared.shape == (3, 28, 28)
    assert prepared.stored_shape == (3, 32, 32)


def test_sizes_asked_for():
    prepared = prepare(source(noise(3, 20, 20)), Data(image_size=8, stored_size=10), seed=0, device=CPU)
    assert prepared.shape == (3, 8, 8)
    assert prepared.stored_shape == (3, 10, 10)
    with pytest.raises(UserError, match="below the size the network sees"):
        prepare(source(noise(3, 20, 20)), Data(image_size=8, stored_size=7), seed=0, device=CPU)


def test_grey_only_if_all_are_grey():
    assert prepare(source(noise(1, 8, 8)), Data(), seed=0, device=CPU).shape == (1, 8, 8)
    mixed = source(lambda index: noise(3 if index == 30 else 1, 8, 8)(index))
    assert prepare(mixed, Data(), seed=0, device=CPU).shape == (3, 8, 8)


def test_mean_and_deviation_are_of_the_training_pool_alone():
    def make(index):
        return np.full((1, 4, 4), 10 * (index % 2), np.uint8)

    test = Some(lambda index: np.full((1, 4, 4), 255, np.uint8), 9)
    prepared = prepare(source(make, test=test), Data(), seed=0, device=CPU)
    x = torch.cat([x for x, _ in prepared.train.batches([torch.arange(len(prepared.train))])]).double()
    np.testing.assert_allclose(prepared.mean, [x.mean()], rtol=1e-12)
    np.testing.assert_allclose(prepared.std, [x.std(correction=0)], rtol=1e-9)
    assert len(prepared.test) == 9


def test_a_constant_channel_can_be_divided_by():
    prepared = prepare(source(lambda index: np.full((3, 4, 4), 7, np.uint8)), Data(), seed=0, device=CPU)
    assert prepared.std.tolist() == [1.0, 1.0, 1.0]


def test_float_data_keep_their_shape_and_units():
    prepared = prepare(
        source(lambda index: np.full((2, 16), index, np.float32)),
        Data(),
        seed=0,
        device=CPU,
        model_shape=(3, 32, 32),
    )
    assert prepared.shape == (2, 16)
    assert prepared.train.dtype == torch.float32
    with pytest.raises(UserError, match="image_size is for pictures"):
        prepare(source(lambda index: np.zeros((2, 16), np.float32)), Data(image_size=8), seed=0, device=CPU)


def test_a_set_larger_than_the_budget_streams_and_gives_the_same_batches():
    make = noise(3, 8, 8)
    resident = prepare(source(make), Data(), seed=4, device=CPU)
    streamed = prepare(source(make), Data(memory=0.0, workers=0), seed=4, device=CPU)
    assert isinstance(streamed.train, StreamedPool)
    batch = [torch.tensor([5, 1, 9])]
    (x, y), (other_x, other_y) = next(resident.train.batches(batch)), next(streamed.train.batches(batch))
    assert torch.equal(x, other_x)
    assert torch.equal(y, other_y)
    np.testing.assert_allclose(resident.mean, streamed.mean)


@pytest.mark.parametrize("memory", [None, 0.0])
def test_unreadable_examples_are_left_out_unless_they_are_most(memory):
    data = Data(memory=memory, workers=0)
    few = source(lambda index: None if index in (4, 9) else noise(3, 8, 8)(index))
    prepared = prepare(few, data, seed=0, device=CPU)
    assert sorted(one.name for one in prepared.unreadable) == ["example 4", "example 9"]
    most = source(lambda index: None if index % 3 else noise(3, 8, 8)(index))
    with pytest.raises(UserError, match="cannot be read"):
        prepare(most, data, seed=0, device=CPU)
    with pytest.raises(UserError, match="none of 54 examples"):
        prepare(source(lambda index: None), data, seed=0, device=CPU)


def test_a_class_that_cannot_be_read_is_refused():
    lost = source(lambda index: None if index % 3 == 1 else noise(3, 8, 8)(index))
    with pytest.raises(UserError, match="no training example of class 'b' can be read"):
        prepare(lost, Data(), seed=0, device=CPU)


def test_values_that_are_not_numbers_are_refused_by_name():
    def make(index):
        return np.full((2, 16), np.inf if index == 7 else 0, np.float32)

    with pytest.raises(UserError, match="example 7: it holds values that are infinite"):
        prepare(source(make), Data(validation=0.0), seed=0, device=CPU)


def test_no_validation_where_none_is_wanted():
    prepared = prepare(source(noise(3, 8, 8)), Data(validation=0.0), seed=0, device=CPU)
    assert prepared.validation is None
    assert len(prepared.train) == 60


def test_a_limit_is_drawn_before_the_split():
    prepared = prepare(source(noise(3, 8, 8)), Data(limit=30), seed=0, device=CPU)
    assert len(prepared.train) + len(prepared.validation) == 30
