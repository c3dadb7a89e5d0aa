"""Default words: what is known of the data decides, and what would harm is left out."""

import pytest

from engram import augment
from engram.augment.auto import auto, resolve

DIGITS = tuple(str(digit) for digit in range(10))


@pytest.mark.parametrize(
    ("kind", "shape", "classes", "expected"),
    [
        ("cifar10", (3, 32, 32), ("airplane", "cat"), ("crop:4", "flip")),
        ("folder", (3, 64, 64), ("cat", "dog"), ("crop:4", "flip")),
        ("folder", (3, 16, 16), (), ("crop:2", "flip")),
        ("folder", (3, 65, 65), ("cat", "dog"), ("resized_crop:0.35", "flip")),
        ("folder", (3, 224, 224), (), ("resized_crop:0.35", "flip")),
        ("folder", (3, 15, 40), (), ("flip",)),
        ("npz", (3, 32, 32), DIGITS, ("crop:4", "flip")),  # bare numbers say nothing there
        ("folder", (3, 32, 32), DIGITS, ("crop:4",)),  # house numbers
        ("folder", (3, 32, 32), ("zero", "one"), ("crop:4",)),
        ("parquet", (3, 32, 32), ("A", "B", "c", "3x"), ("crop:4", "flip")),
        ("parquet", (3, 32, 32), ("A", "B", "c"), ("crop:4",)),
        ("folder", (3, 224, 224), ("turn_left", "turn_right"), ("resized_crop:0.35",)),
        ("folder", (3, 224, 224), ("leftovers", "brighter"), ("resized_crop:0.35", "flip")),
        ("digits", (1, 8, 8), DIGITS, ()),
        ("npz", (1, 16, 40), (), ("crop:1",)),
        ("npz", (1, 40, 15), (), ()),
        ("mnist", (1, 28, 28), DIGITS, ("crop:2",)),
        ("folder", (1, 224, 224), (), ("crop:14",)),
        ("npz", (4, 32, 32), (), ("crop:2",)),
        ("npz", (1, 4096), (), ()),
        ("npz", (1, 32, 32, 32), (), ()),
    ],
)
def test_defaults(kind, shape, classes, expected):
    assert auto(kind, shape, classes) == expected
    augment.check(expected)


def test_auto_stands_among_other_words():
    facts = {"kind": "cifar10", "shape": (3, 32, 32)}
    assert resolve("auto,mixup:0.2", **facts) == ("crop:4", "flip", "mixup:0.2")
    assert resolve(("cutout:8",), **facts) == ("cutout:8",)
    assert resolve(("none",), **facts) == ()
