"""Normalisation against the formula in float64."""

import numpy as np
import pytest
import torch

from engram.augment.normalize import LONG_ROW, normalize, to_unit

SHAPES = [(40,), (6, 7), (3, LONG_ROW), (4, 5, 6)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", ["rows", "planes", "window"])
def test_uint8_is_brought_to_mean_0_and_deviation_1(shape, channels, layout):
    values = np.random.default_rng(0).integers(0, 256, (3, *shape, channels), dtype=np.uint8)
    x = torch.from_numpy(values).movedim(-1, 1)
    if layout == "planes":
        x = x.contiguous()
    if layout == "window":
        x = torch.cat([x, x], dim=-1).narrow(-1, 0, shape[-1])
    mean, std = np.array([0.49, 0.1, 0.8])[:channels], np.array([0.24, 0.05, 0.5])[:channels]
    expected = np.moveaxis((values / 255 - mean) / std, -1, 1)
    given = torch.from_numpy(mean), torch.from_numpy(std)
    found = normalize(x, *given)
    assert found.dtype == torch.float32
    assert found.movedim(1, -1).is_contiguous()
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    half = normalize(x, *given, dtype=torch.bfloat16)
    assert half.movedim(1, -1).is_contiguous()
    assert torch.equal(half, found.to(torch.bfloat16))  # computed in float32 and rounded once


@pytest.mark.parametrize("shape", SHAPES)
def test_floats_are_not_divided_by_255(shape):
    x = torch.from_numpy(np.random.default_rng(0).normal(1e4, 1, (3, 2, *shape)))
    before = x.clone()
    mean, std = torch.tensor([1e4, 1e4 + 1]), torch.tensor([1.0, 2.0])
    found = normalize(x.float(), mean, std)
    expected = (x.float().double().movedim(1, -1) - mean.double()) / std.double()
    np.testing.assert_allclose(found.movedim(1, -1).numpy(), expected.numpy(), atol=1e-6)  # digits are kept
    assert torch.equal(x, before)


def test_a_channel_that_never_varies_is_only_shifted():
    x = torch.full((2, 2, 3), 51, dtype=torch.uint8)
    found = normalize(x, torch.tensor([0.2, 0.1]), torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(found[:, 0], torch.zeros(2, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[:, 1], torch.full((2, 3), 0.2))


def test_the_result_has_memory_of_its_own():
    x = torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    normalize(x, torch.zeros(3), torch.ones(3)).zero_()
    assert torch.equal(x, before)


def test_unit():
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    torch.testing.assert_close(to_unit(x).flatten(), torch.arange(256) / 255)
