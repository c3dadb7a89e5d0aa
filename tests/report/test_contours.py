"""Contours: a circle's length and area, and every place in the colour of its band, whatever the surface."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from engram.report.contours import Point, area, bands, rings


def bowl(count: int = 41, reach: float = 2.0) -> tuple[NDArray, NDArray, NDArray]:
    x, y = np.linspace(-reach, reach, count), np.linspace(-reach - 1, reach, count)
    return x, y, x[None, :] ** 2 + y[:, None] ** 2


def inside(point: Point, ring: list[Point]) -> bool:
    """By the number of times a ray to the right crosses the ring."""
    x, y = point
    crossed = 0
    for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            crossed += 1
    return crossed % 2 == 1


def test_a_circle_is_a_circle() -> None:
    (ring,) = rings(*bowl(), 1.0)
    radii = [math.hypot(*point) for point in ring]
    assert np.allclose(radii, 1, atol=0.004)  # a straight line in a cell of 0.1
    assert area(ring) == pytest.approx(math.pi, abs=0.02)  # positive: counter-clockwise round the low side
    steps = [math.dist(one, other) for one, other in zip(ring, ring[1:] + ring[:1], strict=True)]
    assert sum(steps) == pytest.approx(2 * math.pi, abs=0.02)
    assert max(steps) < 0.15


def test_a_peak_runs_clockwise() -> None:
    x, y, values = bowl()
    ring = min(rings(x, y, -values, -1.0), key=area)
    assert area(ring) == pytest.approx(-math.pi, abs=0.02)
    assert [one.band for one in bands(x, y, -values, [-1.0])] == [0, 1]  # the low side to the border, then the peak


def test_a_level_that_leaves_the_grid_is_closed_along_its_border() -> None:
    x, y = np.linspace(0, 4, 5), np.linspace(0, 2, 3)
    (ring,) = rings(x, y, np.tile(x, (3, 1)), 1.5)
    assert area(ring) == pytest.approx(1.5 * 2)
    assert {point for point in ring if point[0] in (0, 1.5)} == set(ring) - {(1.0, 0.0), (1.0, 2.0)}
    assert rings(x, y, np.ones((3, 5)), 0.5) == []
    (everything,) = rings(x, y, np.ones((3, 5)), 2.0)
    assert area(everything) == pytest.approx(8)


def test_opposite_corners_meet_or_stay_apart_by_their_mean() -> None:
    x = y = np.arange(4.0)
    high = 9.0
    for corner, count in ((0.0, 1), (0.9, 2)):
        values = np.full((4, 4), high)
        values[1, 1] = values[2, 2] = corner
        values[1, 2] = values[2, 1] = 1.5
        assert len(rings(x, y, values, 1.0)) == count, corner


@pytest.mark.parametrize("seed", range(4))
def test_every_place_is_painted_in_its_band(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = np.sort(rng.uniform(-3, 3, 14)), np.sort(rng.uniform(0, 5, 11))
    grid = np.meshgrid(x, y)
    values = sum(
        rng.normal() * np.sin(rng.normal() * grid[0] + rng.normal() * grid[1] + 6 * rng.random()) for _ in range(5)
    )
    levels = np.quantile(values, [0.1, 0.3, 0.5, 0.7, 0.9]).tolist()
    painted = bands(x, y, values, levels)
    assert [abs(area(one.points)) for one in painted] == sorted(
        (abs(area(one.points)) for one in painted), reverse=True
    )
    for row in range(11):
        for column in range(14):
            value = values[row, column]
            if min(abs(value - level) for level in levels) < 1e-6:
                continue
            # a little inwards, where border lines would leave it open
            place = tuple(float(at + 1e-9 * (middle - at)) for at, middle in ((x[column], x[7]), (y[row], y[5])))
            seen = [one.band for one in painted if inside(place, one.points)]
            assert (seen[-1] if seen else len(levels)) == sum(value > level for level in levels)


def test_what_is_not_a_number_is_high_ground() -> None:
    x, y, values = bowl(9)
    values[4, 4] = math.nan
    values[0, 0] = -math.inf
    found = rings(x, y, values, 4.0)
    assert [area(ring) > 0 for ring in sorted(found, key=lambda ring: -abs(area(ring)))] == [True, False]
    hole = min(found, key=area)
    assert all(math.isfinite(one) for ring in found for point in ring for one in point)
    assert set(hole) == {(x[3], y[4]), (x[5], y[4]), (x[4], y[3]), (x[4], y[5])}  # as far as the surface is known
