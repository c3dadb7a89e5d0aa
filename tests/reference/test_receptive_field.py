"""What a layer sees: against published numbers, and against what a disturbed input really reaches."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import models
from engram.accounting import account

C = 4


@cache
def fields(name: str, size: int, **settings: str) -> dict[str, tuple[int, ...]]:
    """Layer to what it sees of an image of that size."""
    with torch.device("meta"):
        net = models.build(name, shape=(3, size, size), num_classes=10, settings=settings)
    return {row.name: row.receptive_field for row in account(net, (3, size, size)).rows}


@pytest.mark.parametrize(
    ("name", "size", "layer", "expected"),
    [
        ("alexnet_torchvision", 224, "towers.0.upper.pool5", 195),
        ("alexnet", 227, "towers.0.lower.pool2", 67),
        ("vgg16", 224, "features.conv1_2", 5),
        ("vgg16", 224, "features.conv3_3", 40),
        ("vgg16", 224, "features.pool5", 212),
        ("vgg16", 224, "head", 224),
        ("resnet18", 224, "stages.3.1.conv2", 435),
        ("resnet50", 224, "stages.3.2.conv3", 427),
        ("resnet50", 224, "head", 224),
        ("googlenet", 224, "features.inception5b.five.filter.conv", 715),  # by hand: the 5x5 of each of nine modules
        ("googlenet", 224, "features.inception5b.three.filter.conv", 651),
        ("densenet121", 224, "blocks.3.15.grow.conv", 2071),  # by hand: 11 + 6x8 + 4 + 12x16 + 8 + 24x32 + 16 + 16x64
    ],
)
def test_the_published_numbers(name: str, size: int, layer: str, expected: int) -> None:
    assert fields(name, size)[layer] == (expected, expected)


def test_a_stride_in_the_first_convolution_of_a_block_sees_more() -> None:
    """ResNet-50 sees 483 pixels with the stride in its 1x1, as in the paper, and 427 with it in the 3x3 (v1.5)."""
    assert fields("resnet50", 224, version="v1")["stages.3.2.conv3"] == (483, 483)


@pytest.mark.parametrize(("layers", "expected"), [(1, 3), (2, 5), (3, 7)])
def test_small_kernels_in_a_row_see_as_a_large_one(layers: int, expected: int) -> None:
    net = nn.Sequential(*[nn.Conv2d(C, C, 3) for _ in range(layers)])
    assert account(net, (C, 20, 20)).rows[-1].receptive_field == (expected, expected)


class Residual(nn.Module):
    """A long branch and one that cuts corners, summed: the longer one decides."""

    def __init__(self) -> None:
        super().__init__()
        self.long = nn.Sequential(nn.Conv2d(1, C, 3, 2, padding=1), nn.ReLU(), nn.Conv2d(C, C, 5, padding=2))

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, H, W)
        return self.long(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, C - 1))


class Branches(nn.Module):
    """Branches that look to different sides, concatenated, and split again."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(1, C, 3), nn.Conv2d(1, C, 3)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, H, W)
        left, right = self.left(F.pad(x, (4, 0, 1, 1))), self.right(F.pad(x, (0, 4, 1, 1)))
        both = torch.cat([left, right], 1).view(len(x), 2, C, *left.shape[2:])
        first, second = both.transpose(1, 2).flatten(1, 2).chunk(2, 1)
        return first + second


class Gated(nn.Module):
    """Channels weighed by their mean: every value sees everything."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.gate = nn.Conv2d(1, C, 3, padding=1), nn.Linear(C, C)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, H, W)
        x = self.layer(x)
        return x * torch.sigmoid(self.gate(x.mean((2, 3))))[..., None, None]


class Flipped(nn.Module):
    """Axes exchanged on the way, and a stack of parts."""

    def __init__(self) -> None:
        super().__init__()
        self.tall, self.wide = nn.Conv2d(1, 1, (5, 1), padding=(2, 0)), nn.Conv2d(1, 1, (1, 3), padding=(0, 1))

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, H, W)
        turned = self.tall(x).permute(0, 1, 3, 2)  # (B, 1, W, H)
        parts = torch.stack([turned, turned + 1], 2).unbind(2)
        return self.wide(parts[1]).transpose(2, 3).squeeze(1).unsqueeze(1)


GRAPHS: dict[str, Callable[[], nn.Module]] = {
    "convolutions": lambda: nn.Sequential(nn.Conv2d(1, C, 5, 2, padding=2), nn.Conv2d(C, C, 3, dilation=2)),
    "pooling": lambda: nn.Sequential(nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(1, C, 3), nn.AvgPool2d(2)),
    "ceiling": lambda: nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.ReLU(), nn.MaxPool2d(3, 2, dilation=2)),
    "normalised": lambda: nn.Sequential(nn.Conv2d(1, C, 3), nn.BatchNorm2d(C), nn.LocalResponseNorm(3), nn.ReLU()),
    "adaptive": lambda: nn.Sequential(nn.Conv2d(1, C, 3, padding=1), nn.AdaptiveAvgPool2d(8)),
    "padded": lambda: nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(1, C, 3, 2), nn.Conv2d(C, C, 3)),
    "residual": Residual,
    "branches": Branches,
    "gated": Gated,
    "flipped": Flipped,
    "mean over positions": lambda: nn.Sequential(nn.Conv2d(1, C, 3, padding=1), nn.AdaptiveAvgPool2d(1)),
    "flattened": lambda: nn.Sequential(nn.Conv2d(1, C, 3, padding=1), nn.Flatten(), nn.Linear(C * 32 * 40, 3)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_is_what_a_disturbance_reaches(name: str) -> None:
    """A row (or column) that is not a number makes everything that depends on it so: which do, for the middle value?"""
    shape = (1, 32, 40)
    net = GRAPHS[name]().eval()
    for axis, seen in enumerate(stated(net, shape)):
        x = torch.zeros(shape[1 + axis], *shape)
        for position in range(len(x)):
            x[position].select(1 + axis, position).fill_(torch.nan)
        with torch.no_grad():
            y = net(x)
        middle = y[(slice(None), slice(None), *[size // 2 for size in y.shape[2:]])]  # (positions, channels)
        reached = middle.isnan().any(1).nonzero().flatten()
        assert seen == reached.max() - reached.min() + 1


def stated(net: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of the network's own output."""
    return account(nn.Sequential(net, nn.Identity()), shape).rows[-1].receptive_field


def test_in_one_and_three_dimensions() -> None:
    """By hand: 28 windows of 5, every second; 9 of three; 4 of two, 12 apart, which leave the last 9 samples unseen."""
    line = nn.Sequential(nn.Conv1d(2, 3, 5, 2), nn.MaxPool1d(3), nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    assert [row.receptive_field for row in account(line, (2, 60)).rows] == [(5,), (9,), (15,), (51,), (51,)]
    cube = nn.Sequential(nn.Conv3d(1, 2, 3), nn.MaxPool3d(2))
    assert account(cube, (1, 12, 12, 12)).rows[-1].receptive_field == (4, 4, 4)


def test_data_without_axes_has_none() -> None:
    assert account(nn.Linear(5, 3), (5,)).rows[0].receptive_field == ()


def test_a_transposed_convolution_is_taken_to_see_everything() -> None:
    assert account(nn.ConvTranspose2d(1, 2, 3, 2), (1, 6, 6)).rows[0].receptive_field == (6, 6)
