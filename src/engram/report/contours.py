"""Contours of a surface that is known on a grid, as closed rings: marching squares.

Every cell of four corners is looked at alone. Along its sides, going round counter-clockwise, the level is crossed
where one corner is at or below it and the next above; each crossing outwards is joined to a crossing inwards, with the
low side on the left. A cell whose low corners are opposite has two of each: they are joined so that the low corners
meet if the mean of the four is low, and else stay apart. As neighbouring cells share crossings, the pieces make rings.

Outside the grid everything counts as high. So every ring is closed, along the border if need be, and can be filled:
one that runs counter-clockwise holds the lower side, one that runs clockwise the higher. Rings of one surface never
cross, and painted from the largest to the smallest they show every place in the colour of its band.

Lorensen and Cline 1987, Marching cubes, in two dimensions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
Crossing = tuple[int, int, bool]  # row, column and whether across: from that corner to the next column, or row


@dataclass(frozen=True)
class Ring:
    """A closed line, its last point joined to its first, and the number of the band that begins inside it."""

    points: list[Point]
    band: int


def bands(
    x: NDArray[np.floating], y: NDArray[np.floating], values: NDArray[np.floating], levels: Sequence[float]
) -> list[Ring]:
    """Rings to paint one over the other, on a ground of the last band: band k lies between levels k - 1 and k.

    Args:
        x: (X,) ascending, as `y` (Y,).
        values: (Y, X), a row for each y; what is not finite counts as above every level.

    >>> made = bands(np.arange(3.0), np.arange(3.0), np.array([[2, 2, 2], [2, 0, 2], [2, 2, 2.0]]), [1.0])
    >>> made[0].band, sorted(made[0].points)
    (0, [(0.5, 1.0), (1.0, 0.5), (1.0, 1.5), (1.5, 1.0)])
    """
    found = []
    for number, level in enumerate(levels):
        for points in rings(x, y, values, level):
            size = area(points)
            found.append((abs(size), Ring(points, number if size > 0 else number + 1)))
    return [ring for _, ring in sorted(found, key=lambda one: -one[0])]


def rings(
    x: NDArray[np.floating], y: NDArray[np.floating], values: NDArray[np.floating], level: float
) -> list[list[Point]]:
    """The closed lines between what is at or below the level and what is above it, low on the left."""
    places = [np.concatenate([one[:1], one, one[-1:]]).tolist() for one in (x, y)]  # high ground outside, of no width
    high = np.where(np.isfinite(values), values, math.inf)
    grid = np.pad(high, 1, constant_values=math.inf)
    low = grid <= level
    following: dict[Crossing, Crossing] = {}
    mixed = low[:-1, :-1].astype(int) + low[:-1, 1:] + low[1:, :-1] + low[1:, 1:]
    for row, column in zip(*np.nonzero((mixed > 0) & (mixed < 4)), strict=True):
        following.update(_pieces(grid, low, int(row), int(column), level))
    found = []
    while following:
        start, crossing = following.popitem()
        points = [_point(start, grid, places, level)]
        while crossing != start:
            points.append(_point(crossing, grid, places, level))
            crossing = following.pop(crossing)
        points = [one for one, before in zip(points, [points[-1], *points], strict=False) if one != before]
        if len(points) > 2:
            found.append(points)
    return found


def area(points: Sequence[Point]) -> float:
    """The area inside a ring, negative where it runs clockwise.

    >>> area([(0, 0), (2, 0), (2, 1), (0, 1)])
    2.0
    """
    following = [*points[1:], points[0]]
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(points, following, strict=True)) / 2


def _pieces(
    grid: NDArray[np.floating], low: NDArray[np.bool_], row: int, column: int, level: float
) -> list[tuple[Crossing, Crossing]]:
    """From where to where the ring goes through one cell: once, or twice where its low corners are opposite."""
    corners = [(row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column)]
    sides = [(row, column, True), (row, column + 1, False), (row + 1, column, True), (row, column, False)]
    inside = [bool(low[corner]) for corner in corners]
    outwards = [side for side in range(4) if inside[side] and not inside[(side + 1) % 4]]
    inwards = {side for side in range(4) if not inside[side] and inside[(side + 1) % 4]}
    turn = 1 if sum(grid[corner] for corner in corners) / 4 <= level else -1
    made = []
    for start in outwards:
        end = next(side % 4 for side in range(start + turn, start + 4 * turn, turn) if side % 4 in inwards)
        made.append((sides[start], sides[end]))
    return made


def _point(crossing: Crossing, grid: NDArray[np.floating], places: Sequence[Sequence[float]], level: float) -> Point:
    """Where between its two corners the level is crossed, the values taken to change evenly."""
    row, column, across = crossing
    other = (row, column + 1) if across else (row + 1, column)
    first, second = float(grid[row, column]), float(grid[other])
    share = 1.0 if math.isinf(first) else 0.0 if math.isinf(second) else (level - first) / (second - first)
    (x, y), (to_x, to_y) = ((places[0][one[1]], places[1][one[0]]) for one in ((row, column), other))
    return x + share * (to_x - x), y + share * (to_y - y)
