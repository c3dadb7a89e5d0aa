"""DropBlock: the paper's gamma, squares that are squares, the share that falls silent, and the mean that is kept."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engram.errors import UserError
from engram.layers.drop_block import DropBlock, block_mask, corner_probability, drop_block


@pytest.mark.parametrize(("drop", "side", "n"), [(0.1, 7, 14), (0.1, 7, 28), (0.25, 3, 8), (0.1, 1, 5)])
def test_gamma_is_equation_1(drop: float, side: int, n: int) -> None:
    assert corner_probability(drop, side, (n, n)) == pytest.approx(drop / side**2 * n**2 / (n - side + 1) ** 2)


def test_gamma_of_other_axes() -> None:
    assert corner_probability(0.2, 4, (20,)) == pytest.approx(0.2 / 4 * 20 / 17)
    assert corner_probability(0.2, 2, (4, 5, 6)) == pytest.approx(0.2 / 8 * (4 / 3) * (5 / 4) * (6 / 5))
    assert corner_probability(0.3, 9, (4, 4)) == pytest.approx(0.3)  # a smaller map is one square
    assert all(corner_probability(0.9, side, (n, n)) <= 0.9 + 1e-9 for n in range(1, 12) for side in range(1, 15))


@pytest.mark.parametrize(("shape", "side"), [((12,), 3), ((9, 7), 3), ((6, 5, 7), 2), ((8, 8), 4), ((3, 9), 5)])
def test_what_is_silent_is_whole_blocks(shape: tuple[int, ...], side: int) -> None:
    torch.manual_seed(0)
    mask = block_mask((40, 3, *shape), drop=0.15, side=side)
    assert mask.dtype == torch.float32
    assert set(mask.flatten().tolist()) == {0.0, 1.0}
    sides = [min(side, length) for length in shape]
    covered = torch.zeros_like(mask, dtype=torch.bool)
    for corner in itertools.product(*(range(length - fits + 1) for length, fits in zip(shape, sides, strict=True))):
        block = (..., *(slice(at, at + fits) for at, fits in zip(corner, sides, strict=True)))
        silent = (mask[block] == 0).flatten(2).all(2)
        covered[block] |= silent.reshape(*silent.shape, *[1] * len(shape))
    assert torch.equal(covered, mask == 0)


@pytest.mark.parametrize(("shape", "side", "drop"), [((12, 12), 3, 0.1), ((14, 14), 7, 0.1), ((30,), 4, 0.3)])
def test_each_place_is_silent_as_often_as_the_blocks_over_it_say(
    shape: tuple[int, ...], side: int, drop: float
) -> None:
    """A place under k possible corners stays with the chance (1 - gamma)^k; over 8,000 maps, within 5 deviations."""
    torch.manual_seed(0)
    mask = block_mask((4_000, 2, *shape), drop=drop, side=side)
    stays = mask.flatten(0, 1).mean(0)
    gamma = corner_probability(drop, side, shape)
    covering = torch.ones(shape)
    for axis, length in enumerate(shape):
        row = [min(at, length - side) - max(0, at - side + 1) + 1 for at in range(length)]
        covering = covering * torch.tensor(row).reshape(*(-1 if one == axis else 1 for one in range(len(shape))))
    expected = (1 - gamma) ** covering
    assert ((stays - expected).abs() < 5 * (expected * (1 - expected) / 8_000).sqrt()).all()
    assert drop - 0.06 < 1 - stays.mean() < drop  # a little less than the share, since blocks overlap


def test_every_map_has_blocks_of_its_own() -> None:
    torch.manual_seed(0)
    mask = block_mask((3, 4, 20, 20), drop=0.2, side=3).flatten(2).flatten(0, 1)
    assert len({tuple(row) for row in mask.tolist()}) == 12


def test_side_1_is_dropout_and_the_whole_side_is_whole_channels() -> None:
    torch.manual_seed(0)
    single = block_mask((100, 4, 10, 10), drop=0.3, side=1)
    assert abs(single.mean() - 0.7) < 5 * (0.21 / 40_000) ** 0.5
    neighbours = (single[..., 1:] * single[..., :-1]).mean()
    assert abs(neighbours - 0.49) < 5 * (0.49 * 0.51 / 36_000) ** 0.5
    for side in (10, 99):
        whole = block_mask((100, 40, 10, 10), drop=0.3, side=side).flatten(2)
        assert torch.equal(whole.amin(2), whole.amax(2))
        assert abs(whole.mean() - 0.7) < 5 * (0.21 / 4_000) ** 0.5


def test_what_stays_is_raised_so_that_the_sum_of_a_constant_is_kept() -> None:
    torch.manual_seed(0)
    x = torch.full((4, 3, 16, 16), 2.0)
    y = drop_block(x, 0.2, 3)
    kept = y != 0
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 2.0 * y.numel() / kept.sum().item()))
    assert y.sum().item() == pytest.approx(x.sum().item(), rel=1e-5)
    x = torch.randn(4, 3, 16, 16, requires_grad=True)
    torch.manual_seed(0)
    drop_block(x, 0.2, 3).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y / 2)


def test_half_precision_counts_exactly() -> None:
    torch.manual_seed(0)
    x = torch.ones(64, 16, 32, 32, dtype=torch.bfloat16)  # half a million values: no bfloat16 counts them
    y = drop_block(x, 0.1, 3)
    assert y.dtype == torch.bfloat16
    assert y.float().mean().item() == pytest.approx(1, rel=2**-8)


def test_where_all_is_silent_all_is_zero() -> None:
    x = torch.ones(1, 1, 2, 2)
    torch.manual_seed(0)
    seen = torch.stack([drop_block(x, 0.9, 2) for _ in range(50)])
    assert seen.isfinite().all()
    assert set(seen.flatten().tolist()) == {0.0, 1.0}


def test_the_layer_acts_while_training_alone() -> None:
    x = torch.randn(2, 3, 8, 8)
    layer = DropBlock(0.3, 2)
    torch.manual_seed(0)
    expected = drop_block(x, 0.3, 2)
    torch.manual_seed(0)
    assert torch.equal(layer(x), expected)
    assert layer.eval()(x) is x
    assert DropBlock(0.0).train()(x) is x
    assert (DropBlock().drop, DropBlock().side, repr(layer)) == (0.1, 7, "DropBlock(drop=0.3, side=2)")


def reference(x: Tensor, drop: float, side: int) -> Tensor:
    """The paper's algorithm 1 with centres, for odd sides: seeds in the inner part, grown by side // 2."""
    n, margin = x.shape[-1], side // 2
    gamma = drop / side**2 * n**2 / (n - side + 1) ** 2
    seeds = torch.zeros_like(x)
    seeds[..., margin : n - margin, margin : n - margin].bernoulli_(gamma)
    mask = 1 - F.max_pool2d(seeds, side, 1, margin)
    return x * mask * mask.numel() / mask.sum()


def test_the_distribution_is_that_of_the_papers_centres() -> None:
    x = torch.ones(3_000, 1, 6, 6)
    torch.manual_seed(0)
    ours, theirs = (function(x, 0.2, 3) for function in (drop_block, reference))
    silent = [(y == 0).flatten(1).sum(1) for y in (ours, theirs)]
    for count in range(0, 37, 3):
        first, second = ((one == count).float().mean().item() for one in silent)
        assert abs(first - second) < 5 * math.sqrt(2 * max(first * (1 - first), 1e-3) / 3_000)


def test_refuses() -> None:
    for drop in (1, -0.5):
        with pytest.raises(UserError, match=f"drop cannot be {drop}"):
            DropBlock(drop)
    with pytest.raises(UserError, match="a side of 0"):
        DropBlock(0.1, 0)
